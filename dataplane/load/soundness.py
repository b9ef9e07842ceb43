"""Which parts of a lab file can be checked although other parts of it could not be read.

Checks look across the whole file: an instance wants its subnet, a group reference wants a peering. Where a part is
unread, such a check would report what is not wrong, and one slip would drown in its own consequences. So an entry
(a VPC, peering, instance, prefix list, internet host, AWS service) with an unread value is taken out, and with it

- every entry that mentions it: checks of that one might want what was taken out;
- every entry that it mentions, unless it is a leaf: a peering lets two VPCs do what neither says of the other.

What was taken out is told (`Sound.left_out`): nobody is to think that all is known. What is left refers to nothing that
is gone, so a problem among it is a problem whatever the unread parts say:
the other checks are of the kind "these two collide" and "too many", and fewer entries never make one. When a
problem lies outside the entries (in ``region``, or a key the file as a whole does not know), nothing more is checked.

What mentions what is read from the text, by the conventions of the lab file: ``KIND:NAME`` names a thing of that kind
or of the own VPC, ``KIND:OWNER/NAME`` and a bare name name an entry, except under keys such as ``subnet`` and
``security_groups``, which name things inside the VPC.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from dataplane.errors import EVERYTHING_ELSE
from dataplane.load.nodes import Entry, Mapping, Node, Sequence
from dataplane.load.shapes import Construct, Items, Optional, Shape, Table

LEAVES = frozenset({("instances",), ("internet", "hosts"), ("aws_services",)})
"""Sections whose entries nothing depends on without mentioning them."""

CLAIMS = ("captures", "checks")
"""What says something about the rest: nothing depends on it, and it may mean anything, so it is left out first."""


class Sound(NamedTuple):
    """What can be judged of a file."""

    part: Mapping | None
    """The tree without what cannot be; None when that is everything."""
    left_out: tuple[str, ...]
    """The paths of what was taken out."""


class Id(NamedTuple):
    """One entry: its section, as keys from the root, and its name."""

    section: tuple[str, ...]
    name: str

    @property
    def path(self) -> str:
        """The dotted path."""
        return ".".join((*self.section, self.name))


class Mention(NamedTuple):
    """A name that the text of an entry holds; `section` is None when it may be of any."""

    section: tuple[str, ...] | None
    name: str


def sections_of(shape: Shape) -> Iterator[tuple[str, ...]]:
    """Yield where the file as a whole keeps named entries."""
    if isinstance(shape, Construct):
        for field in shape.fields.values():
            inner = field.shape.inner if isinstance(field.shape, Optional) else field.shape
            if isinstance(inner, Table) and inner.named:
                yield (field.name,)
            elif isinstance(inner, Construct):
                for below in sections_of(inner):
                    yield (field.name, *below)


def local_keys(shape: Shape, depth: int = 0) -> set[str]:
    """Return the keys of tables inside entries; names of what is in them say nothing outside their owner."""
    if isinstance(shape, (Optional, Items)):
        return local_keys(shape.inner if isinstance(shape, Optional) else shape.item, depth)
    if isinstance(shape, Table) and isinstance(shape.value, Construct):
        return local_keys(shape.value, depth + 1)
    if not isinstance(shape, Construct):
        return set()
    found = set()
    for field in shape.fields.values():
        inner = field.shape.inner if isinstance(field.shape, Optional) else field.shape
        if depth and isinstance(inner, Table) and inner.named:
            found.add(field.name)
        found |= local_keys(inner, depth)
    return found


def sound_part(root: Node, shape: Construct, unread: list[str]) -> Sound:
    """Return the tree without what cannot be judged.

    `unread` are the paths of the problems found while reading.
    """
    nothing = Sound(None, (EVERYTHING_ELSE,))
    if not isinstance(root, Mapping):
        return nothing
    claims = [key for key in CLAIMS if key in root.entries]
    if claims:
        root = Mapping(root.line, root.column, {key: each for key, each in root.entries.items() if key not in CLAIMS})
        unread = [path for path in unread if not re.match(rf"({'|'.join(CLAIMS)})\b", path)]
    sections = list(sections_of(shape))
    local = local_keys(shape)
    entries = {each: node for section in sections for each, node in _entries(root, section)}
    gone: set[Id] = set()
    for path in unread:
        owner = owner_of(path, entries)
        if owner is None:
            return nothing
        gone.add(owner)
    mentions = {each: _mentioned(each, node, entries, sections, local) for each, node in entries.items()}
    _close(gone, mentions)
    left_out = (*(each.path for each in entries if each in gone), *claims)
    if gone and len(gone) == len(entries):
        return Sound(None, left_out)
    for each in gone:
        root = _without(root, each)
    return Sound(root, left_out)


def owner_of(path: str, entries: dict[Id, Node] | set[Id]) -> Id | None:
    """Return the entry that a path lies in."""
    owners = [each for each in entries if path == each.path or path.startswith((each.path + ".", each.path + "["))]
    return max(owners, key=lambda each: len(each.path), default=None)


def _close(gone: set[Id], mentions: dict[Id, set[Id]]) -> None:
    """Add to `gone` everything that depends on what is in it."""
    mentioned_by: dict[Id, set[Id]] = {each: set() for each in mentions}
    for each, others in mentions.items():
        for other in others:
            mentioned_by[other].add(each)
    todo = list(gone)
    while todo:
        each = todo.pop()
        more = set(mentioned_by[each])
        if each.section not in LEAVES:
            more |= mentions[each]
        todo += more - gone
        gone |= more


def _entries(root: Mapping, section: tuple[str, ...]) -> Iterator[tuple[Id, Node]]:
    node: Node = root
    for key in section:
        if not isinstance(node, Mapping) or key not in node.entries:
            return
        node = node.entries[key].value
    if isinstance(node, Mapping):
        for name, entry in node.entries.items():
            yield Id(section, name), entry.value


def _mentioned(
    owner: Id, node: Node, entries: dict[Id, Node], sections: list[tuple[str, ...]], local: set[str]
) -> set[Id]:
    found = set()
    for mention in _mentions(node, "", sections, local):
        for section in sections if mention.section is None else [mention.section]:
            other = Id(section, mention.name)
            if other in entries and other != owner:
                found.add(other)
    return found


def _mentions(node: Node, key: str, sections: list[tuple[str, ...]], local: set[str]) -> Iterator[Mention]:
    if isinstance(node, Mapping):
        for name, entry in node.entries.items():
            yield from _mentions(entry.value, name, sections, local)
    elif isinstance(node, Sequence):
        for item in node.items:
            yield from _mentions(item, key, sections, local)
    else:
        kind, colon, name = node.text.rpartition(":")
        owner, slash, _ = name.partition("/")
        if slash:
            yield Mention(None, owner)
        elif colon and "." in name:  # prefix-list:com.amazonaws.REGION.SERVICE
            yield Mention(("aws_services",), name.rpartition(".")[2])
        elif colon:
            table = kind.replace("-", "_") + "s"
            for section in sections:
                if section[-1] == table:
                    yield Mention(section, name)
        elif key not in local and f"{key}s" not in local:
            yield Mention(None, name)


def _without(root: Mapping, gone: Id) -> Mapping:
    """Return a copy of the tree that lacks one entry; everything else is shared."""

    def copy(node: Mapping, keys: tuple[str, ...]) -> Mapping:
        entries = dict(node.entries)
        if len(keys) == 1:
            del entries[keys[0]]
        else:
            below = entries[keys[0]]
            assert isinstance(below.value, Mapping)
            entries[keys[0]] = Entry(below.key, copy(below.value, keys[1:]))
        return Mapping(node.line, node.column, entries)

    return copy(root, (*gone.section, gone.name))

"""YAML text -> tree of nodes with marks, or problems.

ruamel.yaml scans and parses (YAML 1.2, pure Python); this module composes its events into `nodes`. It does so itself,
and without recursion, because a lab file comes from anybody: nesting and the expansion of aliases are bounded
before anything is built from them, a key written twice is reported with both places, and a person who made
three such mistakes hears of three.

What lab files do not use is refused by name rather than half understood: tags (``!!str``), a second document,
keys that are not text, YAML 1.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentStartEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
)

from dataplane.errors import Problem
from dataplane.load.nodes import Entry, Mapping, Node, Scalar, Sequence, shortened
from dataplane.load.syntax import syntax_problem

MAX_DEPTH = 64
"""Lists and mappings inside each other, aliases followed. The deepest lab file needs about ten."""
MAX_NODES = 1_000_000
"""Values in the file, aliases and merges followed: about forty times what the largest lab we run needs."""


class Unreadable(Exception):
    """The text cannot be composed any further; carries the problem that says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(slots=True)
class _Size:
    """How large a finished node is when every alias in it is followed."""

    nodes: int = 1
    depth: int = 0


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end was not reached yet."""

    node: Sequence | Mapping
    anchor: str | None
    path: str
    size: _Size = field(default_factory=_Size)
    key: Scalar | None = None
    """The key that waits for its value."""
    merge_key: Scalar | None = None
    merge: tuple[Node, _Size] | None = None
    """What stands under ``<<``, merged when the mapping ends: keys written in the mapping itself win."""
    expects_key: bool = True
    skip_value: bool = False
    """The key was refused, so its value is composed and thrown away."""


def compose(text: str, file_name: str) -> tuple[Node | None, list[Problem]]:
    """Return the tree of one YAML document and every problem on the way; no tree when the text is unreadable."""
    composer = _Composer(text, file_name)
    try:
        composer.run()
    except Unreadable as stop:
        return None, [*composer.problems, stop.problem]
    if composer.root is None:
        problem = Problem(
            path="", message="the file holds no lab", hint="begin with: version: 1", file=file_name, line=1, column=1
        )
        return None, [*composer.problems, problem]
    return composer.root, composer.problems


class _Composer:
    def __init__(self, text: str, file_name: str) -> None:
        self.text = text
        self.file_name = file_name
        self.problems: list[Problem] = []
        self.root: Node | None = None
        self.open: list[_Open] = []
        self.anchors: dict[str, tuple[Node, _Size] | None] = {}
        """Named nodes; None while the node is still open, so that an alias inside itself is noticed."""
        self.built = 0
        """Nodes composed and entries merged so far."""
        self.documents = 0

    def run(self) -> None:
        """Compose the whole text."""
        for event in self._events():
            mark = event.start_mark
            if isinstance(event, ScalarEvent):
                node = Scalar(event.value, event.style is None, mark.line + 1, mark.column + 1)
                self._refuse_tag(event)
                self._count(1, event)
                self._finish(node, _Size(), event.anchor)
            elif isinstance(event, AliasEvent):
                self._add(*self._aliased(event))
            elif isinstance(event, (MappingStartEvent, SequenceStartEvent)):
                self._begin(event)
            elif isinstance(event, CollectionEndEvent):
                self._end()
            elif isinstance(event, DocumentStartEvent):
                self._begin_document(event)

    def _events(self) -> Iterator[Any]:
        yaml = YAML(typ="safe", pure=True)
        events = yaml.parse(self.text)
        reached = None
        while True:
            try:
                event = next(events)
            except StopIteration:
                return
            except Exception as error:
                # Beside its own errors the scanner lets out what Python raises on absurd input (an escape such as
                # "\UFFFFFFFF" is an OverflowError), and a file must never end in a traceback.
                raise Unreadable(syntax_problem(error, self.text, self.file_name, reached)) from error
            reached = event.end_mark
            yield event

    # -- documents, collections, aliases

    def _begin_document(self, event: DocumentStartEvent) -> None:
        self.documents += 1
        if self.documents > 1:
            self._stop(event, "a second document begins here", "a lab is one document: remove the line '---'")
        if event.version is not None and tuple(event.version) != (1, 2):
            version = ".".join(str(part) for part in event.version)
            self._note(event, "", f"the file says it is YAML {version}", "lab files are YAML 1.2: remove that line")

    def _begin(self, event: MappingStartEvent | SequenceStartEvent) -> None:
        mark = event.start_mark
        self._refuse_tag(event)
        self._count(1, event)
        if len(self.open) >= MAX_DEPTH:
            self._too_deep(event)
        kind = Mapping if isinstance(event, MappingStartEvent) else Sequence
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        self.open.append(_Open(kind(mark.line + 1, mark.column + 1), event.anchor, self._path_of_next()))

    def _end(self) -> None:
        done = self.open.pop()
        if done.merge is not None:
            source, size = done.merge
            self._count(size.nodes, source)
            self._merge(done, source)
        self._finish(done.node, done.size, done.anchor)

    def _finish(self, node: Node, size: _Size, anchor: str | None) -> None:
        if anchor is not None:
            self.anchors[anchor] = node, size
        self._add(node, size)

    def _aliased(self, event: AliasEvent) -> tuple[Node, _Size]:
        name = str(event.anchor)
        if name not in self.anchors:
            self._stop(event, f"there is no anchor &{shortened(name)} above this alias", "write &NAME before the value")
        found = self.anchors[name]
        if found is None:
            self._stop(event, f"the alias *{shortened(name)} is inside what it stands for", "")
        return found

    # -- adding a finished node to what is open

    def _add(self, node: Node, size: _Size) -> None:
        if not self.open:
            self.root = node
            return
        parent = self.open[-1]
        if isinstance(parent.node, Mapping) and parent.expects_key:
            parent.expects_key = False
            self._add_key(parent, node)
            return
        parent.size.nodes += size.nodes
        parent.size.depth = max(parent.size.depth, size.depth + 1)
        self._bound(parent, node)
        if isinstance(parent.node, Sequence):
            parent.node.items.append(node)
            return
        if parent.skip_value:
            parent.skip_value = False
        elif parent.key is not None and _is_merge(parent.key):
            parent.merge_key, parent.merge = parent.key, (node, size)
        elif parent.key is not None:
            parent.node.entries[parent.key.text] = Entry(parent.key, node)
        parent.key, parent.expects_key = None, True

    def _add_key(self, parent: _Open, node: Node) -> None:
        if not isinstance(node, Scalar):
            parent.skip_value = True
            self._note(node, parent.path, "a key must be text", "write KEY: VALUE")
            return
        assert isinstance(parent.node, Mapping)
        first = parent.merge_key
        if node.text in parent.node.entries:
            first = parent.node.entries[node.text].key
        elif not _is_merge(node):
            first = None
        if first is None:
            parent.key = node
            return
        parent.skip_value = True
        self._note(
            node,
            _joined(parent.path, node.text),
            f"the key is written twice, first at line {first.line}, column {first.column}",
            "keep one of the two",
        )

    def _merge(self, target: _Open, source: Node) -> None:
        """Bring in the keys of ``<<: *other`` that are not written in the mapping itself; the first source wins."""
        assert isinstance(target.node, Mapping)
        if isinstance(source, Sequence):
            for item in source.items:
                self._merge(target, item)
        elif isinstance(source, Mapping):
            for name, entry in source.entries.items():
                target.node.entries.setdefault(name, entry)
        else:
            self._note(source, target.path, "'<<' merges keys, and this has none", "write <<: *ANCHOR of a mapping")

    # -- bounds and problems

    def _count(self, more: int, where: Any) -> None:
        self.built += more
        if self.built > MAX_NODES:
            self._stop(where, f"more than {MAX_NODES:,} values", "split the lab")

    def _bound(self, parent: _Open, node: Node) -> None:
        if parent.size.nodes > MAX_NODES:
            self._stop(
                node, f"aliases stand for more than {MAX_NODES:,} values", "write the values where they are used"
            )
        if len(self.open) + parent.size.depth - 1 > MAX_DEPTH:
            self._too_deep(node)

    def _too_deep(self, where: Any) -> NoReturn:
        message = f"lists and keys are nested more than {MAX_DEPTH} deep"
        raise Unreadable(self._problem(where, "", message, "a lab file needs about ten levels"))

    def _refuse_tag(self, event: ScalarEvent | MappingStartEvent | SequenceStartEvent) -> None:
        tag = event.ctag  # not event.tag, whose spelling takes the square of its length
        if tag is not None:
            spelled = shortened(f"{tag.handle or ''}{tag.suffix}")
            hint = "put text in quotes instead"
            self._note(event, self._path_of_next(), f"lab files have no tags ({spelled})", hint)

    def _path_of_next(self) -> str:
        if not self.open:
            return ""
        parent = self.open[-1]
        if isinstance(parent.node, Sequence):
            return f"{parent.path}[{len(parent.node.items)}]"
        return _joined(parent.path, parent.key.text) if parent.key is not None else parent.path

    def _problem(self, where: Any, path: str, message: str, hint: str) -> Problem:
        if isinstance(where, (Scalar, Sequence, Mapping)):
            line, column = where.line, where.column
        else:
            line, column = where.start_mark.line + 1, where.start_mark.column + 1
        return Problem(path=path, message=message, hint=hint, file=self.file_name, line=line, column=column)

    def _note(self, where: Any, path: str, message: str, hint: str) -> None:
        self.problems.append(self._problem(where, path, message, hint))

    def _stop(self, where: Any, message: str, hint: str) -> NoReturn:
        raise Unreadable(self._problem(where, self._path_of_next(), message, hint))


def _is_merge(key: Scalar) -> bool:
    return key.plain and key.text == "<<"


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key

"""The reference page of lab files: one section per construct, from the model's own words.

What a construct is, and where it differs from AWS, is the docstring of its module; what its keys mean is the metadata
of its fields. So the page cannot say what the code does not.
"""

from __future__ import annotations

import inspect
import io
import json
import re
import sys
from collections.abc import Iterator
from typing import Any, assert_never, get_args, get_origin

from ruamel.yaml import YAML

from dataplane.load.addresses import in_words
from dataplane.load.outline import Spot, example_in_place, example_of, outline, path_of
from dataplane.load.scalars import expected
from dataplane.load.shapes import (
    Construct,
    Either,
    Field,
    Items,
    Numbers,
    Optional,
    Parsed,
    Shape,
    Single,
    Table,
    spelling,
    summary,
)
from dataplane.load.written import as_written

INTRODUCTION = """\
# The lab file

<!-- Generated from the model by `python -m dataplane.schema --write`; edits are overwritten. -->

A lab file describes a lab: things AWS knows, under AWS's names, and what AWS does not own, such as hosts on the
internet and the programs to run. `vpclab validate FILE` checks one and reports what is wrong with it, each problem with
its line, its path, and what would be right; `vpclab up FILE` starts no lab from a file that has any. The folder
`examples` holds whole files.

One slip does not hide another that has nothing to do with it. But what hangs together with a value that could not be
read is judged once it can be: the VPC or the instance that the value is in, and those that mention it or are mentioned;
all of them, where the value belongs to none (`region`, `settings`). `captures` and `checks` are judged once all the
rest is right; only names of nodes in them are looked up before, if every value could be read. The last line of the
report says which these are.

How it is written:

- YAML 1.2, in UTF-8, one document, 4 MiB at most. Keys are unique; anchors, aliases and merge keys (`<<`) work;
  tags (`!!str`) do not.
- Blanks, and no tabs: YAML allows tabs between a key and its value, this reader does not.
- A key that is not listed here is an error, as is a value of another type: `yes` is no boolean, `"80"` is no
  number, `80` is no text.
- A key with nothing behind it is an error, for YAML reads it as `null` and people mean `{}` as often: write
  `null`, `{}` or `[]`, or leave the key out.
- Names chosen by you (`NAME` in the paths below) are of `a-z`, `0-9` and `-`, begin with a letter or digit, and
  have at most 63 characters. What is inside a VPC is named inside it: two VPCs may each have a subnet `public`.
- A CIDR block has no bits set beyond its prefix length.
- Put text that begins with a colon in quotes between braces, as in `{source: "::/0"}`: this reader does without, others
  want them.
- Editors complete and check lab files with [`lab-file.schema.json`](lab-file.schema.json). For those that use the
  YAML language server, begin a file with `# yaml-language-server: $schema=` and the path of the schema.
"""

ABBREVIATIONS = {"acl": "ACL", "aws": "AWS", "ip": "IP", "vpc": "VPC", "nat": "NAT", "tcp": "TCP", "icmp": "ICMP"}


def reference_page(root: Construct) -> str:
    """Return the whole page, as Markdown."""
    spots = outline(root)
    parts = [INTRODUCTION, "## Where things are\n", _contents(spots)]
    described: set[str] = set()
    for spot in spots:
        module = spot.shape.type.__module__
        is_private = module.rpartition(".")[2].startswith("_")  # its docstring is for whoever reads the code
        parts += _section(root, spot, begins_module=module not in described and not is_private)
        described.add(module)
    return "\n".join(part.rstrip() + "\n" for part in parts)


def _contents(spots: list[Spot]) -> str:
    lines = ["| path | is |", "|---|---|"]
    for spot in spots:
        for place in spot.places:
            lines.append(
                f"| `{path_of(place)}` | {_link(spot.shape)} |" if place else f"| the file | {_link(spot.shape)} |"
            )
    return "\n".join(lines)


def _section(root: Construct, spot: Spot, *, begins_module: bool) -> Iterator[str]:
    yield f"## {title(spot.shape.type)}"
    places = ", ".join(f"`{path_of(place)}`" for place in spot.places if place)
    yield f"Written at {places}." if places else "The file as a whole."
    if begins_module:
        yield module_words(spot.shape.type)
    elif summary(spot.shape.type):
        yield summary(spot.shape.type)
    if spot.shape.fields:
        yield _keys(spot.shape)
    example = example_of(spot.shape)
    if example or not spot.shape.fields:
        yield "```yaml\n" + as_yaml(example_in_place(root, spot.places[0], example)) + "```"


def _keys(shape: Construct) -> str:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for field in shape.fields.values():
        cells = (f"`{field.name}`", type_in_words(field.shape), _default(field), field.doc)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _default(field: Field) -> str:
    if field.required:
        return "**required**"
    value = as_written(field.default)
    return f"`{value}`" if isinstance(value, str) and value else f"`{json.dumps(value)}`"


def type_in_words(shape: Shape) -> str:
    """Return the type of a value in the words of the page, with links to constructs."""
    match shape:
        case Single():
            if get_origin(shape.type) is not None:
                return " or ".join(f"`{choice}`" for choice in get_args(shape.type))
            if expected(shape.type) == "a value":
                return " or ".join(f"`{member.value}`" for member in shape.type)
            return expected(shape.type).removeprefix("a ")
        case Numbers():
            return in_words(shape.families).removeprefix("an ")
        case Parsed():
            return _code(spelling(shape.type))
        case Optional():
            return f"{type_in_words(shape.inner)}, or null"
        case Items():
            return f"list of {_several(shape.item)}"
        case Table():
            value = type_in_words(shape.value)
            return f"names, each with a {value}" if shape.named else f"{_several(shape.key)}, each with {value}"
        case Either():
            return " or ".join(type_in_words(member) for member in shape.members)
        case Construct():
            return _link(shape)
        case _:
            assert_never(shape)


def _several(shape: Shape) -> str:
    words = type_in_words(shape)
    if isinstance(shape, Numbers):
        return words + ("es" if words.endswith("s") else "s")
    return words


def title(construct: type) -> str:
    """Return the heading of a construct: ``NetworkAclRule`` -> ``Network ACL rule``."""
    words = [word.lower() for word in re.findall(r"[A-Z][a-z0-9]*", construct.__name__)]
    if words[:2] == ["egress", "only"]:
        words[:2] = ["egress-only"]
    words[0] = words[0].capitalize()
    return " ".join(ABBREVIATIONS.get(word.lower(), word) for word in words)


def _link(shape: Construct) -> str:
    heading = title(shape.type)
    return f"[{heading}](#{heading.lower().replace(' ', '-')})"


def module_words(construct: type) -> str:
    """Return what the module of a construct says about it, as Markdown."""
    text = _code(inspect.cleandoc(sys.modules[construct.__module__].__doc__ or ""))
    text = re.sub(r"(?m)^    .*$", lambda line: line[0].replace("**", ""), text)
    text = re.sub(r"(?<![(<])https?://\S+[^\s.,)]", r"<\g<0>>", text)
    return text.replace("Deviations from AWS:\n", "Deviations from AWS:\n\n")


def _code(text: str) -> str:
    """Docstrings mark code with two backticks, Markdown with one."""
    return text.replace("``", "`")


def as_yaml(value: Any) -> str:
    """Return a value as YAML."""
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 110
    out = io.StringIO()
    yaml.dump(value, out)
    return out.getvalue()

"""The JSON Schema, the reference page of lab files and the page of constructs, generated from the model; the page of
examples, generated from them.

``python -m dataplane.schema`` prints the schema (editors complete and check lab files with it). In a source tree,
``--write`` writes ``docs/lab-file.schema.json``, ``docs/lab-file.md``, ``docs/constructs.md`` and ``docs/examples.md``
anew; ``--check`` fails when one of them is not what would be written now.

The schema says what `dataplane.load` reads, key by key and type by type; what only a look across the file can tell
(unknown names, overlapping CIDRs) is left to ``vpclab validate``.
"""

from __future__ import annotations

import argparse
import json
import sys
from enum import Enum
from pathlib import Path
from typing import Any, Literal, assert_never, get_args, get_origin

from dataplane.load.constructs_page import constructs_page
from dataplane.load.reference_page import reference_page
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
from dataplane.model.lab_file import LabFile
from dataplane.picture.examples_page import examples_page

DOCS = Path(__file__).resolve().parents[1] / "docs"
EXAMPLES = DOCS.parent / "examples"
FREE_KEY = r"^[^=\u0000]+$"
PATTERNS = {
    "IPv4Address": r"^[0-9]{1,3}(\.[0-9]{1,3}){3}$",
    "IPv4Network": r"^[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}$",
    "IPv6Address": r"^[0-9a-fA-F:.]*:[0-9a-fA-F:.]*$",
    "IPv6Network": r"^[0-9a-fA-F:.]*:[0-9a-fA-F:.]*/[0-9]{1,3}$",
}


def lab_file_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a whole lab file."""
    definitions: dict[str, Any] = {}
    root = Construct(LabFile)
    _define(root, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://vpclab.invalid/lab-file.schema.json",
        "title": "vpclab lab file, version 1",
        **definitions.pop(_name(root)),
        "$defs": dict(sorted(definitions.items())),
    }


def schema_of(shape: Shape, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of one shape; constructs are put into `definitions` and referred to."""
    match shape:
        case Single():
            return _single(shape.type)
        case Numbers():
            kinds = [{"type": "string", "pattern": PATTERNS[family.__name__]} for family in shape.families]
            return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
        case Parsed():
            return _parsed(shape.type)
        case Optional():
            return {"anyOf": [schema_of(shape.inner, definitions), {"type": "null"}]}
        case Items():
            return {"type": "array", "items": schema_of(shape.item, definitions)}
        case Table():
            return _table(shape, definitions)
        case Either():
            return {"anyOf": [schema_of(member, definitions) for member in shape.members]}
        case Construct():
            _define(shape, definitions)
            return {"$ref": f"#/$defs/{_name(shape)}"}
        case _:
            assert_never(shape)


def _define(shape: Construct, definitions: dict[str, Any]) -> None:
    if _name(shape) in definitions:
        return
    definitions[_name(shape)] = {}  # stands in while its own fields are walked
    fields = shape.fields.values()
    schema: dict[str, Any] = {"type": "object"}
    if summary(shape.type):
        schema["description"] = summary(shape.type)
    schema["properties"] = {field.name: _property(field, definitions) for field in fields}
    required = [field.name for field in fields if field.required]
    if required:
        schema["required"] = required
    schema["additionalProperties"] = False
    definitions[_name(shape)] = schema


def _property(field: Field, definitions: dict[str, Any]) -> dict[str, Any]:
    schema = schema_of(field.shape, definitions)
    if field.doc:
        schema["description"] = field.doc
    if not field.required:
        schema["default"] = as_written(field.default)
    if field.example is not None:
        schema["examples"] = [as_written(field.example)]
    return schema


def _single(wanted: Any) -> dict[str, Any]:
    if get_origin(wanted) is Literal:
        return {"enum": list(get_args(wanted))}
    if issubclass(wanted, Enum):
        return {"enum": [member.value for member in wanted]}
    return {"type": {bool: "boolean", int: "integer", str: "string"}[wanted]}


def _parsed(wanted: Any) -> dict[str, Any]:
    """Text, or a number too where the type takes one."""
    pattern = {"pattern": wanted.PATTERN} if hasattr(wanted, "PATTERN") else {}
    try:
        wanted.parse(1)
    except ValueError:
        return {"type": "string", **pattern, "description": spelling(wanted)}
    return {"type": ["string", "integer"], **pattern, "description": spelling(wanted)}


def _table(shape: Table, definitions: dict[str, Any]) -> dict[str, Any]:
    if shape.named:
        names = {"pattern": f"^{Table.NAME.pattern}$"}
    elif isinstance(shape.key, Numbers):
        names = schema_of(shape.key, definitions)
    else:
        names = {"pattern": FREE_KEY}
    return {
        "type": "object",
        "propertyNames": names,
        "additionalProperties": schema_of(shape.value, definitions),
    }


def _name(shape: Construct) -> str:
    return shape.type.__name__


def generated() -> dict[str, str]:
    """Return what each generated document of the tree holds, by its file name."""
    schema = json.dumps(lab_file_schema(), indent=2, ensure_ascii=False) + "\n"
    root = Construct(LabFile)
    return {
        "lab-file.schema.json": schema,
        "lab-file.md": reference_page(root),
        "constructs.md": constructs_page(root),
        "examples.md": examples_page(EXAMPLES),
    }


def stale(folder: Path) -> list[str]:
    """Return the names of generated documents that are missing from the folder, or differ."""
    found = []
    for name, text in generated().items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            found.append(name)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m dataplane.schema", description="JSON Schema of lab files")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="write the documents generated from the model")
    what.add_argument("--check", action="store_true", help="fail when one of them is stale")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where they are (default: docs of this source tree)")
    chosen = parser.parse_args(arguments)
    if not chosen.write and not chosen.check:
        sys.stdout.write(generated()["lab-file.schema.json"])
        return 0
    if not chosen.docs.is_dir():
        sys.stderr.write(f"{chosen.docs} is no folder: run this in a source tree, or give --docs FOLDER\n")
        return 2
    names = stale(chosen.docs)
    if chosen.check:
        for name in names:
            sys.stderr.write(f"{chosen.docs / name} is stale: run python -m dataplane.schema --write\n")
        return 1 if names else 0
    for name in names:
        (chosen.docs / name).write_text(generated()[name])
        sys.stdout.write(f"wrote {chosen.docs / name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

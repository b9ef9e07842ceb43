"""The documents generated from the model: not stale, and true."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from dataplane import schema
from dataplane.load.compose import compose
from dataplane.load.file import LAB_FILE
from dataplane.load.outline import example_of, outline, path_of
from dataplane.load.reading import Place, Reader
from dataplane.load.reference_page import as_yaml, reference_page
from tests.unit.load.test_file import EXAMPLES
from tests.unit.load.town import TOWN

SCHEMA = schema.lab_file_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def plain(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text())


def mappings(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a file."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from mappings(item)
    elif isinstance(value, list):
        for item in value:
            yield from mappings(item)


def test_the_documents_are_not_stale(capsys: pytest.CaptureFixture[str]) -> None:
    assert schema.main(["--check"]) == 0, capsys.readouterr().err


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_fits_the_schema(path: Path) -> None:
    VALIDATOR.validate(plain(path))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_unknown_key_fits_nowhere(path: Path) -> None:
    """Put a key no one knows into each mapping in turn. Where names are free, its value is none that fits."""
    whole = plain(path)
    for index in range(sum(1 for _ in mappings(whole))):
        changed = copy.deepcopy(whole)
        list(mappings(changed))[index]["no-such-key"] = ["no construct"]
        assert not VALIDATOR.is_valid(changed), index


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("version", 2),
        ("version", "1"),
        ("vpcs", None),
        ("vpcs.Shop", {"cidr": "10.0.0.0/16"}),
        ("vpcs.shop", {}),
        ("vpcs.shop", {"cidr": "10.0.0.0"}),
        ("vpcs.shop", {"cidr": 10}),
        ("vpcs.shop", {"cidr": "10.0.0.0/16", "internet_gateway": [{}]}),
        ("vpcs.shop", {"cidr": "10.0.0.0/16", "internet_gateway": True}),
        ("vpcs.shop", {"cidr": "10.0.0.0/16", "ipv6_cidrs": ["10.0.0.0/16"]}),
        ("vpcs.shop", {"cidr": "10.0.0.0/16", "subnets": {"a": {"cidr": "10.0.0.0/24", "map_public_ip_on_launch": 1}}}),
        ("instances.web", {"vpc": "shop", "subnet": "a", "environment": {"A": 1}}),
        ("instances.web", {"vpc": "shop", "subnet": "a", "environment": {"A=B": "1"}}),
        ("instances.web", {"vpc": "shop", "subnet": "a", "programs": {"http": {"command": "x"}}}),
    ],
)
def test_what_loading_refuses_the_schema_refuses(path: str, value: Any) -> None:
    lab: dict[str, Any] = {"version": 1}
    *keys, last = path.split(".")
    target = lab
    for key in keys:
        target = target.setdefault(key, {})
    target[last] = value
    assert not VALIDATOR.is_valid(lab)


@pytest.mark.parametrize(("protocol", "fits"), [("tcp", True), ("47", True), (47, True), ("all", False), ("0", False)])
def test_the_schema_knows_what_a_check_is_about(protocol: object, fits: bool) -> None:
    check = {"can": "a -> b", "protocol": protocol}
    assert VALIDATOR.is_valid({"version": 1, "checks": [check]}) is fits


def test_every_place_of_a_construct_is_told() -> None:
    places = {path_of(place) for spot in outline(LAB_FILE) for place in spot.places}
    assert {
        "vpcs.NAME.network_acls.NAME.egress[].icmp",
        "internet.hosts.NAME.programs.NAME.ready",
        "aws_services.NAME.programs.NAME.ready",
    } <= places


@pytest.mark.parametrize("spot", outline(LAB_FILE), ids=lambda spot: spot.shape.type.__name__)
def test_the_example_of_every_construct_can_be_read(spot: Any) -> None:
    example = example_of(spot.shape)
    root, found = compose(as_yaml(example), "example")
    reader = Reader("example")
    assert root is not None
    reader.read(spot.shape, Place(root, ""))
    assert found + reader.problems == []


def test_every_key_has_a_meaning() -> None:
    undescribed = [
        f"{path_of(spot.places[0])}: {field.name}"
        for spot in outline(LAB_FILE)
        for field in spot.shape.fields.values()
        if not field.doc
    ]
    assert undescribed == []


def test_the_page_has_a_section_for_every_construct_and_its_links_lead_somewhere() -> None:
    page = reference_page(LAB_FILE)
    headings = re.findall(r"(?m)^## (.+)$", page)
    assert len(headings) == len(set(headings)) == len(outline(LAB_FILE)) + 1
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= anchors


def test_a_page_of_another_model() -> None:
    page = reference_page(TOWN)
    assert "| `ports` | a port (`80`) or a range of them (`80-90`), or null | `null` |  |" in page
    assert "| `keys` | IPv4 addresses, each with IPv4 address | `{}` |  |" in page
    assert "| `kind` | `brick` or `wood` | `brick` |  |" in page
    assert "houses:\n  my-house:\n    rooms:\n      my-room:\n        cidr: 10.0.1.0/24\n" in page


def test_write_then_check_then_stale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = ["--docs", str(tmp_path)]
    assert schema.main([*there, "--check"]) == 1
    assert schema.main([*there, "--write"]) == 0
    assert schema.main([*there, "--check"]) == 0
    assert schema.main([*there, "--write"]) == 0
    (tmp_path / "lab-file.md").write_text("edited")
    capsys.readouterr()
    assert schema.main([*there, "--check"]) == 1
    said = capsys.readouterr().err
    assert "lab-file.md is stale: run python -m dataplane.schema --write" in said
    assert "schema.json" not in said


def test_without_a_source_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert schema.main(["--docs", str(tmp_path / "no"), "--write"]) == 2
    assert "--docs FOLDER" in capsys.readouterr().err
    assert schema.main([]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(SCHEMA))

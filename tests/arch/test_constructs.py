"""A construct is complete: its file, its words about AWS, its checks, its lowering, its tests."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.arch.tree import PACKAGES, ROOT, sources

NOT_AWS = {
    "capture": "what is recorded of a lab, ours",
    "check": "what users claim of their lab, ours",
    "internet_host": "stands for anybody on the internet",
    "lab_file": "the file as a whole, ours",
    "program_spec": "programs to run in an instance, ours",
}
"""Files of the model that AWS has no page for, and why."""

CONSTRUCTS = [
    path
    for path in sources("dataplane", ".py")
    if path.parent == PACKAGES["dataplane"] / "model" and not path.name.startswith("_")
]


@pytest.fixture(params=CONSTRUCTS, ids=lambda path: path.stem)
def construct(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def test_there_are_constructs() -> None:
    assert {path.stem for path in CONSTRUCTS} >= {"vpc", "subnet", "route_table", "security_group", "network_acl"}


def test_has_a_test_module(construct: Path) -> None:
    assert (ROOT / "tests" / "unit" / "model" / f"test_{construct.stem}.py").exists()


def test_names_its_aws_page(construct: Path) -> None:
    if construct.stem in NOT_AWS:
        return
    assert re.search(r"https://docs\.aws\.amazon\.com/\S+", docstring(construct))


def test_states_its_deviations(construct: Path) -> None:
    if construct.stem in NOT_AWS:
        return
    section = docstring(construct).partition("Deviations from AWS:")[2]
    assert section.strip(), "the module docstring needs a section 'Deviations from AWS:' ('none known' is an answer)"


def section_of(construct: Path) -> str:
    """What docs/constructs.md says of it, on one line; its heading is what the docstring begins with."""
    page = (ROOT / "docs" / "constructs.md").read_text()
    heading = docstring(construct).partition(":")[0]
    assert f"\n## {heading}\n" in page, "run make docs"
    return " ".join(page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0].split())


def test_has_its_section_and_its_deviations_on_the_page_of_constructs(construct: Path) -> None:
    section = section_of(construct)
    listed = docstring(construct).partition("Deviations from AWS:\n")[2].replace("``", "`")
    for deviation in re.split(r"(?m)^- ", listed)[1:]:
        assert f"- {' '.join(deviation.split())}" in section, "run make docs"
    assert ("Deviations from AWS:" in section) == bool(listed)

"""The page of constructs says what the docstrings say, each thing in its place."""

from __future__ import annotations

import re
from types import ModuleType

import pytest

from dataplane.load.constructs_page import Described, constructs, constructs_page, describe
from dataplane.load.file import LAB_FILE
from dataplane.load.outline import outline
from dataplane.load.reference_page import reference_page

DOCSTRING = """Toll gate (TG): lets packets out for ``money``.

It takes coins.
https://docs.aws.amazon.com/a.html
https://docs.aws.amazon.com/b.html

    out: guest -> **toll**
      -> outside

What it took is counted:
https://docs.aws.amazon.com/c.html

As https://docs.aws.amazon.com/d.html says, it sleeps.

Deviations from AWS:
- It never gives change, whatever
  one pays.
- ``sleep`` is not modelled - yet.
"""


def toll_gate(docstring: str = DOCSTRING) -> Described:
    module = ModuleType("dataplane.model.toll_gate")
    module.__doc__ = docstring
    return describe(module, outline(LAB_FILE))


def test_a_docstring_is_taken_apart() -> None:
    found = toll_gate()
    assert (found.file, found.name, found.what) == ("toll_gate", "Toll gate (TG)", "Lets packets out for `money`.")
    assert found.pages == tuple(f"https://docs.aws.amazon.com/{page}.html" for page in "abcd")
    assert found.walk == "out: guest -> toll\n  -> outside"
    assert found.enforced == (
        "It takes coins.",
        "What it took is counted.",
        "As <https://docs.aws.amazon.com/d.html> says, it sleeps.",
    )
    assert found.deviations == ("It never gives change, whatever one pays.", "`sleep` is not modelled - yet.")
    assert found.places == ()


def test_without_deviations_there_are_none() -> None:
    assert toll_gate("Thing: is there.\n\nIt is.").deviations == ()


@pytest.mark.parametrize(
    ("file", "places"),
    [
        ("vpc", {"vpcs.NAME"}),
        ("security_group", {"vpcs.NAME.security_groups.NAME"}),
        ("region", {"region"}),
        ("elastic_ip", {"instances.NAME.elastic_ip", "vpcs.NAME.network_interfaces.NAME.elastic_ips"}),
        ("connection_tracking", {"instances.NAME.connection_tracking"}),
    ],
)
def test_places_are_those_of_the_lab_file(file: str, places: set[str]) -> None:
    [found] = [each for each in constructs(LAB_FILE) if each.file == file]
    assert places <= set(found.places)


def test_the_table_lists_every_section_and_its_links_lead_there() -> None:
    page = constructs_page(LAB_FILE)
    table = re.findall(r"(?m)^\| \[(.+?)\]\(#(.+?)\) \| (.+?) \| (.+?) \| (\d+) \|$", page)
    headings = re.findall(r"(?m)^## (.+)$", page)
    assert [row[0] for row in table] == headings == [each.name for each in sorted_as_on_the_page()]
    # GitHub's anchors: small letters, spaces to dashes, punctuation gone (github.com/gjtorikian/html-pipeline)
    assert [row[1] for row in table] == [re.sub(r"[()]", "", name.lower()).replace(" ", "-") for name in headings]
    bullets = [section.partition("Deviations from AWS:")[2].count("\n- ") for section in page.split("\n## ")[1:]]
    assert [int(row[4]) for row in table] == bullets


def sorted_as_on_the_page() -> list[Described]:
    """AWS's constructs before ours."""
    return sorted(constructs(LAB_FILE), key=lambda each: not each.pages)


def test_links_to_the_reference_page_lead_somewhere() -> None:
    headings = re.findall(r"(?m)^## (.+)$", reference_page(LAB_FILE))
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    linked = set(re.findall(r"\]\(lab-file\.md#([^)]+)\)", constructs_page(LAB_FILE)))
    assert linked
    assert linked <= anchors


def test_no_address_and_no_word_of_a_docstring_is_lost() -> None:
    page = constructs_page(LAB_FILE)
    for each in constructs(LAB_FILE):
        section = page.partition(f"\n## {each.name}\n")[2].partition("\n## ")[0]
        assert all(f"<{url}>" in section for url in each.pages)
        assert each.walk in section
        assert all(paragraph in section for paragraph in each.enforced)

"""What can still be checked when some of the file could not be read."""

from __future__ import annotations

import pytest

from dataplane.load.nodes import Mapping
from dataplane.load.soundness import local_keys, sections_of, sound_part
from tests.unit.load.town import TOWN, tree

TEXT = """\
version: 1
houses:
  one: {rooms: {hall: {}, ann: {}}, links: ["street:st"]}
  two: {links: ["rooms:bob", "group:ann"]}
  three: {links: ["instance:cyd"]}
  four: {links: ["room:one/hall"]}
  five: {}
streets:
  st: {one: one, other: two}
instances:
  ann: {house: one, room: bob}
  bob: {house: two}
  cyd: {house: five}
internet:
  hosts:
    dan: {house: 198.51.100.1}
    eve: {house: "2001:db8::1", environment: {PEER: five}}
"""
ALL = ["houses.one", "houses.two", "houses.three", "houses.four", "houses.five", "streets.st"]
ALL += ["instances.ann", "instances.bob", "instances.cyd", "internet.hosts.dan", "internet.hosts.eve"]


def left(*unread: str) -> list[str] | None:
    part, left_out = sound_part(tree(TEXT), TOWN, list(unread))
    if part is None:
        return None
    found = []
    for section in ("houses", "streets", "instances"):
        found += [f"{section}.{name}" for name in part.entries[section].value.entries]  # type: ignore[union-attr]
    hosts = part.entries["internet"].value
    assert isinstance(hosts, Mapping)
    found += [f"internet.hosts.{name}" for name in hosts.entries["hosts"].value.entries]  # type: ignore[union-attr]
    assert sorted([*found, *left_out]) == sorted(ALL), "what is not judged is told"
    return found


def test_where_entries_are_is_derived_from_the_model() -> None:
    assert list(sections_of(TOWN)) == [("houses",), ("streets",), ("instances",), ("internet", "hosts")]
    assert local_keys(TOWN) == {"rooms"}


@pytest.mark.parametrize(
    ("unread", "gone"),
    [
        # a leaf takes nothing along: `room: bob` names a room
        (["instances.bob.house"], {"instances.bob"}),
        (["internet.hosts.dan"], {"internet.hosts.dan"}),
        (["internet.hosts.eve.house"], {"internet.hosts.eve"}),
        # what mentions it goes too, by KIND:NAME ...
        (["instances.cyd.environment.X"], {"instances.cyd", "houses.three"}),
        # ... by a bare name, anywhere
        (["houses.five.links[0]"], {"houses.five", "instances.cyd", "houses.three", "internet.hosts.eve"}),
        # ... and by KIND:OWNER/NAME; a street takes along both of what it joins
        (
            ["streets.st.one"],
            {"streets.st", "houses.one", "houses.two", "houses.four", "instances.ann", "instances.bob"},
        ),
        (["houses.three", "instances.bob"], {"houses.three", "instances.cyd", "instances.bob"}),
    ],
)
def test_what_is_taken_out(unread: list[str], gone: set[str]) -> None:
    assert left(*unread) == [each for each in ALL if each not in gone]


def test_nothing_is_judged_when_the_file_as_a_whole_is_wrong() -> None:
    assert left("version") is None
    assert left("houses") is None
    assert left("transit_gateways") is None
    assert left("instances.ann", "") is None
    assert sound_part(tree("- a"), TOWN, []) == (None, ("everything else",))


def test_nothing_is_judged_when_nothing_is_left() -> None:
    nothing = sound_part(tree("version: 1\nhouses: {a: {}}"), TOWN, ["houses.a.rooms"])
    assert nothing == (None, ("houses.a",))


def test_checks_are_left_out_and_keep_nothing_from_being_judged() -> None:
    """They may mean anything in the file, and nothing in the file means them."""
    text = TEXT + "checks: [{can: ann -> dan}]\n"
    part, left_out = sound_part(tree(text), TOWN, ["checks[0].port"])
    assert left_out == ("checks",)
    assert part is not None
    assert list(part.entries) == ["version", "houses", "streets", "instances", "internet"]
    part, left_out = sound_part(tree(text), TOWN, ["checks", "instances.ann.house"])
    assert left_out == ("instances.ann", "checks")
    assert part is not None
    assert "checks" not in part.entries
    assert "ann" not in part.entries["instances"].value.entries  # type: ignore[union-attr]
    part, _ = sound_part(tree(TEXT + "captures: {way: {points: [ann]}}\n"), TOWN, ["captures.way.file"])
    assert part is not None
    assert "captures" not in part.entries
    assert sound_part(tree(TEXT), TOWN, ["checksum", "captured"]).part is None, "these are other keys"

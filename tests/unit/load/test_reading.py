"""Nodes -> dataclasses: what is read, and that everything wrong is found at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest

from dataplane.load.reading import FAILED
from dataplane.load.shapes import shape_of
from tests.unit.load.town import ByCommand, ByPort, Chimney, Color, House, Person, Ports, Room, Street, Town, read

FULL = """\
version: 1
houses:
  big:
    rooms:
      hall: {cidr: 10.0.1.0/24, any_cidr: "::/0", address: 10.0.1.4, heated: false, color: blue}
      attic: {cidr: 10.0.2.0/24, any_cidr: null}
    chimney: {height: 3}
    ports: 80-90
    kind: wood
    links: [a, "80"]
  small: {chimney: {}}
streets:
  main: {one: big, other: small}
instances:
  ann: {house: big, room: hall, ready: {tcp: 80}, environment: {PATH.x: /bin, "80": "1"}, keys: {10.0.0.1: 10.0.0.2}}
  bob: {house: small, ready: {command: [true-ish, -v]}}
"""


def problems(text: str) -> list[str]:
    value, found = read(text)
    assert (value is FAILED) == bool(found)
    return [str(problem).removeprefix("town.yaml:") for problem in found]


def test_everything_is_read_as_its_type() -> None:
    value, found = read(FULL)
    assert found == []
    hall = Room(
        cidr=IPv4Network("10.0.1.0/24"),
        any_cidr=IPv6Network("::/0"),
        address=IPv4Address("10.0.1.4"),
        heated=False,
        color=Color.BLUE,
    )
    big = House(
        rooms={"hall": hall, "attic": Room(cidr=IPv4Network("10.0.2.0/24"))},
        chimney=Chimney(height=3),
        ports=Ports(80, 90),
        kind="wood",
        links=("a", "80"),
    )
    ann = Person(
        house="big",
        room="hall",
        ready=ByPort(tcp=80),
        environment={"PATH.x": "/bin", "80": "1"},
        keys={IPv4Address("10.0.0.1"): IPv4Address("10.0.0.2")},
    )
    assert value == Town(
        version=1,
        houses={"big": big, "small": House(chimney=Chimney())},
        streets={"main": Street(one="big", other="small")},
        instances={"ann": ann, "bob": Person(house="small", ready=ByCommand(command=("true-ish", "-v")))},
    )
    assert list(value.houses["big"].rooms) == ["hall", "attic"]


def test_all_problems_are_found_at_once_in_their_places() -> None:
    text = """\
version: 1.0
houses:
  Big House:
    rooms: [hall]
  small:
    rooms:
      hall: {cird: 10.0.1.0/24, heated: yes}
      attic: {heated: true}
    links: a
    chimney: [{}, {}]
streets:
  main: {one: 1, other: ~, lane: 2}
instances: none
"""
    assert problems(text) == [
        "1:10: version: 1.0 is no whole number; write 1",
        (
            "3:3: houses.Big House: Big House is no name; names are a-z, 0-9 and '-', begin with a letter or digit, "
            "and have at most 63 characters: write big-house"
        ),
        (
            "4:5: houses.Big House.rooms: a list is written where names, each with keys of its own, are wanted; "
            "write NAME: VALUE"
        ),
        "7:14: houses.small.rooms.hall.cird: cird is no key here; did you mean cidr?",
        "7:41: houses.small.rooms.hall.heated: yes is text, and true or false is wanted; write true",
        "8:7: houses.small.rooms.attic.cidr: the key is missing; write, for example, cidr: 10.0.1.0/24",
        "9:12: houses.small.links: a is written where a list is wanted; write [a]",
        (
            "10:5: houses.small.chimney: a list is written where keys and values are wanted; "
            "there is one at most: write its keys without '- '"
        ),
        '12:15: streets.main.one: 1 is a number, and text is wanted; write "1"',
        "12:25: streets.main.other: there is no value; write text, or leave the key out",
        "12:28: streets.main.lane: lane is no key here; known keys: one, other",
        "13:12: instances: none is written where names, each with keys of its own, are wanted; write NAME: VALUE",
    ]


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("version:", "write a whole number"),
        ("houses:", "write {} for none"),
        ("houses: {a: }", "write {} for the defaults"),
        ("houses: {a: {chimney: }}", "write {} for the defaults, or null"),
        ("houses: {a: {links: }}", "write [] for none"),
        ("streets: {a: }", "write its keys below, at least one, other"),
    ],
)
def test_a_key_with_nothing_behind_it_is_no_silent_null(line: str, hint: str) -> None:
    text = line if line.startswith("version") else f"version: 1\n{line}"
    assert any("nothing follows" in found and found.endswith(hint) for found in problems(text))


def test_null_is_for_what_may_be_absent() -> None:
    value, found = read("version: 1\ninternet: null\nhouses: {a: {chimney: null, ports: ~}}")
    assert found == []
    assert value.houses["a"] == House()
    assert problems("version: 1\nhouses: null") == [
        (
            "2:9: houses: null is written where names, each with keys of its own, are wanted; "
            "write {} for none, or leave the key out"
        )
    ]


@pytest.mark.parametrize("null", ["null", "Null", "NULL", "~"])
def test_null_has_the_spellings_of_yaml(null: str) -> None:
    value, found = read(f"version: 1\nhouses: {{a: {{chimney: {null}, ports: {null}}}}}")
    assert found == []
    assert value.houses["a"] == House()


@pytest.mark.parametrize(
    ("house", "message"),
    [
        ("{rooms: {r: {cidr: [x]}}}", "a list is written where an IPv4 CIDR block is wanted"),
        ("{rooms: {r: {cidr: 10.0.0.0/8, any_cidr: {}}}}", "{} is written where an IPv4 or IPv6 CIDR block is wanted"),
        (
            "{rooms: {r: {cidr: 10.0.0.0/8, address: {a: b}}}}",
            "keys and values are written where an IPv4 address is wanted",
        ),
        ("{rooms: {r: {cidr: 10.0.0.0/8, heated: []}}}", "a list is written where true or false is wanted"),
        ("{links: {a: b}}", "keys and values are written where a list is wanted; begin each with '- '"),
        ("{links: null}", "null is written where a list is wanted; write [] for an empty list, or leave the key out"),
        ("{links: 'x'}", '"x" is written where a list is wanted; write [x]'),
        ("{rooms: {r: 'x'}}", '"x" is written where keys and values are wanted; write its keys: cidr, any_cidr'),
    ],
)
def test_a_value_of_another_kind_says_what_is_wanted(house: str, message: str) -> None:
    (problem,) = problems(f"version: 1\nhouses: {{a: {house}}}")
    assert message in problem


def test_every_item_of_a_list_is_read_and_one_that_cannot_be_spoils_it() -> None:
    assert problems("version: 1\nhouses: {a: {links: [x, 1, y, true]}}") == [
        '2:25: houses.a.links[1]: 1 is a number, and text is wanted; write "1"',
        '2:31: houses.a.links[3]: true is a boolean, and text is wanted; write "true"',
    ]


def test_a_missing_key_without_an_example_is_named() -> None:
    assert problems("version: 1\nstreets: {a: {one: b}}") == [
        "2:11: streets.a.other: the key is missing; write other: ..."
    ]
    assert problems("version: 1\ninstances: {a: {house: x, environment: [b]}}") == [
        "2:27: instances.a.environment: a list is written where keys are wanted; write NAME: VALUE"
    ]


def test_a_missing_blank_after_a_colon() -> None:
    (problem,) = problems("version: 1\nstreets: {a: {one:big, other: small}}")
    assert problem.endswith("one:big is no key here; write a blank after the colon: one: ...")


def test_what_parse_and_post_init_refuse() -> None:
    text = "version: 1\nhouses:\n  a: {ports: eighty}\n  b: {ports: [80]}\n  c: {links: [nowhere]}\n  d: {ports: 010}\n"
    assert problems(text) == [
        "3:14: houses.a.ports: 'eighty' is no port; write 80 or 80-90",
        "4:7: houses.b.ports: a list is written where a port (80) or a range of them (80-90) is wanted",
        "5:3: houses.c: a link leads nowhere; remove it",
        "6:14: houses.d.ports: 010 begins with a zero; write 10",
    ]


def test_alternatives_are_told_apart_by_their_keys() -> None:
    text = "version: 1\ninstances:\n  a: {house: x, ready: {command: x}}\n  b: {house: x, ready: 80}\n"
    assert problems(text) == [
        "3:34: instances.a.ready.command: x is written where a list is wanted; write [x]",
        "4:24: instances.b.ready: 80 is written where keys (tcp) or keys (command) is wanted",
    ]


def test_keys_of_free_tables() -> None:
    (problem,) = problems('version: 1\ninstances: {a: {house: x, environment: {"a\\0b": c}}}')
    assert '"a\\x00b" is no key' in problem, "nor can a program be given it"
    text = 'version: 1\ninstances: {a: {house: x, environment: {"": a, b=c: d, E: 1}, keys: {x: 10.0.0.1}}}\n'
    assert problems(text) == [
        """2:41: instances.a.environment.: "" is no key; keys are not empty and hold no '='""",
        "2:48: instances.a.environment.b=c: b=c is no key; keys are not empty and hold no '='",
        '2:59: instances.a.environment.E: 1 is a number, and text is wanted; write "1"',
        "2:70: instances.a.keys.x: x is no IPv4 address [InvalidParameterValue]; write, for example, 10.0.1.10",
    ]


@pytest.mark.parametrize("name", ["a", "0", "web-1", "a" * 63])
def test_names(name: str) -> None:
    assert problems(f"version: 1\nhouses: {{{name}: {{}}}}") == []


@pytest.mark.parametrize("name", ["Web", "-a", "a_b", "a.b", "a/b", "'a b'", "é", "''", "a" * 64, "'a\\nb'", '"a\\n"'])
def test_what_is_no_name(name: str) -> None:
    (problem,) = problems(f"version: 1\nhouses: {{{name}: {{}}}}")
    assert "is no name" in problem
    assert "\n" not in problem


def test_a_file_that_is_no_mapping() -> None:
    keys = "version, houses, streets, instances, internet"
    assert problems("- a\n") == ["1:1: a list is written where keys and values are wanted; write its keys: " + keys]
    assert problems("hello\n") == ["1:1: hello is written where keys and values are wanted; write its keys: " + keys]


def test_a_hint_that_lab_files_cannot_write_is_an_error_of_the_model() -> None:
    @dataclass
    class Wrong:
        values: list[int] = field(default_factory=list)

    for hint in (list[int], tuple[int, int], IPv4Address | IPv4Network, float):
        with pytest.raises(TypeError):
            shape_of(hint)
    with pytest.raises(TypeError):
        _ = shape_of(Wrong).fields  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("python3 -m http.server 80", 'write [python3, -m, http.server, "80"]'),
        ("web, app", "write [web, app]"),
        ("sh -c 'a b'", 'write [sh, -c, "a b"]'),
        ("python3 -c 'print(1, 2)'", 'write [python3, -c, "print(1, 2)"]'),
        ("cut -d, -f1", 'write [cut, "-d,", -f1]'),
        ("it isn't closed", """write [it, "isn't", closed]"""),
        ("010 true x: -", 'write ["010", "true", "x:", "-"]'),
        ("none", "write [] for an empty list"),
        ("x " * 200, "write [FIRST, SECOND, ...]"),
    ],
)
def test_text_for_a_list_is_taken_apart_and_what_the_hint_says_is_read(written: str, hint: str) -> None:
    quoted = written.replace("'", "''")
    (problem,) = problems(f"version: 1\nhouses: {{a: {{links: '{quoted}'}}}}")
    assert problem.endswith(f"is written where a list is wanted; {hint}")
    if hint.endswith('"]') or hint.endswith("]"):
        assert problems(f"version: 1\nhouses: {{a: {{links: {hint.removeprefix('write ')}}}}}") == []


def test_a_number_too_long_is_text_only_where_text_is_wanted() -> None:
    long = "9" * 23
    assert problems(f"version: 1\nhouses: {{a: {{chimney: {{height: {long}}}, ports: {long}, links: [{long}]}}}}") == [
        f"2:32: houses.a.chimney.height: the number {long} is too long; write a whole number",
        (f"2:65: houses.a.ports: the number {long} is too long; write a port (80) or a range of them (80-90)"),
        f'2:98: houses.a.links[0]: the number {long} is too long; text goes in quotes: "{long}"',
    ]


def test_alternatives_are_not_written_together() -> None:
    (problem,) = problems("version: 1\ninstances: {a: {house: x, ready: {tcp: 80, command: [x]}}}")
    assert problem.endswith("tcp and command are written, and they are alternatives; keep one of them")

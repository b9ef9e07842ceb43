"""Lab files, from octets: any text, and files of the examples with values, lines and keys in other places.

Loading ends with a topology or with problems that say where they are. What loads is compiled too: a file that is right
must not fail behind the loader.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from dataplane.engine import DataPlane
from dataplane.errors import ConfigurationError, VpclabError
from dataplane.load import load_topology
from tests.fuzz.octets import Octets

EXAMPLES = Path(__file__).parents[2] / "examples"
LINES = 60
"""Of an example that is played with, at most: time goes by lines."""
SPOT = re.compile(r"(?<=: )[^\s{},\[\]#]+|(?<=[{,\[] )[^\s{},\[\]#:]+|(?<=[\[{])[^\s{},\[\]#:]+")
PIECES = (
    "\n", "\n  ", "\n    ", " ", "\t", "\r", "\x85", "\ufeff", "\0", "\u2028", "---\n", "...\n", "%YAML 1.1\n", ": ",
    "- ", "{", "}", "[", "]", ", ", "&x ", "*x", "<<: ", "!!str ", "!!binary ", "| ", "> ", '"', "'", " # ", "? ", "~",
    "vpcs:", "version: 1", "instances:", "cidr: ", "10.0.0.0/16", "::/0", "settings:", "internet:", "checks:",
    "peerings:",
)  # fmt: skip
VALUES = (
    "null", "true", "0", "-1", "65536", "010", "1.0", ".inf", "''", '"\\0"', "[]", "{}", "[[]]", "{a: {}}",
    "10.0.0.0/16", "10.0.0.1/16", "10.0.0.1", "0.0.0.0/0", "::/0", "2001:db8::/56", "fe80::1%eth0", "self", "all",
    "tcp", "group:web",
    "group:/", "peering:", "internet-gateway", "local", "blackhole", "nat-gateway:nat", "network-interface:web/eth0",
    "prefix-list:x", "1-", "80-79", "0-65535", "*x", "&x x", "é", "a/b/c", ":", "9" * 400, "a" * 300, "2001:db8::/1000",
    "1e999", "0x7fffffffffffffff", "2024-01-01", "yes", "<<",
)  # fmt: skip


@cache
def examples() -> tuple[str, ...]:
    """Texts of the examples, lessons and their solutions."""
    return tuple(path.read_text() for path in sorted(EXAMPLES.rglob("*.yaml")))


def changed(octets: Octets) -> str:
    """An example with some of it changed."""
    lines = octets.among(examples()).splitlines(keepends=True)
    for _ in range(octets.one() % 4):
        how, at = octets.one() % 4, octets.two() % len(lines)
        if how == 0:
            del lines[at]
        elif how == 1:
            lines.insert(octets.two() % len(lines), lines[at])
        elif how == 2:
            lines[at] = " " * (octets.one() % 4) + lines[at]
        else:
            lines[at] = lines[at].rstrip("\n")
        if not lines:
            return ""
    text = "".join(lines)
    for _ in range(octets.one() % 6):
        spots = list(SPOT.finditer(text))
        if not spots:
            break
        spot = spots[octets.two() % len(spots)]
        how = octets.one()
        new = octets.among(VALUES) if how & 1 else spots[octets.two() % len(spots)].group()
        text = text[: spot.start()] + new + text[spot.end() :]
    return text


def check(error: ConfigurationError) -> None:
    """There is a problem, and each says where it is, on one line."""
    assert error.problems, error
    for problem in error.problems:
        assert problem.message
        assert problem.line >= 1, problem
        assert problem.column >= 1, problem
        assert "\n" not in str(problem), problem


def play(data: bytes) -> None:
    """Load what the octets say. Raises whatever is not a problem with its place in the file."""
    octets = Octets(data)
    how = octets.one()
    content: bytes | str
    if how < 0x30:
        content = octets.take(len(data))
    elif how < 0x60:
        content = "".join(
            PIECES[each % len(PIECES)] if each < 0xE0 else VALUES[each % len(VALUES)] for each in octets.take(len(data))
        )
    else:
        content = changed(octets)
    try:
        topology = load_topology(content, file_name="lab.yaml")
    except ConfigurationError as error:
        check(error)
        return
    try:
        DataPlane(topology, sessions=16, flows=16)
    except VpclabError:
        return  # a limit, in words

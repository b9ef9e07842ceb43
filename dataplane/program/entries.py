"""Entries of tables: routes, rules, translations."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import NamedTuple

from dataplane.program.words import Prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One entry of a FIB: longest prefix wins; two entries with one prefix are an error.

    `rule` is the `Names` number a trace shows for the route.
    """

    prefix: Prefix
    node: str
    rule: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One line of a filter or a group policy.

    `protocol` -1 matches all. `ports` (first, last) is compared with the destination port of TCP and UDP;
    `icmp` is (type, code) with -1 for any, compared for ICMP and ICMPv6. The remote end is exactly one of
    `prefix`, `table` (a label of `Program.sets`) or `group` (a number: the sender's groups hold it).
    """

    rule: int
    allow: bool = True
    protocol: int = -1
    ports: tuple[int, int] | None = None
    icmp: tuple[int, int] | None = None
    prefix: Prefix | None = None
    table: str = ""
    group: int = 0


class Translation(NamedTuple):
    """One pair of a 1:1 translation."""

    inside: IPv4Address
    outside: IPv4Address

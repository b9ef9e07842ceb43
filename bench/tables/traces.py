"""Tables and what is asked of them, from a seed: the same for ours and for every peer.

The IPv4 table has the lengths of a full internet table of 2025 (60 % are /24) and its shape: more-specifics of one
allocation lie together, most with one next hop. VPC tables are what a route table of 50 routes looks like. Three kinds
of traffic: a random route and a random host in it; routes by Zipf (s = 1), 16 hosts each; any address at all.
"""

from __future__ import annotations

import pickle
import random
import zlib
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, wraps
from itertools import accumulate
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

HOSTS = 16
HOPS = 500
KINDS = ("random", "Zipf", "uniform")
LENGTHS4 = {
    **{8: 16, 9: 14, 10: 42, 11: 105, 12: 310, 13: 600, 14: 1240, 15: 2150, 16: 13500, 17: 8400, 18: 14000, 19: 25500},
    **{20: 45500, 21: 52500, 22: 109000, 23: 96500, 24: 532000, 25: 160, 26: 160, 27: 110, 28: 130, 29: 160, 30: 130},
    **{32: 140},
}
"""How many of each length there are, in a table of about 901,000."""
LENGTHS6 = {
    **{20: 12, 24: 28, 28: 160, 29: 5100, 30: 700, 32: 31000, 33: 3900, 34: 3500, 35: 1900, 36: 11000, 38: 2300},
    **{40: 26500, 42: 4200, 44: 28500, 45: 1700, 46: 5200, 47: 3000, 48: 98000, 56: 900, 60: 400, 64: 1200},
}

Route = tuple[int, int, int]
"""Address, length, next hop (from 1)."""


@dataclass(frozen=True)
class Routes:
    """One table; `bits` 32 or 128."""

    bits: int
    rows: list[Route]

    @property
    def default(self) -> int:
        """The next hop of the route to everywhere."""
        return next(hop for _, length, hop in self.rows if length == 0)

    def addresses(self) -> array[int]:
        return array("I", [a for a, _, _ in self.rows]) if self.bits == 32 else packed6(a for a, _, _ in self.rows)

    def lengths(self) -> array[int]:
        return array("B", [length for _, length, _ in self.rows])

    def hops(self) -> array[int]:
        return array("I", [hop for _, _, hop in self.rows])


def kept(make: Callable[P, T]) -> Callable[P, T]:
    """Made once for each set of arguments, also from one run to the next: the large ones take half a minute."""

    once: dict[object, T] = {}

    @wraps(make)
    def get(*arguments: P.args, **named: P.kwargs) -> T:
        if arguments not in once:
            once[arguments] = read(*arguments, **named)
        return once[arguments]

    def read(*arguments: P.args, **named: P.kwargs) -> T:
        version = zlib.crc32(Path(__file__).read_bytes())
        at = Path(__file__).resolve().parents[2] / "build" / "bench" / "kept"
        at = at / f"{make.__name__}-{'-'.join(map(str, arguments))}-{version:08x}"
        if at.exists():
            found: T = pickle.loads(at.read_bytes())
            return found
        made = make(*arguments, **named)
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(pickle.dumps(made))
        return made

    return get


def packed6(addresses: Iterable[int]) -> array[int]:
    """IPv6 addresses as they are on the wire, one after the other."""
    return array("B", b"".join(address.to_bytes(16) for address in addresses))


def halves6(addresses: Iterable[int]) -> array[int]:
    """IPv6 addresses as our tables take them: two numbers each."""
    return array("Q", [half for a in addresses for half in (a >> 64, a & 0xFFFFFFFFFFFFFFFF)])


def vpc_routes(seed: int, count: int = 50) -> Routes:
    """A default, some large blocks, subnets and peers of every size, a few hosts."""
    rng = random.Random(seed)
    rows: dict[tuple[int, int], int] = {(0, 0): 1, (0x0A000000, 16): 2, (0xAC100000, 12): 3, (0x64400000, 10): 4}
    while len(rows) < count:
        length = rng.choice((14, 16, 16, 18, 19, 20, 20, 22, 24, 24, 24, 26, 28, 32))
        base = rng.choice((0x0A000000, 0x0A000000, 0xAC100000, 0x64400000, 0xC6120000))
        address = _cut(base | rng.getrandbits(22), length, 32)
        rows.setdefault((address, length), 1 + rng.randrange(count))
    return Routes(32, [(a, length, hop) for (a, length), hop in sorted(rows.items())])


@kept
def internet_routes(seed: int, count: int) -> Routes:
    """An IPv4 table of any size with the lengths and the clustering of the internet's; with a default."""
    return _clustered(seed, count, 32, LENGTHS4, (12, 20), lambda rng: rng.randrange(1 << 24, 224 << 24))


@kept
def internet6_routes(seed: int, count: int) -> Routes:
    """The same of IPv6, in 2000::/3; none is longer than /64."""
    return _clustered(seed, count, 128, LENGTHS6, (28, 36), lambda rng: (0x2000 << 112) | rng.getrandbits(125))


def _clustered(
    seed: int,
    count: int,
    bits: int,
    lengths: dict[int, int],
    allocations: tuple[int, int],
    anywhere: Callable[[random.Random], int],
) -> Routes:
    rng = random.Random(seed)
    names, weights = list(lengths), list(accumulate(lengths.values()))
    rows: dict[tuple[int, int], int] = {(0, 0): 1}
    while len(rows) < count:
        block = rng.randint(*allocations)
        base, origin = _cut(anywhere(rng), block, bits), 1 + rng.randrange(HOPS)
        wanted = min(1 + int(rng.expovariate(1 / 12)), count - len(rows))
        for length in rng.choices(names, cum_weights=weights, k=wanted):
            inside = (
                _cut(base | rng.getrandbits(bits - block), length, bits) if length > block else _cut(base, length, bits)
            )
            rows.setdefault((inside, length), origin if rng.random() < 0.7 else 1 + rng.randrange(HOPS))
    return Routes(bits, [(a, length, hop) for (a, length), hop in sorted(rows.items())])


def _cut(address: int, length: int, bits: int) -> int:
    return address >> (bits - length) << (bits - length)


TABLES: dict[str, Callable[[int, int], Routes]] = {
    "vpc": lambda seed, count: vpc_routes(seed, count),
    "internet": internet_routes,
    "internet6": internet6_routes,
}


@kept
def traffic(table: str, size: int, kind: str, count: int, seed: int) -> array[int]:
    """`count` addresses of one kind of traffic for a table ("vpc", "internet", "internet6"); see halves6 for IPv6."""
    found = addresses(TABLES[table](seed, size), kind, count, seed)
    return halves6(found) if table == "internet6" else array("I", found)


def addresses(routes: Routes, kind: str, count: int, seed: int) -> list[int]:
    """The same, as numbers."""
    rng = random.Random(f"{seed} {kind}")
    rows, bits = routes.rows, routes.bits
    if kind == "uniform":
        if bits == 32:
            return [rng.getrandbits(32) for _ in range(count)]
        return [(0x2000 << 112) | rng.getrandbits(125) for _ in range(count)]
    if kind == "random":
        return [a | rng.getrandbits(bits - n) if n < bits else a for a, n, _ in rng.choices(rows, k=count)]
    ranked = rows[:]
    rng.shuffle(ranked)
    weights = list(accumulate(1 / rank for rank in range(1, len(ranked) + 1)))
    out = []
    for a, n, _ in rng.choices(ranked, cum_weights=weights, k=count):
        host = (a * 0x9E3779B1 + rng.randrange(HOSTS) * 0x85EBCA77_C2B2AE3D_27D4EB2F_165667C5) & ((1 << bits) - 1)
        out.append(a | (host & ((1 << (bits - n)) - 1)))
    return out


# -- rules ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RuleLine:
    """One rule: what a network ACL or a security group can say. `prefixes` are (address, length), one or a list."""

    protocol: int
    prefixes: list[tuple[int, int]]
    port_first: int
    port_last: int


@cache
def rule_lines(seed: int, count: int, prefixes: int = 1) -> list[RuleLine]:
    """`count` rules, each about `prefixes` prefixes: as users write them, from single hosts to large blocks."""
    rng = random.Random(seed)
    lines = []
    for _ in range(count):
        protocol = rng.choice((6, 6, 6, 17, 17, -1))
        if protocol == -1 or rng.random() < 0.1:
            ports = (0, 65535)
        elif rng.random() < 0.6:
            ports = (
                port := rng.choice((22, 53, 80, 123, 443, 3306, 5432, 6379, 8080, rng.randrange(1024, 65536))),
                port,
            )
        else:
            first = rng.randrange(1024, 60000)
            ports = (first, min(65535, first + rng.choice((10, 100, 1000, 5000))))
        several: set[tuple[int, int]] = set()
        while len(several) < prefixes:
            length = rng.choice((12, 16, 16, 20, 22, 24, 24, 24, 28, 32))
            several.add((_cut(rng.randrange(1 << 24, 224 << 24), length, 32), length))
        lines.append(RuleLine(protocol, sorted(several), *ports))
    return lines


def rule_packets(lines: list[RuleLine], count: int, seed: int) -> list[tuple[int, int, int]]:
    """(protocol, remote address, destination port): 80 % fall into a random rule, the others anywhere."""
    rng = random.Random(f"{seed} packets")
    out = []
    for line in rng.choices(lines, k=count):
        if rng.random() < 0.8:
            address, length = rng.choice(line.prefixes)
            protocol = line.protocol if line.protocol >= 0 else rng.choice((6, 17))
            host = rng.getrandbits(32 - length) if length < 32 else 0
            out.append((protocol, address | host, rng.randint(line.port_first, line.port_last)))
        else:
            out.append((rng.choice((6, 17)), rng.getrandbits(32), rng.randrange(65536)))
    return out

"""Lookups from Python, beside pytricia and py-radix: a call for one address, or one call for many.

Nobody's call gets an address that was parsed before: addresses are integers for ours and pytricia, which takes them,
and text for py-radix, which takes nothing else. Times are per address, with the loop around them. Peers have no call
for many addresses, and are asked one by one. Ours takes packed numbers and gives such.
"""

from __future__ import annotations

import importlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bench.compared import per_item, seconds
from bench.measure import Limit, NotRun, Options, Row, Sample, alternate
from bench.tables import traces
from bench.tables.ours import networks, route_table

AREA = "python"
TARGETS: list[Any] = []
PYTRICIA, RADIX = "pytricia", "py-radix"
BATCH = "ours, many at once"
MODULES = {PYTRICIA: "pytricia", RADIX: "radix"}
FULL = 901_000


def rows(options: Options) -> Iterator[Row]:
    """All rows of this area."""
    for table, size in (("vpc", 50), ("internet", 100_000 if options.quick else FULL)):
        yield from _table(options, table, size)


def _table(options: Options, table: str, size: int) -> Iterator[Row]:
    case = f"{size} IPv4 routes"
    routes = traces.TABLES[table](options.seed, size)
    entries = networks(routes.rows, 32)
    keys = list(traces.traffic(table, size, "random", 1 << (12 if options.quick else 16), options.seed))
    made: dict[str, Callable[[], Sequence[int]]] = {}
    missing: dict[str, NotRun] = {}

    packed = array("I", keys)

    def ours() -> Callable[[], Sequence[int]]:
        find = route_table(entries).find
        return lambda: [find(0, 4, key) for key in keys]

    def batch() -> Callable[[], Sequence[int]]:
        find_many = route_table(entries).find_many
        return lambda: find_many(0, 4, packed)

    builds: dict[str, Sample | NotRun | Limit] = {}
    for name, make in (
        ("ours", ours),
        (BATCH, batch),
        (PYTRICIA, lambda: _pytricia(routes, keys)),
        (RADIX, lambda: _radix(routes, keys)),
    ):
        try:
            if name in MODULES:
                importlib.import_module(MODULES[name])
        except ImportError:
            missing[name] = NotRun(f"pip install {name}")
            continue
        builds[name] = Sample([seconds(lambda name=name, make=make: made.update({name: make()}))])  # type: ignore[misc]
    answers = {name: run() for name, run in made.items()}
    for name, each in answers.items():
        if list(each) != answers["ours"]:
            raise SystemExit(f"{case}: {name} answers differently")
    measured = alternate(options.rounds, {name: per_item(run, len(keys)) for name, run in made.items()})
    peers = {name: missing.get(name) or measured[name] for name in MODULES}
    yield Row(AREA, "one address", case, "ns", measured["ours"], peers, against=PYTRICIA)
    yield Row(AREA, "many addresses in one call", case, "ns", measured[BATCH], peers, against=PYTRICIA)
    built = {name: missing.get(name) or builds[name] for name in MODULES}
    own = builds["ours"]
    assert isinstance(own, Sample)
    yield Row(AREA, "build", case, "s", own, built, against=PYTRICIA)


def _pytricia(routes: traces.Routes, keys: list[int]) -> Callable[[], Sequence[int]]:
    tree = importlib.import_module("pytricia").PyTricia(32)
    for address, length, hop in routes.rows:
        tree.insert(address, length, hop)
    get = tree.get
    return lambda: [get(key) for key in keys]


def _radix(routes: traces.Routes, keys: list[int]) -> Callable[[], Sequence[int]]:
    tree = importlib.import_module("radix").Radix()
    for address, length, hop in routes.rows:
        tree.add(_dotted(address), length).data["hop"] = hop
    search, texts = tree.search_best, [_dotted(key) for key in keys]
    return lambda: [search(text).data["hop"] for text in texts]


def _dotted(address: int) -> str:
    return ".".join(map(str, address.to_bytes(4)))

"""What callers may not ask of compiled code, which would read or write where it must not."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest

from dataplane.compile import compile_program, intervals
from dataplane.verdict import Verdict
from fastpath.classifier import Classifier
from fastpath.engine import Engine
from fastpath.lpm import Lpm
from fastpath.recorder import Recorder
from fastpath.rule_list import RuleList
from fastpath.snapshot import Snapshot
from fastpath.tracer import Overlay
from fastpath.worker import Worker
from tests.unit.fastpath.test_intervals import EMPTY, snapshot_of
from tests.unit.fastpath.two_hosts import TwoHosts

LONGEST = 131072
TEN: list[Any] = [(ip_network("10.0.0.0/8"), 5)]


@pytest.mark.parametrize("rows", [0, 15, 2**28 + 1])
def test_tables_of_a_size_that_cannot_be(rows: int) -> None:
    with pytest.raises(ValueError, match=r"from 16 to 2\*\*28"):
        Engine(sessions=rows)
    with pytest.raises(ValueError, match=r"from 16 to 2\*\*28"):
        Engine(flows=rows)


def test_frames_that_are_not_as_they_must_be() -> None:
    hosts = TwoHosts()
    process, port = hosts.engine.process, hosts.a.port
    for arguments in (
        ([b"", b""], [port], 1),
        ([b""], [port, port], 1),
        ([b""], [port], 1, []),
        ([b""], [port], 1, [None, None]),
    ):
        with pytest.raises(ValueError, match="equally many"):
            process(*arguments)
    with pytest.raises(ValueError, match="at most 131072 bytes"):
        process([bytes(LONGEST + 1)], [port], 1)
    with pytest.raises(ValueError, match="at most 131072 bytes"):
        hosts.engine.trace(bytes(LONGEST + 1), port, Overlay(), 1)
    for size in (11, 13):
        with pytest.raises(ValueError, match="12 bytes"):
            process([b""], [port], 1, [bytes(size)])
    assert len(process([bytes(LONGEST)], [port], 1, [bytes(12)])[0]) == 1
    assert hosts.engine.trace(bytes(LONGEST), port, Overlay(), 1)["verdict"] == Verdict.DROP


@pytest.mark.parametrize("generation", [0, 1, 4, 5])
def test_tables_that_are_not_newer_than_those_in_use(generation: int) -> None:
    hosts = TwoHosts()
    hosts.engine.swap(compile_program(hosts.program, generation=5))
    with pytest.raises(ValueError, match="must be larger"):
        hosts.engine.swap(compile_program(hosts.program, generation=generation))
    assert hosts.engine.generation == 5


@pytest.mark.parametrize("capacity", [0, 1 << 17, (1 << 18) - 1, (1 << 18) + 8, 3 << 18, 1 << 31])
def test_rings_of_a_size_that_cannot_be(capacity: int) -> None:
    with pytest.raises(ValueError, match="a power of two of bytes"):
        Recorder([], capacity=capacity)


def test_points_of_no_kind() -> None:
    with pytest.raises(ValueError, match="no kind of point: 'door'"):
        Recorder([("door", 1, 1, 1, 0, None, [])])


def test_recorders_that_look_on_already() -> None:
    engine, recorder = TwoHosts().engine, Recorder([])
    engine.watch(recorder)
    with pytest.raises(ValueError, match="each but once"):
        engine.watch(recorder)
    engine.unwatch(recorder)
    engine.unwatch(recorder)
    engine.watch(recorder)


def test_a_worker_that_runs_already() -> None:
    worker = Worker(TwoHosts().engine)
    worker.stop()
    worker.start()
    with pytest.raises(RuntimeError, match="runs already"):
        worker.start()
    worker.stop()
    worker.stop()
    assert not worker.running


def test_tables_that_are_not_there() -> None:
    snapshot = snapshot_of(TEN)
    for table in (-1, 1, 2**31 - 1):
        with pytest.raises(IndexError):
            snapshot.find(table, 4, 1)
        with pytest.raises(IndexError):
            snapshot.find_many(table, 4, array("I", [1]))
    for index in (-1, 0):
        with pytest.raises(IndexError):
            snapshot.first_rules(index, array("I"), array("I"))


@pytest.mark.parametrize("name", ["nodes", "intervals", "fibs", "filters", "group_policies"])
def test_rows_in_the_place_of_none(name: str) -> None:
    for index in (-1, 1):
        with pytest.raises(IndexError, match=f"{name} has no row {index}"):
            Snapshot({name: {index: ()}, "named": {}}, generation=2, before=snapshot_of([]))


def test_addresses_that_are_none() -> None:
    table = Lpm(intervals(TEN))
    for family, address in ((4, 1 << 32), (6, 1 << 128), (4, -1)):
        with pytest.raises(OverflowError):
            table.find(family, address)
    for family in (0, 5, 46):
        with pytest.raises(ValueError, match="a family is 4 or 6"):
            table.find_many(family, array("I", [1]))
    octets = memoryview(bytearray(12))
    for addresses, room in (
        (octets[:5], None),
        (octets[1:5], None),
        (octets[:4], octets[:3]),
        (octets[:4], octets[1:5]),
    ):
        with pytest.raises(ValueError, match="aligned"):
            table.find_many(4, addresses, room)


@pytest.mark.parametrize("family", [4, 6])
def test_prefixes_that_are_none(family: int) -> None:
    bits = 32 if family == 4 else 128
    address = array("I", [0]) if family == 4 else bytes(16)
    for length, value in ((bits + 1, 1), (255, 1), (bits, 1 << 31)):
        with pytest.raises(ValueError, match="no prefix length or value"):
            Lpm.of_prefixes(family, address, bytes([length]), array("I", [value]))
    most = (1 << 31) - 1
    assert Lpm.of_prefixes(family, address, bytes([bits]), array("I", [most])).find(family, 0) == most


def _snapshot_again() -> None:
    snapshot_of([]).__init__({**EMPTY, "nodes": []}, generation=2)  # type: ignore[misc]


def _rules_again() -> None:
    rule: tuple[int, ...] = (1, 6, 1, 4, 1, 2, -1, -1, 0, 0, 0, 0, 0, 0)
    made = RuleList([rule], [])
    made.__init__([], [])  # type: ignore[misc]


@pytest.mark.parametrize("again", [_snapshot_again, _rules_again, Classifier])
def test_what_is_made_once_or_by_others(again: Callable[[], object]) -> None:
    with pytest.raises(TypeError):
        again()


@pytest.mark.parametrize("size", [0, 5, 7])
def test_macs_of_another_size(size: int) -> None:
    with pytest.raises(ValueError, match="a MAC has 6 bytes"):
        Snapshot({**EMPTY, "nodes": [(0,) * 13], "macs": [bytes(size)]}, generation=1)

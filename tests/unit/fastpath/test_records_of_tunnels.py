"""What records say of packets that travel inside others."""

from __future__ import annotations

import struct

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.packet import Raw

from dataplane.observe.records import Flow
from tests.scenario.gwlb import APP, DB, NODE_A, ONE, through
from tests.scenario.network import Network

MINUTE, GENEVE = 60_000, 6081
LAB = ONE.replace(
    "  security:\n    cidr: 10.9.0.0/16\n", "  security:\n    cidr: 10.9.0.0/16\n    flow_logs: {log: {}}\n"
)


def tunnelled(times: tuple[int, ...], *, memo: bool) -> dict[Flow, list[int]]:
    """Of a request and an answer at each of `times`: what each record of GENEVE says, windows apart."""
    network = Network(LAB, memo=memo, engine="fast")
    for now in times:
        network.now = 20 * MINUTE + now
        network.plane.advance(network.now)
        assert through(network, "app", IP(src=APP, dst=DB) / UDP(sport=5000, dport=53) / Raw(bytes(72))).sent
        assert through(network, "db", IP(src=DB, dst=APP) / UDP(sport=53, dport=5000) / Raw(bytes(172))).sent
    assert bool(network.plane.engine.statistics()["flow_hits"]) is memo
    found: dict[Flow, list[int]] = {}
    for number, window in sorted(network.plane.take_flow_records(unfinished=True)[1].items()):
        for flow, count in window.flows.items():
            if flow.destination_port == GENEVE:
                found.setdefault(flow, []).extend((number, count.packets, count.bytes))
    return found


def test_the_outer_bytes_of_a_window_are_of_the_packets_in_it() -> None:
    """The first packet that a flow entry counts in a window comes before the entry has told of the window before."""
    times = (0, 1, 2, 3, 59_000, 59_950, 60_010, 60_020, 60_030)
    walked = tunnelled(times, memo=False)
    assert walked
    assert tunnelled(times, memo=True) == walked


@pytest.mark.parametrize("memo", [True, False])
def test_segments_that_travel_inside_others_are_recorded_outside_one_by_one(memo: bool) -> None:
    """A frame of 2500 bytes that is left to hardware to be cut leaves as three packets, with 68 bytes around each."""
    network = Network(LAB, memo=memo, engine="fast")
    ends = {"src": APP, "dst": DB}, {"src": DB, "dst": APP}
    ports = {"sport": 5000, "dport": 80}, {"sport": 80, "dport": 5000}
    for node, way, flags in (("app", 0, "S"), ("db", 1, "SA"), ("app", 0, "A")):
        assert through(network, node, IP(**ends[way]) / TCP(**ports[way], flags=flags)).sent
    frame = network.frame("app", IP(**ends[0]) / TCP(**ports[0], flags="A") / Raw(bytes(2500)))
    offload = struct.pack("<BBHHHHH", 1, 1, 54, 1000, 34, 16, 0)
    for _ in range(3):
        network.plane.process([frame], [network.port("app")], network.now, [offload])
    around = {
        str(flow.source): (count.packets, count.bytes)
        for window in network.plane.take_flow_records(unfinished=True)[1].values()
        for flow, count in window.flows.items()
        if flow.destination_port == GENEVE and flow.interface == network.port("fw1")
    }
    assert around == {
        NODE_A: (3 + 3 * 3, 3 * (40 + 68) + 3 * (2500 + 3 * (40 + 68))),
        "10.9.1.21": (3, 3 * (40 + 68)),
    }

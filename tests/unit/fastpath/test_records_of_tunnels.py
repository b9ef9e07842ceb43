"""What records say of packets that travel inside others."""

from __future__ import annotations

from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from dataplane.observe.records import Flow
from tests.scenario.gwlb import APP, DB, ONE, through
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

"""The TTL told at each step of a trace is the one that the packet has there."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from dataplane.analysis.headers import time_to_live
from dataplane.analysis.passing import sent_on
from dataplane.engine import DataPlane
from dataplane.load import load_topology
from dataplane.model._probe_ends import senders_of
from dataplane.probe import Probe
from dataplane.trace import Action, Walk
from dataplane.verdict import Verdict
from fastpath.tracer import Overlay
from tests.scenario.gwlb import DB, ONE
from tests.unit.dataplane.test_trace_appliances import LAB as APPLIANCE

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))


def ttls(walk: Walk, *actions: Action) -> list[int]:
    return [step.packet.ttl for hop in walk.hops for step in hop.steps if not actions or step.action in actions]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_last_one_is_that_of_the_frame_that_leaves(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through gateways, NAT64, load balancers and appliances."""
    plane = DataPlane(load_topology(path))
    left: list[int] = []
    follow = DataPlane._follow

    def noted(self: DataPlane, frame: bytes, port: int, overlay: Overlay, now_ms: int) -> dict[str, Any]:
        answer = follow(self, frame, port, overlay, now_ms)
        if answer["verdict"] == Verdict.FORWARD:
            out = answer["frame"]
            left.append(out[22] if out[12:14] == b"\x08\x00" else out[21])
        return answer

    monkeypatch.setattr(DataPlane, "_follow", noted)
    compared = 0
    for source, destination in permutations(senders_of(plane.topology), 2):
        for address in (destination.address4, destination.address6):
            if address is None or source.address(address.version) in (None, address):
                continue
            for protocol in ("tcp", "icmp"):
                left.clear()
                trace = plane.trace(source.path, str(address), protocol=protocol)
                walks = [walk for walk in (trace.forward, trace.reply) if walk is not None]
                assert [ttls(walk)[-1] for walk in walks if walk.verdict is Verdict.FORWARD] == left
                compared += len(left)
    assert compared


def test_the_ttl_goes_on_where_a_packet_becomes_one_of_the_other_family() -> None:
    """RFC 7915, 4.1 and 5.1: the translated packet has the TTL of the other, less one."""
    [egress] = [path for path in EXAMPLES if path.stem == "ipv6-egress"]
    plane = DataPlane(load_topology(egress))
    trace = plane.trace("worker", "64:ff9b::198.51.100.20", port=80)
    families = ["." in step.packet.source for hop in trace.forward.hops for step in hop.steps]
    assert {*families} == {True, False}
    sender = plane.port("worker/eth0")
    address = plane.interface(sender).address6
    assert address is not None
    ends = address, ip_address("64:ff9b::198.51.100.20")
    probe = Probe(source=ends[0], destination=ends[1], protocol=6, source_port=40000, destination_port=80)
    _, [left] = plane.process([plane.frame(sender, probe)], [sender], 1000)
    assert ttls(trace.forward)[-1] == time_to_live(left.frame)
    assert ttls(trace.forward) == sorted(ttls(trace.forward), reverse=True)
    assert trace.reply is not None
    assert ttls(trace.reply) == sorted(ttls(trace.reply), reverse=True)


def test_packets_around_and_inside_have_their_own() -> None:
    trace = DataPlane(load_topology(ONE, file_name="lab.yaml")).trace("app", DB)
    assert ttls(trace.forward, Action.SEND) == [64]
    assert ttls(trace.forward, Action.ENCAPSULATE, Action.RETURN) == [255, 255]
    [out] = ttls(trace.forward, Action.DECAPSULATE)
    assert out == 63, "what the endpoint took before"


@pytest.mark.parametrize(("ttl", "left"), [(2, 1), (1, None), (0, None)])
@pytest.mark.parametrize(("source", "destination"), [("10.0.1.10", "10.0.2.10"), ("2001:db8::1", "2001:db8::2")])
def test_what_has_come_to_its_end_is_not_sent_on(ttl: int, left: int | None, source: str, destination: str) -> None:
    """RFC 1812, 5.3.1, and RFC 8200, 3: a router discards what it would have to send with a TTL of 0."""
    plane = DataPlane(load_topology(APPLIANCE, file_name="lab.yaml"))
    ends = ip_address(source), ip_address(destination)
    frame = Probe(source=ends[0], destination=ends[1], protocol=17, ttl=ttl).frame(bytes(6), bytes(6))
    sent = sent_on(plane, plane.port("fw/eth0"), frame, ends[1])
    assert (None if sent is None else time_to_live(sent)) == left


def test_an_instance_that_sends_on_takes_one() -> None:
    trace = DataPlane(load_topology(APPLIANCE, file_name="lab.yaml")).trace("app", "10.0.2.10")
    assert ttls(trace.forward, Action.SEND, Action.SEND_ON, Action.DELIVER) == [64, 64, 63, 63]

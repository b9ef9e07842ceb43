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


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The TTLs of the frames that left at the end of each traced way."""
    found: list[int] = []
    follow = DataPlane._follow

    def noted(self: DataPlane, frame: bytes, port: int, overlay: Overlay, now_ms: int) -> dict[str, Any]:
        answer = follow(self, frame, port, overlay, now_ms)
        if answer["verdict"] == Verdict.FORWARD:
            out = answer["frame"]
            found.append(out[22] if out[12:14] == b"\x08\x00" else out[21])
        return answer

    monkeypatch.setattr(DataPlane, "_follow", noted)
    return found


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_last_one_is_that_of_the_frame_that_leaves(left: list[int], path: Path) -> None:
    """Through gateways, NAT64, load balancers and appliances."""
    plane = DataPlane(load_topology(path))
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


BEHIND_A_TARGET = ONE.replace(
    """\
          - {destination: "::/0", target: internet-gateway}
      apps:""",
    """\
          - {destination: "::/0", target: internet-gateway}
          - {destination: "64:ff9b::/96", target: "nat-gateway:nat"}
      apps:""",
).replace(
    "    security_groups:",
    "    nat_gateways: {nat: {subnet: gwlbe, elastic_ip: 203.0.113.10}}\n    security_groups:",
    1,
)


@pytest.mark.parametrize(
    ("text", "sender", "far", "spent"),
    [
        (EXAMPLES[0].with_name("ipv6-egress.yaml").read_text(), "worker", "198.51.100.20", 2),
        (BEHIND_A_TARGET, "app", "198.51.100.10", 4),
    ],
    ids=["NAT64", "a target before it"],
)
def test_the_ttl_goes_on_where_a_packet_becomes_one_of_the_other_family(
    left: list[int], text: str, sender: str, far: str, spent: int
) -> None:
    """Each gateway and each crossing of an endpoint takes one; a translator goes on from there (RFC 7915, 5.1)."""
    plane = DataPlane(load_topology(text, file_name="lab.yaml"))
    trace = plane.trace(sender, f"64:ff9b::{far}")
    families = ["." in step.packet.source for hop in trace.forward.hops for step in hop.steps]
    assert {*families} == {True, False}
    assert trace.reply is not None
    assert left == [ttls(trace.forward)[-1], ttls(trace.reply)[-1]] == [64 - spent, 63]


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

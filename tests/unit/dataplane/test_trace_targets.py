"""A trace goes through the targets of load balancers, as if each sent back what it gets."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from dataplane.engine import DataPlane
from dataplane.load import load_topology
from dataplane.probe import TCP, Probe
from dataplane.trace import Step, Walk
from dataplane.trace_text import render
from dataplane.verdict import Reason
from tests.scenario.gwlb import APP, APP_OUTSIDE, DB, LAB, ONE

PROBE = Probe(source=ip_address(APP), destination=ip_address(DB), protocol=TCP, source_port=1234, destination_port=80)


@pytest.fixture
def plane() -> DataPlane:
    return DataPlane(load_topology(ONE, file_name="lab.yaml"))


def steps(walk: Walk, *actions: str) -> list[tuple[str, Step]]:
    return [(str(hop.object), step) for hop in walk.hops for step in hop.steps if step.action in actions]


def test_there_and_back_through_the_target(plane: DataPlane) -> None:
    trace = plane.trace("far", APP_OUTSIDE, port=80)
    assert trace.reachable
    assert (trace.assumed, trace.is_certain) == ((), False), "it hangs on what the target does"
    for walk in (trace.forward, trace.reply):
        assert walk is not None
        found = steps(walk, "encapsulate", "return", "decapsulate")
        assert [where for where, _ in found] == [
            "vpc-endpoint shop/inspect",
            "interface fw1/eth0",
            "vpc-endpoint shop/inspect",
        ]
        assert str(found[0][1].rule) == str(found[2][1].rule) == "target security/fleet/fw1"
    there, back = (steps(walk, "encapsulate")[0][1].note for walk in (trace.forward, trace.reply) if walk)
    assert there == back, "one flow, one cookie"
    assert there.startswith("flow cookie 0x")
    assert plane.engine.sessions() == [], "a trace changes nothing"


def test_packets_in_the_tunnel_are_shown_as_what_they_are(plane: DataPlane) -> None:
    trace = plane.trace("app", DB, port=80)
    [(_, inside)] = steps(trace.forward, "encapsulate")
    packet = inside.packet
    assert packet is not None
    assert (packet.protocol, packet.destination, packet.destination_port) == (17, "10.9.1.21", 6081)
    assert (packet.ttl, packet.length_bytes) == (255, 40 + 68)
    [(_, outside)] = steps(trace.forward, "decapsulate")
    assert outside.packet is not None
    assert (outside.packet.protocol, outside.packet.destination, outside.packet.length_bytes) == (6, DB, 40)
    assert "sends to target (target security/fleet/fw1) - flow cookie 0x" in " ".join(render(trace, width=400).split())


def test_a_known_flow_keeps_its_cookie_in_a_trace(plane: DataPlane) -> None:
    port = plane.port("app/eth0")
    trace = plane.trace("app", DB, port=80, source_port=1234)
    [(_, planned)] = steps(trace.forward, "encapsulate")
    frame = plane.frame(port, PROBE)
    plane.process([frame], [port], 1000)
    trace = plane.trace("app", DB, port=80, source_port=1234, now_ms=1000)
    [(_, known)] = steps(trace.forward, "encapsulate")
    assert known.note == planned.note
    [row] = [row for row in plane.engine.sessions() if row["kind"] == "balancer"]
    assert known.note == f"flow cookie 0x{row['cookie']:08x}"


def test_what_goes_by_an_endpoint_before_a_nat_gateway_is_not_told_to_be_tracked() -> None:
    """Nor is what the target gets: the gateway is passed by the packet that comes back from it."""
    text = ONE
    for old, new in (
        (
            "      gwlbe:\n        routes:\n          - {destination: 0.0.0.0/0, target: internet-gateway}\n",
            (
                "      pub: {routes: [{destination: 0.0.0.0/0, target: internet-gateway}]}\n"
                '      gwlbe:\n        routes:\n          - {destination: 0.0.0.0/0, target: "nat-gateway:nat"}\n'
            ),
        ),
        (
            "      apps: {cidr",
            "      pub: {cidr: 10.0.4.0/24, availability_zone: a, route_table: pub}\n      apps: {cidr",
        ),
        (
            "    gateway_load_balancer_endpoints:",
            "    nat_gateways: {nat: {subnet: pub, elastic_ip: 203.0.113.30}}\n    gateway_load_balancer_endpoints:",
        ),
        ("[{protocol: udp, ports: 6081, source: 10.9.0.0/16}]", "[{protocol: all, source: 0.0.0.0/0}]"),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    plane = DataPlane(load_topology(text, file_name="lab.yaml"))
    trace = plane.trace("app", "198.51.100.10", port=80, source_port=1234)
    assert "nat-gateway shop/nat" in trace.forward.path()
    notes = {step.note for _, step in steps(trace.forward, "permit") if step.note}
    assert notes == {"not tracked"}
    port = plane.port("app/eth0")
    far = Probe(
        source=ip_address(APP),
        destination=ip_address("198.51.100.10"),
        protocol=TCP,
        source_port=1234,
        destination_port=80,
    )
    plane.process([plane.frame(port, far)], [port], 1000)
    assert [row["kind"] for row in plane.engine.sessions()] == ["balancer"], "as the engine does"


def test_a_target_that_may_not_answer_is_named() -> None:
    """The appliance's own group lets nothing out: the trace ends there."""
    text = LAB.replace("fw: {description: appliances,", "fw: {description: appliances, egress: [],")
    trace = DataPlane(load_topology(text, file_name="lab.yaml")).trace("app", DB, port=80)
    assert trace.forward.reason is Reason.GROUP_EGRESS
    assert trace.forward.object is not None
    assert trace.forward.object.path.startswith("fw")


def test_the_answer_to_a_health_check_ends_at_the_node_that_asked() -> None:
    """A node has its address, and is no instance that might send anything on."""
    text = ONE.replace("{protocol: udp, ports: 6081, source: 10.9.0.0/16}", "{protocol: all, source: 10.9.0.0/16}")
    plane = DataPlane(load_topology(text, file_name="lab.yaml"))
    numbers = range(1, len(plane.names))
    [node] = [n for n in numbers if plane.names[n].kind == "gateway-load-balancer-node" and n in plane._contexts][:1]
    own = plane.interface(node).address4
    assert own is not None
    check = Probe(source=own, destination=ip_address("10.9.1.21"), protocol=TCP, source_port=1234, destination_port=80)
    [outcome], [left] = plane.process([plane.frame(node, check)], [node], 1000)
    assert (outcome.reason, plane.names[left.port].path) == (Reason.NONE, "fw1/eth0")
    trace = plane.trace("fw1", str(own), source_port=80, port=1234)
    assert str(trace.forward.object) == str(plane.names[node])
    assert (trace.forward.delivered, trace.assumed) == (True, ())

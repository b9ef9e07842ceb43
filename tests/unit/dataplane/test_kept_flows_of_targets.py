"""Flows through targets, when those fail or are taken away: what is remembered of a flow goes with its target."""

from __future__ import annotations

from typing import Any

from scapy.layers.inet import IP, UDP

from dataplane.engine import DataPlane
from dataplane.topology.runtime_state import RuntimeState, TargetHealth
from dataplane.verdict import Reason
from tests.property.geneve_frames import bounce
from tests.unit.dataplane.test_changing import sections
from tests.unit.model.building import topology

Lab = dict[str, Any]


def lab() -> Lab:
    """Instance a reaches the internet through an endpoint, and flows leave targets that fail."""
    found = sections()
    found["instances"]["a"]["elastic_ip"] = "203.0.113.20"
    found["vpcs"]["app"]["subnets"]["ends"]["route_table"] = "other"
    found["vpcs"]["app"]["security_groups"]["web"]["egress"] = [{"protocol": "all", "destination": "0.0.0.0/0"}]
    found["vpcs"]["sec"]["security_groups"] = {"open": {"ingress": [{"protocol": "all", "source": "0.0.0.0/0"}]}}
    for name in ("fw-1", "fw-2"):
        found["instances"][name]["security_groups"] = ["open"]
    _fleet(found).update({"on_deregistration": "rebalance", "on_unhealthy": "rebalance"})
    return found


def _fleet(found: Lab) -> dict[str, Any]:
    group: dict[str, Any] = found["vpcs"]["sec"]["target_groups"]["fleet"]
    return group


class Inspected:
    """A flow of a's, and what its target got."""

    def __init__(self, source_port: int = 40000) -> None:
        self.plane = DataPlane(topology(**lab()))
        self.port = self.plane.port("a/eth0")
        own = self.plane.interface(self.port)
        packet = IP(src=str(own.address4), dst="198.51.100.10") / UDP(sport=source_port, dport=53)
        self.frame = own.router_mac + own.mac + b"\x08\x00" + bytes(packet)
        self.got = b""
        self.target = self.out()
        self.out()
        self.is_known_both_ways()

    def out(self) -> str:
        """The next packet goes to a target: which?"""
        (sent,) = self.plane.process([self.frame], [self.port], 1000)[1]
        self.got = sent.frame
        return self.plane.names[sent.port].path.removesuffix("/eth0")

    def back(self) -> Reason:
        """The first target sends back what was got last: what becomes of that?"""
        port = self.plane.port(f"{self.target}/eth0")
        own = self.plane.interface(port)
        return self.plane.process([own.router_mac + own.mac + bounce(self.got)], [port], 1000)[0][0].reason

    def is_known_both_ways(self) -> None:
        assert self.back() is Reason.NONE
        self.back()
        before = self.plane.engine.statistics()["flow_hits"]
        assert self.out() == self.target
        assert self.back() is Reason.NONE
        assert self.plane.engine.statistics()["flow_hits"] == before + 2


def test_a_flow_leaves_a_target_that_fails() -> None:
    flow = Inspected()
    flow.plane.set_runtime(RuntimeState(health={("sec", "fleet", flow.target): TargetHealth(state="unhealthy")}))
    assert flow.plane.compiler.in_parts
    assert flow.out() != flow.target


def test_what_comes_from_a_target_that_is_one_no_more_is_dropped() -> None:
    flow, other = Inspected(), lab()
    _fleet(other)["targets"].remove(flow.target)
    flow.plane.apply(topology(**other))
    assert flow.plane.compiler.in_parts
    assert flow.back() is Reason.GENEVE_SENDER


def test_packets_have_another_id_of_their_endpoint_and_those_with_the_old_one_are_nobodys() -> None:
    flow, other = Inspected(), lab()
    before = flow.got[54:62]
    other["vpcs"]["app"]["gateway_load_balancer_endpoints"]["ep"]["id"] = "vpce-00123456789abcdef"
    flow.plane.apply(topology(**other))
    assert flow.plane.compiler.in_parts
    assert flow.back() is Reason.GENEVE_COOKIE_UNKNOWN
    assert flow.out() == flow.target
    assert flow.got[54:62] == bytes.fromhex("0123456789abcdef") != before
    assert flow.back() is Reason.NONE


def test_a_flow_leaves_the_last_of_its_targets_when_that_is_gone() -> None:
    """Those in front of it are as they were."""
    other = lab()
    gone = _fleet(other)["targets"].pop()
    flow = next(flow for flow in map(Inspected, range(40000, 40050)) if flow.target == gone)
    flow.plane.apply(topology(**other))
    assert flow.plane.compiler.in_parts
    assert flow.back() is Reason.GENEVE_SENDER
    assert flow.out() != gone

"""Which flows are walked again after a change, and which are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP

from dataplane.engine import DataPlane
from tests.unit.model.building import topology

Sections = dict[str, Any]
ADDRESSES = {"a": "10.0.1.10", "b": "10.0.2.10", "c": "10.0.3.10", "d": "10.0.4.10"}
Flow = tuple[str, str, int]
FLOWS = [(source, to, port) for source in ADDRESSES for to in ADDRESSES if source != to for port in (53, 99)]
"""UDP flows: who to whom, and to which port."""
SWAPS_KNOWN = 32
"""Of so many it is known what they changed (SWAPS of fastpath/footing.pxd)."""


def sections() -> Sections:
    """Four subnets: a's has an ACL, c's a route table; c and d share a group, nothing of which is tracked."""
    anywhere = {"protocol": "all", "cidr": "0.0.0.0/0", "action": "allow"}
    dns = {"protocol": "udp", "cidr": "0.0.0.0/0", "action": "allow", "ports": "53"}
    web = {"protocol": "tcp", "cidr": "0.0.0.0/0", "action": "allow", "ports": "443"}
    acl = [{"rule": 10, **web}, {"rule": 20, **dns}, {"rule": 100, **anywhere}]
    tracked = [{"protocol": "udp", "ports": str(port), "source": "10.0.0.0/8"} for port in (53, 99, 123)]
    loose = [{"protocol": "all", "source": "0.0.0.0/0"}]
    subnets = {name: {"cidr": f"10.0.{n}.0/24"} for n, name in enumerate("abcd", 1)}
    subnets["a"]["network_acl"] = "edge"
    subnets["c"]["route_table"] = "own"
    placed = {"a": ["tracked"], "b": ["tracked"], "c": ["loose"], "d": ["loose"]}
    return {
        "vpcs": {
            "shop": {
                "cidr": "10.0.0.0/16",
                "internet_gateway": {},
                "subnets": subnets,
                "route_tables": {"own": {"routes": [{"destination": "198.51.100.0/24", "target": "internet-gateway"}]}},
                "network_acls": {"edge": {"ingress": acl, "egress": [{"rule": 100, **anywhere}]}},
                "security_groups": {
                    "tracked": {"ingress": tracked},
                    "loose": {"ingress": loose},
                    "unused": {"ingress": tracked},
                },
            }
        },
        "instances": {
            name: {"vpc": "shop", "subnet": name, "private_ip": ADDRESSES[name], "security_groups": placed[name]}
            for name in ADDRESSES
        },
    }


class Flows:
    """A lab, and flows that it remembers."""

    def __init__(self) -> None:
        self.plane = DataPlane(topology(**sections()))
        self.now = 1000
        assert self.missing() == set(FLOWS)
        self.missing()
        assert self.missing() == set()

    def missing(self) -> set[Flow]:
        """The flows whose next packet walks."""
        found = set()
        for source, to, port in FLOWS:
            number = self.plane.port(f"{source}/eth0")
            interface = self.plane.interface(number)
            packet = IP(src=ADDRESSES[source], dst=ADDRESSES[to]) / UDP(sport=40000, dport=port)
            frame = interface.router_mac + interface.mac + b"\x08\x00" + bytes(packet)
            before = self.plane.engine.statistics()["flow_misses"]
            outcomes, _ = self.plane.process([frame], [number], self.now)
            if self.plane.engine.statistics()["flow_misses"] > before:
                found.add((source, to, port))
            elif outcomes[0].verdict.name != "FORWARD":
                raise AssertionError(outcomes)
        self.plane.engine.selfcheck()
        return found

    def change(self, change: Callable[[Sections], None]) -> None:
        lab = sections()
        change(lab)
        self.plane.apply(topology(**lab))


def _acl(lab: Sections) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = lab["vpcs"]["shop"]["network_acls"]["edge"]["ingress"]
    return rules


def _group(lab: Sections, name: str) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = lab["vpcs"]["shop"]["security_groups"][name]["ingress"]
    return rules


def to_a(port: int | None = None) -> set[Flow]:
    return {each for each in FLOWS if each[1] == "a" and port in (None, each[2])}


def loose() -> set[Flow]:
    """Flows of which an end that remembers none decides anew for each packet."""
    return {each for each in FLOWS if {*each[:2]} & {"c", "d"}}


def of_c() -> set[Flow]:
    return {each for each in FLOWS if each[0] == "c"}


def with_b() -> set[Flow]:
    return {each for each in FLOWS if "b" in each[:2]}


def nothing(lab: Sections) -> None:
    """The same again."""


def unused_acl_rule(lab: Sections) -> None:
    del _acl(lab)[0]


def used_acl_rule(lab: Sections) -> None:
    del _acl(lab)[1]


def new_acl_rule(lab: Sections) -> None:
    _acl(lab).append({**_acl(lab)[0], "rule": 50})


def rule_of_tracked_flows(lab: Sections) -> None:
    del _group(lab, "tracked")[0]


def rule_of_a_group_without_members(lab: Sections) -> None:
    del _group(lab, "unused")[0]


def rule_of_untracked_flows(lab: Sections) -> None:
    _group(lab, "loose").append({"protocol": "tcp", "ports": "80", "source": "10.0.0.0/8"})


def route(lab: Sections) -> None:
    lab["vpcs"]["shop"]["route_tables"]["own"]["routes"] = []


def timeouts(lab: Sections) -> None:
    lab["instances"]["b"]["connection_tracking"] = {"udp_timeout": 60}


EXPECTED: dict[Callable[[Sections], None], tuple[set[Flow], set[Flow]]] = {
    nothing: (set(), set()),
    unused_acl_rule: (set(), to_a()),
    used_acl_rule: (to_a(53), to_a()),
    new_acl_rule: (to_a(), set()),
    rule_of_tracked_flows: (set(), set()),
    rule_of_a_group_without_members: (set(), set()),
    rule_of_untracked_flows: (loose(), loose()),
    route: (of_c(), of_c()),
    timeouts: (with_b(), with_b()),
}
"""Change -> the flows that are walked again after it, and when it is taken back. Any flow of a list may be one that a
new rule of it is for."""


@pytest.mark.parametrize("change", EXPECTED, ids=lambda change: change.__name__)
def test_flows_that_met_what_changed_are_walked_again_and_no_others(change: Callable[[Sections], None]) -> None:
    flows = Flows()
    for each, expected in zip((change, nothing), EXPECTED[change], strict=True):
        flows.change(each)
        assert flows.missing() == expected, each.__name__
        flows.missing()
        assert flows.missing() == set()


def test_tables_that_nobody_knows_the_difference_of_are_walked_again() -> None:
    flows = Flows()

    def more(lab: Sections) -> None:
        lab["vpcs"]["shop"]["subnets"]["e"] = {"cidr": "10.0.5.0/24"}

    flows.change(more)
    assert flows.missing() == set(FLOWS)


def test_many_changes_between_two_packets() -> None:
    flows = Flows()
    flows.change(unused_acl_rule)
    for _ in range(SWAPS_KNOWN - 1):
        flows.change(unused_acl_rule)
    assert flows.missing() == set(), "each of them is known"
    flows.change(used_acl_rule)
    for _ in range(SWAPS_KNOWN - 2):
        flows.change(used_acl_rule)
    assert flows.missing() == to_a(), "and what the first of them did"
    flows.missing()
    for _ in range(SWAPS_KNOWN + 1):
        flows.change(used_acl_rule)
    assert flows.missing() == set(FLOWS), "nobody knows what the first of them did"

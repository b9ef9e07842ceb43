"""What the comments of the examples promise, by traces: who reaches whom, seen as whom, and what stops the others."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from dataplane.engine import DataPlane
from dataplane.load import load_topology
from dataplane.verdict import Reason

FOLDER = Path(__file__).parents[3] / "examples"


@functools.cache
def plane(example: str) -> DataPlane:
    return DataPlane(load_topology(FOLDER / f"{example}.yaml"))


@pytest.mark.parametrize(
    ("example", "source", "destination", "protocol", "port", "seen_as"),
    [
        ("three-tier", "customer", "203.0.113.21", "tcp", 80, "198.51.100.10"),
        ("three-tier", "customer", "203.0.113.22", "tcp", 80, "198.51.100.10"),
        ("three-tier", "web-a", "10.20.11.10", "tcp", 8080, "10.20.0.10"),
        ("three-tier", "web-b", "10.20.10.10", "tcp", 8080, "10.20.1.10"),
        ("three-tier", "app-a", "198.51.100.80", "tcp", 80, "203.0.113.11"),
        ("three-tier", "app-b", "198.51.100.80", "tcp", 80, "203.0.113.12"),
        ("three-tier", "app-a", "10.20.21.10", "tcp", 5432, "10.20.10.10"),
        ("three-tier", "data-a", "10.20.21.10", "tcp", 5432, "10.20.20.10"),
        ("three-tier", "data-b", "10.20.20.10", "tcp", 5432, "10.20.21.10"),
        ("overlapping", "visitor", "203.0.113.20", "tcp", 80, "198.51.100.77"),
        ("overlapping", "visitor", "203.0.113.30", "tcp", 80, "198.51.100.77"),
        ("overlapping", "tools", "10.0.1.10", "tcp", 80, "10.100.1.10"),
        ("overlapping", "blue-web", "10.100.1.10", "tcp", 80, "10.0.1.10"),
        ("overlapping", "blue-web", "203.0.113.30", "tcp", 80, "203.0.113.20"),
        ("dual-stack", "client", "2001:db8:40:1::10", "tcp", 80, "2001:db8:ffff::77"),
        ("dual-stack", "client", "203.0.113.40", "tcp", 80, "198.51.100.77"),
        ("dual-stack", "web", "2001:db8:50:1::10", "icmp", None, "2001:db8:40:1::10"),
        ("dual-stack", "web", "10.50.1.10", "tcp", 5432, "10.40.1.10"),
        ("dual-stack", "batch", "2001:db8:50:1::10", "tcp", 5432, "2001:db8:40:2::10"),
        ("dual-stack", "batch", "198.51.100.10", "tcp", 80, "203.0.113.41"),
        ("dual-stack", "web", "2001:db8:ffff::10", "tcp", 80, "2001:db8:40:1::10"),
        ("inspection", "customer", "203.0.113.60", "tcp", 80, "198.51.100.77"),
        ("inspection", "fw", "198.51.100.77", "tcp", 80, "203.0.113.69"),
        ("ipv6-egress", "worker", "2001:db8:ffff::10", "tcp", 80, "2001:db8:70:2::10"),
        ("ipv6-egress", "worker", "64:ff9b::198.51.100.20", "tcp", 80, "203.0.113.70"),
    ],
)
def test_what_arrives_and_is_answered(
    example: str, source: str, destination: str, protocol: str, port: int | None, seen_as: str
) -> None:
    trace = plane(example).trace(source, destination, protocol=protocol, port=port)
    assert trace.reachable
    packet = trace.forward.hops[-1].steps[-1].packet
    assert packet is not None
    assert packet.source == seen_as


@pytest.mark.parametrize(
    ("example", "source", "destination", "protocol", "port", "reason", "where"),
    [
        ("three-tier", "customer", "203.0.113.21", "tcp", 8080, Reason.GROUP_INGRESS, "interface web-a/eth0"),
        ("three-tier", "web-a", "10.20.20.10", "tcp", 5432, Reason.ACL_INGRESS, "network-acl app/data"),
        ("three-tier", "data-a", "198.51.100.80", "tcp", 80, Reason.GROUP_EGRESS, "interface data-a/eth0"),
        ("overlapping", "green-web", "10.100.1.10", "icmp", None, Reason.PRIVATE_DESTINATION, "internet-gateway green"),
        ("overlapping", "tools", "198.51.100.77", "icmp", None, Reason.NO_ROUTE, "route-table shared/main"),
        ("dual-stack", "batch", "2001:db8:ffff::10", "tcp", 80, Reason.NO_ROUTE, "route-table front/private"),
        ("dual-stack", "client", "2001:db8:40:2::10", "tcp", 80, Reason.GROUP_INGRESS, "interface batch/eth0"),
        (
            "ipv6-egress",
            "www",
            "2001:db8:70:2::10",
            "tcp",
            80,
            Reason.EGRESS_ONLY_NO_SESSION,
            "egress-only-internet-gateway lab",
        ),
        ("ipv6-egress", "worker", "198.51.100.20", "tcp", 80, Reason.NO_ROUTE, "route-table lab/workers"),
    ],
)
def test_what_does_not(
    example: str, source: str, destination: str, protocol: str, port: int | None, reason: Reason, where: str
) -> None:
    trace = plane(example).trace(source, destination, protocol=protocol, port=port)
    assert not trace.reachable
    assert trace.deciding_walk.reason is reason
    assert str(trace.deciding_walk.object) == where


def test_a_peering_of_the_two_vpcs_with_one_range_is_refused() -> None:
    """As the comment in the file invites to try."""
    text = (FOLDER / "overlapping.yaml").read_text()
    before = "peerings:\n"
    with pytest.raises(Exception, match=r"overlapping.yaml:\d+:\d+: peerings\.blue-green.*overlap"):
        load_topology(
            text.replace(before, before + "  blue-green: {requester: blue, accepter: green}\n"),
            file_name="overlapping.yaml",
        )

"""What tests expect of a packet is proven by its own fate, and a failure tells its way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from dataplane.verdict import Reason
from vpclab import ConfigurationError, Lab
from vpclab.testing.expectations import expect_dropped, expect_reachable

TOWN: dict[str, Any] = {
    "version": 1,
    "name": "town",
    "vpcs": {
        "town": {
            "cidr": "10.0.0.0/16",
            "ipv6_cidrs": ["2001:db8:10::/56"],
            "subnets": {
                "left": {"cidr": "10.0.1.0/24", "ipv6_cidr": "2001:db8:10:1::/64", "availability_zone": "a"},
                "right": {
                    "cidr": "10.0.2.0/24",
                    "ipv6_cidr": "2001:db8:10:2::/64",
                    "availability_zone": "a",
                    "network_acl": "deaf",
                },
            },
            "network_acls": {
                "deaf": {
                    "ingress": [
                        {"rule": 100, "protocol": "all", "cidr": "0.0.0.0/0", "action": "allow"},
                        {"rule": 101, "protocol": "all", "cidr": "::/0", "action": "allow"},
                    ],
                    "egress": [
                        {"rule": 90, "protocol": "tcp", "ports": "1024-65535", "cidr": "0.0.0.0/0", "action": "deny"},
                        {"rule": 100, "protocol": "all", "cidr": "0.0.0.0/0", "action": "allow"},
                        {"rule": 101, "protocol": "all", "cidr": "::/0", "action": "allow"},
                    ],
                }
            },
            "security_groups": {
                "open": {
                    "ingress": [{"protocol": "all", "source": "10.0.0.0/8"}, {"protocol": "all", "source": "::/0"}]
                },
                "quiet": {"ingress": [{"protocol": "udp", "ports": 53, "source": "10.0.0.0/8"}]},
                "silent": {},
            },
        }
    },
    "instances": {
        "a": {"vpc": "town", "subnet": "left", "private_ip": "10.0.1.10", "security_groups": ["open"]},
        "b": {"vpc": "town", "subnet": "left", "private_ip": "10.0.1.11", "security_groups": ["quiet", "silent"]},
        "c": {
            "vpc": "town",
            "subnet": "right",
            "private_ip": "10.0.2.10",
            "ipv6_address": "2001:db8:10:2::10",
            "security_groups": ["open"],
        },
        "d": {
            "vpc": "town",
            "subnet": "left",
            "private_ip": "10.0.1.12",
            "ipv6_address": "2001:db8:10:1::12",
            "security_groups": ["open"],
        },
    },
}


@pytest.fixture(scope="module")
def town() -> Iterator[Lab]:
    with Lab.from_dict(TOWN) as lab:
        yield lab


def test_a_packet_that_is_answered_is_reachable(quickstart: Lab) -> None:
    proof = expect_reachable(quickstart, "visitor", "web")
    assert (proof.check, proof.found, proof.refused) == ("can visitor -> web tcp 80", "answered", False)
    assert (proof.reason, proof.by, proof.rule, proof.groups) == (Reason.NONE, None, None, ())
    assert expect_reachable(quickstart, quickstart["app"], quickstart["example"], 81).refused
    assert expect_reachable(quickstart, "app", "10.1.1.10", protocol="icmp").passed == ("peering:shop-store",)
    assert expect_reachable(quickstart, "app", "example", 53, protocol="udp").check == "can app -> example udp 53"


def test_where_it_must_pass_and_whom_the_far_end_sees(quickstart: Lab) -> None:
    way = {"via": ["nat-gateway:shop/nat", "internet-gateway:shop"], "source_seen": "203.0.113.10"}
    assert expect_reachable(quickstart, "app", "example", **way).source_seen == "203.0.113.10"  # type: ignore[arg-type]
    expect_reachable(quickstart, "app", "example", via="nat-gateway:shop/nat")
    with pytest.raises(AssertionError, match="not via peering:shop-store: it passed nat-gateway:shop/nat, internet"):
        expect_reachable(quickstart, "app", "example", via="peering:shop-store")
    with pytest.raises(AssertionError, match=r"but seen as 203\.0\.113\.10"):
        expect_reachable(quickstart, "app", "example", source_seen="10.0.2.10")


def test_a_drop_is_proven_at_once_and_by_name(quickstart: Lab) -> None:
    began = time.monotonic()
    proof = expect_dropped(quickstart, "visitor", "web", 22, reason=Reason.ACL_INGRESS, patience_s=100)
    assert time.monotonic() - began < 50, "nothing is waited for"
    assert (proof.found, proof.reason) == ("blocked", Reason.ACL_INGRESS)
    assert (str(proof.by), proof.groups) == ("network-acl shop/edge", ())
    assert str(proof.rule) == "acl-rule shop/edge ingress 90 deny tcp 22 from 0.0.0.0/0"
    for name in ("shop/edge", "network-acl shop/edge", "shop/edge ingress 90", str(proof.rule), "acl-rule shop/edge"):
        assert proof.is_by(name), proof.deciders
    for name in ("shop", "edge", "shop/edg", "shop/edge ingress 9", "shop/edge egress", "network-acl"):
        assert proof.is_by(name) is (name == "network-acl"), name


def test_groups_that_allow_nothing_are_named(town: Lab) -> None:
    proof = expect_dropped(town, "a", "b", 80, reason="GROUP_INGRESS", by="town/silent")
    assert proof.groups == ("town/quiet", "town/silent")
    assert proof.deciders == ("interface b/eth0", "security-group town/quiet", "security-group town/silent")
    expect_dropped(town, "a", "b", 80, by="security-group town/quiet")
    expect_dropped(town, "a", "b", 80, by="b/eth0")


def test_the_drop_of_the_answer_counts(town: Lab) -> None:
    proof = expect_dropped(town, "a", "c", 80, reason="ACL_EGRESS", by="town/deaf egress 90")
    assert proof.why.startswith("the answer is DROPPED by network-acl town/deaf")
    assert expect_reachable(town, "d", "2001:db8:10:2::10", 80).refused, "IPv6 has another rule"
    expect_reachable(town, "d", "c", protocol="icmpv6")


def test_a_packet_too_large_for_its_way_is_dropped_by_name(quickstart: Lab) -> None:
    expect_reachable(quickstart, "app", "example", protocol="icmp", packet_size=1500)
    proof = expect_dropped(quickstart, "app", "example", protocol="icmp", packet_size=1501, reason="MTU_EXCEEDED")
    assert (proof.check, proof.is_by("internet-gateway shop")) == ("cannot app -> example icmp of 1501 bytes", True)
    with pytest.raises(ConfigurationError, match="ask with udp or icmp"):
        expect_dropped(quickstart, "app", "example", packet_size=1501)


def test_silence_is_no_drop(town: Lab) -> None:
    """A firewall inside the node: the network delivers, nobody answers, and that proves nothing."""
    node = town["a"]
    node.run(["nft", "add table ip quiet; add chain ip quiet in { type filter hook input priority 0; policy drop; }"])
    try:
        with pytest.raises(AssertionError, match="not so: not proven: it arrived at interface a/eth0, and no answer"):
            expect_dropped(town, "d", "a", 80, patience_s=0.5)
        with pytest.raises(AssertionError, match="not so: it arrived at interface a/eth0, and no answer came"):
            expect_reachable(town, "d", "a", 80, patience_s=0.5)
    finally:
        node.run(["nft", "delete", "table", "ip", "quiet"], check=True)


def test_failures_tell_the_way_of_the_packet(quickstart: Lab) -> None:
    with pytest.raises(AssertionError) as failure:
        expect_reachable(quickstart, "db", "example", 443)
    first, empty, *way = str(failure.value).split("\n")
    assert first.startswith("can db -> example tcp 443: not so: DROPPED by route-table store/main")
    assert (empty, way[0].partition(":")[0]) == ("", "db/eth0 sends tcp 10.1.1.10")
    assert way[-1].startswith("  => DROPPED by route-table store/main")
    with pytest.raises(AssertionError, match=r"not so: answered(.|\n)*=> arrives at interface visitor/eth0"):
        expect_dropped(quickstart, "visitor", "web", 80)
    with pytest.raises(AssertionError, match=r"so it is, but for ACL_INGRESS \(denied .*\), not GROUP_INGRESS"):
        expect_dropped(quickstart, "visitor", "web", 22, reason="GROUP_INGRESS")
    with pytest.raises(AssertionError, match=r"so it is, but by network-acl shop/edge, acl-rule .*, not by 'shop/web'"):
        expect_dropped(quickstart, "visitor", "web", 22, reason=Reason.ACL_INGRESS, by="shop/web")


def test_wrong_questions_are_no_failed_assertions(quickstart: Lab) -> None:
    with pytest.raises(ValueError, match="no drop reason is called 'GROUP_INGRES'; GROUP_INGRESS"):
        expect_dropped(quickstart, "visitor", "web", 22, reason="GROUP_INGRES")
    with pytest.raises(ConfigurationError, match="did you mean web"):
        expect_dropped(quickstart, "visitor", "wbe", 22)
    with pytest.raises(ConfigurationError, match="port means nothing for protocol icmp"):
        expect_reachable(quickstart, "app", "web", 22, protocol="icmp")
    with pytest.raises(ConfigurationError, match="no nat-gateway is called shop/nut"):
        expect_reachable(quickstart, "app", "example", via="nat-gateway:shop/nut")


def test_a_proof_prints_short(quickstart: Lab) -> None:
    assert "legs" not in repr(expect_reachable(quickstart, "app", "web", protocol="icmp"))

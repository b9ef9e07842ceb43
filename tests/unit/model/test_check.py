from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any

import pytest

from dataplane.errors import ConfigurationError
from dataplane.load import load_topology
from dataplane.model.check import WAYPOINTS, Check, ProbeProtocol, Waypoint
from dataplane.topology import build
from tests.unit.model.building import expect, instance, lab, peered, problems, topology, vpc

INTERNET: dict[str, Any] = {"hosts": {"site": {"address": "198.51.100.80"}}}


def two_vpcs() -> dict[str, Any]:
    """web and app in shop, db in store; shop has an internet gateway, and web a public address."""
    return {
        **peered(internet_gateway={}),
        "instances": {
            "web": instance(private_ip="10.0.1.10", elastic_ip="203.0.113.20"),
            "app": instance(private_ip="10.0.1.11"),
            "db": {"vpc": "store", "subnet": "one", "private_ip": "10.1.1.10"},
        },
        "internet": INTERNET,
    }


def the_check(**fields: Any) -> Check:
    [found] = lab(**two_vpcs(), checks=[fields]).checks
    return found


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"can": "app -> web", "port": 80}, "can app -> web tcp 80"),
        ({"cannot": "app->web", "protocol": "udp", "port": 53}, "cannot app -> web udp 53"),
        ({"can": "app -> web", "protocol": "icmp", "via": "peering:link"}, "can app -> web icmp via peering:link"),
        (
            {"can": "app -> site", "protocol": 50, "via": ["internet-gateway:shop"], "source_seen": "203.0.113.20"},
            "can app -> site 50 via internet-gateway:shop seen as 203.0.113.20",
        ),
        ({"cannot": "app -> site", "protocol": "icmp", "packet_size": 1501}, "cannot app -> site icmp of 1501 bytes"),
    ],
)
def test_how_it_is_written_and_told(fields: dict[str, Any], text: str) -> None:
    assert str(the_check(**fields)) == text
    assert problems(lab(**two_vpcs(), checks=[{**fields, "via": []}])) == []


@pytest.mark.parametrize(
    ("fields", "path", "words"),
    [
        ({}, "", "neither can nor cannot"),
        ({"can": "app -> web", "cannot": "app -> web", "port": 1}, "", "both written"),
        ({"can": "app -> web"}, ".port", "needs a port"),
        ({"can": "app -> web", "protocol": "icmp", "port": 1}, ".port", "leave port out"),
        ({"can": "app -> web", "port": 0}, ".port", "1 to 65535"),
        ({"cannot": "app -> web", "port": 1, "via": "peering:link"}, ".via", "what does get through"),
        ({"cannot": "app -> web", "port": 1, "source_seen": "10.0.0.1"}, ".source_seen", "what does get through"),
        ({"can": "app -> web", "port": 1, "packet_size": 1500}, ".packet_size", "ask with udp or icmp"),
        ({"can": "app -> web", "protocol": "icmp", "packet_size": 67}, ".packet_size", "write 68 to 9001"),
        ({"can": "app -> web", "protocol": "icmp", "packet_size": 9002}, ".packet_size", "write 68 to 9001"),
        ({"can": "site -> web", "protocol": 50, "packet_size": 1501}, ".packet_size", "sends at most 1500 bytes"),
        ({"can": "ap -> web", "port": 1}, ".can", "did you mean app?"),
        ({"cannot": "app -> wep", "port": 1}, ".cannot", "did you mean web?"),
        ({"can": "web/eth1 -> app", "port": 1}, ".can", "did you mean web/eth0?"),
        ({"can": "site -> app", "port": 1}, ".can", "write the address that is meant"),
        ({"can": "app -> 2001:db8::1", "port": 1}, ".can", "app/eth0 has no IPv6 address"),
        ({"can": "app -> 10.0.1.11", "port": 1}, ".can", "sends to itself"),
        ({"cannot": "app -> 127.0.0.1", "port": 1}, ".cannot", "no address of another"),
        ({"cannot": "app -> 0.0.0.0", "port": 1}, ".cannot", "no address of another"),
        ({"cannot": "app -> 255.255.255.255", "port": 1}, ".cannot", "no address of another"),
        ({"can": "10.9.9.9 -> app", "port": 1}, ".can", "no node sends from"),
        ({"can": "app -> web", "protocol": "icmpv6"}, ".can", "no IPv6 address of web"),
        ({"can": "app -> 10.0.1.10", "protocol": "icmpv6"}, ".can", "write protocol: icmp"),
        ({"can": "app -> web", "port": 1, "via": "peering:lonk"}, ".via", "did you mean link?"),
        ({"can": "app -> web", "port": 1, "via": ["peering:link", "instance:x"]}, ".via[1]", "no instance is called x"),
        ({"can": "app -> web", "port": 1, "source_seen": "2001:db8::1"}, ".source_seen", "not of the family"),
    ],
)
def test_what_is_wrong(fields: dict[str, Any], path: str, words: str) -> None:
    expect(lab(**two_vpcs(), checks=[fields]), f"checks[0]{path}", "", words)


@pytest.mark.parametrize(
    "fields",
    [
        {"can": "app -> web", "port": 1},
        {"can": "app -> web", "protocol": "udp", "port": 65535},
        {"can": "app -> web", "protocol": 1},
        {"can": "app -> web", "protocol": 254},
        {"can": "app -> web", "protocol": "icmp", "packet_size": 68},
        {"can": "app -> web", "protocol": "icmp", "packet_size": 9001},
        {"can": "site -> web", "protocol": "icmp", "packet_size": 1500},
        {"can": "app -> 64:ff9b::c633:6450", "port": 80, "source_seen": "203.0.113.20"},
    ],
)
def test_what_is_just_right(fields: dict[str, Any]) -> None:
    declared = two_vpcs()
    declared["vpcs"]["shop"]["ipv6_cidrs"] = ["2001:db8::/56"]
    six = {"ipv6_cidr": "2001:db8::/64", "assign_ipv6_address_on_creation": True}
    declared["vpcs"]["shop"]["subnets"]["one"] |= six
    assert problems(lab(**declared, checks=[fields])) == []


def test_beside_what_is_wrong_with_the_lab_nodes_are_looked_up_and_no_more() -> None:
    right = {"can": "10.0.0.1 -> 64:ff9b::1", "port": 1, "via": "peering:x"}
    declared = lab(
        vpcs={"shop": vpc("10.0.0.0/8")},
        internet={"hosts": {"site": {"address": "198.51.100.80"}}},
        aws_services={"s3": {}},
        checks=[
            {"can": "stie/eth0 -> site", "port": 1},
            {"can": "site -> b"},
            right,
            {"can": "site -> s3", "port": 1},
            {},
        ],
        captures={"c": {"points": ["stie", "site/eth7", "nat:x", "internet", "s3"], "file": "x"}},
    )
    with pytest.raises(ConfigurationError) as caught:
        build(declared)
    found = {(each.path, each.message, each.hint) for each in caught.value.problems if each.path[:4] != "vpcs"}
    assert found == {
        ("checks[0].can", "no node is called stie", "did you mean site?"),
        ("checks[1].can", "no node is called b", "there is s3, site"),
        ("checks[1].port", "a check of tcp needs a port", "write, for example, port: 80"),
        ("checks[4]", "neither can nor cannot is written", "write which, for example {can: app -> web, port: 80}"),
        ("captures.c.points[0]", "nothing that can be captured is called 'stie'", "did you mean site?"),
    }
    assert caught.value.outlook == "captures and checks are judged once this is mended"


@pytest.mark.parametrize(
    ("ends", "source", "destination"),
    [
        ("app -> web", "10.0.1.11", "10.0.1.10"),
        ("app -> db", "10.0.1.11", "10.1.1.10"),
        ("site -> web", "198.51.100.80", "203.0.113.20"),
        ("203.0.113.20 -> site", "10.0.1.10", "198.51.100.80"),
        ("10.1.1.10 -> 10.0.1.99", "10.1.1.10", "10.0.1.99"),
        ("web/eth0 -> app", "10.0.1.10", "10.0.1.11"),
    ],
)
def test_whom_names_mean(ends: str, source: str, destination: str) -> None:
    declared = topology(**two_vpcs(), checks=[{"can": ends, "port": 80}])
    resolved = declared.lab.checks[0].resolve(declared)
    assert (resolved.source, resolved.destination) == (ip_address(source), ip_address(destination))
    assert (resolved.protocol, resolved.port) == (6, 80)


def test_an_address_that_several_have_is_no_sender() -> None:
    sections = {
        "vpcs": {"shop": vpc(), "twin": vpc()},
        "instances": {
            "a": instance(private_ip="10.0.1.10"),
            "b": {"vpc": "twin", "subnet": "one", "private_ip": "10.0.1.10"},
        },
        "checks": [{"can": "10.0.1.10 -> 10.0.1.11", "port": 1}],
    }
    expect(lab(**sections), "checks[0].can", "", "write a or b")


def test_icmp_goes_by_the_family_of_the_addresses() -> None:
    shop = vpc(ipv6_cidrs=["2001:db8::/56"])
    shop["subnets"]["one"]["ipv6_cidr"] = "2001:db8:0:1::/64"
    declared = topology(
        vpcs={"shop": shop},
        instances={name: instance(ipv6_address=f"2001:db8:0:1::{n}") for n, name in ((10, "a"), (11, "b"))},
        checks=[
            {"can": "a -> b", "protocol": "icmp"},
            {"can": "a -> b", "protocol": "icmpv6"},
            {"can": "a -> 2001:db8:0:1::11", "protocol": "icmp"},
        ],
    )
    assert [each.resolve(declared).protocol for each in declared.lab.checks] == [1, 58, 58]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nat-gateway:nat", "write nat-gateway:VPC/NAME"),
        ("peering:a/b", "write peering:NAME"),
        ("internet-gateway", "write internet-gateway:VPC"),
        ("nat-gatway:a/b", "did you mean nat-gateway?"),
        ("route-table:a/b", "write one of internet-gateway:VPC"),
    ],
)
def test_a_waypoint_says_which_one(text: str, words: str) -> None:
    with pytest.raises(ValueError, match="; ") as error:
        Waypoint.parse(text)
    assert words in str(error.value)


@pytest.mark.parametrize(("kind", "spelled"), WAYPOINTS.items())
def test_waypoints_are_spelled_as_they_are_read(kind: str, spelled: str) -> None:
    text = f"{kind}:{spelled.lower()}"
    assert str(Waypoint.parse(text)) == text


@pytest.mark.parametrize("ends", ["app", "app -> ", "-> web", "a -> b -> c", "a b -> c"])
def test_ends_are_two(ends: str) -> None:
    with pytest.raises(ConfigurationError, match=r"write FROM -> TO"):
        load_topology(f"version: 1\nchecks:\n  - {{can: '{ends}', port: 1}}\n", file_name="lab")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("all", "a check is about one protocol; write tcp, udp, icmp, icmpv6 or a number from 1 to 254"),
        (-1, "a check is about one protocol"),
        (0, "no packet is of protocol 0"),
        ("255", "no packet is of protocol 255"),
        ("tpc", "tpc is no protocol; write tcp, udp, icmp, icmpv6 or a number from 1 to 254"),
        (256, "256 is no protocol"),
    ],
)
def test_a_protocol_that_no_probe_has(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ProbeProtocol.parse(value)
    assert ProbeProtocol.parse("47") == ProbeProtocol(47)
    assert re.search(ProbeProtocol.PATTERN, str(value)) is None or value in ("255", 256)

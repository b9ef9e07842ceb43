"""Labs with every construct there is, changes to them, and frames that are wrong at the edges.

`strategies.labs` draws rules and routes of one fixed shape densely; here the shape itself is drawn: several VPCs (some
with the same blocks), secondary blocks and addresses, further interfaces, attached or not, prefix lists, main tables,
default groups, assigned addresses, peerings in every state and between Regions, routes more specific than local.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from tests.property.strategies import HOSTS, PORTS

PEERING_STATES = ("active", "active", "active", "deleted", "pending-acceptance")
BLOCKS = ("0.0.0.0/0", "10.0.0.0/16", "10.0.1.0/24", "10.0.2.10/32", "198.51.100.10/32", "203.0.113.0/24")
BLOCKS6 = ("::/0", "2001:db8:10:2::/64", "2001:db8:99::10/128")


def _traffic(draw: st.DrawFn, *, six: bool = False) -> dict[str, Any]:
    protocol = draw(st.sampled_from(["tcp", "udp", "icmpv6" if six else "icmp", "all", "all", 47]))
    found: dict[str, Any] = {"protocol": protocol}
    if protocol in ("tcp", "udp"):
        first = draw(st.sampled_from(PORTS))
        last = draw(st.sampled_from([p for p in PORTS if p >= first]))
        found["ports"] = draw(st.sampled_from(["0-65535", f"{first}-{last}"]))
    elif protocol in ("icmp", "icmpv6") and draw(st.booleans()):
        kind = draw(st.sampled_from([128, 129, 1, 3] if six else [0, 3, 8, 11]))
        found["icmp"] = {"type": kind, "code": draw(st.sampled_from([-1, 0, 3, 4]))}
    return found


def group_rules(draw: st.DrawFn, end: str, references: list[str]) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(0, 3))):
        peer = draw(st.sampled_from([*BLOCKS, *BLOCKS6, *references]))
        rule = {**_traffic(draw, six=peer in BLOCKS6), end: peer}
        if rule not in rules:
            rules.append(rule)
    return rules


def acl(draw: st.DrawFn) -> dict[str, Any]:
    def side() -> list[dict[str, Any]]:
        found = []
        for number in draw(st.lists(st.sampled_from([1, 90, 100, 110, 32766]), unique=True, max_size=3)):
            cidr = draw(st.sampled_from([*BLOCKS, *BLOCKS6]))
            action = draw(st.sampled_from(["allow", "deny"]))
            found.append({"rule": number, **_traffic(draw, six=cidr in BLOCKS6), "cidr": cidr, "action": action})
        for number, cidr in ((200, "0.0.0.0/0"), (201, "::/0")):
            if draw(st.integers(0, 5)):
                found.append({"rule": number, "protocol": "all", "cidr": cidr, "action": "allow"})
        return draw(st.permutations(found))

    return {"ingress": side(), "egress": side()}


@st.composite
def wide_labs(draw: st.DrawFn) -> dict[str, Any]:
    """A lab file, as the plain structure it is written from."""
    state = draw(st.sampled_from(PEERING_STATES))
    far = draw(st.integers(0, 2)) == 0
    references = ["self", "group:one", "prefix-list:near"]
    known_peer = not far and state in ("active", "deleted")
    shop_references = [*references, "group:store/one"] if known_peer else references
    store_references = [*references, "group:shop/one"] if known_peer else references

    def groups(mine: list[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in ("one", "two"):
            found[name] = {"description": name, "ingress": group_rules(draw, "source", mine)}
            if draw(st.integers(0, 2)) == 0:
                found[name]["egress"] = group_rules(draw, "destination", mine)
        anywhere = [{"protocol": "all", "source": block} for block in ("0.0.0.0/0", "::/0")]
        return found | {"open": {"description": "open", "ingress": anywhere}}

    def routes(*always: tuple[str, str]) -> list[dict[str, str]]:
        found = [{"destination": destination, "target": target} for destination, target in always]
        extra = [
            ("198.51.100.77/32", "blackhole"),
            ("198.51.100.0/24", "instance:d"),
            ("198.51.100.10/32", "network-interface:spare"),
            ("prefix-list:near", "network-interface:b/eth1"),
            ("prefix-list:near", "internet-gateway"),
            ("169.254.0.0/16", "internet-gateway"),
            ("10.0.0.0/8", "peering:p"),
            ("10.1.0.0/16", "peering:p"),
            ("2001:db8:20::/56", "peering:p"),
            ("2001:db8:99::10/128", "blackhole"),
            ("10.0.3.0/24", "nat-gateway:nat"),
            ("10.0.3.0/24", "instance:d"),
            ("10.0.0.0/16", "network-interface:b/eth1"),
            ("100.64.0.0/16", "nat-gateway:nat"),
            ("fd00::/8", "internet-gateway"),
        ]
        for destination, target in draw(st.lists(st.sampled_from(extra), max_size=4, unique=True)):
            if destination not in [each["destination"] for each in found]:
                found.append({"destination": destination, "target": target})
        return found

    def member(*, six: bool = False) -> dict[str, Any]:
        chosen = draw(st.lists(st.sampled_from(["one", "two", "open"]), max_size=2, unique=True))
        found: dict[str, Any] = {"security_groups": chosen} if chosen else {}
        if draw(st.integers(0, 3)) == 0:
            found["source_dest_check"] = False
        return found

    default = draw(st.sampled_from(["internet-gateway", "nat-gateway:nat", "blackhole"]))
    shop = {
        "cidr": "10.0.0.0/16",
        "secondary_cidrs": ["100.64.0.0/16"],
        "ipv6_cidrs": ["2001:db8:10::/56"],
        "internet_gateway": {},
        "subnets": {
            "public": {
                "cidr": "10.0.1.0/24",
                "ipv6_cidr": "2001:db8:10:1::/64",
                "route_table": "public",
                "map_public_ip_on_launch": draw(st.booleans()),
            },
            "private": {"cidr": "10.0.2.0/24", "ipv6_cidr": "2001:db8:10:2::/64", "route_table": "private"},
            "plain": {"cidr": "10.0.3.0/24"},
            "shared": {"cidr": "100.64.1.0/24", "route_table": "public"},
        },
        "route_tables": {
            "public": {"routes": routes(("0.0.0.0/0", "internet-gateway"), ("::/0", "internet-gateway"))},
            "private": {"main": draw(st.booleans()), "routes": routes(("0.0.0.0/0", default))},
        },
        "network_acls": {"edge": acl(draw)},
        "security_groups": groups(shop_references),
        "nat_gateways": {
            "nat": {
                "subnet": draw(st.sampled_from(["public", "public", "public", "plain"])),
                "elastic_ip": "203.0.113.10",
            }
        },
        "network_interfaces": {
            "second": {
                "subnet": "private",
                "private_ips": ["10.0.2.21", "10.0.2.22"],
                "ipv6_addresses": ["2001:db8:10:2::21"],
                "elastic_ips": {"10.0.2.22": "203.0.113.22"},
                "attachment": {"instance": "b", "device_index": 1},
                **member(),
            },
            "spare": {"subnet": "public", "private_ips": ["10.0.1.31"], "elastic_ips": {"10.0.1.31": "203.0.113.31"}},
        },
    }
    for name in ("public", "private", "plain"):
        if draw(st.integers(0, 3)) == 0:
            shop["subnets"][name]["network_acl"] = "edge"  # type: ignore[index]
    store = {
        "cidr": "10.1.0.0/16",
        "ipv6_cidrs": ["2001:db8:20::/56"],
        "subnets": {"data": {"cidr": "10.1.1.0/24", "ipv6_cidr": "2001:db8:20:1::/64", "route_table": "data"}},
        "route_tables": {
            "data": {
                "routes": [
                    {"destination": "10.0.0.0/16", "target": "peering:p"},
                    {"destination": "2001:db8:10::/56", "target": "peering:p"},
                    *([{"destination": "0.0.0.0/0", "target": "peering:p"}] if draw(st.booleans()) else []),
                ]
            }
        },
        "security_groups": groups(store_references),
    }
    twin = {
        "cidr": "10.0.0.0/16",
        "internet_gateway": {},
        "subnets": {"public": {"cidr": "10.0.1.0/24", "map_public_ip_on_launch": True}},
        "route_tables": {"main": {"routes": [{"destination": "0.0.0.0/0", "target": "internet-gateway"}]}},
    }
    peering: dict[str, Any] = {"requester": "shop", "accepter": "store", "status": state}
    if far:
        peering["accepter_region"] = "eu-west-1"

    def instance(vpc: str, subnet: str, address: str, **more: Any) -> dict[str, Any]:
        return {"vpc": vpc, "subnet": subnet, "private_ip": address, **(member() if vpc != "twin" else {}), **more}

    return {
        "version": 1,
        "name": "wide",
        "quotas": {"elastic_ips_per_region": 9},
        "prefix_lists": {
            "near": {"entries": [{"cidr": "198.51.100.77/32"}, {"cidr": "10.9.0.0/16"}]}
        },
        "vpcs": {"shop": shop, "store": store, "twin": twin},
        "peerings": {"p": peering},
        "instances": {
            "a": instance(
                "shop", "public", "10.0.1.10", ipv6_address="2001:db8:10:1::10", elastic_ip="203.0.113.20",
                secondary_private_ips=["10.0.1.12"],
            ),
            "b": instance("shop", "public", "10.0.1.11"),
            "c": instance("shop", "private", "10.0.2.10", ipv6_address="2001:db8:10:2::10"),
            "d": instance("shop", "plain", "10.0.3.10"),
            "e": instance("store", "data", "10.1.1.10", ipv6_address="2001:db8:20:1::10"),
            "f": instance("shop", "shared", "100.64.1.10"),
            "t": instance("twin", "public", "10.0.1.10"),
        },
        "internet": {"hosts": {name: {"address": four, "ipv6_address": six} for name, (four, six) in HOSTS.items()}},
    }  # fmt: skip


def as_text(lab: dict[str, Any]) -> str:
    return json.dumps(lab)

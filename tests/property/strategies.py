"""Random small labs, and packets drawn from the edges of what the lab itself declares.

A lab is built as the plain structure of a lab file and written as JSON, which is YAML. Packets are drawn from the
lab's own addresses, ports, sizes and limits, one step to either side: uniform values would hardly ever
meet a rule.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment

PORTS = (0, 1, 22, 79, 80, 81, 1023, 1024, 32768, 65535)
PROTOCOLS = ("tcp", "udp", "icmp", "all", 47)
NAT_ADDRESS, NAT_PUBLIC = "10.0.1.5", "203.0.113.10"
HOSTS = {"example": ("198.51.100.10", "2001:db8:99::10"), "visitor": ("198.51.100.77", "2001:db8:99::77")}


@dataclass(frozen=True, slots=True)
class RandomLab:
    """A lab file's text, and what packets are drawn from."""

    text: str
    nodes: dict[str, tuple[str, str]]
    """Node -> its IPv4 and IPv6 address ("" when it has none)."""
    addresses: tuple[str, ...]
    addresses6: tuple[str, ...]


def _ports(draw: st.DrawFn) -> str:
    first = draw(st.sampled_from(PORTS))
    return f"{first}-{draw(st.sampled_from([p for p in PORTS if p >= first]))}"


def _match(draw: st.DrawFn) -> dict[str, Any]:
    protocol = draw(st.sampled_from(PROTOCOLS))
    match: dict[str, Any] = {"protocol": protocol}
    if protocol in ("tcp", "udp"):
        match["ports"] = _ports(draw)
    elif protocol == "icmp" and draw(st.booleans()):
        match["icmp"] = {"type": draw(st.sampled_from([0, 3, 8, 11])), "code": -1}
    return match


@st.composite
def labs(draw: st.DrawFn) -> RandomLab:
    """VPC shop (two subnets, both gateways) and store (maybe with shop's CIDR, else maybe peered), five instances."""
    same_cidr = draw(st.booleans())
    store = "10.0" if same_cidr else "10.1"
    peered = not same_cidr and draw(st.booleans())
    peers = ["0.0.0.0/0", "10.0.1.0/24", "10.0.2.10/32", "198.51.100.0/24", "::/0", "2001:db8:10:1::/64"]

    def sg_rules(name: str, end: str) -> list[dict[str, Any]]:
        rules = []
        for _ in range(draw(st.integers(0, 3))):
            rule = _match(draw)
            choice = draw(st.sampled_from([*peers, "self", "group:one", "group:two"]))
            choice = "self" if choice == f"group:{name}" else choice
            if rule["protocol"] == "icmp" and ":" in choice and "/" in choice:
                choice = "0.0.0.0/0"
            if (wanted := {**rule, end: choice}) not in rules:  # AWS refuses duplicates
                rules.append(wanted)
        return rules

    def groups() -> dict[str, Any]:
        return {
            name: {
                "description": name,
                "ingress": sg_rules(name, "source"),
                **({"egress": sg_rules(name, "destination")} if draw(st.integers(0, 3)) == 0 else {}),
            }
            for name in ("one", "two")
        } | {
            "open": {
                "description": "open",
                "ingress": [{"protocol": "all", "source": p} for p in ("0.0.0.0/0", "::/0")],
            }
        }

    def acl_side() -> list[dict[str, Any]]:
        numbers = draw(st.lists(st.sampled_from([1, 90, 100, 110, 32766]), unique=True, max_size=3))
        entries = [
            {
                "rule": n,
                **_match(draw),
                "cidr": "0.0.0.0/0" if draw(st.booleans()) else draw(st.sampled_from(peers[:4])),
                "action": draw(st.sampled_from(["allow", "allow", "deny"])),
            }
            for n in numbers
        ]
        return [
            *entries,
            {"rule": 200, "protocol": "all", "cidr": "0.0.0.0/0", "action": "allow"},
            {"rule": 201, "protocol": "all", "cidr": "::/0", "action": "allow"},
        ]

    public_routes = [{"destination": d, "target": "internet-gateway"} for d in ("0.0.0.0/0", "::/0")]
    private_routes: list[dict[str, str]] = [
        {"destination": "0.0.0.0/0", "target": draw(st.sampled_from(["nat-gateway:nat", "internet-gateway"]))}
    ]
    if draw(st.booleans()):
        private_routes.append(
            {
                "destination": "198.51.100.77/32",
                "target": draw(st.sampled_from(["blackhole", "internet-gateway", "instance:a"])),
            }
        )
    store_routes: list[dict[str, str]] = []
    if peered:
        for routes, destination in (
            (public_routes, "10.1.0.0/16"),
            (private_routes, "10.1.0.0/16"),
            (store_routes, "10.0.0.0/16"),
        ):
            if draw(st.integers(0, 4)):
                routes.append({"destination": destination, "target": "peering:p"})
    private: dict[str, Any] = {
        "cidr": "10.0.2.0/24",
        "ipv6_cidr": "2001:db8:10:2::/64",
        "availability_zone": "b",
        "route_table": "private",
    }
    acls = {}
    if draw(st.booleans()):
        acls["edge"] = {"ingress": acl_side(), "egress": acl_side()}
        private["network_acl"] = "edge"
    nodes = {
        "a": ("10.0.1.10", "2001:db8:10:1::10"),
        "b": ("10.0.1.11", ""),
        "c": ("10.0.2.10", "2001:db8:10:2::10"),
        "d": ("10.0.2.11", ""),
        "e": (f"{store}.1.10", ""),
    }
    instances: dict[str, Any] = {}
    for name, (address, address6) in nodes.items():
        vpc = "store" if name == "e" else "shop"
        subnet = {"a": "public", "b": "public", "c": "private", "d": "private", "e": "data"}[name]
        instances[name] = {
            "vpc": vpc,
            "subnet": subnet,
            "private_ip": address,
            **({"ipv6_address": address6} if address6 else {}),
            "security_groups": draw(
                st.lists(st.sampled_from(["one", "two", "open", "open"]), min_size=1, max_size=2, unique=True)
            ),
            **({"source_dest_check": False} if draw(st.integers(0, 5)) == 0 else {}),
        }
    instances["a"]["elastic_ip"] = "203.0.113.20"
    if draw(st.booleans()):
        instances["c"]["elastic_ip"] = "203.0.113.21"
    lab = {
        "version": 1,
        "name": "random",
        "vpcs": {
            "shop": {
                "cidr": "10.0.0.0/16",
                "ipv6_cidrs": ["2001:db8:10::/56"],
                "internet_gateway": {},
                "subnets": {
                    "public": {"cidr": "10.0.1.0/24", "ipv6_cidr": "2001:db8:10:1::/64", "route_table": "public"},
                    "private": private,
                },
                "route_tables": {"public": {"routes": public_routes}, "private": {"routes": private_routes}},
                "network_acls": acls,
                "security_groups": groups(),
                "nat_gateways": {"nat": {"subnet": "public", "elastic_ip": NAT_PUBLIC, "private_ip": NAT_ADDRESS}},
            },
            "store": {
                "cidr": f"{store}.0.0/16",
                "subnets": {"data": {"cidr": f"{store}.1.0/24", "route_table": "data"}},
                "route_tables": {"data": {"routes": store_routes}},
                "security_groups": groups(),
            },
        },
        "peerings": {"p": {"requester": "shop", "accepter": "store", "status": "active"}} if peered else {},
        "instances": instances,
        "internet": {"hosts": {name: {"address": four, "ipv6_address": six} for name, (four, six) in HOSTS.items()}},
    }
    everyone = {**nodes, **HOSTS}
    extra = (
        NAT_ADDRESS,
        NAT_PUBLIC,
        "203.0.113.20",
        "203.0.113.21",
        "203.0.113.22",
        "10.0.1.1",
        "10.0.2.1",
        "10.0.1.12",
        "10.99.0.1",
        "198.51.100.11",
    )
    return RandomLab(
        text=json.dumps(lab),
        nodes=everyone,
        addresses=tuple(dict.fromkeys([four for four, _ in everyone.values()])) + extra,
        addresses6=(*(six for _, six in everyone.values() if six), "2001:db8:10:1::1", "2001:db8:10:1::99"),
    )


@dataclass(frozen=True, slots=True)
class Step:
    """One packet sent by a node, `wait_ms` after the one before; `repeat` times back to back."""

    node: str
    packet: bytes
    family: int
    wait_ms: int
    repeat: int


WAITS = (0, 0, 0, 0, 1, 999, 29_999, 30_000, 30_001, 60_000, 180_000, 349_999, 350_000)
SIZES = (0, 1, 8, 1400, 1471, 1472, 1473, 8471, 8472, 8473, 8973, 8974)


@st.composite
def steps(draw: st.DrawFn, lab: RandomLab) -> Step:
    """A packet from a node's own address (mostly) to an address of the lab."""
    node = draw(st.sampled_from(sorted(lab.nodes)))
    four, six = lab.nodes[node]
    size = draw(st.sampled_from(SIZES)) if draw(st.integers(0, 3)) == 0 else draw(st.integers(0, 8))
    ttl = draw(st.sampled_from([64, 64, 64, 64, 1, 2, 3, 255]))
    ports = {"sport": draw(st.sampled_from(PORTS)), "dport": draw(st.sampled_from(PORTS))}
    kind = draw(st.sampled_from(["tcp", "tcp", "udp", "udp", "udp", "echo", "reply", "other"]))
    v6 = bool(six) and draw(st.integers(0, 4)) == 0
    ip: Any
    if v6:
        ip = IPv6(src=six, dst=draw(st.sampled_from(lab.addresses6)), hlim=ttl)
    else:
        source = four if draw(st.integers(0, 9)) else draw(st.sampled_from(lab.addresses))
        ip = IP(
            src=source,
            dst=draw(st.sampled_from(lab.addresses)),
            ttl=ttl,
            id=draw(st.integers(1, 3)),
            flags=draw(st.sampled_from(["", "DF"])),
        )
    payload: Any = bytes(size)
    if kind == "tcp":
        payload = (
            TCP(**ports, flags=draw(st.sampled_from(["S", "S", "SA", "A", "A", "PA", "FA", "R", "", "P"]))) / payload
        )
    elif kind == "udp":
        payload = UDP(**ports) / payload
    elif kind in ("echo", "reply"):
        identifier = draw(st.sampled_from([1, 2, 1024]))
        if v6:
            payload = ICMPv6EchoRequest(id=identifier, data=payload)
        else:
            payload = ICMP(type=8 if kind == "echo" else 0, id=identifier) / payload
    elif v6:
        payload = (
            IPv6ExtHdrFragment(
                id=draw(st.integers(1, 2)), offset=draw(st.sampled_from([0, 1])), m=draw(st.integers(0, 1)), nh=17
            )
            / UDP(**ports)
            / bytes(8)
        )
    else:
        ip.proto = draw(st.sampled_from([17, 47, 50]))
        ip.frag = draw(st.sampled_from([0, 0, 1, 2]))
        ip.flags = draw(st.sampled_from(["", "MF"]))
        payload = bytes(UDP(**ports, len=24)) + bytes(16)
    return Step(
        node, bytes(ip / payload), 6 if v6 else 4, draw(st.sampled_from(WAITS)), draw(st.sampled_from([1, 2, 3]))
    )

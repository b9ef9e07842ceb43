"""Labs with every construct there is, changes to them, and frames that are wrong at the edges.

`strategies.labs` draws rules and routes of one fixed shape densely; here the shape itself is drawn: several VPCs (some
with the same blocks), secondary blocks and addresses, further interfaces, attached or not, prefix lists, main tables,
default groups, assigned addresses, peerings in every state and between Regions, routes more specific than local.
"""

from __future__ import annotations

import copy
import json
import struct
from ipaddress import ip_address
from typing import Any

from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    in6_getnsma,
)
from scapy.layers.l2 import ARP

from tests.property.strategies import HOSTS, PORTS, SIZES

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


@st.composite
def changed(draw: st.DrawFn, lab: dict[str, Any]) -> dict[str, Any]:
    """The lab after somebody worked on it: a rule, group, route, ACL, address or peering taken away or put back."""
    other = copy.deepcopy(lab)
    shop = other["vpcs"]["shop"]
    kind = draw(
        st.sampled_from(["ingress", "egress", "groups", "route", "acl", "peering", "check", "elastic", "other"])
    )
    if kind in ("ingress", "egress"):
        group = shop["security_groups"][draw(st.sampled_from(["one", "two", "open"]))]
        rules = group.get(kind)
        if rules:
            del rules[draw(st.integers(0, len(rules) - 1))]
        elif rules is None:
            group[kind] = []
        else:
            group[kind] = [{"protocol": "all", "source" if kind == "ingress" else "destination": "0.0.0.0/0"}]
    elif kind == "groups":
        who = draw(st.sampled_from("abcd"))
        other["instances"][who]["security_groups"] = [draw(st.sampled_from(["one", "two", "open"]))]
    elif kind == "route":
        routes = shop["route_tables"][draw(st.sampled_from(["public", "private"]))]["routes"]
        if routes:
            del routes[draw(st.integers(0, len(routes) - 1))]
    elif kind == "acl":
        subnet = shop["subnets"][draw(st.sampled_from(["public", "private", "plain"]))]
        if subnet.pop("network_acl", None) is None:
            subnet["network_acl"] = "edge"
    elif kind == "peering":
        other["peerings"]["p"]["status"] = draw(st.sampled_from(["active", "deleted"]))
    elif kind == "check":
        who = draw(st.sampled_from("abc"))
        other["instances"][who]["source_dest_check"] = draw(st.booleans())
    elif kind == "elastic":
        if other["instances"]["a"].pop("elastic_ip", None) is None:
            other["instances"]["a"]["elastic_ip"] = "203.0.113.20"
        else:
            other["instances"]["c"]["elastic_ip"] = "203.0.113.20"
    else:
        other["vpcs"].pop("twin", None)
        other["instances"].pop("t", None)
    return other


ADDRESSES = (
    "10.0.1.10", "10.0.1.11", "10.0.1.12", "10.0.2.10", "10.0.2.21", "10.0.2.22", "10.0.3.10", "10.1.1.10",
    "100.64.1.10", "10.0.1.1", "10.0.2.1", "10.0.3.1", "100.64.1.1", "10.1.1.1", "10.0.1.4", "10.0.1.31", "10.0.1.200",
    "10.0.255.255", "10.9.9.9", "10.1.0.0", "198.51.100.10", "198.51.100.77", "198.51.100.11", "203.0.113.10",
    "203.0.113.20", "203.0.113.22", "203.0.113.31", "203.0.113.128", "203.0.113.129", "203.0.113.130", "169.254.1.1",
    "169.254.169.254", "169.254.168.5", "224.0.0.1", "255.255.255.255", "127.0.0.1", "0.0.0.0", "240.0.0.1",
)  # fmt: skip
ADDRESSES6 = (
    "2001:db8:10:1::10", "2001:db8:10:2::10", "2001:db8:10:2::21", "2001:db8:20:1::10", "2001:db8:10:1::1",
    "2001:db8:10:2::1", "2001:db8:20:1::1", "2001:db8:10:1::99", "2001:db8:99::10", "2001:db8:99::77", "fe80:ec2::1",
    "fe80::1", "ff02::1", "::", "::1", "fd00:ec2::254", "fd00::1", "2001:db8:10:9::1", "::ffff:10.0.1.10",
)  # fmt: skip


def _mostly(draw: st.DrawFn, own: list[str], others: tuple[str, ...]) -> str:
    return draw(st.sampled_from(own)) if own != [] and draw(st.integers(0, 9)) > 0 else draw(st.sampled_from(others))


@st.composite
def packets(draw: st.DrawFn, own: list[str]) -> tuple[int, bytes]:
    """A packet from one of `own` addresses (mostly); its version and bytes."""
    four, six = [a for a in own if ":" not in a], [a for a in own if ":" in a]
    is_six = bool(six) and not draw(st.integers(0, 3))
    ttl = draw(st.sampled_from([64, 64, 64, 64, 1, 2, 3, 0]))
    size = (
        draw(st.sampled_from([*SIZES, 8953, 8973, 8999])) if draw(st.integers(0, 4)) == 0 else draw(st.integers(0, 9))
    )
    ports = {"sport": draw(st.sampled_from(PORTS)), "dport": draw(st.sampled_from(PORTS))}
    payload: Any = bytes(size)
    kinds = ["tcp", "tcp", "udp", "udp", "udp", "query", "query", "other", "strange"]
    kind = draw(st.sampled_from(kinds))
    ip: Any
    if is_six:
        ip = IPv6(src=_mostly(draw, six, ADDRESSES6), dst=draw(st.sampled_from(ADDRESSES6)), hlim=ttl)
    else:
        ip = IP(
            src=_mostly(draw, four, ADDRESSES),
            dst=draw(st.sampled_from(ADDRESSES)),
            ttl=ttl,
            id=draw(st.integers(1, 3)),
            flags=draw(st.sampled_from(["", "DF"])),
        )
    if kind == "tcp":
        payload = (
            TCP(**ports, flags=draw(st.sampled_from(["S", "S", "SA", "A", "FA", "R", "", "F", "SF", "RA"]))) / payload
        )
    elif kind == "udp":
        payload = UDP(**ports, **({"chksum": 0} if draw(st.integers(0, 5)) == 0 else {})) / payload
    elif kind == "query" and is_six:
        payload = draw(st.sampled_from([ICMPv6EchoRequest, ICMPv6EchoReply]))(id=draw(st.integers(0, 2)), data=payload)
    elif kind == "query":
        payload = ICMP(type=draw(st.sampled_from([8, 8, 0, 13, 14, 5, 9, 17])), id=draw(st.integers(0, 2))) / payload
    elif kind == "other" and not is_six:
        ip.proto = draw(st.sampled_from([17, 6, 1, 47, 50, 132]))
        ip.frag, ip.flags = draw(st.sampled_from([0, 0, 1, 2, 3])), draw(st.sampled_from(["", "MF", "MF"]))
        payload = bytes(UDP(**ports, len=24)) + bytes(draw(st.sampled_from([16, 16, 8, 4])))
    elif kind == "other":
        more, offset = draw(st.integers(0, 1)), draw(st.sampled_from([0, 0, 1, 2]))
        upper = draw(st.sampled_from([17, 6, 58, 60]))
        head = IPv6ExtHdrFragment(id=draw(st.integers(1, 2)), offset=offset, m=more, nh=upper)
        payload = head / (bytes(UDP(**ports, len=24)) + bytes(16))
    elif is_six:
        chain = draw(st.sampled_from([IPv6ExtHdrDestOpt(), IPv6ExtHdrHopByHop(), IPv6ExtHdrRouting(addresses=["::1"])]))
        payload = chain / (UDP(**ports) / payload)
    else:
        option = draw(
            st.sampled_from([b"\x94\x04\0\0", b"\x07\x07\x04\0\0\0\0", b"\x83\x07\x04\x0a\0\x02\x01", b"\x01"])
        )
        ip.options = [IPOption(option)]
        payload = UDP(**ports) / payload
    return (6 if is_six else 4), damage(draw, bytes(ip / payload), 6 if is_six else 4)


def damage(draw: st.DrawFn, packet: bytes, version: int) -> bytes:
    """Once in a while: a byte changed (with a right header checksum, or every change would die of it), or cut short."""
    kind = draw(st.sampled_from(["", "", "", "", "", "", "", "byte", "cut", "longer"]))
    if kind == "byte":
        raw, at = bytearray(packet), draw(st.integers(0, min(len(packet) - 1, 60)))
        raw[at] = draw(st.sampled_from([0, 1, raw[at] ^ 1, raw[at] ^ 0x80, 255]))
        if version == 4 and draw(st.integers(0, 3)):
            raw[10:12] = b"\0\0"
            size = max(20, min((raw[0] & 15) * 4, len(raw)) // 2 * 2)
            raw[10:12] = struct.pack(">H", _sum(bytes(raw[:size])))
        return bytes(raw)
    if kind == "cut":
        return packet[: draw(st.integers(0, len(packet)))] if len(packet) < 200 else packet[:100]
    return packet + bytes(draw(st.sampled_from([1, 6, 18]))) if kind == "longer" else packet


def _sum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data[: len(data) // 2 * 2]))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def error_about(draw: st.DrawFn, frame: bytes) -> bytes:
    """An ICMP error about the packet in a frame, from whoever got it to whoever sent it; sometimes a strange one."""
    packet = frame[14:]
    if frame[12:14] == b"\x86\xdd":
        inner = IPv6(packet)
        kind = draw(st.sampled_from([ICMPv6DestUnreach(code=4), ICMPv6TimeExceeded()]))
        return bytes(IPv6(src=inner.dst, dst=inner.src) / kind / packet[: draw(st.sampled_from([48, 56, 60, 1232]))])
    inner = IP(packet)
    kind = draw(
        st.sampled_from([ICMP(type=3, code=3), ICMP(type=3, code=4), ICMP(type=11), ICMP(type=12), ICMP(type=5)])
    )
    quote = packet[: draw(st.sampled_from([20, 24, 27, 28, 28, 28, 40, 548]))]
    source = inner.dst if draw(st.integers(0, 3)) else draw(st.sampled_from(ADDRESSES[:12]))
    return bytes(IP(src=source, dst=inner.src) / kind / quote)


@st.composite
def questions(draw: st.DrawFn, mac: bytes, own: list[str]) -> bytes:
    """A frame that asks who has an address: ARP or neighbour solicitation, now and then malformed."""
    four, six = [a for a in own if ":" not in a], [a for a in own if ":" in a]
    colons = mac.hex(":")
    if six != [] and draw(st.booleans()):
        target = draw(st.sampled_from(ADDRESSES6))
        group = in6_getnsma(ip_address(target).packed)
        source = draw(st.sampled_from([six[0], six[0], "::"]))
        to = ip_address(group).compressed
        packet = IPv6(src=source, dst=to, hlim=draw(st.sampled_from([255, 255, 255, 64]))) / ICMPv6ND_NS(tgt=target)
        return b"\x33\x33" + group[12:] + mac + b"\x86\xdd" + damage(draw, bytes(packet), 6)
    operation = draw(st.sampled_from([1, 1, 1, 2]))
    question = ARP(
        op=operation, hwsrc=colons, psrc=_mostly(draw, four, ADDRESSES), pdst=draw(st.sampled_from(ADDRESSES))
    )
    body = damage(draw, bytes(question), 6)
    return b"\xff" * 6 + mac + b"\x08\x06" + body

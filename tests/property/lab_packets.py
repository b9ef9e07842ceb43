"""Packets that meet what a lab declares: between its own addresses, through its gateways, at the edges of its limits.

Most go from who has an address to who has one, public or private, of this VPC or another, or to IPv4 through NAT64; the
others to addresses beside those, or that nobody may send to. Some are damaged.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any, TypeVar

from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    in6_getnsma,
)
from scapy.layers.l2 import ARP

from tests.property.strategies import PORTS
from tests.property.test_memo import internet_sum

T = TypeVar("T")
Draw = Callable[[st.SearchStrategy[T]], T]

EDGES = (
    "10.0.1.1", "10.0.2.1", "10.0.3.1", "100.64.1.1", "10.1.1.1", "10.0.1.4", "10.0.1.31", "10.0.1.200", "10.0.0.0",
    "10.0.255.255", "10.9.9.9", "10.1.0.0", "198.51.100.11", "198.51.100.77", "203.0.113.128", "203.0.113.129",
    "203.0.113.130", "169.254.1.1", "169.254.169.254", "169.254.168.5", "224.0.0.1", "255.255.255.255", "127.0.0.1",
    "0.0.0.0", "240.0.0.1", "100.64.9.9",
)  # fmt: skip
EDGES6 = (
    "2001:db8:10:1::1", "2001:db8:10:2::1", "2001:db8:20:1::1", "2001:db8:10:1::99", "2001:db8:10:9::1",
    "2001:db8:99::11", "fe80:ec2::1", "fe80::1", "ff02::1", "::", "::1", "fd00:ec2::254", "fd00::1",
    "::ffff:10.0.1.10", "64:ff9b::a9fe:101", "64:ff9b:1::1", "2001:db8:20:9::9",
)  # fmt: skip
NAT64 = "64:ff9b::"
HOSTS = ("198.51.100.", "2001:db8:99:")
INSIDE = ("10.", "100.64.")
NEAR = (HOSTS, HOSTS, HOSTS, ("10.0.", "2001:db8:10:"), ("10.1.", "2001:db8:20:"), ("100.64.",), ("203.0.113.",), ("",))
"""Where packets go, by how addresses begin."""
HOPS = (*[64] * 16, 1, 1, 2, 2, 3, 0)
LARGE = (
    1207, 1233, 1400, 1452, 1453, 1471, 1472, 1473, 1481, 2900, 4000, 8452, 8471, 8472, 8473, 8953, 8954,
    8973, 8974, 8999,
)  # fmt: skip
FLAGS = ("S", "S", "S", "SA", "A", "A", "PA", "FA", "R", "RA", "", "F", "SF", "SAU")


def through_nat64(address: str) -> str:
    """An IPv4 address as NAT64 clients write it (RFC 6052)."""
    return str(ip_address(int(ip_address(NAT64)) | int(ip_address(address))))


def _to(draw: Draw, live: Sequence[str], edges: Sequence[str]) -> str:
    """Mostly an address that somebody has; often that of a host on the internet, or of the peer VPC."""
    if draw(st.integers(0, 8)) == 0 or not live:
        return draw(st.sampled_from(edges))
    begin = draw(st.sampled_from(NEAR))
    return draw(st.sampled_from([each for each in live if each.startswith(begin)] or live))


def _from(draw: Draw, own: Sequence[str], live: Sequence[str], edges: Sequence[str]) -> str:
    """Mostly an own address."""
    return draw(st.sampled_from(own)) if own and draw(st.integers(0, 15)) else _to(draw, live, edges)


def ends(draw: Draw, own: Sequence[str], live4: Sequence[str], live6: Sequence[str]) -> tuple[int, str, str]:
    """Version, source and destination."""
    if any(each.startswith(HOSTS) for each in own) and draw(st.integers(0, 7)) != 0:
        live4 = [each for each in live4 if not each.startswith(INSIDE)]  # what the internet has routes to
    live4, live6 = [a for a in live4 if a not in own], [a for a in live6 if a not in own]
    four, six = [a for a in own if ":" not in a], [a for a in own if ":" in a]
    if six and draw(st.booleans()):
        to = through_nat64(_to(draw, live4, EDGES)) if draw(st.booleans()) else _to(draw, live6, EDGES6)
        return 6, _from(draw, six, live6, EDGES6), to
    return 4, _from(draw, four, live4, EDGES), _to(draw, live4, EDGES)


CONVERSATIONS = (
    ("c/eth0", "2001:db8:10:2::10", through_nat64("198.51.100.10")),
    ("c/eth0", "2001:db8:10:2::10", through_nat64("198.51.100.77")),
    ("b/eth1", "2001:db8:10:2::21", through_nat64("198.51.100.10")),
    ("c/eth0", "10.0.2.10", "10.1.1.10"),
    ("b/eth1", "10.0.2.21", "10.1.1.10"),
    ("c/eth0", "10.0.2.10", "198.51.100.10"),
    ("c/eth0", "2001:db8:10:2::10", "2001:db8:99::10"),
    ("c/eth0", "10.0.2.10", "10.0.1.10"),
    ("c/eth0", "10.0.2.10", "100.64.1.10"),
    ("g/eth0", "10.1.2.10", "10.0.1.10"),
    ("g/eth0", "10.1.2.10", "10.0.2.10"),
    ("e/eth0", "10.1.1.10", "10.0.1.10"),
    ("e/eth0", "10.1.1.10", "10.0.2.10"),
    ("e/eth0", "2001:db8:20:1::10", "2001:db8:10:2::10"),
    ("a/eth0", "10.0.1.10", "198.51.100.77"),
    ("a/eth0", "10.0.1.10", "10.0.1.11"),
    ("example/eth0", "198.51.100.10", "203.0.113.20"),
    ("example/eth0", "198.51.100.10", "203.0.113.22"),
)
"""Who may have something to say to whom in `wide_labs`: by each kind of gateway and rule."""


def opening(draw: Draw) -> tuple[str, int, bytes]:
    """The first packet of a conversation: by whom, its version and bytes."""
    node, source, destination = draw(st.sampled_from(CONVERSATIONS))
    kind = draw(st.sampled_from(["tcp", "udp", "udp", "query"]))
    data = bytes(draw(st.sampled_from([0, 5, 1473, 2900])))
    ports = {"sport": draw(st.sampled_from(PORTS)), "dport": draw(st.sampled_from(PORTS))}
    segment: Any = TCP(**ports, flags="S") / data if kind == "tcp" else UDP(**ports) / data
    if ":" in source:
        segment = ICMPv6EchoRequest(id=1, data=data) if kind == "query" else segment
        return node, 6, bytes(IPv6(src=source, dst=destination) / segment)
    segment = ICMP(id=1) / data if kind == "query" else segment
    return node, 4, bytes(IP(src=source, dst=destination, id=draw(st.integers(0, 3))) / segment)


def some_packet(draw: Draw, own: Sequence[str], live4: Sequence[str], live6: Sequence[str]) -> tuple[int, bytes]:
    """A packet from one of `own` addresses (mostly); its version and bytes."""
    version, source, destination = ends(draw, own, live4, live6)
    size = draw(st.sampled_from(LARGE)) if draw(st.integers(0, 4)) == 0 else draw(st.integers(0, 9))
    ttl = draw(st.sampled_from(HOPS))
    kind = draw(st.sampled_from(["tcp", "tcp", "tcp", "udp", "udp", "udp", "query", "query", "strange", "options"]))
    ip: Any
    if version == 6:
        ip = IPv6(src=source, dst=destination, hlim=ttl, tc=draw(st.sampled_from([0, 0, 0xB8])))
        packet = _six(draw, ip, kind, bytes(size))
    else:
        flags = draw(st.sampled_from(["", "DF"]))
        ip = IP(src=source, dst=destination, ttl=ttl, id=draw(st.integers(0, 3)), flags=flags)
        packet = _four(draw, ip, kind, bytes(size))
    return version, damage(draw, bytes(packet), version)


def _ports(draw: Draw) -> dict[str, int]:
    return {"sport": draw(st.sampled_from(PORTS)), "dport": draw(st.sampled_from(PORTS))}


def _segment(draw: Draw, kind: str, data: bytes) -> Any:
    wrong = {"chksum": draw(st.sampled_from([0, 1]))} if draw(st.integers(0, 5)) == 0 else {}
    if kind == "tcp":
        return TCP(**_ports(draw), flags=draw(st.sampled_from(FLAGS)), seq=draw(st.sampled_from([0, 2**32 - 1])),
                   ack=draw(st.sampled_from([0, 7])), **wrong) / data  # fmt: skip
    return UDP(**_ports(draw), **wrong) / data


def _four(draw: Draw, ip: Any, kind: str, data: bytes) -> Any:
    if kind in ("tcp", "udp"):
        return ip / _segment(draw, kind, data)
    if kind == "query":
        return (
            ip
            / ICMP(type=draw(st.sampled_from([8, 8, 8, 8, 8, 8, 0, 0, 13, 14, 5, 17])), id=draw(st.integers(0, 2)))
            / data
        )
    if kind == "strange":
        ip.proto = draw(st.sampled_from([6, 1, 47, 47, 50, 132]))
        return ip / (bytes(UDP(**_ports(draw), len=24)) + bytes(draw(st.sampled_from([16, 16, 8, 4]))))
    options = [b"\x94\x04\0\0", b"\x07\x07\x04\0\0\0\0", b"\x83\x07\x04\x0a\0\x02\x01", b"\x01", b"\x89\x03\x04"]
    ip.options = [IPOption(draw(st.sampled_from(options)))]
    return ip / _segment(draw, draw(st.sampled_from(["tcp", "udp"])), data)


def _six(draw: Draw, ip: Any, kind: str, data: bytes) -> Any:
    if kind in ("tcp", "udp"):
        return ip / _segment(draw, kind, data)
    if kind == "query":
        message = draw(st.sampled_from([ICMPv6EchoRequest, ICMPv6EchoRequest, ICMPv6EchoReply]))
        return ip / message(id=draw(st.integers(0, 2)), data=data)
    if kind == "strange":
        ip.nh = draw(st.sampled_from([47, 50, 132, 58, 59, 1]))
        return ip / (bytes(UDP(**_ports(draw), len=24)) + bytes(16))
    chain = draw(st.sampled_from([IPv6ExtHdrDestOpt(), IPv6ExtHdrHopByHop(), IPv6ExtHdrRouting(addresses=["::1"])]))
    return ip / chain / _segment(draw, draw(st.sampled_from(["tcp", "udp"])), data)


def pieces(draw: Draw, own: Sequence[str], live4: Sequence[str], live6: Sequence[str]) -> tuple[int, list[bytes]]:
    """A datagram in two to four pieces, in order; its version and packets."""
    version, source, destination = ends(draw, own, live4, live6)
    kind = draw(st.sampled_from(["udp", "udp", "udp", "tcp", "query"]))
    data = bytes(draw(st.sampled_from([8, 24, 40])))
    ip: Any
    if version == 6:
        ip = IPv6(src=source, dst=destination)
        upper = ICMPv6EchoRequest(id=1, data=data) if kind == "query" else _segment(draw, kind, data)
    else:
        ip = IP(src=source, dst=destination)
        upper = ICMP(id=1) / data if kind == "query" else _segment(draw, kind, data)
    whole = bytes(ip / upper)[20 if version == 4 else 40 :]
    first = draw(st.sampled_from([8, 16, 24] if kind != "tcp" else [24, 24, 16]))
    cuts = [0, *sorted({first, draw(st.sampled_from([first, first + 8, first + 16]))}), len(whole)]
    cuts = sorted({cut for cut in cuts if cut <= len(whole)})
    identification = draw(st.sampled_from([0, 1, 2, 0x12345]))
    packets = []
    for start, end in itertools.pairwise(cuts):
        more = int(end < len(whole))
        if version == 4:
            head = IP(
                src=source, dst=destination, proto={"udp": 17, "tcp": 6, "query": 1}[kind], id=identification & 0xFFFF,
                frag=start // 8, flags="MF" if more else "",
            )  # fmt: skip
        else:
            upper_number = {"udp": 17, "tcp": 6, "query": 58}[kind]
            head = IPv6(src=source, dst=destination) / IPv6ExtHdrFragment(
                id=identification, offset=start // 8, m=more, nh=upper_number
            )
        packets.append(bytes(head / whole[start:end]))
    if draw(st.integers(0, 7)) == 0:
        packets.append(draw(st.sampled_from(packets)))
    return version, packets


def damage(draw: Draw, packet: bytes, version: int) -> bytes:
    """Once in a while: a byte changed (with a right header checksum, or every change would die of it), or cut short."""
    kind = draw(st.sampled_from([*[""] * 16, "byte", "cut", "longer"]))
    if kind == "byte":
        raw, at = bytearray(packet), draw(st.integers(0, min(len(packet) - 1, 60)))
        raw[at] = draw(st.sampled_from([0, 1, raw[at] ^ 1, raw[at] ^ 0x80, 255]))
        if version == 4 and draw(st.integers(0, 3)):
            raw[10:12] = b"\0\0"
            size = max(20, min((raw[0] & 15) * 4, len(raw)) // 2 * 2)
            raw[10:12] = struct.pack(">H", internet_sum(bytes(raw[:size])))
        return bytes(raw)
    if kind == "cut":
        return packet[: draw(st.integers(0, len(packet)))] if len(packet) < 200 else packet[:100]
    return packet + bytes(draw(st.sampled_from([1, 6, 18]))) if kind == "longer" else packet


def error_about(draw: Draw, frame: bytes) -> bytes:
    """An ICMP error about the packet in a frame, from whoever got it to whoever sent it; sometimes a strange one."""
    packet = frame[14:]
    if frame[12:14] == b"\x86\xdd":
        inner = IPv6(packet)
        kind = draw(
            st.sampled_from(
                [
                    *(ICMPv6DestUnreach(code=code) for code in (0, 1, 4, 4, 6)),
                    *(ICMPv6PacketTooBig(mtu=mtu) for mtu in (1280, 1500, 70000)),
                    *(ICMPv6TimeExceeded(code=code) for code in (0, 1)),
                    *(ICMPv6ParamProblem(code=code, ptr=at) for code, at in ((0, 4), (0, 7), (0, 41), (1, 6), (2, 0))),
                ]
            )
        )
        quote = packet[: draw(st.sampled_from([40, 47, 48, 48, 56, 60, 1232]))]
        return bytes(IPv6(src=inner.dst, dst=inner.src) / kind / quote)
    inner = IP(packet)
    kind = draw(
        st.sampled_from(
            [
                *(ICMP(type=3, code=code) for code in (0, 1, 2, 3, 3, 9, 13, 14)),
                *(ICMP(type=3, code=4, nexthopmtu=mtu) for mtu in (0, 1280, 1480, 65535)),
                *(ICMP(type=11, code=code) for code in (0, 1)),
                *(ICMP(type=12, code=code, ptr=at) for code, at in ((0, 1), (0, 8), (0, 4), (0, 16), (1, 0), (2, 12))),
                ICMP(type=4),
                ICMP(type=5),
            ]
        )
    )
    quote = packet[: draw(st.sampled_from([20, 24, 27, 28, 28, 28, 40, 548]))]
    source = inner.dst if draw(st.integers(0, 3)) else draw(st.sampled_from(["10.0.1.1", "198.51.100.10", "10.0.2.10"]))
    return bytes(IP(src=source, dst=inner.src) / kind / quote)


def questions(draw: Draw, mac: bytes, own: Sequence[str]) -> bytes:
    """A frame that asks who has an address: ARP or neighbour solicitation, now and then malformed."""
    four, six = [a for a in own if ":" not in a], [a for a in own if ":" in a]
    targets4 = ("10.0.1.1", "10.0.1.10", "10.0.1.4", "10.0.1.200", "10.0.2.1", "10.0.2.22", "10.0.2.77", "10.0.3.1")
    if six and draw(st.booleans()):
        target = draw(st.sampled_from([*EDGES6, "2001:db8:10:1::10", "2001:db8:10:2::21", "2001:db8:10:2::77"]))
        group = in6_getnsma(ip_address(target).packed)
        source = draw(st.sampled_from([six[0], six[0], "::"]))
        to = ip_address(group).compressed
        packet = IPv6(src=source, dst=to, hlim=draw(st.sampled_from([255, 255, 255, 64]))) / ICMPv6ND_NS(tgt=target)
        return b"\x33\x33" + group[12:] + mac + b"\x86\xdd" + damage(draw, bytes(packet), 6)
    target = draw(st.sampled_from([*targets4, *EDGES]))
    source = draw(st.sampled_from(four)) if four and draw(st.integers(0, 9)) else draw(st.sampled_from(EDGES))
    question = ARP(op=draw(st.sampled_from([1, 1, 1, 2])), hwsrc=mac.hex(":"), psrc=source, pdst=target)
    return b"\xff" * 6 + mac + b"\x08\x06" + damage(draw, bytes(question), 6)


def odd_frame(draw: Draw, ether: bytes, own: Sequence[str]) -> bytes:
    """A frame that is wrong in a way of its own."""
    four = next((a for a in own if ":" not in a), "10.0.1.10")
    good = bytes(IP(src=four, dst=draw(st.sampled_from(["198.51.100.10", "10.0.2.10"]))) / UDP(sport=1, dport=2))
    six = next((a for a in own if ":" in a), "2001:db8:10:1::10")
    routing = bytes(IPv6(src=six, dst="2001:db8:99::10") / IPv6ExtHdrRouting(addresses=["::1"]) / UDP())
    chain: Any = IPv6(src=six, dst="2001:db8:99::10")
    for _ in range(9):
        chain = chain / IPv6ExtHdrDestOpt()
    kinds = {
        "short": (ether + b"\x08\x00" + good)[: draw(st.integers(0, 13))],
        "tagged": ether + draw(st.sampled_from([b"\x81\x00", b"\x88\xa8"])) + bytes(4) + good,
        "strange": ether + draw(st.sampled_from([b"\x88\xcc", b"\x08\x07", b"\x00\x26"])) + good,
        "spoofed": ether[:6] + b"\x02\0\0\0\0\x07" + b"\x08\x00" + good,
        "broadcast": b"\xff" * 6 + ether[6:] + b"\x08\x00" + good,
        "multicast6": b"\x33\x33\0\0\0\1" + ether[6:] + b"\x86\xdd" + routing,
        "nobody": b"\x02\0\0\0\0\x09" + ether[6:] + b"\x08\x00" + good,
        "version": ether + b"\x08\x00" + b"\x65" + good[1:],
        "length": ether + b"\x08\x00" + draw(st.sampled_from([b"\x44", b"\x40", b"\x4f"])) + good[1:],
        "checksum": ether + b"\x08\x00" + good[:10] + b"\x12\x34" + good[12:],
        "martian": ether + b"\x08\x00" + bytes(IP(src="127.0.0.1", dst="198.51.100.10") / UDP()),
        "routing": ether + b"\x86\xdd" + routing,
        "chain": ether + b"\x86\xdd" + bytes(chain / UDP()),
        "cut transport": ether + b"\x08\x00" + bytes(IP(src=four, dst="198.51.100.10", proto=17) / b"abc"),
        "arp": b"\xff" * 6 + ether[6:] + b"\x08\x06" + bytes(draw(st.integers(0, 27))),
    }
    return kinds[draw(st.sampled_from(sorted(kinds)))]


def flood(draw: Draw, own: Sequence[str]) -> list[bytes]:
    """More pieces without a first one than an interface may have waiting."""
    four = next((a for a in own if ":" not in a), "10.0.1.10")
    first = draw(st.sampled_from([0, 0x4000]))
    return [bytes(IP(src=four, dst="198.51.100.10", frag=1, proto=17, id=first + n) / bytes(8)) for n in range(66)]

"""Packets of both families that meet a translator, answers and complaints to them, whole and in fragments."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)

from tests.property.nat64_labs import EVERYONE, FOUR, SIX, WELL_KNOWN
from tests.property.test_memo import TYPES, swap_ends

PORTS = (0, 1, 80, 1023, 65535)
SIZES = (
    0,
    1,
    2,
    7,
    100,
    500,
    520,
    1211,
    1212,
    1213,
    1231,
    1232,
    1233,
    1452,
    1460,
    1472,
    1473,
    3000,
    8452,
    8453,
    8472,
    8473,
    8960,
)


@st.composite
def transports(draw: st.DrawFn, six: bool) -> Any:
    """What a packet carries: mostly something that is translated."""
    kind = draw(st.sampled_from(["tcp", "tcp", "udp", "udp", "udp", "echo", "echo", "reply", "other"]))
    ports = {"sport": draw(st.sampled_from(PORTS)), "dport": draw(st.sampled_from(PORTS))}
    data = bytes(draw(st.sampled_from(SIZES)) if draw(st.integers(0, 2)) == 0 else 3)
    wrong: dict[str, Any] = {}
    if draw(st.integers(0, 5)) == 0:
        wrong = {
            "cksum" if six and kind in ("echo", "reply") else "chksum": draw(st.sampled_from([0, 1, 0xFFFF, 0x1234]))
        }
    if kind == "tcp":
        return TCP(**ports, **wrong, flags=draw(st.sampled_from(["S", "S", "S", "A", "A", "FA", "R", "SA"]))) / data
    if kind == "udp":
        return UDP(**ports, **wrong) / data
    identifier = draw(st.sampled_from([0, 7, 1023]))
    if kind in ("echo", "reply"):
        if six:
            return (ICMPv6EchoRequest if kind == "echo" else ICMPv6EchoReply)(id=identifier, data=data, **wrong)
        return ICMP(type=8 if kind == "echo" else 0, id=identifier, **wrong) / data
    return (ICMPv6DestUnreach() if six else ICMP(type=13)) / data


@st.composite
def requests(draw: st.DrawFn, node: str) -> tuple[int, bytes]:
    """A packet of a node's own, to anybody."""
    ttl = draw(st.sampled_from([64, 64, 64, 1, 2, 3, 255]))
    far = draw(st.sampled_from([*WELL_KNOWN, *WELL_KNOWN, *EVERYONE]))
    if node not in SIX or (node == "near" and draw(st.booleans())):
        head4 = IP(
            src=FOUR[node], dst=far, ttl=ttl, id=draw(st.integers(0, 2)), flags=draw(st.sampled_from(["", "DF"]))
        )
        return 4, bytes(head4 / draw(transports(False)))
    head = IPv6(src=SIX[node], dst=f"64:ff9b::{far}", hlim=ttl, tc=draw(st.sampled_from([0, 0x5C])), fl=7)
    chain = draw(st.sampled_from(["", "", "", "", "atomic", "options", "first", "later", "hidden"]))
    upper = draw(transports(True))
    identification = draw(st.sampled_from([1, 0x10001, 0x12345678]))
    if chain == "atomic":
        return 6, bytes(head / IPv6ExtHdrFragment(id=identification) / upper)
    if chain == "options":
        return 6, bytes(head / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / upper)
    if chain in ("first", "hidden"):
        piece = IPv6ExtHdrFragment(id=identification, m=1) / (
            IPv6ExtHdrDestOpt() / upper if chain == "hidden" else upper
        )
        raw = bytes(head / piece)
        raw = raw[: 48 + (len(raw) - 48) // 8 * 8]
        return 6, raw[:4] + (len(raw) - 40).to_bytes(2) + raw[6:]
    if chain == "later":
        follows = draw(st.sampled_from([17, 17, 6, 60]))
        offset = draw(st.sampled_from([1, 2, 185, 8189]))
        return 6, bytes(head / IPv6ExtHdrFragment(id=identification, nh=follows, offset=offset) / bytes(16))
    return 6, bytes(head / upper)


@st.composite
def answers(draw: st.DrawFn, frame: bytes) -> bytes:
    """EtherType and packet with which whoever got a frame answers it, or goes on."""
    back = swap_ends(frame)
    if back[:2] != TYPES[4] or draw(st.booleans()):
        return back
    packet = IP(back[2:])
    head = IP(
        src=packet.src,
        dst=packet.dst,
        tos=draw(st.sampled_from([0, 0xA5])),
        id=draw(st.sampled_from([1, 2])),
        flags=draw(st.sampled_from(["", "", "DF", "MF"])),
        frag=draw(st.sampled_from([0, 0, 0, 0, 1, 185])),
        ttl=draw(st.sampled_from([64, 64, 1, 2])),
    )
    data = bytes(range(256)) * 40
    data = data[: draw(st.sampled_from([*SIZES, 1500, 2000, 3000, 3000, 3000]))]
    if UDP in packet and packet.frag == 0:
        sums = {} if draw(st.booleans()) else {"chksum": 0}
        upper: Any = UDP(sport=packet[UDP].sport, dport=packet[UDP].dport, **sums) / data
    elif TCP in packet and packet.frag == 0:
        flags = draw(st.sampled_from(["A", "SA", "FA", "R", "S"]))
        upper = TCP(sport=packet[TCP].sport, dport=packet[TCP].dport, flags=flags) / data
    elif ICMP in packet and packet.frag == 0:
        upper = ICMP(type=packet[ICMP].type, id=packet[ICMP].id) / data
    else:
        return back
    raw = bytes(head / upper)
    if head.flags.MF:
        size = 20 + (len(raw) - 20) // 8 * 8
        head.len, head.proto = size, packet.proto
        raw = bytes(head / raw[20:size])
    return TYPES[4] + raw


@st.composite
def complaints(draw: st.DrawFn, frame: bytes) -> bytes:
    """EtherType and ICMP error about the packet in a frame."""
    packet = frame[14:]
    if frame[12:14] == TYPES[6]:
        inner = IPv6(packet)
        kind6 = draw(
            st.sampled_from(
                [
                    *(ICMPv6DestUnreach(code=code) for code in range(6)),
                    *(ICMPv6PacketTooBig(mtu=mtu) for mtu in (0, 1280, 1500, 70_000)),
                    *(ICMPv6TimeExceeded(code=code) for code in (0, 1)),
                    *(ICMPv6ParamProblem(code=0, ptr=at) for at in (0, 1, 2, 4, 5, 6, 7, 8, 24, 39, 40)),
                    *(ICMPv6ParamProblem(code=code, ptr=40) for code in (1, 2)),
                ]
            )
        )
        quote = packet[: draw(st.sampled_from([40, 47, 48, 56, 66, 1232]))]
        source = inner.dst if draw(st.integers(0, 4)) else SIX["seven"]
        sum6 = draw(st.sampled_from([{}, {}, {}, {"cksum": 0x1234}]))
        kind6 = kind6.__class__(**{**kind6.fields, **sum6})
        return TYPES[6] + bytes(IPv6(src=source, dst=inner.src, hlim=draw(st.sampled_from([64, 1]))) / kind6 / quote)
    inner4 = IP(packet)
    kind4 = draw(
        st.sampled_from(
            [
                *(ICMP(type=3, code=code) for code in range(17) if code != 4),
                *(ICMP(type=3, code=4, nexthopmtu=mtu) for mtu in (0, 576, 1280, 1480, 65535)),
                *(ICMP(type=11, code=code) for code in (0, 1)),
                *(ICMP(type=12, code=0, ptr=at) for at in (0, 1, 2, 3, 4, 8, 9, 10, 12, 16, 19, 20)),
                *(ICMP(type=12, code=code, ptr=1) for code in (1, 2)),
                ICMP(type=4),
            ]
        )
    )
    quote = packet[: draw(st.sampled_from([20, 27, 28, 36, 40, 548, 1400]))]
    source = inner4.dst if draw(st.integers(0, 3)) else draw(st.sampled_from(sorted(FOUR.values())))
    kind4.chksum = draw(st.sampled_from([None, None, None, 0x1234]))
    return TYPES[4] + bytes(IP(src=source, dst=inner4.src, ttl=draw(st.sampled_from([64, 1]))) / kind4 / quote)


def cut6(packet: bytes, identification: int, size: int = 1232) -> list[bytes]:
    """An IPv6 packet in fragments of `size` bytes of payload (RFC 8200, 4.5)."""
    found, body = [], packet[40:]
    for at in range(0, len(body), size):
        part, more = body[at : at + size], at + size < len(body)
        extension = bytes([packet[6], 0]) + (at | more).to_bytes(2) + identification.to_bytes(4)
        found.append(packet[:4] + (8 + len(part)).to_bytes(2) + bytes([44]) + packet[7:40] + extension + part)
    return found


@st.composite
def pieces(draw: st.DrawFn, frame: bytes) -> list[bytes]:
    """EtherType and packet of each fragment of a large answer to a frame, in some order."""
    packet: Any = (IP if frame[12:14] == TYPES[4] else IPv6)(frame[14:])
    if UDP not in packet:
        return []
    sums = {} if draw(st.integers(0, 2)) else {"chksum": 0}
    upper = UDP(sport=packet[UDP].dport, dport=packet[UDP].sport, **sums) / bytes(
        draw(st.sampled_from([1300, 3000, 4001]))
    )
    if frame[12:14] == TYPES[4]:
        whole: Any = IP(src=packet.dst, dst=packet.src, id=draw(st.integers(1, 2)), proto=17) / upper
        found = [TYPES[4] + bytes(piece) for piece in fragment(whole, draw(st.sampled_from([576, 1480, 8000])))]
    else:
        whole = IPv6(src=packet.dst, dst=packet.src) / upper
        found = [TYPES[6] + piece for piece in cut6(bytes(whole), draw(st.sampled_from([1, 0x10001])))]
    return draw(st.permutations(found)) if draw(st.booleans()) else found

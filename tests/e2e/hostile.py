"""What root in an instance can put on the wire, drawn from the edges of the network around it.

`TRICKS` are known ones, each with what the network says of it; `sendings` draws any, with and without offload headers.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, LLC, Dot1AD, Dot1Q, Dot3, Ether
from scapy.packet import NoPayload, Packet, Raw

from dataplane.verdict import Reason

logging.getLogger("scapy.runtime").setLevel(logging.ERROR)  # it warns of what does not go together

TOKEN = b"hostile!"
"""In all that a hostile instance sends, where there is room for it."""
MTU = 9001
ADMITTED, ECHO, TALK, OWN_PORT = 7000, 7001, 7002, 7003
"""The neighbour's UDP port that admits the hostile instance; the server's for datagrams and for TCP, which admit the
neighbour only; and the neighbour's end of both."""
BROADCAST, ALL_NODES, ALL_NODES6 = "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "33:33:00:00:00:01"
VNET = struct.Struct("=BBHHHH")
"""``struct virtio_net_hdr``: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset."""
PLAIN = bytes(VNET.size)


@dataclass(frozen=True, kw_only=True)
class Party:
    """An interface."""

    mac: str
    address4: str
    address6: str


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a hostile instance knows of its network, which is everything."""

    own: Party
    router: Party
    neighbour: Party
    server: Party
    stranger: Party
    """In another VPC, with the neighbour's addresses."""

    @property
    def parties(self) -> tuple[Party, ...]:
        """All of them."""
        return self.own, self.router, self.neighbour, self.server, self.stranger


def to(who: Surroundings, *layers: Any, destination: str = "", source: str = "") -> Packet:
    """A frame: from the instance's own MAC to the neighbour's, unless something else is said."""
    frame: Packet = Ether(src=source or who.own.mac, dst=destination or who.neighbour.mac)
    for layer in layers:
        frame = frame / layer
    return frame


def datagram(who: Surroundings, *, source: str = "") -> Packet:
    """One that the neighbour admits, when it is from who it says."""
    made = IP(src=source or who.own.address4, dst=who.neighbour.address4) / UDP(sport=5, dport=ADMITTED)
    return made / Raw(TOKEN + bytes(22))


def honest(who: Surroundings, words: bytes) -> bytes:
    """A frame that arrives at the neighbour."""
    return bytes(
        to(who, IP(src=who.own.address4, dst=who.neighbour.address4), UDP(sport=5, dport=ADMITTED), Raw(words))
    )


def _is_at(mac: str, address: str) -> Packet:
    """A gratuitous ARP: everybody, `address` is at `mac` (RFC 5227, section 3)."""
    return ARP(op=2, hwsrc=mac, psrc=address, hwdst=BROADCAST, pdst=address)


def _advertisement(who: Surroundings, address: str) -> Packet:
    head = IPv6(src=address, dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt=address, R=1, S=0, O=1)
    return head / ICMPv6NDOptDstLLAddr(lladdr=who.own.mac)


def _router_advertisement(who: Surroundings) -> Packet:
    head = IPv6(src="fe80::666", dst="ff02::1", hlim=255) / ICMPv6ND_RA(prf=1, routerlifetime=9000)
    return (
        head / ICMPv6NDOptSrcLLAddr(lladdr=who.own.mac) / ICMPv6NDOptPrefixInfo(prefix="2001:db8:666::", prefixlen=64)
    )


def _redirect(who: Surroundings) -> Packet:
    inner = IP(src=who.neighbour.address4, dst="198.51.100.10") / UDP()
    return IP(src=who.router.address4, dst=who.neighbour.address4) / ICMP(type=5, code=1, gw=who.own.address4) / inner


def _reset(who: Surroundings) -> Packet:
    head = IP(src=who.server.address4, dst=who.neighbour.address4)
    return head / TCP(sport=TALK, dport=OWN_PORT, flags="R", seq=1) / Raw(TOKEN)


Trick = Callable[[Surroundings], Packet]
TRICKS: dict[str, tuple[Reason, Trick]] = {
    "the gateway's MAC as source": (
        Reason.SOURCE_MAC_SPOOFED,
        lambda who: to(who, datagram(who), source=who.router.mac),
    ),
    "a neighbour's MAC as source": (
        Reason.SOURCE_MAC_SPOOFED,
        lambda who: to(who, datagram(who), source=who.server.mac),
    ),
    "the receiver's own MAC as source": (
        Reason.SOURCE_MAC_SPOOFED,
        lambda who: to(who, datagram(who), source=who.neighbour.mac),
    ),
    "a neighbour's address as source": (
        Reason.SOURCE_CHECK,
        lambda who: to(who, datagram(who, source=who.server.address4)),
    ),
    "a neighbour's address, by way of the router": (
        Reason.SOURCE_CHECK,
        lambda who: to(who, datagram(who, source=who.server.address4), destination=who.router.mac),
    ),
    "a reset in a neighbour's name": (Reason.SOURCE_CHECK, lambda who: to(who, _reset(who))),
    "a redirect in the router's name": (Reason.SOURCE_CHECK, lambda who: to(who, _redirect(who))),
    "the router is here (ARP to all)": (
        Reason.ARP_UNANSWERED,
        lambda who: to(who, _is_at(who.own.mac, who.router.address4), destination=BROADCAST),
    ),
    "a neighbour is here (ARP to all)": (
        Reason.ARP_UNANSWERED,
        lambda who: to(who, _is_at(who.own.mac, who.server.address4), destination=BROADCAST),
    ),
    "a neighbour is here (ARP to one)": (
        Reason.ARP_UNANSWERED,
        lambda who: to(who, _is_at(who.own.mac, who.server.address4)),
    ),
    "the router is here (IPv6)": (
        Reason.ND_UNANSWERED,
        lambda who: to(who, _advertisement(who, who.router.address6), destination=ALL_NODES6),
    ),
    "a neighbour is here (IPv6)": (
        Reason.ND_UNANSWERED,
        lambda who: to(who, _advertisement(who, who.server.address6), destination=ALL_NODES6),
    ),
    "a neighbour is here (IPv6 to one)": (
        Reason.ND_UNANSWERED,
        lambda who: to(who, _advertisement(who, who.server.address6)),
    ),
    "I am your router (IPv6)": (
        Reason.ND_UNANSWERED,
        lambda who: to(who, _router_advertisement(who), destination=ALL_NODES6),
    ),
    "I am your router (IPv6 to one)": (Reason.ND_UNANSWERED, lambda who: to(who, _router_advertisement(who))),
    "a VLAN tag": (Reason.VLAN_TAGGED, lambda who: to(who, Dot1Q(vlan=1), datagram(who))),
    "two VLAN tags": (Reason.VLAN_TAGGED, lambda who: to(who, Dot1AD(vlan=1), Dot1Q(vlan=2), datagram(who))),
    "to everybody": (Reason.L2_MULTICAST, lambda who: to(who, datagram(who), destination=BROADCAST)),
    "to a group": (Reason.L2_MULTICAST, lambda who: to(who, datagram(who), destination=ALL_NODES)),
    "to a MAC of another VPC": (
        Reason.L2_DESTINATION_UNKNOWN,
        lambda who: to(who, datagram(who), destination=who.stranger.mac),
    ),
    "LLC": (
        Reason.ETHERTYPE_UNSUPPORTED,
        lambda who: Dot3(src=who.own.mac, dst=who.neighbour.mac) / LLC(dsap=0x42, ssap=0x42, ctrl=3) / Raw(TOKEN),
    ),
    "another protocol": (
        Reason.ETHERTYPE_UNSUPPORTED,
        lambda who: Ether(src=who.own.mac, dst=who.neighbour.mac, type=0x88B5) / Raw(TOKEN),
    ),
    "a server's port that is not open": (
        Reason.GROUP_INGRESS,
        lambda who: to(
            who,
            IP(src=who.own.address4, dst=who.server.address4),
            UDP(dport=ECHO),
            Raw(TOKEN),
            destination=who.server.mac,
        ),
    ),
}

# -- drawn -----------------------------------------------------------------------------------------------------------

_ADDRESSES = (
    *("10.0.1.0", "10.0.1.1", "10.0.1.2", "10.0.1.255", "10.0.2.1", "10.0.255.255", "10.1.1.11", "0.0.0.0"),
    *("127.0.0.1", "169.254.169.254", "198.51.100.10", "203.0.113.20", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
)
_ADDRESSES6 = (
    *("::", "::1", "fe80::1", "fe80:ec2::1", "ff02::1", "ff02::1:ff00:11", "2001:db8:0:1::", "2001:db8:0:1::ff"),
    *("2001:db8:99::10", "::ffff:10.0.1.11", "64:ff9b::a00:10b", "fd00:ec2::254"),
)
_PORTS = (0, 1, 5, 53, 67, 68, ADMITTED - 1, ADMITTED, ECHO, TALK, OWN_PORT, 6081, 65535)
_SIZES = (0, 1, 2, 7, 8, 17, 18, 26, 1400, 1472, 1473, 8972, 8973, MTU - 40, MTU - 28, MTU - 27)
_LARGE = (9000, 20000, 65000, 65300)
_EDGES16 = (0, 1, 13, 14, 18, 20, 33, 34, 40, 42, 54, 62, 74, 536, 1460, 8960, 9001, 32767, 65534, 65535)


class _Draws:
    """One drawn frame in the making."""

    def __init__(self, draw: Any, who: Surroundings) -> None:
        self.draw, self.who = draw, who

    def one(self, *of: Any) -> Any:
        return self.draw(st.sampled_from(of))

    def mac(self) -> str:
        known = [party.mac for party in self.who.parties]
        return str(self.one(*known, BROADCAST, ALL_NODES, ALL_NODES6, "00:00:00:00:00:00", "02:00:00:00:00:09"))

    def address(self) -> str:
        own = self.who.own.address4
        return str(self.one(own, own, own, *(party.address4 for party in self.who.parties), *_ADDRESSES))

    def address6(self) -> str:
        own = self.who.own.address6
        return str(self.one(own, own, own, *(party.address6 for party in self.who.parties), *_ADDRESSES6))

    def transport(self, size: int) -> Any:
        body = Raw((TOKEN + bytes(size))[:size])
        kind = self.one("udp", "udp", "tcp", "icmp", "icmp6", "none")
        if kind == "none":
            return body
        if kind == "icmp":
            return ICMP(type=self.one(0, 3, 5, 8, 11, 13, 255), code=self.one(0, 1, 4), id=self.one(0, 1)) / body
        if kind == "icmp6":
            return ICMPv6EchoRequest() / body
        ports = {"sport": self.one(*_PORTS), "dport": self.one(*_PORTS)}
        if kind == "udp":
            return UDP(**ports, **self.one({}, {}, {"len": self.one(*_EDGES16)}, {"chksum": 0})) / body
        return (
            TCP(**ports, flags=self.one("S", "SA", "A", "R", "F", "", "SFRPAU"), **self.one({}, {"dataofs": 15})) / body
        )

    def packet4(self, size: int) -> Any:
        odd = self.one(
            *[{}] * 8, {"ttl": 0}, {"ttl": 1}, {"flags": "MF"}, {"frag": 1}, {"frag": 8190, "flags": "MF"},
            {"flags": "DF"}, {"ihl": 4}, {"ihl": 15}, {"len": 65535}, {"len": 19}, {"version": 6}, {"chksum": 1},
            {"proto": 0}, {"options": [IPOption(b"\x83\x07\x04\x0a\x00\x01\x0b")]},
            {"options": [IPOption(b"\x07\x27\x04" + bytes(36))]},
        )  # fmt: skip
        return IP(src=self.address(), dst=self.address(), **odd) / self.transport(size)

    def packet6(self, size: int) -> Any:
        head = IPv6(src=self.address6(), dst=self.address6(), hlim=self.one(0, 1, 64, 255))
        for _ in range(self.one(0, 0, 0, 1, 2, 9)):
            made = self.one(IPv6ExtHdrHopByHop, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrRouting)()
            head = head / made
        return head / self.transport(size)

    def arp(self) -> Any:
        return ARP(
            op=self.one(0, 1, 2, 3, 9, 65535),
            **{"hwsrc": self.mac(), "hwdst": self.mac(), "psrc": self.address(), "pdst": self.address()},
            **self.one({}, {}, {}, {"hwlen": 0}, {"plen": 16}, {"hwtype": 6}),
        )  # fmt: skip

    def discovery(self) -> Any:
        head = IPv6(src=self.address6(), dst=self.address6(), hlim=self.one(255, 255, 255, 64))
        kind, tgt = self.one("na", "ns", "ra", "redirect"), self.address6()
        told = {
            "na": ICMPv6ND_NA(tgt=tgt, R=1, O=1) / ICMPv6NDOptDstLLAddr(lladdr=self.mac()),
            "ns": ICMPv6ND_NS(tgt=tgt) / ICMPv6NDOptSrcLLAddr(lladdr=self.mac()),
            "ra": ICMPv6ND_RA(prf=1) / ICMPv6NDOptSrcLLAddr(lladdr=self.mac()),
            "redirect": ICMPv6ND_Redirect(tgt=tgt, dst=self.address6()) / ICMPv6NDOptDstLLAddr(lladdr=self.mac()),
        }
        return head / told[kind]

    def nearly_honest(self) -> Packet:
        """What the neighbour admits, with one or two lies."""
        lies = {
            self.one("source", "destination", "from", "to", "port", "family", "tag") for _ in range(self.one(1, 1, 2))
        }
        who = self.who
        source = self.mac() if "source" in lies else who.own.mac
        frame = Ether(src=source, dst=self.mac() if "destination" in lies else who.neighbour.mac)
        if "tag" in lies:
            frame = frame / self.one(Dot1Q, Dot1AD)(vlan=self.one(0, 1, 4095))
        if "family" in lies:
            frame = frame / IPv6(
                src=self.address6() if "from" in lies else who.own.address6, dst=who.neighbour.address6
            )
        else:
            ends = {"src": self.address() if "from" in lies else who.own.address4}
            frame = frame / IP(**ends, dst=self.address() if "to" in lies else who.neighbour.address4)
        port = self.one(*_PORTS) if "port" in lies else ADMITTED
        return frame / UDP(sport=self.one(*_PORTS), dport=port) / Raw(TOKEN)

    def anything(self) -> Packet:
        """Layers that may have nothing to do with each other."""
        size = self.one(*_SIZES, *_LARGE)
        inside = self.one(
            lambda: self.packet4(size), lambda: self.packet4(size), lambda: self.packet6(size), self.arp,
            self.discovery, lambda: Raw(TOKEN + bytes(size)), NoPayload,
        )()  # fmt: skip
        destination = self.one(self.mac, lambda: self.who.neighbour.mac, lambda: self.who.router.mac)()
        frame: Packet = Ether(src=self.one(*[self.who.own.mac] * 6, self.mac()), dst=destination)
        for _ in range(self.one(*[0] * 12, 1, 2, 3)):
            frame = frame / self.one(Dot1Q, Dot1AD)(vlan=self.one(0, 1, 4095))
        return frame / inside

    def frame(self) -> bytes:
        octets = bytearray(bytes(self.one(self.nearly_honest, self.anything, self.anything)()))
        how = self.one(*["whole"] * 12, "cut", "changed", "length")
        if how == "cut":
            del octets[self.draw(st.integers(0, min(len(octets), 80))) :]
        elif how == "changed":
            octets[self.draw(st.integers(0, min(len(octets), 80) - 1))] = self.one(0, 1, 4, 0x7F, 0x80, 0xFF)
        elif how == "length":
            octets[12:14] = self.one(0, 1, 46, 1500, 1501, 0x600).to_bytes(2, "big")
        return bytes(octets)

    def offload(self, frame: bytes) -> bytes:
        """None, one that would fit TCP or UDP, or that with one or two lies in it: kernels refuse most others."""
        if self.one(True, False, False):
            return PLAIN
        six = frame[12:14] == b"\x86\xdd"
        start = 14 + (40 if six else 20)
        tcp = frame[20:21] == b"\x06" if six else frame[23:24] == b"\x06"
        kind = (4 if six else 1) if tcp else self.one(0, 5)
        fields = [1, kind, start + (20 if tcp else 8), self.one(536, 1448, 8949), start, 16 if tcp else 6]
        for _ in range(self.one(0, 0, 1, 1, 2)):
            at = self.one(0, 1, 2, 3, 4, 5)
            own = (0, 1, 2, 4, 0xFF) if at == 0 else (0, 1, 3, 4, 5, 0x80, 0x81, 0x84, 0xFF) if at == 1 else _EDGES16
            fields[at] = self.one(*own)
        return VNET.pack(*fields)


@dataclass(frozen=True)
class Sending:
    """An Ethernet frame, and the offload header in front of it as a packet socket takes it (packet(7))."""

    offload: bytes
    frame: bytes

    def __repr__(self) -> str:
        return f"<offload {VNET.unpack(self.offload)}, {len(self.frame)} octets {self.frame[:100].hex()}>"


@st.composite
def sendings(draw: Any, who: Surroundings) -> Sending:
    """Anything that root of an instance may try to send."""
    draws = _Draws(draw, who)
    frame = draws.frame()
    return Sending(draws.offload(frame), frame)

"""Probe packets for traces, and the answers a receiver would give: plain frames built byte by byte."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import ip_address

from dataplane.errors import VpclabError
from dataplane.program import Address
from dataplane.trace import Packet

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
ECHO_REQUEST = {4: 8, 6: 128}
ECHO_REPLY = {4: 0, 6: 129}
TRACE_SOURCE_PORT = 40000
_NUMBERS = {"tcp": TCP, "udp": UDP, "icmp": ICMP, "icmpv6": ICMPV6}
_NAMES = {number: name for name, number in _NUMBERS.items()}
_HEADERS = {TCP: 20, UDP: 8, ICMP: 8, ICMPV6: 8}
_FILLING = bytes(8)
"""Of packets of other protocols, if they are to have no payload."""
_SYN, _SYN_ACK = 0x02, 0x12


def protocol_number(text: str) -> int:
    """Read ``tcp``, ``udp``, ``icmp``, ``icmpv6`` or a number 0-255.

    Raises:
        VpclabError: anything else.
    """
    if text.lower() in _NUMBERS:
        return _NUMBERS[text.lower()]
    if text.isascii() and text.isdigit() and int(text) < 256:
        return int(text)
    raise VpclabError(f"no such protocol: {text!r}; write tcp, udp, icmp, icmpv6 or a number from 0 to 255")


def ports_of(protocol: int, port: int | None, source_port: int | None) -> tuple[int, int]:
    """Return source and destination port of a probe; an echo request has its identifier for the first of them.

    Raises:
        VpclabError: one is asked for that the protocol does not have: it would be ignored.
    """
    has_ports = protocol in (TCP, UDP)
    if port is not None and not has_ports:
        raise VpclabError(f"a port means nothing for protocol {_NAMES.get(protocol, protocol)}; leave it out")
    if source_port is not None and not has_ports and protocol not in (ICMP, ICMPV6):
        raise VpclabError(f"a source port means nothing for protocol {protocol}; leave it out")
    if not has_ports and protocol not in (ICMP, ICMPV6):
        return 0, 0
    return (
        TRACE_SOURCE_PORT if source_port is None else source_port,
        (80 if port is None else port) if has_ports else 0,
    )


def checksum(data: bytes) -> int:
    """The Internet checksum of RFC 1071, complemented."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One packet to trace. `source_port` is the identifier of an ICMP echo; ports are 0 where there are none."""

    source: Address
    destination: Address
    protocol: int
    source_port: int = 0
    destination_port: int = 0
    tcp_flags: int = _SYN
    is_reply: bool = False
    payload: bytes = b""
    ttl: int = 64
    dont_fragment: bool = True

    @property
    def length_behind_ip(self) -> int:
        """Bytes that follow the IP header in `frame`."""
        header = _HEADERS.get(self.protocol)
        return len(self.payload or _FILLING) if header is None else header + len(self.payload)

    def answer(self) -> Probe:
        """What a host that gets this packet sends back: SYN+ACK, echo reply, or the same with the ends swapped."""
        echo = self.protocol in (ICMP, ICMPV6)
        return Probe(
            source=self.destination,
            destination=self.source,
            protocol=self.protocol,
            source_port=self.source_port if echo else self.destination_port,
            destination_port=0 if echo else self.source_port,
            tcp_flags=_SYN_ACK,
            is_reply=True,
            payload=self.payload,
        )

    def frame(self, source_mac: bytes, destination_mac: bytes) -> bytes:
        """The Ethernet frame, checksums filled in."""
        version = self.source.version
        l4 = self._l4()
        if version == 4:
            flags = 0x4000 if self.dont_fragment else 0
            head = struct.pack(
                ">BBHHHBBH4s4s",
                0x45,
                0,
                20 + len(l4),
                0,
                flags,
                self.ttl,
                self.protocol,
                0,
                self.source.packed,
                self.destination.packed,
            )
            head = head[:10] + struct.pack(">H", checksum(head)) + head[12:]
            return destination_mac + source_mac + b"\x08\x00" + head + l4
        head = struct.pack(
            ">IHBB16s16s", 6 << 28, len(l4), self.protocol, self.ttl, self.source.packed, self.destination.packed
        )
        return destination_mac + source_mac + b"\x86\xdd" + head + l4

    def _l4(self) -> bytes:
        if self.protocol == TCP:
            segment = struct.pack(
                ">HHIIBBHHH", self.source_port, self.destination_port, 1, 0, 0x50, self.tcp_flags, 64240, 0, 0
            )
            return self._sealed(segment + self.payload, 16)
        if self.protocol == UDP:
            return self._sealed(
                struct.pack(">HHHH", self.source_port, self.destination_port, 8 + len(self.payload), 0) + self.payload,
                6,
            )
        if (self.protocol, self.source.version) in ((ICMP, 4), (ICMPV6, 6)):
            kind = (ECHO_REPLY if self.is_reply else ECHO_REQUEST)[self.source.version]
            return self._sealed(struct.pack(">BBHHH", kind, 0, 0, self.source_port, 1) + self.payload, 2)
        return self.payload or _FILLING

    def _sealed(self, l4: bytes, at: int) -> bytes:
        pseudo = b""
        if self.protocol != ICMP:
            ends = self.source.packed + self.destination.packed
            pseudo = ends + struct.pack(">I", len(l4)) + struct.pack(">I", self.protocol)
        return l4[:at] + struct.pack(">H", checksum(pseudo + l4) or 0xFFFF) + l4[at + 2 :]


def read_probe(frame: bytes) -> Probe:
    """The probe that has arrived as `frame` (one that `Probe.frame` built and the router edited)."""
    version = 4 if frame[12:14] == b"\x08\x00" else 6
    if version == 4:
        protocol, ttl = frame[23], frame[22]
        ends = frame[26:30], frame[30:34]
        l4 = frame[34:]
    else:
        protocol, ttl = frame[20], frame[21]
        ends = frame[22:38], frame[38:54]
        l4 = frame[54:]
    source_port = destination_port = 0
    is_reply = False
    if protocol in (TCP, UDP):
        source_port, destination_port = struct.unpack(">HH", l4[:4])
    elif protocol in (ICMP, ICMPV6):
        source_port = struct.unpack(">H", l4[4:6])[0]
        is_reply = l4[0] == ECHO_REPLY[version]
    return Probe(
        source=ip_address(ends[0]),
        destination=ip_address(ends[1]),
        protocol=protocol,
        source_port=source_port,
        destination_port=destination_port,
        ttl=ttl,
        is_reply=is_reply,
        payload=l4[20:] if protocol == TCP else l4[8:] if protocol in (UDP, ICMP, ICMPV6) else l4,
    )


def as_packet(probe: Probe, source: Address, destination: Address, ports: tuple[int, int]) -> Packet:
    """The packet of a trace step: `probe` with the addresses and ports it has at that step.

    Addresses of the other version: there it has been translated (RFC 7915).
    """
    icmp, version, protocol = None, source.version, probe.protocol
    if version != probe.source.version:
        protocol = {ICMP: ICMPV6, ICMPV6: ICMP}.get(protocol, protocol)
    shown: tuple[int | None, int | None] = (None, None)
    if probe.protocol in (TCP, UDP):
        shown = ports
    elif probe.protocol in (ICMP, ICMPV6):
        icmp = ((ECHO_REPLY if probe.is_reply else ECHO_REQUEST)[version], 0)
    return Packet(
        protocol=protocol,
        source=str(source),
        destination=str(destination),
        source_port=shown[0],
        destination_port=shown[1],
        icmp=icmp,
        ttl=probe.ttl,
        length_bytes=(20 if version == 4 else 40) + probe.length_behind_ip,
    )

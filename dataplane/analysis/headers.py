"""As much of a frame as tells whose it is: the flow it belongs to, and the one that an error or a tunnel is about."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import NamedTuple

from dataplane.probe import ICMP, ICMPV6, TCP, UDP
from dataplane.trace import protocol_name

ETHERNET = 14
GENEVE_PORT = 6081
_ARP, _IPV4, _IPV6 = b"\x08\x06", b"\x08\x00", b"\x86\xdd"
_ERRORS = {ICMP: frozenset({3, 5, 11, 12}), ICMPV6: frozenset({1, 2, 3, 4})}
_ECHOES = {ICMP: frozenset({0, 8}), ICMPV6: frozenset({128, 129})}
_RST = 0x04


class Flow(NamedTuple):
    """Addresses, protocol and ports of a packet; of an echo the identifier stands as source port."""

    protocol: int
    source: bytes
    """4 or 16 bytes."""
    destination: bytes
    source_port: int
    destination_port: int

    def reversed(self) -> Flow:
        """The flow of answers."""
        ports = (self.destination_port, self.source_port)
        if self.protocol in (ICMP, ICMPV6):
            ports = (self.source_port, self.destination_port)
        return Flow(self.protocol, self.destination, self.source, *ports)

    def __str__(self) -> str:
        source, destination = str(ip_address(self.source)), str(ip_address(self.destination))
        if self.protocol in (TCP, UDP):
            shown = [f"[{each}]" if ":" in each else each for each in (source, destination)]
            source, destination = f"{shown[0]}:{self.source_port}", f"{shown[1]}:{self.destination_port}"
        return f"{protocol_name(self.protocol)} {source} > {destination}"


@dataclass(frozen=True, slots=True)
class Headers:
    """What a frame says."""

    flow: Flow | None = None
    """None: not IP, or cut short."""
    about: Flow | None = None
    """Of an ICMP error: the flow of the packet that it is about."""
    inside: Flow | None = None
    """The flow of what is in it, if it is a GENEVE packet: any UDP packet to that port may look like one."""
    asked: bytes | None = None
    """Of an ARP or neighbour question: the address asked for."""
    refuses: bool = False
    """A TCP reset."""


def read_headers(frame: bytes) -> Headers:
    """Read an Ethernet frame; what cannot be read is left out."""
    kind, packet = frame[12:ETHERNET], frame[ETHERNET:]
    if kind == _ARP:
        return Headers(asked=packet[24:28]) if packet[6:8] == b"\0\1" and len(packet) >= 28 else Headers()
    if kind not in (_IPV4, _IPV6):
        return Headers()
    return _read_packet(packet)


def _read_packet(packet: bytes) -> Headers:
    try:
        flow, body = _read_flow(packet)
    except (IndexError, struct.error):
        return Headers()
    found = Headers(flow)
    try:
        if flow.protocol in _ERRORS and body[0] in _ERRORS[flow.protocol]:
            return replace(found, about=_read_flow(body[8:])[0])
        if flow.protocol == ICMPV6 and body[0] == 135 and len(body) >= 24:
            return replace(found, asked=body[8:24])
        if flow.protocol == UDP and flow.destination_port == GENEVE_PORT:
            return replace(found, inside=_read_flow(body[16 + 4 * (body[8] & 0x3F) :])[0])
        return replace(found, refuses=flow.protocol == TCP and bool(body[13] & _RST))
    except (IndexError, struct.error):
        return found


def _read_flow(packet: bytes) -> tuple[Flow, bytes]:
    """The flow of an IP packet and what follows its header; IndexError or struct.error when it is cut short."""
    if packet[0] >> 4 == 4:
        protocol, ends, body = packet[9], (packet[12:16], packet[16:20]), packet[(packet[0] & 15) * 4 :]
    else:
        protocol, ends, body = packet[6], (packet[8:24], packet[24:40]), packet[40:]
    if len(ends[1]) != len(ends[0]) or not ends[0]:
        raise IndexError
    source_port = destination_port = 0
    if protocol in (TCP, UDP):
        source_port, destination_port = struct.unpack_from(">HH", body)
    elif protocol in _ECHOES and body[0] in _ECHOES[protocol]:
        (source_port,) = struct.unpack_from(">H", body, 4)
    return Flow(protocol, *ends, source_port, destination_port), body


def forwarded(frame: bytes, source_mac: bytes, destination_mac: bytes) -> bytes:
    """Return the frame as a host sends it on that forwards it: TTL one lower, other MACs."""
    kind, packet = frame[12:ETHERNET], bytearray(frame[ETHERNET:])
    if kind == _IPV4:
        packet[8] -= 1
        total = int.from_bytes(packet[10:12]) + 0x0100  # RFC 1624: the TTL is the upper byte of its word
        packet[10:12] = ((total & 0xFFFF) + (total >> 16)).to_bytes(2)
    else:
        packet[7] -= 1
    return destination_mac + source_mac + kind + packet


def time_to_live(frame: bytes) -> int:
    """The TTL, or hop limit, of the IP packet in a frame."""
    return frame[ETHERNET + (8 if frame[12:ETHERNET] == _IPV4 else 7)]


def sent_back(frame: bytes, source_mac: bytes, destination_mac: bytes) -> bytes:
    """Return a GENEVE frame as a target sends it back: addresses swapped, ports not, so both checksums stay right."""
    return destination_mac + source_mac + frame[12:26] + frame[30:34] + frame[26:30] + frame[34:]

"""Change addresses, ports and TTL of a packet: what gateways do (RFC 3022, RFC 5508 for what ICMP errors quote).

Every change is made to the bytes, and each checksum that covers them is summed up anew.
"""

from __future__ import annotations

from dataclasses import replace

from dataplane.reference.checksum import Address, carried_over, checksum, pseudo_header
from dataplane.reference.flow import Flow
from dataplane.reference.packets import ICMP, ICMPV6, TCP, UDP, Packet

CHECKSUM_AT = {TCP: 16, UDP: 6, ICMP: 2, ICMPV6: 2}


def translate(packet: Packet, flow: Flow) -> Packet:
    """The packet with the addresses and ports (ICMP: identifier) of `flow`."""
    raw = bytearray(packet.raw)
    _write_addresses(raw, 0, flow)
    if packet.version == 4:
        _sum_header(raw, packet.transport)
    if not packet.is_later_fragment:
        _write_ports(raw, packet.transport, packet.flow, flow)
        covered = _covered(packet.raw, packet.transport, packet.protocol, packet.source, packet.destination)
        changed = _covered(bytes(raw), packet.transport, packet.protocol, flow.source, flow.destination)
        _sum_transport(raw, packet.transport, packet.protocol, covered, changed)
    return replace(
        packet,
        raw=bytes(raw),
        source=flow.source,
        destination=flow.destination,
        source_port=flow.source_port,
        destination_port=flow.destination_port,
    )


def translate_quoted(packet: Packet, flow: Flow) -> Packet:
    """The ICMP error, about the same packet of `flow`; packets that are no such error stay as they are."""
    quoted = packet.quoted
    if quoted is None:
        return packet
    if packet.is_later_fragment:  # what is quoted stands in the first one
        return replace(packet, quoted=replace(quoted, flow=flow))
    before, old = packet.raw, quoted.flow
    raw = bytearray(before)
    _write_addresses(raw, quoted.at, flow)
    if flow.source.version == 4:
        header = slice(quoted.at, quoted.transport)
        raw[quoted.at + 10 : quoted.at + 12] = carried_over(before[header], bytes(raw[header]), 10).to_bytes(2)
    if quoted.is_identified:
        _write_ports(raw, quoted.transport, old, flow)
        covered = _covered(before, quoted.transport, old.protocol, old.source, old.destination)
        changed = _covered(bytes(raw), quoted.transport, old.protocol, flow.source, flow.destination)
        _sum_transport(raw, quoted.transport, old.protocol, covered, changed)
    covered = _covered(before, packet.transport, packet.protocol, packet.source, packet.destination)
    changed = _covered(bytes(raw), packet.transport, packet.protocol, packet.source, packet.destination)
    _sum_transport(raw, packet.transport, packet.protocol, covered, changed)
    return replace(packet, raw=bytes(raw), quoted=replace(quoted, flow=flow))


def decrement_ttl(packet: Packet) -> Packet:
    """The packet one hop further."""
    raw = bytearray(packet.raw)
    raw[8 if packet.version == 4 else 7] = packet.ttl - 1
    if packet.version == 4:
        _sum_header(raw, packet.transport)
    return replace(packet, raw=bytes(raw), ttl=packet.ttl - 1)


def _write_addresses(raw: bytearray, at: int, flow: Flow) -> None:
    first, size = (12, 4) if flow.source.version == 4 else (8, 16)
    raw[at + first : at + first + 2 * size] = flow.source.packed + flow.destination.packed


def _write_ports(raw: bytearray, at: int, old: Flow, flow: Flow) -> None:
    if old.protocol in (TCP, UDP):
        raw[at : at + 4] = flow.source_port.to_bytes(2) + flow.destination_port.to_bytes(2)
    elif 0 < old.query < 256:
        raw[at + 4 : at + 6] = flow.source_port.to_bytes(2)


def _covered(raw: bytes, at: int, protocol: int, source: Address, destination: Address) -> bytes:
    """What the transport checksum covers; ICMP for IPv4 covers itself alone."""
    body = raw[at:]
    return body if protocol == ICMP else pseudo_header(source, destination, protocol, len(body)) + body


def _sum_header(raw: bytearray, length: int) -> None:
    raw[10:12] = b"\0\0"
    raw[10:12] = checksum(bytes(raw[:length])).to_bytes(2)


def _sum_transport(raw: bytearray, at: int, protocol: int, covered: bytes, changed: bytes) -> None:
    if protocol not in CHECKSUM_AT:
        return
    field = at + CHECKSUM_AT[protocol]
    if field + 2 > len(raw) or covered == changed:
        return  # an ICMP error quotes less than the checksum field of TCP
    if protocol == UDP and raw[field : field + 2] == b"\0\0":
        return  # the sender did without (RFC 768)
    prefix = len(changed) - (len(raw) - at)
    value = carried_over(covered, changed, prefix + CHECKSUM_AT[protocol])
    raw[field : field + 2] = (0xFFFF if protocol == UDP and value == 0 else value).to_bytes(2)

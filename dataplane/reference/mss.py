"""MSS clamping: who opens a TCP connection through a VPC endpoint is told not to send segments too large for it.

The MSS is what the MTU leaves after an IP and a TCP header without options (RFC 879, RFC 6691); it is lowered only.
https://docs.aws.amazon.com/vpc/latest/privatelink/vpc-limits-endpoints.html
"""

from __future__ import annotations

from dataclasses import replace

from dataplane.reference.checksum import carried_over
from dataplane.reference.packets import SYN, TCP, Packet

HEADERS = {4: 40, 6: 60}
"""Bytes of an IP and a TCP header."""
END, NOTHING, MAXIMUM_SEGMENT_SIZE = 0, 1, 2
CHECKSUM_AT = 16


def clamp(packet: Packet, mtu: int) -> Packet:
    """The packet, whose sender asks for segments that fit into `mtu`, if it is a SYN (with or without ACK)."""
    if packet.protocol != TCP or packet.is_later_fragment or not packet.tcp_flags & SYN:
        return packet
    before = packet.raw[packet.transport :]
    after = bytearray(before)
    most = mtu - HEADERS[packet.version]
    at, end = 20, (before[12] >> 4) * 4
    while at < end and before[at] != END:
        if before[at] == NOTHING:
            at += 1
            continue
        size = before[at + 1] if at + 1 < end else 0
        if size < 2 or at + size > end:
            break  # no option begins here
        if before[at] == MAXIMUM_SEGMENT_SIZE and size == 4 and int.from_bytes(before[at + 2 : at + 4]) > most:
            after[at + 2 : at + 4] = most.to_bytes(2)
        at += size
    if bytes(after) == before:
        return packet
    # The pseudo header stays the same; an odd offset of the option is nothing special to a sum over everything.
    after[CHECKSUM_AT : CHECKSUM_AT + 2] = carried_over(before, bytes(after), CHECKSUM_AT).to_bytes(2)
    return replace(packet, raw=packet.raw[: packet.transport] + bytes(after))

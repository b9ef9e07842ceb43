"""Frames by the thousand: one is built with care, the others differ from it in a few 16-bit words."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from dataplane.probe import ICMP, Probe, checksum

ETHERNET = 14
IPV4_ID, IPV4_FRAGMENT, IPV4_SUM = ETHERNET + 4, ETHERNET + 6, ETHERNET + 10
PORTS = ETHERNET + 20
UDP_SUM, TCP_SUM = PORTS + 6, PORTS + 16
FIN, SYN, RST, ACK = 1, 2, 4, 16


def ipv4(source_mac: bytes, to_mac: bytes, source: str, destination: str, **probe: object) -> bytes:
    """A frame as `Probe` builds it; `probe` are the rest of its arguments."""
    made = Probe(source=ip_address(source), destination=ip_address(destination), **probe)  # type: ignore[arg-type]
    return made.frame(source_mac, to_mac)


def varied(frame: bytes, at: int, values: Iterable[int], *, sums: Sequence[int] = ()) -> Iterator[bytes]:
    """The frame with each of these values in the 16-bit word at `at`; checksums at `sums` follow (RFC 1624)."""
    (old,) = struct.unpack_from(">H", frame, at)
    before = [struct.unpack_from(">H", frame, each)[0] for each in sums]
    for value in values:
        made = bytearray(frame)
        struct.pack_into(">H", made, at, value)
        for place, was in zip(sums, before, strict=True):
            total = (~was & 0xFFFF) + (~old & 0xFFFF) + value
            total = (total & 0xFFFF) + (total >> 16)
            total = (total & 0xFFFF) + (total >> 16)
            struct.pack_into(">H", made, place, ~total & 0xFFFF)
        yield bytes(made)


def piece(frame: bytes, *, first: bool, number: int = 1, at: int = 185) -> bytes:
    """An IPv4 frame made the first fragment of its datagram, or a later one `at` times 8 bytes in, with its bytes."""
    made = bytearray(frame)
    struct.pack_into(">HH", made, IPV4_ID, number, 0x2000 if first else at)
    return resealed(made)


def resealed(frame: bytearray) -> bytes:
    """The frame with a right IPv4 checksum."""
    struct.pack_into(">H", frame, IPV4_SUM, 0)
    struct.pack_into(">H", frame, IPV4_SUM, checksum(bytes(frame[ETHERNET:PORTS])))
    return bytes(frame)


def arp(source_mac: bytes, source: str, target: str, *, kind: int = 1) -> bytes:
    """Who has `target`? (RFC 826)"""
    ends = source_mac + IPv4Address(source).packed + bytes(6) + IPv4Address(target).packed
    return b"\xff" * 6 + source_mac + struct.pack(">HHHBBH", 0x0806, 1, 0x0800, 6, 4, kind) + ends


def solicitation(source_mac: bytes, source: str, target: str) -> bytes:
    """The same of IPv6 (RFC 4861, 4.3)."""
    wanted = IPv6Address(target).packed
    group = bytes.fromhex("ff0200000000000000000001ff") + wanted[-3:]
    body = b"\x87\0\0\0" + bytes(4) + wanted + b"\1\1" + source_mac
    ends = IPv6Address(source).packed + group
    sum_ = checksum(ends + struct.pack(">II", len(body), 58) + body)
    body = body[:2] + struct.pack(">H", sum_) + body[4:]
    head = struct.pack(">IHBB", 6 << 28, len(body), 58, 255) + ends
    return b"\x33\x33" + group[-4:] + source_mac + b"\x86\xdd" + head + body


def unreachable(source_mac: bytes, to_mac: bytes, source: str, destination: str, about: bytes) -> bytes:
    """An ICMP error (RFC 792, port unreachable) about the IPv4 packet `about`."""
    body = b"\3\3\0\0" + bytes(4) + about[:28]
    body = body[:2] + struct.pack(">H", checksum(body)) + body[4:]
    ends = IPv4Address(source).packed + IPv4Address(destination).packed
    head = bytearray(ETHERNET) + struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, ICMP, 0) + ends
    head[:ETHERNET] = to_mac + source_mac + b"\x08\0"
    return resealed(bytearray(head)) + body

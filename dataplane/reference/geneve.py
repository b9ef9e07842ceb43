"""GENEVE (RFC 8926) as Gateway Load Balancers speak it: packets to a target, and what a target sends back.

    IPv4 | UDP to port 6081 | 8 bytes of header | endpoint id | attachment id | flow cookie | the packet inside

The options are of class 0x0108, which is Amazon's: type 1 is the 64-bit id of the endpoint, type 2 another one that is
all zero, type 3 the 32-bit cookie of the flow.
https://www.iana.org/assignments/nvo3/nvo3.xhtml (GENEVE option classes)
https://github.com/aws-samples/aws-gateway-load-balancer-tunnel-handler (the options)
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from dataplane.reference.checksum import checksum, pseudo_header
from dataplane.reference.packets import UDP, Packet, read
from dataplane.verdict import Reason

PORT = 6081
SOURCE_PORTS = range(49152, 65536)
"""Where the balancer's own port is from (RFC 8926, section 3.3)."""
PROTOCOL_TYPES = {0x0800: 4, 0x86DD: 6}
"""What may be inside: a packet of an IP version, without Ethernet."""
AMAZON = 0x0108
ENDPOINT, ATTACHMENT, COOKIE = 1, 2, 3
SIZES = {ENDPOINT: 8, ATTACHMENT: 8, COOKIE: 4}
"""In bytes; an option of another size is one that nobody knows."""
OVERHEAD = 68
"""Bytes around the packet inside: IPv4, UDP, GENEVE with its options."""
TTL = 255


@dataclass(frozen=True, slots=True)
class Label:
    """What the options say of a packet."""

    endpoint: int
    """The digits of the endpoint's id, as a number."""
    cookie: int


@dataclass(frozen=True, slots=True)
class Inside:
    """A packet that came in GENEVE."""

    label: Label
    packet: Packet


def wrap(inside: bytes, label: Label, source: IPv4Address, source_port: int, target: IPv4Address) -> Packet:
    """The packet in which a balancer's node sends `inside` to a target."""
    options = _option(ENDPOINT, label.endpoint.to_bytes(8)) + _option(ATTACHMENT, bytes(8))
    options += _option(COOKIE, label.cookie.to_bytes(4))
    kind = next(kind for kind, version in PROTOCOL_TYPES.items() if version == inside[0] >> 4)
    header = bytes([len(options) // 4, 0]) + kind.to_bytes(2) + bytes(4)
    start = bytes([0x45, 0]) + bytes(6) + bytes([TTL, UDP, 0, 0]) + source.packed + target.packed
    start += source_port.to_bytes(2) + PORT.to_bytes(2) + bytes(4) + header + options
    return _filled(start, inside)


def around(outer: Packet, inside: bytes) -> Packet:
    """A packet like `outer`, which this module made (and somebody may have translated), around something else."""
    return _filled(outer.raw[:OVERHEAD], inside)


def read_label(outer: Packet) -> Label | None:
    """What the options of a packet say, even if the rest of it is not there."""
    at = outer.transport + 8
    options = _read_options(outer.raw[at + 8 : at + 8 + (outer.raw[at] & 0x3F) * 4]) if len(outer.raw) > at else None
    return None if options is None else _label(options)


def _label(options: dict[int, bytes]) -> Label | None:
    endpoint, cookie = options.get(ENDPOINT), options.get(COOKIE)
    if endpoint is None or cookie is None:
        return None
    return Label(int.from_bytes(endpoint), int.from_bytes(cookie))


def _option(kind: int, data: bytes) -> bytes:
    return AMAZON.to_bytes(2) + bytes([kind, len(data) // 4]) + data


def _filled(start: bytes, inside: bytes) -> Packet:
    """The packet that begins with `start`, whose lengths and checksums are worked out."""
    ip, datagram = start[:20], start[20:] + inside
    ip = ip[:2] + (20 + len(datagram)).to_bytes(2) + ip[4:10] + b"\0\0" + ip[12:]
    ip = ip[:10] + checksum(ip).to_bytes(2) + ip[12:]
    datagram = datagram[:4] + len(datagram).to_bytes(2) + b"\0\0" + datagram[8:]
    covered = pseudo_header(IPv4Address(ip[12:16]), IPv4Address(ip[16:20]), UDP, len(datagram))
    total = checksum(covered + datagram) or 0xFFFF  # zero would say: none (RFC 768)
    outer = read(4, ip + datagram[:6] + total.to_bytes(2) + datagram[8:])
    assert not isinstance(outer, Reason), outer
    return outer


def is_geneve(packet: Packet) -> bool:
    """Whether it is for the port that GENEVE has."""
    return packet.version == 4 and packet.protocol == UDP and packet.destination_port == PORT


def unwrap(outer: Packet) -> Inside | Reason:
    """What is in the GENEVE packet `outer`; what is wrong with it otherwise.

    Options nobody knows, another order of them, any network identifier, and the bits O and C say nothing: appliances
    copy them. The first of two options of a kind counts.
    """
    at = outer.transport
    message = outer.raw[at + 8 : at + int.from_bytes(outer.raw[at + 4 : at + 6])]
    if len(message) < 8 or message[0] >> 6 != 0:
        return Reason.GENEVE_MALFORMED
    end = 8 + (message[0] & 0x3F) * 4
    version = PROTOCOL_TYPES.get(int.from_bytes(message[2:4]))
    options = _read_options(message[8:end])
    if end > len(message) or version is None or options is None:
        return Reason.GENEVE_MALFORMED
    inside = read(version, message[end:])
    if isinstance(inside, Reason):
        return Reason.GENEVE_MALFORMED
    label = _label(options)
    return Reason.GENEVE_OPTIONS_MISSING if label is None else Inside(label, inside)


def _read_options(raw: bytes) -> dict[int, bytes] | None:
    """Amazon's options by type; None: one runs over the end (RFC 8926, section 3.5)."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(raw):
        end = at + 4 + (raw[at + 3] & 0x1F) * 4 if at + 4 <= len(raw) else len(raw) + 1
        if end > len(raw):
            return None
        if int.from_bytes(raw[at : at + 2]) == AMAZON and end - at - 4 == SIZES.get(raw[at + 2]):
            found.setdefault(raw[at + 2], raw[at + 4 : end])
        at = end
    return found

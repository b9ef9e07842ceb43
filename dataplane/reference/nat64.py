"""NAT64: packets of one IP version as packets of the other (RFC 7915), what a NAT gateway does with 64:ff9b::/96.

https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-nat64-dns64.html

How to call it. Whose packet it is on the other side, the NAT gateway's table of connections says. For one with the flow
`inside` (IPv6, as the client sends it) that has `port` at the gateway's own `address`, the gateway sends
`outside = outside_flow(inside, address, port)`:

- from inside: first `refuse(packet)`, before any connection is looked up or opened. Then, `packet.flow` being `inside`,
  `to_ipv4(packet, outside)`. An error whose `packet.quoted.flow` is `inside.reversed()`:
  `to_ipv4(packet, Flow(ICMP, address, 0, embedded(packet.destination), 0), outside.reversed())`.
- from outside, `packet.flow` being `outside.reversed()`: `to_ipv6(packet, inside.reversed())`. An error whose
  `packet.quoted.flow` is `outside`:
  `to_ipv6(packet, Flow(ICMPV6, embed(packet.source), 0, inside.source, 0), inside)`.

Of the flows handed in only addresses and ports (ICMP: the identifier) count; for errors the addresses alone, and of
`quoted` both. The answer is the packet as if it had been read, or why it dies here. Hop limit and TTL are copied: the
gateway's own hop is counted elsewhere. Checksums are carried over, never mended (`checksum.carried_over`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from dataplane.reference.checksum import Address, carried_over, checksum, pseudo_header
from dataplane.reference.extensions import (
    AUTHENTICATION,
    DESTINATION_OPTIONS,
    FRAGMENT,
    HOP_BY_HOP,
    ROUTING,
    UpperLayer,
    find_upper_layer,
)
from dataplane.reference.flow import Flow
from dataplane.reference.nat64_errors import to_icmp, to_icmpv6
from dataplane.reference.packets import ECHO, ICMP, ICMPV6, TCP, UDP, Fragment, Packet, Quoted
from dataplane.reference.translation import CHECKSUM_AT
from dataplane.verdict import Reason

PREFIX = IPv6Network("64:ff9b::/96")
"""The well-known prefix (RFC 6052, section 2.1). Private IPv4 addresses are reached through it too, unlike in RFC 6052,
section 3.1: AWS translates for whatever the VPC routes."""
OTHER_PROTOCOL = {TCP: TCP, UDP: UDP, ICMP: ICMPV6, ICMPV6: ICMP}
OTHER_ECHO = {ICMPV6: {128: 8, 129: 0}, ICMP: {8: 128, 0: 129}}
"""RFC 7915, sections 5.2 and 4.2."""
TRANSLATED_ERRORS = {ICMP: (3, 4, 11, 12), ICMPV6: (1, 2, 3, 4)}
"""RFC 7915, sections 4.2 and 5.2; source quench is among them to be dropped there."""
LONGEST_ERROR = {4: 576, 6: 1280}
"""In bytes (RFC 1812, section 4.3.2.3; RFC 4443, section 2.4)."""
MAY_BE_FRAGMENTED = 1260
"""IPv4 packets up to this many bytes may be fragmented: IPv6 asks every link for the 1280 they had (RFC 7915, 5.1)."""


def embed(address: IPv4Address) -> IPv6Address:
    """An IPv4 address as IPv6 hosts see it (RFC 6052, section 2.2)."""
    return PREFIX[int(address)]


def embedded(address: Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for; None: it stands for none."""
    return IPv4Address(int(address) & 0xFFFF_FFFF) if address in PREFIX else None


def outside_flow(inside: Flow, address: IPv4Address, port: int) -> Flow:
    """What becomes of an IPv6 flow to an embedded address outside, from `address` with `port` (ICMP: identifier)."""
    far = embedded(inside.destination)
    assert far is not None, inside
    flow = Flow(inside.protocol, address, port, far, port if inside.protocol == ICMPV6 else inside.destination_port)
    return _in_words_of_other(flow, inside)


def refuse(packet: Packet) -> Reason | None:
    """What is not translated, whichever connection it is of: protocols, fragments, kinds of ICMP, in this order."""
    icmp = ICMP if packet.version == 4 else ICMPV6
    is_for_nobody = packet.version == 6 and embedded(packet.destination) is None
    if is_for_nobody or packet.protocol not in (TCP, UDP, icmp):
        return Reason.NAT_PROTOCOL
    if packet.fragment is not None and (packet.protocol != UDP or _hides_extensions(packet)):
        return Reason.NAT_FRAGMENT
    is_strange = packet.protocol == icmp and packet.icmp_type not in (*ECHO[icmp], *TRANSLATED_ERRORS[icmp])
    return Reason.NAT_PROTOCOL if is_strange or _is_authenticated(packet) else None


def to_ipv4(packet: Packet, flow: Flow, quoted: Flow | None = None) -> Packet | Reason:
    """An IPv6 packet as the IPv4 packet of `flow`, ICMP errors about one of `quoted` (RFC 7915, section 5)."""
    if 20 + len(packet.raw) - packet.transport > 0xFFFF:
        return Reason.MTU_EXCEEDED
    return _translate(packet, flow, quoted)


def to_ipv6(packet: Packet, flow: Flow, quoted: Flow | None = None) -> Packet | Reason:
    """An IPv4 packet as the IPv6 packet of `flow`, ICMP errors about one of `quoted` (RFC 7915, section 4)."""
    if packet.fragment is not None and packet.is_unsummed:
        return refuse(packet) or Reason.NAT_FRAGMENT  # nobody can sum up what is not there (section 4.5)
    return _translate(packet, flow, quoted)


@dataclass(frozen=True, slots=True)
class _Header:
    """What the headers of both versions say."""

    traffic_class: int
    length: int
    """Of what follows all headers of IP, in bytes, as the header says: of a quoted packet less may be there."""
    ttl: int
    piece: Fragment | None
    """What a fragment header says, even of a datagram in one piece; for IPv4 of fragments alone."""


def _read_header(raw: bytes, size: int) -> _Header:
    """Read the headers that `raw` begins with, `size` bytes with extension headers or options, which are left behind.

    RFC 7915, section 4.1: options are ignored; section 5.1: so are extension headers.
    """
    if raw[0] >> 4 == 4:
        word = int.from_bytes(raw[6:8])
        piece = Fragment(int.from_bytes(raw[4:6]), (word & 0x1FFF) * 8, bool(word & 0x2000))
        length = (int.from_bytes(raw[2:4]) - size) & 0xFFFF
        return _Header(raw[1], length, raw[8], piece if piece.offset or piece.more else None)
    upper, found = find_upper_layer(raw), None
    assert not isinstance(upper, Reason), upper
    if upper.fragment_header:
        fields = raw[upper.fragment_header :]
        word = int.from_bytes(fields[2:4])
        found = Fragment(int.from_bytes(fields[4:8]), word & 0xFFF8, bool(word & 1))
    length = (40 + int.from_bytes(raw[4:6]) - size) & 0xFFFF
    return _Header(int.from_bytes(raw[:2]) >> 4 & 0xFF, length, raw[7], found)


def _write_header(header: _Header, flow: Flow) -> bytes:
    return _write_header4(header, flow) if flow.source.version == 4 else _write_header6(header, flow)


def _write_header4(header: _Header, flow: Flow) -> bytes:
    """RFC 7915, section 5.1; with a fragment header section 5.1.1."""
    total = (20 + header.length) & 0xFFFF
    identification, word = 0, 0x4000 if total > MAY_BE_FRAGMENTED else 0
    if header.piece is not None:  # DF is clear, and of the identification the lower half is left
        identification = header.piece.identification & 0xFFFF
        word = header.piece.offset // 8 | (0x2000 if header.piece.more else 0)
    raw = bytes([0x45, header.traffic_class]) + total.to_bytes(2) + identification.to_bytes(2) + word.to_bytes(2)
    raw += bytes([header.ttl, flow.protocol, 0, 0]) + flow.source.packed + flow.destination.packed
    return raw[:10] + checksum(raw).to_bytes(2) + raw[12:]


def _write_header6(header: _Header, flow: Flow) -> bytes:
    """RFC 7915, section 4.1: flow label zero, and a fragment header for fragments alone."""
    extension = b""
    if header.piece is not None:
        word = header.piece.offset | header.piece.more
        extension = bytes([flow.protocol, 0]) + word.to_bytes(2) + header.piece.identification.to_bytes(4)
    length = (header.length + len(extension)) & 0xFFFF
    raw = (6 << 28 | header.traffic_class << 20).to_bytes(4) + length.to_bytes(2)
    raw += bytes([FRAGMENT if extension else flow.protocol, header.ttl])
    return raw + flow.source.packed + flow.destination.packed + extension


def _translate(packet: Packet, flow: Flow, quoted: Flow | None) -> Packet | Reason:
    if (refused := refuse(packet)) is not None:
        return refused
    header, body = _read_header(packet.raw, packet.transport), packet.raw[packet.transport :]
    flow, about = _in_words_of_other(flow, packet.flow), None
    if packet.is_icmp_error:
        if quoted is None or packet.quoted is None or not _is_translatable(packet.quoted):
            return Reason.NAT_NO_SESSION
        flow, about = replace(flow, source_port=0, destination_port=0), _in_words_of_other(quoted, packet.quoted.flow)
        message = _translate_error(packet, packet.quoted, flow, about)
        if message is None:
            return Reason.NAT_PROTOCOL
        body = message
    elif not packet.is_later_fragment:
        body = _translate_transport(body, packet.flow, flow, len(body))
        if packet.is_unsummed and flow.source.version == 6:
            body = _sum_udp(body, flow)
    start = _write_header(replace(header, length=len(body)), flow)
    return _compose(packet, header.piece, start, body, flow, about)


def _compose(
    packet: Packet, piece: Fragment | None, start: bytes, body: bytes, flow: Flow, about: Flow | None
) -> Packet:
    """What reading the translated packet finds, and of later fragments what `packet` knows from their first."""
    raw, version, quote = start + body, flow.source.version, len(start) + 8
    if packet.fragment is None:
        piece = None
    return Packet(
        raw=raw,
        version=version,
        source=flow.source,
        destination=flow.destination,
        ttl=packet.ttl,
        protocol=flow.protocol,
        transport=len(start),
        fragment=None if piece is None else replace(piece, identification=piece.identification & 0xFFFF),
        may_be_fragmented=version == 4 and not raw[6] & 0x40,
        source_port=flow.source_port,
        destination_port=flow.destination_port,
        tcp_flags=packet.tcp_flags,
        is_unsummed=packet.is_unsummed and version == 4,
        icmp_type=body[0] if packet.is_icmp else 0,
        icmp_code=body[1] if packet.is_icmp else 0,
        quoted=None if about is None else Quoted(quote, quote + _header_size(raw[quote:]), about, is_identified=True),
    )


def _translate_transport(body: bytes, old: Flow, new: Flow, length: int) -> bytes:
    """The transport header and what follows it, as much as is there of `length` bytes (RFC 7915, 4.5 and 5.5)."""
    changed = bytearray(body)
    if old.protocol in (TCP, UDP):
        changed[0:4] = new.source_port.to_bytes(2) + new.destination_port.to_bytes(2)
    else:
        changed[0] = OTHER_ECHO[old.protocol][body[0]]
        changed[4:6] = new.source_port.to_bytes(2)
    at = CHECKSUM_AT[old.protocol]
    if at + 2 > len(body) or (old.protocol == UDP and body[at : at + 2] == b"\0\0"):
        return bytes(changed)  # quoted without it, or the sender did without (RFC 768)
    return _carry_over(body, bytes(changed), at, _pseudo_header(old, length), _pseudo_header(new, length))


def _translate_error(packet: Packet, quoted: Quoted, flow: Flow, about: Flow) -> bytes | None:
    """The ICMP message, about the packet of `about` (RFC 7915, 4.3 and 5.3); None: the other version has none such."""
    message = packet.raw[packet.transport :]
    as_other = to_icmp if packet.version == 6 else to_icmpv6
    said = as_other(message[0], message[1], int.from_bytes(message[4:8]))
    if said is None:
        return None
    header = _read_header(packet.raw[quoted.at :], quoted.transport - quoted.at)
    # What is quoted is translated as it was sent: its header says how long it was.
    quote = _write_header(header, about)
    quote += _translate_transport(packet.raw[quoted.transport :], quoted.flow, about, header.length)
    changed = bytes([said[0], said[1]]) + message[2:4] + said[2].to_bytes(4) + quote
    version = flow.source.version
    changed = changed[: LONGEST_ERROR[version] - (20 if version == 4 else 40)]
    before = _pseudo_header(packet.flow, len(message))
    return _carry_over(message, changed, CHECKSUM_AT[ICMP], before, _pseudo_header(flow, len(changed)))


def _carry_over(old: bytes, new: bytes, at: int, before: bytes, after: bytes) -> bytes:
    """`new` with the checksum at offset `at` as right, or as wrong, as that of `old`; both with their pseudo header."""
    value = carried_over(before + old, after + new, len(after) + at)
    if value == 0 and at == CHECKSUM_AT[UDP]:
        value = 0xFFFF  # zero would mean: none
    return new[:at] + value.to_bytes(2) + new[at + 2 :]


def _sum_udp(body: bytes, flow: Flow) -> bytes:
    """The UDP datagram with a checksum, which IPv6 asks for (RFC 7915, section 4.5; RFC 8200, section 8.1)."""
    datagram = body[: int.from_bytes(body[4:6])]
    value = checksum(_pseudo_header(flow, len(datagram)) + datagram) or 0xFFFF
    return body[:6] + value.to_bytes(2) + body[8:]


def _pseudo_header(flow: Flow, length: int) -> bytes:
    """ICMP for IPv4 has none."""
    return b"" if flow.protocol == ICMP else pseudo_header(flow.source, flow.destination, flow.protocol, length)


def _in_words_of_other(flow: Flow, known: Flow) -> Flow:
    """`flow`, of the other version's protocol and query that correspond to those of `known`."""
    query = OTHER_ECHO[known.protocol].get(known.query, 0) if known.protocol in OTHER_ECHO else 0
    return replace(flow, protocol=OTHER_PROTOCOL[known.protocol], query=query, is_reply=known.is_reply)


def _is_translatable(quoted: Quoted) -> bool:
    """Whether it may be of a connection at all."""
    flow, icmp = quoted.flow, ICMP if quoted.flow.source.version == 4 else ICMPV6
    return quoted.is_identified and (
        flow.protocol in (TCP, UDP) or (flow.protocol == icmp and flow.query in ECHO[icmp])
    )


def _header_size(raw: bytes) -> int:
    """Of what is written here: no options, and one extension header at most."""
    if raw[0] >> 4 == 4:
        return 20
    return 48 if raw[6] == FRAGMENT else 40


def _hides_extensions(packet: Packet) -> bool:
    """Whether extension headers were cut with the datagram: left behind, they would shift it (RFC 7915, 5.1.1)."""
    upper = _upper_layer(packet)
    following = None if upper is None else packet.raw[upper.fragment_header]
    return following in (HOP_BY_HOP, ROUTING, AUTHENTICATION, DESTINATION_OPTIONS)


def _is_authenticated(packet: Packet) -> bool:
    """Whether it has a header that is none of those which are left behind (RFC 7915, 5.1): in IPv4 a protocol."""
    upper = _upper_layer(packet)
    return upper is not None and AUTHENTICATION in upper.passed


def _upper_layer(packet: Packet) -> UpperLayer | None:
    upper = find_upper_layer(packet.raw) if packet.version == 6 else None
    return upper if isinstance(upper, UpperLayer) else None

"""IP packets: read into fields, strictly, and written back from them (RFC 791, RFC 8200, RFC 792, RFC 4443).

What a router of AWS forwards is an IP packet from somebody to somebody; everything else is refused with a `Reason`.
A packet is read once, where it enters. Translation afterwards changes bytes and fields together (`translation`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from dataplane.reference.checksum import Address, checksum
from dataplane.reference.extensions import find_upper_layer
from dataplane.reference.flow import Flow
from dataplane.verdict import Reason

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
FIN, SYN, RST, ACK = 1, 2, 4, 16
ECHO = {1: (8, 0), 58: (128, 129)}
"""Echo request and reply of each ICMP."""
QUERIES = {1: {8: 8, 0: 8, 13: 13, 14: 13}, 58: {128: 128, 129: 128}}
"""Messages with an identifier: their type, and the type of the request they belong to (RFC 792, RFC 4443; RFC 6918
took the others away)."""
ERRORS = {1: (3, 4, 11, 12), 58: range(128)}
"""Messages that quote a packet: unreachable, source quench, time exceeded, parameter problem (RFC 792); of ICMPv6 all
with a zero in the highest bit of their type (RFC 4443, section 2.1)."""
LEAST_HEADER = {TCP: 20, UDP: 8, ICMP: 8, ICMPV6: 8}

NEVER_FORWARDED: dict[int, tuple[IPv4Network | IPv6Network, ...]] = {
    4: tuple(IPv4Network(n) for n in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")),
    6: tuple(IPv6Network(n) for n in ("::/128", "::1/128", "fe80::/10", "ff00::/8")),
}
"""Neither from nor to these: this host, loopback, link-local, multicast, reserved (RFC 6890, RFC 3927, RFC 4291)."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of a datagram (RFC 791 section 2.3, RFC 8200 section 4.5)."""

    identification: int
    offset: int
    """In bytes of the datagram's payload."""
    more: bool


@dataclass(frozen=True, slots=True)
class Quoted:
    """The packet that an ICMP error is about: where it begins in the error's bytes, and whose it was."""

    at: int
    transport: int
    """Where its transport header begins in the error's bytes."""
    flow: Flow
    is_identified: bool
    """Whether enough of it is there to say which flow it is of, not only between whom."""


@dataclass(frozen=True, slots=True)
class Packet:
    """An IP packet. Ports of a fragment that is not the first are those of the first, once that is known."""

    raw: bytes
    version: int
    source: Address
    destination: Address
    ttl: int
    protocol: int
    transport: int
    """Where the transport header begins in `raw`."""
    fragment: Fragment | None = None
    may_be_fragmented: bool = False
    source_port: int = 0
    destination_port: int = 0
    tcp_flags: int = 0
    is_unsummed: bool = False
    """UDP whose sender did without a checksum (RFC 768)."""
    icmp_type: int = 0
    icmp_code: int = 0
    quoted: Quoted | None = None

    @property
    def is_later_fragment(self) -> bool:
        """Whether it is a piece without transport header."""
        return self.fragment is not None and self.fragment.offset > 0

    @property
    def is_icmp(self) -> bool:
        """ICMP in IPv4, ICMPv6 in IPv6; the other way round it is a protocol like any other."""
        return self.protocol == (ICMP if self.version == 4 else ICMPV6)

    @property
    def is_icmp_error(self) -> bool:
        """Whether it reports about another packet."""
        return self.is_icmp and self.icmp_type in ERRORS[self.protocol]

    @property
    def about(self) -> Flow | None:
        """Of an ICMP error, the flow it is about; None: that cannot be told, or who gets it has sent no such packet.

        It goes to the sender of the packet that it quotes (RFC 792; RFC 4443, section 2.2). What says otherwise is
        about nothing, or whoever has one flow could send to anybody, past all rules.
        """
        quoted = self.quoted
        if quoted is None or not quoted.is_identified or quoted.flow.source != self.destination:
            return None
        return quoted.flow

    @property
    def is_request(self) -> bool:
        """Whether it is of ICMP and asks something: a reply that nobody has asked for opens no flow."""
        return self.is_icmp and QUERIES[self.protocol].get(self.icmp_type) == self.icmp_type

    @property
    def opens_tcp(self) -> bool:
        """SYN, and neither ACK nor RST (RFC 793)."""
        return self.protocol == TCP and self.tcp_flags & (SYN | ACK | RST) == SYN

    @property
    def flow(self) -> Flow:
        """Whose packet it is."""
        flow = Flow(self.protocol, self.source, self.source_port, self.destination, self.destination_port)
        return _with_query(flow, self.icmp_type) if self.is_icmp else flow

    def follow(self, first: Packet) -> Packet:
        """This fragment, with what only the first one of its datagram says."""
        return replace(
            self,
            protocol=first.protocol,
            source_port=first.source_port,
            destination_port=first.destination_port,
            is_unsummed=first.is_unsummed,
            icmp_type=first.icmp_type,
            icmp_code=first.icmp_code,
            quoted=first.quoted,
        )


def read(version: int, data: bytes) -> Packet | Reason:
    """Read the IP packet in a frame of the given version; what is wrong with it otherwise."""
    return _read4(data) if version == 4 else _read6(data)


def check_addresses(packet: Packet) -> Reason | None:
    """Why a packet with these addresses is never forwarded."""
    blocks = NEVER_FORWARDED[packet.version]
    if any(packet.source in block for block in blocks):
        return Reason.SOURCE_MARTIAN
    if any(packet.destination in block for block in blocks):
        return Reason.DESTINATION_MARTIAN
    return Reason.LAND if packet.source == packet.destination else None


def _read4(data: bytes) -> Packet | Reason:
    if len(data) < 20:
        return Reason.IP_TRUNCATED
    if data[0] >> 4 != 4:
        return Reason.IP_VERSION
    header = (data[0] & 15) * 4
    if header < 20 or header > len(data):
        return Reason.IP_HEADER_LENGTH
    total = int.from_bytes(data[2:4])
    if not header <= total <= len(data):
        return Reason.IP_TOTAL_LENGTH
    raw = data[:total]
    if checksum(raw[:10] + b"\0\0" + raw[12:header]) != int.from_bytes(raw[10:12]):
        return Reason.IP_CHECKSUM
    if not _options_are_sound(raw[20:header]):
        return Reason.IP_OPTIONS
    word = int.from_bytes(raw[6:8])
    piece = Fragment(int.from_bytes(raw[4:6]), (word & 0x1FFF) * 8, bool(word & 0x2000))
    packet = Packet(
        raw=raw,
        version=4,
        source=IPv4Address(raw[12:16]),
        destination=IPv4Address(raw[16:20]),
        ttl=raw[8],
        protocol=raw[9],
        transport=header,
        fragment=piece if piece.offset or piece.more else None,
        may_be_fragmented=not word & 0x4000,
    )
    return _read_transport(packet)


def _options_are_sound(options: bytes) -> bool:
    """Complete, and no source route: AWS's routers would have to be asked who routes (RFC 7126)."""
    at = 0
    while at < len(options) and options[at] != 0:
        if options[at] == 1:
            at += 1
            continue
        if options[at] in (131, 137) or at + 1 >= len(options):
            return False
        size = options[at + 1]
        if size < 2 or at + size > len(options):
            return False
        at += size
    return True


def _read6(data: bytes) -> Packet | Reason:
    if len(data) < 40:
        return Reason.IP_TRUNCATED
    if data[0] >> 4 != 6:
        return Reason.IP_VERSION
    end = 40 + int.from_bytes(data[4:6])
    if end > len(data):
        return Reason.IP_TOTAL_LENGTH
    raw = data[:end]
    upper = find_upper_layer(raw)
    if isinstance(upper, Reason):
        return upper
    piece = None
    if upper.fragment_header:
        at = upper.fragment_header
        word = int.from_bytes(raw[at + 2 : at + 4])
        piece = Fragment(int.from_bytes(raw[at + 4 : at + 8]), word & 0xFFF8, bool(word & 1))
    packet = Packet(
        raw=raw,
        version=6,
        source=IPv6Address(raw[8:24]),
        destination=IPv6Address(raw[24:40]),
        ttl=raw[7],
        protocol=upper.protocol,
        transport=upper.at,
        fragment=piece if piece is not None and (piece.offset or piece.more) else None,
    )
    return _read_transport(packet)


def _read_transport(packet: Packet) -> Packet | Reason:
    body, piece = packet.raw[packet.transport :], packet.fragment
    if piece is not None and (not body or (piece.more and len(body) % 8) or piece.offset + len(body) > 65535):
        return Reason.FRAGMENT_MALFORMED
    if packet.ttl == 0:
        return Reason.TTL_ZERO
    if packet.is_later_fragment:
        return packet
    bad = Reason.L4_TRUNCATED if piece is None else Reason.FRAGMENT_MALFORMED
    if len(body) < _least_header(packet.version, packet.protocol):
        return bad
    if packet.protocol in (TCP, UDP):
        length = (body[12] >> 4) * 4 if packet.protocol == TCP else int.from_bytes(body[4:6])
        if length < LEAST_HEADER[packet.protocol] or (length > len(body) and (piece is None or packet.protocol == TCP)):
            return bad
        return replace(
            packet,
            source_port=int.from_bytes(body[0:2]),
            destination_port=int.from_bytes(body[2:4]),
            tcp_flags=body[13] if packet.protocol == TCP else 0,
            is_unsummed=packet.protocol == UDP and body[6:8] == b"\0\0",
        )
    if not packet.is_icmp:
        return packet
    packet = replace(packet, icmp_type=body[0], icmp_code=body[1])
    identifier = int.from_bytes(body[4:6]) if packet.icmp_type in QUERIES[packet.protocol] else 0
    packet = replace(packet, source_port=identifier, destination_port=identifier)
    return replace(packet, quoted=read_quoted(packet.raw, packet.transport + 8)) if packet.is_icmp_error else packet


def _least_header(version: int, protocol: int) -> int:
    """Bytes that a transport header has at least; 0 where we read none, as in ICMP of the other version."""
    return 0 if protocol == (ICMPV6 if version == 4 else ICMP) else LEAST_HEADER.get(protocol, 0)


def read_quoted(raw: bytes, at: int) -> Quoted | None:
    """Read as much as there is of the packet quoted at `at`; None when not even its addresses are."""
    quote, version, is_later = raw[at:], raw[0] >> 4, False
    if not quote or quote[0] >> 4 != version:
        return None
    if version == 4 and len(quote) >= 20:
        header, protocol = (quote[0] & 15) * 4, quote[9]
        source: Address = IPv4Address(quote[12:16])
        destination: Address = IPv4Address(quote[16:20])
        is_later = bool(int.from_bytes(quote[6:8]) & 0x1FFF)
        if header < 20 or header > len(quote):
            return None
    elif version == 6 and len(quote) >= 40:
        upper = find_upper_layer(quote)
        if isinstance(upper, Reason):
            return None
        if upper.fragment_header:
            is_later = bool(int.from_bytes(quote[upper.fragment_header + 2 :][:2]) & 0xFFF8)
        header, protocol = upper.at, upper.protocol
        source, destination = IPv6Address(quote[8:24]), IPv6Address(quote[24:40])
    else:
        return None
    flow, body = Flow(protocol, source, 0, destination, 0), quote[header:]
    if is_later or (_least_header(version, protocol) and len(body) < 8):  # RFC 792: the header and 64 bits
        return Quoted(at, at + header, flow, is_identified=False)
    if protocol in (TCP, UDP):
        flow = replace(flow, source_port=int.from_bytes(body[:2]), destination_port=int.from_bytes(body[2:4]))
    elif protocol == (ICMP if version == 4 else ICMPV6):
        if body[0] not in QUERIES[protocol]:  # what asks nothing is of no flow that could come back
            return Quoted(at, at + header, flow, is_identified=False)
        identifier = int.from_bytes(body[4:6])
        flow = _with_query(replace(flow, source_port=identifier, destination_port=identifier), body[0])
    return Quoted(at, at + header, flow, is_identified=True)


def _with_query(flow: Flow, icmp_type: int) -> Flow:
    request = QUERIES[flow.protocol].get(icmp_type)
    if request is None:
        return replace(flow, query=256 + icmp_type)
    return replace(flow, query=request, is_reply=icmp_type != request)

"""Parsing: from bytes to `packet`, checked once; after that every offset in it can be trusted.

Each check that fails gives a drop reason; nothing raises, allocates or reads past `length`.

IPv4 (RFC 791 3.1)                                    IPv6 (RFC 8200 3)
    0 ver ihl | tos | total length                        0 ver | class | flow label
    4 identification | flags, fragment offset             4 payload length | next header | hop limit
    8 ttl | protocol | header checksum                    8 source (16 bytes)
   12 source                                             24 destination (16 bytes)
   16 destination
"""

from fastpath.reason cimport *
from fastpath.wire cimport *

cdef enum:
    MAX_EXTENSIONS = 8


cdef inline uint8_t query_of(uint8_t family, uint8_t icmp_type) noexcept nogil:
    if family == 4:
        if icmp_type == 13:
            return QUERY_TIMESTAMP
        if icmp_type == 14:
            return QUERY_TIMESTAMP_REPLY
        return QUERY_ECHO if icmp_type == 8 else QUERY_ECHO_REPLY
    return QUERY_ECHO if icmp_type == 128 else QUERY_ECHO_REPLY


# Addresses that can never be a sender, and ones no packet is ever forwarded to (RFC 6890, RFC 4291).
cdef inline bint source_is_martian(uint8_t family, addr a) noexcept nogil:
    cdef uint32_t first
    if family == 4:
        first = <uint32_t>(a.lo >> 24)
        return first == 0 or first == 127 or first >= 224 or (a.lo >> 16) == 0xA9FE
    return (a.hi == 0 and a.lo <= 1) or (a.hi >> 56) == 0xFF or (a.hi >> 54) == 0x3FA


cdef bint destination_is_martian(uint8_t family, addr a) noexcept nogil:
    return source_is_martian(family, a)


cdef inline addr load_addr6(const uint8_t *p) noexcept nogil:
    cdef addr a
    a.hi = load64(p)
    a.lo = load64(p + 8)
    return a


# IPv4 options: each must end inside the header; source routes are refused (RFC 7126 recommends both).
cdef int check_options(const uint8_t *p, uint32_t length) noexcept nogil:
    cdef uint32_t i = 0
    cdef uint32_t size
    while i < length:
        if p[i] == 0:
            return REASON_NONE
        if p[i] == 1:
            i += 1
            continue
        if i + 1 >= length:
            return REASON_IP_OPTIONS
        size = p[i + 1]
        if size < 2 or i + size > length:
            return REASON_IP_OPTIONS
        if p[i] == 131 or p[i] == 137:
            return REASON_IP_OPTIONS
        i += size
    return REASON_NONE


# Follow the chain of IPv6 extension headers from `offset` up to `end`. Tells the upper protocol, where it begins and
# where a fragment header stands (0: nowhere); behind that of a later fragment there is no chain.
cdef int follow_chain(const uint8_t *frame, uint8_t next_header, uint32_t offset, uint32_t end, uint8_t *proto, uint32_t *upper,
                      uint32_t *fragment) noexcept nogil:
    cdef int count = 0
    cdef uint32_t size
    fragment[0] = 0
    while (next_header == PROTO_HOPOPTS or next_header == PROTO_DSTOPTS or next_header == PROTO_ROUTING
            or next_header == PROTO_AH or next_header == PROTO_FRAGMENT):
        count += 1
        if count > MAX_EXTENSIONS or offset + 8 > end or (next_header == PROTO_HOPOPTS and count > 1):
            return REASON_IP_EXTENSION
        if next_header == PROTO_ROUTING and frame[offset + 3] != 0:
            return REASON_IP_EXTENSION      # it still wants to choose its way (RFC 5095)
        if next_header == PROTO_FRAGMENT:
            if fragment[0]:
                return REASON_IP_EXTENSION
            fragment[0] = offset
            size = 8
        elif next_header == PROTO_AH:
            size = (<uint32_t>frame[offset + 1] + 2) * 4
        else:
            size = (<uint32_t>frame[offset + 1] + 1) * 8
        next_header = frame[offset]
        offset += size
        if offset > end:
            return REASON_IP_EXTENSION
        if fragment[0] and (load16(frame + fragment[0] + 2) & 0xFFF8U):
            break
    proto[0] = next_header
    upper[0] = offset
    return REASON_NONE


# Sets l4, proto and the fragment fields of an IPv6 packet whose extension headers begin at `offset`.
cdef int parse_extensions(packet *p, uint8_t next_header, uint32_t offset) noexcept nogil:
    cdef uint32_t at, field
    cdef int reason = follow_chain(p.frame, next_header, offset, p.end, &p.proto, &p.l4, &at)
    if reason or at == 0:
        return reason
    field = load16(p.frame + at + 2)
    p.fragment_offset = field & 0xFFF8U
    p.fragment_id = load32(p.frame + at + 4)
    if p.fragment_offset:
        p.fragment = FRAGMENT_LATER
    elif field & 1:
        p.fragment = FRAGMENT_FIRST
    if (field & 1) and ((p.end - p.l4) & 7):
        return REASON_FRAGMENT_MALFORMED
    if p.fragment_offset + (p.end - p.l4) > 65535:
        return REASON_FRAGMENT_MALFORMED
    return REASON_NONE


# Ports, ICMP type and identifier, from `l4` up to `end`.
cdef int parse_l4(packet *p) noexcept nogil:
    cdef uint8_t *h = p.frame + p.l4
    cdef uint32_t room = p.end - p.l4
    cdef uint32_t size
    if p.fragment == FRAGMENT_LATER:
        if room == 0:
            return REASON_FRAGMENT_MALFORMED
        return REASON_NONE
    if p.proto == PROTO_TCP:
        if room < 20:
            return REASON_FRAGMENT_MALFORMED if p.fragment else REASON_L4_TRUNCATED
        size = <uint32_t>(h[12] >> 4) * 4
        if size < 20 or size > room:
            return REASON_FRAGMENT_MALFORMED if p.fragment else REASON_L4_TRUNCATED
        p.kind = L4_PORTS
        p.sport = load16(h)
        p.dport = load16(h + 2)
        p.tcp_flags = h[13]
    elif p.proto == PROTO_UDP:
        if room < 8:
            return REASON_FRAGMENT_MALFORMED if p.fragment else REASON_L4_TRUNCATED
        size = load16(h + 4)
        if size < 8 or (size > room and p.fragment == FRAGMENT_NONE):
            return REASON_L4_TRUNCATED
        p.kind = L4_PORTS
        p.sport = load16(h)
        p.dport = load16(h + 2)
        p.unsummed = p.fragment != FRAGMENT_NONE and load16(h + 6) == 0
    elif (p.proto == PROTO_ICMP and p.family == 4) or (p.proto == PROTO_ICMPV6 and p.family == 6):
        if room < 8:
            return REASON_FRAGMENT_MALFORMED if p.fragment else REASON_L4_TRUNCATED
        p.icmp_type = h[0]
        p.icmp_code = h[1]
        p.kind = icmp_kind(p.family, h[0])
        if p.kind == L4_QUERY:
            p.query = query_of(p.family, h[0])
            if p.query & 1:
                p.dport = load16(h + 4)
            else:
                p.sport = load16(h + 4)
        elif p.kind == L4_ERROR:
            parse_inner(p)
    return REASON_NONE


# The packet quoted in an ICMP error. What cannot be read leaves inner_l3 0: the error then relates to nothing. Of a
# flow it is only if the first 8 bytes behind its headers are there (RFC 792), and if it is not itself a message that
# asks nothing.
cdef void parse_inner(packet *p) noexcept nogil:
    cdef uint32_t at = p.l4 + 8
    cdef uint8_t *h = p.frame + at
    cdef uint32_t room = p.end - at
    cdef uint32_t l4 = 0, fragment = 0
    cdef bint later
    if p.family == 4:
        if room < 20 or (h[0] >> 4) != 4 or (h[0] & 15) < 5:
            return
        l4 = at + <uint32_t>(h[0] & 15) * 4
        if l4 > p.end:
            return
        p.inner_proto = h[9]
        p.inner_src.hi = 0
        p.inner_src.lo = load32(h + 12)
        p.inner_dst.hi = 0
        p.inner_dst.lo = load32(h + 16)
        later = (load16(h + 6) & 0x1FFF) != 0
    else:
        if room < 40 or (h[0] >> 4) != 6 or follow_chain(p.frame, h[6], at + 40, p.end, &p.inner_proto, &l4, &fragment):
            return
        p.inner_src = load_addr6(h + 8)
        p.inner_dst = load_addr6(h + 24)
        later = fragment != 0 and (load16(p.frame + fragment + 2) & 0xFFF8U) != 0
    p.inner_l3 = at
    p.inner_known = 1
    if later:
        return
    h = p.frame + l4
    room = p.end - l4
    if p.inner_proto == PROTO_TCP or p.inner_proto == PROTO_UDP:
        if room < 8:
            return
        p.inner_kind = L4_PORTS
        p.inner_sport = load16(h)
        p.inner_dport = load16(h + 2)
        p.inner_l4 = l4
    elif (p.inner_proto == PROTO_ICMP and p.family == 4) or (p.inner_proto == PROTO_ICMPV6 and p.family == 6):
        if room < 8 or icmp_kind(p.family, h[0]) != L4_QUERY:
            return
        p.inner_kind = L4_QUERY
        p.inner_query = query_of(p.family, h[0])
        if p.inner_query & 1:
            p.inner_dport = load16(h + 4)
        else:
            p.inner_sport = load16(h + 4)
        p.inner_l4 = l4
    p.inner_identified = 1


# Parse the IP packet at p.l3 (family, frame, length, l3 set; all else zeroed). Returns a drop reason or 0.
cdef int parse_ip(packet *p) noexcept nogil:
    cdef uint8_t *h = p.frame + p.l3
    cdef uint32_t room = p.length - p.l3
    cdef uint32_t size, field
    cdef int reason
    p.segments = 1
    if p.family == 4:
        if room < 20:
            return REASON_IP_TRUNCATED
        if (h[0] >> 4) != 4:
            return REASON_IP_VERSION
        size = <uint32_t>(h[0] & 15) * 4
        if size < 20 or size > room:
            return REASON_IP_HEADER_LENGTH
        field = load16(h + 2)
        if field < size or field > room:
            return REASON_IP_TOTAL_LENGTH
        p.end = p.l3 + field
        if fold(sum_bytes(h, size)) != 0xFFFFU:
            return REASON_IP_CHECKSUM
        if size > 20:
            reason = check_options(h + 20, size - 20)
            if reason:
                return reason
        p.ttl = h[8]
        p.proto = h[9]
        p.src.lo = load32(h + 12)
        p.dst.lo = load32(h + 16)
        p.l4 = p.l3 + size
        field = load16(h + 6)
        p.dont_fragment = (field >> 14) & 1
        if field & 0x3FFFU:
            p.fragment_id = load16(h + 4)
            p.fragment_offset = (field & 0x1FFFU) * 8
            p.fragment = FRAGMENT_LATER if p.fragment_offset else FRAGMENT_FIRST
            if (field & 0x2000U) and ((p.end - p.l4) & 7):
                return REASON_FRAGMENT_MALFORMED
            if p.fragment_offset + (p.end - p.l4) > 65535 - 20:
                return REASON_FRAGMENT_MALFORMED
    else:
        if room < 40:
            return REASON_IP_TRUNCATED
        if (h[0] >> 4) != 6:
            return REASON_IP_VERSION
        field = load16(h + 4)
        if 40 + field > room:
            return REASON_IP_TOTAL_LENGTH
        p.end = p.l3 + 40 + field
        p.ttl = h[7]
        p.src = load_addr6(h + 8)
        p.dst = load_addr6(h + 24)
        p.dont_fragment = 1
        reason = parse_extensions(p, h[6], p.l3 + 40)
        if reason:
            return reason
    if p.ttl == 0:
        return REASON_TTL_ZERO
    return parse_l4(p)


# Checks that need addresses: kept apart because the router's own answers to link-local senders skip them.
cdef int check_addresses(packet *p) noexcept nogil:
    if source_is_martian(p.family, p.src):
        return REASON_SOURCE_MARTIAN
    if destination_is_martian(p.family, p.dst):
        return REASON_DESTINATION_MARTIAN
    if addr_eq(p.src, p.dst):
        return REASON_LAND
    return REASON_NONE


# Read struct virtio_net_hdr_v1 (virtio 1.2, 5.1.6): flags, gso_type, hdr_len, gso_size, csum_start, csum_offset,
# num_buffers; little endian. Offsets count from the start of the frame. Call after parse_ip, which it checks against.
cdef int parse_offload(packet *p, const uint8_t *vnet) noexcept nogil:
    cdef uint8_t gso = vnet[1] & <uint8_t>(~<uint8_t>VNET_GSO_ECN)
    cdef uint32_t payload, size
    p.header_length = <uint16_t>p.l4
    if vnet[0] & VNET_NEEDS_CSUM:
        p.partial_checksum = 1
        p.csum_start = load16_le(vnet + 6)
        p.csum_offset = load16_le(vnet + 8)
        if p.csum_start != p.l4 or p.fragment != FRAGMENT_NONE or <uint32_t>p.csum_start + p.csum_offset + 2 > p.end:
            return REASON_OFFLOAD_MALFORMED
        if not ((p.proto == PROTO_TCP and p.csum_offset == 16) or (p.proto == PROTO_UDP and p.csum_offset == 6)):
            return REASON_OFFLOAD_MALFORMED
    if gso == VNET_GSO_NONE:
        return REASON_NONE
    p.gso_type = vnet[1]
    p.gso_size = load16_le(vnet + 4)
    if not p.partial_checksum or p.gso_size == 0 or p.proto != PROTO_TCP or p.fragment != FRAGMENT_NONE:
        return REASON_OFFLOAD_MALFORMED
    if (gso == VNET_GSO_TCPV4) != (p.family == 4) or (gso != VNET_GSO_TCPV4 and gso != VNET_GSO_TCPV6):
        return REASON_OFFLOAD_MALFORMED
    size = p.l4 + <uint32_t>(p.frame[p.l4 + 12] >> 4) * 4
    p.header_length = <uint16_t>size
    payload = p.end - size
    if payload <= p.gso_size:
        # fits one segment: an ordinary packet, whose receiver must not be told otherwise
        p.gso_type = VNET_GSO_NONE
        p.gso_size = 0
        return REASON_NONE
    p.segments = (payload + p.gso_size - 1) // p.gso_size
    return REASON_NONE


# Write the header for a frame as `p` describes it.
cdef void write_offload(packet *p, uint8_t *vnet) noexcept nogil:
    cdef int i
    for i in range(VNET_HEADER):
        vnet[i] = 0
    if p.partial_checksum:
        vnet[0] = VNET_NEEDS_CSUM
        store16_le(vnet + 6, p.csum_start)
        store16_le(vnet + 8, p.csum_offset)
    if p.gso_size:
        vnet[1] = p.gso_type
        store16_le(vnet + 2, p.header_length)
        store16_le(vnet + 4, p.gso_size)

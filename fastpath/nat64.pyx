"""Family translation: an IPv6 packet made anew as IPv4, and the other way round (RFC 7915).

Which addresses and ports the new packet has is the caller's: they come in a `header`, those of a packet quoted in
an ICMP error too. The old packet stays as it is, so that an error about it can still quote it.

    IPv6                                    IPv4
    traffic class, hop limit           <->  type of service, time to live
    flow label, extension headers       ->  left behind         left behind  <-  options
    fragment header                    <->  identification, MF, offset
    payload length                     <->  total length - 20
    no fragment header                  ->  identification 0, DF in packets of more than 1260 bytes
    ICMPv6 (58), checksum with pseudo  <->  ICMP (1), checksum without

Checksums are changed, not recomputed (RFC 1624), so that a wrong one stays wrong; what an ICMP error's covers is cut
and made anew, and the sum is carried over from all it covered to all it covers. The one exception is a UDP checksum
of zero, which IPv6 does not know: it is computed, where the whole datagram is at hand.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy, memset

from fastpath.edit cimport adjust, adjust_udp, change16
from fastpath.packet cimport FRAGMENT_LATER, FRAGMENT_NONE, L4_ERROR, L4_PORTS, L4_QUERY, parse_ip
from fastpath.reason cimport REASON_MTU_EXCEEDED, REASON_NAT_FRAGMENT, REASON_NAT_PROTOCOL, REASON_NONE
from fastpath.wire cimport *

cdef enum:
    HEADER4 = 20
    HEADER6 = 40
    FRAGMENT_HEADER = 8
    LONGEST4 = 65535
    LARGEST_UNMARKED = 1260     # longer IPv4 packets carry DF: they fitted 1280 bytes of IPv6 or its path MTU (RFC 7915, 5.1)
    ERROR4 = 576                # an ICMPv4 error is at most this long (RFC 1812, 4.3.2.3)
    ERROR6 = 1280               # an ICMPv6 error at most this (RFC 4443, 2.4 c)
    MINIMUM_MTU6 = 1280

# An IP header as far as it has a counterpart in the other family, with where its payload is.
cdef struct crossing:
    addr src                # of the new family
    addr dst
    uint32_t payload        # bytes behind the header and its options or extensions, in the packet as it was sent
    uint8_t service         # type of service, traffic class
    uint8_t ttl
    uint8_t proto           # of the new family
    uint8_t fragmented
    uint8_t more
    uint32_t offset
    uint32_t id
    uint32_t size           # of a segment on the wire, as an IPv4 packet


# The first header of a type among the extension headers between the IPv6 header at `ip` and `l4`; NULL: none.
cdef const uint8_t *find_extension(const uint8_t *ip, const uint8_t *l4, uint8_t wanted) noexcept nogil:
    cdef const uint8_t *at = ip + HEADER6
    cdef uint8_t type, next_header = ip[6]
    while at + 8 <= l4:
        type = next_header
        next_header = at[0]
        if type == wanted:
            return at
        if type == PROTO_AH:
            at += (<uint32_t>at[1] + 2) * 4
        else:
            at += (<uint32_t>at[1] + 1) * 8
    return NULL


# --- ICMP errors: types, codes, pointers (RFC 7915, 4.2 and 5.2) ----------------------------------------------------

# Where an IPv6 pointer points to in IPv4 (figure 6); -1: nowhere.
cdef int pointer4(uint32_t pointer) noexcept nogil:
    if pointer <= 1:
        return <int>pointer
    if pointer == 4 or pointer == 5:
        return 2
    if pointer == 6:
        return 9
    if pointer == 7:
        return 8
    if 8 <= pointer < 24:
        return 12
    return 16 if 24 <= pointer < 40 else -1


# Where an IPv4 pointer points to in IPv6 (figure 3); -1: nowhere.
cdef int pointer6(uint8_t pointer) noexcept nogil:
    if pointer <= 1:
        return pointer
    if pointer == 2 or pointer == 3:
        return 4
    if pointer == 8:
        return 7
    if pointer == 9:
        return 6
    if 12 <= pointer < 16:
        return 8
    return 24 if 16 <= pointer < 20 else -1


cdef bint error_head(uint8_t *to, int type, int code, uint32_t rest) noexcept nogil:
    to[0] = <uint8_t>type
    to[1] = <uint8_t>code
    store16(to + 2, 0)
    store32(to + 4, rest)
    return True


# The first 8 bytes of the ICMP error that says in IPv4 what `icmp` says in IPv6. False: nothing does.
cdef bint error_head4(const uint8_t *icmp, uint8_t *to) noexcept nogil:
    cdef uint8_t code = icmp[1]
    cdef uint32_t mtu
    cdef int pointer
    if icmp[0] == 1:
        if code == 0 or code == 2 or code == 3:
            return error_head(to, 3, 1, 0)
        if code == 1:
            return error_head(to, 3, 10, 0)
        return code == 4 and error_head(to, 3, 3, 0)
    if icmp[0] == 2:
        mtu = load32(icmp + 4)
        mtu = mtu - FAMILY_GAIN if mtu > FAMILY_GAIN else 0
        return error_head(to, 3, 4, mtu if mtu < 0xFFFFU else 0xFFFFU)
    if icmp[0] == 3:
        return error_head(to, 11, code, 0)
    if icmp[0] == 4:
        if code == 1:
            return error_head(to, 3, 2, 0)
        pointer = pointer4(load32(icmp + 4))
        return code == 0 and pointer >= 0 and error_head(to, 12, 0, <uint32_t>pointer << 24)
    return False


# And the other way round.
cdef bint error_head6(const uint8_t *icmp, uint8_t *to) noexcept nogil:
    cdef uint8_t code = icmp[1]
    cdef uint32_t mtu
    cdef int pointer
    if icmp[0] == 3:
        if code == 0 or code == 1 or 5 <= code <= 8 or code == 11 or code == 12:
            return error_head(to, 1, 0, 0)
        if code == 2:
            return error_head(to, 4, 1, 6)      # to the next header field
        if code == 3:
            return error_head(to, 1, 4, 0)
        if code == 4:
            mtu = <uint32_t>load16(icmp + 6) + FAMILY_GAIN
            return error_head(to, 2, 0, mtu if mtu > MINIMUM_MTU6 else MINIMUM_MTU6)
        return (code == 9 or code == 10 or code == 13 or code == 15) and error_head(to, 1, 1, 0)
    if icmp[0] == 11:
        return error_head(to, 3, code, 0)
    if icmp[0] == 12:
        pointer = pointer6(icmp[4])
        return (code == 0 or code == 2) and pointer >= 0 and error_head(to, 4, 0, <uint32_t>pointer)
    return False


# --- headers --------------------------------------------------------------------------------------------------------

# What the IP header at `ip` (of `family`, payload from `l4`) says; addresses and `size` are left to the caller.
cdef void read_header(crossing *x, uint8_t family, const uint8_t *ip, const uint8_t *l4, uint8_t proto) noexcept nogil:
    cdef const uint8_t *fragment
    cdef uint32_t field
    memset(x, 0, sizeof(crossing))
    x.proto = proto
    if family == 4:
        x.service = ip[1]
        x.ttl = ip[8]
        x.id = load16(ip + 4)
        field = load16(ip + 6)
        x.more = (field >> 13) & 1
        x.offset = (field & 0x1FFFU) * 8
        x.fragmented = x.more or x.offset != 0
        field = load16(ip + 2)
        if proto == PROTO_ICMP:
            x.proto = PROTO_ICMPV6
    else:
        x.service = <uint8_t>(load16(ip) >> 4)
        x.ttl = ip[7]
        fragment = find_extension(ip, l4, PROTO_FRAGMENT)
        if fragment != NULL:
            x.fragmented = 1
            x.id = load16(fragment + 6)
            field = load16(fragment + 2)
            x.more = field & 1
            x.offset = field & 0xFFF8U
        field = <uint32_t>load16(ip + 4) + HEADER6
        if proto == PROTO_ICMPV6:
            x.proto = PROTO_ICMP
    x.payload = (field - <uint32_t>(l4 - ip)) & 0xFFFFU      # a quoted header may claim anything


cdef uint32_t write_header4(const crossing *x, uint8_t *ip) noexcept nogil:
    cdef uint32_t field = 0
    if x.fragmented:
        field = (0x2000U if x.more else 0) | (x.offset >> 3)
    elif x.size > LARGEST_UNMARKED:
        field = 0x4000U
    ip[0] = 0x45
    ip[1] = x.service
    store16(ip + 2, HEADER4 + x.payload)
    store16(ip + 4, x.id if x.fragmented else 0)
    store16(ip + 6, field)
    ip[8] = x.ttl
    ip[9] = x.proto
    store16(ip + 10, 0)
    store32(ip + 12, <uint32_t>x.src.lo)
    store32(ip + 16, <uint32_t>x.dst.lo)
    store16(ip + 10, 0xFFFFU - fold(sum_bytes(ip, HEADER4)))
    return HEADER4


cdef uint32_t write_header6(const crossing *x, uint8_t *ip) noexcept nogil:
    cdef uint32_t extra = FRAGMENT_HEADER if x.fragmented else 0
    store32(ip, 0x60000000U | (<uint32_t>x.service << 20))
    store16(ip + 4, x.payload + extra)
    ip[6] = PROTO_FRAGMENT if x.fragmented else x.proto
    ip[7] = x.ttl
    store64(ip + 8, x.src.hi)
    store64(ip + 16, x.src.lo)
    store64(ip + 24, x.dst.hi)
    store64(ip + 32, x.dst.lo)
    if x.fragmented:
        ip[40] = x.proto
        ip[41] = 0
        store16(ip + 42, x.offset | x.more)
        store32(ip + 44, x.id)
    return HEADER6 + extra


cdef inline uint32_t write_header(const crossing *x, uint8_t family, uint8_t *ip) noexcept nogil:
    return write_header4(x, ip) if family == 4 else write_header6(x, ip)


# Sum of the two addresses of the IP header at `ip`.
cdef inline uint64_t sum_addresses(const uint8_t *ip, uint8_t family) noexcept nogil:
    return sum_bytes(ip + 12, 8) if family == 4 else sum_bytes(ip + 8, 32)


# --- what the header carries ----------------------------------------------------------------------------------------

# Ports and checksum of the TCP or UDP header at `l4`, of which `there` bytes are. `addresses`: new - old.
cdef void change_ports(uint8_t *l4, uint32_t there, uint8_t proto, uint32_t old_sport, uint32_t old_dport, uint32_t sport,
                       uint32_t dport, uint64_t addresses, bint partial) noexcept nogil:
    cdef uint8_t *field = l4 + (16 if proto == PROTO_TCP else 6)
    cdef uint64_t ports
    if there < 8:
        return
    ports = change16(l4, old_sport, sport) + change16(l4 + 2, old_dport, dport)
    if partial:
        # the plain sum of the pseudo-header: ports are not part of it
        store16(field, fold(load16(field) + addresses))
    elif proto == PROTO_UDP:
        adjust_udp(field, addresses + ports)
    elif there >= 18:
        adjust(field, addresses + ports)


# Type, identifier and checksum of the echo message at `icmp`. `ip`, `length`: the IPv6 header and the length of what it
# carries, which are part of an ICMPv6 checksum.
cdef void change_echo(uint8_t *icmp, uint8_t from_family, uint32_t old_id, uint32_t new_id, const uint8_t *ip,
                      uint32_t length) noexcept nogil:
    cdef uint32_t old = load16(icmp)
    cdef uint64_t pseudo = sum_bytes(ip + 8, 32) + length + PROTO_ICMPV6
    cdef uint64_t delta
    if from_family == 4:
        icmp[0] = 128 if icmp[0] == 8 else 129
        delta = pseudo
    else:
        icmp[0] = 8 if icmp[0] == 128 else 0
        delta = 0xFFFFU - fold(pseudo)
    delta += delta16(old, load16(icmp)) + change16(icmp + 4, old_id, new_id)
    adjust(icmp + 2, delta)


# The packet that the ICMP error `p` is about, written to `out`, cut to `room` bytes. Returns its length.
cdef uint32_t change_quoted(packet *p, const header *to, uint8_t family, uint8_t *out, uint32_t room) noexcept nogil:
    cdef const uint8_t *ip = p.frame + p.inner_l3
    cdef uint32_t at = p.inner_l4
    cdef uint32_t head, there
    cdef uint8_t *l4
    cdef crossing x
    if at == 0:
        at = p.inner_l3 + (<uint32_t>(ip[0] & 15) * 4 if p.family == 4 else HEADER6)
    read_header(&x, p.family, ip, p.frame + at, p.inner_proto)
    x.src = to.inner_src
    x.dst = to.inner_dst
    x.size = (HEADER4 + x.payload) & 0xFFFFU
    head = write_header(&x, family, out)
    there = p.end - at
    if there > room - head:
        there = room - head
    l4 = out + head
    memcpy(l4, p.frame + at, there)
    if p.inner_l4 == 0:
        return head + there
    if p.inner_kind == L4_PORTS:
        change_ports(l4, there, p.inner_proto, p.inner_sport, p.inner_dport, to.inner_sport, to.inner_dport,
                     <uint64_t>(0xFFFFU - fold(sum_addresses(ip, p.family))) + sum_addresses(out, family), False)
    elif p.inner_kind == L4_QUERY and there >= 8:
        change_echo(l4, p.family, p.inner_sport | p.inner_dport, to.inner_sport | to.inner_dport,
                    ip if p.family == 6 else out, x.payload)
    return head + there


# The ICMP error `p`, written to `out` behind the IP header at `ip`, cut so that the packet is no longer than allowed.
# Returns its length.
cdef uint32_t change_error(packet *p, const header *to, uint8_t family, const uint8_t *ip, uint8_t *out) noexcept nogil:
    cdef const uint8_t *icmp = p.frame + p.l4
    cdef uint32_t before = p.end - p.l4
    cdef uint32_t after = 8
    cdef uint32_t head = HEADER4 if family == 4 else HEADER6
    cdef uint32_t field
    cdef uint64_t covered, covers
    if family == 4:
        error_head4(icmp, out)
    else:
        error_head6(icmp, out)
    if p.inner_l3:
        after += change_quoted(p, to, family, out + 8, (ERROR4 if family == 4 else ERROR6) - head - 8)
    # all but the checksum itself, in the old message and in the new; both with the pseudo-header of the one in IPv6
    covered = load16(icmp) + sum_bytes(icmp + 4, before - 4)
    covers = load16(out) + sum_bytes(out + 4, after - 4)
    if family == 4:
        covered += sum_bytes(p.frame + p.l3 + 8, 32) + before + PROTO_ICMPV6
    else:
        covers += sum_bytes(ip + 8, 32) + after + PROTO_ICMPV6
    field = fold(load16(icmp + 2) + covered + (0xFFFFU - fold(covers)))
    store16(out + 2, 0 if field == 0xFFFFU else field)
    return after


# UDP over IPv6 has a checksum (RFC 8200, 8.1), over IPv4 it may have none.
cdef void complete_udp(const uint8_t *ip, uint8_t *udp) noexcept nogil:
    cdef uint32_t length = load16(udp + 4)
    cdef uint32_t value = 0xFFFFU - fold(sum_bytes(ip + 8, 32) + PROTO_UDP + length + sum_bytes(udp, length))
    store16(udp + 6, value if value else 0xFFFFU)


# --- the packet -----------------------------------------------------------------------------------------------------

# Why `p` cannot cross to the other family, whichever flow it is of, or 0. The rest the caller has checked: it is TCP, UDP,
# an echo message or an ICMP error, and only UDP in fragments.
cdef uint16_t family_refusal(packet *p) noexcept nogil:
    cdef const uint8_t *fragment
    cdef uint32_t payload = p.end - p.l4
    if p.family == 4:
        return REASON_NONE
    if p.kind == L4_ERROR and not 1 <= p.icmp_type <= 4:
        return REASON_NAT_PROTOCOL
    if p.fragment != FRAGMENT_NONE:
        # extension headers behind the fragment header are counted in offsets: they cannot be left behind
        fragment = find_extension(p.frame + p.l3, p.frame + p.l4, PROTO_FRAGMENT)
        if fragment == NULL or fragment[0] == PROTO_HOPOPTS or fragment[0] == PROTO_ROUTING or fragment[0] == PROTO_AH \
                or fragment[0] == PROTO_DSTOPTS or p.fragment_offset + payload > LONGEST4 - HEADER4:
            return REASON_NAT_FRAGMENT
    # what is not among those that are left behind (RFC 7915, 5.1): as IPv4 it would be a protocol that has no ports
    if find_extension(p.frame + p.l3, p.frame + p.l4, PROTO_AH) != NULL:
        return REASON_NAT_PROTOCOL
    if p.fragment == FRAGMENT_NONE and payload > LONGEST4 - HEADER4 and p.kind != L4_ERROR:
        return REASON_MTU_EXCEEDED
    return REASON_NONE


# Why nothing in the other family says what `p` says, or 0: an error that has no counterpart, or UDP in fragments that
# nobody can sum up (RFC 7915, 4.5). `in_pieces`: an earlier hop has asked for it to be cut.
cdef uint16_t counterpart_missing(packet *p, bint in_pieces) noexcept nogil:
    cdef uint8_t head[8]
    if p.kind == L4_ERROR:
        if not (error_head6(p.frame + p.l4, head) if p.family == 4 else error_head4(p.frame + p.l4, head)):
            return REASON_NAT_PROTOCOL
    elif p.family == 4 and p.proto == PROTO_UDP:
        if p.fragment == FRAGMENT_NONE:
            in_pieces = in_pieces and not p.partial_checksum and load16(p.frame + p.l4 + 6) == 0
        else:
            in_pieces = p.unsummed
        return REASON_NAT_FRAGMENT if in_pieces else REASON_NONE
    return REASON_NONE


# Write `p` as a packet of the other family to `q.frame` (room for p.end + FAMILY_HEADROOM bytes) and describe it in `q`.
# `to` holds its addresses and ports, in the new family, and how many hops the old one has spent. `p` must not be
# refused by either of the above. Returns what a reader of the new packet says of it: 0, or a drop reason.
cdef uint16_t change_family(packet *p, const header *to, packet *q) noexcept nogil:
    cdef uint8_t *frame = q.frame
    cdef uint8_t *ip = frame + ETH_HEADER
    cdef const uint8_t *old = p.frame + p.l3
    cdef uint8_t family = 6 if p.family == 4 else 4
    cdef uint32_t payload = p.end - p.l4
    cdef uint32_t head
    cdef uint16_t reason
    cdef uint8_t *l4
    cdef crossing x
    memset(q, 0, sizeof(packet))
    read_header(&x, p.family, old, p.frame + p.l4, p.proto)
    x.src = to.src
    x.dst = to.dst
    x.ttl = <uint8_t>(p.ttl - to.ttl_spent)
    x.size = HEADER4 + payload
    if p.gso_size:
        x.size = HEADER4 + p.header_length - p.l4 + p.gso_size
    head = write_header(&x, family, ip)
    l4 = ip + head
    if p.kind == L4_ERROR:
        payload = change_error(p, to, family, ip, l4)
        x.payload = payload
        x.size = HEADER4 + payload
        write_header(&x, family, ip)
    else:
        memcpy(l4, p.frame + p.l4, payload)
        if p.kind == L4_QUERY:
            change_echo(l4, p.family, p.sport | p.dport, to.sport | to.dport, old if p.family == 6 else ip, payload)
        elif p.fragment != FRAGMENT_LATER:
            change_ports(l4, payload, p.proto, p.sport, p.dport, to.sport, to.dport,
                         <uint64_t>(0xFFFFU - fold(sum_addresses(old, p.family))) + sum_addresses(ip, family),
                         p.partial_checksum)
            if family == 6 and p.proto == PROTO_UDP and not p.partial_checksum and load16(l4 + 6) == 0:
                complete_udp(ip, l4)
    memset(frame, 0, ETH_HEADER)
    store16(frame + 12, ETHERTYPE_IPV4 if family == 4 else ETHERTYPE_IPV6)
    q.frame = frame
    q.length = ETH_HEADER + head + payload
    q.l3 = ETH_HEADER
    q.family = family
    q.context = p.context
    q.neighbour = p.neighbour
    reason = <uint16_t>parse_ip(q)
    describe(p, to, q, &x)
    return reason


# What a packet does not say of itself: what its first fragment has told, and the offloads asked for.
cdef void describe(packet *p, const header *to, packet *q, const crossing *x) noexcept nogil:
    q.generated = p.generated
    q.segments = p.segments
    if p.fragment == FRAGMENT_LATER:
        q.kind = p.kind
        q.sport = to.sport
        q.dport = to.dport
        q.unsummed = p.unsummed
    elif q.family == 6 and p.fragment == FRAGMENT_NONE:
        q.fragment_id = x.id        # for the fragments it may yet be cut into
    if p.partial_checksum:
        q.partial_checksum = 1
        q.csum_start = <uint16_t>q.l4
        q.csum_offset = p.csum_offset
    if p.gso_size:
        q.gso_size = p.gso_size
        q.gso_type = (p.gso_type & VNET_GSO_ECN) | (VNET_GSO_TCPV4 if q.family == 4 else VNET_GSO_TCPV6)
        q.header_length = <uint16_t>(p.header_length - p.l4 + q.l4)

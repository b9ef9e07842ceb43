"""Changing bytes: the edit of one leg applied in one go, fragments (RFC 791), ICMP errors (RFC 792, 1812,
4443) and the answers of a subnet's router (ARP, RFC 826; neighbour discovery, RFC 4861; echo).

Checksums are changed, not recomputed (RFC 1624), so a wrong one stays wrong and a UDP checksum of zero
stays zero. Where the sender left its checksum to us (a *partial* one), the field holds the plain sum of the
pseudo-header: an address changes it, a port does not.
"""

from libc.string cimport memcpy, memset

from fastpath.packet cimport FRAGMENT_LATER, FRAGMENT_NONE, L4_ERROR, L4_PORTS, L4_QUERY, addr_eq
from fastpath.wire cimport *

cdef enum:
    ROUTER_TTL = 64
    QUOTE4 = 576 - 28       # an ICMPv4 error is at most 576 bytes (RFC 1812, 4.3.2.3)
    QUOTE6 = 1280 - 48      # an ICMPv6 error at most the minimum MTU (RFC 4443, 2.4 c)
    MSS_OPTION = 2


cdef inline void store_addr6(uint8_t *p, addr a) noexcept nogil:
    store64(p, a.hi)
    store64(p + 8, a.lo)


# Write a new address at `at` and return the delta to every sum that covers it.
cdef uint64_t change_addr(uint8_t *at, uint8_t family, addr old, addr new) noexcept nogil:
    if addr_eq(old, new):
        return 0
    if family == 4:
        store32(at, <uint32_t>new.lo)
        return delta32(<uint32_t>old.lo, <uint32_t>new.lo)
    store_addr6(at, new)
    return (<uint64_t>delta32(<uint32_t>(old.hi >> 32), <uint32_t>(new.hi >> 32)) + delta32(<uint32_t>old.hi, <uint32_t>new.hi)
            + delta32(<uint32_t>(old.lo >> 32), <uint32_t>(new.lo >> 32)) + delta32(<uint32_t>old.lo, <uint32_t>new.lo))


cdef uint64_t change16(uint8_t *at, uint32_t old, uint32_t new) noexcept nogil:
    if old == new:
        return 0
    store16(at, new)
    return delta16(old, new)


cdef void adjust_udp(uint8_t *at, uint64_t delta) noexcept nogil:
    cdef uint32_t field = load16(at)
    if field == 0 or delta == 0:
        return
    field = checksum_adjust(field, delta)
    store16(at, field if field else 0xFFFFU)


cdef void adjust(uint8_t *at, uint64_t delta) noexcept nogil:
    if delta:
        store16(at, checksum_adjust(load16(at), delta))


# The packet quoted in an ICMP error: its addresses, its ports, its own checksums, and the error's checksum.
cdef void apply_inner(packet *p, const header *to) noexcept nogil:
    cdef uint8_t *ip = p.frame + p.inner_l3
    cdef uint8_t *l4 = p.frame + p.inner_l4
    cdef uint32_t last = p.inner_l4 + 18 if p.inner_l4 else p.inner_l3 + (20 if p.family == 4 else 40)
    cdef uint64_t before, addresses, ports = 0
    if last > p.end:
        last = p.end
    before = sum_bytes(ip, last - p.inner_l3)
    if p.family == 4:
        addresses = change_addr(ip + 12, 4, p.inner_src, to.inner_src) + change_addr(ip + 16, 4, p.inner_dst, to.inner_dst)
        adjust(ip + 10, addresses)
    else:
        addresses = change_addr(ip + 8, 6, p.inner_src, to.inner_src) + change_addr(ip + 24, 6, p.inner_dst, to.inner_dst)
    if p.inner_l4 and p.inner_kind == L4_PORTS:
        ports = change16(l4, p.inner_sport, to.inner_sport) + change16(l4 + 2, p.inner_dport, to.inner_dport)
        if p.inner_proto == PROTO_UDP:
            adjust_udp(l4 + 6, addresses + ports)
        elif p.inner_l4 + 18 <= p.end:
            adjust(l4 + 16, addresses + ports)
    elif p.inner_l4 and p.inner_kind == L4_QUERY:
        ports = change16(l4 + 4, p.inner_sport | p.inner_dport, to.inner_sport | to.inner_dport)
        adjust(l4 + 2, ports if p.family == 4 else addresses + ports)
    # new - old, as sums of the same words
    adjust(p.frame + p.l4 + 2, (<uint64_t>0xFFFFU - fold(before)) + sum_bytes(ip, last - p.inner_l3))


# Lower the maximum segment size that a SYN asks for (RFC 9293, 3.7.1). A checksum left to hardware covers it later.
cdef void clamp_mss(packet *p, uint16_t mss) noexcept nogil:
    cdef uint8_t *tcp = p.frame + p.l4
    cdef uint32_t i = 20, end = <uint32_t>(tcp[12] >> 4) * 4, size, old
    if p.proto != PROTO_TCP or not (p.tcp_flags & TCP_SYN) or p.l4 + end > p.end:
        return
    while i < end and tcp[i] != 0:
        if tcp[i] == 1:
            i += 1
            continue
        if i + 2 > end:
            return
        size = tcp[i + 1]
        if size < 2 or i + size > end:
            return
        if tcp[i] == MSS_OPTION and size == 4:
            old = load16(tcp + i + 2)
            if old > mss:
                store16(tcp + i + 2, mss)
                if not p.partial_checksum:
                    # words of the sum may lie across the option: what changed are two bytes at this parity
                    if i & 1:
                        adjust(tcp + 16, delta16((old >> 8) | ((old & 0xFF) << 8), (mss >> 8) | ((mss & 0xFF) << 8)))
                    else:
                        adjust(tcp + 16, delta16(old, mss))
        i += size


# Write addresses, ports, TTL and segment size as in `to`, keeping every checksum as right or wrong as it was.
cdef void apply_header(packet *p, const header *to) noexcept nogil:
    cdef uint8_t *ip = p.frame + p.l3
    cdef uint8_t *l4 = p.frame + p.l4
    cdef uint64_t addresses, ports = 0
    cdef uint32_t field
    if p.family == 4:
        addresses = change_addr(ip + 12, 4, p.src, to.src) + change_addr(ip + 16, 4, p.dst, to.dst)
        if to.ttl_spent:
            ip[8] = <uint8_t>(p.ttl - to.ttl_spent)
            adjust(ip + 10, addresses + delta16(<uint32_t>p.ttl << 8, <uint32_t>ip[8] << 8))
        else:
            adjust(ip + 10, addresses)
    else:
        addresses = change_addr(ip + 8, 6, p.src, to.src) + change_addr(ip + 24, 6, p.dst, to.dst)
        ip[7] = <uint8_t>(p.ttl - to.ttl_spent)
    if p.fragment == FRAGMENT_LATER:
        return
    if p.kind == L4_PORTS:
        if p.l4 + 8 > p.end:
            return
        ports = change16(l4, p.sport, to.sport) + change16(l4 + 2, p.dport, to.dport)
        if p.partial_checksum:
            if addresses:
                field = p.l4 + (16 if p.proto == PROTO_TCP else 6)
                store16(p.frame + field, fold(load16(p.frame + field) + addresses))
        elif p.proto == PROTO_UDP:
            adjust_udp(l4 + 6, addresses + ports)
        elif p.l4 + 18 <= p.end:
            adjust(l4 + 16, addresses + ports)
        if to.mss:
            clamp_mss(p, to.mss)
    elif p.kind == L4_QUERY:
        ports = change16(l4 + 4, p.sport | p.dport, to.sport | to.dport)
        adjust(l4 + 2, ports if p.family == 4 else addresses + ports)
    elif p.kind == L4_ERROR:
        if p.inner_l3:
            apply_inner(p, to)
        if p.family == 6:
            adjust(l4 + 2, addresses)


# Finish a checksum that the sender's kernel left to its hardware: sum from csum_start to the end.
cdef void complete_checksum(packet *p) noexcept nogil:
    cdef uint32_t field
    if not p.partial_checksum:
        return
    field = 0xFFFFU - fold(sum_bytes(p.frame + p.csum_start, p.end - p.csum_start))
    if field == 0 and p.proto == PROTO_UDP:
        field = 0xFFFFU
    store16(p.frame + p.csum_start + p.csum_offset, field)
    p.partial_checksum = 0


# The same of an IPv6 packet, without extension headers other than a fragment header. No router cuts IPv6, but what has
# become IPv6 behind a hop that cut it arrives in as many pieces.
cdef uint32_t next_fragment6(packet *p, uint8_t *to, uint32_t mtu, uint32_t *at) noexcept nogil:
    cdef uint32_t payload = p.end - p.l4
    cdef uint32_t size
    cdef uint32_t more = p.frame[p.l4 - 5] & 1 if p.fragment != FRAGMENT_NONE else 0
    cdef uint8_t *ip = to + p.l3
    if at[0] >= payload or mtu < 48 + 8:
        return 0
    size = payload - at[0]
    if size > mtu - 48:
        size = (mtu - 48) & 0xFFFFFFF8U
        more = 1
    memcpy(to, p.frame, p.l3 + 40)
    store16(ip + 4, 8 + size)
    ip[6] = PROTO_FRAGMENT
    ip[40] = p.proto
    ip[41] = 0
    store16(ip + 42, (p.fragment_offset + at[0]) | more)
    store32(ip + 44, p.fragment_id)
    memcpy(ip + 48, p.frame + p.l4 + at[0], size)
    at[0] += size
    return p.l3 + 48 + size


# Write the next fragment of packet `p` to `to` and return its frame length; 0 when there is none left.
# `at` starts at 0 and counts payload bytes done. Options without the copy bit stand in the first one only (RFC 791, 3.1).
cdef uint32_t next_fragment(packet *p, uint8_t *to, uint32_t mtu, uint32_t *at) noexcept nogil:
    cdef uint32_t head = p.l4 - p.l3
    cdef uint32_t payload = p.end - p.l4
    cdef uint32_t size, flags, i = 20, length
    cdef const uint8_t *old = p.frame + p.l3
    cdef uint8_t *ip = to + p.l3
    if p.family == 6:
        return next_fragment6(p, to, mtu, at)
    if at[0] >= payload or mtu < head + 8:
        return 0
    memcpy(to, p.frame, p.l3 + head)
    if at[0] and head > 20:
        memset(ip + 20, 0, head - 20)
        length = head
        head = 20
        while i < length and old[i] != 0:
            size = 1 if old[i] == 1 else old[i + 1]
            if old[i] & 0x80:
                memcpy(ip + head, old + i, size)
                head += size
            i += size
        head = (head + 3) & 0xFFFFFFFCU
        ip[0] = <uint8_t>(0x40 | (head >> 2))
    flags = load16(old + 6) & 0xE000U
    size = payload - at[0]
    if size > mtu - head:
        size = (mtu - head) & 0xFFFFFFF8U
        flags |= 0x2000U
    memcpy(to + p.l3 + head, p.frame + p.l4 + at[0], size)
    store16(ip + 2, head + size)
    store16(ip + 6, flags | ((p.fragment_offset + at[0]) >> 3))
    store16(ip + 10, 0)
    store16(ip + 10, 0xFFFFU - fold(sum_bytes(ip, head)))
    at[0] += size
    return p.l3 + head + size


# Write the ICMP error about `p` to `to` (room for ERROR_MAX) and return its frame length. It goes from `source`
# to the sender in `view`, and quotes the packet as it is in `view`. MACs are left to the port it leaves by.
cdef uint32_t build_error(packet *p, const header *view, uint8_t *to, addr source, bint too_big, uint32_t mtu) noexcept nogil:
    cdef uint32_t head = 20 if p.family == 4 else 40
    cdef uint32_t quote = p.end - p.l3
    cdef uint32_t limit = QUOTE4 if p.family == 4 else QUOTE6
    cdef uint8_t *ip = to + ETH_HEADER
    cdef uint8_t *icmp = ip + head
    cdef packet q = p[0]
    cdef uint64_t pseudo
    if quote > limit:
        quote = limit
    memset(to, 0, ETH_HEADER + head + 8)
    store16(to + 12, ETHERTYPE_IPV4 if p.family == 4 else ETHERTYPE_IPV6)
    memcpy(icmp + 8, p.frame + p.l3, quote)
    # the quoted copy is edited as a packet of its own, with the same offsets
    q.frame = icmp + 8 - p.l3
    q.end = p.l3 + quote
    if q.l4 + 8 <= q.end or p.fragment == FRAGMENT_LATER:
        apply_header(&q, view)
    if p.family == 4:
        ip[0] = 0x45
        store16(ip + 2, head + 8 + quote)
        ip[8] = ROUTER_TTL
        ip[9] = PROTO_ICMP
        store32(ip + 12, <uint32_t>source.lo)
        store32(ip + 16, <uint32_t>view.src.lo)
        store16(ip + 10, 0xFFFFU - fold(sum_bytes(ip, 20)))
        if too_big:
            icmp[0] = 3
            icmp[1] = 4
            store16(icmp + 6, mtu)
        else:
            icmp[0] = 11
        store16(icmp + 2, 0xFFFFU - fold(sum_bytes(icmp, 8 + quote)))
    else:
        ip[0] = 0x60
        store16(ip + 4, 8 + quote)
        ip[6] = PROTO_ICMPV6
        ip[7] = ROUTER_TTL
        store_addr6(ip + 8, source)
        store_addr6(ip + 24, view.src)
        if too_big:
            icmp[0] = 2
            store32(icmp + 4, mtu)
        else:
            icmp[0] = 3
        pseudo = sum_bytes(ip + 8, 32) + PROTO_ICMPV6 + 8 + quote
        store16(icmp + 2, 0xFFFFU - fold(pseudo + sum_bytes(icmp, 8 + quote)))
    return ETH_HEADER + head + 8 + quote


# Write the TCP reset that answers segment `p`, seen as in `view`, to `to` and return its frame length: what a host
# would send that knows no such connection (RFC 9293, 3.10.7.1).
cdef uint32_t build_reset(packet *p, const header *view, uint8_t *to) noexcept nogil:
    cdef uint32_t head = 20 if p.family == 4 else 40
    cdef uint8_t *ip = to + ETH_HEADER
    cdef uint8_t *tcp = ip + head
    cdef const uint8_t *segment = p.frame + p.l4
    cdef uint32_t length = p.end - p.l4 - <uint32_t>(segment[12] >> 4) * 4
    memset(to, 0, ETH_HEADER + head + 20)
    store16(to + 12, ETHERTYPE_IPV4 if p.family == 4 else ETHERTYPE_IPV6)
    store16(tcp, view.dport)
    store16(tcp + 2, view.sport)
    tcp[12] = 5 << 4
    if p.tcp_flags & TCP_ACK:
        store32(tcp + 4, load32(segment + 8))
        tcp[13] = TCP_RST
    else:
        length += ((p.tcp_flags & TCP_SYN) != 0) + ((p.tcp_flags & TCP_FIN) != 0)
        store32(tcp + 8, load32(segment + 4) + length)
        tcp[13] = TCP_RST | TCP_ACK
    if p.family == 4:
        ip[0] = 0x45
        store16(ip + 2, 40)
        ip[8] = ROUTER_TTL
        ip[9] = PROTO_TCP
        store32(ip + 12, <uint32_t>view.dst.lo)
        store32(ip + 16, <uint32_t>view.src.lo)
        store16(ip + 10, 0xFFFFU - fold(sum_bytes(ip, 20)))
    else:
        ip[0] = 0x60
        store16(ip + 4, 20)
        ip[6] = PROTO_TCP
        ip[7] = ROUTER_TTL
        store_addr6(ip + 8, view.dst)
        store_addr6(ip + 24, view.src)
    store16(tcp + 16, 0xFFFFU - fold(sum_bytes(ip + (12 if p.family == 4 else 8), 2 * (4 if p.family == 4 else 16))
                                     + PROTO_TCP + 20 + sum_bytes(tcp, 20)))
    return ETH_HEADER + head + 20


# Make the echo request `p` its own answer, in place.
cdef void turn_echo(packet *p) noexcept nogil:
    cdef uint8_t *ip = p.frame + p.l3
    cdef uint8_t *icmp = p.frame + p.l4
    cdef uint32_t old = load16(icmp)
    if p.family == 4:
        store32(ip + 12, <uint32_t>p.dst.lo)
        store32(ip + 16, <uint32_t>p.src.lo)
        adjust(ip + 10, delta16(<uint32_t>p.ttl << 8, ROUTER_TTL << 8))
        ip[8] = ROUTER_TTL
        icmp[0] = 0
    else:
        store_addr6(ip + 8, p.dst)
        store_addr6(ip + 24, p.src)
        ip[7] = ROUTER_TTL
        icmp[0] = 129
    adjust(icmp + 2, delta16(old, load16(icmp)))


# ARP for IPv4 over Ethernet: hardware 1, protocol 0x0800, lengths 6 and 4, operation at 6, sender 8, target 18.
cdef uint32_t build_arp_reply(const uint8_t *request, uint8_t *to, const uint8_t *mac) noexcept nogil:
    cdef const uint8_t *ask = request + ETH_HEADER
    cdef uint8_t *reply = to + ETH_HEADER
    memset(to, 0, 42)
    memcpy(to, ask + 8, 6)
    memcpy(to + 6, mac, 6)
    store16(to + 12, ETHERTYPE_ARP)
    memcpy(reply, ask, 6)
    store16(reply + 6, 2)
    memcpy(reply + 8, mac, 6)
    memcpy(reply + 14, ask + 24, 4)
    memcpy(reply + 18, ask + 8, 10)
    return 42


# Neighbour advertisement for solicitation `p`: solicited, override, with the target's link-layer address.
cdef uint32_t build_advertisement(packet *p, uint8_t *to, const uint8_t *mac, const uint8_t *own_mac, bint router) noexcept nogil:
    cdef uint8_t *ip = to + ETH_HEADER
    cdef uint8_t *icmp = ip + 40
    cdef uint8_t *target = p.frame + p.l4 + 8
    memset(to, 0, ETH_HEADER + 40 + 32)
    memcpy(to, own_mac, 6)
    memcpy(to + 6, mac, 6)
    store16(to + 12, ETHERTYPE_IPV6)
    ip[0] = 0x60
    store16(ip + 4, 32)
    ip[6] = PROTO_ICMPV6
    ip[7] = 255
    memcpy(ip + 8, target, 16)
    store_addr6(ip + 24, p.src)
    icmp[0] = 136
    icmp[4] = 0xE0 if router else 0x60
    memcpy(icmp + 8, target, 16)
    icmp[24] = 2
    icmp[25] = 1
    memcpy(icmp + 26, mac, 6)
    store16(icmp + 2, 0xFFFFU - fold(sum_bytes(ip + 8, 32) + PROTO_ICMPV6 + 32 + sum_bytes(icmp, 32)))
    return ETH_HEADER + 40 + 32

"""The first two passes of a burst: frames read as far as a flow entry asks, and where their entries would be.

Both change nothing and believe nothing: what they find is looked at again by the third pass (fastpath.burst), when the
packets in front have done what they do. What is read here as well as in fastpath.packet is told apart by one thing:
anything unusual (options, fragments, errors, a wrong sum, an ARP frame) is not read here at all, and received the whole way.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from fastpath.core cimport core
from fastpath.flow cimport arrival, facts
from fastpath.geneve cimport GENEVE_PORT, geneve, read_geneve
from fastpath.memo cimport *
from fastpath.packet cimport packet
from fastpath.wire cimport *

cdef enum:
    ECHO4 = 8
    ECHO6 = 128
    HEAD4 = ETH_HEADER + 20
    OWN_OPTIONS = 40        # GENEVE header with the options that the router writes


# --- 1: reading ----------------------------------------------------------------------------------------------------

# What stands behind the IP header: tells where its checksum is, and ports (or identifier, type and code) for the key.
cdef inline bint read_ends(facts *p, const uint8_t *l4, uint32_t room, uint8_t proto, uint8_t family, uint32_t *ends) noexcept nogil:
    cdef uint32_t size
    if likely(proto == PROTO_UDP):
        if room < 8:
            return False
        size = load16(l4 + 4)
        p.sum_at = 6
        ends[0] = raw32(l4)
        return 8 <= size <= room
    if proto == PROTO_TCP:
        if room < 20:
            return False
        size = <uint32_t>(l4[12] >> 4) * 4
        p.sum_at = 16
        ends[0] = raw32(l4)
        # only what carries an acknowledgement and nothing that opens or closes: its absence means something too
        return 20 <= size <= room and (l4[13] & (TCP_SYN | TCP_FIN | TCP_RST | TCP_ACK)) == TCP_ACK
    if proto == (PROTO_ICMP if family == 4 else PROTO_ICMPV6):
        if room < 8 or (l4[0] != ECHO4 and l4[0] != 0 if family == 4 else l4[0] & 0xFE != ECHO6):
            return False
        p.sum_at = 2
        ends[0] = raw16(l4 + 4) | (<uint32_t>l4[0] << 16) | (<uint32_t>l4[1] << 24)
        return True
    p.sum_at = 0
    ends[0] = 0
    return family == 4 or not (proto == PROTO_HOPOPTS or proto == PROTO_ROUTING or proto == PROTO_FRAGMENT or proto == PROTO_AH
                               or proto == PROTO_DSTOPTS)


# The IP packet behind the Ethernet header of a frame of `length` bytes. False: not one to be read here.
cdef inline bint read_ip(const flow_table *t, uint8_t *frame, uint32_t length, uint8_t family, facts *p, uint64_t *word,
                         wide_key *wide) noexcept nogil:
    cdef uint8_t *ip = frame + ETH_HEADER
    cdef uint32_t size, ends, head = 20 if family == 4 else 40
    cdef uint8_t proto
    if unlikely(length < ETH_HEADER + head):
        return False
    if family == 4:
        size = load16(ip + 2)
        if unlikely(ip[0] != 0x45 or (raw16(ip + 6) & ordered16(0x3FFF)) or size < 20 or size > length - ETH_HEADER or ip[8] == 0
                    or not is_right_sum(<uint64_t>raw32(ip) + raw32(ip + 4) + raw32(ip + 8) + raw32(ip + 12) + raw32(ip + 16))):
            return False
        p.ttl = ip[8]
        proto = ip[9]
        word[0] = raw64(ip + 12)
    else:
        size = 40 + load16(ip + 4)
        if (ip[0] >> 4) != 6 or size > length - ETH_HEADER or ip[7] == 0:
            return False
        p.ttl = ip[7]
        proto = ip[6]
        wide.word[0], wide.word[1] = raw64(ip + 8), raw64(ip + 16)
        wide.word[2], wide.word[3] = raw64(ip + 24), raw64(ip + 32)
        word[0] = digest(t, wide)
    p.frame = frame
    p.end = ETH_HEADER + size
    p.bytes = size
    p.wire = size
    p.segments = 1
    # constants next to each other are stored as one
    p.gso_size = 0
    p.header_length = 0
    p.gso_type = 0
    p.partial = 0
    p.family = family
    p.l4 = <uint8_t>(ETH_HEADER + head)
    p.proto = proto
    if unlikely(not read_ends(p, ip + head, size - head, proto, family, &ends)):
        return False
    word[1] = ends | (<uint64_t>proto << 32) | (<uint64_t>family << FAMILY_AT)
    return True


# What the sender's kernel left to its hardware, see `parse_offload`.
cdef bint read_offload(facts *p, const uint8_t *vnet) noexcept nogil:
    cdef uint8_t gso = vnet[1] & <uint8_t>(~<uint8_t>VNET_GSO_ECN)
    cdef uint32_t size, payload
    p.partial = vnet[0] & VNET_NEEDS_CSUM
    if p.partial and (load16_le(vnet + 6) != p.l4 or load16_le(vnet + 8) != p.sum_at
                      or (p.proto != PROTO_TCP and p.proto != PROTO_UDP)):
        return False
    if gso == VNET_GSO_NONE:
        return True
    p.gso_type = vnet[1]
    p.gso_size = load16_le(vnet + 4)
    if not p.partial or p.gso_size == 0 or p.proto != PROTO_TCP \
            or gso != (VNET_GSO_TCPV4 if p.family == 4 else VNET_GSO_TCPV6):
        return False
    size = p.l4 + <uint32_t>(p.frame[p.l4 + 12] >> 4) * 4
    p.header_length = <uint16_t>size
    payload = p.end - size
    if payload <= p.gso_size:
        p.gso_size = 0
        return True
    p.segments = (payload + p.gso_size - 1) // p.gso_size
    p.bytes += (p.segments - 1) * (size - ETH_HEADER)
    p.wire = size - ETH_HEADER + p.gso_size
    return True


# A packet to GENEVE_PORT, which may have come back through a tunnel: what is inside decides. False: nothing to be remembered.
cdef inline bint read_inside(core *c, arrival *a, facts *q, uint64_t *word, wide_key *wide) noexcept nogil:
    cdef const uint8_t *ip = a.frame + ETH_HEADER
    cdef const uint8_t *udp = ip + 20
    cdef const uint8_t *head = udp + 8
    cdef facts *p = &a.came
    cdef uint32_t size = load16(ip + 2), end = load16(udp + 4), at = HEAD4 + 8 + OWN_OPTIONS, cookie
    cdef bint is_four
    if unlikely((raw16(ip + 6) & ordered16(0x3FFF)) or size < 28 or size > a.length - ETH_HEADER or ip[8] == 0
                or not is_right_sum(<uint64_t>raw32(ip) + raw32(ip + 4) + raw32(ip + 8) + raw32(ip + 12) + raw32(ip + 16))
                or end < 8 or end > size - 20):
        return False
    p.bytes = size
    p.wire = size
    p.segments = 1
    p.gso_size = 0
    p.ttl = ip[8]
    if unlikely(a.vnet != NULL and raw16(a.vnet) != 0):
        p.proto = PROTO_UDP
        p.family = 4
        p.l4 = HEAD4
        p.sum_at = 6
        if not read_offload(p, a.vnet):
            return False
    end += HEAD4
    if likely(at <= end and head[0] == 8 and (head[2] == 0x08 or head[2] == 0x86)
              and raw32(head + 8) == ordered32(0x01080102U) and raw32(head + 20) == ordered32(0x01080202U)
              and raw32(head + 32) == ordered32(0x01080301U)):
        # the router's own options, as most give them back
        is_four = raw16(head + 2) == ordered16(ETHERTYPE_IPV4)
        if unlikely(not is_four and raw16(head + 2) != ordered16(ETHERTYPE_IPV6)):
            return False
        wide.word[4] = raw64(head + 12)
        cookie = raw32(head + 36)
    elif not read_options(a.frame, ETH_HEADER + size, &at, &end, &is_four, &cookie, wide):
        return False
    wide.word[5] = cookie | (<uint64_t>raw32(ip + 12) << 32)
    wide.word[6] = raw32(ip + 16) | (<uint64_t>raw16(udp) << 32)
    at -= ETH_HEADER
    if not (read_ip(&c.flows, a.frame + at, end - at, 4, q, word, wide) if likely(is_four)
            else read_ip(&c.flows, a.frame + at, end - at, 6, q, word, wide)):
        return False
    word[1] |= <uint64_t>1 << INSIDE_AT
    a.inside = q
    a.wide = wide
    return True


# GENEVE with other options than the router's own.
cdef bint read_options(uint8_t *frame, uint32_t length, uint32_t *at, uint32_t *end, bint *is_four, uint32_t *cookie,
                       wide_key *wide) noexcept nogil:
    cdef packet p
    cdef geneve g
    memset(&p, 0, sizeof(packet))
    p.frame = frame
    p.l4 = HEAD4
    p.end = length
    if read_geneve(&p, &g) or not (g.has_endpoint and g.has_cookie):
        return False
    at[0] = g.inside
    end[0] = g.end
    is_four[0] = g.family == 4
    cookie[0] = ordered32(g.cookie)
    wide.word[4] = ordered64(g.endpoint)
    return True


# Who a burst's packets come from: mostly one.
cdef struct sender:
    uint32_t context        # NO_FLOW: none yet
    uint64_t mac

cdef inline bint is_from(core *c, const arrival *a, sender *from_) noexcept nogil:
    if a.length < HEAD4:
        return False
    if unlikely(a.context != from_.context):
        from_.context = NO_FLOW
        if a.context >= c.t.context_count or c.t.contexts[a.context].interface == 0:
            return False
        from_.context = a.context
        from_.mac = raw48(c.t.interfaces[c.t.contexts[a.context].interface - 1].mac)
    return raw48(a.frame + 6) == from_.mac


# Whose flow entry a frame could have.
cdef inline void read_arrival(core *c, arrival *a, sender *from_, uint64_t *secret, uint32_t tunnels, uint32_t slot) noexcept nogil:
    cdef uint8_t *frame = a.frame
    cdef uint64_t mac
    cdef uint64_t word[3]
    cdef uint32_t type
    a.keyed = 0
    a.wide = NULL
    a.inside = NULL
    if unlikely(not is_from(c, a, from_)):
        return
    type = raw16(frame + 12)
    if tunnels and type == ordered16(ETHERTYPE_IPV4) and frame[ETH_HEADER] == 0x45 and frame[ETH_HEADER + 9] == PROTO_UDP \
            and a.length >= HEAD4 + 8 + OWN_OPTIONS and raw16(frame + HEAD4 + 2) == ordered16(GENEVE_PORT):
        if not read_inside(c, a, &c.inside[slot], word, &c.keys[slot]):
            return
    else:
        if likely(type == ordered16(ETHERTYPE_IPV4)):
            if unlikely(not read_ip(&c.flows, frame, a.length, 4, &a.came, word, NULL)):
                return
        elif type == ordered16(ETHERTYPE_IPV6):
            a.wide = &c.keys[slot]
            if not read_ip(&c.flows, frame, a.length, 6, &a.came, word, a.wide):
                return
        else:
            return
        if a.vnet != NULL and raw16(a.vnet) != 0 and not read_offload(&a.came, a.vnet):
            return
    # which neighbour a MAC is of follows from the tables, as does whether it may be sent to
    mac = raw48(frame)
    word[1] |= (mac >> 32) << 48
    word[2] = (mac & 0xFFFFFFFFU) | (<uint64_t>a.context << 32)
    a.word[0], a.word[1], a.word[2] = word[0], word[1], word[2]
    if likely(a.wide == NULL):
        a.tag = tag_of_words(word[0], word[1], word[2], secret[0], secret[1], secret[2])
    else:
        a.tag = tag_of(&c.flows, word, a.wide)
    a.keyed = 1


# --- 1 and 2 -------------------------------------------------------------------------------------------------------

cdef void look_ahead(core *c, arrival *rows, uint32_t count) noexcept nogil:
    cdef const flow_table *t = &c.flows
    cdef arrival *a
    cdef bucket *b
    cdef uint32_t i, ways, tunnels = c.t.tunnel_count
    cdef uint64_t secret[3]
    cdef flow *lines = t.rows
    cdef sender from_
    from_.context = NO_FLOW
    from_.mac = 0
    secret[0], secret[1], secret[2] = t.secret[0], t.secret[1], t.secret[2]
    for i in range(count):
        a = &rows[i]
        read_arrival(c, a, &from_, secret, tunnels, i)
        if likely(a.keyed):
            a.home = home_of(t, a.tag)
            fetch(a.home)
    for i in range(count):
        a = &rows[i]
        if unlikely(not a.keyed):
            continue
        b = a.home
        ways = ways_with(b.tags, a.tag)
        if unlikely(ways == 0):
            b = beside(b, 1)
            ways = ways_with(b.tags, a.tag)
            if ways == 0:
                a.row = NO_FLOW
                continue
        a.row = b.rows[lowest_way(ways)]
        fetch(&lines[a.row])
        if unlikely(a.wide != NULL):
            fetch(&t.wide[a.row])
            fetch(<char *>&t.wide[a.row] + 64)

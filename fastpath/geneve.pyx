"""GENEVE as a gateway load balancer speaks it: 68 bytes in front of an IP packet (RFC 8926, AWS's option class).

    IPv4   20   TTL 255, type of service 0, identification 0, no DF
    UDP     8   to port 6081, with a checksum
    GENEVE  8   version 0, 8 words of options, protocol type 0x0800 or 0x86DD, VNI 0
            12  option class 0x0108 type 1: the endpoint, 64 bits
            12  option class 0x0108 type 2: attachment, zero
             8  option class 0x0108 type 3: the flow cookie, 32 bits

What comes back is read tolerantly: options in any order, further ones among them, any VNI and flags, no look at the outer
checksum or TTL. Segments that a sender's kernel left to its hardware are cut here, for none may be larger than the tunnel
takes (RFC 9293, 3.1; flags of all but the last segment as in Linux's software segmentation).
"""

from libc.string cimport memcpy, memset

from fastpath.packet cimport parse_ip
from fastpath.reason cimport REASON_GENEVE_MALFORMED, REASON_NONE
from fastpath.wire cimport *

cdef enum:
    OPTION_CLASS = 0x0108
    OPTION_ENDPOINT = 1
    OPTION_COOKIE = 3
    OPTION_WORDS = 8
    TCP_PSH = 0x08
    TCP_CWR = 0x80


# Read what stands behind the UDP header of `p`, which looks like GENEVE. A drop reason, or 0.
cdef uint16_t read_geneve(const packet *p, geneve *g) noexcept nogil:
    cdef const uint8_t *frame = p.frame
    cdef uint32_t at = p.l4 + 8, end = p.l4 + load16(frame + p.l4 + 4), options, size
    cdef uint32_t type
    memset(g, 0, sizeof(geneve))
    if end > p.end:
        end = p.end
    if at + 8 > end or (frame[at] >> 6) != 0:
        return REASON_GENEVE_MALFORMED
    type = load16(frame + at + 2)
    if type == ETHERTYPE_IPV4:
        g.family = 4
    elif type == ETHERTYPE_IPV6:
        g.family = 6
    else:
        return REASON_GENEVE_MALFORMED
    options = at + 8
    at = options + <uint32_t>(frame[at] & 0x3F) * 4
    if at > end:
        return REASON_GENEVE_MALFORMED
    while options < at:
        if options + 4 > at:
            return REASON_GENEVE_MALFORMED
        size = 4 + <uint32_t>(frame[options + 3] & 0x1F) * 4
        if options + size > at:
            return REASON_GENEVE_MALFORMED
        if load16(frame + options) == OPTION_CLASS:
            if frame[options + 2] == OPTION_ENDPOINT and size == 12 and not g.has_endpoint:
                g.has_endpoint = 1
                g.endpoint = load64(frame + options + 4)
            elif frame[options + 2] == OPTION_COOKIE and size == 8 and not g.has_cookie:
                g.has_cookie = 1
                g.cookie = load32(frame + options + 4)
        options += size
    g.inside = at
    g.end = end
    return REASON_NONE


# The packet inside, where it lies: its Ethernet header will be written over the last bytes of what was in front of it.
cdef uint16_t open_geneve(const packet *p, const geneve *g, packet *q) noexcept nogil:
    memset(q, 0, sizeof(packet))
    q.frame = p.frame + g.inside - ETH_HEADER
    q.length = g.end - (g.inside - ETH_HEADER)
    q.l3 = ETH_HEADER
    q.context = p.context
    q.family = g.family
    return REASON_GENEVE_MALFORMED if parse_ip(q) else REASON_NONE


# Write the 68 bytes at `ip`, in front of `inside` bytes of IP packet of `family`, which must be as they are to be sent.
cdef void write_outer(uint8_t *ip, uint32_t inside, uint8_t family, const outer *o) noexcept nogil:
    cdef uint8_t *udp = ip + 20
    cdef uint8_t *head = udp + 8
    cdef uint32_t size = OUTER_SIZE - 20 + inside, sum
    memset(ip, 0, OUTER_SIZE)
    ip[0] = 0x45
    store16(ip + 2, 20 + size)
    ip[8] = o.ttl
    ip[9] = PROTO_UDP
    store32(ip + 12, o.src)
    store32(ip + 16, o.dst)
    store16(ip + 10, 0xFFFFU - fold(sum_bytes(ip, 20)))
    store16(udp, o.sport)
    store16(udp + 2, o.dport)
    store16(udp + 4, size)
    head[0] = OPTION_WORDS
    store16(head + 2, ETHERTYPE_IPV4 if family == 4 else ETHERTYPE_IPV6)
    store32(head + 8, 0x01080102U)
    store64(head + 12, o.endpoint)
    store32(head + 20, 0x01080202U)
    store32(head + 32, 0x01080301U)
    store32(head + 36, o.cookie)
    sum = 0xFFFFU - fold(sum_bytes(ip + 12, 8) + PROTO_UDP + size + sum_bytes(udp, size))
    store16(udp + 6, sum if sum else 0xFFFFU)


# Write the next segment of an offloaded TCP packet to `to` and return its frame length; 0 when there is none left. `at`
# starts at 0 and counts payload bytes done. The first one may be written where the whole packet is.
cdef uint32_t next_segment(const packet *p, uint8_t *to, uint32_t *at) noexcept nogil:
    cdef uint32_t payload = p.end - p.header_length, size = payload - at[0]
    cdef uint8_t *ip = to + p.l3
    cdef uint8_t *tcp = to + p.l4
    if size == 0:
        return 0
    if size > p.gso_size:
        size = p.gso_size
    if to != p.frame:
        memcpy(to, p.frame, p.header_length)
        memcpy(to + p.header_length, p.frame + p.header_length + at[0], size)
    if p.family == 4:
        store16(ip + 2, p.header_length - p.l3 + size)
        store16(ip + 4, load16(ip + 4) + at[0] // p.gso_size)
        store16(ip + 10, 0)
        store16(ip + 10, 0xFFFFU - fold(sum_bytes(ip, p.l4 - p.l3)))
    else:
        store16(ip + 4, p.header_length - p.l3 - 40 + size)
    store32(tcp + 4, load32(tcp + 4) + at[0])
    if at[0]:
        tcp[13] &= <uint8_t>~<uint8_t>TCP_CWR
    if at[0] + size < payload:
        tcp[13] &= <uint8_t>~<uint8_t>(TCP_FIN | TCP_PSH)
    store16(tcp + 16, 0)
    store16(tcp + 16, 0xFFFFU - fold(sum_bytes(ip + (12 if p.family == 4 else 8), 8 if p.family == 4 else 32) + PROTO_TCP
                                     + p.header_length - p.l4 + size + sum_bytes(tcp, p.header_length - p.l4 + size)))
    at[0] += size
    return p.header_length + size

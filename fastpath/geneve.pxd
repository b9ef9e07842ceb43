# Packets inside packets: GENEVE (RFC 8926) with the options of a gateway load balancer.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.packet cimport outer, packet

cdef enum:
    GENEVE_PORT = 6081
    OUTER_SIZE = 68         # IPv4, UDP, GENEVE and its three options

# What stands in front of the packet inside.
cdef struct geneve:
    uint64_t endpoint
    uint32_t cookie
    uint8_t has_endpoint
    uint8_t has_cookie
    uint8_t family          # of the packet inside
    uint32_t inside         # offset of it from the frame
    uint32_t end

cdef uint16_t read_geneve(const packet *p, geneve *g) noexcept nogil
cdef uint16_t open_geneve(const packet *p, const geneve *g, packet *q) noexcept nogil
cdef void write_outer(uint8_t *ip, uint32_t inside, uint8_t family, const outer *o) noexcept nogil
cdef uint32_t next_segment(const packet *p, uint8_t *to, uint32_t *at) noexcept nogil


# The UDP source port of a flow, from 49152 up (RFC 8926, 3.3): one that follows from its cookie.
cdef inline uint16_t port_of_cookie(uint32_t cookie) noexcept nogil:
    return <uint16_t>(0xC000U | (((cookie * 0x9E3779B1U) >> 16) & 0x3FFFU))

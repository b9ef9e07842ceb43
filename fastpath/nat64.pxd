# Family translation: one packet made anew in the other family (RFC 7915).

from libc.stdint cimport uint16_t, uint32_t

from fastpath.packet cimport addr, header, packet

cdef enum:
    FAMILY_HEADROOM = 48 + 28   # bytes a frame may grow by: its header (40 + 8 for 20), and the one it quotes
    FAMILY_GAIN = 20            # what a path's MTU grows by for packets that become IPv6

cdef uint16_t family_refusal(packet *p) noexcept nogil
cdef uint16_t counterpart_missing(packet *p, bint in_pieces) noexcept nogil
cdef uint16_t change_family(packet *p, const header *to, packet *q) noexcept nogil


# An IPv4 address and the IPv6 address that stands for it: `prefix` is a /96 (RFC 6052, 2.2).
cdef inline addr embed4(addr prefix, addr a) noexcept nogil:
    a.hi = prefix.hi
    a.lo = (prefix.lo & <unsigned long long>0xFFFFFFFF00000000U) | (a.lo & 0xFFFFFFFFU)
    return a


cdef inline addr extract4(addr a) noexcept nogil:
    a.hi = 0
    a.lo &= 0xFFFFFFFFU
    return a

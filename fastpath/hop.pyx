"""MTU and TTL of a gateway, and the ICMP error about what does not get over them (RFC 1191, RFC 8201)."""

from fastpath.packet cimport FRAGMENT_LATER, L4_ERROR, L4_ICMP, MAX_CUTS, edit, wire_length
from fastpath.plan cimport *
from fastpath.reason cimport REASON_MTU_EXCEEDED, REASON_TTL_EXCEEDED
from fastpath.snapshot cimport *
from fastpath.wire cimport PROTO_TCP, TCP_SYN

cdef enum:
    ICMP_REDIRECT = 5
    TCP_HEADERS4 = 40       # IP and TCP without options: what a segment size does not count (RFC 9293, 3.7.1)
    TCP_HEADERS6 = 60


# About errors nobody sends errors, and a redirect is one (RFC 1122, 3.2.2).
cdef void ask_for_error(walker *w, const node *n, uint8_t kind) noexcept nogil:
    cdef plan *o = w.out
    if w.p.kind == L4_ERROR or w.p.fragment == FRAGMENT_LATER or w.p.generated \
            or (w.p.kind == L4_ICMP and w.p.family == 4 and w.p.icmp_type == ICMP_REDIRECT):
        return
    o.error_routed = n.extra != 0
    o.error_interface = n.extra if n.extra else o.meta.origin
    if o.error_interface == 0:
        return
    o.error = kind
    o.error_mtu = n.mtu
    o.error_view = w.entry
    o.error_packet = w.entered


# The packet is too large for a link ahead: it leaves in pieces.
cdef void ask_for_cut(edit *e, uint32_t mtu) noexcept nogil:
    # what is around a packet is cut for itself
    if e.cut_count > e.around.cuts_inside and mtu >= e.cuts[e.cut_count - 1]:
        return
    if e.cut_count == MAX_CUTS:
        e.cut_count -= 1
    e.cuts[e.cut_count] = mtu
    e.cut_count += 1


# The packet must fit into the MTU of `n`, or be cut.
cdef bint fits(walker *w, const node *n) noexcept nogil:
    cdef plan *o = w.out
    cdef edit *e = &o.edit
    if o.path_mtu[w.layer] == 0 or n.mtu < o.path_mtu[w.layer]:
        o.path_mtu[w.layer] = n.mtu
    if wire_length(w.p) <= n.mtu:
        return True
    if (w.p.dont_fragment or (n.flags & FLAG_DROPS_LARGE)) and not (e.cut_count and e.cuts[e.cut_count - 1] <= n.mtu):
        if n.flags & FLAG_ANSWERS_MTU:
            ask_for_error(w, n, ERROR_TOO_BIG)
        drop(w, n, REASON_MTU_EXCEEDED, 0)
        return False
    ask_for_cut(e, n.mtu)
    return True


# A SYN asks for no segments that would be too large.
cdef void clamp(walker *w, uint32_t mtu) noexcept nogil:
    cdef uint16_t mss
    if w.p.proto == PROTO_TCP and (w.p.tcp_flags & TCP_SYN):
        mss = <uint16_t>(mtu - TCP_HEADERS4 if w.p.family == 4 else mtu - TCP_HEADERS6)
        if w.h.mss == 0 or mss < w.h.mss:
            w.h.mss = mss


cdef bint pass_hop(walker *w, const node *n) noexcept nogil:
    if n.mode != TTL_KEEP:
        if w.p.ttl <= w.h.ttl_spent + 1:
            if n.mode == TTL_ANSWER:
                ask_for_error(w, n, ERROR_TTL)
            drop(w, n, REASON_TTL_EXCEEDED, 0)
            return False
        w.h.ttl_spent += 1
    if n.mtu and not fits(w, n):
        return False
    if n.flags & FLAG_CLAMPS_MSS:
        clamp(w, n.mtu)
    note(w, n, DETAIL_FRAGMENTS if n.mtu and wire_length(w.p) > n.mtu else DETAIL_PASSED, 0)
    return True

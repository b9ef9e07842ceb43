"""Points that see packets go by.

A point stands in front of the gates of one side of an interface. What a gate of that side refuses is *refused* there, what
passes them is not, whatever becomes of it further on. So a crossing is judged when the walk is over, by where it ended: the
gates of a side follow its point, and drop for reasons of their own.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from fastpath.lpm cimport lpm_find
from fastpath.memo cimport LINK_RECORDS, flow_link
from fastpath.packet cimport FRAGMENT_LATER, ip_bytes, packet
from fastpath.plan cimport *
from fastpath.reason cimport (REASON_ACL_EGRESS, REASON_ACL_INGRESS, REASON_DESTINATION_CHECK, REASON_GROUP_EGRESS,
                              REASON_GROUP_INGRESS, VERDICT_DROP)
from fastpath.records cimport NO_RECORD, record_add, record_begin, record_key, record_of
from fastpath.session cimport flow_settle
from fastpath.snapshot cimport DIRECTION_INGRESS, FLAG_RECORDED
from fastpath.wire cimport PROTO_TCP, PROTO_UDP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN


cdef void cross(walker *w, const node *n) noexcept nogil:
    cdef crossing *x
    # a set without an address has none of any packet
    if lpm_find(&w.t.intervals[n.table], w.p.family, w.h.dst) or lpm_find(&w.t.intervals[n.table], w.p.family, w.h.src):
        return
    if n.mode == DIRECTION_INGRESS:
        pass_on(w, PATH_INSIDE)
    if w.out.crossing_count == MAX_CROSSINGS:
        return
    x = &w.out.crossings[w.out.crossing_count]
    w.out.crossing_count += 1
    x.side = n.mode
    x.flags = n.flags
    x.layer = w.layer
    x.refused = 0
    x.path = 0
    x.point = n.object
    x.origin = w.out.meta.origin
    x.size = ip_bytes(w.p)
    x.record = NO_RECORD
    x.p = w.p
    x.h = w.h[0]


cdef void end_crossings(walker *w) noexcept nogil:
    cdef plan *o = w.out
    cdef crossing *x = &o.crossings[o.crossing_count - 1]
    if o.verdict != VERDICT_DROP:
        pass_on(w, PATH_INSIDE)
        return
    if o.reason == REASON_ACL_INGRESS or o.reason == REASON_GROUP_INGRESS or o.reason == REASON_DESTINATION_CHECK:
        pass_on(w, PATH_INSIDE)
    if x.layer != w.layer:
        return
    if x.side == DIRECTION_EGRESS:
        # gates of another interface that is not seen may have come behind
        x.refused = x.origin == o.meta.origin and (o.reason == REASON_GROUP_EGRESS or o.reason == REASON_ACL_EGRESS)
    else:
        x.refused = o.reason == REASON_ACL_INGRESS or o.reason == REASON_GROUP_INGRESS


# FIN, SYN, RST, and SYN with ACK, as bits of a TCP header; an ACK by itself counts as none.
cdef inline uint8_t flags_of(const packet *p) noexcept nogil:
    cdef uint8_t flags
    if p.proto != PROTO_TCP or p.fragment == FRAGMENT_LATER:
        return 0
    flags = p.tcp_flags & (TCP_FIN | TCP_SYN | TCP_RST)
    if (p.tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK):
        flags |= TCP_ACK
    return flags


cdef void count_crossing(record_table *t, crossing *x, uint64_t now) noexcept nogil:
    cdef record_key key
    cdef uint32_t packets = x.p.segments if x.p.segments else 1     # what the router makes itself stands for one
    memset(&key, 0, sizeof(record_key))
    key.src = x.h.src
    key.dst = x.h.dst
    key.point = x.point
    key.proto = x.p.proto
    key.family = x.p.family
    key.side = x.side
    key.refused = x.refused
    key.path = x.path
    if key.proto == PROTO_TCP or key.proto == PROTO_UDP:
        key.sport = x.h.sport
        key.dport = x.h.dport
    x.record = record_of(t, &key, now, packets)
    if x.record != NO_RECORD:
        record_add(t, x.record, packets, x.size, now, flags_of(x.p))


cdef void observe(record_table *records, plan *x, uint64_t now) noexcept nogil:
    cdef uint32_t i
    for i in range(x.crossing_count):
        if x.crossings[i].flags & FLAG_RECORDED and records != NULL:
            count_crossing(records, &x.crossings[i], now)


# A flow entry is about to count a packet, the first since the window began: what it has counted is of another window.
cdef void begin_window(session_table *t, uint32_t row) noexcept nogil:
    cdef uint32_t link = t.flows.cold[row].links
    cdef const flow_link *tie
    flow_settle(t, row)
    while link:
        tie = &t.flows.links[link]
        link = tie.more
        if tie.kind == LINK_RECORDS:
            record_begin(t.flows.records, tie.target, t.flows.now)

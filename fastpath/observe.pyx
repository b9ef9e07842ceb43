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
from fastpath.records cimport (NO_RECORD, record, record_add, record_begin, record_forget, record_key, record_of, record_table,
                               record_tell, records_lose)
from fastpath.session cimport flow_retire, flow_settle, retire_tied
from fastpath.snapshot cimport DIRECTION_INGRESS, FLAG_RECORDED
from fastpath.wire cimport PROTO_TCP, PROTO_UDP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN

cdef enum:
    CANDIDATES = 16         # records among which one has to be over when all are taken


cdef void cross(walker *w, const node *n) noexcept nogil:
    cdef crossing *x
    # a set without an address has none of any packet
    if lpm_find(&w.t.intervals[n.table], w.p.family, w.h.dst) or lpm_find(&w.t.intervals[n.table], w.p.family, w.h.src):
        return
    if n.mode == DIRECTION_INGRESS:
        pass_on(w, PATH_INSIDE)
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


# Free the row, of a window that is over, and delete the entries that count for it. False: the ring has no room for it.
cdef bint give_up(session_table *t, uint32_t row) noexcept nogil:
    cdef record_table *records = t.flows.records
    if not record_tell(records, row):
        return False
    retire_tied(t, &records.rows[row].flows)
    if not record_tell(records, row):       # what they had yet to tell
        return False
    record_forget(records, row)
    return True


# All rows are taken: is there one of a window that is over among those that the hand passes?
cdef bint make_room(session_table *t) noexcept nogil:
    cdef record_table *records = t.flows.records
    cdef uint32_t _
    for _ in range(CANDIDATES):
        records.hand = records.hand + 1 if records.hand + 1 < records.used else 0
        if records.rows[records.hand].live and records.rows[records.hand].window != records.window and give_up(t, records.hand):
            return True
    return False


cdef uint32_t records_flush(session_table *t, uint32_t first, uint32_t count, uint32_t window) noexcept nogil:
    cdef record_table *records = t.flows.records
    cdef uint32_t row, end = first + count if first + count < records.used else records.used
    cdef record *r
    for row in range(first, end):
        r = &records.rows[row]
        if not r.live or r.window >= window:
            continue
        if r.packets == 0 and r.window + 1 < records.window:
            if not give_up(t, row):
                return row
            continue
        if not record_tell(records, row):
            return row
        if r.flows == 0:
            record_forget(records, row)
    return first + count


cdef uint32_t unlose(session_table *t, uint32_t count) noexcept nogil:
    cdef uint32_t done = 0
    while done < count and t.flows.records.lost_flows:
        flow_retire(t, t.flows.links[t.flows.records.lost_flows].flow)
        done += 1
    return done


cdef void count_crossing(session_table *t, crossing *x, uint64_t now) noexcept nogil:
    cdef record_table *records = t.flows.records
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
    x.record = record_of(records, &key, now)
    if x.record == NO_RECORD and make_room(t):
        x.record = record_of(records, &key, now)
    if x.record == NO_RECORD:
        records_lose(records, x.point, records.window, packets)
    else:
        record_add(records, x.record, packets, x.size, now, flags_of(x.p))


cdef void observe(session_table *t, plan *x, uint64_t now) noexcept nogil:
    cdef uint32_t i
    for i in range(x.crossing_count):
        if x.crossings[i].flags & FLAG_RECORDED and t.flows.records != NULL:
            count_crossing(t, &x.crossings[i], now)


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

"""Packets traced: what would become of one, hop by hop, and nothing is changed by it."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from cpython.bytes cimport PyBytes_AS_STRING

from fastpath.core cimport LONGEST_FRAME, classify, core, free_the_dead, is_withheld, plan_error
from fastpath.edit cimport ERROR_MAX
from fastpath.emission cimport SLOT_HEADROOM, outbox
from fastpath.flow cimport outcome
from fastpath.lock cimport engine_lock, lock_acquire, lock_release
from fastpath.packet cimport packet
from fastpath.plan cimport *
from fastpath.reason cimport REASON_CONTEXT_UNKNOWN, REASON_NAT_PORTS_EXHAUSTED, VERDICT_DROP
from fastpath.session cimport NO_SESSION, table_close, table_find, table_insert, table_open
from fastpath.shown cimport planned
from fastpath.snapshot cimport context, interface
from fastpath.walk cimport start_metadata, walk
from fastpath.wire cimport ETH_HEADER

cdef enum:
    LEG_GROWTH = 512        # most that frames grow by from leg to leg, headroom included


cdef class Overlay:
    """Sessions that traced packets would have opened, so that a traced reply finds them. Not for threads."""

    def __cinit__(self):
        if not table_open(&self.table, 256, 0):
            raise MemoryError

    def __dealloc__(self):
        table_close(&self.table)

    cdef void commit(self, plan *x, uint64_t now) noexcept nogil:
        cdef uint32_t i, row
        cdef effect *e
        for i in range(x.effect_count):
            e = &x.effects[i]
            if (e.kind != EFFECT_OPEN and e.kind != EFFECT_TOUCH) or (e.kind == EFFECT_OPEN and e.pending):
                continue
            row = table_find(&self.table, &e.forward, now)
            row = table_insert(&self.table, &e.forward, &e.reply, now) if row == NO_SESSION else row >> 1
            if row == NO_SESSION:
                continue
            self.table.rows[row].kind = e.session_kind
            self.table.rows[row].state = e.step.state
            self.table.rows[row].seen = e.step.seen
            self.table.rows[row].idle = e.step.idle
            self.table.rows[row].rule = e.rule
            self.table.rows[row].pool = NO_SESSION
            self.table.rows[row].cookie = e.cookie
            self.table.rows[row].flipped = e.flipped
            self.table.rows[row].target = e.target
            self.table.rows[row].last_seen = now


cdef dict trace_packet(core *c, engine_lock *lock, bytes frame, uint32_t port, Overlay overlay, uint64_t now):
    cdef const context *at
    cdef const interface *i
    cdef outcome result
    cdef packet p, q
    cdef plan x, y
    cdef metadata m
    cdef outbox waiting
    cdef leg_room legs, error_legs
    cdef trace_buffer hops, error_hops
    cdef uint8_t *error_frame   # with room in front of it too: it may leave inside another packet
    cdef uint32_t length = <uint32_t>len(frame), number = 0
    cdef uint8_t *copy
    cdef int reason = REASON_CONTEXT_UNKNOWN
    cdef bint walked = False, errs = False
    cdef dict answer
    if length > LONGEST_FRAME:
        raise ValueError("a frame has at most 131072 bytes")
    legs.size = MAX_LEGS * (length + LEG_GROWTH)
    error_legs.size = MAX_LEGS * (ERROR_MAX + LEG_GROWTH)
    copy = <uint8_t *>malloc(SLOT_HEADROOM + length + legs.size + error_legs.size + SLOT_HEADROOM + ERROR_MAX)
    if copy == NULL:
        raise MemoryError
    legs.bytes = copy + SLOT_HEADROOM + length
    error_legs.bytes = legs.bytes + legs.size
    error_frame = error_legs.bytes + error_legs.size + SLOT_HEADROOM
    memset(&result, 0, sizeof(outcome))
    memset(&p, 0, sizeof(packet))
    memcpy(copy + SLOT_HEADROOM, PyBytes_AS_STRING(frame), length)
    p.frame = copy + SLOT_HEADROOM
    p.length = length
    p.l3 = ETH_HEADER
    p.context = port
    p.segments = 1
    hops.count = 0
    error_hops.count = 0
    with nogil:
        lock_acquire(lock)
        if c.now > now:
            now = c.now
        if c.t != NULL and port < c.t.context_count and c.t.contexts[port].interface:
            at = &c.t.contexts[port]
            i = &c.t.interfaces[at.interface - 1]
            waiting = c.out
            reason = classify(c, at, i, &p, NULL, 0, &result)
            c.out = waiting     # without an answer to it
            number = i.number
            if reason == 0 and result.verdict == 0:
                start_metadata(c.t, at.interface, &m)
                walk(c.t, &c.sessions, &overlay.table, &p, &legs, &x, at.entry, &m, now, c.seed, &hops)
                if x.reason == REASON_NAT_PORTS_EXHAUSTED and now == c.now and free_the_dead(c):
                    hops.count = 0      # as for a real packet
                    walk(c.t, &c.sessions, &overlay.table, &p, &legs, &x, at.entry, &m, now, c.seed, &hops)
                overlay.commit(&x, now)
                walked = True
                errs = (x.error and not is_withheld(c, &x, now)
                        and plan_error(c, &x, &overlay.table, error_frame, &q, &error_legs, &y, now, &error_hops))
        lock_release(lock)
    try:
        if not walked:
            return {"verdict": result.verdict or VERDICT_DROP, "reason": reason or result.reason, "object": number,
                    "rule": 0, "hops": []}
        answer = planned(&x, &hops)
        if errs:
            answer["error"] = planned(&y, &error_hops)
        return answer
    finally:
        free(copy)

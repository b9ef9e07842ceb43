"""What an engine has counted, and whom it remembers, read out for Python.

Each reads with the engine's lock held, so much at a time that no packet waits for long, and makes objects of it afterwards.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from fastpath.core cimport core, port_counters
from fastpath.lock cimport engine_lock, lock_acquire, lock_release
from fastpath.memo cimport FLOW_OBSERVED, flow_table
from fastpath.observe cimport is_before_window, records_flush, unlose
from fastpath.plan cimport MAX_STEPS
from fastpath.reason cimport REASONS
from fastpath.records cimport LOST_POINTS, lost_at, record, record_table, records_take
from fastpath.session cimport *
from fastpath.shown cimport session_of

cdef enum:
    COPY_ROWS = 4096        # sessions copied while the lock is held once
    RECORD_ROWS = 256       # flow entries asked, records put into the ring and taken out of it meanwhile


# A number of the engine's, as it is when nobody changes it.
cdef uint32_t settled(engine_lock *lock, const uint32_t *number) noexcept nogil:
    cdef uint32_t value
    lock_acquire(lock)
    value = number[0]
    lock_release(lock)
    return value


cdef list sessions_of(core *c, engine_lock *lock):
    cdef session *copy = <session *>malloc(COPY_ROWS * sizeof(session))
    cdef uint32_t first = 0, count = 0, i
    cdef uint64_t now
    cdef session *s
    cdef list rows = []
    if copy == NULL:
        raise MemoryError
    try:
        while True:
            with nogil:
                lock_acquire(lock)
                now = c.now
                count = c.sessions.used - first if c.sessions.used > first else 0
                if count > COPY_ROWS:
                    count = COPY_ROWS
                for i in range(count):
                    settle(&c.sessions, &c.sessions.rows[first + i])
                memcpy(copy, c.sessions.rows + first, count * sizeof(session))
                lock_release(lock)
            if count == 0:
                return rows
            first += count
            for i in range(count):
                s = &copy[i]
                if s.kind != SESSION_POOL and s.kind != SESSION_STICKY and session_alive(s, now):
                    rows.append(session_of(s, now))
    finally:
        free(copy)


cdef tuple records_of(core *c, engine_lock *lock, bint unfinished):
    cdef record_table *t
    cdef record *copy
    cdef record *r
    cdef flow_table *flows = &c.flows
    cdef uint32_t asked = 0, flushed = 0, entries = 0, size = 0, room = 0, count, i, target = 0, window = 0
    cdef uint64_t elsewhere = 0
    cdef bint more = True
    cdef list rows = [], lost = []
    cdef lost_at gone[LOST_POINTS]
    with nogil:
        lock_acquire(lock)
        t = flows.records
        if t != NULL:
            window = t.window
            target = window + unfinished
            if unfinished or t.told != window:      # else nobody has anything to tell
                entries = flows.used
                size = t.used
        lock_release(lock)
    if t == NULL:
        return 0, rows, lost, 0
    copy = <record *>malloc(RECORD_ROWS * sizeof(record))
    if copy == NULL:
        raise MemoryError
    try:
        while more:
            with nogil:
                lock_acquire(lock)
                count = records_take(t, copy, RECORD_ROWS)
                i = 0
                # what entries have counted before that; who hits one in the meantime has it tell by himself
                while asked < entries and i < RECORD_ROWS and (
                        t.ring_count == 0 or t.ring_size - t.ring_count >= MAX_STEPS):
                    if flows.rows[asked].packets and flows.rows[asked].flags & FLOW_OBSERVED and (
                            unfinished or is_before_window(flows, asked)):
                        flow_settle(&c.sessions, asked)
                    asked += 1
                    i += 1
                if asked >= entries and flushed < size:
                    flushed = records_flush(&c.sessions, flushed, RECORD_ROWS, target)
                    if flushed >= size:
                        room = t.capacity - t.live
                elif room and t.lost_flows:
                    i = unlose(&c.sessions, RECORD_ROWS if RECORD_ROWS < room else room)
                    room -= i
                more = asked < entries or flushed < size or t.ring_count or (room and t.lost_flows)
                lock_release(lock)
            for i in range(count):
                r = &copy[i]
                rows.append((r.window, r.key.point, r.key.side, r.key.refused, r.key.path, r.key.family,
                             (<object>r.key.src.hi << 64) | r.key.src.lo, (<object>r.key.dst.hi << 64) | r.key.dst.lo,
                             r.key.proto, r.key.sport, r.key.dport, r.packets, r.bytes, r.first, r.last, r.tcp_flags))
    finally:
        free(copy)
    with nogil:
        lock_acquire(lock)
        memcpy(gone, t.lost, sizeof(gone))
        memset(t.lost, 0, sizeof(gone))
        elsewhere = t.lost_unnamed
        t.lost_unnamed = 0
        t.told = window
        lock_release(lock)
    for i in range(LOST_POINTS):
        if gone[i].point:
            lost.append((gone[i].window, gone[i].point, gone[i].packets))
    return window, rows, lost, elsewhere


cdef dict counters_of(core *c, engine_lock *lock):
    cdef port_counters *k
    cdef uint32_t i, r
    cdef dict rows = {}
    cdef port_counters *copy
    cdef uint32_t count
    with nogil:
        count = settled(lock, &c.port_count)
    if count == 0:
        return rows
    copy = <port_counters *>malloc(count * sizeof(port_counters))
    if copy == NULL:
        raise MemoryError
    with nogil:
        lock_acquire(lock)
        memcpy(copy, c.ports, count * sizeof(port_counters))     # it only ever grows
        lock_release(lock)
    try:
        for i in range(count):
            k = &copy[i]
            reasons = {r: k.reasons[r] for r in range(REASONS) if k.reasons[r]}
            if k.rx_frames or k.tx_frames or reasons:
                rows[i] = {"rx_frames": k.rx_frames, "rx_packets": k.rx_packets, "rx_bytes": k.rx_bytes,
                           "tx_frames": k.tx_frames, "tx_packets": k.tx_packets, "tx_bytes": k.tx_bytes,
                           "errors_withheld": k.withheld, "reasons": reasons}
    finally:
        free(copy)
    return rows


cdef dict gateways_of(core *c, engine_lock *lock):
    cdef gateway *copy
    cdef gateway *g
    cdef uint64_t *active
    cdef session *s
    cdef uint32_t i, count
    with nogil:
        count = settled(lock, &c.gateway_count)
    copy = <gateway *>malloc((count + 1) * sizeof(gateway))
    active = <uint64_t *>calloc(count + 1, sizeof(uint64_t))
    if copy == NULL or active == NULL:
        free(copy)
        free(active)
        raise MemoryError
    with nogil:
        lock_acquire(lock)
        table_expire(&c.sessions, c.now)
        flows_settle(&c.sessions)
        if count > c.gateway_count:
            count = c.gateway_count
        for i in range(c.sessions.used):
            s = &c.sessions.rows[i]
            if s.live and s.gateway and s.gateway <= count and s.key[0].tuple.proto == 6 and s.state != STATE_CLOSING:
                active[s.gateway - 1] += 1
        if count:
            memcpy(copy, c.sessions.gateways, count * sizeof(gateway))    # NULL before the first swap
        lock_release(lock)
    try:
        rows = {}
        for i in range(count):
            g = &copy[i]
            rows[g.owner] = {
                "packets_in": (g.packets_in[0], g.packets_in[1]), "bytes_in": (g.bytes_in[0], g.bytes_in[1]),
                "packets_out": (g.packets_out[0], g.packets_out[1]), "bytes_out": (g.bytes_out[0], g.bytes_out[1]),
                "attempts": g.attempts, "established": g.established, "exhausted": g.exhausted,
                "timed_out": g.timed_out, "active": active[i],
            }
        return rows
    finally:
        free(copy)
        free(active)


cdef dict statistics_of(core *c, engine_lock *lock):
    cdef uint32_t sessions, flows, waiting, port, held = 0
    cdef uint64_t hits, misses
    with nogil:
        lock_acquire(lock)
        sessions, flows, waiting = c.sessions.live, c.flows.live, c.fragments.waiting
        hits, misses = c.flows.hits, c.flows.misses
        for port in range(c.sessions.ports):
            held = max(held, c.sessions.held[port])
        lock_release(lock)
    return {
        "sessions": sessions, "session_limit": c.sessions.capacity, "sessions_of_one": held,
        "flows": flows, "flow_limit": c.flows.capacity,
        "flow_hits": hits, "flow_misses": misses,
        "fragments_waiting": waiting,
    }

"""Engine: all packet state in one object, and its Python face.

Packets enter in bursts through `process` (tests, replay) or through a Worker that owns ports; both run the
same compiled path. Every method takes the engine's lock without the GIL, so it can be called while a worker
runs. Nothing that needs the GIL happens while the lock is held, so a thread that keeps the GIL keeps no packet.
"""

import threading

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from fastpath.burst cimport receive_burst
from fastpath.core cimport *
from fastpath.edit cimport ERROR_MAX
from fastpath.emission cimport *
from fastpath.fragment cimport fragments_close, fragments_open
from fastpath.flow cimport arrival, outcome
from fastpath.memo cimport FLOW_OBSERVED, flow_table, flows_broken, flows_close, flows_open
from fastpath.observe cimport is_before_window, records_flush, unlose
from fastpath.packet cimport *
from fastpath.plan cimport *
from fastpath.reason cimport *
from fastpath.records cimport (LOST_POINTS, lost_at, record, record_table, records_close, records_open, records_take,
                               records_turn)
from fastpath.recorder cimport MAX_RECORDERS, Recorder, point, recording, recording_close, recording_open
from fastpath.sanitizer cimport GAP, forbid
from fastpath.session cimport *
from fastpath.shown cimport *
from fastpath.snapshot cimport Snapshot
from fastpath.walk cimport start_metadata, walk
from fastpath.wire cimport ETH_HEADER, VNET_HEADER

cdef enum:
    SLICE = BURST           # frames per locked slice of process
    COPY_ROWS = 4096        # sessions copied per locked slice of sessions()
    RECORD_ROWS = 256       # flow entries asked, records put into the ring and taken out of it per locked slice
    MOST_ROWS = 1 << 28     # a reference is row * 2 + 1 in 32 bits
    LONGEST_FRAME = 131072
    MOST_REPLAYED = 1 << 31  # offsets have 32 bits
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


cdef void free_taken(taken *t) noexcept:
    free(t.rows)
    free(t.bytes)


cdef uint64_t checked_time(object now_ms) except? 0xFFFFFFFFFFFFFFFFU:
    if not 0 <= now_ms < 1 << 63:
        raise ValueError("a time is from 0 to 2**63 - 1 milliseconds")
    return now_ms


cdef class Engine:
    """The packet path with its sessions, flow entries and counters.

    Args:
        sessions: most sessions at once (about 240 bytes each, touched as used).
        flows: most flow entries of the memo (about 180 bytes each, touched as used).
        seed: makes every choice the engine leaves open (NAT ports) repeatable.
        memo: whether flow entries are used at all.

    Raises MemoryError when the tables cannot be had.
    """

    def __cinit__(self, *, unsigned int sessions=262144, unsigned int flows=65536, unsigned long long seed=0, bint memo=True):
        cdef core *c = &self.c
        if not 16 <= sessions <= MOST_ROWS or not 16 <= flows <= MOST_ROWS:
            raise ValueError("sessions and flows must be from 16 to 2**28")
        self.control = threading.Lock()
        self.taking = threading.Lock()
        self.slots = {}
        self.recorders = []
        pthread_mutex_init(&self.lock, NULL)
        self.ready = True
        c.seed = seed
        c.memo = self.wants_memo = memo
        if (not outbox_open(&c.out) or not table_open(&c.sessions, sessions, seed)
                or not flows_open(&c.flows, flows) or not fragments_open(&c.fragments, seed)):
            raise MemoryError
        c.sessions.flows = &c.flows

    def __dealloc__(self):
        table_close(&self.c.sessions)
        flows_close(&self.c.flows)
        fragments_close(&self.c.fragments)
        records_close(&self.c.records)
        free(self.c.sessions.gateways)
        free(self.c.sessions.gateway_of)
        outbox_close(&self.c.out)
        free(self.c.ports)
        recording_close(self.c.watch)
        if self.ready:
            pthread_mutex_destroy(&self.lock)

    cdef void acquire(self) noexcept nogil:
        count_waiting(&self.waiting, 1)
        pthread_mutex_lock(&self.lock)
        count_waiting(&self.waiting, -1)

    cdef void release(self) noexcept nogil:
        pthread_mutex_unlock(&self.lock)

    # A number of `c`, as it is when nobody changes it.
    cdef uint32_t settled(self, const uint32_t *number) noexcept nogil:
        cdef uint32_t value
        self.acquire()
        value = number[0]
        self.release()
        return value

    # Copy what has been emitted, count it as sent and forget it; the lock is held.
    cdef void take(self, taken *t) noexcept nogil:
        cdef core *c = &self.c
        cdef size_t size = 0
        cdef uint32_t i
        memset(t, 0, sizeof(taken))
        for i in range(c.out.count):
            size += c.out.rows[i].length
        t.rows = <emission *>malloc((c.out.count + 1) * sizeof(emission))
        t.bytes = <uint8_t *>malloc(size + 1)
        t.failed = t.rows == NULL or t.bytes == NULL
        if not t.failed:
            t.count = c.out.count
            size = 0
            for i in range(c.out.count):
                count_sent(c, &c.out.rows[i])
                t.rows[i] = c.out.rows[i]
                t.rows[i].frame = t.bytes + size
                memcpy(t.bytes + size, c.out.rows[i].frame, c.out.rows[i].length)
                size += c.out.rows[i].length
        outbox_clear(&c.out)

    @property
    def memo(self):
        """Whether flow entries are used."""
        return bool(self.wants_memo)

    @memo.setter
    def memo(self, bint on):
        with nogil:
            self.acquire()
            self.wants_memo = on
            self.c.memo = on and self.c.watch == NULL
            flows_retire(&self.c.sessions)
            self.release()

    @property
    def generation(self):
        """Number of the Snapshot in use; 0 before the first."""
        return 0 if self.snapshot is None else self.snapshot.generation

    @property
    def now_ms(self):
        """The engine's time, in milliseconds: the latest it was told."""
        cdef uint64_t now
        with nogil:
            self.acquire()
            now = self.c.now
            self.release()
        return now

    def swap(self, Snapshot snapshot not None):
        """Use these tables from the next packet on: one pointer, between two bursts. Sessions stay.

        Raises ValueError unless the Snapshot's generation is larger than that of the one in use.
        """
        cdef Snapshot old
        cdef port_counters *ports
        cdef port_counters *unused
        cdef gateway *gateways
        cdef gateway *old_gateways
        cdef uint32_t *gateway_of
        cdef uint32_t *old_gateway_of
        cdef uint32_t count, i, first
        with self.control:
            old = self.snapshot
            if snapshot.t.generation == 0 or (old is not None and snapshot.t.generation <= old.t.generation):
                raise ValueError("a Snapshot's generation must be larger than that of the one in use")
            count = max(snapshot.t.context_count, self.c.port_count)
            ports = <port_counters *>calloc(count if count else 1, sizeof(port_counters))
            gateway_of = <uint32_t *>malloc((snapshot.t.nat_count + 1) * sizeof(uint32_t))
            if gateway_of != NULL:
                for i in range(snapshot.t.nat_count):
                    gateway_of[i] = self.slots.setdefault(snapshot.t.nat_policies[i].owner, len(self.slots))
            first = self.c.gateway_count
            gateways = <gateway *>calloc(len(self.slots) + 1, sizeof(gateway))
            if ports == NULL or gateways == NULL or gateway_of == NULL:
                free(ports)
                free(gateways)
                free(gateway_of)
                raise MemoryError
            for owner, slot in self.slots.items():
                gateways[<uint32_t>slot].owner = owner
            i = len(self.slots)
            with nogil:
                self.acquire()
                if self.c.sessions.gateways != NULL:
                    memcpy(gateways, self.c.sessions.gateways, first * sizeof(gateway))
                old_gateways = self.c.sessions.gateways
                self.c.sessions.gateways = gateways
                old_gateway_of = self.c.sessions.gateway_of
                self.c.sessions.gateway_of = gateway_of
                self.c.gateway_count = i
                self.c.fragments.lifetime = snapshot.t.fragment_lifetime
                if self.c.ports != NULL:
                    memcpy(ports, self.c.ports, self.c.port_count * sizeof(port_counters))
                unused = self.c.ports
                self.c.ports = ports
                self.c.port_count = count
                self.c.t = &snapshot.t
                # what was remembered of the tables before is found out one by one
                self.c.flows.epoch += 1
                if self.c.flows.epoch == 0:
                    flows_retire(&self.c.sessions)
                self.release()
            free(unused)
            free(old_gateways)
            free(old_gateway_of)
            self.snapshot = snapshot

    def watch(self, Recorder recorder not None):
        """Let a recorder see every packet from the next one on; meanwhile all of them walk.

        Raises ValueError when it sees them already, or as many others do as can.
        """
        cdef recording *made = NULL
        with self.control:
            if recorder in self.recorders or len(self.recorders) == MAX_RECORDERS:
                raise ValueError(f"at most {MAX_RECORDERS} captures at once, and each but once")
            if not self.recorders:
                made = recording_open()
                if made == NULL:
                    raise MemoryError
            with nogil:
                self.acquire()
                if made != NULL:
                    self.c.watch = made
                self.c.watch.recorders[self.c.watch.count] = &recorder.r
                self.c.watch.count += 1
                self.c.memo = False
                self.release()
            self.recorders.append(recorder)

    def unwatch(self, Recorder recorder not None):
        """Let it see no more; what it has recorded can still be read. One that sees nothing is fine."""
        cdef recording *unused = NULL
        cdef uint32_t at, i
        with self.control:
            if recorder not in self.recorders:
                return
            at = self.recorders.index(recorder)
            with nogil:
                self.acquire()
                self.c.watch.count -= 1
                for i in range(at, self.c.watch.count):
                    self.c.watch.recorders[i] = self.c.watch.recorders[i + 1]
                if self.c.watch.count == 0:
                    unused = self.c.watch
                    self.c.watch = NULL
                    self.c.memo = self.wants_memo
                self.release()
            recording_close(unused)
            del self.recorders[at]

    def look_at(self, Recorder recorder not None, points):
        """Let a recorder look at other points from the next packet on; rows as `Recorder` takes them."""
        cdef Recorder other = Recorder(points, capacity=1 << 18)
        cdef point *rows = recorder.r.points
        cdef uint32_t count = recorder.r.point_count
        with nogil:
            self.acquire()
            recorder.r.points, recorder.r.point_count = other.r.points, other.r.point_count
            other.r.points, other.r.point_count = rows, count
            self.release()

    def process(self, frames, contexts, now_ms, offloads=None, *, bint traced=False):
        """Take frames as if they had come in one after the other at `now_ms` through `contexts`.

        Args:
            frames: Ethernet frames, each `bytes`.
            contexts: for each frame the number of the context (port) it came in by.
            now_ms: time in milliseconds; never goes back.
            offloads: for each frame None or its 12-byte virtio_net_hdr_v1.
            traced: whether to tell what each frame went through; packets then always walk.

        Returns `(outcomes, emissions)`: per frame `(verdict, reason, object, rule)`, and when `traced` a list of
        `(operation, what it did, object, rule)` behind them; and in order of emission
        `(port, frame, cause, parent, offload)`, where `parent` is the index of the frame it stems from (for a
        fragment that had waited: of the first one of its datagram).
        """
        cdef uint64_t now = checked_time(now_ms)
        cdef uint32_t first, total = len(frames)
        cdef list outcomes = [], emissions = []
        if len(contexts) != total or (offloads is not None and len(offloads) != total):
            raise ValueError("frames, contexts and offloads must be equally many")
        for first in range(0, total, SLICE):
            self._process_slice(frames[first:first + SLICE], contexts[first:first + SLICE],
                                None if offloads is None else offloads[first:first + SLICE], first, now, traced, outcomes,
                                emissions)
        return outcomes, emissions

    cdef int _process_slice(self, frames, contexts, offloads, uint32_t first, uint64_t now, bint traced, list outcomes,
                            list emissions) except -1:
        cdef arrival rows[SLICE]
        cdef uint8_t vnet[SLICE][VNET_HEADER]
        cdef outcome *result
        cdef taken out
        cdef uint8_t *arena
        cdef trace_buffer *stories = NULL
        cdef size_t size = 0, at = 0
        cdef uint32_t i, count = len(frames)
        cdef bytes frame, offload
        for i in range(count):
            frame = frames[i]
            offload = None if offloads is None else offloads[i]
            if PyBytes_GET_SIZE(frame) > LONGEST_FRAME:
                raise ValueError("a frame has at most 131072 bytes")
            if offload is not None and PyBytes_GET_SIZE(offload) != VNET_HEADER:
                raise ValueError("an offload header has 12 bytes")
            rows[i].context = contexts[i]
            rows[i].parent = first + i
            rows[i].length = <uint32_t>PyBytes_GET_SIZE(frame)
            rows[i].vnet = NULL
            rows[i].trace = NULL
            if offload is not None:
                memcpy(vnet[i], PyBytes_AS_STRING(offload), VNET_HEADER)
                rows[i].vnet = vnet[i]
            size += SLOT_HEADROOM + rows[i].length + GAP
        arena = <uint8_t *>malloc(size if size else 1)
        if traced:
            stories = <trace_buffer *>calloc(SLICE, sizeof(trace_buffer))
        if arena == NULL or (traced and stories == NULL):
            free(arena)
            free(stories)
            raise MemoryError
        for i in range(count):
            frame = frames[i]
            at += SLOT_HEADROOM
            rows[i].frame = arena + at
            memcpy(arena + at, PyBytes_AS_STRING(frame), rows[i].length)
            at += rows[i].length
            forbid(arena + at, GAP)
            at += GAP
            if stories != NULL:
                rows[i].trace = &stories[i]
        with nogil:
            self.acquire()
            set_time(&self.c, now)
            receive_burst(&self.c, rows, count, False)
            self.take(&out)
            self.release()
        try:
            emissions.extend(emissions_of(&out))
            for i in range(count):
                result = &rows[i].result
                outcome_row = (result.verdict, result.reason, result.object, result.rule)
                outcomes.append(outcome_row if stories == NULL else (*outcome_row, story_of(&stories[i])))
        finally:
            free_taken(&out)
            free(arena)
            free(stories)
        return 0

    def advance(self, now_ms):
        """Let time pass: expire sessions and waiting fragments. Returns `(outcomes, emissions)` like process."""
        cdef uint64_t now = checked_time(now_ms)
        cdef uint32_t dropped
        cdef taken out
        with nogil:
            self.acquire()
            set_time(&self.c, now)
            sweep(&self.c)
            table_expire(&self.c.sessions, self.c.now, True)
            dropped = self.c.timed_out
            self.c.timed_out = 0
            self.take(&out)
            self.release()
        try:
            return [(VERDICT_DROP, REASON_FRAGMENT_TIMEOUT, 0, 0)] * dropped, emissions_of(&out)
        finally:
            free_taken(&out)

    def trace(self, bytes frame not None, unsigned int context, Overlay overlay not None, now_ms):
        """Plan one packet as of `now_ms` (or now, if that is later) and change nothing but `overlay`.

        Returns a dict: verdict, reason, object, rule, hops (a list of dicts of numbers), and when it would leave:
        port, frame (as edited, not yet fragmented), mtu (0, or the size of its fragments); when the router would
        send an error about it: error, a dict of the same shape.
        """
        cdef uint64_t now = checked_time(now_ms)
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
        p.context = context
        p.segments = 1
        hops.count = 0
        error_hops.count = 0
        with nogil:
            self.acquire()
            if self.c.now > now:
                now = self.c.now
            if self.c.t != NULL and context < self.c.t.context_count and self.c.t.contexts[context].interface:
                number = self.c.t.interfaces[self.c.t.contexts[context].interface - 1].number
                waiting = self.c.out
                reason = classify(&self.c, &self.c.t.contexts[context],
                                  &self.c.t.interfaces[self.c.t.contexts[context].interface - 1], &p, NULL, 0, &result)
                self.c.out = waiting    # without an answer to it
                if reason == 0 and result.verdict == 0:
                    start_metadata(self.c.t, self.c.t.contexts[context].interface, &m)
                    walk(self.c.t, &self.c.sessions, &overlay.table, &p, &legs, &x, self.c.t.contexts[context].entry, &m,
                         now, self.c.seed, &hops)
                    if x.reason == REASON_NAT_PORTS_EXHAUSTED and now == self.c.now and free_the_dead(&self.c):
                        hops.count = 0      # as for a real packet
                        walk(self.c.t, &self.c.sessions, &overlay.table, &p, &legs, &x, self.c.t.contexts[context].entry, &m,
                             now, self.c.seed, &hops)
                    overlay.commit(&x, now)
                    walked = True
                    errs = x.error and plan_error(&self.c, &x, &overlay.table, error_frame, &q, &error_legs, &y, now,
                                                  &error_hops)
            self.release()
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

    def sessions(self):
        """All living sessions as dicts: kind, owner, rule, state, forward and reply tuples
        `(family, source, destination, protocol, source port, destination port)`, age_ms, idle_ms, limit_ms,
        packets and bytes each way; of balanced flows the number of their target and their cookie."""
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
                    self.acquire()
                    now = self.c.now
                    count = self.c.sessions.used - first if self.c.sessions.used > first else 0
                    if count > COPY_ROWS:
                        count = COPY_ROWS
                    for i in range(count):
                        settle(&self.c.sessions, &self.c.sessions.rows[first + i])
                    memcpy(copy, self.c.sessions.rows + first, count * sizeof(session))
                    self.release()
                if count == 0:
                    return rows
                first += count
                for i in range(count):
                    s = &copy[i]
                    if s.kind != SESSION_POOL and s.kind != SESSION_STICKY and session_alive(s, now):
                        rows.append(session_of(s, now))
        finally:
            free(copy)

    def forget(self, unsigned long long keep=0):
        """Delete flow entries: all, or with `keep` those whose bit (row modulo 64) is not set in it.

        No verdict, byte or session changes by it; tests use it to prove that.
        """
        cdef uint32_t row
        cdef int deleted = 0
        with nogil:
            self.acquire()
            for row in range(self.c.flows.used):
                if self.c.flows.rows[row].word[1] and not (keep >> (row & 63)) & 1:
                    flow_retire(&self.c.sessions, row)
                    deleted += 1
            self.release()
        return deleted

    def open_records(self, *, unsigned int capacity=65536, unsigned int waiting=65536, unsigned long long window_ms=60000,
                     unsigned long long phase_ms=0):
        """Count flows at points of the graph from now on.

        Args:
            capacity: most flows and points at once (112 bytes each, touched as used).
            waiting: most records of windows that are over, until `take_records` takes them.
            window_ms: length of a window; one begins where time and `phase_ms` add up to a multiple of it.

        Raises RuntimeError when flows are counted already, MemoryError when there is no room.
        """
        cdef record_table *t = &self.c.records
        cdef bint opened
        if not 1 <= capacity <= MOST_ROWS or not 1 <= waiting <= MOST_ROWS or window_ms == 0 \
                or (phase_ms // window_ms) >> 31:
            raise ValueError("capacity and waiting must be from 1 to 2**28, and a window's number fit 32 bits")
        with self.control:
            if self.c.flows.records != NULL:
                raise RuntimeError("flows are counted already")
            with nogil:
                opened = records_open(t, capacity, waiting, window_ms, phase_ms)
                if opened:
                    self.acquire()
                    records_turn(t, self.c.now)
                    self.c.flows.records = t
                    # what entries know of points is that nobody counts: that is found out one by one, too
                    self.c.flows.epoch += 1
                    if self.c.flows.epoch == 0:
                        flows_retire(&self.c.sessions)
                    self.release()
            if not opened:
                raise MemoryError

    def take_records(self, *, bint unfinished=False):
        """Records of all windows that are over (`unfinished`: of the present one too), each told once.

        Returns `(window, records, lost, lost_elsewhere)`: the number of the present window; a list of `(window, point, side,
        refused, path, family, source, destination, protocol, source port, destination port, packets, bytes, first_ms,
        last_ms, tcp_flags)`, where one flow may be told of in several pieces; a list of `(window, point, packets)` that there
        was no room for, and how many packets there was not even room to say that of.
        """
        cdef record_table *t
        cdef record *copy
        cdef record *r
        cdef flow_table *flows = &self.c.flows
        cdef uint32_t settled = 0, flushed = 0, entries = 0, size = 0, room = 0, count, i, target = 0, window = 0
        cdef uint64_t elsewhere = 0
        cdef bint more = True
        cdef list rows = [], lost = []
        cdef lost_at gone[LOST_POINTS]
        with self.taking:
            with nogil:
                self.acquire()
                t = flows.records
                if t != NULL:
                    window = t.window
                    target = window + unfinished
                    if unfinished or t.told != window:      # else nobody has anything to tell
                        entries = flows.used
                        size = t.used
                self.release()
            if t == NULL:
                return 0, rows, lost, 0
            copy = <record *>malloc(RECORD_ROWS * sizeof(record))
            if copy == NULL:
                raise MemoryError
            try:
                while more:
                    with nogil:
                        self.acquire()
                        count = records_take(t, copy, RECORD_ROWS)
                        i = 0
                        # what entries have counted before that; who hits one in the meantime has it tell by himself
                        while settled < entries and i < RECORD_ROWS and (
                                t.ring_count == 0 or t.ring_size - t.ring_count >= MAX_CROSSINGS):
                            if flows.rows[settled].packets and flows.rows[settled].flags & FLOW_OBSERVED and (
                                    unfinished or is_before_window(flows, settled)):
                                flow_settle(&self.c.sessions, settled)
                            settled += 1
                            i += 1
                        if settled >= entries and flushed < size:
                            flushed = records_flush(&self.c.sessions, flushed, RECORD_ROWS, target)
                            if flushed >= size:
                                room = t.capacity - t.live
                        elif room and t.lost_flows:
                            i = unlose(&self.c.sessions, RECORD_ROWS if RECORD_ROWS < room else room)
                            room -= i
                        more = settled < entries or flushed < size or t.ring_count or (room and t.lost_flows)
                        self.release()
                    for i in range(count):
                        r = &copy[i]
                        rows.append((r.window, r.key.point, r.key.side, r.key.refused, r.key.path, r.key.family,
                                     (<object>r.key.src.hi << 64) | r.key.src.lo, (<object>r.key.dst.hi << 64) | r.key.dst.lo,
                                     r.key.proto, r.key.sport, r.key.dport, r.packets, r.bytes, r.first, r.last, r.tcp_flags))
            finally:
                free(copy)
            with nogil:
                self.acquire()
                memcpy(gone, t.lost, sizeof(gone))
                memset(t.lost, 0, sizeof(gone))
                elsewhere = t.lost_unnamed
                t.lost_unnamed = 0
                t.told = window
                self.release()
            for i in range(LOST_POINTS):
                if gone[i].point:
                    lost.append((gone[i].window, gone[i].point, gone[i].packets))
        return window, rows, lost, elsewhere

    def counters(self):
        """Per port number: rx_frames, rx_packets, rx_bytes, tx_frames, tx_packets, tx_bytes and
        reasons, a dict from drop reason number to how many packets died of it."""
        cdef port_counters *k
        cdef uint32_t i, r
        cdef dict rows = {}
        cdef port_counters *copy
        cdef uint32_t count
        with nogil:
            count = self.settled(&self.c.port_count)
        if count == 0:
            return rows
        copy = <port_counters *>malloc(count * sizeof(port_counters))
        if copy == NULL:
            raise MemoryError
        with nogil:
            self.acquire()
            memcpy(copy, self.c.ports, count * sizeof(port_counters))     # it only ever grows
            self.release()
        try:
            for i in range(count):
                k = &copy[i]
                reasons = {r: k.reasons[r] for r in range(REASONS) if k.reasons[r]}
                if k.rx_frames or k.tx_frames or reasons:
                    rows[i] = {"rx_frames": k.rx_frames, "rx_packets": k.rx_packets, "rx_bytes": k.rx_bytes,
                               "tx_frames": k.tx_frames, "tx_packets": k.tx_packets, "tx_bytes": k.tx_bytes,
                               "reasons": reasons}
        finally:
            free(copy)
        return rows

    def gateways(self):
        """Per translator (its owner's number) what it has counted up to now, as a dict: packets_in, bytes_in, packets_out
        and bytes_out, each as (from inside, from outside); attempts and established, of TCP; exhausted, packets that
        found no port; timed_out, connections that died of silence; active, TCP connections living and not closing."""
        cdef gateway *copy
        cdef gateway *g
        cdef uint64_t *active
        cdef session *s
        cdef uint32_t i, count
        with nogil:
            count = self.settled(&self.c.gateway_count)
        copy = <gateway *>malloc((count + 1) * sizeof(gateway))
        active = <uint64_t *>calloc(count + 1, sizeof(uint64_t))
        if copy == NULL or active == NULL:
            free(copy)
            free(active)
            raise MemoryError
        with nogil:
            self.acquire()
            table_expire(&self.c.sessions, self.c.now, True)
            flows_settle(&self.c.sessions)
            if count > self.c.gateway_count:
                count = self.c.gateway_count
            for i in range(self.c.sessions.used):
                s = &self.c.sessions.rows[i]
                if s.live and s.gateway and s.gateway <= count and s.key[0].tuple.proto == 6 and s.state != STATE_CLOSING:
                    active[s.gateway - 1] += 1
            if count:
                memcpy(copy, self.c.sessions.gateways, count * sizeof(gateway))    # NULL before the first swap
            self.release()
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

    def statistics(self):
        """Sizes of what is kept: sessions, flow entries and their limits, hits and misses of these, waiting fragments."""
        cdef uint32_t sessions, flows, waiting
        cdef uint64_t hits, misses
        with nogil:
            self.acquire()
            sessions, flows, waiting = self.c.sessions.live, self.c.flows.live, self.c.fragments.waiting
            hits, misses = self.c.flows.hits, self.c.flows.misses
            self.release()
        return {
            "sessions": sessions, "session_limit": self.c.sessions.capacity,
            "flows": flows, "flow_limit": self.c.flows.capacity,
            "flow_hits": hits, "flow_misses": misses,
            "fragments_waiting": waiting,
        }

    def selfcheck(self):
        """Check invariants of sessions and flow entries; raises AssertionError naming the first that is broken."""
        cdef uint32_t row = 0
        cdef const char *broken
        with nogil:
            self.acquire()
            broken = table_broken(&self.c.sessions, &row)
            if broken == NULL:
                broken = flows_broken(&self.c.flows, &row)
            self.release()
        if broken != NULL:
            raise AssertionError(f"{broken.decode()} (row or bucket {row})")

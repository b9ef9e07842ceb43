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
from fastpath.emission cimport SLOT_HEADROOM, emission, outbox_clear, outbox_close, outbox_open
from fastpath.flow cimport arrival, outcome
from fastpath.footing cimport parts
from fastpath.fragment cimport fragments_close, fragments_open
from fastpath.lock cimport lock_acquire, lock_close, lock_open, lock_release
from fastpath.memo cimport flows_broken, flows_close, flows_open
from fastpath.plan cimport trace_buffer
from fastpath.reason cimport REASON_FRAGMENT_TIMEOUT, VERDICT_DROP
from fastpath.recorder cimport Recorder, point
from fastpath.records cimport record_table, records_close, records_open, records_turn
from fastpath.sanitizer cimport GAP, forbid
from fastpath.session cimport *
from fastpath.shown cimport emissions_of, story_of, taken
from fastpath.snapshot cimport Snapshot
from fastpath.telemetry cimport counters_of, gateways_of, records_of, sessions_of, statistics_of
from fastpath.tracer cimport Overlay, trace_packet
from fastpath.watch cimport MAX_RECORDERS, recording, recording_close, recording_open
from fastpath.wire cimport VNET_HEADER

cdef enum:
    SLICE = BURST           # frames per locked slice of process
    MOST_ROWS = 1 << 28     # a reference is row * 2 + 1 in 32 bits


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
        errors: most ICMP errors at once about packets of one port; afterwards there may be one each millisecond.
        memo: whether flow entries are used at all.

    Raises MemoryError when the tables cannot be had.
    """

    def __cinit__(self, *, unsigned int sessions=262144, unsigned int flows=65536, unsigned long long seed=0, bint memo=True,
                  unsigned int errors=1000):
        cdef core *c = &self.c
        if not 16 <= sessions <= MOST_ROWS or not 16 <= flows <= MOST_ROWS:
            raise ValueError("sessions and flows must be from 16 to 2**28")
        self.control = threading.Lock()
        self.taking = threading.Lock()
        self.slots = {}
        self.recorders = []
        lock_open(&self.lock)
        self.ready = True
        c.seed = seed
        c.errors = errors
        c.memo = self.wants_memo = memo
        if (not outbox_open(&c.out) or not table_open(&c.sessions, sessions, seed)
                or not flows_open(&c.flows, flows) or not fragments_open(&c.fragments)):
            raise MemoryError
        c.sessions.flows = &c.flows

    def __dealloc__(self):
        table_close(&self.c.sessions)
        flows_close(&self.c.flows)
        fragments_close(&self.c.fragments)
        records_close(&self.c.records)
        free(self.c.sessions.gateways)
        free(self.c.sessions.gateway_of)
        free(self.c.sessions.held)
        outbox_close(&self.c.out)
        free(self.c.ports)
        recording_close(self.c.watch)
        if self.ready:
            lock_close(&self.lock)

    cdef void acquire(self) noexcept nogil:
        lock_acquire(&self.lock)

    cdef void release(self) noexcept nogil:
        lock_release(&self.lock)

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

        What is remembered of flows stays too, but for those that met what is another one now: as far as that is known, which
        it is of a Snapshot that was made of the one in use.

        Raises ValueError unless the Snapshot's generation is larger than that of the one in use.
        """
        cdef Snapshot old
        cdef port_counters *ports
        cdef port_counters *unused
        cdef gateway *gateways
        cdef gateway *old_gateways
        cdef uint32_t *gateway_of
        cdef uint32_t *old_gateway_of
        cdef uint32_t *held
        cdef uint32_t *old_held
        cdef uint32_t count, i, first
        cdef const parts *changes
        with self.control:
            old = self.snapshot
            if snapshot.t.generation == 0 or (old is not None and snapshot.t.generation <= old.t.generation):
                raise ValueError("a Snapshot's generation must be larger than that of the one in use")
            count = max(snapshot.t.context_count, self.c.port_count)
            ports = <port_counters *>calloc(count if count else 1, sizeof(port_counters))
            held = <uint32_t *>calloc(count if count else 1, sizeof(uint32_t))
            gateway_of = <uint32_t *>malloc((snapshot.t.nat_count + 1) * sizeof(uint32_t))
            if gateway_of != NULL:
                for i in range(snapshot.t.nat_count):
                    gateway_of[i] = self.slots.setdefault(snapshot.t.nat_policies[i].owner, len(self.slots))
            first = self.c.gateway_count
            gateways = <gateway *>calloc(len(self.slots) + 1, sizeof(gateway))
            if ports == NULL or held == NULL or gateways == NULL or gateway_of == NULL:
                free(ports)
                free(held)
                free(gateways)
                free(gateway_of)
                raise MemoryError
            for owner, slot in self.slots.items():
                gateways[<uint32_t>slot].owner = owner
            i = len(self.slots)
            changes = snapshot.changes_since(old)
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
                    memcpy(held, self.c.sessions.held, self.c.port_count * sizeof(uint32_t))
                unused = self.c.ports
                old_held = self.c.sessions.held
                self.c.sessions.held = held
                self.c.sessions.ports = count
                self.c.ports = ports
                self.c.port_count = count
                self.c.t = &snapshot.t
                flows_swap(&self.c.sessions, changes)
                self.release()
            free(unused)
            free(old_held)
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
            table_expire(&self.c.sessions, self.c.now)
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
        return trace_packet(&self.c, &self.lock, frame, context, overlay, checked_time(now_ms))

    def sessions(self):
        """All living sessions as dicts: kind, owner, rule, state, forward and reply tuples
        `(family, source, destination, protocol, source port, destination port)`, age_ms, idle_ms, limit_ms,
        packets and bytes each way; of balanced flows the number of their target and their cookie."""
        return sessions_of(&self.c, &self.lock)

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
                    flows_swap(&self.c.sessions, NULL)
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
        with self.taking:
            return records_of(&self.c, &self.lock, unfinished)

    def counters(self):
        """Per port number: rx_frames, rx_packets, rx_bytes, tx_frames, tx_packets, tx_bytes,
        errors_withheld (ICMP errors about its packets that were too many) and
        reasons, a dict from drop reason number to how many packets died of it."""
        return counters_of(&self.c, &self.lock)

    def gateways(self):
        """Per translator (its owner's number) what it has counted up to now, as a dict: packets_in, bytes_in, packets_out
        and bytes_out, each as (from inside, from outside); attempts and established, of TCP; exhausted, packets that
        found no port; timed_out, connections that died of silence; active, TCP connections living and not closing."""
        return gateways_of(&self.c, &self.lock)

    def statistics(self):
        """Sizes of what is kept: sessions, most of them that one port's packets have opened, flow entries and their limits,
        hits and misses of these, waiting fragments."""
        return statistics_of(&self.c, &self.lock)

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

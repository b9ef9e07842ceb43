"""Engine: all packet state in one object, and its Python face.

Packets enter in bursts through `process` (tests, replay) or through a Worker that owns ports; both run the
same compiled path. Every method takes the engine's lock without the GIL, so it can be called while a worker
runs; none holds it for longer than a slice of work.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from fastpath.core cimport *
from fastpath.edit cimport ERROR_MAX, apply_header, build_error
from fastpath.fragment cimport fragments_close, fragments_open
from fastpath.memo cimport flows_clear, flows_close, flows_open
from fastpath.packet cimport *
from fastpath.reason cimport *
from fastpath.session cimport *
from fastpath.snapshot cimport Snapshot, interface
from fastpath.walk cimport *
from fastpath.wire cimport ETH_HEADER, VNET_HEADER

cdef enum:
    SLICE = 64              # frames per locked slice of process
    COPY_ROWS = 4096        # sessions copied per locked slice of sessions()

HOP_OPS = ("drop", "guard", "bridge", "filter", "group-session", "nat-session", "lookup", "rewrite", "hop", "enter", "emit", "serve")
HOP_DETAILS = ("passed", "dropped", "skipped", "branched", "new", "known", "related", "untracked", "outbound", "inbound", "fragments")
SESSION_KINDS = ("", "group", "nat", "pool")
SESSION_STATES = ("", "opening", "open", "closing", "single", "replied", "stream", "query", "other")


cdef object number_of(addr a):
    return (<object>a.hi << 64) | a.lo


cdef tuple tuple_of(tuple5 *t):
    return (t.family, number_of(t.src), number_of(t.dst), t.proto, t.sport, t.dport)


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
            if e.kind == EFFECT_OPEN and e.pending:
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
            self.table.rows[row].last_seen = now


cdef list hops_of(trace_buffer *b):
    cdef uint32_t i
    cdef hop *x
    cdef list rows = []
    for i in range(b.count):
        x = &b.hops[i]
        rows.append({
            "op": HOP_OPS[x.op], "mode": x.mode, "detail": HOP_DETAILS[x.detail], "object": x.object, "rule": x.rule,
            "realm": x.realm, "source": number_of(x.src), "destination": number_of(x.dst),
            "source_port": x.sport, "destination_port": x.dport,
        })
    return rows


cdef class Engine:
    """The packet path with its sessions, flow entries and counters.

    Args:
        sessions: most sessions at once (about 220 bytes each, touched as used).
        flows: flow entries of the memo (about 300 bytes each, touched as used).
        seed: makes every choice the engine leaves open (NAT ports) repeatable.
        memo: whether flow entries are used at all.

    Raises MemoryError when the tables cannot be had.
    """

    def __cinit__(self, *, unsigned int sessions=262144, unsigned int flows=65536, unsigned long long seed=0, bint memo=True):
        cdef core *c = &self.c
        if sessions < 16 or flows < 16:
            raise ValueError("sessions and flows must be at least 16")
        pthread_mutex_init(&self.lock, NULL)
        self.ready = True
        c.seed = seed
        c.memo = memo
        c.out = <emission *>calloc(MAX_EMISSIONS, sizeof(emission))
        c.scratch = <uint8_t *>malloc(SCRATCH)
        if (c.out == NULL or c.scratch == NULL or not table_open(&c.sessions, sessions, seed)
                or not flows_open(&c.flows, flows, seed) or not fragments_open(&c.fragments, seed)):
            raise MemoryError

    def __dealloc__(self):
        table_close(&self.c.sessions)
        flows_close(&self.c.flows)
        fragments_close(&self.c.fragments)
        free(self.c.out)
        free(self.c.scratch)
        free(self.c.ports)
        if self.ready:
            pthread_mutex_destroy(&self.lock)

    cdef void acquire(self) noexcept nogil:
        count_waiting(&self.waiting, 1)
        pthread_mutex_lock(&self.lock)
        count_waiting(&self.waiting, -1)

    cdef void release(self) noexcept nogil:
        pthread_mutex_unlock(&self.lock)

    cdef void set_time(self, uint64_t now) noexcept nogil:
        if now > self.c.now:
            self.c.now = now

    @property
    def memo(self):
        """Whether flow entries are used."""
        return bool(self.c.memo)

    @memo.setter
    def memo(self, bint on):
        with nogil:
            self.acquire()
            self.c.memo = on
            flows_clear(&self.c.flows)
            self.release()

    @property
    def generation(self):
        """Number of the Snapshot in use; 0 before the first."""
        return 0 if self.snapshot is None else self.snapshot.generation

    @property
    def now_ms(self):
        """The engine's time, in milliseconds: the latest it was told."""
        return self.c.now

    def swap(self, Snapshot snapshot not None):
        """Use these tables from the next packet on: one pointer, between two bursts. Sessions stay."""
        cdef Snapshot old = self.snapshot
        cdef port_counters *ports
        cdef port_counters *unused
        cdef uint32_t count = snapshot.t.context_count
        if snapshot.t.generation == 0 or (old is not None and snapshot.t.generation <= old.t.generation):
            raise ValueError("a Snapshot's generation must be larger than that of the one in use")
        if count < self.c.port_count:
            count = self.c.port_count
        ports = <port_counters *>calloc(count if count else 1, sizeof(port_counters))
        if ports == NULL:
            raise MemoryError
        with nogil:
            self.acquire()
            if self.c.ports != NULL:
                memcpy(ports, self.c.ports, self.c.port_count * sizeof(port_counters))
            unused = self.c.ports
            self.c.ports = ports
            self.c.port_count = count
            self.c.t = &snapshot.t
            self.release()
        free(unused)
        self.snapshot = snapshot

    def process(self, frames, contexts, unsigned long long now_ms, offloads=None):
        """Take frames as if they had come in one after the other at `now_ms` through `contexts`.

        Args:
            frames: Ethernet frames, each `bytes`.
            contexts: for each frame the number of the context (port) it came in by.
            now_ms: time in milliseconds; never goes back.
            offloads: for each frame None or its 12-byte virtio_net_hdr_v1.

        Returns `(outcomes, emissions)`: per frame `(verdict, reason, object, rule)`; and in order of emission
        `(port, frame, cause, parent, offload)`, where `parent` is the index of the frame it stems from (of the
        call it came in with, for a fragment that had waited).
        """
        cdef list outcomes = [], emissions = []
        cdef uint8_t *arena
        cdef size_t size = 0, at
        cdef outcome result
        cdef uint32_t i, first, last, total = len(frames), context_number
        cdef const uint8_t *vnet
        cdef bytes frame, offload
        if len(contexts) != total or (offloads is not None and len(offloads) != total):
            raise ValueError("frames, contexts and offloads must be equally many")
        for frame in frames:
            if PyBytes_GET_SIZE(frame) > 131072:
                raise ValueError("a frame has at most 131072 bytes")
        for first in range(0, total, SLICE):
            last = min(first + SLICE, total)
            size = 0
            for i in range(first, last):
                size += SLOT_HEADROOM + <size_t>len(frames[i])
            arena = <uint8_t *>malloc(size)
            if arena == NULL:
                raise MemoryError
            try:
                with nogil:
                    self.acquire()
                try:
                    self.set_time(now_ms)
                    at = 0
                    for i in range(first, last):
                        frame = frames[i]
                        context_number = contexts[i]
                        vnet = NULL
                        if offloads is not None and offloads[i] is not None:
                            offload = offloads[i]
                            if PyBytes_GET_SIZE(offload) != VNET_HEADER:
                                raise ValueError("an offload header has 12 bytes")
                            vnet = <const uint8_t *>PyBytes_AS_STRING(offload)
                        at += SLOT_HEADROOM
                        memcpy(arena + at, PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame))
                        receive(&self.c, arena + at, <uint32_t>PyBytes_GET_SIZE(frame), vnet, context_number, i, &result)
                        at += PyBytes_GET_SIZE(frame)
                        outcomes.append((result.verdict, result.reason, result.object, result.rule))
                    emissions.extend(self._drain())
                finally:
                    clear_emissions(&self.c)
                    self.release()
            finally:
                free(arena)
        return outcomes, emissions

    def advance(self, unsigned long long now_ms):
        """Let time pass: expire sessions and waiting fragments. Returns `(outcomes, emissions)` like process."""
        cdef uint32_t dropped
        with nogil:
            self.acquire()
        try:
            self.set_time(now_ms)
            dropped = sweep(&self.c)
            emissions = self._drain()
        finally:
            clear_emissions(&self.c)
            self.release()
        return [(VERDICT_DROP, REASON_FRAGMENT_TIMEOUT, 0, 0)] * dropped, emissions

    cdef list _drain(self):
        cdef uint32_t i
        cdef emission *e
        cdef list rows = []
        for i in range(self.c.out_count):
            e = &self.c.out[i]
            count_sent(&self.c, e)
            rows.append((e.port, PyBytes_FromStringAndSize(<char *>e.frame, e.length), e.cause,
                         -1 if e.parent == NO_PARENT else <int>e.parent,
                         PyBytes_FromStringAndSize(<char *>e.vnet, VNET_HEADER)))
        return rows

    def trace(self, bytes frame not None, unsigned int context, Overlay overlay not None, unsigned long long now_ms):
        """Plan one packet and change nothing but `overlay`.

        Returns a dict: verdict, reason, object, rule, hops (a list of dicts of numbers), and when it would leave:
        port, frame (as edited, not yet fragmented), mtu (0, or the size of its fragments); when the router would
        send an error about it: error, a dict of the same shape.
        """
        cdef outcome result
        cdef packet p
        cdef plan *w = &self.c.work
        cdef metadata m
        cdef trace_buffer hops
        cdef uint8_t *bytes_
        cdef int reason
        cdef dict answer
        with nogil:
            self.acquire()
        try:
            self.set_time(now_ms)
            if self.c.t == NULL or context >= self.c.t.context_count or self.c.t.contexts[context].interface == 0:
                return {"verdict": VERDICT_DROP, "reason": REASON_CONTEXT_UNKNOWN, "object": 0, "rule": 0, "hops": []}
            bytes_ = scratch_frame(&self.c, len(frame))
            if bytes_ == NULL:
                raise ValueError("frame too long")
            memcpy(bytes_, PyBytes_AS_STRING(frame), len(frame))
            memset(&p, 0, sizeof(packet))
            p.frame = bytes_
            p.length = len(frame)
            p.l3 = ETH_HEADER
            p.context = context
            p.segments = 1
            reason = classify(&self.c, &self.c.t.contexts[context],
                              &self.c.t.interfaces[self.c.t.contexts[context].interface - 1], &p, NULL, 0, &result)
            if reason or result.verdict:
                return {"verdict": result.verdict or VERDICT_DROP, "reason": reason or result.reason,
                        "object": self.c.t.interfaces[self.c.t.contexts[context].interface - 1].number, "rule": 0, "hops": []}
            hops.count = 0
            start_metadata(self.c.t, self.c.t.contexts[context].interface, &m)
            walk(self.c.t, &self.c.sessions, &overlay.table, &p, w, self.c.t.contexts[context].entry, &m,
                 self.c.now, self.c.seed, &hops)
            overlay.commit(w, self.c.now)
            answer = {"verdict": w.verdict, "reason": w.reason, "object": w.object, "rule": w.rule, "hops": hops_of(&hops)}
            if w.error:
                answer["error"] = self._trace_error(&p, w, overlay)
            if w.verdict == VERDICT_FORWARD:
                self._leave(&p, &w.edit, answer)
            return answer
        finally:
            clear_emissions(&self.c)
            self.release()

    cdef int _leave(self, packet *p, const edit *e, dict answer) except -1:
        apply_header(p, &e.to)
        memcpy(p.frame, e.dst_mac, 6)
        memcpy(p.frame + 6, e.src_mac, 6)
        answer["port"] = e.port
        answer["mtu"] = e.mtu
        answer["frame"] = PyBytes_FromStringAndSize(<char *>p.frame, p.end)
        return 0

    cdef dict _trace_error(self, packet *p, plan *w, Overlay overlay):
        cdef interface *i = &self.c.t.interfaces[w.error_interface - 1]
        cdef packet q
        cdef metadata m
        cdef trace_buffer hops
        cdef bint four = p.family == 4
        cdef addr source
        cdef plan *x = &self.c.error_work
        cdef uint8_t *frame = scratch_frame(&self.c, ERROR_MAX)
        cdef dict answer
        hops.count = 0
        if frame == NULL or not ((i.has4 if four else i.has6) if w.error_routed else (i.has_router4 if four else i.has_router6)):
            return {}
        if w.error_routed:
            source = i.address4 if four else i.address6
            start_metadata(self.c.t, w.error_interface, &m)
        else:
            source = i.router4 if four else i.router6
            memset(&m, 0, sizeof(metadata))
            m.realm = i.realm
            m.subnet = i.subnet
        memset(&q, 0, sizeof(packet))
        q.frame = frame
        q.length = build_error(p, &w.error_view, frame, source, w.error == ERROR_TOO_BIG, w.error_mtu)
        q.l3 = ETH_HEADER
        q.family = p.family
        if parse_ip(&q):
            return {}
        q.generated = 1
        walk(self.c.t, &self.c.sessions, &overlay.table, &q, x, i.out if w.error_routed else i.into, &m,
             self.c.now, self.c.seed, &hops)
        answer = {"verdict": x.verdict, "reason": x.reason, "object": x.object, "rule": x.rule, "hops": hops_of(&hops)}
        if x.verdict == VERDICT_FORWARD:
            self._leave(&q, &x.edit, answer)
        return answer

    def sessions(self):
        """All living sessions as dicts: kind, owner, rule, state, forward and reply tuples
        `(family, source, destination, protocol, source port, destination port)`, age_ms, idle_ms, limit_ms,
        packets and bytes each way."""
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
                    memcpy(copy, self.c.sessions.rows + first, count * sizeof(session))
                    self.release()
                if count == 0:
                    return rows
                first += count
                for i in range(count):
                    s = &copy[i]
                    if s.kind == SESSION_POOL or not session_alive(s, now):
                        continue
                    rows.append({
                        "kind": SESSION_KINDS[s.kind], "owner": s.key[0].owner, "rule": s.rule,
                        "state": SESSION_STATES[s.state],
                        "forward": tuple_of(&s.key[0].tuple), "reply": tuple_of(&s.key[1].tuple),
                        "age_ms": now - s.opened, "idle_ms": now - s.last_seen, "limit_ms": s.idle,
                        "packets": (s.packets[0], s.packets[1]), "bytes": (s.bytes[0], s.bytes[1]),
                    })
        finally:
            free(copy)

    def forget(self, unsigned long long keep=0):
        """Delete flow entries: all, or with `keep` those whose bit (row modulo 64) is not set in it.

        No verdict, byte or session changes by it; tests use it to prove that.
        """
        cdef uint64_t row
        cdef int deleted = 0
        with nogil:
            self.acquire()
            for row in range(<uint64_t>(self.c.flows.mask + 1) * 4):
                if self.c.flows.rows[row].generation and not (keep >> (row & 63)) & 1:
                    self.c.flows.rows[row].generation = 0
                    deleted += 1
            self.release()
        return deleted

    def counters(self):
        """Per port number: rx_frames, rx_packets, rx_bytes, tx_frames, tx_packets, tx_bytes and
        reasons, a dict from drop reason number to how many packets died of it."""
        cdef port_counters *k
        cdef uint32_t i, r
        cdef dict rows = {}
        cdef port_counters *copy
        cdef uint32_t count = self.c.port_count
        if count == 0:
            return rows
        copy = <port_counters *>malloc(count * sizeof(port_counters))
        if copy == NULL:
            raise MemoryError
        with nogil:
            self.acquire()
            memcpy(copy, self.c.ports, count * sizeof(port_counters))
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

    def statistics(self):
        """Sizes of what is kept: sessions and their limit, flow entry hits and misses, waiting fragments."""
        return {
            "sessions": self.c.sessions.live, "session_limit": self.c.sessions.capacity,
            "flow_hits": self.c.flows.hits, "flow_misses": self.c.flows.misses,
            "fragments_waiting": self.c.fragments.waiting,
        }

    def selfcheck(self):
        """Check the session table's invariants; raises AssertionError naming the first that is broken."""
        cdef uint32_t i, ref, live = 0, linked = 0, expected = 0
        cdef session *s
        cdef session_table *t = &self.c.sessions
        with nogil:
            self.acquire()
        try:
            for i in range(t.used):
                s = &t.rows[i]
                if s.live:
                    live += 1
                    expected += 1 if memcmp(&s.key[0], &s.key[1], sizeof(session_key)) == 0 else 2
                    if s.kind == SESSION_NAT:
                        assert s.pool != NO_SESSION and t.rows[s.pool].live and t.rows[s.pool].kind == SESSION_POOL, \
                            f"NAT session {i} has no pool"
            assert live == t.live, f"{live} rows are live, the table says {t.live}"
            for i in range(t.mask + 1):
                ref = t.buckets[i]
                while ref != NO_SESSION:
                    assert t.rows[ref >> 1].live, f"dead session {ref >> 1} is in a hash chain"
                    linked += 1
                    assert linked <= expected, "a hash chain has a loop or a stray entry"
                    ref = t.rows[ref >> 1].next[ref & 1]
            assert linked == expected, f"{linked} keys are linked, {expected} should be"
        finally:
            self.release()

"""Loops over our own tables, for benchmarks only: what Python and a call from it would add is not in them.

Each `run` walks a whole trace, adds the answers up and stores them if it is given room. Arrays come as addresses.
"""

from libc.math cimport exp, log
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from fastpath.burst cimport receive_burst
from fastpath.classifier cimport rule, service_key
from fastpath.core cimport core, count_sent, set_time
from fastpath.emission cimport SLOT_HEADROOM, emission, outbox_clear
from fastpath.engine cimport Engine
from fastpath.flow cimport arrival
from fastpath.lpm cimport lpm_find_many4, lpm_find_many6, lpm_table
from fastpath.memo cimport *
from fastpath.packet cimport addr, header, packet
from fastpath.plan cimport plan, walker
from fastpath.rule_list cimport first_rules4, rule_list
from fastpath.session cimport NO_SESSION, session, session_table
from fastpath.snapshot cimport Snapshot
from fastpath.tracking cimport first_match
from fastpath.wire cimport VNET_HEADER, fetch

cdef extern from *:
    """
    #if __has_include(<valgrind/callgrind.h>)
    #include <valgrind/callgrind.h>
    #else
    #define CALLGRIND_START_INSTRUMENTATION
    #define CALLGRIND_STOP_INSTRUMENTATION
    #define CALLGRIND_DUMP_STATS
    #define CALLGRIND_ZERO_STATS
    #endif
    static inline void count_from_here(void) { CALLGRIND_START_INSTRUMENTATION; CALLGRIND_ZERO_STATS; }
    static inline void count_to_here(void) { CALLGRIND_DUMP_STATS; CALLGRIND_STOP_INSTRUMENTATION; }
    """
    void count_from_here() nogil
    void count_to_here() nogil


cdef enum:
    BATCH = 64              # as the peers' bulk calls


# Use what was found, so that it has to be found; and keep it, unless `answers` is NULL.
cdef inline uint64_t taken(const uint32_t *found, uint32_t size, uint32_t *answers) noexcept nogil:
    cdef uint64_t total = 0
    cdef uint32_t i
    for i in range(size):
        total += found[i]
    if answers != NULL:
        memcpy(answers, found, size * sizeof(uint32_t))
    return total


def lookup4(Snapshot snapshot not None, uint32_t table, uintptr_t keys, uint32_t count, uintptr_t answers=0):
    """IPv4 addresses of 32 bits, BATCH at a time."""
    cdef const lpm_table *t = &snapshot.t.intervals[table]
    cdef uint32_t *k = <uint32_t *>keys
    cdef uint32_t *a = <uint32_t *>answers
    cdef uint32_t found[BATCH]
    cdef uint32_t i = 0, size
    cdef uint64_t total = 0
    with nogil:
        while i < count:
            size = count - i if count - i < BATCH else BATCH
            lpm_find_many4(t, k + i, found, size)
            total += taken(found, size, NULL if a == NULL else a + i)
            i += size
    return total


def lookup6(Snapshot snapshot not None, uint32_t table, uintptr_t keys, uint32_t count, uintptr_t answers=0):
    """IPv6 addresses, each as two numbers of 64 bits, BATCH at a time."""
    cdef const lpm_table *t = &snapshot.t.intervals[table]
    cdef addr *k = <addr *>keys
    cdef uint32_t *a = <uint32_t *>answers
    cdef uint32_t found[BATCH]
    cdef uint32_t i = 0, size
    cdef uint64_t total = 0
    with nogil:
        while i < count:
            size = count - i if count - i < BATCH else BATCH
            lpm_find_many6(t, k + i, found, size)
            total += taken(found, size, NULL if a == NULL else a + i)
            i += size
    return total


# --- rules ---------------------------------------------------------------------------------------------------------

# What a packet shows of itself; `address` is the remote one.
cdef struct seen:
    uint32_t protocol
    uint32_t address
    uint32_t port


def classify(Snapshot snapshot not None, uint32_t index, uintptr_t keys, uint32_t count, uintptr_t answers=0):
    """The number of the first rule of a list that matches each IPv4 packet, BATCH at a time."""
    cdef const rule_list *rules = &snapshot.t.filters[index]
    cdef seen *k = <seen *>keys
    cdef uint32_t *a = <uint32_t *>answers
    cdef uint32_t remotes[BATCH]
    cdef uint32_t services[BATCH]
    cdef uint32_t found[BATCH]
    cdef uint32_t i = 0, j, size
    cdef uint64_t total = 0
    with nogil:
        while i < count:
            size = count - i if count - i < BATCH else BATCH
            for j in range(size):
                remotes[j] = k[i + j].address
                services[j] = service_key(<uint8_t>k[i + j].protocol, <uint16_t>k[i + j].port, 0, 0)
            first_rules4(rules, snapshot.t.intervals, remotes, services, found, size)
            total += taken(found, size, NULL if a == NULL else a + i)
            i += size
    return total


def classify_one(Snapshot snapshot not None, uint32_t index, uintptr_t keys, uint32_t count, uintptr_t answers=0):
    """The same, one packet at a time: what a walk does at a filter."""
    cdef const rule_list *rules = &snapshot.t.filters[index]
    cdef const rule *r
    cdef seen *k = <seen *>keys
    cdef uint32_t *a = <uint32_t *>answers
    cdef uint32_t i, value
    cdef uint64_t total = 0
    cdef packet p
    cdef header h
    cdef addr remote
    cdef walker w
    cdef plan *x = <plan *>calloc(1, sizeof(plan))
    if x == NULL:
        raise MemoryError
    memset(&w, 0, sizeof(w))
    memset(&p, 0, sizeof(p))
    memset(&h, 0, sizeof(h))
    w.t = &snapshot.t
    w.p = &p
    w.h = &h
    w.out = x
    p.family = 4
    remote.hi = 0
    with nogil:
        for i in range(count):
            p.proto = <uint8_t>k[i].protocol
            h.dport = <uint16_t>k[i].port
            remote.lo = k[i].address
            r = first_match(&w, rules, remote, False)
            value = r.number if r != NULL else 0
            total += value
            if a != NULL:
                a[i] = value
    free(x)
    return total


# --- flow entries --------------------------------------------------------------------------------------------------

# The same 16 bytes that the peer has; `number` is the answer.
cdef struct flow_row:
    uint32_t source
    uint32_t destination
    uint16_t source_port
    uint16_t destination_port
    uint32_t number


cdef inline uint64_t mixed(uint64_t z) noexcept nogil:
    z += <uint64_t>0x9E3779B97F4A7C15U
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9U
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EBU
    return z ^ (z >> 31)


cdef inline void make_row(flow_row *row, uint32_t number, uint64_t seed) noexcept nogil:
    cdef uint64_t z = mixed(seed * 0x51ED27 + number)
    row.source = <uint32_t>0x0A000000U | (number >> 8)
    row.destination = <uint32_t>z
    row.source_port = <uint16_t>(z >> 32)
    row.destination_port = <uint16_t>(number & 0xFF)
    row.number = number + 1


def flow_rows(uintptr_t out, uint32_t first, uint32_t count, uint64_t seed):
    """The keys of flows `first` and on, 16 bytes each."""
    cdef flow_row *rows = <flow_row *>out
    cdef uint32_t i
    for i in range(count):
        make_row(&rows[i], first + i, seed)


def flow_trace(uintptr_t out, uint32_t count, uint32_t flows, uint64_t seed, bint zipf):
    """Keys of `count` packets of `flows` flows: any of them, or by Zipf (s = 1)."""
    cdef flow_row *rows = <flow_row *>out
    cdef uint32_t i
    cdef uint64_t z, at
    for i in range(count):
        z = mixed(seed * 0xA24BAED4 + i)
        if zipf:
            at = <uint64_t>exp((z >> 11) * (1.0 / (<uint64_t>1 << 53)) * log(flows + 1.0)) - 1
            at = (at * <uint64_t>2654435761U) % flows
        else:
            at = z % flows
        make_row(&rows[i], <uint32_t>at, seed)


def flow_keep(uintptr_t rows, uintptr_t answers, uint32_t count):
    """Move the keys that were found to the front; how many."""
    cdef flow_row *k = <flow_row *>rows
    cdef uint32_t *a = <uint32_t *>answers
    cdef uint32_t i, kept = 0
    for i in range(count):
        if a[i]:
            k[kept] = k[i]
            kept += 1
    return kept


cdef class FlowTable:
    """The table of a memo without an engine."""

    cdef flow_table t
    cdef bint ready

    def __cinit__(self, uint32_t capacity):
        if not flows_open(&self.t, capacity):
            raise MemoryError
        self.ready = True

    def __dealloc__(self):
        if self.ready:
            flows_close(&self.t)

    @property
    def bytes(self):
        return flows_bytes(&self.t)

    def add(self, uintptr_t rows, uint32_t count):
        """Remember these flows. How many."""
        cdef flow_row *k = <flow_row *>rows
        cdef uint64_t word[3]
        cdef uint32_t i, row, added = 0
        with nogil:
            for i in range(count):
                key_of(word, &k[i])
                row = flow_insert(&self.t, tag_of(&self.t, word, NULL), word, NULL)
                if row != NO_FLOW:
                    self.t.rows[row].to = k[i].number
                    added += 1
        return added

    def run(self, uintptr_t rows, uint32_t count, uintptr_t answers=0):
        """Find them again, BATCH at a time, as a burst of packets does."""
        cdef flow_row *k = <flow_row *>rows
        cdef uint32_t *out = <uint32_t *>answers
        cdef flow_table *t = &self.t
        cdef uint64_t words[BATCH][3]
        cdef uint32_t tags[BATCH]
        cdef uint32_t found[BATCH]
        cdef bucket *b
        cdef uint32_t at = 0, i, n, ways, value, row
        cdef uint64_t total = 0
        with nogil:
            while at < count:
                n = count - at if count - at < BATCH else BATCH
                for i in range(n):
                    key_of(words[i], &k[at + i])
                    tags[i] = tag_of(t, words[i], NULL)
                    fetch(home_of(t, tags[i]))
                for i in range(n):
                    b = home_of(t, tags[i])
                    ways = ways_with(b.tags, tags[i])
                    if ways == 0:
                        b = beside(b, 1)
                        ways = ways_with(b.tags, tags[i])
                    found[i] = b.rows[lowest_way(ways)] if ways else NO_FLOW
                    fetch(&t.rows[found[i]] if ways else &t.rows[0])
                for i in range(n):
                    row = found[i]
                    if row == NO_FLOW or not is_row(t, row, words[i], NULL):
                        row = flow_find(t, tags[i], words[i], NULL)
                    value = 0 if row == NO_FLOW else t.rows[row].to
                    total += value
                    if out != NULL:
                        out[at + i] = value
                at += n
        return total


cdef inline void key_of(uint64_t *word, const flow_row *k) noexcept nogil:
    memcpy(word, k, 8)
    word[1] = k.source_port | (<uint32_t>k.destination_port << 16) | (<uint64_t>17 << 32) | (<uint64_t>4 << FAMILY_AT)
    word[2] = <uint64_t>1 << 32


# --- packets -------------------------------------------------------------------------------------------------------

cdef enum:
    ROUND = 32              # as a worker reads them
    SLOTS = 64
    SLOT = 66048


cdef class Replay:
    """What a worker does with frames between reading and writing them: same bursts, same slots, no system calls."""

    cdef Engine engine
    cdef uint8_t *arena

    def __cinit__(self, Engine engine not None):
        self.engine = engine
        self.arena = <uint8_t *>calloc(SLOTS, SLOT)
        if self.arena == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.arena)

    def run(self, uintptr_t frames, uint32_t stride, uint32_t length, uint32_t count, uintptr_t contexts, uint64_t now,
            uintptr_t out=0, bint counted=False):
        """Receive `count` frames, each from its context; how many left. `out`: room for what leaves, `stride` apart.

        `counted`: valgrind counts instructions from here to the end of it.
        """
        cdef uint8_t *f = <uint8_t *>frames
        cdef uint8_t *o = <uint8_t *>out
        cdef uint32_t *from_ = <uint32_t *>contexts
        cdef arrival rows[ROUND]
        cdef arrival *a
        cdef core *c = &self.engine.c
        cdef emission *e
        cdef uint32_t at, i, n
        cdef uint64_t emitted = 0
        with nogil:
            self.engine.acquire()
            set_time(c, now)
            if counted:
                count_from_here()
            at = 0
            while at < count:
                n = count - at if count - at < ROUND else ROUND
                for i in range(n):
                    a = &rows[i]
                    a.frame = self.arena + <size_t>i * SLOT + SLOT_HEADROOM
                    a.vnet = NULL
                    a.trace = NULL
                    a.length = length
                    a.context = from_[at + i]
                    a.parent = i
                    memcpy(a.frame, f + <size_t>(at + i) * stride, length)
                receive_burst(c, rows, n, False)
                for i in range(c.out.count):
                    e = &c.out.rows[i]
                    memcpy(e.frame - VNET_HEADER, e.vnet, VNET_HEADER)
                    count_sent(c, e)
                    if o != NULL and e.length <= stride:
                        memcpy(o + (emitted + i) * stride, e.frame, e.length)
                emitted += c.out.count
                outbox_clear(&c.out)
                at += n
            if counted:
                count_to_here()
            self.engine.release()
        return emitted


def sizes():
    """Bytes of one row of each table, and what a bucket of the session table takes."""
    return {"flow": sizeof(flow) + sizeof(flow_cold), "link": sizeof(flow_link), "flow bucket": sizeof(bucket),
            "session": sizeof(session), "bucket": 3 * sizeof(uint32_t), "rule": sizeof(rule)}


def probes(Engine engine not None):
    """How many keys are looked at until a session is found and how many buckets until a flow entry is: (mean, most) of
    each; and entries living, with their bytes."""
    cdef session_table *s = &engine.c.sessions
    cdef flow_table *f = &engine.c.flows
    cdef uint32_t slot, ref, row, way
    cdef uint64_t keys = 0, steps = 0, longest = 0, depth, at_home = 0
    cdef bucket *b
    for slot in range(s.mask + 1):
        ref = s.buckets[slot]
        depth = 0
        while ref != NO_SESSION:
            depth += 1
            keys += 1
            steps += depth
            ref = s.rows[ref >> 1].next[ref & 1]
        longest = max(longest, depth)
    for row in range(f.used):
        if f.rows[row].word[1]:
            b = home_of(f, f.cold[row].tag)
            for way in range(BUCKET_WAYS):
                at_home += b.tags[way] != 0 and b.rows[way] == row
    return {"session": (<double>steps / keys if keys else 0.0, longest),
            "flow": (2 - <double>at_home / f.live if f.live else 0.0, 1 if at_home == f.live else 2),
            "flows": f.live, "flow bytes": flows_bytes(f), "sessions": s.live, "buckets": s.mask + 1, "capacity": s.capacity}

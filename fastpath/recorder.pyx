"""Recorders: rings of records of packets, which Python reads, and what each of them looks at.

A ring is bounded: when its reader does not keep up, records are lost and counted, packets never are. A record never wraps:
one that does not fit in front of the end leaves the rest of the ring unused and begins at its start. What is put into rings
is decided in fastpath.watch, with the engine's lock held; the reader has no lock, and sees what has been published.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from cpython.bytes cimport PyBytes_FromStringAndSize

from fastpath.plan cimport hop
from fastpath.reason cimport VERDICT_DROP
from fastpath.shown cimport hops_at

cdef extern from *:
    """
    static inline uint64_t taken(uint64_t *n) { return __atomic_load_n(n, __ATOMIC_ACQUIRE); }
    static inline void given(uint64_t *n, uint64_t v) { __atomic_store_n(n, v, __ATOMIC_RELEASE); }
    """
    uint64_t taken(uint64_t *n) nogil
    void given(uint64_t *n, uint64_t v) nogil

cdef enum:
    LEAST_RING = 1 << 18        # holds any record
    MOST_RING = 1 << 30

KINDS = {"interface": POINT_INTERFACE, "translator": POINT_TRANSLATOR, "border": POINT_BORDER, "passage": POINT_PASSAGE,
         "tunnel": POINT_TUNNEL, "story": POINT_STORY}


# --- the ring ------------------------------------------------------------------------------------------------------

cdef bint is_kept(const recorder *r, const uint8_t *bytes, uint32_t length, bint bare) noexcept nogil:
    return r.keeps == NULL or r.programs[bare] == NULL or r.keeps(r.programs[bare], bytes, length, length) != 0


# Room for a record, or NULL: it is lost, and counted.
cdef uint8_t *make_room(recorder *r, uint64_t size) noexcept nogil:
    cdef uint64_t at = r.written & (r.capacity - 1), rest = r.capacity - at
    cdef uint64_t need = size if size <= rest else size + rest
    if r.written + need - taken(&r.tail) > r.capacity:
        given(&r.lost, r.lost + 1)
        r.lost_before += 1
        return NULL
    if size > rest:
        (<record_head *>(r.bytes + at)).size = <uint32_t>rest
        (<record_head *>(r.bytes + at)).lane = NO_LANE
        r.written += rest
        at = 0
    r.written += size
    return r.bytes + at


cdef void put_record(recorder *r, uint64_t now_ns, uint32_t lane, const uint8_t *bytes, uint32_t length, const remark *m,
                     const hop *hops, uint32_t hop_count) noexcept nogil:
    cdef uint64_t size = (sizeof(record_head) + length + 7) & <uint64_t>~<uint64_t>7
    cdef uint64_t whole = size + hop_count * sizeof(hop)
    cdef uint8_t *at = make_room(r, (whole + 7) & <uint64_t>~<uint64_t>7)
    cdef record_head *head = <record_head *>at
    if at == NULL:
        return
    head.size = <uint32_t>((whole + 7) & <uint64_t>~<uint64_t>7)
    head.lane = lane
    head.time_ns = now_ns
    head.length = length
    head.hop_count = hop_count
    head.object = m.object
    head.rule = m.rule
    head.member = m.member
    head.lost = r.lost_before
    head.reason = m.reason
    head.gso_size = m.gso_size
    head.verdict = m.verdict
    head.cause = m.cause
    head.outgoing = m.outgoing
    head.own = m.own
    head.emission = m.emission
    r.lost_before = 0
    memcpy(at + sizeof(record_head), bytes, length)
    if hop_count:
        memcpy(at + size, hops, hop_count * sizeof(hop))


cdef void keep(recorder *r, uint64_t now_ns, uint32_t lane, const uint8_t *bytes, uint32_t length, bint bare, const remark *m) noexcept nogil:
    if lane != NO_LANE and is_kept(r, bytes, length, bare):
        put_record(r, now_ns, lane, bytes, length, m, NULL, 0)


# An arrival is told what became of it; so is what a walk has recorded of a packet that died only as it left.
cdef void correct(recorder *r, const remark *m) noexcept nogil:
    cdef uint64_t at = r.begun
    cdef record_head *head
    while at < r.written:
        head = <record_head *>(r.bytes + (at & (r.capacity - 1)))
        at += head.size
        if head.lane != NO_LANE and (head.own == OWN_ARRIVAL or (head.own == 0 and m.verdict == VERDICT_DROP)):
            head.verdict = m.verdict
            head.reason = m.reason
            head.object = m.object
            head.rule = m.rule


# The records of an emission, which was lost, are told. False: there is none.
cdef bint tell_lost(recorder *r, uint32_t number, const remark *m) noexcept nogil:
    cdef uint64_t at = r.flushed
    cdef record_head *head
    cdef bint found = False
    while at < r.written:
        head = <record_head *>(r.bytes + (at & (r.capacity - 1)))
        if head.lane != NO_LANE and head.emission > number:
            break
        at += head.size
        if head.lane != NO_LANE and head.emission == number:
            found = True
            head.verdict, head.reason, head.object, head.rule = m.verdict, m.reason, m.object, m.rule
    r.flushed = at
    return found


cdef void publish_ring(recorder *r) noexcept nogil:
    r.begun = r.flushed = r.written
    given(&r.head, r.written)


# --- its face ------------------------------------------------------------------------------------------------------

cdef class Recorder:
    """One capture: which points it looks at, and the ring of its records. `Engine.watch` begins, `Engine.unwatch` ends it.

    Args:
        points: rows of (kind, object, port, realm, lane inside, lane outside, addresses): a word of `KINDS`, numbers (a
            lane is None where nothing is recorded), and addresses as (high, low) halves of a number.
        capacity: bytes of the ring, a power of two from 2**18 to 2**30. All that a recorder ever takes.
        keeps: address of libpcap's `bpf_filter`, or 0; `programs`: of the instructions for frames and for bare packets,
            or 0: all are kept; `owner`: what keeps both in place.

    Raises ValueError for other sizes and points, MemoryError when the ring cannot be had.
    """

    def __cinit__(self, points, *, unsigned long long capacity=1 << 23, unsigned long long keeps=0, programs=(0, 0), owner=None):
        if not LEAST_RING <= capacity <= MOST_RING or capacity & (capacity - 1):
            raise ValueError("a ring has a power of two of bytes, from 2**18 to 2**30")
        self.keep = owner
        self.r.capacity = capacity
        self.r.keeps = <filter_call><uintptr_t>keeps
        self.r.programs[0] = <const void *><uintptr_t>programs[0]
        self.r.programs[1] = <const void *><uintptr_t>programs[1]
        self._set_points(points)
        self.r.bytes = <uint8_t *>malloc(capacity)
        if self.r.bytes == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.r.bytes)
        free_points(self.r.points, self.r.point_count)

    cdef int _set_points(self, object points) except -1:
        cdef uint32_t count = len(points), i, k
        cdef point *n
        cdef point *rows = <point *>calloc(count + 1, sizeof(point))
        if rows == NULL:
            raise MemoryError
        try:
            for i, (kind, object_, port, realm, inside, outside, addresses) in enumerate(points):
                n = &rows[i]
                if kind not in KINDS:
                    raise ValueError(f"no kind of point: {kind!r}")
                n.kind = KINDS[kind]
                n.object, n.port, n.realm = object_, port, realm
                n.inside = NO_LANE if inside is None else inside
                n.outside = NO_LANE if outside is None else outside
                n.addresses = <addr *>calloc(len(addresses) + 1, sizeof(addr))
                if n.addresses == NULL:
                    raise MemoryError
                n.address_count = len(addresses)
                for k, (high, low) in enumerate(addresses):
                    n.addresses[k].hi, n.addresses[k].lo = high, low
        except BaseException:
            free_points(rows, count)
            raise
        free_points(self.r.points, self.r.point_count)
        self.r.points, self.r.point_count = rows, count
        return 0

    @property
    def lost(self):
        """Records that found no room, since the start."""
        return taken(&self.r.lost)

    def read(self, unsigned int most=1024):
        """Take the oldest records out of the ring, at most so many. One thread at a time.

        Each is (lane, time in nanoseconds, bytes, verdict, reason, object, rule, cause, outgoing, member, segment size,
        lost before it, hops); cause 0: it was on its way. Hops are those of a story, as `Engine.trace` gives them.
        """
        cdef uint64_t tail = self.r.tail, head = taken(&self.r.head)
        cdef record_head *h
        cdef uint8_t *at
        cdef list rows = []
        while tail < head and <unsigned int>len(rows) < most:
            at = self.r.bytes + (tail & (self.r.capacity - 1))
            h = <record_head *>at
            tail += h.size
            if h.lane != NO_LANE:
                hops = hops_at(<const hop *>(at + ((sizeof(record_head) + h.length + 7) & <uint64_t>~<uint64_t>7)), h.hop_count)
                rows.append((h.lane, h.time_ns, PyBytes_FromStringAndSize(<char *>at + sizeof(record_head), h.length), h.verdict,
                             h.reason, h.object, h.rule, h.cause, bool(h.outgoing), h.member, h.gso_size, h.lost, hops))
        given(&self.r.tail, tail)
        return rows


cdef void free_points(point *rows, uint32_t count) noexcept:
    cdef uint32_t i
    if rows != NULL:
        for i in range(count):
            free(rows[i].addresses)
        free(rows)

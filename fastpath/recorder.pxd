# Rings of records of packets, one for each capture.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.packet cimport addr
from fastpath.plan cimport hop

cdef enum:
    NO_LANE = 0xFFFFFFFFU
    OWN_ARRIVAL = 2         # a record of what has come: its verdict is still to be told

cdef enum point_kind:
    POINT_INTERFACE = 1     # frames of a port, and packets that die on its doorstep
    POINT_TRANSLATOR = 2    # two sides; what is for one of `addresses` comes from outside
    POINT_BORDER = 3        # two sides; what comes from `realm` comes from outside
    POINT_PASSAGE = 4       # one side
    POINT_TUNNEL = 5        # outside: packets around others; inside: those in them
    POINT_STORY = 6         # every packet that is received, with all it went through

# One place where packets are looked at; each side is a lane of the capture, or NO_LANE.
cdef struct point:
    uint8_t kind
    uint32_t object
    uint32_t port           # INTERFACE
    uint32_t realm          # BORDER: the one outside; INTERFACE: its own
    uint32_t inside
    uint32_t outside
    addr *addresses
    uint32_t address_count

ctypedef unsigned int (*filter_call)(const void *program, const unsigned char *bytes, unsigned int wire, unsigned int have) noexcept nogil

# What stands in the ring in front of a packet's bytes, which hops may follow; `size` is a multiple of 8.
cdef struct record_head:
    uint32_t size
    uint32_t lane           # NO_LANE: the ring begins anew
    uint64_t time_ns
    uint32_t length
    uint32_t hop_count
    uint32_t object
    uint32_t rule
    uint32_t member         # of a spread, that a tunnel leads to
    uint32_t lost           # records lost since the one before
    uint16_t reason
    uint16_t gso_size
    uint8_t verdict
    uint8_t cause           # of what left; 0: it was on its way
    uint8_t outgoing        # from whom the point belongs to
    uint8_t own             # of a packet of the router's own
    uint32_t emission       # number of the one in the outbox, from 1; 0: none

# One capture. The producer has the engine's lock; one reader has none.
cdef struct recorder:
    uint8_t *bytes
    uint64_t capacity       # a power of two
    uint64_t written        # by the producer, not all of it published yet
    uint64_t begun          # where records of the present packet begin
    uint64_t flushed        # records of emissions before here have been told whether their port took them
    uint64_t head           # published
    uint64_t tail           # read
    uint64_t lost
    uint32_t lost_before    # since the last record that found room
    point *points
    uint32_t point_count
    filter_call keeps
    const void *programs[2]     # for frames, for bare packets; NULL: everything

# What a record says beside its bytes. A story's `member` is the port it begins at.
cdef struct remark:
    uint32_t object
    uint32_t rule
    uint32_t member
    uint32_t emission
    uint16_t reason
    uint16_t gso_size
    uint8_t verdict
    uint8_t cause
    uint8_t outgoing
    uint8_t own


# Does the capture's filter want a frame, or with `bare` a packet without an Ethernet header?
cdef bint is_kept(const recorder *r, const uint8_t *bytes, uint32_t length, bint bare) noexcept nogil
cdef void put_record(recorder *r, uint64_t now_ns, uint32_t lane, const uint8_t *bytes, uint32_t length, const remark *m,
                     const hop *hops, uint32_t hop_count) noexcept nogil
# Put a record in, if there is a lane for it and the filter wants it.
cdef void keep(recorder *r, uint64_t now_ns, uint32_t lane, const uint8_t *bytes, uint32_t length, bint bare, const remark *m) noexcept nogil
cdef void correct(recorder *r, const remark *m) noexcept nogil
cdef bint tell_lost(recorder *r, uint32_t number, const remark *m) noexcept nogil
# Let the reader have all there is.
cdef void publish_ring(recorder *r) noexcept nogil


cdef class Recorder:
    cdef recorder r
    cdef object keep                # what the filter's memory belongs to
    cdef int _set_points(self, object points) except -1

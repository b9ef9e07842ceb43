# Records of packets as they pass points of the graph, for whoever captures; none of it is touched while nobody does.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.emission cimport emission, outbox
from fastpath.flow cimport arrival
from fastpath.packet cimport addr, packet
from fastpath.plan cimport leg_room, plan, trace_buffer
from fastpath.snapshot cimport tables

cdef enum:
    MAX_RECORDERS = 16
    NO_LANE = 0xFFFFFFFFU
    LONGEST_RECORDED = 131072 + 256

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
ctypedef uint64_t (*clock_call)() noexcept nogil

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

# All captures of one engine, and the packet that they are looking at.
cdef struct recording:
    recorder *recorders[MAX_RECORDERS]
    uint32_t count
    bint waits              # records are published when what left has been written to ports
    uint64_t now_ns
    uint8_t *came           # the frame as it came: what is received is edited in place
    uint8_t *copy
    uint32_t came_length
    uint16_t came_gso
    uint32_t leaves_through  # owner of the tunnel that the last emission left through, or 0
    trace_buffer story
    trace_buffer other      # of a packet of the router's own, or one that had waited
    outbox around           # of a packet that died inside of another: what would have left

cdef recording *recording_open() noexcept nogil
cdef void recording_close(recording *w) noexcept nogil
cdef void watch_arrival(recording *w, arrival *a) noexcept nogil
cdef void watch_walk(recording *w, tables *t, packet *p, leg_room *legs, const plan *x, const trace_buffer *story) noexcept nogil
cdef void watch_done(recording *w, tables *t, const arrival *a, const outbox *o, uint32_t first) noexcept nogil
cdef void watch_left(recording *w, tables *t, const outbox *o, uint32_t first) noexcept nogil
cdef void watch_waits(recording *w, bint waits) noexcept nogil
cdef void watch_lost(recording *w, tables *t, const emission *e, uint32_t number, uint16_t reason) noexcept nogil
cdef void watch_flushed(recording *w) noexcept nogil
cdef void watch_held(recording *w, uint32_t port, const uint8_t *frame, uint32_t length, uint16_t reason) noexcept nogil


cdef class Recorder:
    cdef recorder r
    cdef object keep                # what the filter's memory belongs to
    cdef int _set_points(self, object points) except -1

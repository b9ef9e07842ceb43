# Who records packets as they pass points of the graph, and what is told to them; none of it is touched while nobody does.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.emission cimport emission, outbox
from fastpath.flow cimport arrival
from fastpath.packet cimport packet
from fastpath.plan cimport leg_room, plan, trace_buffer
from fastpath.recorder cimport recorder
from fastpath.snapshot cimport tables

cdef enum:
    MAX_RECORDERS = 16
    LONGEST_RECORDED = 131072 + 256

ctypedef uint64_t (*clock_call)() noexcept nogil

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
cdef void watch_waits(recording *w, bint waits) noexcept nogil
cdef void watch_lost(recording *w, tables *t, const emission *e, uint32_t number, uint16_t reason) noexcept nogil
cdef void watch_flushed(recording *w) noexcept nogil
cdef void watch_held(recording *w, uint32_t port, const uint8_t *frame, uint32_t length, uint16_t reason) noexcept nogil

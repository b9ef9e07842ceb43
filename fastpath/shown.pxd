# What Python is shown.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpath.emission cimport emission
from fastpath.plan cimport hop, plan, trace_buffer
from fastpath.session cimport session

# Emissions copied out of the engine, so that Python can look at them without its lock.
cdef struct taken:
    emission *rows
    uint8_t *bytes
    uint32_t count
    bint failed             # no memory: the frames are lost, as if a port had been full

cdef list emissions_of(taken *t)
cdef dict planned(plan *x, trace_buffer *hops)
cdef list hops_at(const hop *hops, uint32_t count)
cdef list story_of(trace_buffer *b)
cdef dict session_of(session *s, uint64_t now)

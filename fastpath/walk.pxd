# The walk itself; what it finds out is a plan (plan.pxd).

from libc.stdint cimport uint32_t, uint64_t

from fastpath.packet cimport metadata, packet
from fastpath.plan cimport leg_room, plan, trace_buffer
from fastpath.session cimport session_table
from fastpath.snapshot cimport tables

# `legs`: room for packets of the other family; the plan points into it.
cdef void walk(tables *t, session_table *sessions, session_table *overlay, packet *p, leg_room *legs, plan *out, uint32_t node,
               const metadata *start, uint64_t now, uint64_t seed, trace_buffer *trace) noexcept nogil
cdef void start_metadata(tables *t, uint32_t interface, metadata *m) noexcept nogil

# Packets traced, and the sessions that they would have opened.

from libc.stdint cimport uint32_t, uint64_t

from fastpath.core cimport core
from fastpath.lock cimport engine_lock
from fastpath.plan cimport plan
from fastpath.session cimport session_table


cdef class Overlay:
    cdef session_table table
    cdef void commit(self, plan *x, uint64_t now) noexcept nogil


# See Engine.trace.
cdef dict trace_packet(core *c, engine_lock *lock, bytes frame, uint32_t port, Overlay overlay, uint64_t now)

# The engine as a Python object.

from libc.stdint cimport uint32_t, uint64_t

from fastpath.core cimport core
from fastpath.lock cimport engine_lock
from fastpath.shown cimport taken
from fastpath.snapshot cimport Snapshot


cdef class Engine:
    cdef core c
    cdef engine_lock lock
    cdef Snapshot snapshot
    cdef bint ready
    cdef bint wants_memo
    cdef list recorders             # in the order of `c.watch.recorders`
    cdef object control             # one swap at a time
    cdef object taking              # one `take_records` at a time
    cdef dict slots                 # of counters, by the number of their translator; kept as long as the engine
    cdef void acquire(self) noexcept nogil
    cdef void release(self) noexcept nogil
    cdef void take(self, taken *t) noexcept nogil
    cdef int _process_slice(self, frames, contexts, offloads, uint32_t first, uint64_t now, bint traced, list outcomes,
                            list emissions) except -1

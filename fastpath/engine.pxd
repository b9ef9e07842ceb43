# The engine as a Python object, and the lock between it and a worker.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpath.core cimport core, emission
from fastpath.packet cimport edit, packet
from fastpath.plan cimport plan
from fastpath.recorder cimport Recorder
from fastpath.session cimport session_table
from fastpath.shown cimport taken
from fastpath.snapshot cimport Snapshot

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *, void *)
    int pthread_mutex_lock(pthread_mutex_t *)
    int pthread_mutex_unlock(pthread_mutex_t *)
    int pthread_mutex_destroy(pthread_mutex_t *)

cdef extern from *:
    """
    static inline void count_waiting(unsigned *n, int by) { __atomic_fetch_add(n, by, __ATOMIC_SEQ_CST); }
    static inline unsigned read_waiting(unsigned *n) { return __atomic_load_n(n, __ATOMIC_SEQ_CST); }
    """
    void count_waiting(uint32_t *n, int by) nogil
    uint32_t read_waiting(uint32_t *n) nogil


cdef class Overlay:
    cdef session_table table
    cdef void commit(self, plan *x, uint64_t now) noexcept nogil


cdef class Engine:
    cdef core c
    cdef pthread_mutex_t lock
    cdef uint32_t waiting           # control calls that want the lock; a worker lets them in between bursts
    cdef Snapshot snapshot
    cdef bint ready
    cdef bint wants_memo
    cdef list recorders             # in the order of `c.watch.recorders`
    cdef object control             # one swap at a time
    cdef object taking              # one `take_records` at a time
    cdef dict slots                 # of counters, by the number of their translator; kept as long as the engine
    cdef void acquire(self) noexcept nogil
    cdef void release(self) noexcept nogil
    cdef uint32_t settled(self, const uint32_t *number) noexcept nogil
    cdef void take(self, taken *t) noexcept nogil
    cdef int _process_slice(self, frames, contexts, offloads, uint32_t first, uint64_t now, bint traced, list outcomes,
                            list emissions) except -1

# The engine as a Python object, and the lock between it and a worker.

from libc.stdint cimport uint32_t, uint64_t

from fastpath.core cimport core
from fastpath.packet cimport edit, packet
from fastpath.session cimport session_table
from fastpath.snapshot cimport Snapshot
from fastpath.walk cimport plan

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
    cdef void acquire(self) noexcept nogil
    cdef void release(self) noexcept nogil
    cdef void set_time(self, uint64_t now) noexcept nogil
    cdef list _drain(self)
    cdef int _leave(self, packet *p, const edit *e, dict answer) except -1
    cdef dict _trace_error(self, packet *p, plan *w, Overlay overlay)

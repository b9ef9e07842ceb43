# The lock between a worker and everybody else who uses an engine. A worker takes it again as soon as it has let it go, so
# who wants it says so, and it lets them in between bursts.

from libc.stdint cimport uint32_t

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

cdef struct engine_lock:
    pthread_mutex_t mutex
    uint32_t waiting        # who want it


cdef inline void lock_open(engine_lock *l) noexcept nogil:
    l.waiting = 0
    pthread_mutex_init(&l.mutex, NULL)


cdef inline void lock_close(engine_lock *l) noexcept nogil:
    pthread_mutex_destroy(&l.mutex)


cdef inline void lock_acquire(engine_lock *l) noexcept nogil:
    count_waiting(&l.waiting, 1)
    pthread_mutex_lock(&l.mutex)
    count_waiting(&l.waiting, -1)


cdef inline void lock_release(engine_lock *l) noexcept nogil:
    pthread_mutex_unlock(&l.mutex)


# Does anybody want it?
cdef inline bint is_wanted(engine_lock *l) noexcept nogil:
    return read_waiting(&l.waiting) != 0

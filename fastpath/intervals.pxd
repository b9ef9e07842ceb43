# Disjoint intervals, as C reads them.

from libc.stdint cimport uint32_t

from fastpath.packet cimport addr

cdef enum:
    MOST_VALUE = 0x7FFFFFFF
    MOST_INTERVALS = 1 << 28

cdef class Intervals:
    cdef uint32_t n
    cdef addr *start
    cdef uint32_t *value
    cdef int room(self, size_t n) except -1
    # From lists of starts and values: a half of what dataplane.compile.intervals makes.
    cdef int load(self, object starts, object values, int bits) except -1
    # From columns of prefixes in any order: buffers of addresses, lengths and values.
    cdef int read_prefixes(self, int family, object addresses, object lengths, object values) except -1
    cdef bytes digest(self)
    cdef void begin(self, addr at, uint32_t value) noexcept nogil
    cdef void begin_after(self, addr end, uint32_t value, int bits) noexcept nogil

# A view of memory for Python, as long as that lives.
cdef object content(const void *memory, size_t size)

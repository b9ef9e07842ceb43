# Tables of prefixes, made from intervals, and the memory that they share.

from libc.stdint cimport uint64_t

from fastpath.intervals cimport Intervals
from fastpath.lpm cimport FORM_DIRECT16, FORM_DIRECT32, FORM_TREE, FORM_TRIE, lpm_form, lpm_table

# Fill `t` from intervals of both families; `form`: see Lpm.
cdef int put_table(lpm_table *t, Store store, Intervals four, Intervals six, str form) except -1
# The intervals a half was made from, without those of value 0 in front. Raises ValueError for an IPv4 half that is no tree.
cdef Intervals intervals_of(const lpm_table *t, int family)
# Zeroed, on cache lines or huge pages; to be freed with free().
cdef void *allocated(size_t size) except NULL


# A table that owns its memory together with others that have equal blocks.
cdef class Table:
    cdef lpm_table t
    cdef list _blocks


cdef class Store:
    cdef dict _blocks       # digest -> Block
    cdef list _taken        # where to note which are given out, or None
    cdef readonly uint64_t bytes
    cdef const void *known(self, bytes digest) noexcept
    cdef const void *keep(self, void *memory, size_t size, bytes digest=*) except NULL
    # Fill `t` from rows of dataplane.compile.intervals.
    cdef int build(self, lpm_table *t, tuple rows, str form=*) except -1
    # The same, as an object that keeps its blocks.
    cdef Table table(self, tuple rows)


# Bytes of the blocks of these tables, each block counted once.
cdef uint64_t bytes_of(list tables)

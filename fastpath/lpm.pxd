# Longest prefix match. What the forms are, and why: lpm_build.pyx.

from libc.stdint cimport int64_t, uint8_t, uint32_t

from fastpath.packet cimport addr

cdef enum lpm_form:         # of the IPv4 half of a table; IPv6 has one
    FORM_TREE = 1
    FORM_TRIE = 2
    FORM_DIRECT16 = 3
    FORM_DIRECT32 = 4

# One table: IPv4 and IPv6. The memory belongs to a Store.
cdef struct lpm_table:
    uint8_t form4
    uint8_t linked6         # some IPv6 values lead to trees of lower halves
    const void *first4      # TREE: keys; TRIE, DIRECT: slots by the highest bits
    const void *second4     # TREE: values; TRIE, DIRECT: chunks of 256 slots
    const uint32_t *shape4  # TREE
    const int64_t *keys6
    const uint32_t *values6
    const uint32_t *shape6

# The value of the longest prefix that holds `a`, or 0.
cdef uint32_t lpm_find(const lpm_table *t, uint8_t family, addr a) noexcept nogil
# The same for many addresses; `level` is an index into levels(), or -1 for the one chosen at import.
cdef void lpm_find_many4(const lpm_table *t, const uint32_t *addresses, uint32_t *out, size_t n, int level=*) noexcept nogil
cdef void lpm_find_many6(const lpm_table *t, const addr *addresses, uint32_t *out, size_t n, int level=*) noexcept nogil
# The level chosen at import.
cdef int lpm_default() noexcept nogil
# The index of a level by its name; -1 for "". Raises ValueError for others.
cdef int lpm_named(str level) except -2
# For Python: a buffer of addresses in, an array of values out.
cdef object lpm_answers(const lpm_table *t, int family, object addresses, object out, str level)

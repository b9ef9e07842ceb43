"""Longest prefix match: from an address to the value of the longest prefix that holds it.

A table is made from disjoint intervals (ascending starts, each with the value that holds up to the next start; 0 is
"no match"), which is what `dataplane.compile.intervals` makes of prefixes. Then it is only read: IPv4 as a tree, a trie or
direct slots, IPv6 as trees. What these are, and which is taken when: fastpath.lpm_build.
"""

import os

from cpython cimport array
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t

from fastpath.intervals cimport Intervals
from fastpath.lpm_build cimport Store, put_table
from fastpath.wire cimport load64

from fastpath.lpm_build import FORMS

cdef extern from "lpm.h" nogil:
    enum:
        LPM_BURST
    const uint32_t LINK "LPM_LINK"
    ctypedef void (*lpm_tree4)(const int32_t *, const uint32_t *, const uint32_t *, const uint32_t *, uint32_t *, size_t)
    ctypedef void (*lpm_tree6)(const int64_t *, const uint32_t *, const uint32_t *, const uint64_t *, uint32_t *, size_t)
    ctypedef void (*lpm_trie)(const uint32_t *, const uint32_t *, const uint32_t *, uint32_t *, size_t)
    ctypedef struct lpm_level:
        const char *name
        lpm_tree4 tree4
        lpm_tree6 tree6
        lpm_trie trie
    const lpm_level lpm_levels[]
    int lpm_level_count()
    uint32_t lpm_trie_step(const uint32_t *chunks, uint32_t slot, uint32_t byte)
    void lpm_direct16(const uint16_t *root, const uint16_t *chunks, const uint32_t *addresses, uint32_t *out, size_t n)
    void lpm_direct32(const uint32_t *root, const uint32_t *chunks, const uint32_t *addresses, uint32_t *out, size_t n)


# --- lookups -------------------------------------------------------------------------------------------------------

# In the tree of lower halves that `link` leads to.
cdef inline uint32_t find_lower(const lpm_table *t, uint32_t link, uint64_t lower, const lpm_level *k) noexcept nogil:
    cdef const uint32_t *shape = t.shape6 + (link ^ LINK)
    cdef uint32_t value
    k.tree6(t.keys6, shape, t.values6 + shape[1], &lower, &value, 1)
    return value


cdef uint32_t lpm_find(const lpm_table *t, uint8_t family, addr a) noexcept nogil:
    cdef uint32_t key = <uint32_t>a.lo, value
    cdef const uint32_t *chunks = <const uint32_t *>t.second4
    cdef const lpm_level *k = &lpm_levels[chosen]
    if family != 4:
        k.tree6(t.keys6, t.shape6, t.values6, &a.hi, &value, 1)
        return find_lower(t, value, a.lo, k) if value & LINK else value
    if t.form4 == FORM_TREE:
        k.tree4(<const int32_t *>t.first4, t.shape4, chunks, &key, &value, 1)
        return value
    if t.form4 == FORM_TRIE:
        value = lpm_trie_step(chunks, (<const uint32_t *>t.first4)[key >> 16], key >> 8)
        return lpm_trie_step(chunks, value, key)
    if t.form4 == FORM_DIRECT16:
        lpm_direct16(<const uint16_t *>t.first4, <const uint16_t *>t.second4, &key, &value, 1)
    else:
        lpm_direct32(<const uint32_t *>t.first4, chunks, &key, &value, 1)
    return value


cdef void lpm_find_many4(const lpm_table *t, const uint32_t *addresses, uint32_t *out, size_t n, int level=-1) noexcept nogil:
    cdef const lpm_level *k = &lpm_levels[level if level >= 0 else chosen]
    if t.form4 == FORM_TREE:
        k.tree4(<const int32_t *>t.first4, t.shape4, <const uint32_t *>t.second4, addresses, out, n)
    elif t.form4 == FORM_TRIE:
        k.trie(<const uint32_t *>t.first4, <const uint32_t *>t.second4, addresses, out, n)
    elif t.form4 == FORM_DIRECT16:
        lpm_direct16(<const uint16_t *>t.first4, <const uint16_t *>t.second4, addresses, out, n)
    else:
        lpm_direct32(<const uint32_t *>t.first4, <const uint32_t *>t.second4, addresses, out, n)


cdef void lpm_find_many6(const lpm_table *t, const addr *addresses, uint32_t *out, size_t n, int level=-1) noexcept nogil:
    cdef const lpm_level *k = &lpm_levels[level if level >= 0 else chosen]
    cdef size_t i
    k.tree6(t.keys6, t.shape6, t.values6, <const uint64_t *>addresses, out, n)
    if not t.linked6:
        return
    for i in range(n):
        if out[i] & LINK:
            out[i] = find_lower(t, out[i], addresses[i].lo, k)


# --- for Python ----------------------------------------------------------------------------------------------------

LEVELS = tuple(lpm_levels[i].name.decode() for i in range(lpm_level_count()))


def _chosen():
    word = os.environ.get("VPCLAB_SIMD") or LEVELS[len(LEVELS) - 1]
    if word not in LEVELS:
        raise ValueError(f"VPCLAB_SIMD={word}: on this machine it is one of {', '.join(LEVELS)}")
    return LEVELS.index(word)


cdef int chosen = _chosen()
LEVEL = LEVELS[chosen]


cdef int lpm_default() noexcept nogil:
    return chosen


cdef int lpm_named(str level) except -2:
    return LEVELS.index(level) if level else -1


cdef object lpm_answers(const lpm_table *t, int family, object addresses, object out, str level):
    cdef Py_buffer taken, given
    cdef size_t width = 4 if family == 4 else 16, n
    cdef int number = lpm_named(level)
    if family not in (4, 6):
        raise ValueError(f"a family is 4 or 6, not {family}")
    PyObject_GetBuffer(addresses, &taken, PyBUF_SIMPLE)
    try:
        n = <size_t>taken.len // width
        if taken.len % width or (n and family == 4 and <uintptr_t>taken.buf % 4):
            raise ValueError(f"addresses must be of {width} bytes each, and aligned")
        if out is None:
            out = array.clone(array.array("I"), n, False)
        PyObject_GetBuffer(out, &given, PyBUF_WRITABLE)
        try:
            if <size_t>given.len != 4 * n or (n and <uintptr_t>given.buf % 4):
                raise ValueError(f"room for {n} values is {4 * n} bytes, aligned")
            if family == 4:
                with nogil:
                    lpm_find_many4(t, <const uint32_t *>taken.buf, <uint32_t *>given.buf, n, number)
            else:
                with nogil:
                    find_packed6(t, <const uint8_t *>taken.buf, <uint32_t *>given.buf, n, number)
        finally:
            PyBuffer_Release(&given)
    finally:
        PyBuffer_Release(&taken)
    return out


# Addresses as they are on the wire.
cdef void find_packed6(const lpm_table *t, const uint8_t *packed, uint32_t *out, size_t n, int level) noexcept nogil:
    cdef addr a[LPM_BURST]
    cdef size_t i, m
    while n:
        m = n if n < LPM_BURST else LPM_BURST
        for i in range(m):
            a[i].hi = load64(packed + 16 * i)
            a[i].lo = load64(packed + 16 * i + 8)
        lpm_find_many6(t, a, out, m, level)
        packed += 16 * m
        out += m
        n -= m


cdef class Lpm:
    """A table of its own: `rows` are intervals as `dataplane.compile.intervals` makes them.

    Values are from 1 to 2**31 - 1; 0 is "no match". `form` ("tree", "trie" or "direct") forces a form of the IPv4 half.
    Raises ValueError for rows that are no intervals and OverflowError for numbers that do not fit.
    """

    cdef lpm_table t
    cdef Store _store

    def __cinit__(self, tuple rows, *, str form=""):
        self._store = Store()
        self._store.build(&self.t, rows, form)

    @staticmethod
    def of_prefixes(int family, addresses, lengths, values, *, str form=""):
        """A table of one family from columns of prefixes, quickly: buffers of addresses (as `find_many` takes them),
        of lengths (a byte each) and of values (32 bits each), in any order.

        Raises ValueError for a prefix with bits beyond its length, or given twice.
        """
        cdef Lpm table = Lpm(([], [], [], []))
        cdef Intervals rows = Intervals(), none = Intervals()
        rows.read_prefixes(family, addresses, lengths, values)
        none.room(0)
        table._store = Store()
        put_table(&table.t, table._store, rows if family == 4 else none, none if family == 4 else rows, form)
        return table

    @property
    def form(self):
        """The form of the IPv4 half."""
        return FORMS[min(<int>self.t.form4, 3) - 1]

    @property
    def bytes(self):
        """Memory, without what Python itself takes."""
        return self._store.bytes

    def find(self, int family, object address):
        """The value for `address` (an integer), 0 for no match."""
        cdef addr a
        if address >> (32 if family == 4 else 128):
            raise OverflowError(f"{address} is no IPv{family} address")
        a.hi = <uint64_t>(address >> 64)
        a.lo = <uint64_t>(address & 0xFFFFFFFFFFFFFFFF)
        return lpm_find(&self.t, <uint8_t>family, a)

    def find_many(self, int family, object addresses, object out=None, *, str level=""):
        """Values for a buffer of addresses: IPv4 as 32-bit numbers (`array("I")`), IPv6 as 16 bytes each.

        They go into `out`, a buffer of 32-bit numbers, or into a new `array("I")`; it is returned. `level` forces one
        of LEVELS. The GIL is released. Raises ValueError for buffers of other sizes.
        """
        return lpm_answers(&self.t, family, addresses, out, level)

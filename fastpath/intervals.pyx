"""Disjoint intervals of one family: the form in which a table comes from the compiler, and tables are built.

Starts ascend, and each value holds up to the next start; 0 is "no match", also of what is before the first.
"""

from hashlib import blake2b

from cpython.buffer cimport PyBUF_READ
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, qsort

from fastpath.packet cimport addr, addr_lt
from fastpath.wire cimport load64

cdef uint64_t LAST = 0xFFFFFFFFFFFFFFFFU

cdef struct prefix_row:
    addr first
    uint32_t length
    uint32_t value


cdef object content(const void *memory, size_t size):
    return PyMemoryView_FromMemory(<char *>memory, <Py_ssize_t>size, PyBUF_READ) if size else b""


cdef int by_prefix(const void *a, const void *b) noexcept nogil:
    cdef const prefix_row *x = <const prefix_row *>a
    cdef const prefix_row *y = <const prefix_row *>b
    if addr_lt(x.first, y.first):
        return -1
    if addr_lt(y.first, x.first):
        return 1
    return <int>x.length - <int>y.length


# Under which a prefix of 64 upper bits has `length` of them set.
cdef inline uint64_t host_bits(uint32_t length) noexcept nogil:
    return LAST >> length if length < 64 else 0


cdef class Intervals:
    """Disjoint intervals of one family, as C reads them."""

    def __dealloc__(self):
        free(self.start)
        free(self.value)

    cdef int room(self, size_t n) except -1:
        if n > MOST_INTERVALS:
            raise OverflowError(f"{n} intervals in one table")
        self.start = <addr *>malloc((n + 1) * sizeof(addr))
        self.value = <uint32_t *>malloc((n + 1) * sizeof(uint32_t))
        if self.start == NULL or self.value == NULL:
            raise MemoryError
        return 0

    cdef int load(self, starts, values, int bits) except -1:
        cdef size_t i, n = len(starts)
        if len(values) != n:
            raise ValueError("as many values as starts")
        self.room(n)
        for i in range(n):
            number = starts[i]
            if number >> bits:
                raise OverflowError(f"{number} has more than {bits} bits")
            self.start[i].hi = <uint64_t>(number >> 64)
            self.start[i].lo = <uint64_t>(number & LAST)
            self.value[i] = values[i]
            if self.value[i] > MOST_VALUE:
                raise OverflowError(f"value {values[i]} has more than 31 bits")
            if i and not addr_lt(self.start[i - 1], self.start[i]):
                raise ValueError("starts must ascend")
        self.n = <uint32_t>n
        return 0

    cdef bytes digest(self):
        found = blake2b(content(self.start, self.n * sizeof(addr)))
        found.update(content(self.value, self.n * sizeof(uint32_t)))
        return found.digest()

    cdef int read_prefixes(self, int family, object addresses, object lengths, object values) except -1:
        cdef const uint8_t[::1] a = memoryview(addresses).cast("B"), bits = memoryview(lengths).cast("B")
        cdef const uint32_t[::1] v = memoryview(values).cast("B").cast("I")
        cdef size_t i, n = len(bits), width = 4 if family == 4 else 16
        cdef prefix_row *rows
        if family not in (4, 6) or len(a) != width * n or len(v) != n:
            raise ValueError("a family is 4 or 6, and columns are of one length")
        self.room(2 * n)
        rows = <prefix_row *>malloc((n + 1) * sizeof(prefix_row))
        if rows == NULL:
            raise MemoryError
        try:
            for i in range(n):
                put_prefix(&rows[i], family, &a[width * i], bits[i], v[i])
            sweep(self, rows, n, 8 * <int>width)
        finally:
            free(rows)
        return 0

    cdef void begin(self, addr at, uint32_t value) noexcept nogil:
        cdef uint32_t n = self.n
        if n and not addr_lt(self.start[n - 1], at):
            self.value[n - 1] = value
        elif n == 0 or self.value[n - 1] != value:
            self.start[n] = at
            self.value[n] = value
            self.n = n + 1
        if self.n > 1 and self.value[self.n - 1] == self.value[self.n - 2]:
            self.n -= 1

    cdef void begin_after(self, addr end, uint32_t value, int bits) noexcept nogil:
        end.lo += 1
        if end.lo == 0:
            end.hi += 1
        if bits == 32 and end.lo >> 32 or end.lo == 0 and end.hi == 0:
            return
        self.begin(end, value)


# What dataplane.compile.intervals does, for a million prefixes.
cdef int sweep(Intervals to, prefix_row *rows, size_t count, int bits) except -1:
    cdef addr ends[129]
    cdef uint32_t values[129]
    cdef size_t i
    cdef int depth = 0
    qsort(rows, count, sizeof(prefix_row), by_prefix)
    for i in range(count):
        if i and by_prefix(&rows[i - 1], &rows[i]) == 0:
            raise ValueError(f"two values for one prefix of length {rows[i].length}")
        while depth and addr_lt(ends[depth - 1], rows[i].first):
            depth -= 1
            to.begin_after(ends[depth], values[depth - 1] if depth else 0, bits)
        to.begin(rows[i].first, rows[i].value)
        ends[depth] = rows[i].first
        if bits == 32:
            ends[depth].lo |= host_bits(rows[i].length + 32)
        else:
            ends[depth].hi |= host_bits(rows[i].length)
            ends[depth].lo |= host_bits(rows[i].length - 64 if rows[i].length > 64 else 0)
        values[depth] = rows[i].value
        depth += 1
    while depth:
        depth -= 1
        to.begin_after(ends[depth], values[depth - 1] if depth else 0, bits)
    return 0


cdef int put_prefix(prefix_row *row, int family, const uint8_t *address, uint32_t length, uint32_t value) except -1:
    row.length = length
    row.value = value
    if family == 4:
        row.first.hi = 0
        row.first.lo = (<const uint32_t *>address)[0]
    else:
        row.first.hi = load64(address)
        row.first.lo = load64(address + 8)
    if length > (32 if family == 4 else 128) or value > MOST_VALUE:
        raise ValueError(f"no prefix length or value: {length}, {value}")
    if family == 4:
        if row.first.lo & host_bits(length + 32):
            raise ValueError(f"bits beyond length {length}")
    elif (row.first.hi & host_bits(length)) or (row.first.lo & host_bits(length - 64 if length > 64 else 0)):
        raise ValueError(f"bits beyond length {length}")
    return 0

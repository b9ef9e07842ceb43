"""A list of rules: rows for those who look at each, classes (fastpath/classifier.pyx) where it is long."""

from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from fastpath.classifier cimport CLASSIFY_FROM, CLASSIFY_MOST, classified, splice
from fastpath.intervals cimport content
from fastpath.packet cimport addr
from fastpath.wire cimport PROTO_TCP, PROTO_UDP


cdef inline addr to_addr(object number) except *:
    cdef addr a
    a.hi = <uint64_t>(number >> 64)
    a.lo = <uint64_t>(number & 0xFFFFFFFFFFFFFFFF)
    return a


cdef int read_rule(rule *r, tuple row) except -1:
    (r.number, r.protocol, r.allow, r.family, r.port_first, r.port_last, r.icmp_type, r.icmp_code, r.any_port, r.any_address,
     r.table, r.group) = row[:12]
    r.first = to_addr(row[12])
    r.last = to_addr(row[13])
    return 0


cdef uint8_t open_bits(const rule *r) noexcept nogil:
    cdef uint8_t first = 1 if r.family == 4 else 4
    if not r.any_address or not r.allow:
        return 0
    if r.protocol < 0:
        return first | first << 1
    if (r.protocol == PROTO_TCP or r.protocol == PROTO_UDP) and r.any_port:
        return first << 1 if r.protocol == PROTO_UDP else first
    return 0


cdef class RuleList:
    """`rows` are rules (number, protocol, allow, family, port_first, port_last, icmp_type, icmp_code, any_port, any_address,
    table + 1, group, first, last); `tables` holds the intervals of tables by index, of which rules name some.

    With `before`, the list is that one with `removed` rules from `at` on taken out and these rows put in their place: what
    the others need is taken over. Lists of `classify_from` rules are long. Raises OverflowError or ValueError for numbers
    that do not fit.
    """

    def __init__(self, list rows, tables, *, RuleList before=None, uint32_t at=0, uint32_t removed=0,
                 uint32_t classify_from=CLASSIFY_FROM):
        cdef uint32_t had = before.l.count if before is not None else 0, i
        cdef splice s
        if self._rows != NULL:
            raise TypeError("a RuleList is made once")
        if at > had or removed > had - at:
            raise ValueError(f"{removed} rules from {at} on are not in a list of {had}")
        s.at, s.removed, s.added = at, removed, <uint32_t>len(rows)
        s.count = had - removed + s.added
        self._rows = <rule *>PyMem_RawCalloc(s.count if s.count else 1, sizeof(rule))
        if self._rows == NULL:
            raise MemoryError
        if before is not None:
            memcpy(self._rows, before._rows, at * sizeof(rule))
            memcpy(self._rows + at + s.added, before._rows + at + removed, (had - at - removed) * sizeof(rule))
        for i in range(s.added):
            read_rule(&self._rows[at + i], rows[i])
        s.rules = self._rows
        self.l.rules = self._rows
        self.l.count = s.count
        for i in range(s.count):
            self.l.open |= open_bits(&self._rows[i])
        self.bytes = s.count * sizeof(rule)
        if not s.count or s.count < classify_from or s.count > CLASSIFY_MOST:
            return
        if before is None or before._classes is None or not before._classes.can_change():
            s.at, s.removed, s.added = 0, 0, s.count
            self._classes = classified(None, &s, tables)
        else:
            self._classes = classified(before._classes, &s, tables)
        self.l.classes = &self._classes.c
        self.bytes += self._classes.bytes

    def __dealloc__(self):
        PyMem_RawFree(self._rows)

    @property
    def classes(self):
        """What a long list is looked up by, or None."""
        return self._classes

    def parts(self):
        """All it is made of, as bytes; for tests."""
        rows = bytes(content(self._rows, self.l.count * sizeof(rule)))
        return rows, self.l.open, self._classes.parts() if self._classes is not None else None

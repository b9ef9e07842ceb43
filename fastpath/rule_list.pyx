"""A list of rules: rows for those who look at each, classes (fastpath/classifier.pyx) where it is long."""

from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from fastpath.classifier cimport CLASSIFY_FROM, CLASSIFY_MOST, classified, classify_many4, splice
from fastpath.intervals cimport content
from fastpath.lpm cimport lpm_find
from fastpath.packet cimport addr
from fastpath.wire cimport PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP


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


# Does a rule hold for this remote address and service? Of a sender in no group.
cdef bint holds4(const rule *r, const lpm_table *tables, uint32_t remote, uint32_t service) noexcept nogil:
    cdef uint32_t low = service & 0xFFFF, protocol = service >> 16
    cdef addr a
    a.hi = 0
    a.lo = remote
    if r.protocol >= 0:
        if <uint32_t>r.protocol != protocol:
            return False
        if protocol == PROTO_TCP or protocol == PROTO_UDP:
            if not r.any_port and (low < r.port_first or low > r.port_last):
                return False
        elif protocol == PROTO_ICMP or protocol == PROTO_ICMPV6:
            if (r.icmp_type >= 0 and <uint32_t>r.icmp_type != low >> 8) or (r.icmp_code >= 0 and <uint32_t>r.icmp_code != low & 0xFF):
                return False
    if r.family:
        return r.family == 4 and r.first.lo <= a.lo <= r.last.lo
    return r.table != 0 and lpm_find(&tables[r.table - 1], 4, a) != 0


cdef void first_rules4(const rule_list *l, const lpm_table *tables, const uint32_t *remotes, const uint32_t *services,
                       uint32_t *out, size_t n, int level=-1) noexcept nogil:
    cdef size_t i
    cdef uint32_t k
    if l.classes != NULL:
        classify_many4(l.classes, remotes, services, out, n, level)
        for i in range(n):
            out[i] = l.numbers[out[i]]
        return
    for i in range(n):
        out[i] = 0
        for k in range(l.count):
            if holds4(&l.rules[k], tables, remotes[i], services[i]):
                out[i] = l.rules[k].number
                break


cdef class RuleList:
    """`rows` are rules (number, protocol, allow, family, port_first, port_last, icmp_type, icmp_code, any_port, any_address,
    table + 1, group, first, last); `tables` holds the intervals of tables by index, of which rules name some.

    With `before`, `rows` are splices of that list instead: (at, removed, rows), in order. There these rows are put in place
    of `removed` rules of it; what the others need is taken over. Lists of `classify_from` rules are long. Raises OverflowError
    or ValueError for numbers that do not fit.
    """

    def __init__(self, list rows, tables, *, RuleList before=None, uint32_t classify_from=CLASSIFY_FROM):
        cdef list splices = [(0, 0, rows)] if before is None else rows
        cdef uint32_t n = <uint32_t>len(splices)
        if self._rows != NULL:
            raise TypeError("a RuleList is made once")
        cdef splice *s = <splice *>PyMem_RawCalloc(n + 1, sizeof(splice))
        if s == NULL:
            raise MemoryError
        try:
            self.read(splices, s, before)
            if not self.l.count or self.l.count < classify_from or self.l.count > CLASSIFY_MOST:
                return
            if before is None or before._classes is None:
                s.at, s.removed, s.first, s.added = 0, 0, 0, self.l.count
                self._classes = classified(None, self._rows, self.l.count, s, 1, tables)
            else:
                self._classes = classified(before._classes, self._rows, self.l.count, s, n, tables)
        finally:
            PyMem_RawFree(s)
        self.l.classes = &self._classes.c
        self.bytes += self._classes.bytes

    # Rows of this list, old and new; `s`: where they are.
    cdef int read(self, list splices, splice *s, RuleList before) except -1:
        cdef uint32_t had = before.l.count if before is not None else 0, taken = 0, count = 0, i, k = 0
        for at, removed, rows in splices:
            s[k].at, s[k].removed, s[k].added = at, removed, <uint32_t>len(rows)
            if s[k].at < taken or s[k].at > had or s[k].removed > had - s[k].at:
                raise ValueError(f"{removed} rules from {at} on are not in a list of {had}, from {taken} on")
            s[k].first = count + s[k].at - taken
            count = s[k].first + s[k].added
            taken = s[k].at + s[k].removed
            k += 1
        count += had - taken
        self._rows = <rule *>PyMem_RawCalloc(count if count else 1, sizeof(rule))
        self._numbers = <uint32_t *>PyMem_RawCalloc(count + 1, sizeof(uint32_t))
        if self._rows == NULL or self._numbers == NULL:
            raise MemoryError
        taken = i = k = 0
        for _at, _removed, rows in splices:
            if s[k].at > taken:
                memcpy(self._rows + i, before._rows + taken, (s[k].at - taken) * sizeof(rule))
            i = s[k].first
            for row in rows:
                read_rule(&self._rows[i], row)
                i += 1
            taken = s[k].at + s[k].removed
            k += 1
        if had > taken:
            memcpy(self._rows + i, before._rows + taken, (had - taken) * sizeof(rule))
        self.l.rules, self.l.numbers, self.l.count = self._rows, self._numbers, count
        for i in range(count):
            self.l.open |= open_bits(&self._rows[i])
            self._numbers[i + 1] = self._rows[i].number
        self.bytes = count * sizeof(rule) + (count + 1) * sizeof(uint32_t)
        return 0

    def __dealloc__(self):
        PyMem_RawFree(self._rows)
        PyMem_RawFree(self._numbers)

    @property
    def classes(self):
        """What a long list is looked up by, or None."""
        return self._classes

    def parts(self):
        """All it is made of, as bytes; for tests."""
        rows = bytes(content(self._rows, self.l.count * sizeof(rule)))
        return rows, self.l.open, self._classes.parts() if self._classes is not None else None

"""Rules by classes: a packet's address and service each name the set of rules they satisfy, and both sets are met.

The rules that an address satisfies change only at the ends of the rules' prefixes. So between two of those ends all
addresses are alike, and the addresses that satisfy the same rules, wherever they lie, are one *class*: a longest prefix
match finds it, and its rules are a bit vector. Protocol, port and ICMP type make a number of 24 bits, classified alike.
The intersection of the two vectors holds the rules that match, the first one lowest. (Lakshman and Stiliadis,
"High-speed policy-based packet forwarding using efficient multi-dimensional range matching", 1998; Gupta and McKeown,
"Packet classification on multiple fields", 1999, for classes in place of ranges.)

So a prefix list of any length is one bit, and time does not grow with rules but by 1/64th. Whether the sender is in a group
is no matter of addresses: such rules are asked of the packet itself, and only those that match otherwise.

Whether some port is open to everybody (then what is admitted need not be tracked) is a search in its intervals of ports.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memcpy

from fastpath.intervals cimport Intervals
from fastpath.lpm cimport allocated, lpm_find, put_table
from fastpath.packet cimport addr_lt
from fastpath.wire cimport PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP

LONG_LIST = CLASSIFY_FROM

cdef uint64_t LAST = 0xFFFFFFFFFFFFFFFFU

# From `at` on, one rule begins to hold or ceases to.
cdef struct turn:
    addr at
    uint32_t rule


cdef uint32_t service_key(uint8_t protocol, uint16_t port, uint8_t icmp_type, uint8_t icmp_code) noexcept nogil:
    cdef uint32_t key = <uint32_t>protocol << 16
    if protocol == PROTO_TCP or protocol == PROTO_UDP:
        return key | port
    if protocol == PROTO_ICMP or protocol == PROTO_ICMPV6:
        return key | <uint32_t>icmp_type << 8 | icmp_code
    return key


cdef candidates classify(const classifier *c, uint8_t family, addr remote, uint32_t service) noexcept nogil:
    cdef candidates found
    cdef addr key
    key.hi = 0
    key.lo = service
    found.address = c.by_address + <size_t>c.words * lpm_find(&c.addresses, family, remote)
    found.service = c.by_service + <size_t>c.words * lpm_find(&c.services, 4, key)
    return found


cdef bint open_to_all(const classifier *c, uint8_t family, uint8_t protocol, uint16_t port) noexcept nogil:
    cdef uint32_t kind = (0 if family == 4 else 2) + (1 if protocol == PROTO_UDP else 0)
    cdef uint32_t low = c.open_from[kind], high = c.open_from[kind + 1], middle
    while low < high:
        middle = (low + high) >> 1
        if (c.open_ports[middle] & 0xFFFF) < port:
            low = middle + 1
        else:
            high = middle
    return low < c.open_from[kind + 1] and c.open_ports[low] >> 16 <= port


cdef int by_address(const void *a, const void *b) noexcept nogil:
    cdef const turn *x = <const turn *>a
    cdef const turn *y = <const turn *>b
    return -1 if addr_lt(x.at, y.at) else 1 if addr_lt(y.at, x.at) else 0


cdef inline addr number_of(object number) except *:
    cdef addr a
    a.hi = <uint64_t>(number >> 64)
    a.lo = <uint64_t>(number & LAST)
    return a


cdef class Turns:
    """Where the rules of a list begin and cease to hold, along one axis of `bits` bits."""

    cdef turn *rows
    cdef uint32_t n
    cdef uint32_t room
    cdef int bits

    def __cinit__(self, int bits):
        self.bits = bits

    def __dealloc__(self):
        free(self.rows)

    cdef int add(self, uint32_t rule, object at) except -1:
        cdef turn *rows
        if at >> self.bits:
            return 0            # past the last number: it never ceases
        if self.n == self.room:
            rows = <turn *>malloc(2 * (self.room + 8) * sizeof(turn))
            if rows == NULL:
                raise MemoryError
            if self.n:
                memcpy(rows, self.rows, self.n * sizeof(turn))
            free(self.rows)
            self.rows = rows
            self.room = 2 * (self.room + 8)
        self.rows[self.n].at = number_of(at)
        self.rows[self.n].rule = rule
        self.n += 1
        return 0

    cdef int holds(self, uint32_t rule, object first, object last) except -1:
        self.add(rule, first)
        return self.add(rule, last + 1)

    # A table holds a rule's addresses wherever its value is not 0.
    cdef int holds_in(self, uint32_t rule, list starts, list values) except -1:
        cdef bint inside = False
        for start, value in zip(starts, values):
            if (value != 0) != inside:
                inside = not inside
                self.add(rule, start)
        return 0

    # Intervals with classes as values; vectors not met before get the next number in `classes`.
    cdef Intervals classified(self, dict classes, uint32_t words):
        cdef Intervals to = Intervals()
        cdef uint64_t *now = <uint64_t *>allocated(words * sizeof(uint64_t))
        cdef uint32_t i = 0
        cdef addr at
        cdef bytes vector
        to.room(self.n)
        if self.n:
            qsort(self.rows, self.n, sizeof(turn), by_address)
        try:
            while i < self.n:
                at = self.rows[i].at
                while i < self.n and not addr_lt(at, self.rows[i].at):
                    now[self.rows[i].rule >> 6] ^= <uint64_t>1 << (self.rows[i].rule & 63)
                    i += 1
                vector = (<char *>now)[:words * sizeof(uint64_t)]
                to.begin(at, <uint32_t>classes.setdefault(vector, len(classes)))
        finally:
            free(now)
        return to


cdef class Classifier:
    """The classes of one list of rules: rows of a Snapshot, with the intervals of the tables that rules name."""

    def __cinit__(self, list rules, list tables):
        cdef uint32_t words = (<uint32_t>len(rules) + 63) // 64, i
        cdef Turns four = Turns(32), six = Turns(128), services = Turns(24)
        cdef bytes nothing = bytes(8 * words)
        cdef dict addresses = {nothing: 0}, kinds = {nothing: 0}
        cdef uint64_t *grouped = <uint64_t *>allocated(words * sizeof(uint64_t))
        cdef uint64_t *anywhere = <uint64_t *>allocated(words * sizeof(uint64_t))
        for i, row in enumerate(rules):
            family, any_address, table, group, first, last = row[3], row[9], row[10], row[11], row[12], row[13]
            put_services(services, i, row)
            if any_address:
                anywhere[i >> 6] |= <uint64_t>1 << (i & 63)
            if family:
                (four if family == 4 else six).holds(i, first, last)
            elif table:
                starts4, values4, starts6, values6 = tables[table - 1]
                four.holds_in(i, starts4, values4)
                six.holds_in(i, starts6, values6)
            elif group:
                grouped[i >> 6] |= <uint64_t>1 << (i & 63)
                four.add(i, 0)
                six.add(i, 0)
        self._store = Store()
        self.c.words = words
        self.c.grouped = <const uint64_t *>self._store.keep(grouped, words * sizeof(uint64_t))
        self.c.anywhere = <const uint64_t *>self._store.keep(anywhere, words * sizeof(uint64_t))
        put_table(&self.c.addresses, self._store, four.classified(addresses, words), six.classified(addresses, words), "")
        put_table(&self.c.services, self._store, services.classified(kinds, words), Turns(128).classified(kinds, words), "")
        self.put_open_ports(rules)
        self.c.by_address = vectors(self._store, addresses)
        self.c.by_service = vectors(self._store, kinds)

    cdef int put_open_ports(self, list rules) except -1:
        cdef list found = []
        cdef uint32_t kind = 0, begun
        cdef uint32_t *ports
        for family in (4, 6):
            for protocol in (PROTO_TCP, PROTO_UDP):
                begun = <uint32_t>len(found)
                for first, last in sorted((0, 65535) if row[8] or row[1] < 0 else row[4:6] for row in rules
                                          if row[9] and row[3] == family and row[1] in (-1, protocol)):
                    if len(found) > begun and first <= found[len(found) - 1][1] + 1:
                        before = found.pop()
                        found.append((before[0], max(last, before[1])))
                    elif first <= last:
                        found.append((first, last))
                kind += 1
                self.c.open_from[kind] = <uint32_t>len(found)
        ports = <uint32_t *>allocated(len(found) * sizeof(uint32_t))
        for kind, (first, last) in enumerate(found):
            ports[kind] = <uint32_t>first << 16 | <uint32_t>last
        self.c.open_ports = <const uint32_t *>self._store.keep(ports, len(found) * sizeof(uint32_t))
        return 0

    @property
    def bytes(self):
        """Memory, without what Python itself takes."""
        return self._store.bytes + sizeof(classifier)


cdef const uint64_t *vectors(Store store, dict classes) except NULL:
    cdef bytes joined = b"".join(classes)
    cdef void *memory = allocated(len(joined))
    memcpy(memory, <const char *>joined, len(joined))
    return <const uint64_t *>store.keep(memory, len(joined))


# Where a rule's clauses about protocol, port and ICMP hold.
cdef int put_services(Turns to, uint32_t i, tuple row) except -1:
    protocol, port_first, port_last, icmp_type, icmp_code, any_port = row[1], row[4], row[5], row[6], row[7], row[8]
    if protocol < 0:
        return to.holds(i, 0, (1 << 24) - 1)
    base = protocol << 16
    if protocol in (PROTO_TCP, PROTO_UDP) and not any_port:
        return to.holds(i, base + port_first, base + port_last) if port_first <= port_last else 0
    if protocol in (PROTO_ICMP, PROTO_ICMPV6):
        if icmp_code >= 0:
            for kind in range(256) if icmp_type < 0 else (icmp_type,):
                to.holds(i, base + kind * 256 + icmp_code, base + kind * 256 + icmp_code)
            return 0
        if icmp_type >= 0:
            return to.holds(i, base + icmp_type * 256, base + icmp_type * 256 + 255)
    return to.holds(i, base, base + 65535)

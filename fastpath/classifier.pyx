"""Rules by classes: a packet's address and service each name the set of rules they satisfy, and both sets are met.

The rules that an address satisfies change only at the ends of the rules' prefixes. So between two of those ends all
addresses are alike, and the addresses that satisfy the same rules, wherever they lie, are one *class*: a longest prefix
match finds it, and its rules are a bit vector. Protocol, port and ICMP type make a number of 24 bits, classified alike.
The intersection of the two vectors holds the rules that match, the first one lowest. (Lakshman and Stiliadis,
"High-speed policy-based packet forwarding using efficient multi-dimensional range matching", 1998; Gupta and McKeown,
"Packet classification on multiple fields", 1999, for classes in place of ranges.)

So a prefix list of any length is one bit, and time does not grow with rules but by 1/64th. Whether the sender is in a group
is no matter of addresses: such rules are asked of the packet itself, and only those that match otherwise.

A rule is a column of all vectors. One list becomes another by a splice: columns taken out of every vector, and new ones put
in between the ends of the new rules alone. So one rule of a thousand costs a copy of the vectors, not a sort of all ends,
and a new list is a splice into nothing. Classes are numbered as they are met along the axis, whatever came before: the
outcome does not depend on the way.

Whether some port is open to everybody (then what is admitted need not be tracked) is a search in its intervals of ports.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memcmp, memcpy, memset

from fastpath.intervals cimport Intervals, content
from fastpath.lpm cimport lpm_default, lpm_find, lpm_find_many4
from fastpath.lpm_build cimport allocated, intervals_of, put_table
from fastpath.packet cimport addr_lt
from fastpath.wire cimport PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP

cdef extern from "classifier.h" nogil:
    ctypedef void (*classify_meet)(const uint64_t *, const uint64_t *, const uint64_t *, uint32_t, const uint32_t *,
                                   const uint32_t *, uint32_t *, size_t)
    const classify_meet classify_meets[]

cdef extern from "stdlib.h" nogil:
    int posix_memalign(void **memory, size_t alignment, size_t size)

cdef enum:
    BURST = 64

LONG_LIST = CLASSIFY_FROM

cdef uint32_t UNKNOWN = 0xFFFFFFFFU
cdef uint32_t LAST_SERVICE = 0xFFFFFFU

# From `at` on, the rule of a new column begins to hold or ceases to.
cdef struct turn:
    addr at
    uint32_t column


# --- lookups -------------------------------------------------------------------------------------------------------

cdef candidates classify(const classifier *c, uint8_t family, addr remote, uint32_t service) noexcept nogil:
    cdef candidates found
    cdef addr key
    key.hi = 0
    key.lo = service
    found.address = c.by_address + <size_t>c.words * lpm_find(&c.addresses, family, remote)
    found.service = c.by_service + <size_t>c.words * lpm_find(&c.services, 4, key)
    return found


cdef void classify_many4(const classifier *c, const uint32_t *remotes, const uint32_t *services, uint32_t *out, size_t n,
                         int level=-1) noexcept nogil:
    cdef uint32_t a[BURST]
    cdef uint32_t s[BURST]
    cdef size_t m
    if level < 0:
        level = lpm_default()
    while n:
        m = n if n < BURST else BURST
        lpm_find_many4(&c.addresses, remotes, a, m, level)
        lpm_find_many4(&c.services, services, s, m, level)
        classify_meets[level](c.by_address, c.by_service, c.grouped, c.words, a, s, out, m)
        remotes += m
        services += m
        out += m
        n -= m


cdef bint open_to_all(const classifier *c, uint8_t family, uint16_t port) noexcept nogil:
    cdef uint32_t kind = 0 if family == 4 else 1
    cdef uint32_t low = c.open_from[kind], high = c.open_from[kind + 1], middle
    while low < high:
        middle = (low + high) >> 1
        if (c.open_ports[middle] & 0xFFFF) < port:
            low = middle + 1
        else:
            high = middle
    return low < c.open_from[kind + 1] and c.open_ports[low] >> 16 <= port


def service(int protocol, *, int port=0, int icmp_type=0, int icmp_code=0):
    """Protocol with destination port, or with ICMP type and code, as one number of 24 bits."""
    return service_key(<uint8_t>protocol, <uint16_t>port, <uint8_t>icmp_type, <uint8_t>icmp_code)


# --- vectors -------------------------------------------------------------------------------------------------------

cdef class Vectors:
    """Bit vectors of one length, each numbered when it is first met."""

    cdef uint64_t *rows
    cdef uint32_t *slots        # by hash: number + 1
    cdef uint32_t words, n, room, mask

    def __cinit__(self, uint32_t words, uint32_t expected=64):
        cdef uint32_t room = 64
        self.words = words
        while room < expected:
            room *= 2
        self.grow(room)

    def __dealloc__(self):
        free(self.rows)
        free(self.slots)

    cdef int grow(self, uint32_t room) except -1:
        cdef uint64_t *rows
        cdef uint32_t *slots = <uint32_t *>calloc(2 * <size_t>room, sizeof(uint32_t))
        cdef uint32_t i
        if slots == NULL or posix_memalign(<void **>&rows, 64, <size_t>room * self.words * sizeof(uint64_t)):
            free(slots)
            raise MemoryError
        if self.n:
            memcpy(rows, self.rows, <size_t>self.n * self.words * sizeof(uint64_t))
        free(self.rows)
        free(self.slots)
        self.rows, self.slots, self.room, self.mask = rows, slots, room, 2 * room - 1
        for i in range(self.n):
            self.slots[self.slot(self.rows + <size_t>i * self.words)] = i + 1
        return 0

    # Where a vector is, or would be.
    cdef uint32_t slot(self, const uint64_t *vector) noexcept nogil:
        cdef uint64_t hash = 0
        cdef uint32_t i, at
        for i in range(self.words):     # no product waits for another
            hash += (vector[i] ^ (vector[i] >> 32)) * (<uint64_t>0x9E3779B97F4A7C15U * (2 * i + 1))
        hash = (hash ^ (hash >> 32)) * <uint64_t>0x9E3779B97F4A7C15U
        at = <uint32_t>(hash >> 32) & self.mask
        while self.slots[at] and memcmp(self.rows + <size_t>(self.slots[at] - 1) * self.words, vector, 8 * self.words):
            at = (at + 1) & self.mask
        return at

    cdef uint32_t number(self, const uint64_t *vector) except? 0xFFFFFFFFU:
        cdef uint32_t at = self.slot(vector)
        if self.slots[at] == 0:
            if self.n == self.room:
                self.grow(2 * self.room)
                at = self.slot(vector)
            memcpy(self.rows + <size_t>self.n * self.words, vector, 8 * self.words)
            self.n += 1
            self.slots[at] = self.n
        return self.slots[at] - 1

    # For a classifier to keep.
    cdef const uint64_t *kept(self, Store store, bytes name) except NULL:
        cdef size_t size = <size_t>self.n * self.words * sizeof(uint64_t)
        cdef void *memory = self.rows
        if self.n < self.room // 2:
            memory = allocated(size)
            memcpy(memory, self.rows, size)
        else:
            self.rows = NULL        # handed over, a little larger than it says
        return <const uint64_t *>store.keep(memory, size, name)


# `words` words of a vector after one splice, from `old_words` before it; no new column is set.
cdef void splice_vector(uint64_t *to, uint32_t words, const uint64_t *old, uint32_t old_words, const splice *s) noexcept nogil:
    cdef uint32_t rest = s.at + s.removed, i, way, by
    cdef uint64_t word, high
    memset(to, 0, words * sizeof(uint64_t))
    for i in range(rest >> 6, old_words):
        word = old[i]
        if i == rest >> 6:
            word &= ~<uint64_t>0 << (rest & 63)
        if s.added >= s.removed:
            way = i + ((s.added - s.removed) >> 6)
            by = (s.added - s.removed) & 63
            if way < words:
                to[way] |= word << by
            if by and way + 1 < words:
                to[way + 1] |= word >> (64 - by)
        else:
            way = (s.removed - s.added) >> 6
            by = (s.removed - s.added) & 63
            high = word << (64 - by) if by else 0
            if i >= way and i - way < words:
                to[i - way] |= word >> by
            if high and i > way:
                to[i - way - 1] |= high
    for i in range((s.at + 63) >> 6):
        word = old[i]
        if i == s.at >> 6:
            word &= (<uint64_t>1 << (s.at & 63)) - 1
        to[i] |= word


# The same for `n` splices, the last one first. `spare`: room for two vectors of `wide` words, as many as all columns take.
cdef void splice_all(uint64_t *to, uint32_t words, const uint64_t *old, uint32_t old_words, const splice *s, uint32_t n,
                     uint64_t *spare, uint32_t wide) noexcept nogil:
    cdef uint32_t i
    for i in range(n - 1, 0, -1):
        splice_vector(spare + (i & 1) * wide, wide, old, old_words, &s[i])
        old = spare + (i & 1) * wide
        old_words = wide
    splice_vector(to, words, old, old_words, s)


# --- axes ----------------------------------------------------------------------------------------------------------

cdef int by_address(const void *a, const void *b) noexcept nogil:
    cdef const turn *x = <const turn *>a
    cdef const turn *y = <const turn *>b
    return -1 if addr_lt(x.at, y.at) else 1 if addr_lt(y.at, x.at) else 0


cdef class Axis:
    """Addresses of one family, or services: where the new rules begin and cease to hold."""

    cdef turn *rows
    cdef uint32_t n
    cdef uint32_t room
    cdef int bits

    def __cinit__(self, int bits):
        self.bits = bits

    def __dealloc__(self):
        free(self.rows)

    cdef int add(self, uint32_t column, addr at) except -1:
        cdef turn *rows
        if self.n == self.room:
            rows = <turn *>malloc(2 * (self.room + 8) * sizeof(turn))
            if rows == NULL:
                raise MemoryError
            if self.n:
                memcpy(rows, self.rows, self.n * sizeof(turn))
            free(self.rows)
            self.rows = rows
            self.room = 2 * (self.room + 8)
        self.rows[self.n].at = at
        self.rows[self.n].column = column
        self.n += 1
        return 0

    cdef int holds(self, uint32_t column, addr first, addr last) except -1:
        self.add(column, first)
        last.lo += 1
        if last.lo == 0:
            last.hi += 1
        if (last.lo >> self.bits if self.bits < 64 else last.lo == 0 and last.hi == 0):
            return 0            # to the end of the axis
        return self.add(column, last)

    # A table holds a rule's addresses wherever its value is not 0.
    cdef int holds_in(self, uint32_t column, Intervals table) except -1:
        cdef uint32_t i
        cdef bint inside = False
        for i in range(table.n):
            if (table.value[i] != 0) != inside:
                inside = not inside
                self.add(column, table.start[i])
        return 0

    # `old` after the splice, with classes of `classes`. `vectors`: those of the old classes; `known`: their new numbers, as
    # far as they have some.
    cdef Intervals spliced(self, Intervals old, Vectors classes, const uint64_t *vectors, uint32_t old_words, uint32_t *known,
                           const splice *s, uint32_t n, uint32_t wide):
        cdef Intervals to = Intervals()
        cdef uint32_t words = classes.words, i = 0, j = 0, k, old_class = 0, set_bits = 0, number
        cdef uint64_t *now = <uint64_t *>calloc(2 * words + 2 * wide + 1, sizeof(uint64_t))
        cdef uint64_t *vector = now + words
        cdef uint64_t *spare = vector + words
        cdef uint64_t bit
        cdef addr here
        if now == NULL:
            raise MemoryError
        try:
            to.room(old.n + self.n)
            if self.n:
                qsort(self.rows, self.n, sizeof(turn), by_address)
            while i < old.n or j < self.n:
                if i < old.n and (j == self.n or not addr_lt(self.rows[j].at, old.start[i])):
                    here = old.start[i]
                    old_class = old.value[i]
                    i += 1
                else:
                    here = self.rows[j].at
                while j < self.n and not addr_lt(here, self.rows[j].at):
                    k = self.rows[j].column
                    bit = <uint64_t>1 << (k & 63)
                    now[k >> 6] ^= bit
                    set_bits += 1 if now[k >> 6] & bit else UNKNOWN     # less one
                    j += 1
                if set_bits or known[old_class] == UNKNOWN:
                    splice_all(vector, words, vectors + <size_t>old_class * old_words, old_words, s, n, spare, wide)
                    for k in range(words):
                        vector[k] |= now[k]
                    number = classes.number(vector)
                    if not set_bits:
                        known[old_class] = number
                else:
                    number = known[old_class]
                if to.n or number:
                    to.begin(here, number)
        finally:
            free(now)
        return to


cdef Intervals nowhere():
    cdef Intervals none = Intervals()
    none.room(0)
    return none


cdef inline int holds_services(Axis to, uint32_t column, uint32_t first, uint32_t last) except -1:
    cdef addr a, b
    a.hi = b.hi = 0
    a.lo, b.lo = first, last
    return to.holds(column, a, b)


# Where a rule's clauses about protocol, port and ICMP hold.
cdef int put_services(Axis to, uint32_t column, const rule *r) except -1:
    cdef uint32_t base = <uint32_t>r.protocol << 16, kind
    if r.protocol < 0:
        return holds_services(to, column, 0, LAST_SERVICE)
    if (r.protocol == PROTO_TCP or r.protocol == PROTO_UDP) and not r.any_port:
        return holds_services(to, column, base + r.port_first, base + r.port_last) if r.port_first <= r.port_last else 0
    if r.protocol == PROTO_ICMP or r.protocol == PROTO_ICMPV6:
        if r.icmp_code >= 0:
            for kind in range(256):
                if r.icmp_type < 0 or <uint32_t>r.icmp_type == kind:
                    holds_services(to, column, base + kind * 256 + r.icmp_code, base + kind * 256 + r.icmp_code)
            return 0
        if r.icmp_type >= 0:
            return holds_services(to, column, base + r.icmp_type * 256, base + r.icmp_type * 256 + 255)
    return holds_services(to, column, base, base + 65535)


cdef int put_addresses(Axis four, Axis six, uint32_t column, const rule *r, object tables) except -1:
    cdef Intervals half
    cdef addr zero
    if r.family:
        return (four if r.family == 4 else six).holds(column, r.first, r.last)
    if r.table:
        starts4, values4, starts6, values6 = tables[r.table - 1]
        half = Intervals()
        half.load(starts4, values4, 32)
        four.holds_in(column, half)
        half = Intervals()
        half.load(starts6, values6, 128)
        return six.holds_in(column, half)
    if r.group:                 # of any address, and asked besides
        zero.hi = zero.lo = 0
        four.add(column, zero)
        six.add(column, zero)
    return 0


# --- classifiers ---------------------------------------------------------------------------------------------------

# One axis, or two, after the splice: intervals with new classes, and those.
cdef int put_axes(list axes, list old, Vectors classes, const uint64_t *vectors, uint32_t count, uint32_t old_words,
                  const splice *s, uint32_t n) except -1:
    cdef uint32_t *known = <uint32_t *>malloc(count * sizeof(uint32_t))
    cdef uint64_t *nothing = <uint64_t *>calloc(classes.words, sizeof(uint64_t))
    cdef Axis axis
    cdef uint32_t i, wide = old_words + 1
    for i in range(n):
        wide += (s[i].added + 63) // 64
    try:
        if known == NULL or nothing == NULL:
            raise MemoryError
        memset(known, 0xFF, count * sizeof(uint32_t))
        known[0] = classes.number(nothing)      # class 0 is of no rule
        for i in range(len(axes)):
            axis = axes[i]
            axes[i] = axis.spliced(old[i], classes, vectors, old_words, known, s, n, wide)
    finally:
        free(known)
        free(nothing)
    return 0


cdef Classifier classified(Classifier before, const rule *rules, uint32_t count, const splice *s, uint32_t n, object tables):
    cdef Classifier made = Classifier.__new__(Classifier)
    cdef Axis four = Axis(32), six = Axis(128), services = Axis(24)
    cdef uint32_t words = (count + 63) // 64, i, k
    cdef Vectors addresses = Vectors(words, before._address_classes + 16 if before is not None else count)
    cdef Vectors kinds = Vectors(words, before._service_classes + 16 if before is not None else count)
    cdef uint64_t *grouped
    cdef uint64_t *anywhere
    cdef Store store = Store()
    cdef uint64_t nothing = 0
    made.c.words = words
    grouped = <uint64_t *>allocated(words * sizeof(uint64_t))
    made.c.grouped = <const uint64_t *>store.keep(grouped, words * sizeof(uint64_t), b"grouped")
    anywhere = <uint64_t *>allocated(words * sizeof(uint64_t))
    made.c.anywhere = <const uint64_t *>store.keep(anywhere, words * sizeof(uint64_t), b"anywhere")
    for i in range(count):
        if rules[i].group:
            grouped[i >> 6] |= <uint64_t>1 << (i & 63)
        if rules[i].any_address:
            anywhere[i >> 6] |= <uint64_t>1 << (i & 63)
    for k in range(n):
        for i in range(s[k].first, s[k].first + s[k].added):
            put_services(services, i, &rules[i])
            put_addresses(four, six, i, &rules[i], tables)
    remote, service = [four, six], [services]
    if before is None:
        put_axes(remote, [nowhere(), nowhere()], addresses, &nothing, 1, 0, s, n)
        put_axes(service, [nowhere()], kinds, &nothing, 1, 0, s, n)
    else:
        old = [intervals_of(&before.c.addresses, 4), intervals_of(&before.c.addresses, 6)]
        put_axes(remote, old, addresses, before.c.by_address, before._address_classes, before.c.words, s, n)
        old = [intervals_of(&before.c.services, 4)]
        put_axes(service, old, kinds, before.c.by_service, before._service_classes, before.c.words, s, n)
    made._address_classes, made._service_classes = addresses.n, kinds.n
    made._store = store
    # trees whatever their size: other forms do not tell their intervals, which the next change starts from
    put_table(&made.c.addresses, store, remote[0], remote[1], "tree")
    put_table(&made.c.services, store, service[0], nowhere(), "tree")
    made.c.by_address = addresses.kept(store, b"addresses")
    made.c.by_service = kinds.kept(store, b"services")
    made.put_open_ports(rules, count)
    return made


cdef object table_parts(const lpm_table *table):
    cdef Intervals each
    found = []
    for family in (4, 6):
        each = intervals_of(table, family)
        found += [bytes(content(each.start, each.n * sizeof(addr))), bytes(content(each.value, each.n * sizeof(uint32_t)))]
    return found


cdef int by_number(const void *a, const void *b) noexcept nogil:
    cdef uint32_t x = (<const uint32_t *>a)[0], y = (<const uint32_t *>b)[0]
    return -1 if x < y else 1 if y < x else 0


cdef class Classifier:
    """The classes of one list of rules; `fastpath.rule_list.RuleList` makes them."""

    def __cinit__(self):
        self._store = Store()
        put_table(&self.c.addresses, self._store, nowhere(), nowhere(), "")
        put_table(&self.c.services, self._store, nowhere(), nowhere(), "")

    def __init__(self):
        raise TypeError("a RuleList makes its classes")

    # UDP ports that rules for any address admit, merged.
    cdef int put_open_ports(self, const rule *rules, uint32_t count) except -1:
        cdef uint32_t i, begun, n, found = 0, kind = 0
        cdef int family
        cdef const rule *r
        cdef uint32_t *ports = <uint32_t *>allocated(2 * <size_t>count * sizeof(uint32_t))
        for family in (4, 6):
            begun = n = found
            for i in range(count):
                r = &rules[i]
                if r.any_address and r.family == family and (r.protocol < 0 or r.protocol == PROTO_UDP):
                    if r.any_port or r.protocol < 0:
                        ports[n] = 65535
                    elif r.port_first <= r.port_last:
                        ports[n] = <uint32_t>r.port_first << 16 | r.port_last
                    else:
                        continue
                    n += 1
            qsort(ports + begun, n - begun, sizeof(uint32_t), by_number)
            for i in range(begun, n):
                if found > begun and ports[i] >> 16 <= (ports[found - 1] & 0xFFFF) + 1:
                    ports[found - 1] = (ports[found - 1] & 0xFFFF0000U) | max(ports[found - 1] & 0xFFFF, ports[i] & 0xFFFF)
                else:
                    ports[found] = ports[i]
                    found += 1
            kind += 1
            self.c.open_from[kind] = found
        self.c.open_ports = <const uint32_t *>self._store.keep(ports, found * sizeof(uint32_t), b"open")
        return 0

    @property
    def bytes(self):
        """Memory, without what Python itself takes."""
        return self._store.bytes + sizeof(classifier)

    def parts(self):
        """All it is made of, as bytes: equal for equal lists, whatever they were made from. For tests."""
        cdef size_t size = self.c.words * sizeof(uint64_t)
        axes = [table_parts(&self.c.addresses), table_parts(&self.c.services)]
        ports = bytes(content(self.c.open_ports, self.c.open_from[2] * sizeof(uint32_t)))
        return (axes, ports, tuple(self.c.open_from), bytes(content(self.c.grouped, size)), bytes(content(self.c.anywhere, size)),
                bytes(content(self.c.by_address, self._address_classes * size)),
                bytes(content(self.c.by_service, self._service_classes * size)))

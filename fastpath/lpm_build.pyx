"""Tables of prefixes, as they are built: what forms they have in memory, and which blocks of it they share.

From intervals (see fastpath.lpm) IPv4 becomes one of three forms:

tree    Up to some thousand intervals. The starts as a B-tree in one array without pointers: nodes of one cache line,
        16 keys each, the children of node j of a level being nodes 17j..17j+16 of the next. All keys of a node are
        compared at once and counted, so the way down has no branches. Hundreds of bytes for a table as a subnet has,
        where a table indexed by address bits has hundreds of kilobytes. (Khuong and Morin, "Array layouts for
        comparison-based searching", 2017; the idea for routes: Lampson, Srinivasan and Varghese, "IP lookups using
        multiway and multicolumn search", 1998; PlanB, arXiv 2604.14650.)
trie    Above that: 16, 8 and 8 bits of the address index slots, which hold a value or lead to a chunk of 256 more
        slots. (Degermark, Brodnik, Carlsson and Pink, "Small forwarding tables for fast routing lookups", 1997.)
direct  For internet-size tables: 24 bits, then 8, slots of 16 bits where values and chunks fit, else of 32. (Gupta,
        Lin and McKeown, "Routing lookups in hardware at memory access speeds", 1998.)

IPv6 is a tree over the upper 64 bits, 8 keys a node. Where longer prefixes divide the addresses below one upper half,
its value leads to another tree, of lower halves: exact for every length, and not slower for anybody else. A key is a
start less one, as then "how many keys are less than the address" needs no care for the padding of the last node.

Blocks of memory are kept by content, equal ones once: tables that differ only in values share their keys.
"""

from hashlib import blake2b

from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free

from fastpath.intervals cimport Intervals, content
from fastpath.packet cimport addr

cdef extern from "lpm_keys.h" nogil:
    const uint32_t LINK "LPM_LINK"
    void *lpm_room(size_t size)
    int32_t lpm_signed32(uint32_t x)
    int64_t lpm_signed64(uint64_t x)

cdef enum:
    TREE_MOST = 4096        # intervals of IPv4; measured (docs/decisions/0011-tables-of-routes.md)
    DIRECT_FROM = 40960
    WIDTH4 = 16             # keys of a node: a cache line
    WIDTH6 = 8
    MOST_LEVELS = 10
    MOST_CHUNKS = 0x7FFFFF

FORMS = ("tree", "trie", "direct")

cdef uint64_t LAST = 0xFFFFFFFFFFFFFFFFU

ctypedef fused slot_t:
    uint16_t
    uint32_t

ctypedef fused key_t:
    int32_t
    int64_t


# --- trees ---------------------------------------------------------------------------------------------------------

# A shape says where a tree is: number of levels, its first value, the first node of each level, the highest first, and the
# number of keys.

# Nodes per level of a tree, the lowest level first; how many levels.
cdef uint32_t plan_tree(uint32_t keys, uint32_t width, uint32_t *blocks) noexcept nogil:
    cdef uint32_t depth = 0, n = (keys + width - 1) // width
    while n:
        blocks[depth] = n
        depth += 1
        n = (n + width) // (width + 1) if n > 1 else 0
    return depth


# Lay `n` sorted keys out from node `node` on; the node after the last.
cdef uint32_t put_tree(key_t *keys, uint32_t node, uint32_t *shape, const key_t *sorted_keys, uint32_t n) noexcept nogil:
    cdef uint32_t blocks[MOST_LEVELS]
    cdef uint32_t width = 64 // sizeof(key_t)
    cdef uint32_t level, height, block, j, _
    cdef key_t most = <key_t>(LAST >> (65 - 8 * sizeof(key_t)))
    cdef uint64_t at, span
    shape[0] = plan_tree(n, width, blocks)
    for level in range(shape[0]):
        shape[2 + level] = node
        height = shape[0] - 1 - level
        span = width            # keys under a child
        for _ in range(1, height):
            span *= width + 1
        for block in range(blocks[height]):
            for j in range(width):
                at = (<uint64_t>block * (width + 1) + j + 1) * span if height else <uint64_t>block * width + j
                keys[<size_t>node * width + j] = sorted_keys[at] if at < n else most
            node += 1
    shape[2 + shape[0]] = n
    return node


cdef uint32_t total(const uint32_t *blocks, uint32_t depth) noexcept nogil:
    cdef uint32_t i, n = 0
    for i in range(depth):
        n += blocks[i]
    return n


cdef void *allocated(size_t size) except NULL:
    cdef void *memory = lpm_room(size)
    if memory == NULL:
        raise MemoryError
    return memory


cdef int tree4(lpm_table *t, Store store, Intervals rows) except -1:
    cdef uint32_t blocks[MOST_LEVELS]
    cdef uint32_t skipped = 1 if rows.n and rows.start[0].lo == 0 else 0, n = rows.n - skipped, i
    cdef uint32_t depth = plan_tree(n, WIDTH4, blocks)
    cdef int32_t *sorted_keys = <int32_t *>allocated(<size_t>n * sizeof(int32_t))
    cdef int32_t *keys = <int32_t *>allocated(64 * <size_t>total(blocks, depth))
    cdef uint32_t *values = <uint32_t *>allocated((<size_t>n + 1) * sizeof(uint32_t))
    cdef uint32_t *shape = <uint32_t *>allocated((3 + depth) * sizeof(uint32_t))
    if skipped:
        values[0] = rows.value[0]
    for i in range(n):
        sorted_keys[i] = lpm_signed32(<uint32_t>rows.start[i + skipped].lo - 1)
        values[i + 1] = rows.value[i + skipped]
    put_tree(keys, 0, shape, <const int32_t *>sorted_keys, n)
    free(sorted_keys)
    t.form4 = FORM_TREE
    t.first4 = store.keep(keys, 64 * <size_t>total(blocks, depth))
    t.second4 = store.keep(values, (<size_t>n + 1) * sizeof(uint32_t))
    t.shape4 = <const uint32_t *>store.keep(shape, (3 + depth) * sizeof(uint32_t))
    return 0


# One past the rows from `i` on that share its upper half.
cdef inline uint32_t run_end(Intervals rows, uint32_t i) noexcept nogil:
    cdef uint32_t j = i + 1
    while j < rows.n and rows.start[j].hi == rows.start[i].hi:
        j += 1
    return j


# Does the upper half that rows i..j are of need an entry after it, to end what is said of it alone?
cdef inline bint needs_end(Intervals rows, uint32_t i, uint32_t j) noexcept nogil:
    return rows.start[i].hi != LAST and (j == rows.n or rows.start[j].hi != rows.start[i].hi + 1)


cdef int tree6(lpm_table *t, Store store, Intervals rows) except -1:
    cdef uint32_t blocks[MOST_LEVELS]
    cdef uint32_t i, j, k, depth, main = 0, nodes = 0, value_count = 0, shape_count = 0, at, node, shape_at, outer = 0
    cdef uint32_t skipped = 1 if rows.n and rows.start[0].hi == 0 else 0
    i = 0
    while i < rows.n:
        j = run_end(rows, i)
        main += 1
        if j - i > 1 or rows.start[i].lo:
            depth = plan_tree(j - i - (rows.start[i].lo == 0), WIDTH6, blocks)
            nodes += total(blocks, depth)
            value_count += j - i + 1
            shape_count += 3 + depth
            main += needs_end(rows, i, j)
        i = j
    depth = plan_tree(main - skipped, WIDTH6, blocks)
    node = total(blocks, depth)
    at = main - skipped + 1
    shape_at = 3 + depth
    nodes += node
    value_count += at
    shape_count += shape_at
    cdef int64_t *upper = <int64_t *>allocated((<size_t>main + 1) * sizeof(int64_t))
    cdef int64_t *lower = <int64_t *>allocated((<size_t>rows.n + 1) * sizeof(int64_t))
    cdef int64_t *keys = <int64_t *>allocated(64 * <size_t>nodes)
    cdef uint32_t *values = <uint32_t *>allocated(<size_t>value_count * sizeof(uint32_t))
    cdef uint32_t *shape = <uint32_t *>allocated(<size_t>shape_count * sizeof(uint32_t))
    i = main = 0
    while i < rows.n:
        j = run_end(rows, i)
        if rows.start[i].hi:
            upper[main] = lpm_signed64(rows.start[i].hi - 1)
            main += 1
        if j - i == 1 and rows.start[i].lo == 0:
            values[main] = rows.value[i]
        else:
            values[main] = LINK | shape_at
            shape[shape_at + 1] = at
            values[at] = rows.value[i] if rows.start[i].lo == 0 else outer
            at += 1
            k = i + (rows.start[i].lo == 0)
            for depth in range(k, j):
                lower[depth - k] = lpm_signed64(rows.start[depth].lo - 1)
                values[at] = rows.value[depth]
                at += 1
            node = put_tree(keys, node, shape + shape_at, <const int64_t *>lower, j - k)
            shape_at += 3 + shape[shape_at]
            if needs_end(rows, i, j):
                upper[main] = lpm_signed64(rows.start[i].hi)
                main += 1
                values[main] = rows.value[j - 1]
        outer = rows.value[j - 1]
        i = j
    put_tree(keys, 0, shape, <const int64_t *>upper, main)
    free(upper)
    free(lower)
    t.linked6 = shape_at > 3 + shape[0]
    t.keys6 = <const int64_t *>store.keep(keys, 64 * <size_t>nodes)
    t.values6 = <const uint32_t *>store.keep(values, <size_t>value_count * sizeof(uint32_t))
    t.shape6 = <const uint32_t *>store.keep(shape, <size_t>shape_count * sizeof(uint32_t))
    return 0


# The keys of a tree in order: its lowest level holds all.
cdef inline const key_t *tree_keys(const key_t *keys, const uint32_t *shape) noexcept nogil:
    return keys + <size_t>(64 // sizeof(key_t)) * shape[1 + shape[0]] if shape[0] else keys


cdef Intervals intervals_of(const lpm_table *t, int family):
    cdef Intervals found = Intervals()
    cdef const int32_t *keys4 = tree_keys(<const int32_t *>t.first4, t.shape4) if t.form4 == FORM_TREE else NULL
    cdef const int64_t *keys6 = tree_keys(t.keys6, t.shape6)
    cdef const int64_t *lower
    cdef const uint32_t *shape = t.shape4 if family == 4 else t.shape6
    cdef const uint32_t *values
    cdef const uint32_t *below
    cdef uint32_t n, i, k
    cdef addr at
    if family == 4 and t.form4 != FORM_TREE:
        raise ValueError("a table without a tree does not tell its intervals")
    n = shape[2 + shape[0]]
    values = <const uint32_t *>t.second4 if family == 4 else t.values6
    at.hi = at.lo = 0
    found.room(n + 1 if family == 4 else lowers(t))
    for i in range(n + 1):
        if i and family == 4:
            at.lo = <uint32_t>lpm_signed32(<uint32_t>keys4[i - 1]) + 1
        elif i:
            at.hi = <uint64_t>lpm_signed64(<uint64_t>keys6[i - 1]) + 1
        if family == 4 or not values[i] & LINK:
            put_interval(found, at, values[i])
            continue
        below = shape + (values[i] ^ LINK)
        lower = tree_keys(t.keys6, below)
        put_interval(found, at, values[below[1]])
        for k in range(below[2 + below[0]]):
            at.lo = <uint64_t>lpm_signed64(<uint64_t>lower[k]) + 1
            put_interval(found, at, values[below[1] + k + 1])
        at.lo = 0
    return found


# How many intervals an IPv6 half may have at most.
cdef uint32_t lowers(const lpm_table *t) noexcept nogil:
    cdef uint32_t n = t.shape6[2 + t.shape6[0]] + 1, i, most = n
    cdef const uint32_t *below
    for i in range(n):
        if t.values6[i] & LINK:
            below = t.shape6 + (t.values6[i] ^ LINK)
            most += below[2 + below[0]] + 1
    return most


cdef inline void put_interval(Intervals to, addr at, uint32_t value) noexcept nogil:
    if to.n or value:
        to.begin(at, value)


# --- slots ---------------------------------------------------------------------------------------------------------

cdef struct cursor:
    const addr *start
    const uint32_t *values
    uint32_t n
    uint32_t i
    uint32_t value          # what holds before start[i]
    uint32_t chunk          # the next free one


# Slots of 2**shift addresses each from `base` on: a value where one holds throughout, else a chunk that divides it.
cdef void fill(slot_t *slots, slot_t *chunks, uint32_t count, uint64_t base, uint32_t shift, cursor *c) noexcept nogil:
    cdef uint64_t begins, until
    cdef uint32_t slot = 0
    while slot < count:
        begins = base + (<uint64_t>slot << shift)
        while c.i < c.n and c.start[c.i].lo <= begins:
            c.value = c.values[c.i]
            c.i += 1
        until = (c.start[c.i].lo - base) >> shift if c.i < c.n else count
        if until > count:
            until = count
        if until > slot:
            while slot < until:
                slots[slot] = <slot_t>c.value
                slot += 1
        else:
            slots[slot] = <slot_t>(<uint64_t>c.chunk | <uint64_t>1 << (8 * sizeof(slot_t) - 1))
            c.chunk += 1
            fill(chunks + 256 * <size_t>(c.chunk - 1), chunks, 256, begins, shift - 8, c)
            slot += 1


# How many slots of 2**shift addresses are divided.
cdef uint32_t divided(Intervals rows, uint32_t shift) noexcept nogil:
    cdef uint32_t i, n = 0
    cdef uint64_t last = LAST
    for i in range(rows.n):
        if rows.start[i].lo & ((<uint64_t>1 << shift) - 1) and rows.start[i].lo >> shift != last:
            last = rows.start[i].lo >> shift
            n += 1
    return n


cdef int slots4(lpm_table *t, Store store, Intervals rows, lpm_form form) except -1:
    cdef uint32_t chunks = 1 + divided(rows, 8) + (divided(rows, 16) if form == FORM_TRIE else 0)
    cdef size_t size = 2 if form == FORM_DIRECT16 else 4
    cdef size_t first_size = size << (16 if form == FORM_TRIE else 24), second_size = size * 256 * chunks
    cdef bytes digest = bytes([form]) + rows.digest()
    cdef void *first
    cdef void *second
    cdef cursor c
    t.form4 = form
    t.shape4 = NULL
    t.first4 = store.known(digest + b"1")
    t.second4 = store.known(digest + b"2")
    if t.first4 != NULL and t.second4 != NULL:
        return 0
    if chunks > MOST_CHUNKS:
        raise OverflowError(f"{chunks} chunks in one table")
    first = allocated(first_size)
    second = allocated(second_size)
    c.start, c.values, c.n, c.i, c.value, c.chunk = rows.start, rows.value, rows.n, 0, 0, 1
    if form == FORM_TRIE:
        fill(<uint32_t *>first, <uint32_t *>second, 1 << 16, 0, 16, &c)
    elif form == FORM_DIRECT32:
        fill(<uint32_t *>first, <uint32_t *>second, 1 << 24, 0, 8, &c)
    else:
        fill(<uint16_t *>first, <uint16_t *>second, 1 << 24, 0, 8, &c)
    t.first4 = store.keep(first, first_size, digest + b"1")
    t.second4 = store.keep(second, second_size, digest + b"2")
    return 0


cdef bint fits16(Intervals rows) noexcept nogil:
    cdef uint32_t i, most = divided(rows, 8)
    for i in range(rows.n):
        most |= rows.value[i]
    return most < 0x7FFF


# --- memory --------------------------------------------------------------------------------------------------------

cdef class Block:
    """Memory, freed with its owner."""

    cdef void *memory
    cdef size_t size

    def __dealloc__(self):
        free(self.memory)


cdef class Table:
    """A table among others that may have the same blocks."""

    def parts(self):
        """All it is made of, as bytes; for tests."""
        cdef Block block
        blocks = []
        for block in self._blocks:
            blocks.append(bytes(content(block.memory, block.size)))
        return self.t.form4, self.t.linked6, blocks


cdef uint64_t bytes_of(list tables):
    cdef Table table
    cdef Block block
    cdef uint64_t total = 0
    counted = set()
    for table in tables:
        for block in table._blocks:
            if <uintptr_t>block.memory not in counted:
                counted.add(<uintptr_t>block.memory)
                total += block.size
    return total


cdef class Store:
    """Blocks of memory that are only read, by content: equal ones are kept once."""

    def __init__(self):
        self._blocks = {}

    cdef const void *known(self, bytes digest) noexcept:
        cdef object block = self._blocks.get(digest)
        if block is None:
            return NULL
        if self._taken is not None:
            self._taken.append(block)
        return (<Block>block).memory

    cdef const void *keep(self, void *memory, size_t size, bytes digest=None) except NULL:
        cdef Block block = Block.__new__(Block)
        block.memory = memory
        block.size = size
        if digest is None:
            digest = blake2b(content(memory, size)).digest()
        if digest in self._blocks:
            return self.known(digest)
        self._blocks[digest] = block
        if self._taken is not None:
            self._taken.append(block)
        self.bytes += size
        return memory

    cdef Table table(self, tuple rows):
        cdef Table made = Table.__new__(Table)
        made._blocks = self._taken = []
        try:
            self.build(&made.t, rows)
        finally:
            self._taken = None
        return made

    cdef int build(self, lpm_table *t, tuple rows, str form="") except -1:
        cdef Intervals four = Intervals(), six = Intervals()
        starts4, values4, starts6, values6 = rows
        four.load(starts4, values4, 32)
        six.load(starts6, values6, 128)
        return put_table(t, self, four, six, form)


cdef int put_table(lpm_table *t, Store store, Intervals four, Intervals six, str form) except -1:
    if form and form not in FORMS:
        raise ValueError(f"a form is one of {', '.join(FORMS)}, not {form!r}")
    if form == "tree" or (form == "" and four.n <= TREE_MOST):
        tree4(t, store, four)
    elif form == "trie" or (form == "" and four.n < DIRECT_FROM):
        slots4(t, store, four, FORM_TRIE)
    else:
        slots4(t, store, four, FORM_DIRECT16 if fits16(four) else FORM_DIRECT32)
    return tree6(t, store, six)

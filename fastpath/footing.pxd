# What plans rest on: the parts of the tables that a walk went by, so that a swap ends only what it changes.

from libc.stdint cimport uint16_t, uint32_t, uint64_t

cdef enum:
    PART_WORDS = 32
    PART_SHIFT = 53         # 64 - 11: a part has one of 64 * PART_WORDS bits
    SWAPS = 32              # the last ones, of which it is known what they changed
    FOOTINGS = 16384        # most different ones
    FOOTING_HEADS = 4096
    NO_FOOTING = 0          # of an entry that no swap leaves alone

# Kinds of parts; what an index means, as in `tables`.
cdef enum part_kind:
    PART_NODE = 1
    PART_TABLE = 2          # an interval table
    PART_FIB = 3
    PART_RULES = 4          # a list of rules, whatever changes in it
    PART_ADDED = 5          # the same, but for rules that only go
    PART_RULE = 6           # a rule of it, by its number
    PART_GROUP_POLICY = 7
    PART_FLOW_POLICIES = 8  # all of them
    PART_TUNNELS = 9        # all of them
    PART_SPREAD = 10        # with its members

# A set of parts. Two may have one bit: then what rests on the one ends with the other as well, and is walked again.
cdef struct parts:
    uint64_t word[PART_WORDS]

# A set that entries rest on, each set once.
cdef struct footing:
    parts on
    uint32_t next           # of the same head; of a free one: the next free one
    uint32_t references     # entries that rest on it; 0: free
    uint16_t changed        # the last epoch that changed something of it, as far as it is known
    uint16_t checked        # the epoch up to which it is

cdef struct footing_table:
    footing *rows           # 0 is NO_FOOTING
    uint32_t *heads
    uint32_t capacity
    uint32_t used           # rows 1..used-1 have been in use at some time
    uint32_t free
    parts swaps[SWAPS]      # what changed with an epoch, by epoch modulo SWAPS


cdef inline void add_part(parts *p, uint32_t kind, uint32_t index, uint32_t more=0) noexcept nogil:
    cdef uint64_t h = (index | (<uint64_t>kind << 32)) * <uint64_t>0x9E3779B97F4A7C15U
    h = ((h ^ (h >> 29)) + more) * <uint64_t>0xBF58476D1CE4E5B9U
    h = (h ^ (h >> 32)) * <uint64_t>0x94D049BB133111EBU
    h >>= PART_SHIFT
    p.word[h >> 6] |= <uint64_t>1 << (h & 63)


cdef void all_parts(parts *p) noexcept nogil
cdef bint footings_open(footing_table *t, uint32_t flows) noexcept nogil
cdef void footings_close(footing_table *t) noexcept nogil
# The footing of an entry made in this epoch, with one more reference; NO_FOOTING: there is no room for another one.
cdef uint32_t footing_take(footing_table *t, const parts *on, uint16_t epoch) noexcept nogil
cdef void footing_drop(footing_table *t, uint32_t row) noexcept nogil
# Is what it consists of as it was in the epoch `since`?
cdef bint footing_holds(footing_table *t, uint32_t row, uint16_t since, uint16_t epoch) noexcept nogil
# With `epoch` began something that changed these parts; NULL: perhaps all. At 0 there are no entries.
cdef void footings_swap(footing_table *t, const parts *changes, uint16_t epoch) noexcept nogil
# What is wrong, or NULL. For tests. `references`: how many there must be.
cdef const char *footings_broken(const footing_table *t, uint64_t references) noexcept nogil

# The memo's table: buckets of (tag, row), a line for each row, and what is rarely looked at apart from it.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.footing cimport footing_table
from fastpath.records cimport record_table

cdef enum:
    BUCKET_WAYS = 8         # entries one bucket holds
    GROUP = 4               # buckets next to each other that take each other's overflow
    NO_FLOW = 0xFFFFFFFFU
    WIDE_WORDS = 7
    FLOW_COUNTS = 2         # gateways one entry may count at
    SHELL = 82              # an Ethernet header, and what a tunnel puts in front of a packet
    FAMILY_AT = 40          # bits of a key's second word, see below
    INSIDE_AT = 44

cdef enum flow_flag:
    FLOW_READDRESSED = 1    # an address changes: so do sums left to hardware
    FLOW_BRIDGED = 2        # the sender's MAC stays
    FLOW_OPENS = 4          # the edit is of what is inside the packet
    FLOW_AROUND = 8         # it leaves inside another packet, see `flow_shell`
    FLOW_OBSERVED = 16      # it counts for records, see fastpath.observe
    FLOW_RARELY = FLOW_OPENS | FLOW_AROUND | FLOW_OBSERVED

# What a packet is found by, as it stands on the wire where that is possible:
#
#     word 0   IPv4: source, destination. IPv6: a digest of both, see `wide_key`
#     word 1   source port, destination port (ICMP: identifier, type and code); protocol, family, INSIDE; 2 bytes of MAC
#     word 2   the other 4 bytes of the MAC it is sent to; context
#
# With INSIDE it is of a packet inside another one, but for MAC and context.
cdef struct wide_key:
    uint64_t word[WIDE_WORDS]   # IPv6: 4 of addresses; INSIDE: 3 of endpoint, cookie, outer addresses and source port

# One line of memory. Bytes of packets lie as on the wire, deltas are folded and in the machine's order.
cdef struct flow:
    uint64_t word[3]        # of the key; word 1 is 0 in a row that is free
    uint32_t source         # new addresses, of IPv4
    uint32_t destination
    uint32_t ports          # new ones; of ICMP, in the first half, the new identifier
    uint16_t ip_delta       # to the sum of addresses and TTL
    uint16_t l4_delta       # to that of addresses and ports, or of an identifier
    uint32_t to             # index + 1 of the interface it leaves by
    uint32_t last_seen      # milliseconds, the lower half
    uint32_t packets        # since its sessions were last told
    uint32_t bytes
    uint16_t idle           # seconds of silence that all sessions it touches survive
    uint16_t epoch
    uint16_t mtu            # smallest of its interface's and of the hops passed
    uint8_t spent           # of its TTL
    uint8_t flags           # flow_flag

# The rest of a key of IPv6 or INSIDE, and of what is done with such a packet.
cdef struct flow_wide:
    wide_key key
    uint64_t source[2]      # new addresses, of IPv6
    uint64_t destination[2]
    uint64_t came           # OPENS: bytes of packets as they came, since sessions were last told
    uint16_t mtu            # OPENS: for what is inside
    uint8_t spent_outside   # OPENS: TTL that the packet around it spent
    uint8_t unused[29]

# AROUND: what stands in front of a packet that leaves, ready but for lengths and checksums.
cdef struct flow_shell:
    uint8_t bytes[SHELL]
    uint16_t mtu
    uint32_t ip_sum         # of the ready bytes, raw
    uint32_t udp_sum        # with the pseudo-header
    uint32_t unused[9]

cdef struct flow_count:
    uint32_t row            # index of a gateway
    uint8_t way
    uint8_t layer
    uint8_t used            # 0: this one and those behind it are not

cdef struct flow_cold:
    uint32_t tag
    uint32_t links          # first of its links; of a free row: the next free one
    uint32_t footing        # which parts of the tables it rests on, see fastpath.footing
    flow_count counts[FLOW_COUNTS]

cdef enum link_kind:
    LINK_TOUCHES = 1        # a session that each packet of the flow touches
    LINK_KEEPS = 2          # one that it keeps alive, and that does not count it
    LINK_LACKS = 3          # there must be no session in a bucket that was not there then
    LINK_RECORDS = 4        # a record that each packet of the flow counts for
    LINK_LOST = 5           # there was no room for a record of it

# Ties an entry to something that it stands or falls with. Link 0 is none.
cdef struct flow_link:
    uint32_t flow
    uint32_t target         # row of a session; LACKS: bucket of the session table; RECORDS: row of a record; LOST: point
    uint32_t next           # of the same target
    uint32_t previous
    uint32_t more           # of the same entry
    uint8_t kind
    uint8_t way
    uint8_t layer

cdef struct bucket:
    uint32_t tags[BUCKET_WAYS]  # 0: free
    uint32_t rows[BUCKET_WAYS]

cdef struct flow_table:
    bucket *buckets
    bucket *larger          # twice as many, being filled; or NULL
    uint32_t mask           # of `buckets`
    uint32_t moved          # groups of buckets that have moved to `larger`
    flow *rows              # these three and the links never move
    flow_cold *cold
    flow_wide *wide
    flow_shell *shells
    flow_link *links
    record_table *records   # not owned; NULL: nobody wants any
    footing_table footings
    uint32_t capacity
    uint32_t used           # rows 0..used-1 have been in use at some time
    uint32_t free           # first free row below `used`
    uint32_t live
    uint32_t hand           # where the search for the oldest goes on
    uint32_t wheel          # and that for those that are of no use any more
    uint32_t link_capacity
    uint32_t link_used
    uint32_t link_free
    uint16_t epoch          # of the tables in use; what earlier entries know holds if `footing_holds`
    uint64_t now            # as its owner set it last; milliseconds
    uint64_t secret[3]
    uint64_t hits
    uint64_t misses

cdef extern from *:
    """
    static inline uint64_t mixed_words(uint64_t a, uint64_t b) {
        unsigned __int128 m = (unsigned __int128)a * b;
        return (uint64_t)m ^ (uint64_t)(m >> 64);
    }
    static inline uint32_t ways_one_by_one(const uint32_t *tags, uint32_t tag) {
        uint32_t ways = 0;
        for (uint32_t way = 0; way < 8; way++) ways |= (uint32_t)(tags[way] == tag) << way;
        return ways;
    }
    #ifdef __SSE2__ /* every x86-64 has it */
    #include <emmintrin.h>
    static inline uint32_t ways_with(const uint32_t *tags, uint32_t tag) {
        const __m128i *both = (const __m128i *)tags;
        __m128i wanted = _mm_set1_epi32((int)tag);
        __m128i low = _mm_cmpeq_epi32(_mm_loadu_si128(both), wanted), high = _mm_cmpeq_epi32(_mm_loadu_si128(both + 1), wanted);
        return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(_mm_packs_epi32(low, high), _mm_setzero_si128()));
    }
    #else
    #define ways_with ways_one_by_one
    #endif
    static inline uint32_t lowest_way(uint32_t ways) { return (uint32_t)__builtin_ctz(ways); }
    """
    uint64_t mixed_words(uint64_t a, uint64_t b) nogil
    # Bit `way` is set for each way that has this tag.
    uint32_t ways_with(const uint32_t *tags, uint32_t tag) nogil
    uint32_t ways_one_by_one(const uint32_t *tags, uint32_t tag) nogil
    uint32_t lowest_way(uint32_t ways) nogil


# Word 0 of the key of an IPv6 packet.
cdef inline uint64_t digest(const flow_table *t, const wide_key *k) noexcept nogil:
    return (mixed_words(k.word[0] ^ t.secret[0], k.word[1] ^ t.secret[1])
            ^ mixed_words(k.word[2] ^ t.secret[1], k.word[3] ^ t.secret[2]))


# The tag of a key of three words; its home is the bucket that the lower bits of it say.
cdef inline uint32_t tag_of_words(uint64_t a, uint64_t b, uint64_t c, uint64_t s, uint64_t u, uint64_t v) noexcept nogil:
    cdef uint64_t h = mixed_words(mixed_words(a ^ s, b ^ u) ^ c, v)
    return <uint32_t>h + (<uint32_t>h == 0)


# The same with `wide`, which is NULL but for IPv6 and INSIDE.
cdef inline uint32_t tag_of(const flow_table *t, const uint64_t *word, const wide_key *wide) noexcept nogil:
    cdef uint64_t c = word[2]
    if wide != NULL and (word[1] >> INSIDE_AT) & 1:
        c ^= mixed_words(wide.word[4] ^ wide.word[6] ^ t.secret[1], wide.word[5] ^ t.secret[2])
    return tag_of_words(word[0], word[1], c, t.secret[0], t.secret[1], t.secret[2])


# Where the home of a tag is; an entry is there, or if that was full in another bucket of the group.
cdef inline bucket *home_of(const flow_table *t, uint32_t tag) noexcept nogil:
    cdef uint32_t at = tag & t.mask
    if t.larger != NULL and (at // GROUP) < t.moved:
        return &t.larger[tag & (2 * t.mask + 1)]
    return &t.buckets[at]


# The `step`th to look at of a group: 0 is home. Arrays of buckets are aligned to groups.
cdef inline bucket *beside(bucket *home, uint32_t step) noexcept nogil:
    return <bucket *>(<size_t>home ^ (step * sizeof(bucket)))


cdef inline bint is_row(const flow_table *t, uint32_t row, const uint64_t *word, const wide_key *wide) noexcept nogil:
    cdef const flow *f = &t.rows[row]
    cdef const uint64_t *other
    if ((f.word[0] ^ word[0]) | (f.word[1] ^ word[1]) | (f.word[2] ^ word[2])) != 0:
        return False
    if wide == NULL:
        return True
    other = t.wide[row].key.word
    if (word[1] >> FAMILY_AT) & 15 == 6:
        if ((other[0] ^ wide.word[0]) | (other[1] ^ wide.word[1]) | (other[2] ^ wide.word[2]) | (other[3] ^ wide.word[3])) != 0:
            return False
    if not (word[1] >> INSIDE_AT) & 1:
        return True
    return ((other[4] ^ wide.word[4]) | (other[5] ^ wide.word[5]) | (other[6] ^ wide.word[6])) == 0


# Bytes that nobody outside can know. False: the kernel gives none.
cdef bint new_secret(void *secret, size_t size) noexcept nogil
cdef bint flows_open(flow_table *t, uint32_t capacity) noexcept nogil
cdef void flows_close(flow_table *t) noexcept nogil
# The row with this key, or NO_FLOW.
cdef uint32_t flow_find(const flow_table *t, uint32_t tag, const uint64_t *word, const wide_key *wide) noexcept nogil
# A row for a key that has none, its line and links empty; NO_FLOW: `flow_victim` has to go first.
cdef uint32_t flow_insert(flow_table *t, uint32_t tag, const uint64_t *word, const wide_key *wide) noexcept nogil
cdef uint32_t flow_victim(flow_table *t, uint32_t tag, uint32_t now) noexcept nogil
# Take a row out, whose links are gone.
cdef void flow_delete(flow_table *t, uint32_t row) noexcept nogil
cdef uint32_t link_new(flow_table *t) noexcept nogil
cdef void link_delete(flow_table *t, uint32_t link) noexcept nogil
# Move some of the buckets of a table that grows. True: there are more.
cdef bint flows_move(flow_table *t, uint32_t groups) noexcept nogil
# What is wrong with the table (`where`: which row or bucket), or NULL. For tests.
cdef const char *flows_broken(const flow_table *t, uint32_t *where) noexcept nogil
cdef uint64_t flows_bytes(const flow_table *t) noexcept nogil

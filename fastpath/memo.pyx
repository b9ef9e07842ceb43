"""The memo's table: what a packet's plan was, found by what the packet is. It changes speed and nothing else.

    tag -> bucket, 8 x (tag, row) -> row: key and edit in one line of memory
                                          cold, wide, shell, links: what most packets do not look at

A tag is 32 bits of a keyed hash (multiply and mix, the secret is new at each start); its lower bits say in which bucket
the entry is at home. If that is full it is in another one of its group of four. Rows lie in an arena that never moves. When
the buckets are six tenths full, twice as many are made and filled group by group: what was in a group goes to two groups,
by tags alone, so it always finds room, and each insertion moves one.

Arenas are reserved for the whole capacity and touched as used. What entries have to do with sessions is in
fastpath.session, what is remembered and done in fastpath.flow.
"""

from libc.string cimport memset

from fastpath.footing cimport footing, footing_drop, footings_broken, footings_close, footings_open

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *, size_t, int, int, int, long)
    int munmap(void *, size_t)
    int madvise(void *, size_t, int)
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE, MADV_HUGEPAGE
    void *MAP_FAILED

cdef extern from "<sys/random.h>" nogil:
    ssize_t getrandom(void *, size_t, unsigned int)

cdef enum:
    FEWEST_BUCKETS = 64     # a page of them
    MOVES = 1               # groups of buckets that each insertion moves
    FULL = 6                # tenths of the ways in use
    CANDIDATES = 8          # rows among which the oldest has to go when all are taken
    LINKS = 8               # per entry, on average
    HUGE = 16 << 20         # bytes from which on an arena is worth large pages


# Zeroed memory, aligned to a page; NULL: none.
cdef void *reserve(size_t size) noexcept nogil:
    cdef void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if memory == MAP_FAILED:
        return NULL
    if size >= HUGE:
        madvise(memory, size, MADV_HUGEPAGE)
    return memory


cdef void give_back(void *memory, size_t size) noexcept nogil:
    if memory != NULL:
        munmap(memory, size)


cdef bint new_secret(void *secret, size_t size) noexcept nogil:
    return getrandom(secret, size, 0) == <ssize_t>size


cdef bint flows_open(flow_table *t, uint32_t capacity) noexcept nogil:
    memset(t, 0, sizeof(flow_table))
    t.capacity = capacity
    t.link_capacity = (capacity + 16) * LINKS
    t.link_used = 1
    t.free = NO_FLOW
    t.epoch = 1
    t.mask = FEWEST_BUCKETS - 1
    t.buckets = <bucket *>reserve(FEWEST_BUCKETS * sizeof(bucket))
    t.rows = <flow *>reserve(<size_t>capacity * sizeof(flow))
    t.cold = <flow_cold *>reserve(<size_t>capacity * sizeof(flow_cold))
    t.wide = <flow_wide *>reserve(<size_t>capacity * sizeof(flow_wide))
    t.shells = <flow_shell *>reserve(<size_t>capacity * sizeof(flow_shell))
    t.links = <flow_link *>reserve(<size_t>t.link_capacity * sizeof(flow_link))
    if not footings_open(&t.footings, capacity) or t.buckets == NULL or t.rows == NULL or t.cold == NULL or t.wide == NULL \
            or t.shells == NULL or t.links == NULL or not new_secret(t.secret, sizeof(t.secret)):
        flows_close(t)
        return False
    return True


cdef void flows_close(flow_table *t) noexcept nogil:
    give_back(t.buckets, <size_t>(t.mask + 1) * sizeof(bucket))
    give_back(t.larger, <size_t>(t.mask + 1) * 2 * sizeof(bucket))
    give_back(t.rows, <size_t>t.capacity * sizeof(flow))
    give_back(t.cold, <size_t>t.capacity * sizeof(flow_cold))
    give_back(t.wide, <size_t>t.capacity * sizeof(flow_wide))
    give_back(t.shells, <size_t>t.capacity * sizeof(flow_shell))
    give_back(t.links, <size_t>t.link_capacity * sizeof(flow_link))
    footings_close(&t.footings)
    memset(t, 0, sizeof(flow_table))


cdef uint32_t flow_find(const flow_table *t, uint32_t tag, const uint64_t *word, const wide_key *wide) noexcept nogil:
    cdef bucket *home = home_of(t, tag)
    cdef bucket *b
    cdef uint32_t ways, row, step
    for step in range(GROUP):
        b = beside(home, step)
        ways = ways_with(b.tags, tag)
        while ways:
            row = b.rows[lowest_way(ways)]
            if is_row(t, row, word, wide):
                return row
            ways &= ways - 1
    return NO_FLOW


cdef bint place(bucket *home, uint32_t tag, uint32_t row) noexcept nogil:
    cdef uint32_t ways, way, step
    cdef bucket *b
    for step in range(GROUP):
        b = beside(home, step)
        ways = ways_with(b.tags, 0)
        if ways:
            way = lowest_way(ways)
            b.tags[way] = tag
            b.rows[way] = row
            return True
    return False


# --- growth --------------------------------------------------------------------------------------------------------

cdef bint flows_move(flow_table *t, uint32_t groups) noexcept nogil:
    cdef bucket *b
    cdef uint32_t _, way, step
    if t.larger == NULL:
        return False
    for _ in range(groups):
        for step in range(GROUP):
            b = &t.buckets[GROUP * t.moved + step]
            for way in range(BUCKET_WAYS):
                if b.tags[way]:
                    place(&t.larger[b.tags[way] & (2 * t.mask + 1)], b.tags[way], b.rows[way])
        t.moved += 1
        if GROUP * t.moved > t.mask:
            give_back(t.buckets, <size_t>(t.mask + 1) * sizeof(bucket))
            t.buckets = t.larger
            t.mask = 2 * t.mask + 1
            t.larger = NULL
            return False
    return True


cdef void grow(flow_table *t) noexcept nogil:
    cdef uint64_t ways = <uint64_t>(t.mask + 1) * BUCKET_WAYS
    if t.larger != NULL:
        flows_move(t, MOVES)
    elif <uint64_t>t.live * 10 >= ways * FULL:
        # without memory for it entries make room for each other instead
        t.larger = <bucket *>reserve(<size_t>(t.mask + 1) * 2 * sizeof(bucket))
        t.moved = 0


# --- rows ----------------------------------------------------------------------------------------------------------

cdef uint32_t flow_insert(flow_table *t, uint32_t tag, const uint64_t *word, const wide_key *wide) noexcept nogil:
    cdef uint32_t row
    cdef flow *f
    grow(t)
    row = t.free if t.free != NO_FLOW else t.used
    if row == t.capacity:
        return NO_FLOW
    if not place(home_of(t, tag), tag, row):
        return NO_FLOW
    if row == t.free:
        t.free = t.cold[row].links
    else:
        t.used += 1
    t.live += 1
    f = &t.rows[row]
    memset(f, 0, sizeof(flow))
    memset(&t.cold[row], 0, sizeof(flow_cold))
    f.word[0], f.word[1], f.word[2] = word[0], word[1], word[2]
    t.cold[row].tag = tag
    if wide != NULL:
        memset(&t.wide[row], 0, sizeof(flow_wide))
        t.wide[row].key = wide[0]
    return row


# Of two rows that live, the one that was silent for longer.
cdef inline uint32_t older(const flow_table *t, uint32_t a, uint32_t b, uint32_t now) noexcept nogil:
    if a == NO_FLOW or now - t.rows[b].last_seen > now - t.rows[a].last_seen:
        return b
    return a


# Who makes room for a new entry with this tag: the oldest of its home if there is room for rows, else of some.
cdef uint32_t flow_victim(flow_table *t, uint32_t tag, uint32_t now) noexcept nogil:
    cdef uint32_t found = NO_FLOW, way, seen = 0
    cdef bucket *home = home_of(t, tag)
    if t.free != NO_FLOW or t.used < t.capacity:
        for way in range(BUCKET_WAYS):
            found = older(t, found, home.rows[way], now)
        return found
    # all rows are taken, so some of those that the hand passes live
    while seen < CANDIDATES and seen < t.live:
        t.hand = t.hand + 1 if t.hand + 1 < t.used else 0
        if t.rows[t.hand].word[1]:
            found = older(t, found, t.hand, now)
            seen += 1
    return found


cdef void flow_delete(flow_table *t, uint32_t row) noexcept nogil:
    cdef uint32_t tag = t.cold[row].tag, way, step
    cdef bucket *b
    for step in range(GROUP):
        b = beside(home_of(t, tag), step)
        for way in range(BUCKET_WAYS):
            if b.rows[way] == row and b.tags[way] == tag:
                b.tags[way] = 0
    footing_drop(&t.footings, t.cold[row].footing)
    t.rows[row].word[1] = 0
    t.cold[row].links = t.free
    t.free = row
    t.live -= 1


cdef uint32_t link_new(flow_table *t) noexcept nogil:
    cdef uint32_t link = t.link_free
    if link:
        t.link_free = t.links[link].more
    elif t.link_used < t.link_capacity:
        link = t.link_used
        t.link_used += 1
    return link


cdef void link_delete(flow_table *t, uint32_t link) noexcept nogil:
    t.links[link].more = t.link_free
    t.link_free = link


# --- looking at it -------------------------------------------------------------------------------------------------

cdef const char *flows_broken(const flow_table *t, uint32_t *where) noexcept nogil:
    cdef uint32_t row, live = 0, placed = 0, i, way
    cdef uint64_t resting = 0
    cdef const flow *f
    cdef const wide_key *wide
    cdef const bucket *b
    for row in range(t.used):
        where[0] = row
        f = &t.rows[row]
        if f.word[1] == 0:
            continue
        live += 1
        resting += t.cold[row].footing != 0
        wide = &t.wide[row].key if (f.word[1] >> INSIDE_AT) & 1 or (f.word[1] >> FAMILY_AT) & 15 == 6 else NULL
        if tag_of(t, f.word, wide) != t.cold[row].tag:
            return b"a flow entry has the tag of another key"
        if flow_find(t, t.cold[row].tag, f.word, wide) != row:
            return b"a flow entry is not found"
    where[0] = t.live
    if live != t.live:
        return b"the count of flow entries is wrong"
    for i in range((t.mask + 1) * (3 if t.larger != NULL else 1)):
        where[0] = i
        b = &t.buckets[i] if i <= t.mask else &t.larger[i - t.mask - 1]
        if i <= t.mask and t.larger != NULL and (i // GROUP) < t.moved:
            continue
        for way in range(BUCKET_WAYS):
            if ways_with(b.tags, b.tags[way]) != ways_one_by_one(b.tags, b.tags[way]):
                return b"tags are not compared as they should be"
            if b.tags[way] == 0:
                continue
            placed += 1
            if b.rows[way] >= t.used or t.rows[b.rows[way]].word[1] == 0 or t.cold[b.rows[way]].tag != b.tags[way]:
                return b"a bucket has an entry that is not there"
    if placed != live:
        return b"a flow entry is in the buckets twice"
    return footings_broken(&t.footings, resting)


# What it has touched of its memory, as good as.
cdef uint64_t flows_bytes(const flow_table *t) noexcept nogil:
    return (<uint64_t>(t.mask + 1) * (3 if t.larger != NULL else 1) * sizeof(bucket)
            + <uint64_t>t.used * (sizeof(flow) + sizeof(flow_cold)) + <uint64_t>(t.link_used - 1) * sizeof(flow_link)
            + <uint64_t>(t.footings.used - 1) * (sizeof(footing) + sizeof(uint32_t)))

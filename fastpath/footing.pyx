"""What plans rest on, and which swaps left that alone.

A plan is what one walk found out. Walked again with other tables it is the same plan if no part that the walk went by is
another one: from the first step on it would meet the same nodes, ask them the same and be told the same. So an entry
knows the parts its plan rests on (`fastpath.flow` names them), a Snapshot knows which parts differ from the one it was
made of, and an entry of an earlier epoch is good for the present one if none of the swaps since has changed any of its.

Sets of parts are bits of hashes: they may say that something has changed which has not, never the reverse. Flows that
go the same way rest on the same set, so sets are kept once each; an entry has the number of its one. A set is compared
with a swap when the first of its entries is met after it, and that is remembered for the others.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memset


cdef void all_parts(parts *p) noexcept nogil:
    memset(p, 0xFF, sizeof(parts))


cdef bint footings_open(footing_table *t, uint32_t flows) noexcept nogil:
    memset(t, 0, sizeof(footing_table))
    t.capacity = (flows if flows < FOOTINGS else FOOTINGS) + 1
    t.used = 1
    t.rows = <footing *>calloc(t.capacity, sizeof(footing))
    t.heads = <uint32_t *>calloc(FOOTING_HEADS, sizeof(uint32_t))
    return t.rows != NULL and t.heads != NULL


cdef void footings_close(footing_table *t) noexcept nogil:
    free(t.rows)
    free(t.heads)
    t.rows = NULL
    t.heads = NULL


cdef uint32_t *head_of(const footing_table *t, const parts *on) noexcept nogil:
    cdef uint64_t h = 0
    cdef uint32_t i
    for i in range(PART_WORDS):
        h = (h ^ on.word[i]) * <uint64_t>0x9E3779B97F4A7C15U
        h ^= h >> 32
    return &t.heads[h & (FOOTING_HEADS - 1)]


# Compare it with the swaps that it has not been compared with.
cdef void bring_up(footing_table *t, footing *f, uint16_t epoch) noexcept nogil:
    cdef uint32_t behind = <uint16_t>(epoch - f.checked), i, e
    cdef uint64_t met
    if behind > SWAPS:
        f.changed = epoch       # nobody knows any more
    else:
        for e in range(f.checked + 1, f.checked + 1 + behind):
            met = 0
            for i in range(PART_WORDS):
                met |= t.swaps[e % SWAPS].word[i] & f.on.word[i]
            if met:
                f.changed = <uint16_t>e
    f.checked = epoch


cdef uint32_t footing_take(footing_table *t, const parts *on, uint16_t epoch) noexcept nogil:
    cdef uint32_t *head = head_of(t, on)
    cdef uint32_t row = head[0]
    cdef footing *f
    while row:
        f = &t.rows[row]
        if memcmp(&f.on, on, sizeof(parts)) == 0:
            bring_up(t, f, epoch)
            f.references += 1
            return row
        row = f.next
    if t.free:
        row = t.free
        t.free = t.rows[row].next
    elif t.used < t.capacity:
        row = t.used
        t.used += 1
    else:
        return NO_FOOTING
    f = &t.rows[row]
    f.on = on[0]
    f.references = 1
    f.changed = f.checked = epoch
    f.next = head[0]
    head[0] = row
    return row


cdef void footing_drop(footing_table *t, uint32_t row) noexcept nogil:
    cdef footing *f = &t.rows[row]
    cdef uint32_t *at
    if row == NO_FOOTING:
        return
    f.references -= 1
    if f.references:
        return
    at = head_of(t, &f.on)
    while at[0] != row:
        at = &t.rows[at[0]].next
    at[0] = f.next
    f.next = t.free
    t.free = row


cdef bint footing_holds(footing_table *t, uint32_t row, uint16_t since, uint16_t epoch) noexcept nogil:
    cdef footing *f = &t.rows[row]
    if row == NO_FOOTING:
        return False
    if f.checked != epoch:
        bring_up(t, f, epoch)
    # epochs of entries and of their footings never go back: at 0 all of them begin anew
    return f.changed <= since


cdef void footings_swap(footing_table *t, const parts *changes, uint16_t epoch) noexcept nogil:
    if changes == NULL:
        all_parts(&t.swaps[epoch % SWAPS])
    else:
        t.swaps[epoch % SWAPS] = changes[0]


cdef const char *footings_broken(const footing_table *t, uint64_t references) noexcept nogil:
    cdef uint32_t i, row
    cdef uint64_t found = 0, listed = 0
    for i in range(FOOTING_HEADS):
        row = t.heads[i]
        while row:
            if row >= t.used or t.rows[row].references == 0 or head_of(t, &t.rows[row].on) != &t.heads[i]:
                return b"what a flow entry rests on is in a list of others"
            listed += 1
            if listed >= t.used:
                return b"a list of what flow entries rest on has a loop"
            found += t.rows[row].references
            row = t.rows[row].next
    if found != references:
        return b"the count of flow entries that rest on something is wrong"
    return NULL

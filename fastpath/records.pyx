"""Records of flows: what went by at a point of the graph, counted per flow and window of time.

A record is found by its point, side and tuple, and lives as long as its window lasts, and as a flow entry counts for it that
is not silent for a whole window. Packets that walk are counted at once; those that have a flow entry are counted there, and
told when the entry is settled, or when the first of them in another window goes by (fastpath.observe). What is over lies in
a ring until somebody takes it.

Nothing grows: where a row or a place in the ring is missing the packets are counted as lost, at their point.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memset

from fastpath.memo cimport mixed_words, new_secret


cdef bint records_open(record_table *t, uint32_t capacity, uint32_t ring_size, uint64_t length, uint64_t phase) noexcept nogil:
    cdef uint32_t buckets = 16, i
    while buckets < capacity * 2:
        buckets *= 2
    memset(t, 0, sizeof(record_table))
    t.rows = <record *>calloc(capacity, sizeof(record))
    t.buckets = <uint32_t *>calloc(buckets, sizeof(uint32_t))
    t.ring = <record *>calloc(ring_size, sizeof(record))
    if t.rows == NULL or t.buckets == NULL or t.ring == NULL or not new_secret(&t.secret, sizeof(t.secret)):
        records_close(t)
        return False
    for i in range(buckets):
        t.buckets[i] = NO_RECORD
    t.capacity = capacity
    t.mask = buckets - 1
    t.free = NO_RECORD
    t.ring_size = ring_size
    t.length = length
    t.phase = phase
    return True


cdef void records_close(record_table *t) noexcept nogil:
    free(t.rows)
    free(t.buckets)
    free(t.ring)
    memset(t, 0, sizeof(record_table))


cdef uint32_t window_of(const record_table *t, uint64_t now) noexcept nogil:
    return <uint32_t>((now + t.phase) // t.length)


cdef void records_turn(record_table *t, uint64_t now) noexcept nogil:
    cdef uint64_t began
    t.window = window_of(t, now)
    began = t.window * t.length
    t.until = began + t.length - t.phase
    t.since = <uint32_t>(began - t.phase) if began > t.phase else 0


# --- what is over --------------------------------------------------------------------------------------------------

cdef void records_lose(record_table *t, uint32_t point, uint32_t window, uint64_t packets) noexcept nogil:
    cdef uint32_t i, at = (point * 0x9E3779B1U + window) % LOST_POINTS
    cdef lost_at *gone
    if packets == 0:
        return          # the record of somebody who has yet to tell
    for i in range(16):
        gone = &t.lost[(at + i) % LOST_POINTS]
        if gone.point == 0 or (gone.point == point and gone.window == window):
            gone.point = point
            gone.window = window
            gone.packets += packets
            return
    t.lost_unnamed += packets


cdef void push(record_table *t, const record *r) noexcept nogil:
    if t.ring_count == t.ring_size:
        records_lose(t, r.key.point, r.window, r.packets)
        return
    t.ring[(t.ring_first + t.ring_count) % t.ring_size] = r[0]
    t.ring_count += 1


# The row is of another window from now on.
cdef inline void roll(record_table *t, record *r, uint32_t window) noexcept nogil:
    if r.packets or r.first:
        push(t, r)
    r.window = window
    r.packets = 0
    r.bytes = 0
    r.first = 0
    r.last = 0
    r.tcp_flags = 0


# --- rows ----------------------------------------------------------------------------------------------------------

cdef inline uint32_t chain_of(const record_table *t, const record_key *key) noexcept nogil:
    cdef const uint64_t *word = <const uint64_t *>key
    cdef uint64_t h = t.secret
    cdef uint32_t i
    for i in range(sizeof(record_key) // 16):
        h = mixed_words(h ^ word[2 * i], word[2 * i + 1] ^ <uint64_t>0xD6E8FEB86659FD93U)
    return <uint32_t>(h ^ (h >> 32)) & t.mask


cdef inline bint same_record(const record_key *a, const record_key *b) noexcept nogil:
    cdef const uint64_t *x = <const uint64_t *>a
    cdef const uint64_t *y = <const uint64_t *>b
    cdef uint64_t differ = 0
    cdef uint32_t i
    for i in range(sizeof(record_key) // 8):
        differ |= x[i] ^ y[i]
    return differ == 0


cdef uint32_t record_of(record_table *t, const record_key *key, uint64_t now) noexcept nogil:
    cdef uint32_t chain = chain_of(t, key), row = t.buckets[chain]
    while row != NO_RECORD:
        if same_record(&t.rows[row].key, key):
            break
        row = t.rows[row].next
    if row == NO_RECORD:
        if t.free != NO_RECORD:
            row = t.free
            t.free = t.rows[row].next
        elif t.used < t.capacity:
            row = t.used
            t.used += 1
        else:
            return NO_RECORD
        memset(&t.rows[row], 0, sizeof(record))
        t.rows[row].key = key[0]
        t.rows[row].window = t.window
        t.rows[row].live = 1
        t.rows[row].next = t.buckets[chain]
        t.buckets[chain] = row
        t.live += 1
    record_begin(t, row, now)
    return row


cdef void record_begin(record_table *t, uint32_t row, uint64_t now) noexcept nogil:
    cdef record *r = &t.rows[row]
    if r.window != t.window:
        roll(t, r, t.window)
    if r.first == 0:
        r.first = now if now else 1     # 0 means none


cdef void record_add(record_table *t, uint32_t row, uint64_t packets, uint64_t bytes, uint64_t seen, uint8_t tcp_flags) noexcept nogil:
    cdef record *r = &t.rows[row]
    cdef record late
    cdef uint32_t window = window_of(t, seen)
    if window < r.window:
        # told late: something else of the flow has gone by in the next window
        late = r[0]
        late.window = window
        late.packets = packets
        late.bytes = bytes
        late.first = seen
        late.last = seen
        late.tcp_flags = tcp_flags
        push(t, &late)
        return
    if window > r.window:
        roll(t, r, window)
    r.packets += packets
    r.bytes += bytes
    r.tcp_flags |= tcp_flags
    if r.first == 0:
        r.first = seen
    if seen > r.last:
        r.last = seen


cdef void record_forget(record_table *t, uint32_t row) noexcept nogil:
    cdef uint32_t *at = &t.buckets[chain_of(t, &t.rows[row].key)]
    while at[0] != row:
        at = &t.rows[at[0]].next
    at[0] = t.rows[row].next
    t.rows[row].live = 0
    t.rows[row].next = t.free
    t.free = row
    t.live -= 1


cdef bint record_tell(record_table *t, uint32_t row) noexcept nogil:
    if t.rows[row].packets == 0:
        return True     # when its first packet came it keeps until that is told
    if t.ring_count == t.ring_size:
        return False
    roll(t, &t.rows[row], t.rows[row].window)
    return True


cdef uint32_t records_take(record_table *t, record *out, uint32_t count) noexcept nogil:
    cdef uint32_t i
    if count > t.ring_count:
        count = t.ring_count
    for i in range(count):
        out[i] = t.ring[(t.ring_first + i) % t.ring_size]
    t.ring_first = (t.ring_first + count) % t.ring_size
    t.ring_count -= count
    if t.ring_count == 0:
        t.ring_first = 0        # memory is touched as used
    return count


cdef const char *records_broken(const record_table *t, uint32_t *where) noexcept nogil:
    cdef uint32_t row, live = 0, linked = 0, i
    for row in range(t.used):
        live += t.rows[row].live
    where[0] = t.live
    if live != t.live:
        return b"the count of living records is wrong"
    for i in range(t.mask + 1):
        where[0] = i
        row = t.buckets[i]
        while row != NO_RECORD:
            if not t.rows[row].live or chain_of(t, &t.rows[row].key) != i:
                return b"a record is in a chain that is not its own"
            linked += 1
            if linked > live:
                return b"a chain of records has a loop"
            row = t.rows[row].next
    if linked != live:
        return b"a record is in no chain"
    return NULL

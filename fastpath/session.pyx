"""The session table: who talks to whom, as each stateful node saw it.

A session belongs to an *owner* (an interface's group filter, a NAT gateway) and is found by either of two
tuples: the opener's packets as the owner sees them, and the replies as the owner sees them. Rows live in one
array and never move, so a row number stays valid while the session lives; hash chains link `reference`s
(row * 2 + key). Nothing is allocated after `table_open`.

States and limits (EC2 User Guide, "Security group connection tracking"; NAT gateways use one limit for all):

    TCP   OPENING --both acknowledged--> OPEN --FIN both ways or RST--> CLOSING
    UDP   SINGLE --reply--> REPLIED --next request--> STREAM
    ICMP  QUERY          other protocols  OTHER

A session dies of silence: `now - last_seen >= idle`. Time is an argument, in milliseconds.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from fastpath.wire cimport PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP, TCP_ACK, TCP_FIN, TCP_RST


cdef bint table_open(session_table *t, uint32_t capacity, uint64_t secret) noexcept nogil:
    cdef uint32_t buckets = 16
    cdef uint32_t i
    while buckets < capacity * 2:
        buckets *= 2
    memset(t, 0, sizeof(session_table))
    t.rows = <session *>calloc(capacity, sizeof(session))
    t.buckets = <uint32_t *>calloc(buckets, sizeof(uint32_t))
    t.opened = <uint32_t *>calloc(buckets, sizeof(uint32_t))
    if t.rows == NULL or t.buckets == NULL or t.opened == NULL:
        table_close(t)
        return False
    for i in range(buckets):
        t.buckets[i] = NO_SESSION
    t.capacity = capacity
    t.mask = buckets - 1
    t.free = NO_SESSION
    t.secret = secret
    return True


cdef void table_close(session_table *t) noexcept nogil:
    free(t.rows)
    free(t.buckets)
    free(t.opened)
    t.rows = NULL
    t.buckets = NULL
    t.opened = NULL


cdef void table_clear(session_table *t) noexcept nogil:
    cdef uint32_t i
    for i in range(t.mask + 1):
        t.buckets[i] = NO_SESSION
    for i in range(t.used):
        t.rows[i].live = 0
    t.used = 0
    t.live = 0
    t.free = NO_SESSION


# Multiply and mix, 8 bytes at a time, keyed by the engine's secret.
cdef uint64_t hash_bytes(const void *data, uint32_t size, uint64_t secret) noexcept nogil:
    cdef const uint8_t *p = <const uint8_t *>data
    cdef uint64_t h = secret ^ (size * <uint64_t>0x9E3779B97F4A7C15U)
    cdef uint64_t word
    cdef uint32_t i = 0
    while i < size:
        word = 0
        memcpy(&word, p + i, 8 if size - i >= 8 else size - i)
        h = (h ^ word) * <uint64_t>0xFF51AFD7ED558CCDU
        h ^= h >> 32
        i += 8
    h *= <uint64_t>0xC4CEB9FE1A85EC53U
    return h ^ (h >> 29)


cdef void reverse_tuple(tuple5 *out, const tuple5 *t) noexcept nogil:
    memset(out, 0, sizeof(tuple5))
    out.src = t.dst
    out.dst = t.src
    out.sport = t.dport
    out.dport = t.sport
    out.proto = t.proto
    out.family = t.family
    out.query = t.query ^ 1 if t.query else 0


# Keys are compared byte for byte, so every byte of them is set.
cdef void session_key_of(session_key *key, uint32_t owner, uint8_t direction, const tuple5 *t) noexcept nogil:
    memset(key, 0, sizeof(session_key))
    key.tuple.src = t.src
    key.tuple.dst = t.dst
    key.tuple.sport = t.sport
    key.tuple.dport = t.dport
    key.tuple.proto = t.proto
    key.tuple.family = t.family
    key.tuple.query = t.query
    key.owner = owner
    key.direction = direction


cdef uint32_t bucket_of(session_table *t, const session_key *key) noexcept nogil:
    return <uint32_t>hash_bytes(key, sizeof(session_key), t.secret) & t.mask


# The reference of the living session with this key, or NO_SESSION. Changes nothing.
cdef uint32_t table_find(session_table *t, const session_key *key, uint64_t now) noexcept nogil:
    cdef uint32_t ref = t.buckets[bucket_of(t, key)]
    cdef session *s
    while ref != NO_SESSION:
        s = &t.rows[ref >> 1]
        if memcmp(&s.key[ref & 1], key, sizeof(session_key)) == 0 and session_alive(s, now):
            return ref
        ref = s.next[ref & 1]
    return NO_SESSION


cdef void _link(session_table *t, uint32_t ref) noexcept nogil:
    cdef session *s = &t.rows[ref >> 1]
    cdef uint32_t bucket = bucket_of(t, &s.key[ref & 1])
    s.next[ref & 1] = t.buckets[bucket]
    t.buckets[bucket] = ref
    t.opened[bucket] += 1


cdef void _unlink(session_table *t, uint32_t ref) noexcept nogil:
    cdef session *s = &t.rows[ref >> 1]
    cdef uint32_t *at = &t.buckets[bucket_of(t, &s.key[ref & 1])]
    while at[0] != NO_SESSION:
        if at[0] == ref:
            at[0] = s.next[ref & 1]
            return
        at = &t.rows[at[0] >> 1].next[at[0] & 1]


# Put a session in; what has either key, living or dead, makes room first. NO_SESSION when the table is full.
cdef uint32_t table_insert(session_table *t, const session_key *forward, const session_key *reply, uint64_t now) noexcept nogil:
    cdef uint32_t row, i, ref
    cdef session *s
    cdef uint32_t version
    cdef const session_key *keys[2]
    keys[0] = forward
    keys[1] = reply
    for i in range(2):
        ref = t.buckets[bucket_of(t, keys[i])]
        while ref != NO_SESSION:
            s = &t.rows[ref >> 1]
            if memcmp(&s.key[ref & 1], keys[i], sizeof(session_key)) == 0:
                table_remove(t, ref >> 1, now)
                ref = t.buckets[bucket_of(t, keys[i])]
            else:
                ref = s.next[ref & 1]
    if t.free != NO_SESSION:
        row = t.free
        t.free = t.rows[row].next[0]
    elif t.used < t.capacity:
        row = t.used
        t.used += 1
    else:
        return NO_SESSION
    s = &t.rows[row]
    version = s.version + 1     # never goes back: what remembers an earlier session of this row must not match
    memset(s, 0, sizeof(session))
    s.version = version
    s.key[0] = forward[0]
    s.key[1] = reply[0]
    s.live = 1
    s.opened = now
    s.last_seen = now
    t.live += 1
    _link(t, row * 2)
    if memcmp(forward, reply, sizeof(session_key)) != 0:
        _link(t, row * 2 + 1)
    return row


cdef void table_remove(session_table *t, uint32_t row, uint64_t now) noexcept nogil:
    cdef session *s = &t.rows[row]
    cdef session *pool
    if not s.live:
        return
    if s.gateway and t.gateways != NULL and not session_alive(s, now) and s.state != STATE_CLOSING:
        t.gateways[s.gateway - 1].timed_out += 1
    _unlink(t, row * 2)
    if memcmp(&s.key[0], &s.key[1], sizeof(session_key)) != 0:
        _unlink(t, row * 2 + 1)
    s.live = 0
    s.version += 1
    t.live -= 1
    s.next[0] = t.free
    t.free = row
    if (s.kind == SESSION_NAT or s.kind == SESSION_BALANCED) and s.pool != NO_SESSION:
        pool = &t.rows[s.pool]
        pool.packets[0] -= 1
        if pool.packets[0] == 0:
            table_remove(t, s.pool, now)


# Remove all that have been silent too long; returns how many.
cdef uint32_t table_expire(session_table *t, uint64_t now, bint spare) noexcept nogil:
    cdef uint32_t i, removed = 0
    for i in range(t.used):
        if t.rows[i].live and not session_alive(&t.rows[i], now) and not (spare and is_told(&t.rows[i])):
            table_remove(t, i, now)
            removed += 1
    return removed


cdef const char *table_broken(session_table *t, uint32_t *where) noexcept nogil:
    cdef uint32_t i, ref, live = 0, linked = 0, expected = 0
    cdef session *s
    for i in range(t.used):
        where[0] = i
        s = &t.rows[i]
        if not s.live:
            continue
        live += 1
        expected += 1 if memcmp(&s.key[0], &s.key[1], sizeof(session_key)) == 0 else 2
        if s.kind == SESSION_NAT and (s.pool >= t.used or not t.rows[s.pool].live or t.rows[s.pool].kind != SESSION_POOL):
            return b"a NAT session has no pool"
        if s.kind == SESSION_BALANCED and s.pool != NO_SESSION \
                and (s.pool >= t.used or not t.rows[s.pool].live or t.rows[s.pool].kind != SESSION_STICKY):
            return b"a balanced session has no row that keeps it together with others"
    if live != t.live:
        return b"the count of living sessions is wrong"
    for i in range(t.mask + 1):
        where[0] = i
        ref = t.buckets[i]
        while ref != NO_SESSION:
            if not t.rows[ref >> 1].live:
                return b"a dead session is in a hash chain"
            linked += 1
            if linked > expected:
                return b"a hash chain has a loop or a stray entry"
            ref = t.rows[ref >> 1].next[ref & 1]
    if linked != expected:
        return b"a key is not linked"
    return NULL


cdef uint64_t state_limit(uint8_t state, const timeouts *limits) noexcept nogil:
    if state == STATE_OPENING:
        return limits.tcp_opening
    if state == STATE_OPEN:
        return limits.tcp_established
    if state == STATE_CLOSING:
        return limits.tcp_closing
    if state == STATE_SINGLE or state == STATE_REPLIED:
        return limits.udp_single
    if state == STATE_STREAM:
        return limits.udp_stream
    if state == STATE_QUERY:
        return limits.icmp
    return limits.other


cdef inline uint8_t seen_of(uint8_t tcp_flags, int way) noexcept nogil:
    cdef uint8_t seen = SEEN_REPLY if way else 0
    if tcp_flags & TCP_FIN:
        seen |= SEEN_FIN_REPLY if way else SEEN_FIN_FORWARD
    if tcp_flags & TCP_ACK:
        seen |= SEEN_ACK_REPLY if way else SEEN_ACK_FORWARD
    return seen


# State of a session that this packet opens.
cdef void session_begin(session_step *step, uint8_t proto, uint8_t tcp_flags, const timeouts *limits) noexcept nogil:
    step.seen = 0
    if proto == PROTO_TCP:
        step.state = STATE_CLOSING if tcp_flags & TCP_RST else STATE_OPENING
        step.seen = seen_of(tcp_flags, 0)
    elif proto == PROTO_UDP:
        step.state = STATE_SINGLE
    elif proto == PROTO_ICMP or proto == PROTO_ICMPV6:
        step.state = STATE_QUERY
    else:
        step.state = STATE_OTHER
    step.idle = state_limit(step.state, limits)


# State after one more packet, going the opener's way (0) or back (1).
cdef void session_next(session_step *step, uint8_t state, uint8_t seen, uint8_t proto, int way, uint8_t tcp_flags,
                       const timeouts *limits) noexcept nogil:
    step.state = state
    step.seen = seen
    if proto == PROTO_TCP:
        step.seen |= seen_of(tcp_flags, way)
        if tcp_flags & TCP_RST:
            step.state = STATE_CLOSING
        elif (step.seen & SEEN_FIN_REPLY) and (step.seen & SEEN_FIN_FORWARD):
            step.state = STATE_CLOSING
        elif state == STATE_OPENING and (step.seen & SEEN_ACK_REPLY) and (step.seen & SEEN_ACK_FORWARD):
            step.state = STATE_OPEN     # both sides have been heard by the other, also when both began (RFC 9293, 3.5)
    elif state == STATE_SINGLE and way:
        step.state = STATE_REPLIED
    elif state == STATE_REPLIED and not way:
        step.state = STATE_STREAM
    step.idle = state_limit(step.state, limits)

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

Packets that have a flow entry do not touch their sessions: the entry counts them and is *settled* when somebody asks, at
the latest when it is *retired*. A session that changes or goes takes the entries tied to it along.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from fastpath.memo cimport (FLOW_COUNTS, FLOW_OPENS, LINK_KEEPS, LINK_LACKS, LINK_LOST, LINK_RECORDS, LINK_TOUCHES, flow,
                            flow_cold, flow_delete, flow_link, link_delete, link_new, new_secret)
from fastpath.footing cimport footing_holds, footings_swap, parts
from fastpath.geneve cimport OUTER_SIZE
from fastpath.records cimport record_add, record_table, records_broken, records_lose, window_of
from fastpath.wire cimport PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP, TCP_ACK, TCP_FIN, TCP_RST


cdef bint table_open(session_table *t, uint32_t capacity, uint64_t seed) noexcept nogil:
    cdef uint32_t buckets = 16
    cdef uint32_t i
    while buckets < capacity * 2:
        buckets *= 2
    memset(t, 0, sizeof(session_table))
    t.rows = <session *>calloc(capacity, sizeof(session))
    t.buckets = <uint32_t *>calloc(buckets, sizeof(uint32_t))
    t.opened = <uint32_t *>calloc(buckets, sizeof(uint32_t))
    t.absent = <uint32_t *>calloc(buckets, sizeof(uint32_t))
    if t.rows == NULL or t.buckets == NULL or t.opened == NULL or t.absent == NULL:
        table_close(t)
        return False
    for i in range(buckets):
        t.buckets[i] = NO_SESSION
    t.capacity = capacity
    t.mask = buckets - 1
    t.free = NO_SESSION
    t.seed = seed
    # who could choose a bucket could make lookups slow
    return new_secret(&t.secret, sizeof(t.secret))


cdef void table_close(session_table *t) noexcept nogil:
    free(t.rows)
    free(t.buckets)
    free(t.opened)
    free(t.absent)
    t.rows = NULL
    t.buckets = NULL
    t.opened = NULL
    t.absent = NULL


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


cdef uint32_t *openings(session_table *t, const session_key *key) noexcept nogil:
    return &t.opened[hash_bytes(key, sizeof(session_key), t.seed) & t.mask]


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


# The reference of the living session with this key, or NO_SESSION.
cdef uint32_t table_find(session_table *t, const session_key *key, uint64_t now) noexcept nogil:
    cdef uint32_t ref = t.buckets[bucket_of(t, key)]
    cdef session *s
    while ref != NO_SESSION:
        s = &t.rows[ref >> 1]
        if same_key(&s.key[ref & 1], key) and alive(t, s, now):
            return ref
        ref = s.next[ref & 1]
    return NO_SESSION


cdef void _link(session_table *t, uint32_t ref, uint32_t bucket) noexcept nogil:
    cdef session *s = &t.rows[ref >> 1]
    s.next[ref & 1] = t.buckets[bucket]
    t.buckets[bucket] = ref
    if t.absent[bucket]:
        retire_tied(t, &t.absent[bucket])


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
    cdef uint32_t buckets[2]
    cdef uint32_t count = 1 if same_key(forward, reply) else 2
    keys[0] = forward
    keys[1] = reply
    for i in range(count):
        buckets[i] = bucket_of(t, keys[i])
        ref = t.buckets[buckets[i]]
        while ref != NO_SESSION:
            s = &t.rows[ref >> 1]
            if same_key(&s.key[ref & 1], keys[i]):
                table_remove(t, ref >> 1, now)
                ref = t.buckets[buckets[i]]
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
    for i in range(count):
        _link(t, row * 2 + i, buckets[i])
    return row


cdef void table_remove(session_table *t, uint32_t row, uint64_t now) noexcept nogil:
    cdef session *s = &t.rows[row]
    cdef session *pool
    if not s.live:
        return
    if s.flows:
        retire_tied(t, &s.flows)
    if s.gateway and t.gateways != NULL and not session_alive(s, now) and s.state != STATE_CLOSING:
        t.gateways[s.gateway - 1].timed_out += 1
    _unlink(t, row * 2)
    if not same_key(&s.key[0], &s.key[1]):
        _unlink(t, row * 2 + 1)
    s.live = 0
    s.version += 1
    t.live -= 1
    if s.opener:
        t.held[s.opener] -= 1
    s.next[0] = t.free
    t.free = row
    if (s.kind == SESSION_NAT or s.kind == SESSION_BALANCED) and s.pool != NO_SESSION:
        pool = &t.rows[s.pool]
        pool.packets[0] -= 1
        if pool.packets[0] == 0:
            table_remove(t, s.pool, now)


# Remove all that have been silent too long; returns how many.
cdef uint32_t table_expire(session_table *t, uint64_t now) noexcept nogil:
    cdef uint32_t i, removed = 0
    t.nat_until = 0xFFFFFFFFFFFFFFFFU
    for i in range(t.used):
        if not t.rows[i].live:
            continue
        if alive(t, &t.rows[i], now):
            note_deadline(t, &t.rows[i])
        else:
            table_remove(t, i, now)
            removed += 1
    return removed


cdef void note_deadline(session_table *t, const session *s) noexcept nogil:
    if s.kind == SESSION_NAT and s.last_seen + s.idle < t.nat_until:
        t.nat_until = s.last_seen + s.idle


cdef void table_age(session_table *t, uint32_t count, uint64_t now) noexcept nogil:
    cdef uint32_t _
    for _ in range(count if count < t.used else t.used):
        t.swept = t.swept + 1 if t.swept + 1 < t.used else 0
        if t.rows[t.swept].live and not alive(t, &t.rows[t.swept], now):
            table_remove(t, t.swept, now)


# --- flow entries --------------------------------------------------------------------------------------------------

# Where the list that a link is in begins.
cdef inline uint32_t *head_of(session_table *t, const flow_link *tie) noexcept nogil:
    if tie.kind == LINK_LACKS:
        return &t.absent[tie.target]
    if tie.kind == LINK_RECORDS:
        return &t.flows.records.rows[tie.target].flows
    if tie.kind == LINK_LOST:
        return &t.flows.records.lost_flows
    return &t.rows[tie.target].flows


cdef bint flow_tie(session_table *t, uint32_t row, uint8_t kind, uint32_t target, uint8_t way, uint8_t layer) noexcept nogil:
    cdef uint32_t link = link_new(t.flows)
    cdef flow_link *tie = &t.flows.links[link]
    cdef uint32_t *head
    if link == 0:
        return False
    tie.flow = row
    tie.target = target
    tie.kind = kind
    tie.way = way
    tie.layer = layer
    tie.more = t.flows.cold[row].links
    t.flows.cold[row].links = link
    head = head_of(t, tie)
    tie.previous = 0
    tie.next = head[0]
    if tie.next:
        t.flows.links[tie.next].previous = link
    head[0] = link
    return True


cdef void flow_settle(session_table *t, uint32_t row) noexcept nogil:
    cdef flow *f = &t.flows.rows[row]
    cdef flow_cold *cold = &t.flows.cold[row]
    cdef const flow_link *tie
    cdef session *s
    cdef uint32_t link = cold.links, i
    cdef uint64_t seen = t.flows.now - <uint32_t>(<uint32_t>t.flows.now - f.last_seen)
    cdef uint64_t bytes[3]
    if f.packets == 0:
        return
    # by layer, see `effect`
    bytes[0] = bytes[1] = f.bytes
    bytes[2] = f.bytes + <uint64_t>OUTER_SIZE * f.packets
    if f.flags & FLOW_OPENS:
        bytes[0] = t.flows.wide[row].came
        t.flows.wide[row].came = 0
    while link:
        tie = &t.flows.links[link]
        link = tie.more
        if tie.kind == LINK_RECORDS:
            record_add(t.flows.records, tie.target, f.packets, bytes[tie.layer], seen, 0)
        elif tie.kind == LINK_LOST:
            records_lose(t.flows.records, tie.target, window_of(t.flows.records, seen), f.packets)
        if tie.kind != LINK_TOUCHES and tie.kind != LINK_KEEPS:
            continue
        s = &t.rows[tie.target]
        if tie.kind == LINK_TOUCHES:
            s.packets[tie.way] += f.packets
            s.bytes[tie.way] += bytes[tie.layer]
        if seen > s.last_seen:
            s.last_seen = seen
    for i in range(FLOW_COUNTS):
        if not cold.counts[i].used:
            break
        count_gateway(&t.gateways[cold.counts[i].row], cold.counts[i].way, f.packets, bytes[cold.counts[i].layer],
                      bytes[cold.counts[i].layer], True)
    f.packets = 0
    f.bytes = 0


cdef void settle(session_table *t, const session *s) noexcept nogil:
    cdef uint32_t link = s.flows
    while link:
        flow_settle(t, t.flows.links[link].flow)
        link = t.flows.links[link].next


cdef bint alive(session_table *t, session *s, uint64_t now) noexcept nogil:
    if session_alive(s, now):
        return True
    if not s.live or s.flows == 0:
        return False
    settle(t, s)
    return session_alive(s, now)


cdef void flow_retire(session_table *t, uint32_t row) noexcept nogil:
    cdef uint32_t link = t.flows.cold[row].links, following
    cdef flow_link *tie
    flow_settle(t, row)
    while link:
        tie = &t.flows.links[link]
        following = tie.more
        if tie.previous:
            t.flows.links[tie.previous].next = tie.next
        else:
            head_of(t, tie)[0] = tie.next
        if tie.next:
            t.flows.links[tie.next].previous = tie.previous
        link_delete(t.flows, link)
        link = following
    flow_delete(t.flows, row)


cdef void retire_tied(session_table *t, const uint32_t *head) noexcept nogil:
    while head[0]:
        flow_retire(t, t.flows.links[head[0]].flow)


cdef void session_changed(session_table *t, session *s) noexcept nogil:
    s.version += 1
    retire_tied(t, &s.flows)


cdef void flows_age(session_table *t, uint32_t count) noexcept nogil:
    cdef flow_table *flows = t.flows
    cdef const flow *f
    cdef uint32_t _
    for _ in range(count if count < flows.used else flows.used):
        flows.wheel = flows.wheel + 1 if flows.wheel + 1 < flows.used else 0
        f = &flows.rows[flows.wheel]
        if f.word[1] and ((f.epoch != flows.epoch and not flow_holds(t, flows.wheel))
                          or <uint32_t>flows.now - f.last_seen >= <uint32_t>f.idle * 1000):
            flow_retire(t, flows.wheel)


# Entry `row` is of other tables than those in use. Does it hold with these? Then it is of these from now on.
cdef bint flow_holds(session_table *t, uint32_t row) noexcept nogil:
    cdef flow *f = &t.flows.rows[row]
    if not footing_holds(&t.flows.footings, t.flows.cold[row].footing, f.epoch, t.flows.epoch):
        return False
    f.epoch = t.flows.epoch
    return True


cdef void flows_swap(session_table *t, const parts *changes) noexcept nogil:
    t.flows.epoch += 1
    if t.flows.epoch == 0:
        flows_retire(t)
    footings_swap(&t.flows.footings, changes, t.flows.epoch)


cdef void flows_settle(session_table *t) noexcept nogil:
    cdef uint32_t row
    for row in range(t.flows.used):
        flow_settle(t, row)


cdef void flows_retire(session_table *t) noexcept nogil:
    cdef uint32_t row
    for row in range(t.flows.used):
        if t.flows.rows[row].word[1]:
            flow_retire(t, row)


# --- checks --------------------------------------------------------------------------------------------------------

# Every link is in the list of its target, whoever that is, and in that of its entry.
cdef const char *links_broken(session_table *t, uint32_t *where) noexcept nogil:
    cdef uint32_t row, link, behind
    cdef uint64_t own = 0, listed = 0
    cdef const record_table *records = t.flows.records
    for row in range(t.flows.used):
        where[0] = row
        if t.flows.rows[row].word[1] == 0:
            if t.flows.rows[row].packets:
                return b"a flow entry that is gone has not told all"
            continue
        link = t.flows.cold[row].links
        while link:
            own += 1
            if t.flows.links[link].flow != row:
                return b"a link is of another flow entry"
            link = t.flows.links[link].more
    for row in range(t.used + t.mask + 1 + (records.used + 1 if records != NULL else 0)):
        where[0] = row
        if row < t.used:
            link = t.rows[row].flows
        elif row <= t.used + t.mask:
            link = t.absent[row - t.used]
        elif row <= t.used + t.mask + records.used:
            link = records.rows[row - t.used - t.mask - 1].flows
        else:
            link = records.lost_flows
        if link and row < t.used and not t.rows[row].live:
            return b"a flow entry depends on a dead session"
        behind = 0
        while link:
            listed += 1
            if t.flows.links[link].previous != behind or listed > own:
                return b"a list of links is broken"
            behind = link
            link = t.flows.links[link].next
    if listed != own:
        return b"links are missing from a list"
    return records_broken(records, where) if records != NULL else NULL


cdef const char *table_broken(session_table *t, uint32_t *where) noexcept nogil:
    cdef uint32_t i, ref, live = 0, linked = 0, expected = 0, held = 0
    cdef session *s
    for i in range(t.used):
        where[0] = i
        s = &t.rows[i]
        if not s.live:
            continue
        live += 1
        expected += 1 if same_key(&s.key[0], &s.key[1]) else 2
        held += s.opener != 0
        if s.kind == SESSION_NAT and (s.pool >= t.used or not t.rows[s.pool].live or t.rows[s.pool].kind != SESSION_POOL):
            return b"a NAT session has no pool"
        if s.kind == SESSION_BALANCED and s.pool != NO_SESSION \
                and (s.pool >= t.used or not t.rows[s.pool].live or t.rows[s.pool].kind != SESSION_STICKY):
            return b"a balanced session has no row that keeps it together with others"
    if live != t.live:
        return b"the count of living sessions is wrong"
    for i in range(t.ports):
        where[0] = i
        if t.held[i] > held:
            return b"a port has opened more sessions than there are"
        held -= t.held[i]
    if held:
        return b"sessions of some port are not counted"
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
    if t.flows != NULL:
        return links_broken(t, where)
    return NULL


# --- states --------------------------------------------------------------------------------------------------------

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

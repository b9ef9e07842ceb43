"""Flow entries: the memo of a plan, and nothing more.

Deleting any of them at any moment changes no verdict, no byte and no session: a hit does exactly what the
walk would have done again. An entry holds one leg's edit and the sessions the walk touched, each with the
version it had; a session that changed state or died since has another version, and the packet walks. So it does when
a session may have been opened since that the walk had looked for in vain (an untracked flow, a gate that knew nothing).
Packets that can change a state (SYN, FIN, RST, ICMP errors, fragments) and packets that a hop on the path
could refuse (TTL, MTU) always walk.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memset

from fastpath.packet cimport FRAGMENT_NONE, L4_ERROR, ip_bytes, wire_length
from fastpath.reason cimport VERDICT_FORWARD
from fastpath.geneve cimport OUTER_SIZE
from fastpath.plan cimport (ABSENCES, EFFECT_ABSENT, EFFECT_GATEWAY, EFFECT_OPEN, EFFECT_TOUCH, EFFECT_USE, LAYER_AROUND, LAYER_CAME,
                            LAYER_INSIDE, effect)
from fastpath.session cimport SESSION_BALANCED, bucket_of, count_gateway, hash_bytes, note_sequence, session, session_alive
from fastpath.wire cimport PROTO_TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN


cdef bint flows_open(flow_table *t, uint32_t capacity, uint64_t secret) noexcept nogil:
    cdef uint32_t buckets = 1
    while buckets * FLOW_WAYS < capacity:
        buckets *= 2
    memset(t, 0, sizeof(flow_table))
    t.rows = <flow *>calloc(<size_t>buckets * FLOW_WAYS, sizeof(flow))
    t.mask = buckets - 1
    t.secret = secret
    return t.rows != NULL


cdef void flows_close(flow_table *t) noexcept nogil:
    free(t.rows)
    t.rows = NULL


cdef void flows_clear(flow_table *t) noexcept nogil:
    memset(t.rows, 0, <size_t>(t.mask + 1) * FLOW_WAYS * sizeof(flow))


# Keys are compared byte for byte, so every byte of them is set.
cdef void flow_key_of(flow_key *key, const arrival *a) noexcept nogil:
    cdef const packet *p = a.p if a.inside == NULL else a.inside
    memset(key, 0, sizeof(flow_key))
    key.tuple.src = p.src
    key.tuple.dst = p.dst
    key.tuple.sport = p.sport
    key.tuple.dport = p.dport
    key.tuple.proto = p.proto
    key.tuple.family = p.family
    key.context = a.p.context
    key.neighbour = a.p.neighbour
    key.icmp = (<uint32_t>p.kind << 16) | (<uint32_t>p.icmp_type << 8) | p.icmp_code
    if a.inside != NULL:
        key.inside = 1
        key.endpoint = a.head.endpoint
        key.cookie = a.head.cookie
        key.outer_src = <uint32_t>a.p.src.lo
        key.outer_dst = <uint32_t>a.p.dst.lo
        key.outer_sport = a.p.sport


cdef bint may_use_flow(packet *p) noexcept nogil:
    if p.fragment != FRAGMENT_NONE or p.kind == L4_ERROR or p.generated:
        return False
    # of TCP, only what carries an acknowledgement and nothing that opens or closes: its absence means something too
    return p.proto != PROTO_TCP or (p.tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST | TCP_ACK)) == TCP_ACK


cdef inline uint64_t flow_bucket(const flow_table *t, const flow_key *key) noexcept nogil:
    return (<uint32_t>hash_bytes(key, sizeof(flow_key), t.secret) & t.mask) * FLOW_WAYS


# Whether no hop on the way of a packet `q` that comes in `p`, or leaves in another, would refuse it.
cdef bint fits(const flow *f, packet *p, packet *q) noexcept nogil:
    if f.opens:
        if p.ttl <= f.spent_outside or (f.path_mtu[LAYER_INSIDE] and wire_length(q) > f.path_mtu[LAYER_INSIDE]):
            return False
    return f.path_mtu[LAYER_AROUND] == 0 or wire_length(q) + OUTER_SIZE <= f.path_mtu[LAYER_AROUND]


# The entry for this packet if it still stands; its sessions have then been touched. NULL: walk.
cdef flow *flow_hit(flow_table *t, session_table *sessions, const arrival *a, uint32_t generation, uint64_t now) noexcept nogil:
    cdef flow_key key
    cdef flow *f
    cdef session *s
    cdef packet *p = a.p
    cdef packet *q
    cdef uint32_t _, k
    cdef uint32_t bytes[LAYERS]
    flow_key_of(&key, a)
    f = &t.rows[flow_bucket(t, &key)]
    for _ in range(FLOW_WAYS):
        if f.generation == generation and memcmp(&f.key, &key, sizeof(flow_key)) == 0:
            break
        f += 1
    else:
        t.misses += 1
        return NULL
    q = a.inside if f.opens else p
    if q.ttl <= f.edit.to.ttl_spent or (f.path_mtu[LAYER_CAME] and wire_length(p) > f.path_mtu[LAYER_CAME]):
        t.misses += 1
        return NULL
    if (f.opens or f.edit.around.used) and not fits(f, p, q):
        t.misses += 1
        return NULL
    for k in range(f.ref_count):
        s = &sessions.rows[f.refs[k].row]
        if s.version != f.refs[k].version or not session_alive(s, now):
            f.generation = 0
            t.misses += 1
            return NULL
    for k in range(f.absence_count):
        if sessions.opened[f.absences[k].bucket] != f.absences[k].opened:
            f.generation = 0
            t.misses += 1
            return NULL
    bytes[LAYER_CAME] = ip_bytes(p)
    bytes[LAYER_INSIDE] = ip_bytes(q)
    bytes[LAYER_AROUND] = bytes[LAYER_INSIDE] + OUTER_SIZE * q.segments
    for k in range(f.ref_count):
        if f.refs[k].way == WAY_NONE:
            continue
        s = &sessions.rows[f.refs[k].row]
        s.last_seen = now
        s.packets[f.refs[k].way] += p.segments
        s.bytes[f.refs[k].way] += bytes[f.refs[k].layer]
        if s.kind == SESSION_BALANCED:
            note_sequence(s, f.refs[k].way, q)
    for k in range(f.count_count):
        count_gateway(&sessions.gateways[f.counts[k].row], f.counts[k].way, p.segments, bytes[f.counts[k].layer],
                      bytes[f.counts[k].layer], True)
    f.last_used = now
    t.hits += 1
    return f


# Remember a plan that changed nothing but last-seen times and counters; the oldest entry of a full bucket makes room.
cdef void flow_remember(flow_table *t, session_table *sessions, const arrival *a, const plan *x, uint32_t generation,
                        uint64_t now) noexcept nogil:
    cdef flow *bucket
    cdef flow *f
    cdef flow_key key
    cdef const effect *e
    cdef uint32_t i, touched = 0, counted = 0, absent = 0
    # what goes on must be what came, or was inside it: an entry has no room for further legs
    if x.verdict != VERDICT_FORWARD or x.absences > ABSENCES or x.edit.cut_count or x.p != (x.opened if x.opened != NULL else a.p) \
            or (x.opened != NULL and a.inside == NULL):
        return
    for i in range(x.effect_count):
        e = &x.effects[i]
        if e.kind == EFFECT_OPEN or e.kind == EFFECT_ABSENT:
            if e.kind == EFFECT_OPEN and not e.pending:
                return
            absent += 1
        elif e.kind == EFFECT_GATEWAY:
            counted += 1
        elif e.kind == EFFECT_TOUCH and e.changes:
            return
        else:
            touched += 1
    if touched > FLOW_REFS or counted > FLOW_COUNTS or absent > ABSENCES:
        return
    flow_key_of(&key, a)
    bucket = &t.rows[flow_bucket(t, &key)]
    f = bucket
    for i in range(FLOW_WAYS):
        if bucket[i].generation == 0 or memcmp(&bucket[i].key, &key, sizeof(flow_key)) == 0:
            f = &bucket[i]
            break
        if bucket[i].last_used < f.last_used:
            f = &bucket[i]
    memset(f, 0, sizeof(flow))
    f.key = key
    f.generation = generation
    for i in range(LAYERS):
        f.path_mtu[i] = x.path_mtu[i]
    f.opens = x.opened != NULL
    f.spent_outside = x.spent_outside
    f.object = x.object
    f.edit = x.edit
    f.last_used = now
    for i in range(x.effect_count):
        e = &x.effects[i]
        if e.kind == EFFECT_GATEWAY:
            f.counts[f.count_count].row = e.row
            f.counts[f.count_count].way = e.way
            f.counts[f.count_count].layer = e.layer
            f.count_count += 1
        elif e.kind == EFFECT_OPEN or e.kind == EFFECT_ABSENT:
            f.absences[f.absence_count].bucket = bucket_of(sessions, &e.forward)
            f.absences[f.absence_count].opened = sessions.opened[f.absences[f.absence_count].bucket]
            f.absence_count += 1
        else:
            f.refs[f.ref_count].row = e.row
            f.refs[f.ref_count].version = e.version
            f.refs[f.ref_count].way = WAY_NONE if e.kind == EFFECT_USE else e.way
            f.refs[f.ref_count].layer = e.layer
            f.ref_count += 1

"""Flows through tunnels: each gets a member of a spread and a cookie, and comes back by the cookie.

A flow belongs to a tunnel, and packets of both directions are of it: its session is found by the smaller of its tuple
and the reverse of that. The second key is the cookie; whose it is follows from the id in the packets that come back.

Members are chosen by rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates",
1998): each member's weight for a flow is a hash of both, and the heaviest that takes new flows gets it. So a member that
comes or goes moves no other member's flows.
"""

from libc.string cimport memcmp, memset

from fastpath.geneve cimport GENEVE_PORT, OUTER_SIZE, geneve, open_geneve, port_of_cookie, read_geneve
from fastpath.packet cimport (FRAGMENT_FIRST, FRAGMENT_LATER, FRAGMENT_NONE, L4_ERROR, L4_PORTS, MAX_CUTS, addr_eq, addr_lt,
                              check_addresses, outer, packet, start_header, tuple5)
from fastpath.plan cimport *
from fastpath.reason cimport *
from fastpath.session cimport *
from fastpath.snapshot cimport *
from fastpath.tracking cimport ask_for_reset, find, known, open_session, opens_tcp, restarts, session_tuple, touch
from fastpath.wire cimport ETH_HEADER, PROTO_TCP, PROTO_UDP

cdef enum:
    OUTER_TTL = 255
    KEY_COOKIE = 3          # directions that no packet has: keys of these are never taken for those of flows
    KEY_STICKY = 4


# --- keys ----------------------------------------------------------------------------------------------------------

# The key that both directions of a flow have; True: it is the reverse of `t`.
cdef bint flow_key_of(session_key *key, uint32_t owner, const tuple5 *t) noexcept nogil:
    cdef tuple5 reverse
    reverse_tuple(&reverse, t)
    if memcmp(&reverse, t, sizeof(tuple5)) < 0:
        session_key_of(key, owner, 0, &reverse)
        return True
    session_key_of(key, owner, 0, t)
    return False


cdef void cookie_key_of(session_key *key, const tunnel *tn, uint32_t cookie) noexcept nogil:
    cdef tuple5 t
    memset(&t, 0, sizeof(tuple5))
    t.dst.lo = cookie
    session_key_of(key, tn.owner, KEY_COOKIE, &t)


# What of a packet decides about the member, the same both ways.
cdef void sticky_tuple(tuple5 *out, const tuple5 *t, uint32_t stickiness) noexcept nogil:
    cdef bint swap = addr_lt(t.dst, t.src) or (addr_eq(t.src, t.dst) and t.dport < t.sport)
    memset(out, 0, sizeof(tuple5))
    out.family = t.family
    out.src = t.dst if swap else t.src
    out.dst = t.src if swap else t.dst
    if stickiness != STICKY_TWO:
        out.proto = t.proto
    if stickiness == STICKY_FIVE:
        out.sport = t.dport if swap else t.sport
        out.dport = t.sport if swap else t.dport


# A flow is what has one protocol, two addresses and, of TCP and UDP, two ports.
cdef void reduce(tuple5 *t) noexcept nogil:
    if t.proto != PROTO_TCP and t.proto != PROTO_UDP:
        t.sport = t.dport = t.query = 0


# False: it is an error about no flow that can be told.
cdef bint flow_tuple(walker *w, tuple5 *t) noexcept nogil:
    cdef bint told = session_tuple(w, t)
    reduce(t)
    return told


# An ICMP error that is about no known flow is of that of all ICMP between its own addresses.
cdef void own_tuple(walker *w, tuple5 *t) noexcept nogil:
    memset(t, 0, sizeof(tuple5))
    t.src = w.h.src
    t.dst = w.h.dst
    t.proto = w.p.proto
    t.family = w.p.family


cdef void note_piece(walker *w, first_piece *f) noexcept nogil:
    if w.p.fragment != FRAGMENT_FIRST:
        return
    f.sport = w.h.sport
    f.dport = w.h.dport
    f.kind = w.p.kind + 1 + (PIECE_UNSUMMED if w.p.unsummed else 0)
    f.icmp_type = w.p.icmp_type
    f.icmp_code = w.p.icmp_code
    f.query = w.p.query


# --- members -------------------------------------------------------------------------------------------------------

cdef const member *member_of(walker *w, const spread *s, uint32_t number) noexcept nogil:
    cdef uint32_t i
    for i in range(s.first, s.first + s.count):
        if w.t.members[i].number == number:
            return &w.t.members[i]
    return NULL


# The member that a new flow gets; NULL: none takes any. Each endpoint chooses for itself.
cdef const member *choose(walker *w, const tunnel *tn, const tuple5 *t) noexcept nogil:
    cdef const spread *s = &w.t.spreads[tn.spread]
    cdef uint32_t i
    cdef uint64_t weight, best = 0
    cdef const member *found = NULL
    for i in range(s.first, s.first + s.count):
        if not w.t.members[i].takes_new:
            continue
        weight = hash_bytes(t, sizeof(tuple5), w.seed ^ tn.owner ^ (<uint64_t>w.t.members[i].number << 32))
        if found == NULL or weight > best:
            found = &w.t.members[i]
            best = weight
    return found


# The member for a flow that has none, or none any more. `key`: what it is kept together by; owner 0: nothing.
cdef const member *assign(walker *w, const tunnel *tn, const tuple5 *t, session_key *key) noexcept nogil:
    cdef const spread *s = &w.t.spreads[tn.spread]
    cdef const member *m
    cdef uint32_t sticky
    cdef tuple5 reduced
    sticky_tuple(&reduced, t, s.stickiness)
    memset(key, 0, sizeof(session_key))
    if s.stickiness != STICKY_FIVE:
        reduced.query = <uint8_t>s.stickiness
        session_key_of(key, tn.owner, KEY_STICKY, &reduced)
        sticky = table_find(w.sessions, key, w.now)
        if sticky != NO_SESSION:
            m = member_of(w, s, w.sessions.rows[sticky >> 1].target)
            if m != NULL and m.keeps:
                return m
    return choose(w, tn, &reduced)


# A cookie that no flow of the endpoint has. Where to start looking is a hash keyed by seed and endpoint, so the same lab
# and packets give the same cookies; and by how often a flow was opened there, so a flow that begins anew has another one.
cdef uint32_t allocate_cookie(walker *w, const tunnel *tn, const session_key *flow, session_key *key) noexcept nogil:
    cdef uint64_t before = openings(w.sessions, flow)[0]
    cdef uint32_t cookie = <uint32_t>hash_bytes(flow, sizeof(session_key), w.seed ^ tn.owner ^ (before << 32))
    cdef known taken
    while True:
        if cookie:
            cookie_key_of(key, tn, cookie)
            if not find(w, key, &taken):
                return cookie
        cookie += 1


# --- the way in ----------------------------------------------------------------------------------------------------

# From here on it is the packet around it that travels.
cdef bint put_inside(walker *w, const node *n, const tunnel *tn, const member *m, uint32_t cookie) noexcept nogil:
    cdef packet *p = w.p
    cdef packet *q
    cdef outer *o = &w.out.edit.around
    if w.legs.count == MAX_LEGS:
        drop(w, n, REASON_LOOP, 0)
        return False
    if w.out.edit.cut_count == MAX_CUTS:
        drop(w, n, REASON_PLAN_LIMIT, 0)
        return False
    o.endpoint = tn.endpoint_id
    o.src = tn.source
    o.dst = m.address
    o.cookie = cookie
    o.sport = port_of_cookie(cookie)
    o.dport = GENEVE_PORT
    o.ttl = OUTER_TTL
    o.used = 1
    o.cuts_inside = <uint8_t>w.out.edit.cut_count
    q = &w.legs.legs[w.legs.count]
    w.legs.count += 1
    # Nothing of it is written before it leaves: it has no frame. Lengths are those of the packets it stands for.
    memset(q, 0, sizeof(packet))
    q.l3 = ETH_HEADER
    q.l4 = ETH_HEADER + 20
    q.end = p.end - p.l3 + ETH_HEADER + OUTER_SIZE
    q.length = q.end
    q.context = p.context
    q.family = 4
    q.proto = PROTO_UDP
    q.kind = L4_PORTS
    q.ttl = OUTER_TTL
    q.generated = 1
    q.segments = p.segments
    q.gso_size = p.gso_size
    if p.gso_size:
        q.header_length = <uint16_t>(p.header_length - p.l3 + ETH_HEADER + OUTER_SIZE)
    q.src.lo = o.src
    q.dst.lo = o.dst
    q.sport = o.sport
    q.dport = o.dport
    w.p = q
    w.h = &w.around
    start_header(w.h, q)
    w.layer = LAYER_AROUND
    note_tunnel(w, n, DETAIL_ENCAPSULATED, tn.owner, m.number, cookie)
    return True


cdef bint encapsulate(walker *w, const node *n) noexcept nogil:
    cdef tunnel *tn = &w.t.tunnels[n.table]
    cdef const spread *s = &w.t.spreads[tn.spread]
    cdef const member *m
    cdef const member *other
    cdef tuple5 t
    cdef session_key key, cookie_key, sticky
    cdef known k
    cdef effect *e
    cdef bint told, found, flipped, error = w.p.kind == L4_ERROR
    cdef uint32_t cookie
    if w.layer == LAYER_AROUND:
        drop(w, n, REASON_GENEVE_NESTED, 0)
        return False
    told = flow_tuple(w, &t)
    flipped = flow_key_of(&key, tn.owner, &t)
    found = told and find(w, &key, &k) and k.kind == SESSION_BALANCED
    if error and not found:
        own_tuple(w, &t)
        flipped = flow_key_of(&key, tn.owner, &t)
        found = find(w, &key, &k) and k.kind == SESSION_BALANCED
        error = False
    if found and not restarts(w, &k):
        if k.planned != NULL:
            drop(w, n, REASON_LOOP, 0)      # it was here before
            return False
        cookie = k.s.cookie
        m = member_of(w, s, k.s.target)
        if not error and (m == NULL or not m.keeps):
            other = assign(w, tn, &t, &sticky)
            if other != NULL:
                m = other
        if m == NULL:
            drop(w, n, REASON_BALANCER_NO_TARGET, 0)
            return False
        if not error:
            k.way = 1 if flipped != (k.s.flipped != 0) else 0
            if not touch(w, n, &k, &tn.limits):
                return False
            e = &w.out.effects[w.out.effect_count - 1]
            e.cookie = cookie
            e.flipped = k.s.flipped
            e.target = m.number
            e.changes |= m.number != k.s.target
            note_piece(w, &e.piece)
        return put_inside(w, n, tn, m, cookie)
    if w.p.proto == PROTO_TCP and not opens_tcp(w):
        if tn.flags & TUNNEL_RESETS:
            ask_for_reset(w, tn.interface)
        drop(w, n, REASON_BALANCER_NO_FLOW, 0)
        return False
    m = assign(w, tn, &t, &sticky)
    if m == NULL:
        drop(w, n, REASON_BALANCER_NO_TARGET, 0)
        return False
    cookie = allocate_cookie(w, tn, &key, &cookie_key)
    e = open_session(w, n, SESSION_BALANCED, 0, &key, &cookie_key, &tn.limits, False)
    if e == NULL:
        return False
    e.cookie = cookie
    e.target = m.number
    e.flipped = flipped
    e.pool = sticky
    note_piece(w, &e.piece)
    return put_inside(w, n, tn, m, cookie)


# --- the way back --------------------------------------------------------------------------------------------------

# A later fragment says nothing but its addresses: what else it is follows from the first one that went its way.
cdef uint16_t follow_flow(packet *q, known *k) noexcept nogil:
    cdef const tuple5 *t = &k.forward.tuple
    cdef const first_piece *f
    cdef bint same = addr_eq(q.src, t.src) and addr_eq(q.dst, t.dst)
    if q.proto != t.proto or q.family != t.family or not (same or (addr_eq(q.src, t.dst) and addr_eq(q.dst, t.src))):
        return REASON_GENEVE_FLOW_CHANGED
    f = &k.s.piece[same == (k.s.flipped != 0)]
    if not f.kind:
        return REASON_GENEVE_FRAGMENT
    q.sport = f.sport
    q.dport = f.dport
    q.kind = (f.kind & ~PIECE_UNSUMMED) - 1
    q.icmp_type = f.icmp_type
    q.icmp_code = f.icmp_code
    q.query = f.query
    q.unsummed = f.kind & PIECE_UNSUMMED != 0
    return REASON_NONE


# Why `w.p`, which has come out of a packet with the cookie of flow `k`, is not of that flow. If it is, `k` says which way it
# goes, and `about` whether it is only an error about the flow: anybody may say so, and nothing changes because of that.
cdef uint16_t wrong_flow(walker *w, known *k, bint *about) noexcept nogil:
    cdef session_key key
    cdef tuple5 t
    cdef uint16_t reason
    cdef bint flipped
    about[0] = False
    if w.p.fragment == FRAGMENT_LATER:
        reason = follow_flow(w.p, k)
        if reason:
            return reason
        start_header(w.h, w.p)
    about[0] = w.p.kind == L4_ERROR and flow_tuple(w, &t)
    if about[0]:
        flow_key_of(&key, k.forward.owner, &t)
        if same_key(&key, k.forward):
            return REASON_NONE
        about[0] = False
    if w.p.kind == L4_ERROR:
        own_tuple(w, &t)
    else:
        flow_tuple(w, &t)
    flipped = flow_key_of(&key, k.forward.owner, &t)
    k.way = flipped != (k.s.flipped != 0)
    return REASON_NONE if same_key(&key, k.forward) else REASON_GENEVE_FLOW_CHANGED


cdef uint32_t decapsulate(walker *w, const node *n) noexcept nogil:
    cdef packet *p = w.p
    cdef packet *q
    cdef geneve g
    cdef session_key key
    cdef known k
    cdef effect *e
    cdef tunnel *tn
    cdef const member *m = NULL
    cdef bint about
    cdef uint32_t sport = w.h.sport, source = <uint32_t>w.h.src.lo
    cdef uint16_t reason
    if p.family != 4 or p.proto != PROTO_UDP or w.h.dport != GENEVE_PORT:
        return n.other
    if w.layer != LAYER_CAME:
        drop(w, n, REASON_GENEVE_NESTED, 0)
        return 0
    if p.fragment != FRAGMENT_NONE or w.out.edit.cut_count:
        drop(w, n, REASON_GENEVE_FRAGMENT, 0)
        return 0
    reason = read_geneve(p, &g)
    if reason == REASON_NONE and w.legs.count == MAX_LEGS:
        reason = REASON_LOOP
    if reason:
        drop(w, n, reason, 0)
        return 0
    q = &w.legs.legs[w.legs.count]
    reason = open_geneve(p, &g, q)
    if reason == REASON_NONE and not (g.has_endpoint and g.has_cookie):
        reason = REASON_GENEVE_OPTIONS_MISSING
    if reason:
        drop(w, n, reason, 0)
        return 0
    tn = tunnel_with_id(w.t, g.endpoint)
    if tn != NULL:
        cookie_key_of(&key, tn, g.cookie)
    if tn == NULL or tn.balancer != n.value or not find(w, &key, &k) or k.kind != SESSION_BALANCED or k.planned != NULL:
        drop(w, n, REASON_GENEVE_COOKIE_UNKNOWN, 0)
        return 0
    m = member_of(w, &w.t.spreads[tn.spread], k.s.target)
    if m == NULL or m.address != source:
        drop(w, n, REASON_GENEVE_SENDER, 0)
        return 0
    if sport != port_of_cookie(g.cookie):
        drop(w, n, REASON_GENEVE_PORTS, 0)
        return 0
    w.legs.count += 1
    w.out.spent_outside = w.h.ttl_spent
    w.out.opened = q
    w.out.p = q
    w.p = q
    start_header(w.h, q)
    w.layer = LAYER_INSIDE
    reason = wrong_flow(w, &k, &about)
    if reason == REASON_NONE:
        reason = <uint16_t>check_addresses(q)
    if reason:
        drop(w, n, reason, 0)
        return 0
    if not about:
        if not touch(w, n, &k, &tn.limits):
            return 0
        e = &w.out.effects[w.out.effect_count - 1]
        e.counted = True
        e.cookie = k.s.cookie
        e.flipped = k.s.flipped
        e.target = k.s.target
    note_tunnel(w, n, DETAIL_DECAPSULATED, tn.owner, m.number, g.cookie)
    return tn.resume

"""The walk: one packet through the graph of nodes, to a verdict.

A walk is a *plan*: it reads tables and sessions and changes nothing. What should change (edits, sessions to
open or touch, an error to send) is written into the plan, in the order of the nodes; the engine commits it
afterwards, also when a later node drops the packet: the hops before had let it pass. It raises nothing,
allocates nothing, takes no lock, and visits at most MAX_STEPS nodes, so a loop is a drop reason.

`overlay`, when given, is a second session table consulted before the first: a trace commits into it, so
that the reply of a traced packet finds the sessions that packet would have opened.
"""

from libc.string cimport memset

from fastpath.packet cimport (FRAGMENT_LATER, FRAGMENT_NONE, L4_ERROR, L4_ICMP, L4_PORTS, L4_QUERY, addr_eq, addr_lt, wire_length)
from fastpath.reason cimport *
from fastpath.session cimport *
from fastpath.snapshot cimport *
from fastpath.wire cimport PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP, TCP_ACK, TCP_SYN

cdef enum:
    VIA_NAT = 4             # a flow through a translator is tracked whatever the rules say

cdef struct walker:
    tables *t
    session_table *sessions
    session_table *overlay
    packet *p
    plan *out
    header *h               # header values as they are now
    header entry            # and as they were when the packet entered the present realm
    uint64_t now
    uint64_t seed
    trace_buffer *trace


cdef void note(walker *w, const node *n, uint8_t detail, uint32_t rule, uint32_t row=0) noexcept nogil:
    cdef hop *x
    if w.trace == NULL or w.trace.count >= MAX_HOPS:
        return
    x = &w.trace.hops[w.trace.count]
    w.trace.count += 1
    x.op = n.op
    x.mode = n.mode
    x.detail = detail
    x.object = n.object
    x.rule = rule
    x.row = row
    x.realm = w.out.meta.realm
    x.src = w.h.src
    x.dst = w.h.dst
    x.sport = w.h.sport
    x.dport = w.h.dport


cdef void drop(walker *w, const node *n, uint16_t reason, uint32_t rule) noexcept nogil:
    w.out.verdict = VERDICT_DROP
    w.out.reason = reason
    w.out.object = n.object
    w.out.rule = rule
    note(w, n, DETAIL_DROPPED, rule)


# --- filters -------------------------------------------------------------------------------------------------------

cdef bint rule_matches(walker *w, const rule *r, addr remote) noexcept nogil:
    cdef packet *p = w.p
    if r.protocol >= 0:
        if r.protocol != p.proto:
            return False
        if p.proto == PROTO_TCP or p.proto == PROTO_UDP:
            if not r.any_port and (w.h.dport < r.port_first or w.h.dport > r.port_last):
                return False
        elif p.proto == PROTO_ICMP or p.proto == PROTO_ICMPV6:
            if r.icmp_type >= 0 and r.icmp_type != p.icmp_type:
                return False
            if r.icmp_code >= 0 and r.icmp_code != p.icmp_code:
                return False
    if r.family:
        if r.family != p.family:
            return False
        return not addr_lt(remote, r.first) and not addr_lt(r.last, remote)
    if r.table:
        return interval_find(&w.t.intervals[r.table - 1], p.family, remote) != 0
    return w.out.meta.groups != 0 and group_set_has(w.t, w.out.meta.groups - 1, r.group)


# The first rule that matches, or NULL.
cdef const rule *first_match(walker *w, const rule_list *l, addr remote) noexcept nogil:
    cdef uint32_t i
    for i in range(l.first, l.first + l.count):
        if rule_matches(w, &w.t.rules[i], remote):
            return &w.t.rules[i]
    return NULL


# --- sessions ------------------------------------------------------------------------------------------------------

# The tuple that the sessions of this packet's flow are found by. An ICMP error goes the way of a reply to the
# packet it quotes, so that packet's tuple, reversed, is its own.
cdef void session_tuple(walker *w, tuple5 *t) noexcept nogil:
    cdef packet *p = w.p
    memset(t, 0, sizeof(tuple5))
    t.family = p.family
    if p.kind == L4_ERROR and p.inner_known:
        t.src = w.h.inner_dst
        t.dst = w.h.inner_src
        t.sport = w.h.inner_dport
        t.dport = w.h.inner_sport
        t.proto = p.inner_proto
        t.query = p.inner_query ^ 1 if p.inner_query else 0
    else:
        t.src = w.h.src
        t.dst = w.h.dst
        t.sport = w.h.sport
        t.dport = w.h.dport
        t.proto = p.proto
        t.query = p.query


cdef session *find_session(walker *w, const session_key *key, int *way, uint32_t *row) noexcept nogil:
    cdef uint32_t ref
    cdef session_table *table = w.sessions
    if w.overlay != NULL:
        ref = table_find(w.overlay, key, w.now)
        if ref != NO_SESSION:
            table = w.overlay
        else:
            ref = table_find(w.sessions, key, w.now)
    else:
        ref = table_find(w.sessions, key, w.now)
    if ref == NO_SESSION:
        return NULL
    way[0] = <int>(ref & 1)
    row[0] = ref >> 1
    return &table.rows[ref >> 1]


cdef effect *add_effect(walker *w, const node *n) noexcept nogil:
    cdef effect *e
    if w.out.effect_count >= MAX_EFFECTS:
        drop(w, n, REASON_PLAN_LIMIT, 0)
        return NULL
    e = &w.out.effects[w.out.effect_count]
    w.out.effect_count += 1
    memset(e, 0, sizeof(effect))
    return e


cdef bint touch_session(walker *w, const node *n, session *s, int way, uint32_t row, const timeouts *limits) noexcept nogil:
    cdef effect *e = add_effect(w, n)
    if e == NULL:
        return False
    e.kind = EFFECT_TOUCH
    e.row = row
    e.version = s.version
    e.way = <uint8_t>way
    e.forward = s.key[0]
    e.reply = s.key[1]
    e.session_kind = s.kind
    e.rule = s.rule
    session_next(&e.step, s, way, w.p.tcp_flags, limits)
    e.changes = e.step.state != s.state or e.step.seen != s.seen or e.step.idle != s.idle
    return True


cdef effect *open_session(walker *w, const node *n, uint8_t kind, uint32_t rule_number, const session_key *forward,
                          const session_key *reply, const timeouts *limits) noexcept nogil:
    cdef effect *e
    if w.overlay == NULL and w.sessions.live + 2 * (w.out.effect_count + 1) > w.sessions.capacity:
        drop(w, n, REASON_SESSION_LIMIT, 0)
        return NULL
    e = add_effect(w, n)
    if e == NULL:
        return NULL
    e.kind = EFFECT_OPEN
    e.session_kind = kind
    e.rule = rule_number
    e.forward = forward[0]
    e.reply = reply[0]
    session_begin(&e.step, forward.tuple.proto, w.p.tcp_flags, limits)
    return e


# A SYN on a session that is closing starts a new connection with the same ports.
cdef inline bint restarts(walker *w, const session *s) noexcept nogil:
    return (s.state == STATE_CLOSING and w.p.proto == PROTO_TCP
            and (w.p.tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)


cdef inline uint8_t open_bit(packet *p) noexcept nogil:
    return <uint8_t>((1 if p.family == 4 else 4) << (1 if p.proto == PROTO_UDP else 0))


# Is this the response to a flow that the other direction admits from anywhere? Its far port is then the
# near port of this packet.
cdef bint answers_open_rule(walker *w, const rule_list *other) noexcept nogil:
    cdef uint32_t i
    cdef const rule *r
    for i in range(other.first, other.first + other.count):
        r = &w.t.rules[i]
        if r.any_address and r.family == w.p.family and (r.protocol == -1 or r.protocol == w.p.proto) \
                and (r.any_port or r.protocol == -1 or (r.port_first <= w.h.sport <= r.port_last)):
            return True
    return False


# A TCP or UDP flow is not tracked when one direction admits it from anywhere and the other admits all ports from
# anywhere (EC2 User Guide, "Untracked connections"); that holds for its requests and for its responses.
cdef bint is_untracked(walker *w, group_policy *policy, const rule *admitting, bint egress) noexcept nogil:
    cdef uint8_t bit = open_bit(w.p)
    cdef bint here = ((policy.egress_open if egress else policy.ingress_open) & bit) != 0
    cdef bint there = ((policy.ingress_open if egress else policy.egress_open) & bit) != 0
    if (w.p.proto != PROTO_TCP and w.p.proto != PROTO_UDP) or not admitting.any_address or (w.out.meta.via & VIA_NAT):
        return False
    return there or (here and answers_open_rule(w, &policy.ingress if egress else &policy.egress))


cdef bint group_session(walker *w, const node *n) noexcept nogil:
    cdef group_policy *policy = &w.t.group_policies[n.table]
    cdef bint egress = n.mode == DIRECTION_EGRESS
    cdef rule_list *rules = &policy.egress if egress else &policy.ingress
    cdef addr remote = w.h.dst if egress else w.h.src
    cdef tuple5 t, reversed_tuple
    cdef session_key key, back
    cdef session *s
    cdef const rule *admitting = NULL
    cdef const rule *r
    cdef effect *e
    cdef int way = 0
    cdef uint32_t row = 0
    cdef uint32_t i
    cdef bint untracked
    session_tuple(w, &t)
    session_key_of(&key, policy.owner, n.mode, &t)
    s = find_session(w, &key, &way, &row)
    if s != NULL and not restarts(w, s):
        if w.p.kind == L4_ERROR:
            note(w, n, DETAIL_RELATED, s.rule, row)
            return True
        if not touch_session(w, n, s, way, row, &policy.limits):
            return False
        note(w, n, DETAIL_KNOWN, s.rule, row)
        return True
    # Rules are a union without order; which of several that admit counts matters only for tracking, and there
    # "from anywhere" wins wherever it was written.
    for i in range(rules.first, rules.first + rules.count):
        r = &w.t.rules[i]
        if rule_matches(w, r, remote):
            if admitting == NULL or (r.any_address and not admitting.any_address):
                admitting = r
    if admitting == NULL:
        drop(w, n, REASON_GROUP_EGRESS if egress else REASON_GROUP_INGRESS, 0)
        return False
    if w.p.kind == L4_ERROR or w.p.kind == L4_ICMP:
        # nothing is to be expected in answer
        note(w, n, DETAIL_PASSED, admitting.number)
        return True
    untracked = is_untracked(w, policy, admitting, egress)
    reverse_tuple(&reversed_tuple, &t)
    session_key_of(&back, policy.owner, DIRECTION_INGRESS if egress else DIRECTION_EGRESS, &reversed_tuple)
    e = open_session(w, n, SESSION_GROUP, admitting.number, &key, &back, &policy.limits)
    if e == NULL:
        return False
    e.pending = untracked
    note(w, n, DETAIL_UNTRACKED if untracked else DETAIL_NEW, admitting.number)
    return True


# --- port translation ----------------------------------------------------------------------------------------------

cdef bint is_own_address(walker *w, nat_policy *policy, addr a) noexcept nogil:
    cdef uint32_t i
    for i in range(policy.address_count):
        if addr_eq(w.t.addresses[policy.first_address + i], a):
            return True
    return False


# Choose an own address and a port whose reply tuple is free. Where to start is a hash of the tuple keyed by
# seed and owner, so the same lab and packets give the same ports, whatever else the lab holds.
cdef bint nat_allocate(walker *w, nat_policy *policy, const tuple5 *t, session_key *reply, session_key *pool) noexcept nogil:
    cdef uint64_t start = hash_bytes(t, sizeof(tuple5), w.seed ^ policy.owner)
    cdef uint32_t span = policy.port_last - policy.port_first + 1
    cdef uint32_t a, i, row = 0
    cdef int way = 0
    cdef tuple5 r
    cdef session *counted
    for a in range(policy.address_count):
        memset(&r, 0, sizeof(tuple5))
        r.family = t.family
        r.proto = t.proto
        r.src = w.t.addresses[policy.first_address + (start + a) % policy.address_count]
        r.dst = t.dst
        r.dport = t.dport
        session_key_of(pool, policy.owner, 0, &r)
        pool.tuple.family = 0   # no packet has it: a counter is never mistaken for a flow
        counted = find_session(w, pool, &way, &row)
        if counted != NULL and counted.packets[0] >= policy.per_destination:
            continue
        r.dst = r.src
        r.src = t.dst
        r.sport = t.dport
        r.query = t.query ^ 1 if t.query else 0
        for i in range(span):
            r.dport = <uint16_t>(policy.port_first + ((start >> 20) + i) % span)
            session_key_of(reply, policy.owner, 0, &r)
            if find_session(w, reply, &way, &row) == NULL:
                return True
    return False


cdef bint nat_session(walker *w, const node *n) noexcept nogil:
    cdef nat_policy *policy = &w.t.nat_policies[n.table]
    cdef packet *p = w.p
    cdef tuple5 t
    cdef session_key key, reply, pool
    cdef session *s
    cdef effect *e
    cdef uint32_t i, row = 0
    cdef int way = 0
    cdef bint inbound = is_own_address(w, policy, w.h.dst)
    cdef bint error = p.kind == L4_ERROR
    cdef uint8_t detail = DETAIL_NEW
    for i in range(w.out.effect_count):
        w.out.effects[i].pending = 0
    if p.family != 4 or not (p.proto == PROTO_TCP or p.proto == PROTO_UDP or p.proto == PROTO_ICMP):
        drop(w, n, REASON_NAT_PROTOCOL, 0)
        return False
    if p.fragment != FRAGMENT_NONE and p.proto != PROTO_UDP:
        drop(w, n, REASON_NAT_FRAGMENT, 0)
        return False
    if not (p.kind == L4_PORTS or p.kind == L4_QUERY or error):
        drop(w, n, REASON_NAT_PROTOCOL, 0)
        return False
    session_tuple(w, &t)
    session_key_of(&key, policy.owner, 0, &t)
    s = find_session(w, &key, &way, &row)
    if s != NULL and (s.kind != SESSION_NAT or way != (1 if inbound else 0)):
        s = NULL
    if inbound:
        if s == NULL or restarts(w, s):
            drop(w, n, REASON_NAT_NO_SESSION, 0)
            return False
        if not error and not touch_session(w, n, s, 1, row, &policy.limits):
            return False
        w.h.dst = s.key[0].tuple.src
        if error:
            w.h.inner_src = s.key[0].tuple.src
            w.h.inner_sport = s.key[0].tuple.sport
        else:
            w.h.dport = s.key[0].tuple.sport
        note(w, n, DETAIL_INBOUND, 0, row)
        return True
    if s != NULL and not restarts(w, s):
        if not error and not touch_session(w, n, s, 0, row, &policy.limits):
            return False
        reply = s.key[1]
        detail = DETAIL_KNOWN
    else:
        # only what can be the start of a flow opens one: not an error, not the answer to a query, not the middle
        # of a connection
        if error or (p.query & 1) or (p.proto == PROTO_TCP and (p.tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN):
            drop(w, n, REASON_NAT_NO_SESSION, 0)
            return False
        if not nat_allocate(w, policy, &t, &reply, &pool):
            drop(w, n, REASON_NAT_PORTS_EXHAUSTED, 0)
            return False
        e = open_session(w, n, SESSION_NAT, 0, &key, &reply, &policy.limits)
        if e == NULL:
            return False
        e.pool = pool
    w.h.src = reply.tuple.dst
    if error:
        w.h.inner_dst = reply.tuple.dst
        w.h.inner_dport = reply.tuple.dport
    else:
        w.h.sport = reply.tuple.dport
    note(w, n, detail, 0, row)
    return True


# --- the other nodes -----------------------------------------------------------------------------------------------

cdef bint guard_passes(walker *w, const node *n) noexcept nogil:
    cdef bint holds
    if n.mode == TEST_VIA:
        holds = (w.out.meta.via & n.value) != 0
    else:
        holds = interval_find(&w.t.intervals[n.table], w.p.family,
                              w.h.src if n.mode == TEST_SOURCE_IN else w.h.dst) != 0
    return holds != ((n.flags & FLAG_NEGATE) != 0)


cdef bint rewrite(walker *w, const node *n) noexcept nogil:
    cdef translation *m = &w.t.maps[n.table]
    cdef uint32_t hit
    cdef bint source = n.mode == SIDE_SOURCE
    cdef interval_table *keys = &w.t.intervals[m.inside_table if source else m.outside_table]
    if w.p.family != 4:
        note(w, n, DETAIL_SKIPPED, 0)
        return True
    hit = interval_find(keys, 4, w.h.src if source else w.h.dst)
    if hit == 0:
        drop(w, n, n.reason, 0)
        return False
    if source:
        w.h.src = w.t.addresses[hit - 1]
    else:
        w.h.dst = w.t.addresses[hit - 1]
    if w.p.kind == L4_ERROR and w.p.inner_known:
        hit = interval_find(keys, 4, w.h.inner_dst if source else w.h.inner_src)
        if hit:
            if source:
                w.h.inner_dst = w.t.addresses[hit - 1]
            else:
                w.h.inner_src = w.t.addresses[hit - 1]
    note(w, n, DETAIL_PASSED, 0)
    return True


cdef void ask_for_error(walker *w, const node *n, uint8_t kind) noexcept nogil:
    cdef plan *o = w.out
    if w.p.kind == L4_ERROR or w.p.fragment == FRAGMENT_LATER or w.p.generated:
        return
    o.error_routed = n.extra != 0
    o.error_interface = n.extra if n.extra else o.meta.origin
    if o.error_interface == 0:
        return
    o.error = kind
    o.error_mtu = n.mtu
    o.error_view = w.entry


cdef bint pass_hop(walker *w, const node *n) noexcept nogil:
    cdef uint8_t detail = DETAIL_PASSED
    if n.mode != TTL_KEEP:
        if w.p.ttl <= w.h.ttl_spent + 1:
            if n.mode == TTL_ANSWER:
                ask_for_error(w, n, ERROR_TTL)
            drop(w, n, REASON_TTL_EXCEEDED, 0)
            return False
        w.h.ttl_spent += 1
    if n.mtu and (w.out.path_mtu == 0 or n.mtu < w.out.path_mtu):
        w.out.path_mtu = n.mtu
    if n.mtu and wire_length(w.p) > n.mtu:
        if w.p.dont_fragment:
            if n.flags & FLAG_ANSWERS_MTU:
                ask_for_error(w, n, ERROR_TOO_BIG)
            drop(w, n, REASON_MTU_EXCEEDED, 0)
            return False
        if w.out.edit.mtu == 0 or n.mtu < w.out.edit.mtu:
            w.out.edit.mtu = n.mtu
        detail = DETAIL_FRAGMENTS
    note(w, n, detail, 0)
    return True


cdef void enter(walker *w, const node *n) noexcept nogil:
    cdef metadata *m = &w.out.meta
    m.realm = n.value
    m.via |= n.via
    if n.extra:
        m.origin = n.extra
        m.subnet = w.t.interfaces[n.extra - 1].subnet
        m.zone = w.t.interfaces[n.extra - 1].zone
    else:
        m.subnet = n.table
        if not (n.flags & FLAG_KEEP_GROUPS):
            m.origin = 0
    if not (n.flags & FLAG_KEEP_GROUPS):
        m.groups = 0
    w.entry = w.h[0]
    note(w, n, DETAIL_PASSED, 0)


cdef void emit(walker *w, const node *n) noexcept nogil:
    cdef interface *to = &w.t.interfaces[n.extra - 1]
    cdef metadata *m = &w.out.meta
    cdef uint8_t *source = to.router_mac
    cdef int i
    if to.port == 0:
        drop(w, n, REASON_PORT_DOWN, 0)
        return
    if w.p.neighbour and m.origin:
        source = w.t.interfaces[m.origin - 1].mac
    for i in range(6):
        w.out.edit.dst_mac[i] = to.mac[i]
        w.out.edit.src_mac[i] = source[i]
    w.out.edit.port = to.port
    w.out.verdict = VERDICT_FORWARD
    w.out.object = n.object
    note(w, n, DETAIL_PASSED, 0)


# The subnet router answers echo requests to its own address from inside the subnet, and nothing else.
cdef void serve(walker *w, const node *n) noexcept nogil:
    cdef uint32_t origin = w.out.meta.origin
    cdef interface *i
    cdef bint own
    if origin == 0 or w.out.meta.via or w.p.kind != L4_QUERY or w.p.icmp_type != (8 if w.p.family == 4 else 128) \
            or w.p.fragment != FRAGMENT_NONE:
        drop(w, n, REASON_NOT_SERVED, 0)
        return
    i = &w.t.interfaces[origin - 1]
    own = (i.has_router4 and addr_eq(i.router4, w.h.dst)) if w.p.family == 4 else (i.has_router6 and addr_eq(i.router6, w.h.dst))
    if not own:
        drop(w, n, REASON_NOT_SERVED, 0)
        return
    w.out.verdict = VERDICT_SERVE
    w.out.served = 1
    w.out.object = n.object
    note(w, n, DETAIL_PASSED, 0)


cdef void start_metadata(tables *t, uint32_t interface_index, metadata *m) noexcept nogil:
    cdef interface *i = &t.interfaces[interface_index - 1]
    memset(m, 0, sizeof(metadata))
    m.realm = i.realm
    m.subnet = i.subnet
    m.zone = i.zone
    m.origin = interface_index
    m.groups = i.groups


cdef void walk(tables *t, session_table *sessions, session_table *overlay, packet *p, plan *out,
               uint32_t at, const metadata *start, uint64_t now, uint64_t seed, trace_buffer *trace) noexcept nogil:
    cdef walker w
    cdef const node *n
    cdef const rule *r
    cdef uint32_t hit
    cdef int _
    cdef header *h = &out.edit.to
    memset(out, 0, sizeof(plan))
    out.meta = start[0]
    h.src = p.src
    h.dst = p.dst
    h.sport = p.sport
    h.dport = p.dport
    h.inner_src = p.inner_src
    h.inner_dst = p.inner_dst
    h.inner_sport = p.inner_sport
    h.inner_dport = p.inner_dport
    w.t = t
    w.sessions = sessions
    w.overlay = overlay
    w.p = p
    w.out = out
    w.h = h
    w.entry = h[0]
    w.now = now
    w.seed = seed
    w.trace = trace
    for _ in range(MAX_STEPS):
        n = &t.nodes[at]
        if n.op == OP_GUARD:
            if (n.family and n.family != p.family) or guard_passes(&w, n):
                at = n.next
            elif n.other:
                at = n.other
            else:
                drop(&w, n, n.reason, 0)
                break
        elif n.op == OP_BRIDGE:
            at = p.neighbour if p.neighbour else n.next
        elif n.op == OP_FILTER:
            if n.value and out.meta.subnet == n.value:
                note(&w, n, DETAIL_SKIPPED, 0)
                at = n.next
                continue
            r = first_match(&w, &t.filters[n.table], h.src if n.mode == SIDE_SOURCE else h.dst)
            if r == NULL or not r.allow:
                drop(&w, n, n.reason, r.number if r != NULL else 0)
                break
            note(&w, n, DETAIL_PASSED, r.number)
            at = n.next
        elif n.op == OP_GROUP_SESSION:
            if not group_session(&w, n):
                break
            at = n.next
        elif n.op == OP_NAT_SESSION:
            if not nat_session(&w, n):
                break
            at = n.next
        elif n.op == OP_LOOKUP:
            hit = interval_find(&t.intervals[n.table], p.family, h.dst)
            if hit == 0:
                drop(&w, n, n.reason, 0)
                break
            note(&w, n, DETAIL_PASSED, t.routes[hit - 1].rule)
            out.rule = t.routes[hit - 1].rule
            at = t.routes[hit - 1].node
        elif n.op == OP_REWRITE:
            if not rewrite(&w, n):
                break
            at = n.next
        elif n.op == OP_HOP:
            if not pass_hop(&w, n):
                break
            at = n.next
        elif n.op == OP_ENTER:
            enter(&w, n)
            at = n.next
        elif n.op == OP_EMIT:
            emit(&w, n)
            out.rule = 0
            break
        elif n.op == OP_SERVE:
            serve(&w, n)
            break
        else:
            # a route led here (a blackhole): the route is what decided
            drop(&w, n, n.reason, out.rule)
            break
    else:
        drop(&w, &t.nodes[at], REASON_LOOP, 0)

"""Port translation (RFC 3022, RFC 4787 with address and port-dependent mapping and filtering, RFC 5508 for ICMP).

A flow from inside gets one of the policy's addresses and a port that no flow to the same destination has there; the
answer finds it by that. Everything that arrives is counted at the policy's gateway, and what leaves again.
"""

from libc.string cimport memset

from fastpath.packet cimport FRAGMENT_NONE, L4_ERROR, L4_PORTS, L4_QUERY, addr_eq
from fastpath.plan cimport *
from fastpath.reason cimport *
from fastpath.session cimport *
from fastpath.snapshot cimport *
from fastpath.tracking cimport add_effect, find, known, open_session, opens_tcp, restarts, session_tuple, touch, track_all
from fastpath.wire cimport PROTO_ICMP, PROTO_TCP, PROTO_UDP, TCP_RST


cdef bint is_own_address(walker *w, nat_policy *policy, addr a) noexcept nogil:
    cdef uint32_t i
    for i in range(policy.address_count):
        if addr_eq(w.t.addresses[policy.first_address + i], a):
            return True
    return False


# Choose an own address and a port whose reply tuple is free. Where to start is a hash of the tuple keyed by
# seed and owner, so the same lab and packets give the same ports, whatever else the lab holds.
cdef bint allocate(walker *w, nat_policy *policy, const tuple5 *t, session_key *reply, session_key *pool) noexcept nogil:
    cdef uint64_t start = hash_bytes(t, sizeof(tuple5), w.seed ^ policy.owner)
    cdef uint32_t span = policy.port_last - policy.port_first + 1
    cdef uint32_t a, i, ref
    cdef tuple5 r
    cdef known taken
    for a in range(policy.address_count):
        memset(&r, 0, sizeof(tuple5))
        r.family = t.family
        r.proto = t.proto
        r.src = w.t.addresses[policy.first_address + (start + a) % policy.address_count]
        r.dst = t.dst
        r.dport = t.dport
        session_key_of(pool, policy.owner, 0, &r)
        pool.tuple.family = 0   # no packet has it: a counter is never mistaken for a flow
        ref = table_find(w.sessions, pool, w.now)
        if ref != NO_SESSION and w.sessions.rows[ref >> 1].packets[0] >= policy.per_destination:
            continue
        r.dst = r.src
        r.src = t.dst
        r.sport = t.dport
        r.query = t.query ^ 1 if t.query else 0
        for i in range(span):
            r.dport = <uint16_t>(policy.port_first + ((start >> 20) + i) % span)
            session_key_of(reply, policy.owner, 0, &r)
            if not find(w, reply, &taken):
                return True
    return False


# A packet has arrived at the gateway; NULL: the plan is full.
cdef effect *arrived(walker *w, const node *n, nat_policy *policy, uint8_t way) noexcept nogil:
    cdef effect *e = add_effect(w, n)
    if e != NULL:
        e.kind = EFFECT_GATEWAY
        e.row = policy.slot
        e.way = way
    return e


cdef void not_passed(walker *w) noexcept nogil:
    cdef uint32_t i = w.out.effect_count
    while i:
        i -= 1
        if w.out.effects[i].kind == EFFECT_GATEWAY:
            w.out.effects[i].passed = 0
            return


# TCP from inside on a connection that is not there (any more): its sender is told.
cdef void ask_for_reset(walker *w, const node *n) noexcept nogil:
    if w.p.proto != PROTO_TCP or (w.p.tcp_flags & TCP_RST) or w.p.generated:
        return
    w.out.error = ERROR_RESET
    w.out.error_routed = 1
    w.out.error_interface = n.extra
    w.out.error_view = w.h[0]


cdef bint inbound(walker *w, const node *n, nat_policy *policy, effect *counter) noexcept nogil:
    cdef tuple5 t
    cdef session_key key
    cdef known k
    cdef bint error = w.p.kind == L4_ERROR
    if not session_tuple(w, &t):
        drop(w, n, REASON_NAT_NO_SESSION, 0)
        return False
    session_key_of(&key, policy.owner, 0, &t)
    if not find(w, &key, &k) or k.kind != SESSION_NAT or k.way != 1 or restarts(w, &k):
        drop(w, n, REASON_NAT_NO_SESSION, 0)
        return False
    if not error and not touch(w, n, &k, &policy.limits):
        return False
    w.h.dst = k.forward.tuple.src
    if error:
        w.h.inner_src = k.forward.tuple.src
        w.h.inner_sport = k.forward.tuple.sport
    else:
        w.h.dport = k.forward.tuple.sport
    counter.passed = 1
    note(w, n, DETAIL_INBOUND, 0, k.row)
    return True


cdef bint outbound(walker *w, const node *n, nat_policy *policy, effect *counter) noexcept nogil:
    cdef packet *p = w.p
    cdef tuple5 t
    cdef session_key key, reply, pool
    cdef known k
    cdef effect *e
    cdef bint error = p.kind == L4_ERROR
    cdef uint8_t detail = DETAIL_NEW
    if not session_tuple(w, &t):
        drop(w, n, REASON_NAT_NO_SESSION, 0)
        return False
    session_key_of(&key, policy.owner, 0, &t)
    if find(w, &key, &k) and k.kind == SESSION_NAT and k.way == 0 and not restarts(w, &k):
        if not error and not touch(w, n, &k, &policy.limits):
            return False
        reply = k.reply[0]
        detail = DETAIL_KNOWN
    else:
        # only what can be the start of a flow opens one: not an error, not the answer to a query, not the middle
        # of a connection
        if error or (p.query & 1) or (p.proto == PROTO_TCP and not opens_tcp(w)):
            ask_for_reset(w, n)
            drop(w, n, REASON_NAT_NO_SESSION, 0)
            return False
        if not allocate(w, policy, &t, &reply, &pool):
            counter.exhausted = 1
            drop(w, n, REASON_NAT_PORTS_EXHAUSTED, 0)
            return False
        e = open_session(w, n, SESSION_NAT, 0, &key, &reply, &policy.limits)
        if e == NULL:
            return False
        e.pool = pool
        e.gateway = policy.slot + 1
    w.h.src = reply.tuple.dst
    if error:
        w.h.inner_dst = reply.tuple.dst
        w.h.inner_dport = reply.tuple.dport
    else:
        w.h.sport = reply.tuple.dport
    counter.passed = 1
    note(w, n, detail, 0)
    return True


cdef bint nat_session(walker *w, const node *n) noexcept nogil:
    cdef nat_policy *policy = &w.t.nat_policies[n.table]
    cdef packet *p = w.p
    cdef bint back = is_own_address(w, policy, w.h.dst)
    cdef effect *counter = arrived(w, n, policy, FROM_OUTSIDE if back else FROM_INSIDE)
    if counter == NULL:
        return False
    track_all(w)
    if p.family != 4 or not (p.proto == PROTO_TCP or p.proto == PROTO_UDP or p.proto == PROTO_ICMP):
        drop(w, n, REASON_NAT_PROTOCOL, 0)
        return False
    if p.fragment != FRAGMENT_NONE and p.proto != PROTO_UDP:
        drop(w, n, REASON_NAT_FRAGMENT, 0)
        return False
    if not (p.kind == L4_PORTS or p.kind == L4_QUERY or p.kind == L4_ERROR):
        drop(w, n, REASON_NAT_PROTOCOL, 0)
        return False
    return inbound(w, n, policy, counter) if back else outbound(w, n, policy, counter)

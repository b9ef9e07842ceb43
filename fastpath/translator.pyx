"""Port translation (RFC 3022, RFC 4787 with address and port-dependent mapping and filtering, RFC 5508 for ICMP).

A flow from inside gets one of the policy's addresses and a port that no flow to the same destination has there; the
answer finds it by that. Everything that arrives is counted at the policy's gateway, and what leaves again.

Where the policy has a prefix, IPv6 packets to it become IPv4 (RFC 6146, RFC 6052), and the answers IPv6 again: the
session's two keys are then of two families, and the packet goes on as another one, on another leg.
"""

from libc.string cimport memset

from fastpath.emission cimport SLOT_HEADROOM
from fastpath.hop cimport clamp, fits
from fastpath.nat64 cimport FAMILY_GAIN, FAMILY_HEADROOM, change_family, counterpart_missing, embed4, extract4, family_refusal
from fastpath.packet cimport (FRAGMENT_NONE, L4_ERROR, L4_PORTS, L4_QUERY, addr_eq, destination_is_martian, header, ip_bytes,
                              start_header, wire_length)
from fastpath.plan cimport *
from fastpath.reason cimport *
from fastpath.session cimport *
from fastpath.snapshot cimport *
from fastpath.tracking cimport add_effect, ask_for_reset, find, known, open_session, opens_tcp, restarts, session_tuple, touch, track_all
from fastpath.wire cimport PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP


cdef bint is_own_address(walker *w, nat_policy *policy, addr a) noexcept nogil:
    cdef uint32_t i
    for i in range(policy.address_count):
        if addr_eq(w.t.addresses[policy.first_address + i], a):
            return True
    return False


# The key of the counter of flows from own address `own` to where `t` goes.
cdef void pool_of(session_key *pool, nat_policy *policy, const tuple5 *t, addr own) noexcept nogil:
    cdef tuple5 r
    memset(&r, 0, sizeof(tuple5))
    r.proto = t.proto       # and family 0, which no packet has: a counter is never mistaken for a flow
    r.src = own
    r.dst = t.dst
    r.dport = t.dport
    session_key_of(pool, policy.owner, 0, &r)


# Choose an own address and a port whose reply tuple is free. Where to start is a hash of the tuple keyed by
# seed and owner, so the same lab and packets give the same ports, whatever else the lab holds.
cdef bint allocate(walker *w, nat_policy *policy, const tuple5 *t, session_key *reply, session_key *pool) noexcept nogil:
    cdef uint64_t start = hash_bytes(t, sizeof(tuple5), w.seed ^ policy.owner)
    cdef uint32_t span = policy.port_last - policy.port_first + 1
    cdef uint32_t a, i, ref
    cdef tuple5 r
    cdef known taken
    reverse_tuple(&r, t)
    for a in range(policy.address_count):
        r.dst = w.t.addresses[policy.first_address + (start + a) % policy.address_count]
        pool_of(pool, policy, t, r.dst)
        ref = table_find(w.sessions, pool, w.now)
        if ref != NO_SESSION and w.sessions.rows[ref >> 1].packets[0] >= policy.per_destination:
            continue
        for i in range(span):
            r.dport = <uint16_t>(policy.port_first + ((start >> 20) + i) % span)
            session_key_of(reply, policy.owner, 0, &r)
            if not find(w, reply, &taken):
                return True
    return False


# A packet has arrived at the gateway; NULL: the plan is full.
cdef effect *arrived(walker *w, const node *n, uint8_t way) noexcept nogil:
    cdef effect *e = add_effect(w, n, REASON_LOOP)
    if e != NULL:
        e.kind = EFFECT_GATEWAY
        e.row = w.sessions.gateway_of[n.table]
        e.way = way
    return e


cdef void leave_gateway(walker *w) noexcept nogil:
    cdef uint32_t i = w.out.effect_count
    cdef effect *e
    while i:
        i -= 1
        e = &w.out.effects[i]
        if e.kind == EFFECT_GATEWAY:
            if not e.passed:
                e.passed = 1
                e.size_out = ip_bytes(w.p)
            return


# --- between families ----------------------------------------------------------------------------------------------

cdef inline bint is_for_prefix(nat_policy *policy, addr a) noexcept nogil:
    return policy.has_prefix6 and addr_eq(embed4(policy.prefix6, a), a)


# Why nobody can have the address inside the address that an IPv6 packet is for, or 0.
cdef uint16_t leads_nowhere(walker *w, nat_policy *policy) noexcept nogil:
    cdef addr inside = extract4(w.h.dst)
    if destination_is_martian(4, inside):
        return REASON_DESTINATION_MARTIAN
    return REASON_LAND if is_own_address(w, policy, inside) else REASON_NONE


# From here on the packet is one of the other family, with the addresses and ports in `to`. False: dropped.
cdef bint next_leg(walker *w, const node *n, header *to) noexcept nogil:
    cdef leg_room *room = w.legs
    cdef uint32_t need = (SLOT_HEADROOM + w.p.end + FAMILY_HEADROOM + 15) & 0xFFFFFFF0U
    cdef edit *e = &w.out.edit
    cdef packet *q
    cdef uint16_t reason
    cdef uint32_t i, gain = FAMILY_GAIN
    if room.count == MAX_LEGS:
        drop(w, n, REASON_LOOP, 0)
        return False
    if need > room.size - room.used:
        drop(w, n, REASON_EMISSION_LIMIT, 0)
        return False
    q = &room.legs[room.count]
    room.count += 1
    q.frame = room.bytes + room.used + SLOT_HEADROOM
    room.used += need
    to.ttl_spent = w.h.ttl_spent
    to.mss = w.h.mss
    reason = change_family(w.p, to, q)
    if reason:
        drop(w, n, reason, 0)       # not expected: what had been parsed was written anew
        return False
    w.p = q
    w.out.p = q
    start_header(w.h, q)
    w.h.mss = to.mss
    # The pieces that it is to be cut into are as much larger or smaller; IPv6 ones have a fragment header too.
    if q.gso_size == 0:
        gain += 8
    for i in range(e.cut_count):
        e.cuts[i] += gain if q.family == 6 else <uint32_t>-<int>gain
    return True


cdef bint inbound(walker *w, const node *n, nat_policy *policy, effect *counter) noexcept nogil:
    cdef tuple5 t
    cdef session_key key
    cdef known k
    cdef header to
    cdef uint16_t reason
    cdef bint error = w.p.kind == L4_ERROR
    if not session_tuple(w, &t):
        drop(w, n, REASON_NAT_NO_SESSION, 0)
        return False
    session_key_of(&key, policy.owner, 0, &t)
    if not find(w, &key, &k) or k.kind != SESSION_NAT or k.way != 1 or restarts(w, &k):
        drop(w, n, REASON_NAT_NO_SESSION, 0)
        return False
    if k.forward.tuple.family == 6:
        reason = counterpart_missing(w.p, w.out.edit.cut_count != 0)
        if reason:
            drop(w, n, reason, 0)
            return False
    if not error and not touch(w, n, &k, &policy.limits):
        return False
    to = w.h[0]
    to.dst = k.forward.tuple.src
    if error:
        to.inner_src = k.forward.tuple.src
        to.inner_sport = k.forward.tuple.sport
    else:
        to.dport = k.forward.tuple.sport
    if k.forward.tuple.family == 6:
        to.src = embed4(k.forward.tuple.dst, to.src)
        to.inner_dst = k.forward.tuple.dst
        if not next_leg(w, n, &to):
            return False
    else:
        w.h[0] = to
    note(w, n, DETAIL_INBOUND, 0, k.row)
    return True


cdef bint outbound(walker *w, const node *n, nat_policy *policy, effect *counter) noexcept nogil:
    cdef packet *p = w.p
    cdef tuple5 t
    cdef session_key key, reply, pool
    cdef known k
    cdef header to
    cdef effect *e
    cdef uint16_t reason = REASON_NONE
    cdef bint error = p.kind == L4_ERROR
    cdef bint found
    cdef uint8_t detail = DETAIL_NEW
    if not session_tuple(w, &t):
        drop(w, n, REASON_NAT_NO_SESSION, 0)
        return False
    session_key_of(&key, policy.owner, 0, &t)
    if p.family == 6:
        # outside, the flow is to the address inside the address
        t.family = 4
        t.dst = extract4(t.dst)
        t.proto = PROTO_ICMP if t.proto == PROTO_ICMPV6 else t.proto
        reason = counterpart_missing(p, False)
    # a flow whose address the gateway no longer has is gone
    found = find(w, &key, &k) and k.kind == SESSION_NAT and k.way == 0 and is_own_address(w, policy, k.reply.tuple.dst)
    if found and not restarts(w, &k):
        if reason:
            drop(w, n, reason, 0)
            return False
        if not error and not touch(w, n, &k, &policy.limits):
            return False
        reply = k.reply[0]
        detail = DETAIL_KNOWN
    else:
        # only what can be the start of a flow opens one: not an error, not the answer to a query, not the middle
        # of a connection
        if error or (p.query & 1) or (p.proto == PROTO_TCP and not opens_tcp(w)):
            ask_for_reset(w, n.extra)
            drop(w, n, REASON_NAT_NO_SESSION, 0)
            return False
        if found:
            # what was closed begins again, with the port it has (RFC 7857, 2.1)
            reply = k.reply[0]
            pool_of(&pool, policy, &t, reply.tuple.dst)
        elif not allocate(w, policy, &t, &reply, &pool):
            counter.exhausted = 1
            drop(w, n, REASON_NAT_PORTS_EXHAUSTED, 0)
            return False
        e = open_session(w, n, SESSION_NAT, 0, &key, &reply, &policy.limits, False)
        if e == NULL:
            return False
        e.pool = pool
        e.gateway = w.sessions.gateway_of[n.table] + 1
    to = w.h[0]
    to.src = reply.tuple.dst
    if error:
        to.inner_dst = reply.tuple.dst
        to.inner_dport = reply.tuple.dport
    else:
        to.sport = reply.tuple.dport
    if p.family == 6:
        to.dst = extract4(to.dst)
        to.inner_src = extract4(to.inner_src)
        if not next_leg(w, n, &to):
            return False
    else:
        w.h[0] = to
    note(w, n, detail, 0)
    return True


cdef bint nat_session(walker *w, const node *n) noexcept nogil:
    cdef nat_policy *policy = &w.t.nat_policies[n.table]
    cdef packet *p = w.p
    cdef bint back = p.family == 4 and is_own_address(w, policy, w.h.dst)
    cdef uint16_t reason
    cdef effect *counter
    if not back and w.out.meta.origin == n.extra:
        drop(w, n, REASON_LOOP, 0)      # routed to who has just sent it
        return False
    counter = arrived(w, n, FROM_OUTSIDE if back else FROM_INSIDE)
    if counter == NULL:
        return False
    if n.mtu:       # of what arrives: of another family it is larger or smaller
        if not fits(w, n):
            return False
        if wire_length(p) > n.mtu:
            note(w, n, DETAIL_FRAGMENTS, 0)
    if not (p.proto == PROTO_TCP or p.proto == PROTO_UDP or p.proto == (PROTO_ICMP if p.family == 4 else PROTO_ICMPV6)) \
            or (p.family == 6 and not is_for_prefix(policy, w.h.dst)):
        drop(w, n, REASON_NAT_PROTOCOL, 0)
        return False
    # what is cut, here or by an earlier hop, is in fragments too
    if (p.fragment != FRAGMENT_NONE or w.out.edit.cut_count) and p.proto != PROTO_UDP:
        drop(w, n, REASON_NAT_FRAGMENT, 0)
        return False
    reason = family_refusal(p)
    if reason == REASON_NONE and not (p.kind == L4_PORTS or p.kind == L4_QUERY or p.kind == L4_ERROR):
        reason = REASON_NAT_PROTOCOL
    if reason == REASON_NONE and p.family == 6:
        reason = leads_nowhere(w, policy)
    if reason:
        drop(w, n, reason, 0)
        return False
    if not (inbound(w, n, policy, counter) if back else outbound(w, n, policy, counter)):
        return False
    if n.mtu:
        # whoever reads this answers with packets of this family: these arrive here, and must not be too large
        clamp(w, n.mtu)
    return track_all(w, n)      # what is dropped here has not come through

"""Sessions as a walk sees them; the group policies of interfaces, and gates that remember flows.

All of it only reads: what is to be opened or refreshed becomes an effect of the plan. Effects of earlier hops count for
later ones of the same walk, as they will have been carried out by then: a packet that comes back to its sender is an
answer to itself.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memset

from fastpath.classifier cimport candidates, classifier, classify, open_to_all, rule, service_key
from fastpath.lpm cimport lpm_find
from fastpath.packet cimport FRAGMENT_LATER, L4_ERROR, L4_ICMP, QUERY_NOTHING, addr_eq, addr_lt, ip_bytes
from fastpath.plan cimport *
from fastpath.reason cimport *
from fastpath.rule_list cimport rule_list
from fastpath.session cimport *
from fastpath.snapshot cimport *
from fastpath.wire cimport PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP, TCP_ACK, TCP_RST, TCP_SYN

cdef extern from *:
    int ctz64 "__builtin_ctzll" (uint64_t x) nogil


# An ICMP error goes the way of a reply to the packet it quotes, so that packet's tuple, reversed, is its own. It is for who
# sent that packet (RFC 792; RFC 4443, 2.2), or of no flow: who has one could send to anybody else otherwise.
cdef bint session_tuple(walker *w, tuple5 *t) noexcept nogil:
    cdef packet *p = w.p
    memset(t, 0, sizeof(tuple5))
    t.family = p.family
    if p.kind == L4_ERROR:
        t.src = w.h.inner_dst
        t.dst = w.h.inner_src
        t.sport = w.h.inner_dport
        t.dport = w.h.inner_sport
        t.proto = p.inner_proto
        t.query = p.inner_query ^ 1 if p.inner_query else 0
        return p.inner_identified != 0 and addr_eq(w.h.inner_src, w.h.dst)
    t.src = w.h.src
    t.dst = w.h.dst
    t.sport = w.h.sport
    t.dport = w.h.dport
    t.proto = p.proto
    t.query = p.query
    if p.kind == L4_ICMP:
        # a message that asks nothing is of one flow with its like, and has no answer
        t.sport = t.dport = p.icmp_type
        t.query = QUERY_NOTHING
    return True


# Was a session with this key opened by an earlier hop of this walk?
cdef bint find_planned(walker *w, const session_key *key, known *k) noexcept nogil:
    cdef uint32_t i
    cdef effect *e
    cdef bint back
    for i in range(w.out.effect_count):
        e = &w.out.effects[i]
        # both keys of a session are of one owner, and hops mostly are of different ones
        if e.forward.owner != key.owner or e.kind != EFFECT_OPEN or e.pending:
            continue
        back = not same_key(&e.forward, key)
        if not back or same_key(&e.reply, key):
            memset(k, 0, sizeof(known))
            k.planned = e
            k.forward = &e.forward
            k.reply = &e.reply
            k.rule = e.rule
            k.kind = e.session_kind
            k.state = e.step.state
            k.seen = e.step.seen
            k.way = back
            return True
    return False


cdef bint find(walker *w, const session_key *key, known *k) noexcept nogil:
    cdef uint32_t i, ref = NO_SESSION
    cdef session_table *table = w.overlay
    cdef effect *e
    if find_planned(w, key, k):
        return True
    if table != NULL:
        ref = table_find(table, key, w.now)
    if ref == NO_SESSION:
        table = w.sessions
        ref = table_find(table, key, w.now)
    if ref == NO_SESSION:
        return False
    memset(k, 0, sizeof(known))
    k.row = ref >> 1
    k.s = &table.rows[k.row]
    k.way = <int>(ref & 1)
    k.forward = &k.s.key[0]
    k.reply = &k.s.key[1]
    k.rule = k.s.rule
    k.kind = k.s.kind
    k.state = k.s.state
    k.seen = k.s.seen
    for i in range(w.out.effect_count):     # an earlier hop may have taken it further
        e = &w.out.effects[i]
        if e.kind == EFFECT_TOUCH and e.row == k.row and same_key(&e.forward, k.forward):
            k.state = e.step.state
            k.seen = e.step.seen
    return True


cdef effect *add_effect(walker *w, const node *n, uint16_t full) noexcept nogil:
    cdef effect *e
    if w.out.effect_count >= MAX_EFFECTS:
        drop(w, n, full, 0)
        return NULL
    e = &w.out.effects[w.out.effect_count]
    w.out.effect_count += 1
    memset(e, 0, sizeof(effect))
    e.layer = w.layer
    e.size = ip_bytes(w.p)
    return e


# The packet belongs to session `k`: it lives on, and may change its state.
cdef bint touch(walker *w, const node *n, known *k, const timeouts *limits) noexcept nogil:
    cdef effect *e = k.planned
    if e != NULL:
        session_next(&e.step, k.state, k.seen, k.forward.tuple.proto, k.way, w.p.tcp_flags, limits)
        e.answered |= k.way
        return True
    e = add_effect(w, n, REASON_PLAN_LIMIT)
    if e == NULL:
        return False
    e.kind = EFFECT_TOUCH
    e.row = k.row
    e.version = k.s.version
    e.way = <uint8_t>k.way
    e.forward = k.forward[0]
    e.reply = k.reply[0]
    e.session_kind = k.kind
    e.rule = k.rule
    session_next(&e.step, k.state, k.seen, k.forward.tuple.proto, k.way, w.p.tcp_flags, limits)
    e.changes = e.step.state != k.state or e.step.seen != k.seen or e.step.idle != k.s.idle
    return True


# Is there room for what this plan opens, and for `more`? What packets of the same port have opened before counts twice:
# nobody takes more of the table than he leaves, so one port has half of it at most, and when many want all there is, as
# much is free as each of them has, for everybody else.
cdef bint has_room(walker *w, const node *n, uint32_t more) noexcept nogil:
    cdef const session_table *t = w.sessions
    cdef uint32_t held = t.held[w.opener] if w.opener < t.ports else 0
    if t.live + held + 2 * (w.out.effect_count + more) > t.capacity:
        drop(w, n, REASON_SESSION_LIMIT, 0)
        return False
    return True


# What is untracked opens nothing, and takes no room, unless it is tracked after all.
cdef effect *open_session(walker *w, const node *n, uint8_t kind, uint32_t rule_number, const session_key *forward,
                          const session_key *reply, const timeouts *limits, bint untracked) noexcept nogil:
    cdef effect *e
    if not untracked and not has_room(w, n, 1):
        return NULL
    e = add_effect(w, n, REASON_PLAN_LIMIT)
    if e == NULL:
        return NULL
    e.kind = EFFECT_OPEN
    e.pending = untracked
    e.session_kind = kind
    e.rule = rule_number
    e.forward = forward[0]
    e.reply = reply[0]
    session_begin(&e.step, forward.tuple.proto, w.p.tcp_flags, limits)
    return e


# There is no session with this key, and the plan stands or falls with that. False: the packet was dropped.
cdef bint note_absence(walker *w, const node *n, const session_key *key) noexcept nogil:
    cdef effect *e
    w.out.absences += 1
    if w.out.absences <= ABSENCES:      # more cannot be remembered, and must not take the room of what is done
        e = add_effect(w, n, REASON_PLAN_LIMIT)
        if e == NULL:
            return False
        e.kind = EFFECT_ABSENT
        e.forward = key[0]
    return True


cdef bint opens_tcp(walker *w) noexcept nogil:
    return w.p.proto == PROTO_TCP and (w.p.tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN


# A SYN on a session that is closing starts a new connection with the same ports.
cdef bint restarts(walker *w, const known *k) noexcept nogil:
    return k.state == STATE_CLOSING and opens_tcp(w)


cdef void ask_for_reset(walker *w, uint32_t interface) noexcept nogil:
    if w.p.proto != PROTO_TCP or (w.p.tcp_flags & TCP_RST) or w.p.generated or w.p.fragment == FRAGMENT_LATER:
        return
    w.out.error = ERROR_RESET
    w.out.error_routed = 1
    w.out.error_interface = interface
    w.out.error_view = w.h[0]
    w.out.error_packet = w.p


# Everything that hops so far let pass untracked is tracked after all; not what was around or inside it on the way.
cdef bint track_all(walker *w, const node *n) noexcept nogil:
    cdef uint32_t i
    cdef bint checked = False
    for i in range(w.out.effect_count):
        if w.out.effects[i].layer == w.layer and w.out.effects[i].pending:
            if not checked and not has_room(w, n, 0):
                return False
            checked = True
            w.out.effects[i].pending = 0
    return True


# --- rules ---------------------------------------------------------------------------------------------------------

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
        return lpm_find(&w.t.intervals[r.table - 1], p.family, remote) != 0
    return w.out.meta.groups != 0 and number_set_has(w.t, w.out.meta.groups - 1, r.group)


# The obvious way, for short lists: look at every rule.
cdef const rule *first_in_order(walker *w, const rule_list *l, addr remote, bint anywhere) noexcept nogil:
    cdef uint32_t i
    cdef const rule *r
    cdef const rule *found = NULL
    for i in range(l.count):
        r = &l.rules[i]
        if (found == NULL or (r.any_address and not found.any_address)) and rule_matches(w, r, remote):
            found = r
            if not anywhere or r.any_address:
                break
    return found


# The first of `wanted` (NULL: all) rules that match.
cdef const rule *first_of(walker *w, const rule_list *l, const candidates *found, const uint64_t *wanted) noexcept nogil:
    cdef const classifier *c = l.classes
    cdef const rule *r
    cdef uint64_t bits, lowest
    cdef uint32_t word
    for word in range(c.words):
        bits = found.address[word] & found.service[word]
        if wanted != NULL:
            bits &= wanted[word]
        while bits:
            lowest = bits & (<uint64_t>0 - bits)
            r = &l.rules[64 * word + <uint32_t>ctz64(bits)]
            if not (c.grouped[word] & lowest) or (w.out.meta.groups != 0 and number_set_has(w.t, w.out.meta.groups - 1, r.group)):
                return r
            bits ^= lowest
    return NULL


cdef const rule *first_match(walker *w, const rule_list *l, addr remote, bint anywhere) noexcept nogil:
    cdef candidates found
    cdef const rule *r = NULL
    if l.classes == NULL:
        return first_in_order(w, l, remote, anywhere)
    found = classify(l.classes, w.p.family, remote, service_key(w.p.proto, w.h.dport, w.p.icmp_type, w.p.icmp_code))
    if anywhere:
        r = first_of(w, l, &found, l.classes.anywhere)
    return r if r != NULL else first_of(w, l, &found, NULL)


# --- group policies ------------------------------------------------------------------------------------------------

cdef inline uint8_t open_bit(packet *p) noexcept nogil:
    return <uint8_t>((1 if p.family == 4 else 4) << (1 if p.proto == PROTO_UDP else 0))


# Is this UDP the response to a flow that the other direction admits from anywhere? Its far port is then the
# near port of this packet.
cdef bint answers_open_rule(walker *w, const rule_list *other) noexcept nogil:
    cdef uint32_t i
    cdef const rule *r
    if other.classes != NULL:
        return open_to_all(other.classes, w.p.family, w.h.sport)
    for i in range(other.count):
        r = &other.rules[i]
        if r.any_address and r.family == w.p.family and (r.protocol == -1 or r.protocol == PROTO_UDP) \
                and (r.any_port or r.protocol == -1 or (r.port_first <= w.h.sport <= r.port_last)):
            return True
    return False


# A TCP or UDP flow is not tracked when one direction admits it from anywhere and the other admits all ports from
# anywhere (EC2 User Guide, "Untracked connections"); that holds for its requests and, of UDP, for its responses. The
# middle of a TCP connection opens none: who goes on with one that was not tracked, and whose rule is gone, would bring it
# back.
cdef bint is_untracked(walker *w, const rule_list *mine, const rule_list *other, const rule *admitting) noexcept nogil:
    cdef uint8_t bit = open_bit(w.p)
    cdef bint here = (mine.open & bit) != 0
    cdef bint there = (other.open & bit) != 0
    if (w.p.proto != PROTO_TCP and w.p.proto != PROTO_UDP) or (w.out.meta.via & VIA_TRACKED):
        return False
    if w.p.proto == PROTO_TCP and not opens_tcp(w):
        return True
    if not admitting.any_address:
        return False
    return there or (here and w.p.proto == PROTO_UDP and answers_open_rule(w, other))


cdef bint group_session(walker *w, const node *n) noexcept nogil:
    cdef group_policy *policy = &w.t.group_policies[n.table]
    cdef bint egress = n.mode == DIRECTION_EGRESS
    cdef const rule_list *rules = &w.t.filters[policy.egress if egress else policy.ingress]
    cdef const rule_list *other = &w.t.filters[policy.ingress if egress else policy.egress]
    cdef addr remote = w.h.dst if egress else w.h.src
    cdef tuple5 t, reversed_tuple
    cdef session_key key, back
    cdef known k
    cdef const rule *admitting
    cdef bint untracked
    if session_tuple(w, &t):
        session_key_of(&key, policy.owner, n.mode, &t)
        if find(w, &key, &k) and not restarts(w, &k):
            if w.p.kind == L4_ERROR:
                note(w, n, DETAIL_RELATED, k.rule, k.row)
                return True
            if not touch(w, n, &k, &policy.limits):
                return False
            note(w, n, DETAIL_KNOWN, k.rule, k.row)
            return True
    # Rules are a union without order; which of several that admit counts matters only for tracking, and there
    # "from anywhere" wins wherever it was written.
    admitting = first_match(w, rules, remote, True)
    if admitting == NULL:
        drop(w, n, REASON_GROUP_EGRESS if egress else REASON_GROUP_INGRESS, 0)
        return False
    if w.p.kind == L4_ERROR:
        # nothing is to be expected in answer
        note(w, n, DETAIL_PASSED, admitting.number)
        return True
    if w.p.query & 1:
        # a reply to nothing: had it opened a flow, requests would be let in as answers to it
        note(w, n, DETAIL_PASSED, admitting.number)
        return note_absence(w, n, &key)
    untracked = is_untracked(w, rules, other, admitting)
    reverse_tuple(&reversed_tuple, &t)
    session_key_of(&back, policy.owner, DIRECTION_INGRESS if egress else DIRECTION_EGRESS, &reversed_tuple)
    if open_session(w, n, SESSION_GROUP, admitting.number, &key, &back, &policy.limits, untracked) == NULL:
        return False
    note(w, n, DETAIL_UNTRACKED if untracked else DETAIL_NEW, admitting.number)
    return True


# --- gates ---------------------------------------------------------------------------------------------------------

cdef uint32_t flow_gate(walker *w, const node *n) noexcept nogil:
    cdef flow_policy *policy = &w.t.flow_policies[n.table]
    cdef uint8_t direction = <uint8_t>n.value
    cdef tuple5 t, reversed_tuple
    cdef session_key key, back
    cdef known k
    cdef bint told = session_tuple(w, &t)
    session_key_of(&key, policy.owner, direction, &t)
    if told and find(w, &key, &k) and not restarts(w, &k):
        if w.p.kind != L4_ERROR and n.mode != GATE_LOOK and not touch(w, n, &k, &policy.limits):
            return 0
        if n.flags & FLAG_TRACKS and not track_all(w, n):
            return 0
        note(w, n, DETAIL_RELATED if w.p.kind == L4_ERROR else DETAIL_KNOWN, 0, k.row)
        return n.other if n.mode == GATE_RESUME or n.mode == GATE_LOOK else n.next
    if n.mode == GATE_REQUIRE:
        drop(w, n, n.reason, 0)
        return 0
    if n.mode == GATE_OPEN and w.p.kind != L4_ERROR and w.p.kind != L4_ICMP and not (w.p.query & 1):
        reverse_tuple(&reversed_tuple, &t)
        session_key_of(&back, policy.owner, 3 - direction, &reversed_tuple)
        if open_session(w, n, SESSION_FLOW, 0, &key, &back, &policy.limits, False) == NULL:
            return 0
        note(w, n, DETAIL_NEW, 0)
    if n.flags & FLAG_TRACKS and not track_all(w, n):
        return 0
    if (n.mode == GATE_RESUME or n.mode == GATE_LOOK) and told:
        if not note_absence(w, n, &key):
            return 0
    return n.next

"""The walk: one packet through the graph of nodes, to a verdict.

A walk is a *plan*: it reads tables and sessions and changes nothing. What should change (edits, sessions to
open or touch, an error to send) is written into the plan, in the order of the nodes; the engine commits it
afterwards, also when a later node drops the packet: the hops before had let it pass. It raises nothing,
allocates nothing, takes no lock, and visits at most MAX_STEPS nodes, so a loop is a drop reason.

`overlay`, when given, is a second session table consulted before the first: a trace commits into it, so
that the reply of a traced packet finds the sessions that packet would have opened.
"""

from libc.string cimport memcpy, memset

from fastpath.classifier cimport rule
from fastpath.lpm cimport lpm_find, lpm_table
from fastpath.packet cimport FRAGMENT_NONE, L4_ERROR, L4_QUERY, addr_eq, outer, start_header
from fastpath.observe cimport cross, end_crossings, pass_on
from fastpath.balancer cimport decapsulate, encapsulate
from fastpath.hop cimport pass_hop
from fastpath.plan cimport *
from fastpath.reason cimport *
from fastpath.session cimport *
from fastpath.snapshot cimport *
from fastpath.tracking cimport first_match, flow_gate, group_session
from fastpath.translator cimport leave_gateway, nat_session


# --- the other nodes -----------------------------------------------------------------------------------------------

cdef bint guard_passes(walker *w, const node *n) noexcept nogil:
    cdef bint holds
    if n.mode == TEST_VIA:
        holds = (w.out.meta.via & n.value) != 0
    elif n.mode == TEST_FROM_SUBNET:
        holds = n.value != 0 and number_set_has(w.t, n.value - 1, w.out.meta.subnet)
    else:
        holds = lpm_find(&w.t.intervals[n.table], w.p.family, w.h.src if n.mode == TEST_SOURCE_IN else w.h.dst) != 0
    return holds != ((n.flags & FLAG_NEGATE) != 0)


cdef bint rewrite(walker *w, const node *n) noexcept nogil:
    cdef translation *m = &w.t.maps[n.table]
    cdef uint32_t hit
    cdef bint source = n.mode == SIDE_SOURCE
    cdef lpm_table *keys = &w.t.intervals[m.inside_table if source else m.outside_table]
    if w.p.family != 4:
        note(w, n, DETAIL_SKIPPED, 0)
        return True
    hit = lpm_find(keys, 4, w.h.src if source else w.h.dst)
    if hit == 0:
        drop(w, n, n.reason, 0)
        return False
    if source:
        w.h.src = w.t.addresses[hit - 1]
    else:
        w.h.dst = w.t.addresses[hit - 1]
    if w.p.kind == L4_ERROR and w.p.inner_known:
        hit = lpm_find(keys, 4, w.h.inner_dst if source else w.h.inner_src)
        if hit:
            if source:
                w.h.inner_dst = w.t.addresses[hit - 1]
            else:
                w.h.inner_src = w.t.addresses[hit - 1]
    note(w, n, DETAIL_PASSED, 0)
    return True


cdef void enter(walker *w, const node *n) noexcept nogil:
    cdef metadata *m = &w.out.meta
    m.realm = n.value
    pass_on(w, PATH_INSIDE if n.extra else n.mode)
    if n.extra:
        leave_gateway(w)
        m.via = n.via
        w.out.bridged = 0
        m.origin = n.extra
        m.subnet = w.t.interfaces[n.extra - 1].subnet
        m.zone = w.t.interfaces[n.extra - 1].zone
    else:
        m.via |= n.via
        m.subnet = n.table
        if not (n.flags & FLAG_KEEP_GROUPS):
            m.origin = 0
    if not (n.flags & FLAG_KEEP_GROUPS):
        m.groups = 0
    w.entry = w.h[0]
    w.entered = w.p
    note(w, n, DETAIL_PASSED, 0)


cdef void emit(walker *w, const node *n) noexcept nogil:
    cdef interface *to = &w.t.interfaces[n.extra - 1]
    cdef metadata *m = &w.out.meta
    cdef uint8_t *source = to.router_mac
    if to.port == 0:
        drop(w, n, REASON_PORT_DOWN, 0)
        return
    if w.out.bridged and m.origin:
        source = w.t.interfaces[m.origin - 1].mac
    memcpy(w.out.edit.dst_mac, to.mac, 6)
    memcpy(w.out.edit.src_mac, source, 6)
    w.out.edit.port = to.port
    w.out.edit.interface = n.extra
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


cdef void walk(tables *t, session_table *sessions, session_table *overlay, packet *p, leg_room *legs, plan *out, uint32_t at,
               const metadata *start, uint64_t now, uint64_t seed, trace_buffer *trace) noexcept nogil:
    cdef walker w
    cdef const node *n
    cdef const rule *r
    cdef const fib *f
    cdef const route *to
    cdef uint32_t hit
    cdef size_t steps = 0
    cdef const node *nodes = t.nodes
    cdef header *h = &out.edit.to
    cdef outer *o
    clear_plan(out)
    out.meta = start[0]
    out.p = p
    start_header(h, p)
    legs.count = 0
    legs.used = 0
    w.t = t
    w.sessions = sessions
    w.overlay = overlay
    w.p = p
    w.entered = p
    w.opener = p.context
    w.legs = legs
    w.out = out
    w.h = h
    w.layer = LAYER_CAME
    w.entry = h[0]
    w.now = now
    w.seed = seed
    w.trace = trace
    while steps < MAX_STEPS:
        steps += 1
        n = &nodes[at]
        out.steps[steps].node = at
        if n.op == OP_GUARD:
            if (n.family and n.family != p.family) or guard_passes(&w, n):
                at = n.next
            elif n.other:
                at = n.other
            else:
                drop(&w, n, n.reason, 0)
                break
        elif n.op == OP_BRIDGE:
            out.bridged = p.neighbour != 0
            at = p.neighbour if p.neighbour else n.next
        elif n.op == OP_FILTER:
            if n.value and out.meta.subnet == n.value:
                note(&w, n, DETAIL_SKIPPED, 0)
                out.steps[steps].rule = 0
                at = n.next
                continue
            r = first_match(&w, &t.filters[n.table], w.h.src if n.mode == SIDE_SOURCE else w.h.dst, False)
            if r == NULL or not r.allow:
                drop(&w, n, n.reason, r.number if r != NULL else 0)
                break
            out.steps[steps].rule = r.number
            note(&w, n, DETAIL_PASSED, r.number)
            at = n.next
        elif n.op == OP_GROUP_SESSION:
            if not group_session(&w, n):
                break
            at = n.next
        elif n.op == OP_NAT_SESSION:
            if not nat_session(&w, n):
                break
            p = w.p
            at = n.next
        elif n.op == OP_LOOKUP:
            f = &t.fibs[n.table]
            hit = lpm_find(&t.intervals[f.table], p.family, w.h.src if n.mode == SIDE_SOURCE else w.h.dst)
            if hit == 0:
                drop(&w, n, n.reason, 0)
                break
            to = &f.routes[hit - 1]
            at = to.node
            if not (n.flags & FLAG_QUIET):
                out.rule = to.rule
                note(&w, n, DETAIL_PASSED, out.rule)
        elif n.op == OP_FLOW_GATE:
            at = flow_gate(&w, n)
            if at == 0:
                break
        elif n.op == OP_ENCAPSULATE:
            if not encapsulate(&w, n):
                break
            p = w.p
            at = n.next
        elif n.op == OP_DECAPSULATE:
            at = decapsulate(&w, n)
            if at == 0:
                break
            p = w.p
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
        elif n.op == OP_POINT:
            out.points[out.point_count] = at
            out.point_count += 1
            cross(&w, n)
            at = n.next
            if t.nodes[at].op != OP_POINT:
                steps -= 1  # nothing becomes of a packet by being seen
        else:
            # a route led here (a blackhole): the route is what decided
            drop(&w, n, n.reason, out.rule)
            break
    else:
        drop(&w, &t.nodes[at], REASON_LOOP, 0)
    out.step_count = <uint32_t>steps
    if out.crossing_count:
        end_crossings(&w)
    if w.layer == LAYER_AROUND:
        # where it goes may have changed on its way
        o = &out.edit.around
        o.src, o.dst = <uint32_t>w.h.src.lo, <uint32_t>w.h.dst.lo
        o.sport, o.dport = w.h.sport, w.h.dport
        o.ttl -= w.h.ttl_spent

"""What is remembered of a plan: one leg's edit, and what it depends on.

Deleting any entry at any moment changes no verdict, no byte and no session: a hit does exactly what the walk would have
done again. So an entry is made only of a plan that changed nothing but last-seen times and counters, and is tied to each
session that the walk found, and to each bucket where it looked for one in vain: what changes there retires it. It also knows
the parts of the tables that the walk went by: a swap that changes one of them ends it (fastpath.footing). Packets that can
change a state (SYN, FIN, RST, ICMP errors, fragments) have no key, and those that a hop on the path could refuse (TTL, MTU)
walk.
"""

from libc.string cimport memcmp, memcpy, memset

from fastpath.footing cimport *
from fastpath.geneve cimport OUTER_SIZE, write_outer
from fastpath.memo cimport *
from fastpath.packet cimport L4_PORTS, addr, addr_eq, header
from fastpath.plan cimport (ABSENCES, EFFECT_ABSENT, EFFECT_GATEWAY, EFFECT_OPEN, EFFECT_TOUCH, LAYER_AROUND, LAYER_CAME,
                            LAYER_INSIDE, effect, plan)
from fastpath.reason cimport VERDICT_FORWARD
from fastpath.records cimport NO_RECORD
from fastpath.session cimport bucket_of, flow_retire, flow_tie, session
from fastpath.snapshot cimport *
from fastpath.wire cimport *

cdef enum:
    LONGEST_IDLE = 65535


cdef uint64_t change(uint8_t family, addr old, addr new) noexcept nogil:
    if addr_eq(old, new):
        return 0
    if family == 4:
        return delta32(<uint32_t>old.lo, <uint32_t>new.lo)
    return (<uint64_t>delta32(<uint32_t>(old.hi >> 32), <uint32_t>(new.hi >> 32)) + delta32(<uint32_t>old.hi, <uint32_t>new.hi)
            + delta32(<uint32_t>(old.lo >> 32), <uint32_t>(new.lo >> 32)) + delta32(<uint32_t>old.lo, <uint32_t>new.lo))


# The edit of `q`, which is of the entry's key, as `apply_header` would carry it out.
cdef void write_edit(flow *f, flow_wide *wide, const packet *q, const header *to) noexcept nogil:
    cdef uint64_t addresses = change(q.family, q.src, to.src) + change(q.family, q.dst, to.dst), ports = 0
    cdef uint8_t *at
    if not (addr_eq(q.src, to.src) and addr_eq(q.dst, to.dst)):
        f.flags |= FLOW_READDRESSED
    f.spent = to.ttl_spent
    f.ip_delta = ordered16(fold(addresses + (delta16(<uint32_t>to.ttl_spent << 8, 0) if to.ttl_spent else 0)))
    if q.kind == L4_PORTS:
        f.ports = ordered32((<uint32_t>to.sport << 16) | to.dport)
        ports = ((delta16(q.sport, to.sport) if q.sport != to.sport else 0)
                 + (delta16(q.dport, to.dport) if q.dport != to.dport else 0))
        ports += addresses
    else:
        f.ports = ordered16(to.sport | to.dport)
        if (q.sport | q.dport) != (to.sport | to.dport):
            ports = delta16(q.sport | q.dport, to.sport | to.dport)
        if q.family == 6:
            ports += addresses
    f.l4_delta = ordered16(fold(ports))
    if q.family == 4:
        f.source = ordered32(<uint32_t>to.src.lo)
        f.destination = ordered32(<uint32_t>to.dst.lo)
        return
    at = <uint8_t *>wide.source
    store64(at, to.src.hi)
    store64(at + 8, to.src.lo)
    at = <uint8_t *>wide.destination
    store64(at, to.dst.hi)
    store64(at + 8, to.dst.lo)


# What stands in front of a packet that travels inside another one, lengths and sums left out.
cdef void write_shell(flow_shell *shell, const plan *x) noexcept nogil:
    cdef uint8_t *ip = shell.bytes + ETH_HEADER
    cdef uint8_t *udp = ip + 20
    memcpy(shell.bytes, x.edit.dst_mac, 6)
    memcpy(shell.bytes + 6, x.edit.src_mac, 6)
    store16(shell.bytes + 12, ETHERTYPE_IPV4)
    write_outer(ip, 0, x.p.family, &x.edit.around)
    put16(ip + 2, 0)
    put16(ip + 10, 0)
    put32(udp + 4, 0)
    shell.ip_sum = fold64(raw_sum(ip, 20))
    shell.udp_sum = fold64(raw_sum(ip + 12, 8) + ordered16(PROTO_UDP) + raw_sum(udp, OUTER_SIZE - 20))
    shell.mtu = <uint16_t>x.path_mtu[LAYER_AROUND]


# Tie the entry to the records that its packets count for, or to points where there is no room for one: a flow that is not
# recorded is not to be slower for it. False: there was no room for a link.
cdef bint tie_records(flow_table *t, session_table *sessions, uint32_t row, const plan *x) noexcept nogil:
    cdef uint32_t i
    for i in range(x.crossing_count if t.records != NULL else 0):
        if not x.crossings[i].flags & FLAG_RECORDED:
            continue
        if x.crossings[i].record == NO_RECORD:
            if not flow_tie(sessions, row, LINK_LOST, x.crossings[i].point, 0, x.crossings[i].layer):
                return False
        elif not flow_tie(sessions, row, LINK_RECORDS, x.crossings[i].record, 0, x.crossings[i].layer):
            return False
        t.rows[row].flags |= FLOW_OBSERVED
    return True


# Tie the entry to all that its plan found. False: something of it has changed since, or there is no room.
cdef bint tie_all(flow_table *t, session_table *sessions, uint32_t row, const plan *x) noexcept nogil:
    cdef flow *f = &t.rows[row]
    cdef flow_cold *cold = &t.cold[row]
    cdef const effect *e
    cdef session *s
    cdef uint64_t idle = <uint64_t>LONGEST_IDLE * 1000
    cdef uint32_t i, counts = 0
    for i in range(x.effect_count):
        e = &x.effects[i]
        if e.kind == EFFECT_GATEWAY:
            if counts == FLOW_COUNTS:
                return False
            cold.counts[counts].row = e.row
            cold.counts[counts].way = e.way
            cold.counts[counts].layer = e.layer
            cold.counts[counts].used = 1
            counts += 1
        elif e.kind == EFFECT_OPEN or e.kind == EFFECT_ABSENT:
            if not flow_tie(sessions, row, LINK_LACKS, bucket_of(sessions, &e.forward), 0, 0):
                return False
        else:
            s = &sessions.rows[e.row]
            if not s.live or s.version != e.version:
                return False
            idle = s.idle if s.idle < idle else idle
            if not flow_tie(sessions, row, LINK_KEEPS if e.counted else LINK_TOUCHES, e.row, e.way, e.layer):
                return False
    f.idle = <uint16_t>(idle // 1000)
    return tie_records(t, sessions, row, x)


# Did an interface ask its rules? Else it knew the flow, and they do not matter.
cdef bint asked_rules(const plan *x, uint32_t owner) noexcept nogil:
    cdef uint32_t i
    for i in range(x.effect_count):
        if (x.effects[i].kind == EFFECT_OPEN or x.effects[i].kind == EFFECT_ABSENT) and x.effects[i].forward.owner == owner:
            return True
    return False


# The parts of the tables that decided about a plan: the nodes it came to, and what they asked. What is missing here is not
# noticed when it changes, but for what a change of packs everything as a whole (dataplane/compile/changed.py): interfaces,
# contexts, neighbours, bridges, maps, NAT policies and sets of numbers.
cdef void parts_of(parts *on, const plan *x, tables *b) noexcept nogil:
    cdef const node *n
    cdef const group_policy *policy
    cdef const tunnel *tn
    cdef uint32_t i
    memset(on, 0, sizeof(parts))
    for i in range(1, x.step_count + 1):
        n = &b.nodes[x.steps[i].node]
        add_part(on, PART_NODE, x.steps[i].node)
        if n.op == OP_GUARD:
            if n.mode == TEST_SOURCE_IN or n.mode == TEST_DESTINATION_IN:
                add_part(on, PART_TABLE, n.table)
        elif n.op == OP_LOOKUP:
            add_part(on, PART_FIB, n.table)
        elif n.op == OP_FILTER:
            # which rule was the first to match stays as it is when others go
            add_part(on, PART_ADDED, n.table)
            add_part(on, PART_RULE, n.table, x.steps[i].rule)
        elif n.op == OP_GROUP_SESSION:
            policy = &b.group_policies[n.table]
            add_part(on, PART_GROUP_POLICY, n.table)
            if asked_rules(x, policy.owner):
                # whether a flow is tracked depends on the rules of both directions
                add_part(on, PART_RULES, policy.egress)
                add_part(on, PART_RULES, policy.ingress)
        elif n.op == OP_FLOW_GATE:
            add_part(on, PART_FLOW_POLICIES, 0)
        elif n.op == OP_ENCAPSULATE:
            add_part(on, PART_TUNNELS, 0)
            add_part(on, PART_SPREAD, b.tunnels[n.table].spread)
        elif n.op == OP_DECAPSULATE:
            add_part(on, PART_TUNNELS, 0)
    for i in range(x.point_count):
        n = &b.nodes[x.points[i]]
        add_part(on, PART_NODE, x.points[i])
        add_part(on, PART_TABLE, n.table)
    for i in range(x.effect_count):
        if x.effects[i].counted:
            # it came back through the tunnel that this session belongs to
            tn = tunnel_of(b, x.effects[i].forward.owner)
            if tn != NULL:
                add_part(on, PART_SPREAD, tn.spread)


cdef uint32_t new_row(flow_table *t, session_table *sessions, const arrival *a) noexcept nogil:
    cdef uint32_t row = flow_find(t, a.tag, a.word, a.wide)
    if row != NO_FLOW:
        flow_retire(sessions, row)
    row = flow_insert(t, a.tag, a.word, a.wide)
    if row == NO_FLOW:
        row = flow_victim(t, a.tag, <uint32_t>t.now)
        if row != NO_FLOW:
            flow_retire(sessions, row)
            row = flow_insert(t, a.tag, a.word, a.wide)
    return row


# Remember the plan of a packet that came as `p`, if it is one that can be.
cdef void flow_remember(flow_table *t, session_table *sessions, tables *b, const arrival *a, const packet *p,
                        const plan *x) noexcept nogil:
    cdef const interface *by
    cdef const interface *to
    cdef const effect *e
    cdef flow *f
    cdef uint32_t i, row, mtu
    cdef uint8_t flags = 0
    cdef parts on
    cdef const packet *q = x.p
    if x.verdict != VERDICT_FORWARD or x.absences > ABSENCES or x.edit.cut_count:
        return
    # what goes on must be what came, or was inside it: an entry has no room for further legs. What looks like a tunnel's
    # and went on unopened was not read from outside (`read_inside`), and walks each time
    if (q != x.opened or a.inside == NULL) if x.opened != NULL else (q != p or a.inside != NULL):
        return
    for i in range(x.effect_count):
        e = &x.effects[i]
        if (e.kind == EFFECT_OPEN and not e.pending) or (e.kind == EFFECT_TOUCH and e.changes):
            return
    by = &b.interfaces[b.contexts[a.context].interface - 1]
    to = &b.interfaces[x.edit.interface - 1]
    if x.object != to.number:
        return          # what a hit says of itself is where it leaves
    if memcmp(x.edit.src_mac, to.router_mac, 6) != 0:
        flags = FLOW_BRIDGED
        if memcmp(x.edit.src_mac, by.mac, 6) != 0:
            return
    row = new_row(t, sessions, a)
    if row == NO_FLOW:
        return
    parts_of(&on, x, b)
    t.cold[row].footing = footing_take(&t.footings, &on, t.epoch)
    f = &t.rows[row]
    f.flags = flags
    f.epoch = t.epoch
    f.to = x.edit.interface
    f.last_seen = <uint32_t>t.now
    mtu = by.mtu
    if x.path_mtu[LAYER_CAME] and x.path_mtu[LAYER_CAME] < mtu:
        mtu = x.path_mtu[LAYER_CAME]
    f.mtu = <uint16_t>(mtu if mtu < 0xFFFFU else 0xFFFFU)
    if x.opened != NULL:
        f.flags |= FLOW_OPENS
        t.wide[row].mtu = <uint16_t>x.path_mtu[LAYER_INSIDE]
        t.wide[row].spent_outside = x.spent_outside
    if x.edit.around.used:
        f.flags |= FLOW_AROUND
        write_shell(&t.shells[row], x)
    write_edit(f, &t.wide[row], q, &x.edit.to)
    if not tie_all(t, sessions, row, x):
        flow_retire(sessions, row)

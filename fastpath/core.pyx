"""The way of one packet: parse, classify, walk, commit, edit, emit.

`receive` takes one frame and leaves a verdict, counted under its port, and any number of emissions: the
packet itself or its fragments, an answer, an ICMP error, fragments that had waited for it. Frames are
edited in place; frames the router makes lie in `scratch`, valid until `outbox_clear`. Whether a packet has a flow entry
has been seen before (fastpath.burst); here it gets one.
"""

from libc.string cimport memcmp, memcpy, memset

from fastpath.edit cimport *
from fastpath.emission cimport *
from fastpath.fragment cimport *
from fastpath.flow cimport flow_remember
from fastpath.memo cimport flows_move
from fastpath.observe cimport observe
from fastpath.lpm cimport lpm_find
from fastpath.packet cimport *
from fastpath.plan cimport *
from fastpath.reason cimport *
from fastpath.records cimport records_turn
from fastpath.session cimport *
from fastpath.snapshot cimport bridge_find, context, interface
from fastpath.walk cimport start_metadata, walk
from fastpath.watch cimport watch_held, watch_walk
from fastpath.wire cimport *

cdef enum:
    ND_ROUTER_SOLICITATION = 133
    ND_NEIGHBOUR_SOLICITATION = 135
    ND_REDIRECT = 137
    ERA = 30                # 2^30 ms are 12 days
    TURN_MS = 4096          # in which all flow entries are looked at once


cdef void count_reason(core *c, uint32_t port, uint16_t reason) noexcept nogil:
    if port < c.port_count:
        c.ports[port].reasons[reason] += 1


cdef inline void give(outcome *result, uint8_t verdict, uint16_t reason, uint32_t object, uint32_t rule) noexcept nogil:
    result.verdict = verdict
    result.reason = reason
    result.object = object
    result.rule = rule


# What is left of it, for the legs of one packet: the caller takes what they have used.
cdef void offer_room(core *c, leg_room *legs) noexcept nogil:
    legs.bytes = c.out.scratch + c.out.used
    legs.size = <uint32_t>SCRATCH - c.out.used


# --- commit --------------------------------------------------------------------------------------------------------

# Session `s` is one of those that the session with `key`, which has no end of its own, counts.
cdef void join_counted(core *c, session *s, const session_key *key, uint8_t kind) noexcept nogil:
    cdef uint32_t pool = table_find(&c.sessions, key, c.now)
    if pool == NO_SESSION:
        pool = table_insert(&c.sessions, key, key, c.now)
        if pool == NO_SESSION:
            return
        c.sessions.rows[pool].kind = kind
    else:
        pool >>= 1
    c.sessions.rows[pool].packets[0] += 1
    c.sessions.rows[pool].target = s.target
    s.pool = pool


cdef void open_planned(core *c, const plan *x, effect *e, packet *p) noexcept nogil:
    cdef uint32_t row = table_insert(&c.sessions, &e.forward, &e.reply, c.now)
    cdef session *s
    if row == NO_SESSION:
        return          # the plan made sure there is room
    s = &c.sessions.rows[row]
    s.kind = e.session_kind
    s.state = e.step.state
    s.seen = e.step.seen
    s.idle = e.step.idle
    s.rule = e.rule
    s.pool = NO_SESSION
    s.gateway = e.gateway
    s.cookie = e.cookie
    s.target = e.target
    s.flipped = e.flipped
    s.piece[0] = e.piece
    s.packets[0] = p.segments
    s.bytes[0] = e.size
    if 0 < p.context < c.sessions.ports:
        s.opener = p.context
        c.sessions.held[s.opener] += 1
    if e.answered:
        s.packets[1] = p.segments
        s.bytes[1] = e.size
    if e.session_kind == SESSION_NAT:
        join_counted(c, s, &e.pool, SESSION_POOL)
        note_deadline(&c.sessions, s)
        if s.key[0].tuple.proto == PROTO_TCP:
            c.sessions.gateways[s.gateway - 1].attempts += 1
    elif e.session_kind == SESSION_BALANCED:
        openings(&c.sessions, &e.forward)[0] += 1
        if e.pool.owner:
            join_counted(c, s, &e.pool, SESSION_STICKY)


# Carry out a plan's effects, in the order of its hops; also those of a packet that a later hop dropped.
cdef void commit(core *c, plan *x, packet *p) noexcept nogil:
    cdef uint32_t i
    cdef effect *e
    cdef session *s
    for i in range(x.effect_count):
        e = &x.effects[i]
        if e.kind == EFFECT_OPEN:
            if not e.pending:
                open_planned(c, x, e, p)
            continue
        if e.kind == EFFECT_GATEWAY:
            count_gateway(&c.sessions.gateways[e.row], e.way, p.segments, e.size, e.size_out, e.passed)
            c.sessions.gateways[e.row].exhausted += e.exhausted
            continue
        if e.kind != EFFECT_TOUCH:
            continue
        s = &c.sessions.rows[e.row]
        if not s.live or not same_key(&s.key[0], &e.forward):
            continue
        s.last_seen = c.now
        if not e.counted:
            s.packets[e.way] += p.segments
            s.bytes[e.way] += e.size
        if e.piece.kind:
            s.piece[e.way] = e.piece
        if e.changes:
            if s.gateway and s.state == STATE_OPENING and e.step.state == STATE_OPEN:
                c.sessions.gateways[s.gateway - 1].established += 1
            s.state = e.step.state
            s.seen = e.step.seen
            s.idle = e.step.idle
            note_deadline(&c.sessions, s)
            session_changed(&c.sessions, s)
            if e.target and e.target != s.target:
                s.target = e.target
                if s.pool != NO_SESSION:
                    c.sessions.rows[s.pool].target = e.target


# --- errors -----------------------------------------------------------------------------------------------------------

# Who says what plan `x` asks for, if anybody: their address.
cdef bint error_source(const core *c, const plan *x, addr *source) noexcept nogil:
    cdef const interface *i = &c.t.interfaces[x.error_interface - 1]
    cdef bint four = x.error_packet.family == 4
    if x.error_routed:
        source[0] = i.address4 if four else i.address6
        return x.error == ERROR_RESET or (i.has4 if four else i.has6)
    source[0] = i.router4 if four else i.router6
    return i.has_router4 if four else i.has_router6


# Whether what plan `x` asks for is an ICMP error too many about packets of its port. They are paid for one each millisecond,
# as many as `errors` in advance (a token bucket, as RFC 4443, 2.4 (f), recommends).
cdef bint is_withheld(const core *c, const plan *x, uint64_t now) noexcept nogil:
    cdef uint64_t paid = c.ports[x.error_packet.context].paid
    return x.error != ERROR_RESET and (paid - now if paid > now else 0) >= c.errors


# Build the ICMP error or reset that plan `x` asked for into `frame` (room for ERROR_MAX) and plan its way to its receiver.
# False: nobody to send it as.
cdef bint plan_error(core *c, plan *x, session_table *overlay, uint8_t *frame, packet *q, leg_room *legs, plan *out, uint64_t now,
                     trace_buffer *trace) noexcept nogil:
    cdef packet *p = x.error_packet
    cdef interface *i = &c.t.interfaces[x.error_interface - 1]
    cdef metadata m
    cdef addr source
    cdef uint32_t entry
    if not error_source(c, x, &source):
        return False
    if x.error_routed:
        entry = i.out
        start_metadata(c.t, x.error_interface, &m)
        m.via = i.via
    else:
        entry = i.into
        memset(&m, 0, sizeof(metadata))
        m.realm = i.realm
        m.subnet = i.subnet
        m.zone = i.zone
    memset(q, 0, sizeof(packet))
    q.frame = frame
    if x.error == ERROR_RESET:
        q.length = build_reset(p, &x.error_view, frame)
    else:
        finish(p)
        q.length = build_error(p, &x.error_view, frame, source, x.error == ERROR_TOO_BIG, x.error_mtu)
    q.l3 = ETH_HEADER
    q.family = p.family
    q.context = p.context
    if parse_ip(q):
        return False
    q.generated = 1
    walk(c.t, &c.sessions, overlay, q, legs, out, entry, &m, now, c.seed, trace)
    return True


# INJECT: an error or reset of the router's own is a packet like any other from here on.
cdef void inject_error(core *c, plan *x, uint32_t parent) noexcept nogil:
    cdef uint8_t *frame = scratch_frame(&c.out, ERROR_MAX)
    cdef packet q
    cdef leg_room legs
    cdef uint16_t reason
    cdef trace_buffer *story = NULL
    cdef port_counters *k = &c.ports[x.error_packet.context]
    cdef addr source
    if is_withheld(c, x, c.now):
        k.withheld += error_source(c, x, &source)
        return
    offer_room(c, &legs)
    if c.watch != NULL:
        story = &c.watch.other
        story.count = 0
    if frame == NULL or not plan_error(c, x, NULL, frame, &q, &legs, &c.error_work, c.now, story):
        return
    if x.error != ERROR_RESET:
        k.paid = (k.paid if k.paid > c.now else c.now) + 1
    c.out.used += legs.used
    if c.watch != NULL:
        watch_walk(c.watch, c.t, &q, &legs, &c.error_work, story)
    commit(c, &c.error_work, &q)
    if c.error_work.crossing_count:
        observe(&c.sessions, &c.error_work, c.now)
    reason = c.error_work.reason
    if c.error_work.verdict == VERDICT_FORWARD:
        reason = send(&c.out, c.error_work.p, &c.error_work.edit, CAUSE_RESET if x.error == ERROR_RESET else CAUSE_ERROR, parent)
    if reason:
        count_reason(c, q.context, reason)


# --- what the router answers itself --------------------------------------------------------------------------------

cdef void receive_arp(core *c, const context *x, const interface *i, uint8_t *frame, uint32_t length, uint32_t parent,
                      outcome *result) noexcept nogil:
    cdef uint8_t *arp = frame + ETH_HEADER
    cdef uint8_t *answer
    cdef uint32_t mac, size
    cdef addr target
    if length < ETH_HEADER + 28 or load32(arp) != 0x00010800U or load16(arp + 4) != 0x0604U or load16(arp + 6) not in (1, 2):
        give(result, VERDICT_DROP, REASON_ARP_MALFORMED, i.number, 0)
        return
    target.hi = 0
    target.lo = load32(arp + 24)
    # Replies and announcements change nothing: who has which address is configured, not learned. A probe for
    # the asker's own address (RFC 5227) stays unanswered, else the guest would think it taken.
    mac = lpm_find(&c.t.intervals[x.neighbours], 4, target)
    if load16(arp + 6) != 1 or mac == 0 or memcmp(c.t.macs + 6 * (mac - 1), i.mac, 6) == 0:
        give(result, VERDICT_DROP, REASON_ARP_UNANSWERED, i.number, 0)
        return
    answer = scratch_frame(&c.out, 64)
    if answer != NULL:
        size = build_arp_reply(frame, answer, c.t.macs + 6 * (mac - 1))
        if put(&c.out, NULL, answer, size, i.port, CAUSE_ANSWER, parent):
            give(result, VERDICT_SERVE, REASON_NONE, i.number, 0)
            return
    give(result, VERDICT_DROP, REASON_EMISSION_LIMIT, i.number, 0)


# Neighbour discovery messages never leave the link (hop limit 255, RFC 4861). True: handled here.
cdef bint receive_nd(core *c, const context *x, const interface *i, packet *p, uint32_t parent, outcome *result) noexcept nogil:
    cdef addr target
    cdef uint32_t mac, size
    cdef uint8_t *answer
    cdef uint8_t *icmp = p.frame + p.l4
    if p.family != 6 or p.proto != PROTO_ICMPV6 or p.fragment != FRAGMENT_NONE \
            or p.icmp_type < ND_ROUTER_SOLICITATION or p.icmp_type > ND_REDIRECT:
        return False
    if p.ttl != 255 or p.icmp_code != 0 or (p.icmp_type == ND_NEIGHBOUR_SOLICITATION and p.l4 + 24 > p.end) \
            or fold(sum_bytes(p.frame + p.l3 + 8, 32) + PROTO_ICMPV6 + (p.end - p.l4) + sum_bytes(icmp, p.end - p.l4)) != 0xFFFFU:
        give(result, VERDICT_DROP, REASON_ND_MALFORMED, i.number, 0)
        return True
    if p.icmp_type == ND_NEIGHBOUR_SOLICITATION and not (p.src.hi == 0 and p.src.lo == 0) and icmp[8] != 0xFF:
        target.hi = load64(icmp + 8)
        target.lo = load64(icmp + 16)
        mac = lpm_find(&c.t.intervals[x.neighbours], 6, target)
        if mac and memcmp(c.t.macs + 6 * (mac - 1), i.mac, 6) != 0:
            answer = scratch_frame(&c.out, 128)
            if answer != NULL:
                size = build_advertisement(p, answer, c.t.macs + 6 * (mac - 1), i.mac,
                                           memcmp(c.t.macs + 6 * (mac - 1), i.router_mac, 6) == 0)
                if put(&c.out, NULL, answer, size, i.port, CAUSE_ANSWER, parent):
                    give(result, VERDICT_SERVE, REASON_NONE, i.number, 0)
                    return True
            give(result, VERDICT_DROP, REASON_EMISSION_LIMIT, i.number, 0)
            return True
    give(result, VERDICT_DROP, REASON_ND_UNANSWERED, i.number, 0)
    return True


# --- the way of a packet -------------------------------------------------------------------------------------------

# Walk, commit, and send. `p` is parsed, checked and knows its ports. `a`: what it is remembered as, or NULL.
cdef void forward(core *c, const context *x, packet *p, uint8_t cause, uint32_t parent, const arrival *a, outcome *result) noexcept nogil:
    cdef metadata m
    cdef uint16_t reason
    cdef leg_room legs
    cdef plan *w = &c.work
    cdef trace_buffer *trace = c.trace if cause == CAUSE_FORWARDED else NULL
    if c.watch != NULL and trace == NULL:
        trace = &c.watch.other
        trace.count = 0
    start_metadata(c.t, x.interface, &m)
    offer_room(c, &legs)
    walk(c.t, &c.sessions, NULL, p, &legs, w, x.entry, &m, c.now, c.seed, trace)
    if w.reason == REASON_NAT_PORTS_EXHAUSTED and free_the_dead(c):
        if trace != NULL:
            trace.count = 0
        walk(c.t, &c.sessions, NULL, p, &legs, w, x.entry, &m, c.now, c.seed, trace)
    c.out.used += legs.used
    if c.watch != NULL:
        watch_walk(c.watch, c.t, p, &legs, w, trace)
    commit(c, w, p)
    if w.crossing_count:
        observe(&c.sessions, w, c.now)
    give(result, w.verdict, w.reason, w.object, w.rule)
    if w.verdict == VERDICT_FORWARD:
        if a != NULL and a.keyed:
            flow_remember(&c.flows, &c.sessions, c.t, a, p, w)
        reason = send(&c.out, w.p, &w.edit, cause, parent)
        if reason:
            give(result, VERDICT_DROP, reason, w.object, 0)
    elif w.verdict == VERDICT_SERVE:
        turn_echo(p)
        memcpy(p.frame, c.t.interfaces[x.interface - 1].mac, 6)
        memcpy(p.frame + 6, c.t.interfaces[x.interface - 1].router_mac, 6)
        if not put(&c.out, p, p.frame, p.end, c.t.interfaces[x.interface - 1].port, CAUSE_ANSWER, parent):
            give(result, VERDICT_DROP, REASON_EMISSION_LIMIT, w.object, 0)
    if w.error:
        inject_error(c, w, parent)


# A fragment: the first one goes on (True), a later one too if the first has come; else it waits or dies.
cdef bint admit_fragment(core *c, packet *p, uint32_t parent, outcome *result) noexcept nogil:
    cdef port_counters *k = &c.ports[p.context]
    # a sender with too many waiting gets no new datagram either: its share of the table is bounded too
    cdef bint may_begin = p.fragment == FRAGMENT_FIRST or k.held < HELD_PER_CONTEXT
    cdef datagram *d = datagram_find(&c.fragments, p, c.now, may_begin)
    if d == NULL:
        # a first fragment needs nobody's memory to pass; a later one cannot be decided without it
        if p.fragment == FRAGMENT_FIRST:
            return True
        give(result, VERDICT_DROP, REASON_FRAGMENT_LIMIT, p.context, 0)
        return False
    if p.fragment == FRAGMENT_FIRST:
        datagram_learn(d, p)
        return True
    if d.state == DATAGRAM_KNOWN:
        datagram_tell(d, p)
        return True
    if k.held >= HELD_PER_CONTEXT or not hold(&c.fragments, d, p):
        give(result, VERDICT_DROP, REASON_FRAGMENT_LIMIT, p.context, 0)
        return False
    k.held += 1
    give(result, VERDICT_HOLD, REASON_NONE, p.context, 0)
    return False


# The first fragment has come: those that waited for it go the same way.
cdef void release_fragments(core *c, const context *x, packet *first, uint32_t parent) noexcept nogil:
    cdef datagram *d = datagram_find(&c.fragments, first, c.now, False)
    cdef uint32_t at
    cdef uint8_t *frame
    cdef packet p
    cdef outcome result
    if d == NULL:
        return
    while True:
        at = release(&c.fragments, d)
        if at == NO_HELD:
            return
        c.ports[first.context].held -= 1
        frame = scratch_frame(&c.out, c.fragments.held[at].length)
        memset(&p, 0, sizeof(packet))
        p.frame = frame
        p.length = c.fragments.held[at].length
        if frame != NULL:
            memcpy(frame, c.fragments.bytes + <size_t>at * HELD_SIZE, p.length)
        recycle(&c.fragments, at)
        if frame == NULL:
            count_reason(c, first.context, REASON_EMISSION_LIMIT)
            continue
        p.context = first.context
        p.neighbour = first.neighbour
        p.family = first.family
        p.l3 = ETH_HEADER
        if parse_ip(&p):
            continue    # it was parsed before it was held
        datagram_tell(d, &p)
        forward(c, x, &p, CAUSE_RELEASED, parent, NULL, &result)
        if result.reason:
            count_reason(c, first.context, result.reason)


cdef void receive(core *c, arrival *a) noexcept nogil:
    cdef const context *x
    cdef const interface *i
    cdef packet p
    cdef int reason
    cdef port_counters *k
    cdef outcome *result = &a.result
    c.trace = a.trace
    if c.t == NULL or a.context >= c.t.context_count or c.t.contexts[a.context].interface == 0:
        give(result, VERDICT_DROP, REASON_CONTEXT_UNKNOWN, 0, 0)
        count_reason(c, a.context, REASON_CONTEXT_UNKNOWN)
        return
    x = &c.t.contexts[a.context]
    i = &c.t.interfaces[x.interface - 1]
    k = &c.ports[a.context]
    k.rx_frames += 1
    k.rx_bytes += a.length
    memset(&p, 0, sizeof(packet))
    p.segments = 1
    p.frame = a.frame
    p.length = a.length
    p.l3 = ETH_HEADER
    p.context = a.context
    reason = classify(c, x, i, &p, a.vnet, a.parent, result)
    k.rx_packets += p.segments
    if reason:
        give(result, VERDICT_DROP, <uint16_t>reason, i.number, 0)
    elif result.verdict == 0:
        if p.fragment == FRAGMENT_NONE:
            forward(c, x, &p, CAUSE_FORWARDED, a.parent, a, result)
        elif admit_fragment(c, &p, a.parent, result):
            # the walk edits the frame, so what later fragments are found by is kept apart
            forward_fragment(c, x, &p, a.parent, result)
    if result.reason:
        k.reasons[result.reason] += 1


cdef void forward_fragment(core *c, const context *x, packet *p, uint32_t parent, outcome *result) noexcept nogil:
    cdef packet first = p[0]
    forward(c, x, p, CAUSE_FORWARDED, parent, NULL, result)
    if first.fragment == FRAGMENT_FIRST:
        release_fragments(c, x, &first, parent)


# From bytes to a packet that may be walked. Returns a drop reason; or sets result.verdict if answered here.
cdef int classify(core *c, const context *x, const interface *i, packet *p, const uint8_t *vnet, uint32_t parent,
                  outcome *result) noexcept nogil:
    cdef uint8_t *frame = p.frame
    cdef uint32_t type
    cdef int reason
    cdef bint router, group
    memset(result, 0, sizeof(outcome))
    if p.length < ETH_HEADER:
        return REASON_RUNT_FRAME
    if memcmp(frame + 6, i.mac, 6) != 0:
        return REASON_SOURCE_MAC_SPOOFED
    type = load16(frame + 12)
    if type == ETHERTYPE_ARP:
        receive_arp(c, x, i, frame, p.length, parent, result)
        return result.reason
    if type == ETHERTYPE_VLAN or type == ETHERTYPE_QINQ:
        return REASON_VLAN_TAGGED
    if type == ETHERTYPE_IPV4:
        p.family = 4
    elif type == ETHERTYPE_IPV6:
        p.family = 6
    else:
        return REASON_ETHERTYPE_UNSUPPORTED
    router = memcmp(frame, i.router_mac, 6) == 0
    group = (frame[0] & 1) != 0
    if not router:
        if group:
            if p.family == 4:
                return REASON_L2_MULTICAST
        else:
            if x.bridge:
                p.neighbour = bridge_find(c.t, x.bridge - 1, load48(frame))
            if p.neighbour == 0:
                return REASON_L2_DESTINATION_UNKNOWN
    reason = parse_ip(p)
    if reason == 0 and vnet != NULL:
        reason = parse_offload(p, vnet)
    if reason:
        return reason
    if wire_length(p) > i.mtu:
        return REASON_MTU_EXCEEDED
    if receive_nd(c, x, i, p, parent, result):
        return result.reason
    if group and not router:
        return REASON_L2_MULTICAST
    return check_addresses(p)


# Ports of the dead are free, though the sweep has not come by yet. Looked for once in a millisecond at most, and not while
# no session with a port can have died since it was last found that none has: the search goes through the whole table, and
# who wants ports that there are not would have it made for each packet. True: some.
cdef bint free_the_dead(core *c) noexcept nogil:
    if c.last_freed == c.now or c.now < c.sessions.nat_until:
        return False
    c.last_freed = c.now
    return table_expire(&c.sessions, c.now) != 0


# From here on records are of this moment.
cdef void watch_begins(core *c) noexcept nogil:
    c.watch.now_ns = c.clock() if c.clock != NULL else c.now * 1000000


# Waiting fragments die of age (counted in `timed_out` until somebody asks).
cdef void sweep(core *c) noexcept nogil:
    cdef datagram *d
    cdef uint32_t i, at
    c.last_sweep = c.now
    if c.watch != NULL:
        watch_begins(c)
    for i in range(DATAGRAMS):
        d = &c.fragments.rows[i]
        if d.state == DATAGRAM_FREE or c.now < d.started + c.fragments.lifetime:
            continue
        while True:
            at = release(&c.fragments, d)
            if at == NO_HELD:
                break
            if c.watch != NULL:
                watch_held(c.watch, d.key.context, c.fragments.bytes + <size_t>at * HELD_SIZE, c.fragments.held[at].length,
                           REASON_FRAGMENT_TIMEOUT)
            recycle(&c.fragments, at)
            if d.key.context < c.port_count:
                c.ports[d.key.context].held -= 1
            count_reason(c, d.key.context, REASON_FRAGMENT_TIMEOUT)
            c.timed_out += 1
        d.state = DATAGRAM_FREE


# The clock of all packet state. It never goes back, and what is dead does not count as living for long.
cdef void set_time(core *c, uint64_t now) noexcept nogil:
    cdef uint64_t passed = now - c.now
    if now > c.now:
        # entries know only the lower half of the time they were last used
        if (now >> ERA) != (c.now >> ERA):
            flows_retire(&c.sessions)
        c.now = now
        c.flows.now = now
        if c.flows.records != NULL and now >= c.flows.records.until:
            records_turn(c.flows.records, now)
        # a little each millisecond, that nobody has to wait for all of it at once: sessions come by once in SWEEP_MS
        table_age(&c.sessions, 1 + <uint32_t>(c.sessions.used * (passed if passed < SWEEP_MS else SWEEP_MS) // SWEEP_MS), now)
        passed = passed if passed < TURN_MS else TURN_MS
        flows_age(&c.sessions, 1 + <uint32_t>(c.flows.used * passed // TURN_MS))
        flows_move(&c.flows, <uint32_t>passed)
    if c.now - c.last_sweep >= SWEEP_MS:
        sweep(c)

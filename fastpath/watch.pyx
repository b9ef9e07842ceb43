"""What recorders are told of packets: how each looks at the points that they look at, and what became of it.

    arrival: its bytes are kept -> walk: a record at each point, verdict known -> done: arrival and what left, published

While anybody records, every packet walks and is told about (`receive_watched` in fastpath.burst); while nobody does, no
instruction of this runs. A recorder only reads what it looks at.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from fastpath.edit cimport apply_header, complete_checksum
from fastpath.emission cimport NO_PARENT, outbox_clear, outbox_close, outbox_open, scratch_frame, send
from fastpath.geneve cimport GENEVE_PORT, OUTER_SIZE
from fastpath.packet cimport addr, addr_eq, edit, header, start_header
from fastpath.plan cimport DETAIL_DECAPSULATED, DETAIL_DROPPED, DETAIL_ENCAPSULATED, hop
from fastpath.reason cimport *
from fastpath.recorder cimport *
from fastpath.snapshot cimport (OP_DECAPSULATE, OP_ENCAPSULATE, OP_FILTER, OP_GROUP_SESSION, interface, spread, tunnel, tunnel_of,
                                tunnel_with_id)
from fastpath.wire cimport (ETH_HEADER, ETHERTYPE_IPV4, ETHERTYPE_IPV6, PROTO_UDP, VNET_NEEDS_CSUM, fold, load16, load16_le,
                            load32, load64, store16, sum_bytes)

cdef enum:
    OPTION_OF_ENDPOINT = 0x01080102     # the first one behind a GENEVE header of the router's


# Records are complete. They are read now, or when what left has been written to ports.
cdef void publish(recording *w) noexcept nogil:
    cdef uint32_t i
    for i in range(w.count):
        w.recorders[i].begun = w.recorders[i].written
    if not w.waits:
        watch_flushed(w)


# --- one packet ----------------------------------------------------------------------------------------------------

cdef recording *recording_open() noexcept nogil:
    cdef recording *w = <recording *>calloc(1, sizeof(recording))
    if w == NULL:
        return NULL
    w.came = <uint8_t *>malloc(LONGEST_RECORDED)
    w.copy = <uint8_t *>malloc(LONGEST_RECORDED)
    if w.came == NULL or w.copy == NULL or not outbox_open(&w.around):
        recording_close(w)
        return NULL
    return w


cdef void recording_close(recording *w) noexcept nogil:
    if w != NULL:
        free(w.came)
        free(w.copy)
        outbox_close(&w.around)
        free(w)


# A checksum that was left to hardware, as the wire would have it.
cdef void complete(uint8_t *frame, uint32_t length, const uint8_t *vnet) noexcept nogil:
    cdef uint32_t start, field, sum
    if vnet == NULL or not vnet[0] & VNET_NEEDS_CSUM:
        return
    start = load16_le(vnet + 6)
    field = start + load16_le(vnet + 8)
    if start >= length or field + 2 > length:
        return
    sum = 0xFFFFU - fold(sum_bytes(frame + start, length - start))
    store16(frame + field, sum if sum else 0xFFFFU)


cdef uint16_t segment_size(const uint8_t *vnet) noexcept nogil:
    return load16_le(vnet + 4) if vnet != NULL and vnet[1] else 0


# Its record stands in front of all that becomes of it, and is told the verdict by `watch_done`.
cdef void watch_arrival(recording *w, arrival *a) noexcept nogil:
    cdef remark m
    cdef const point *n
    cdef uint32_t i, k
    w.story.count = 0
    w.came_length = a.length if a.length <= LONGEST_RECORDED else LONGEST_RECORDED
    memcpy(w.came, a.frame, w.came_length)
    complete(w.came, w.came_length, a.vnet)
    w.came_gso = segment_size(a.vnet)
    memset(&m, 0, sizeof(remark))
    m.own = OWN_ARRIVAL
    m.outgoing = True
    m.gso_size = w.came_gso
    for i in range(w.count):
        for k in range(w.recorders[i].point_count):
            n = &w.recorders[i].points[k]
            if n.kind == POINT_INTERFACE and n.port == a.context:
                keep(w.recorders[i], w.now_ns, n.inside, w.came, w.came_length, False, &m)


# The packet of this leg with these header values, in `w.copy`. False: it has no bytes yet.
cdef bint rebuild(recording *w, packet *p, const leg_room *legs, uint32_t leg, const header *to, packet *q) noexcept nogil:
    q[0] = p[0] if leg == 0 else legs.legs[leg - 1]
    if q.frame == NULL or q.end > LONGEST_RECORDED:
        return False
    memcpy(w.copy, q.frame, q.end)
    q.frame = w.copy
    apply_header(q, to)
    complete_checksum(q)
    return True


cdef uint32_t allowed_by(const trace_buffer *story) noexcept nogil:
    cdef uint32_t i = story.count
    while i:
        i -= 1
        if story.hops[i].rule and (story.hops[i].op == OP_GROUP_SESSION or story.hops[i].op == OP_FILTER):
            return story.hops[i].rule
    return 0


cdef bint is_one_of(const point *n, addr a) noexcept nogil:
    cdef uint32_t i
    for i in range(n.address_count):
        if addr_eq(n.addresses[i], a):
            return True
    return False


# The packet as it was before (or after) a hop, at one side of a point.
cdef void keep_at(recording *w, recorder *r, uint32_t lane, packet *p, const leg_room *legs, const trace_buffer *story, int at,
                  remark *m, bint outgoing) noexcept nogil:
    cdef packet q
    cdef header first
    if lane == NO_LANE:
        return
    if at < 0:
        start_header(&first, p)
        if not rebuild(w, p, legs, 0, &first, &q):
            return
    elif not rebuild(w, p, legs, story.hops[at].leg, &story.hops[at].to, &q):
        return
    m.outgoing = outgoing
    m.gso_size = q.gso_size
    keep(r, w.now_ns, lane, q.frame + q.l3, q.end - q.l3, True, m)


# What a packet that died inside of another would have left as, in `w.around`: in front of the interface it died at it has
# the MACs from there, elsewhere none.
cdef void build_around(recording *w, tables *t, const plan *x) noexcept nogil:
    cdef edit e = x.edit
    cdef packet q = x.p[0]
    cdef const interface *to
    cdef uint32_t i
    outbox_clear(&w.around)
    if x.verdict != VERDICT_DROP or not e.around.used or q.frame == NULL or q.end > LONGEST_RECORDED:
        return
    for i in range(t.interface_count):
        to = &t.interfaces[i]
        if to.realm == x.meta.realm and to.has4 and to.address4.lo == e.around.dst:
            memcpy(e.dst_mac, to.mac, 6)
            memcpy(e.src_mac, to.router_mac, 6)
    q.frame = scratch_frame(&w.around, q.end)
    memcpy(q.frame, x.p.frame, q.end)
    if send(&w.around, &q, &e, CAUSE_FORWARDED, NO_PARENT):
        outbox_clear(&w.around)


cdef void keep_around(recording *w, recorder *r, uint32_t lane, remark *m) noexcept nogil:
    cdef uint32_t i
    m.outgoing = False
    m.gso_size = 0
    for i in range(w.around.count):
        keep(r, w.now_ns, lane, w.around.rows[i].frame, w.around.rows[i].length, False, m)


# A packet that came to an interface's door and died there: its groups, its checks, or its subnet's ACL. It has the MACs
# that it would have had behind the door.
cdef void walk_to_interface(recording *w, recorder *r, tables *t, const point *n, packet *p, const leg_room *legs, const plan *x,
                            const trace_buffer *story, remark *m) noexcept nogil:
    cdef const hop *last
    cdef const interface *to
    cdef packet q
    cdef uint8_t *frame
    if x.verdict != VERDICT_DROP or story.count == 0 or n.inside == NO_LANE or (p.context == n.port and not p.generated):
        return
    last = &story.hops[story.count - 1]
    if x.object != n.object and not (x.reason == REASON_ACL_INGRESS and last.realm == n.realm and is_one_of(n, last.to.dst)):
        return
    if w.around.count:
        keep_around(w, r, n.inside, m)
        return
    if not rebuild(w, p, legs, last.leg, &last.to, &q) or q.l3 < ETH_HEADER:
        return
    frame = q.frame + q.l3 - ETH_HEADER
    if n.port < t.context_count and t.contexts[n.port].interface:
        to = &t.interfaces[t.contexts[n.port].interface - 1]
        memcpy(frame, to.mac, 6)
        if last.leg or not x.bridged:
            memcpy(frame + 6, to.router_mac, 6)
    store16(frame + 12, ETHERTYPE_IPV4 if q.family == 4 else ETHERTYPE_IPV6)
    m.outgoing = False
    m.gso_size = q.gso_size
    keep(r, w.now_ns, n.inside, frame, q.end - q.l3 + ETH_HEADER, False, m)


cdef void walk_through(recording *w, recorder *r, const point *n, packet *p, const leg_room *legs, const trace_buffer *story,
                       remark *m) noexcept nogil:
    cdef uint32_t i = 0, j
    cdef addr to
    cdef bint back, passed
    while i < story.count:
        if story.hops[i].object != n.object:
            i += 1
            continue
        j = i
        while j + 1 < story.count and story.hops[j + 1].object == n.object:
            j += 1
        passed = story.hops[j].detail != DETAIL_DROPPED
        if n.kind == POINT_TRANSLATOR:
            to = story.hops[i - 1].to.dst if i else p.dst
            back = is_one_of(n, to)
        else:
            back = n.kind == POINT_BORDER and i > 0 and story.hops[i - 1].realm == n.realm
        keep_at(w, r, n.outside if back else n.inside, p, legs, story, <int>i - 1, m, False)
        if passed and n.kind != POINT_PASSAGE:
            keep_at(w, r, n.inside if back else n.outside, p, legs, story, <int>j, m, True)
        i = j + 1


cdef bint is_tunnel_of(tables *t, const point *n, uint32_t owner) noexcept nogil:
    cdef const tunnel *tn = tunnel_of(t, owner)
    return tn != NULL and tn.balancer == n.object


cdef void walk_in_tunnel(recording *w, recorder *r, tables *t, const point *n, packet *p, const leg_room *legs,
                         const trace_buffer *story, remark *m) noexcept nogil:
    cdef uint32_t i
    cdef const hop *x
    for i in range(story.count):
        x = &story.hops[i]
        if x.detail == DETAIL_ENCAPSULATED and is_tunnel_of(t, n, x.object):
            m.member = x.rule
            keep_at(w, r, n.inside, p, legs, story, <int>i - 1, m, False)
            keep_around(w, r, n.outside, m)
        elif x.detail == DETAIL_DECAPSULATED and is_tunnel_of(t, n, x.object):
            m.member = x.rule
            m.outgoing = True
            m.gso_size = w.came_gso
            keep(r, w.now_ns, n.outside, w.came, w.came_length, False, m)
            keep_at(w, r, n.inside, p, legs, story, <int>i, m, True)
        elif x.detail == DETAIL_DROPPED and x.object == n.object:
            if x.op == OP_DECAPSULATE:
                m.outgoing = True
                m.gso_size = w.came_gso
                keep(r, w.now_ns, n.outside, w.came, w.came_length, False, m)
            elif x.op == OP_ENCAPSULATE:
                keep_at(w, r, n.inside, p, legs, story, <int>i - 1, m, False)
        m.member = 0


# A packet has been walked, and nothing of it has been edited yet.
cdef void watch_walk(recording *w, tables *t, packet *p, leg_room *legs, const plan *x, const trace_buffer *story) noexcept nogil:
    cdef remark m
    cdef const point *n
    cdef recorder *r
    cdef uint32_t i, k
    memset(&m, 0, sizeof(remark))
    m.object = x.object
    m.rule = x.rule if x.verdict == VERDICT_DROP else allowed_by(story)
    m.reason = x.reason
    m.verdict = x.verdict
    m.own = p.generated or story == &w.other
    build_around(w, t, x)
    for i in range(w.count):
        r = w.recorders[i]
        for k in range(r.point_count):
            n = &r.points[k]
            if n.kind == POINT_INTERFACE:
                walk_to_interface(w, r, t, n, p, legs, x, story, &m)
            elif n.kind == POINT_TUNNEL:
                walk_in_tunnel(w, r, t, n, p, legs, story, &m)
            elif n.kind != POINT_STORY:
                walk_through(w, r, n, p, legs, story, &m)


# --- frames --------------------------------------------------------------------------------------------------------

# The tunnel that a frame leaves inside of, or NULL: it has the headers of the router's making (`write_outer`). Later
# fragments do not, but follow the first one.
cdef const tunnel *tunnel_around(recording *w, tables *t, const emission *e) noexcept nogil:
    cdef const uint8_t *ip = e.frame + ETH_HEADER
    cdef const tunnel *tn = NULL
    if t != NULL and e.length >= ETH_HEADER + 20 and load16(e.frame + 12) == ETHERTYPE_IPV4 and ip[0] == 0x45 \
            and ip[9] == PROTO_UDP:
        if load16(ip + 6) & 0x1FFF:
            tn = tunnel_of(t, w.leaves_through)
        elif e.length >= ETH_HEADER + OUTER_SIZE and load16(ip + 22) == GENEVE_PORT and load32(ip + 36) == OPTION_OF_ENDPOINT:
            tn = tunnel_with_id(t, load64(ip + 40))
    if tn != NULL and tn.source != load32(ip + 12):
        tn = NULL
    w.leaves_through = tn.owner if tn != NULL else 0
    return tn


cdef uint32_t member_at(tables *t, const tunnel *tn, uint32_t address) noexcept nogil:
    cdef const spread *s = &t.spreads[tn.spread]
    cdef uint32_t i
    for i in range(s.first, s.first + s.count):
        if t.members[i].address == address:
            return t.members[i].number
    return 0


# A frame that leaves, at its interface, and outside of the tunnel that it leaves through. `only`: for this recorder, or NULL.
cdef void keep_emission(recording *w, const emission *e, remark *m, tables *t, const recorder *only) noexcept nogil:
    cdef uint32_t i, k
    cdef const point *n
    cdef recorder *r
    cdef const tunnel *tn
    cdef bint copied = False
    if e.length > LONGEST_RECORDED:
        return
    tn = tunnel_around(w, t, e)
    m.gso_size = segment_size(e.vnet)
    for i in range(w.count):
        r = w.recorders[i]
        if only != NULL and only != r:
            continue
        for k in range(r.point_count):
            n = &r.points[k]
            if not ((n.kind == POINT_INTERFACE and n.port == e.port)
                    or (n.kind == POINT_TUNNEL and tn != NULL and tn.balancer == n.object)):
                continue
            if not copied:
                memcpy(w.copy, e.frame, e.length)
                complete(w.copy, e.length, e.vnet)
                copied = True
            if n.kind == POINT_INTERFACE:
                keep(r, w.now_ns, n.inside, w.copy, e.length, False, m)
            else:
                m.member = member_at(t, tn, load32(w.copy + ETH_HEADER + 16))
                keep(r, w.now_ns, n.outside, w.copy, e.length, False, m)
                m.member = 0


cdef bint tells(recorder *r, recording *w, const outbox *o, uint32_t first) noexcept nogil:
    cdef uint32_t i
    if is_kept(r, w.came, w.came_length, False):
        return True
    for i in range(first, o.count):
        if is_kept(r, o.rows[i].frame, o.rows[i].length, False):
            return True
    return False


# All that was to happen to a frame has happened; what left because of it are the emissions from `first` on.
cdef void watch_done(recording *w, tables *t, const arrival *a, const outbox *o, uint32_t first) noexcept nogil:
    cdef remark m, left
    cdef const point *n
    cdef recorder *r
    cdef uint32_t i, k
    memset(&m, 0, sizeof(remark))
    m.verdict = a.result.verdict
    m.reason = a.result.reason
    m.object = a.result.object
    m.rule = a.result.rule if m.verdict == VERDICT_DROP else allowed_by(a.trace)
    m.outgoing = True
    m.gso_size = w.came_gso
    for i in range(w.count):
        r = w.recorders[i]
        correct(r, &m)
        for k in range(r.point_count):
            n = &r.points[k]
            if n.kind == POINT_STORY and tells(r, w, o, first):
                m.member = a.context
                put_record(r, w.now_ns, n.inside, w.came, w.came_length, &m, a.trace.hops, a.trace.count)
                m.member = 0
    w.leaves_through = 0
    left = m
    left.outgoing = False
    for i in range(first, o.count):
        left.cause = o.rows[i].cause
        left.own = left.cause != CAUSE_FORWARDED and left.cause != CAUSE_FRAGMENT
        left.verdict = VERDICT_FORWARD
        left.reason = REASON_NONE
        left.object = o.rows[i].port
        left.rule = 0 if left.own else m.rule
        left.emission = i + 1
        keep_emission(w, &o.rows[i], &left, t, NULL)
    publish(w)


# Whether what leaves from here on is written to ports at once, and nobody is to read before that it left.
cdef void watch_waits(recording *w, bint waits) noexcept nogil:
    w.waits = waits


# Emissions have been written to ports, or lost.
cdef void watch_flushed(recording *w) noexcept nogil:
    cdef uint32_t i
    for i in range(w.count):
        publish_ring(w.recorders[i])


# What was to leave, and its port did not take: the `number`th of the outbox, from 1. Emissions are told in their order. What
# is published already, because the clock was moved, gets a record of its own.
cdef void watch_lost(recording *w, tables *t, const emission *e, uint32_t number, uint16_t reason) noexcept nogil:
    cdef remark m
    cdef uint32_t i
    memset(&m, 0, sizeof(remark))
    m.verdict = VERDICT_DROP
    m.reason = reason
    m.cause = e.cause
    m.object = e.port
    for i in range(w.count):
        if not tell_lost(w.recorders[i], number, &m):
            keep_emission(w, e, &m, t, w.recorders[i])


# A frame that was held, and died so.
cdef void watch_held(recording *w, uint32_t port, const uint8_t *frame, uint32_t length, uint16_t reason) noexcept nogil:
    cdef remark m
    cdef uint32_t i, k
    memset(&m, 0, sizeof(remark))
    m.verdict = VERDICT_DROP
    m.reason = reason
    m.object = port
    m.outgoing = True
    for i in range(w.count):
        for k in range(w.recorders[i].point_count):
            if w.recorders[i].points[k].kind == POINT_INTERFACE and w.recorders[i].points[k].port == port:
                keep(w.recorders[i], w.now_ns, w.recorders[i].points[k].inside, frame, length, False, &m)
    publish(w)

"""A burst in three passes: who may be known, where that would be, and what is done about it.

    1  read each frame as far as a flow entry asks, hash its key, prefetch its bucket
    2  match tags, prefetch rows
    3  in order: compare the key, check, edit, count, emit; or receive the frame the whole way

The first two are in fastpath.lookahead; they change nothing, and the third looks again at what they found.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastpath.core cimport core, port_counters, receive, watch_begins
from fastpath.emission cimport MAX_EMISSIONS, SCRATCH, emission, send
from fastpath.flow cimport arrival, facts
from fastpath.geneve cimport OUTER_SIZE
from fastpath.lookahead cimport look_ahead
from fastpath.memo cimport *
from fastpath.observe cimport observe_hit
from fastpath.packet cimport edit, packet, parse_ip, parse_offload, start_header
from fastpath.reason cimport CAUSE_FORWARDED, REASON_EMISSION_LIMIT, VERDICT_DROP, VERDICT_FORWARD
from fastpath.session cimport flow_holds, flow_retire, flow_settle
from fastpath.snapshot cimport interface
from fastpath.watch cimport watch_arrival, watch_done
from fastpath.wire cimport *

cdef enum:
    TOLD_AT = 1 << 31       # bytes that an entry counts before it tells its sessions


# --- 3: hits -------------------------------------------------------------------------------------------------------

cdef inline uint16_t added(uint16_t sum, uint32_t delta) noexcept nogil:
    cdef uint32_t s = sum + delta
    return <uint16_t>(s + (s >> 16))


# Carry the edit of an entry out, checksums as in `apply_header`.
cdef inline void rewrite(const facts *p, const flow *f, const flow_wide *wide) noexcept nogil:
    cdef uint8_t *ip = p.frame + ETH_HEADER
    cdef uint8_t *l4 = p.frame + p.l4
    cdef uint8_t *at = l4 + p.sum_at
    cdef uint16_t sum
    if p.family == 4:
        put64(ip + 12, raw64(&f.source))       # and the destination behind it
        ip[8] = <uint8_t>(p.ttl - f.spent)
        put16(ip + 10, <uint16_t>~added(<uint16_t>~raw16(ip + 10), f.ip_delta))
    else:
        put64(ip + 8, wide.source[0])
        put64(ip + 16, wide.source[1])
        put64(ip + 24, wide.destination[0])
        put64(ip + 32, wide.destination[1])
        ip[7] = <uint8_t>(p.ttl - f.spent)
    if p.sum_at == 2:
        put16(l4 + 4, <uint16_t>f.ports)
        put16(at, <uint16_t>~added(<uint16_t>~raw16(at), f.l4_delta))
        return
    if p.sum_at == 0:
        return
    put32(l4, f.ports)
    sum = raw16(at)
    if p.partial:
        if f.flags & FLOW_READDRESSED:
            # what covers the addresses is the delta of the IP header without its TTL
            put16(at, <uint16_t>fold64(<uint64_t>sum + f.ip_delta + ordered16(<uint32_t>f.spent << 8)))
        return
    if p.proto == PROTO_TCP:
        put16(at, <uint16_t>~added(<uint16_t>~sum, f.l4_delta))
    elif sum != 0:
        sum = <uint16_t>~added(<uint16_t>~sum, f.l4_delta)
        put16(at, sum if sum else 0xFFFF)


cdef inline bint emit(core *c, arrival *a, uint8_t *frame, uint32_t length, uint32_t segments, const interface *to) noexcept nogil:
    cdef emission *e
    a.result.rule = 0
    a.result.object = to.number
    if unlikely(c.out.count >= MAX_EMISSIONS):
        a.result.verdict = VERDICT_DROP
        a.result.reason = REASON_EMISSION_LIMIT
        c.ports[a.context].reasons[REASON_EMISSION_LIMIT] += 1
        return False
    a.result.verdict = VERDICT_FORWARD
    a.result.reason = 0
    e = &c.out.rows[c.out.count]
    c.out.count += 1
    e.frame = frame
    e.length = length
    e.port = to.port
    e.parent = a.parent
    e.segments = segments
    e.cause = CAUSE_FORWARDED
    put64(e.vnet, 0)
    put32(e.vnet + 8, 0)
    return True


# With FLOW_BRIDGED the sender's MAC is the right one, unless there was something else in the place of it.
cdef inline void write_head(uint8_t *frame, const flow *f, const interface *to) noexcept nogil:
    if likely(not (f.flags & FLOW_BRIDGED)):
        memcpy(frame, to.mac, 12)       # and router_mac behind it
    else:
        memcpy(frame, to.mac, 6)


cdef void tell_offload(core *c, const facts *p) noexcept nogil:
    cdef uint8_t *vnet = c.out.rows[c.out.count - 1].vnet
    vnet[0] = VNET_NEEDS_CSUM
    store16_le(vnet + 6, p.l4)
    store16_le(vnet + 8, p.sum_at)
    if p.gso_size:
        vnet[1] = p.gso_type
        store16_le(vnet + 2, p.header_length)
        store16_le(vnet + 4, p.gso_size)


# Put a rewritten packet into the one around it. Returns how long that frame is; it begins OUTER_SIZE in front of `frame`.
cdef inline uint32_t wrap(uint8_t *frame, uint32_t end, const flow_shell *shell) noexcept nogil:
    cdef uint8_t *ip = frame + ETH_HEADER - OUTER_SIZE
    cdef uint32_t size = end - ETH_HEADER + OUTER_SIZE, sum
    memcpy(frame - OUTER_SIZE, shell.bytes, SHELL)
    put16(ip + 2, ordered16(size))
    put16(ip + 10, <uint16_t>~fold(shell.ip_sum + ordered16(size)))
    size -= 20
    put16(ip + 24, ordered16(size))
    sum = 0xFFFFU - fold64(shell.udp_sum + 2 * <uint64_t>ordered16(size) + raw_sum(frame + ETH_HEADER, end - ETH_HEADER))
    put16(ip + 26, <uint16_t>(sum if sum else 0xFFFFU))
    return end + OUTER_SIZE


# Segments that the sender left to its hardware, each inside a packet of its own: as after a walk.
cdef void send_inside(core *c, arrival *a, const flow *f, const flow_wide *wide, const flow_shell *shell, const interface *to) noexcept nogil:
    cdef const uint8_t *ip = shell.bytes + ETH_HEADER
    cdef const uint8_t *head = ip + 28
    cdef packet p
    cdef edit e
    memset(&p, 0, sizeof(packet))
    memset(&e, 0, sizeof(edit))
    p.frame = a.frame
    p.length = a.length
    p.l3 = ETH_HEADER
    p.context = a.context
    p.family = a.came.family
    parse_ip(&p)
    parse_offload(&p, a.vnet)
    start_header(&e.to, &p)
    if p.family == 4:
        e.to.src.lo = load32(<const uint8_t *>&f.source)
        e.to.dst.lo = load32(<const uint8_t *>&f.destination)
    else:
        e.to.src.hi, e.to.src.lo = load64(<const uint8_t *>wide.source), load64(<const uint8_t *>wide.source + 8)
        e.to.dst.hi, e.to.dst.lo = load64(<const uint8_t *>wide.destination), load64(<const uint8_t *>wide.destination + 8)
    e.to.sport = load16(<const uint8_t *>&f.ports)
    e.to.dport = load16(<const uint8_t *>&f.ports + 2)
    e.to.ttl_spent = f.spent
    e.around.used = 1
    e.around.src, e.around.dst = load32(ip + 12), load32(ip + 16)
    e.around.sport, e.around.dport = load16(ip + 20), load16(ip + 22)
    e.around.ttl = ip[8]
    e.around.endpoint = load64(head + 12)
    e.around.cookie = load32(head + 36)
    e.port = to.port
    memcpy(e.dst_mac, shell.bytes, 6)
    memcpy(e.src_mac, shell.bytes + 6, 6)
    a.result.object = to.number
    a.result.rule = 0
    a.result.reason = send(&c.out, &p, &e, CAUSE_FORWARDED, a.parent)
    a.result.verdict = VERDICT_DROP if a.result.reason else VERDICT_FORWARD
    if a.result.reason:
        c.ports[a.context].reasons[a.result.reason] += 1


# What an entry asks that opens packets. False: this one does not fit.
cdef inline bint fits_inside(core *c, const arrival *a, uint32_t row, const facts *q) noexcept nogil:
    cdef const flow_wide *wide = &c.flows.wide[row]
    return a.came.ttl > wide.spent_outside and not (wide.mtu and q.wire > wide.mtu)


# What has come out of another packet has no Ethernet header yet; MACs that the entry changes are still to be written.
cdef inline void write_ethernet(core *c, const arrival *a, const facts *q, const flow *f) noexcept nogil:
    if unlikely(f.flags & FLOW_BRIDGED):
        memcpy(q.frame + 6, c.t.interfaces[c.t.contexts[a.context].interface - 1].mac, 6)
    put16(q.frame + 12, ordered16(ETHERTYPE_IPV4 if q.family == 4 else ETHERTYPE_IPV6))


# `q`: of the packet whose flow it is.
cdef inline void count_hit(core *c, const arrival *a, uint32_t row, const facts *q, uint32_t now) noexcept nogil:
    cdef flow *f = &c.flows.rows[row]
    cdef port_counters *k = &c.ports[a.context]
    f.last_seen = now
    f.packets += q.segments
    f.bytes += q.bytes
    if unlikely(f.bytes >= TOLD_AT):
        flow_settle(&c.sessions, row)
    k.rx_frames += 1
    k.rx_bytes += a.length
    k.rx_packets += q.segments


# An entry of a flow that goes into a tunnel. False: not for this packet.
cdef bint hit_around(core *c, arrival *a, uint32_t row, const interface *to) noexcept nogil:
    cdef flow *f = &c.flows.rows[row]
    cdef const flow_shell *shell = &c.flows.shells[row]
    cdef flow_wide *wide = &c.flows.wide[row]
    cdef facts *q = a.inside if f.flags & FLOW_OPENS else &a.came
    cdef uint32_t sum
    if q.ttl <= f.spent or (shell.mtu and q.wire + OUTER_SIZE > shell.mtu) \
            or ((f.flags & FLOW_OPENS) and not fits_inside(c, a, row, q)):
        return False
    if f.flags & FLOW_OBSERVED:
        observe_hit(&c.sessions, row)
    if f.flags & FLOW_OPENS:
        wide.came += a.came.bytes
    count_hit(c, a, row, q, <uint32_t>c.now)
    if unlikely(q.gso_size):
        send_inside(c, a, f, wide, shell, to)
        return True
    rewrite(q, f, wide)
    if q.partial:
        sum = 0xFFFFU - fold64(raw_sum(q.frame + q.l4, q.end - q.l4))
        put16(q.frame + q.l4 + q.sum_at, <uint16_t>(sum if sum or q.proto != PROTO_UDP else 0xFFFFU))
    emit(c, a, q.frame - OUTER_SIZE, wrap(q.frame, q.end, shell), q.segments, to)
    return True


# An entry of other tables than those in use, or one that was silent for too long. True: it holds for all that.
cdef bint outlives(core *c, uint32_t row, uint32_t now) noexcept nogil:
    cdef const flow *f = &c.flows.rows[row]
    if now - f.last_seen < <uint32_t>f.idle * 1000 and flow_holds(&c.sessions, row):
        return True
    flow_retire(&c.sessions, row)
    return False


# What a flow entry does with a frame. False: it has none, or not for this packet.
cdef inline bint hit(core *c, arrival *a, flow *rows, const interface *interfaces, uint32_t now) noexcept nogil:
    cdef uint32_t row = a.row
    cdef flow *f
    cdef facts *q = &a.came
    cdef const interface *to
    if unlikely(row == NO_FLOW or not is_row(&c.flows, row, a.word, a.wide)):
        row = flow_find(&c.flows, a.tag, a.word, a.wide)
        if row == NO_FLOW:
            return False
    f = &rows[row]
    if unlikely(f.epoch != c.flows.epoch or now - f.last_seen >= <uint32_t>f.idle * 1000):
        if not outlives(c, row, now):
            return False
    if unlikely(q.wire > f.mtu):
        return False
    to = &interfaces[f.to - 1]
    if unlikely(f.flags & FLOW_RARELY):
        if f.flags & FLOW_AROUND:
            return hit_around(c, a, row, to)
        if f.flags & FLOW_OPENS:
            q = a.inside
            if q.ttl <= f.spent or not fits_inside(c, a, row, q):
                return False
            write_ethernet(c, a, q, f)
            # not before what was counted in the window before this one has been told
            if f.flags & FLOW_OBSERVED:
                observe_hit(&c.sessions, row)
            c.flows.wide[row].came += a.came.bytes
        elif q.ttl <= f.spent:
            return False
        elif f.flags & FLOW_OBSERVED:
            observe_hit(&c.sessions, row)
    elif unlikely(q.ttl <= f.spent):
        return False
    count_hit(c, a, row, q, now)
    rewrite(q, f, &c.flows.wide[row])
    write_head(q.frame, f, to)
    if emit(c, a, q.frame, q.end, q.segments, to) and q.partial:
        tell_offload(c, q)
    return True


# --- the passes ----------------------------------------------------------------------------------------------------

# The same while somebody records: every packet walks, and what became of it is told.
cdef uint32_t receive_watched(core *c, arrival *rows, uint32_t count, bint limited) noexcept nogil:
    cdef uint32_t i, first
    cdef arrival *a
    for i in range(count):
        a = &rows[i]
        a.keyed = 0
        if a.trace == NULL:
            a.trace = &c.watch.story
        watch_begins(c)
        watch_arrival(c.watch, a)
        first = c.out.count
        receive(c, a)
        watch_done(c.watch, c.t, a, &c.out, first)
        if limited and (c.out.count > MAX_EMISSIONS // 2 or c.out.used > SCRATCH // 2):
            return i + 1
    return count


cdef uint32_t receive_burst(core *c, arrival *rows, uint32_t count, bint limited) noexcept nogil:
    cdef uint32_t i, now = <uint32_t>c.now, hits = 0, misses = 0
    cdef arrival *a
    cdef flow *lines = c.flows.rows
    cdef const interface *interfaces = c.t.interfaces if c.t != NULL else NULL
    if c.memo and c.t != NULL:
        look_ahead(c, rows, count)
    else:
        if unlikely(c.watch != NULL):
            return receive_watched(c, rows, count, limited)
        for i in range(count):
            rows[i].keyed = 0
    for i in range(count):
        a = &rows[i]
        if likely(a.keyed and a.trace == NULL):
            if likely(hit(c, a, lines, interfaces, now)):
                hits += 1
            else:
                misses += 1
                receive(c, a)
        else:
            receive(c, a)
        if limited and unlikely(c.out.count > MAX_EMISSIONS // 2 or c.out.used > SCRATCH // 2):
            count = i + 1
            break
    c.flows.hits += hits
    c.flows.misses += misses
    return count

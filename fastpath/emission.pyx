"""Sending: a plan's edit is applied to its packet, which leaves whole, in pieces, in segments, or inside another one.

    edit in place -> [too large ahead: fragments] -> [inside another: 68 bytes in front] -> [too large ahead: fragments]

Frames are edited where they lie; frames the router makes lie in `scratch`, valid until `outbox_clear`.
"""

from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from fastpath.edit cimport apply_header, complete_checksum, next_fragment
from fastpath.geneve cimport OUTER_SIZE, next_segment, write_outer
from fastpath.packet cimport parse_ip, write_offload
from fastpath.reason cimport CAUSE_FRAGMENT, REASON_EMISSION_LIMIT, REASON_MTU_EXCEEDED, REASON_NONE
from fastpath.sanitizer cimport GAP, forbid, permit
from fastpath.wire cimport ETH_HEADER, ETHERTYPE_IPV4, ETHERTYPE_IPV6, VNET_GSO_NONE, store16

cdef enum:
    STRIDE = 16         # scratch frames start on a multiple of this


cdef bint outbox_open(outbox *o) noexcept nogil:
    memset(o, 0, sizeof(outbox))
    o.rows = <emission *>calloc(MAX_EMISSIONS, sizeof(emission))
    o.scratch = <uint8_t *>malloc(SCRATCH)
    return o.rows != NULL and o.scratch != NULL


cdef void outbox_close(outbox *o) noexcept nogil:
    free(o.rows)
    free(o.scratch)
    o.rows = NULL
    o.scratch = NULL


cdef void outbox_clear(outbox *o) noexcept nogil:
    permit(o.scratch, o.used)
    o.count = 0
    o.used = 0


# Room for a frame the router makes, with SLOT_HEADROOM in front; NULL when this burst has made too many.
cdef uint8_t *scratch_frame(outbox *o, uint32_t size) noexcept nogil:
    cdef uint32_t need = (SLOT_HEADROOM + size + STRIDE - 1 + GAP) & 0xFFFFFFF0U
    cdef uint8_t *frame
    if need > <uint32_t>SCRATCH - o.used:
        return NULL
    frame = o.scratch + o.used + SLOT_HEADROOM
    o.used += need
    forbid(frame + size, need - SLOT_HEADROOM - size)
    return frame


cdef bint put(outbox *o, packet *p, uint8_t *frame, uint32_t length, uint32_t port, uint8_t cause, uint32_t parent) noexcept nogil:
    cdef emission *e
    if o.count >= MAX_EMISSIONS:
        return False
    e = &o.rows[o.count]
    o.count += 1
    e.frame = frame
    e.length = length
    e.port = port
    e.parent = parent
    e.cause = cause
    e.segments = 1
    memset(e.vnet, 0, VNET_HEADER)
    if p != NULL:
        e.segments = p.segments
        write_offload(p, e.vnet)
    return True


# --- pieces --------------------------------------------------------------------------------------------------------

# A finished frame on its way: into another packet if it is to travel inside one, which may be too large in turn.
cdef uint16_t send_whole(outbox *o, uint8_t *frame, uint32_t length, uint8_t family, const edit *e, uint8_t cause,
                         uint32_t parent) noexcept nogil:
    cdef packet q
    cdef uint32_t level = e.around.cuts_inside
    if not e.around.used:
        return REASON_NONE if put(o, NULL, frame, length, e.port, cause, parent) else REASON_EMISSION_LIMIT
    write_outer(frame + ETH_HEADER - OUTER_SIZE, length - ETH_HEADER, family, &e.around)
    frame -= OUTER_SIZE
    length += OUTER_SIZE
    write_macs(frame, 4, e)
    while level < e.cut_count and length - ETH_HEADER <= e.cuts[level]:
        level += 1
    if level == e.cut_count:
        return REASON_NONE if put(o, NULL, frame, length, e.port, cause, parent) else REASON_EMISSION_LIMIT
    memset(&q, 0, sizeof(packet))
    q.frame = frame
    q.length = length
    q.l3 = ETH_HEADER
    q.family = 4
    parse_ip(&q)
    return send_pieces(o, &q, e, level, e.cut_count, parent)


# Cut an edited packet to the `level`th size of its edit, and the pieces to the next, up to the `last`th. Returns a reason or 0.
cdef uint16_t send_pieces(outbox *o, packet *p, const edit *e, uint32_t level, uint32_t last, uint32_t parent) noexcept nogil:
    cdef uint32_t at = 0, size, smaller
    cdef uint32_t payload = p.end - p.l4
    cdef uint8_t *piece
    cdef packet q
    cdef uint16_t reason
    while at < payload:
        piece = scratch_frame(o, ETH_HEADER + e.cuts[level])
        if piece == NULL:
            return REASON_EMISSION_LIMIT
        size = next_fragment(p, piece, e.cuts[level], &at)
        if size == 0:
            return REASON_MTU_EXCEEDED      # no room for 8 bytes behind this header
        smaller = level + 1
        while smaller < last and size - ETH_HEADER <= e.cuts[smaller]:
            smaller += 1
        if smaller < last:
            memset(&q, 0, sizeof(packet))
            q.frame = piece
            q.length = size
            q.l3 = ETH_HEADER
            q.family = p.family
            if parse_ip(&q) == 0:
                reason = send_pieces(o, &q, e, smaller, last, parent)
                if reason:
                    return reason
                continue
        if not e.around.used or level >= e.around.cuts_inside:
            reason = REASON_NONE if put(o, NULL, piece, size, e.port, CAUSE_FRAGMENT, parent) else REASON_EMISSION_LIMIT
        else:
            reason = send_whole(o, piece, size, p.family, e, CAUSE_FRAGMENT, parent)
        if reason:
            return reason
    return REASON_NONE


# Each segment of an offloaded packet inside a packet of its own.
cdef uint16_t send_segments(outbox *o, packet *p, const edit *e, uint8_t cause, uint32_t parent) noexcept nogil:
    cdef uint32_t at = 0, size
    cdef uint8_t *segment
    cdef uint16_t reason
    while at < p.end - p.header_length:
        segment = scratch_frame(o, p.header_length + p.gso_size)
        if segment == NULL:
            return REASON_EMISSION_LIMIT
        size = next_segment(p, segment, &at)
        reason = send_whole(o, segment, size, p.family, e, cause, parent)
        if reason:
            return reason
    return REASON_NONE


# Make of a packet that dies what its sender's hardware would have made of it: of segments, the first. So errors quote it.
cdef void finish(packet *p) noexcept nogil:
    cdef uint32_t at = 0
    if p.gso_size:
        p.end = next_segment(p, p.frame, &at)
        p.gso_type = VNET_GSO_NONE
        p.gso_size = 0
        p.segments = 1
        p.partial_checksum = 0
    complete_checksum(p)


cdef inline void write_macs(uint8_t *frame, uint8_t family, const edit *e) noexcept nogil:
    memcpy(frame, e.dst_mac, 6)
    memcpy(frame + 6, e.src_mac, 6)
    store16(frame + 12, ETHERTYPE_IPV4 if family == 4 else ETHERTYPE_IPV6)


cdef void edit_in_place(packet *p, const edit *e) noexcept nogil:
    apply_header(p, &e.to)
    write_macs(p.frame, p.family, e)


# Edit the packet in place and emit it. Returns a reason or 0.
cdef uint16_t send(outbox *o, packet *p, const edit *e, uint8_t cause, uint32_t parent) noexcept nogil:
    cdef uint32_t inside = e.around.cuts_inside if e.around.used else e.cut_count
    edit_in_place(p, e)
    if inside and p.gso_size:
        # a TCP super-segment is cut into smaller segments rather than IP fragments
        p.gso_size = <uint16_t>(e.cuts[inside - 1] - (p.header_length - p.l3))
        p.segments = (p.end - p.header_length + p.gso_size - 1) // p.gso_size
    elif inside:
        complete_checksum(p)
        return send_pieces(o, p, e, 0, inside, parent)
    if e.around.used:
        if p.gso_size:
            return send_segments(o, p, e, cause, parent)
        complete_checksum(p)
        return send_whole(o, p.frame, p.end, p.family, e, cause, parent)
    return REASON_NONE if put(o, p, p.frame, p.end, e.port, cause, parent) else REASON_EMISSION_LIMIT


# The frame that `send` would emit if nothing were too large: edited in place, with what is in front of it.
cdef uint8_t *apply_edit(packet *p, const edit *e, uint32_t *length) noexcept nogil:
    cdef uint8_t *frame = p.frame
    edit_in_place(p, e)
    length[0] = p.end
    if e.around.used:
        write_outer(frame + ETH_HEADER - OUTER_SIZE, p.end - ETH_HEADER, p.family, &e.around)
        frame -= OUTER_SIZE
        length[0] += OUTER_SIZE
        write_macs(frame, 4, e)
    return frame

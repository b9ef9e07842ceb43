"""Fragments: the first one of a datagram carries the ports, the others follow its fate.

Later fragments get the first one's ports and ICMP type and are then walked like any packet. One that comes
before the first waits for it, within bounds: HELD_PER_CONTEXT per sender, HELD_FRAGMENTS in all (19 MB),
DATAGRAMS datagrams (the oldest nobody waits in makes room), `lifetime` (RFC 791 asks for 15 s
at least, RFC 8200 for 60 s). What goes wrong in filters without
such a memory is told in RFC 1858.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from fastpath.memo cimport new_secret
from fastpath.session cimport hash_bytes


cdef bint fragments_open(fragment_table *t) noexcept nogil:
    cdef uint32_t i
    memset(t, 0, sizeof(fragment_table))
    t.rows = <datagram *>calloc(DATAGRAMS, sizeof(datagram))
    t.held = <held_fragment *>calloc(HELD_FRAGMENTS, sizeof(held_fragment))
    t.bytes = <uint8_t *>calloc(HELD_FRAGMENTS, HELD_SIZE)
    if t.rows == NULL or t.held == NULL or t.bytes == NULL:
        fragments_close(t)
        return False
    for i in range(HELD_FRAGMENTS):
        t.held[i].next = i + 1 if i + 1 < HELD_FRAGMENTS else NO_HELD
    for i in range(DATAGRAMS):
        t.rows[i].held = NO_HELD
    t.free = 0
    # who knew where datagrams go could fill the few rows that somebody else's can be in
    return new_secret(&t.secret, sizeof(t.secret))


cdef void fragments_close(fragment_table *t) noexcept nogil:
    free(t.rows)
    free(t.held)
    free(t.bytes)
    t.rows = NULL
    t.held = NULL
    t.bytes = NULL


# The datagram this fragment belongs to; with `make`, a fresh one if there is none. NULL: none, or no room.
cdef datagram *datagram_find(fragment_table *t, packet *p, uint64_t now, bint make) noexcept nogil:
    cdef datagram_key key
    cdef datagram *d
    cdef datagram *vacant = NULL
    cdef uint32_t _
    memset(&key, 0, sizeof(datagram_key))
    key.src = p.src
    key.dst = p.dst
    key.context = p.context
    key.id = p.fragment_id
    key.proto = p.proto if p.family == 4 else 0     # RFC 8200: source, destination and identification only
    key.family = p.family
    d = &t.rows[(<uint32_t>hash_bytes(&key, sizeof(datagram_key), t.secret) % (DATAGRAMS // DATAGRAM_WAYS)) * DATAGRAM_WAYS]
    for _ in range(DATAGRAM_WAYS):
        if d.state != DATAGRAM_FREE and now < d.started + t.lifetime:
            if memcmp(&d.key, &key, sizeof(datagram_key)) == 0:
                return d
            if d.held == NO_HELD and (vacant == NULL or (vacant.state != DATAGRAM_FREE and d.started < vacant.started)):
                vacant = d
        elif d.held == NO_HELD:     # one that timed out with fragments waiting is the sweeper's
            d.state = DATAGRAM_FREE
            vacant = d
        d += 1
    if not make or vacant == NULL:
        return NULL
    memset(vacant, 0, sizeof(datagram))
    vacant.key = key
    vacant.started = now
    vacant.held = NO_HELD
    vacant.state = DATAGRAM_WAITING
    return vacant


cdef void datagram_learn(datagram *d, packet *p) noexcept nogil:
    d.state = DATAGRAM_KNOWN
    d.sport = p.sport
    d.dport = p.dport
    d.kind = p.kind
    d.icmp_type = p.icmp_type
    d.icmp_code = p.icmp_code
    d.proto = p.proto
    d.query = p.query
    d.unsummed = p.unsummed
    d.inner_known = p.inner_known
    d.inner_identified = p.inner_identified
    d.inner_proto = p.inner_proto
    d.inner_query = p.inner_query
    d.inner_sport = p.inner_sport
    d.inner_dport = p.inner_dport
    d.inner_src = p.inner_src
    d.inner_dst = p.inner_dst


cdef void datagram_tell(datagram *d, packet *p) noexcept nogil:
    p.sport = d.sport
    p.dport = d.dport
    p.kind = d.kind
    p.icmp_type = d.icmp_type
    p.icmp_code = d.icmp_code
    p.proto = d.proto
    p.query = d.query
    p.unsummed = d.unsummed
    p.inner_known = d.inner_known
    p.inner_identified = d.inner_identified
    p.inner_proto = d.inner_proto
    p.inner_query = d.inner_query
    p.inner_sport = d.inner_sport
    p.inner_dport = d.inner_dport
    p.inner_src = d.inner_src
    p.inner_dst = d.inner_dst


# Keep a copy of the frame at the end of the datagram's chain. False: no room.
cdef bint hold(fragment_table *t, datagram *d, packet *p) noexcept nogil:
    cdef uint32_t at = t.free
    cdef uint32_t *link = &d.held
    if at == NO_HELD or p.length > HELD_SIZE:
        return False
    t.free = t.held[at].next
    memcpy(t.bytes + <size_t>at * HELD_SIZE, p.frame, p.length)
    t.held[at].length = p.length
    t.held[at].next = NO_HELD
    while link[0] != NO_HELD:
        link = &t.held[link[0]].next
    link[0] = at
    t.waiting += 1
    return True


# Take the oldest waiting fragment off the chain; NO_HELD: none. The caller recycles it after use.
cdef uint32_t release(fragment_table *t, datagram *d) noexcept nogil:
    cdef uint32_t at = d.held
    if at != NO_HELD:
        d.held = t.held[at].next
        t.waiting -= 1
    return at


cdef void recycle(fragment_table *t, uint32_t held) noexcept nogil:
    t.held[held].next = t.free
    t.free = held

# Datagrams in fragments: what the first fragment said, and who waits for it.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.packet cimport addr, packet

cdef enum:
    DATAGRAMS = 1024            # followed at once
    DATAGRAM_WAYS = 8
    HELD_FRAGMENTS = 2048       # waiting at once, all contexts together
    HELD_PER_CONTEXT = 64
    HELD_SIZE = 9216            # longest frame that may wait
    NO_HELD = 0xFFFFFFFFU

cdef enum datagram_state:
    DATAGRAM_FREE = 0
    DATAGRAM_KNOWN = 1          # its first fragment has come
    DATAGRAM_WAITING = 2        # only later ones have

cdef struct datagram_key:
    addr src
    addr dst
    uint32_t context
    uint32_t id
    uint8_t proto
    uint8_t family

cdef struct datagram:
    datagram_key key
    uint64_t started            # milliseconds
    uint32_t held               # chain of waiting fragments, oldest first
    uint16_t sport
    uint16_t dport
    uint8_t state
    uint8_t kind
    uint8_t icmp_type
    uint8_t icmp_code
    uint8_t proto
    uint8_t query
    uint8_t unsummed
    # of an ICMP error: the packet it quotes
    uint8_t inner_known
    uint8_t inner_identified
    uint8_t inner_proto
    uint8_t inner_query
    uint16_t inner_sport
    uint16_t inner_dport
    addr inner_src
    addr inner_dst

cdef struct held_fragment:
    uint32_t next
    uint32_t length

cdef struct fragment_table:
    datagram *rows
    held_fragment *held
    uint8_t *bytes              # HELD_SIZE for each held fragment
    uint32_t free               # chain of unused held fragments
    uint32_t waiting
    uint64_t lifetime           # milliseconds that a datagram is followed
    uint64_t secret             # of where datagrams go: new at each start

cdef bint fragments_open(fragment_table *t) noexcept nogil
cdef void fragments_close(fragment_table *t) noexcept nogil
cdef datagram *datagram_find(fragment_table *t, packet *p, uint64_t now, bint make) noexcept nogil
cdef void datagram_learn(datagram *d, packet *p) noexcept nogil
cdef void datagram_tell(datagram *d, packet *p) noexcept nogil
cdef bint hold(fragment_table *t, datagram *d, packet *p) noexcept nogil
cdef uint32_t release(fragment_table *t, datagram *d) noexcept nogil
cdef void recycle(fragment_table *t, uint32_t held) noexcept nogil

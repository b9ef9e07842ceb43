# The plan of one packet: what a walk through the graph found out, before anything is changed.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.packet cimport addr, edit, header, metadata, packet, tuple5
from fastpath.session cimport session, session_key, session_step, session_table
from fastpath.snapshot cimport tables

cdef enum:
    MAX_STEPS = 96          # nodes a packet may visit before it is a loop
    MAX_EFFECTS = 16        # sessions one packet may open or touch
    MAX_HOPS = 100

cdef enum effect_kind:
    EFFECT_OPEN = 1
    EFFECT_TOUCH = 2

# Something a commit will do to the session table. `pending`: an untracked flow, opened only if a later
# node makes it tracked after all.
cdef struct effect:
    uint8_t kind
    uint8_t session_kind
    uint8_t way             # 0: the opener's direction, 1: replies
    uint8_t pending
    uint8_t changes         # the session's state changes
    uint32_t row            # TOUCH
    uint32_t version        # TOUCH
    uint32_t rule           # OPEN: what admitted it
    session_key forward     # OPEN
    session_key reply       # OPEN
    session_key pool        # OPEN of a NAT session
    session_step step

cdef enum error_kind:
    ERROR_NONE = 0
    ERROR_TOO_BIG = 1
    ERROR_TTL = 2

# One line of a trace. `rule` 0 with a filter or policy: no rule matched. `detail`: what the node did.
cdef struct hop:
    uint8_t op
    uint8_t mode
    uint8_t detail
    uint8_t way
    uint32_t object
    uint32_t rule
    uint32_t realm
    uint32_t row
    addr src
    addr dst
    uint16_t sport
    uint16_t dport

cdef enum hop_detail:
    DETAIL_PASSED = 0
    DETAIL_DROPPED = 1
    DETAIL_SKIPPED = 2      # not a crossing, or another family
    DETAIL_BRANCHED = 3
    DETAIL_NEW = 4          # opens a session
    DETAIL_KNOWN = 5        # belongs to one
    DETAIL_RELATED = 6      # an ICMP error about one
    DETAIL_UNTRACKED = 7
    DETAIL_OUTBOUND = 8
    DETAIL_INBOUND = 9
    DETAIL_FRAGMENTS = 10

cdef struct trace_buffer:
    uint32_t count
    hop hops[MAX_HOPS]

cdef struct plan:
    uint8_t verdict
    uint16_t reason
    uint32_t object         # where it ended
    uint32_t rule           # the rule, route or entry that decided, if one did
    metadata meta
    edit edit
    uint32_t effect_count
    effect effects[MAX_EFFECTS]
    # an error the router sends about the packet
    uint8_t error           # error_kind
    uint32_t error_mtu
    uint32_t error_interface    # index + 1
    uint8_t error_routed    # sent out by that interface (else handed to it by its subnet's router)
    header error_view       # the packet as the error quotes it: as it entered the realm where it died
    uint32_t path_mtu       # smallest MTU of the hops passed; 0: no limit
    uint8_t served          # SERVE: an echo answer


cdef void walk(tables *t, session_table *sessions, session_table *overlay, packet *p, plan *out,
               uint32_t node, const metadata *start, uint64_t now, uint64_t seed, trace_buffer *trace) noexcept nogil
cdef void start_metadata(tables *t, uint32_t interface, metadata *m) noexcept nogil

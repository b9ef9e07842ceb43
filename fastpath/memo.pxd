# Flow entries: the memo of plans.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.geneve cimport geneve
from fastpath.packet cimport edit, packet, tuple5
from fastpath.session cimport session_table
from fastpath.plan cimport ABSENCES, LAYERS, plan

cdef enum:
    FLOW_REFS = 8           # sessions one entry may touch
    FLOW_COUNTS = 2         # gateways one entry may count at
    FLOW_WAYS = 4           # entries one bucket holds
    WAY_NONE = 2

cdef struct flow_key:
    tuple5 tuple
    uint32_t context
    uint32_t neighbour
    uint32_t icmp           # kind, type and code: rules look at them
    # all else is 0 but for what comes inside another packet, whose tuple it then is
    uint64_t endpoint
    uint32_t cookie
    uint32_t outer_src
    uint32_t outer_dst
    uint16_t outer_sport
    uint8_t inside

# A packet as it came, and what is inside it, if that is what decides.
cdef struct arrival:
    packet *p
    packet *inside          # NULL: nothing
    geneve head

cdef struct flow_ref:
    uint32_t row
    uint32_t version
    uint8_t way             # WAY_NONE: it must be there, and is not changed
    uint8_t layer           # which of the packets it is about

# A bucket of the session table where no session was found; another number of opened keys: look again.
cdef struct flow_absence:
    uint32_t bucket
    uint32_t opened

cdef struct flow:
    flow_key key
    uint32_t generation     # of the tables its plan was made with; 0: empty
    uint32_t path_mtu[LAYERS]
    uint32_t object
    uint32_t ref_count
    uint32_t count_count
    uint32_t absence_count
    flow_ref refs[FLOW_REFS]
    flow_ref counts[FLOW_COUNTS]    # row: index of the gateway
    flow_absence absences[ABSENCES]
    uint8_t opens           # the edit is of what is inside the packet
    uint8_t spent_outside
    edit edit
    uint64_t last_used

cdef struct flow_table:
    flow *rows
    uint32_t mask           # buckets - 1
    uint64_t secret
    uint64_t hits
    uint64_t misses

cdef bint flows_open(flow_table *t, uint32_t capacity, uint64_t secret) noexcept nogil
cdef void flows_close(flow_table *t) noexcept nogil
cdef void flows_clear(flow_table *t) noexcept nogil
cdef void flow_key_of(flow_key *key, const arrival *a) noexcept nogil
cdef bint may_use_flow(packet *p) noexcept nogil
cdef flow *flow_hit(flow_table *t, session_table *sessions, const arrival *a, uint32_t generation, uint64_t now) noexcept nogil
cdef void flow_remember(flow_table *t, session_table *sessions, const arrival *a, const plan *x, uint32_t generation,
                        uint64_t now) noexcept nogil

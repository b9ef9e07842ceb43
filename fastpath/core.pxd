# All packet state of one router, and the way of one packet through it.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.emission cimport emission, outbox
from fastpath.flow cimport arrival, facts, outcome
from fastpath.fragment cimport fragment_table
from fastpath.memo cimport flow_table, wide_key
from fastpath.packet cimport packet
from fastpath.plan cimport leg_room, plan, trace_buffer
from fastpath.reason cimport REASONS
from fastpath.records cimport record_table
from fastpath.session cimport gateway, session_table
from fastpath.snapshot cimport context, interface, tables
from fastpath.watch cimport clock_call, recording

cdef enum:
    SWEEP_MS = 1000
    BURST = 64              # most frames that are received at once
    LONGEST_FRAME = 131072

cdef struct port_counters:
    uint64_t rx_frames      # as read from the port
    uint64_t rx_packets     # an offloaded frame counts as the packets it stands for
    uint64_t rx_bytes       # of frames
    uint64_t tx_frames
    uint64_t tx_packets
    uint64_t tx_bytes
    uint64_t reasons[REASONS]
    uint32_t held           # fragments of this sender now waiting
    uint64_t paid           # milliseconds up to which errors about its packets have been paid for, one each
    uint64_t withheld       # errors that were not sent: too many were

cdef struct core:
    tables *t
    session_table sessions
    flow_table flows
    fragment_table fragments
    bint memo               # whether flow entries are used: not while anybody records
    recording *watch        # or NULL: nobody does
    clock_call clock        # in nanoseconds, for records; NULL: `now` is
    uint64_t now            # milliseconds; never goes back
    uint64_t last_sweep
    uint64_t last_freed
    uint32_t errors         # most errors about packets of one port at once
    uint32_t timed_out      # waiting fragments that died since `advance` last told
    uint64_t seed
    port_counters *ports    # by port number
    uint32_t port_count
    record_table records    # in use while flows.records leads to it
    outbox out
    trace_buffer *trace     # or NULL: filled by the next packet that is walked
    uint32_t gateway_count  # of sessions.gateways, which are ours
    plan work               # of the packet being walked
    plan error_work         # of an error about it
    facts inside[BURST]     # of packets inside those of the burst being received
    wide_key keys[BURST]    # and the keys that need it


# The whole way of one frame, flow entries aside.
cdef void receive(core *c, arrival *a) noexcept nogil
cdef void sweep(core *c) noexcept nogil
cdef void watch_begins(core *c) noexcept nogil
cdef bint free_the_dead(core *c) noexcept nogil
cdef void set_time(core *c, uint64_t now) noexcept nogil
cdef bint is_withheld(const core *c, const plan *x, uint64_t now) noexcept nogil
cdef bint plan_error(core *c, plan *x, session_table *overlay, uint8_t *frame, packet *q, leg_room *legs, plan *out, uint64_t now,
                     trace_buffer *trace) noexcept nogil
cdef void count_reason(core *c, uint32_t port, uint16_t reason) noexcept nogil
cdef int classify(core *c, const context *x, const interface *i, packet *p, const uint8_t *vnet, uint32_t parent,
                  outcome *result) noexcept nogil
cdef void commit(core *c, plan *x, packet *p) noexcept nogil


# Count an emission as sent. The port may have gone since it was planned.
cdef inline bint count_sent(core *c, const emission *e) noexcept nogil:
    cdef port_counters *k
    if e.port >= c.port_count:
        return False
    k = &c.ports[e.port]
    k.tx_frames += 1
    k.tx_packets += e.segments
    k.tx_bytes += e.length
    return True

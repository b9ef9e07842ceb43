# Packets that go by at points of the graph, and who wants to know: records of flows, and others.
#
# A point is a node (OP_POINT) on the way of packets, there only while somebody wants to see what goes by. The walk notes each
# point it comes by in the plan, as a `crossing`: header values there and then, which packet (leg and layer), and once the walk
# is over, whether a gate refused it and how it went on. `observe` is told of the plan after its commit, before the frame is
# edited; flags of the node say who else is. Verdicts, reasons and emissions are those of a graph without points.
#
# To watch points besides: a flag beside FLAG_RECORDED, and a call in `observe`, where `p.frame` is still as received, `h` has
# the values to apply to a copy of it, and the plan its verdict. `flow_remember` makes an entry only of plans whose crossings
# all know what to do on a hit: records do (`observe_hit`); whoever wants each packet's bytes has it refuse, so that all of them walk.

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

from fastpath.memo cimport flow_table
from fastpath.plan cimport crossing, plan, walker
from fastpath.session cimport session_table
from fastpath.snapshot cimport DIRECTION_EGRESS, node

# A packet comes by at a point.
cdef void cross(walker *w, const node *n) noexcept nogil
# The walk is over.
cdef void end_crossings(walker *w) noexcept nogil
# Tell those who want to know.
cdef void observe(session_table *t, plan *x, uint64_t now) noexcept nogil
# Put rows first..first+count-1 of records that are of a window before `window` into the ring, as far as it has room, and free
# those nobody counts for. Who counted nothing for a whole window is made to count no more. Returns the row to go on with.
cdef uint32_t records_flush(session_table *t, uint32_t first, uint32_t count, uint32_t window) noexcept nogil
# Delete up to `count` entries that count for what is lost, as there is room for records again. Returns how many there were.
cdef uint32_t unlose(session_table *t, uint32_t count) noexcept nogil
cdef void begin_window(session_table *t, uint32_t row) noexcept nogil


# What left an interface last goes on by this path, if that is not known yet; 0: nothing is known.
cdef inline void pass_on(walker *w, uint32_t path) noexcept nogil:
    cdef crossing *x
    if w.out.crossing_count == 0 or path == 0:
        return
    x = &w.out.crossings[w.out.crossing_count - 1]
    if x.side == DIRECTION_EGRESS and x.path == 0:
        x.path = <uint8_t>path


# Was an entry last used before the present window began?
cdef inline bint is_before_window(const flow_table *t, uint32_t row) noexcept nogil:
    return <int32_t>(t.rows[row].last_seen - t.records.since) < 0


# A packet has an entry with FLOW_OBSERVED, which has not counted it yet. All there is to do is for the first in a window.
cdef inline void observe_hit(session_table *t, uint32_t row) noexcept nogil:
    if is_before_window(t.flows, row):
        begin_window(t, row)

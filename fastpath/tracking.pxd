# Sessions as a walk sees them, and the two nodes that remember flows without changing packets.

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from fastpath.classifier cimport rule
from fastpath.packet cimport addr, tuple5
from fastpath.plan cimport effect, walker
from fastpath.rule_list cimport rule_list
from fastpath.session cimport session, session_key
from fastpath.snapshot cimport node, timeouts

# A session that the packet belongs to: a row of the table, or one that an earlier hop of this very walk plans to open.
cdef struct known:
    session *s              # NULL: only planned
    effect *planned
    const session_key *forward
    const session_key *reply
    uint32_t row
    uint32_t rule
    uint8_t kind
    uint8_t state
    uint8_t seen
    int way                 # 0: the packet goes the opener's way, 1: back

# The tuple that the sessions of this packet's flow are found by; False: it is an error about no flow that can be told.
cdef bint session_tuple(walker *w, tuple5 *t) noexcept nogil
cdef bint find(walker *w, const session_key *key, known *k) noexcept nogil
cdef bint touch(walker *w, const node *n, known *k, const timeouts *limits) noexcept nogil
cdef effect *open_session(walker *w, const node *n, uint8_t kind, uint32_t rule_number, const session_key *forward,
                          const session_key *reply, const timeouts *limits, bint untracked) noexcept nogil
# `full`: the reason of the drop when the plan has no room for another.
cdef effect *add_effect(walker *w, const node *n, uint16_t full) noexcept nogil
cdef bint opens_tcp(walker *w) noexcept nogil
# TCP of a connection that is not there (any more): its sender is told, by that interface and as if from the far end.
cdef void ask_for_reset(walker *w, uint32_t interface) noexcept nogil
cdef bint restarts(walker *w, const known *k) noexcept nogil
# False: there is no room for it, the packet was dropped.
cdef bint track_all(walker *w, const node *n) noexcept nogil
cdef bint rule_matches(walker *w, const rule *r, addr remote) noexcept nogil
# The first rule that matches, or NULL; with `anywhere`, the first of those for any address if there is one.
cdef const rule *first_match(walker *w, const rule_list *l, addr remote, bint anywhere) noexcept nogil
cdef bint group_session(walker *w, const node *n) noexcept nogil
# Where the walk goes on; 0: nowhere, the packet was dropped.
cdef uint32_t flow_gate(walker *w, const node *n) noexcept nogil

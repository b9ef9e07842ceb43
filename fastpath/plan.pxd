# The plan of one packet: what a walk through the graph found out, before anything is changed; and the walker that
# writes it, shared by the modules that know one kind of node each.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from fastpath.packet cimport addr, edit, header, metadata, packet
from fastpath.reason cimport VERDICT_DROP
from fastpath.session cimport first_piece, session_key, session_step, session_table
from fastpath.snapshot cimport node, tables

cdef enum:
    MAX_STEPS = 96          # nodes a packet may visit before it is a loop
    MAX_EFFECTS = 20        # sessions and counters one packet may change
    MAX_HOPS = 100
    ABSENCES = 4            # sessions whose absence a plan may be remembered with
    MAX_LEGS = 4            # times one packet may become another: of the other family, around it, out of it
    PATH_INSIDE = 1         # of a crossing: it came to another interface of its realm

cdef enum effect_kind:
    EFFECT_OPEN = 1
    EFFECT_TOUCH = 2
    EFFECT_GATEWAY = 3      # counts at a translator
    EFFECT_ABSENT = 4       # none: the plan depends on there being no session with key `forward`

# A packet may be inside another one when it comes, and may be inside another one when it leaves.
cdef enum:
    LAYER_CAME = 0          # the packet as it came
    LAYER_INSIDE = 1        # what was inside it
    LAYER_AROUND = 2        # what it leaves inside of
    LAYERS = 3

# Something a commit will do. `pending`: an untracked flow, opened only if a later node makes it tracked after all.
cdef struct effect:
    uint8_t kind
    uint8_t session_kind
    uint8_t way             # 0: the opener's direction (GATEWAY: from inside), 1: back
    uint8_t pending
    uint8_t changes         # the session's state changes
    uint8_t counted         # TOUCH: it has counted this packet on its way there, and does not on its way back
    uint8_t answered        # OPEN: this very packet came by again as its own answer
    uint8_t passed          # GATEWAY: it left the translator
    uint8_t exhausted       # GATEWAY: there was no free port
    uint8_t layer           # which packet it is about
    uint8_t flipped         # OPEN, TOUCH of a balanced session, see `session`
    uint32_t size           # bytes of the packet there and then
    uint32_t size_out       # GATEWAY: and as it left
    uint32_t row            # TOUCH; GATEWAY: index of the gateway
    uint32_t version        # TOUCH
    uint32_t rule           # OPEN: what admitted it
    uint32_t gateway        # OPEN of a NAT session: index + 1 of its gateway
    uint32_t cookie         # OPEN, TOUCH of a balanced session
    uint32_t target         # the same: its member from now on
    session_key forward     # OPEN, TOUCH, ABSENT
    session_key reply       # OPEN
    session_key pool        # OPEN of a NAT session; of a balanced one, unless its owner is 0
    session_step step
    first_piece piece       # OPEN, TOUCH of a balanced session: the packet is one, if it has a kind

# A packet went by at a point (OP_POINT), as it was there and then. Behind a point there is a node that takes a step, or it
# takes one itself, so that a packet goes by no more than MAX_STEPS of them.
cdef struct crossing:
    uint8_t side            # direction, as the point sees it
    uint8_t flags           # of its node: who wants to know
    uint8_t layer           # which packet
    uint8_t refused         # a gate of that side let it not pass
    uint8_t path            # of what left an interface, how it went on; 0: nobody knows
    uint32_t point          # number of what the point belongs to
    uint32_t origin         # interface that it came from then
    uint32_t size           # bytes of IP packets
    uint32_t record         # row of the record that it was counted in, or NO_RECORD
    packet *p
    header h

# A node that a walk came to. Of a FILTER also the number of the rule that let the packet pass.
cdef struct visit:
    uint32_t node
    uint32_t rule

cdef enum error_kind:
    ERROR_NONE = 0
    ERROR_TOO_BIG = 1
    ERROR_TTL = 2
    ERROR_RESET = 3         # no ICMP: a TCP reset, as if from the far end

# One line of a trace. `rule` 0 with a filter or policy: no rule matched. `detail`: what the node did.
cdef struct hop:
    uint8_t op
    uint8_t mode
    uint8_t detail
    uint8_t family
    uint8_t leg             # 0: the packet as it came
    uint32_t object
    uint32_t rule
    uint32_t realm
    uint32_t row
    uint32_t cookie
    header to               # what it has become

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
    DETAIL_ENCAPSULATED = 11    # `rule`: the member it goes to
    DETAIL_DECAPSULATED = 12    # `rule`: the member it comes from

cdef struct trace_buffer:
    uint32_t count
    hop hops[MAX_HOPS]

# What a packet becomes when it changes family on its way, or is put into or taken out of another; each leg is made of the
# one before.
cdef struct leg_room:
    uint8_t *bytes          # for frames of their own, with headroom in front of each
    uint32_t size
    uint32_t used
    uint32_t count
    packet legs[MAX_LEGS]

cdef struct plan:
    uint8_t verdict
    uint8_t served          # SERVE: an echo answer
    uint8_t bridged         # handed from neighbour to neighbour: the sender's MAC stays
    uint8_t error           # error_kind: an error the router sends about the packet
    uint8_t error_routed    # sent out by that interface (else handed to it by its subnet's router)
    uint16_t reason
    uint32_t object         # where it ended
    uint32_t rule           # the rule, route or entry that decided, if one did
    metadata meta
    packet *p               # on its last leg, which `edit` is about (not what it travels inside of)
    packet *opened          # what the received packet had inside, or NULL
    uint8_t spent_outside   # TTL that the received packet spent until it was opened
    edit edit
    uint32_t error_mtu
    uint32_t error_interface    # index + 1
    header error_view       # the packet as the error quotes it: as it entered the realm where it died
    packet *error_packet
    uint32_t path_mtu[LAYERS]   # smallest MTU of the hops passed; 0: no limit
    uint32_t absences       # sessions that were looked for in vain, and that decide; from the ABSENCES-th on none is noted
    uint32_t effect_count
    uint32_t crossing_count
    uint32_t step_count
    uint32_t point_count
    # last: only the parts in use are ever cleared
    effect effects[MAX_EFFECTS]
    crossing crossings[MAX_STEPS]
    visit steps[MAX_STEPS + 1]  # from 1 on; points that take no step are only here:
    uint32_t points[MAX_STEPS]  # nodes

cdef struct walker:
    tables *t
    session_table *sessions
    session_table *overlay  # or NULL: consulted before `sessions`
    packet *p               # on its present leg
    packet *entered         # and on the one on which it entered the present realm
    uint32_t opener         # port that it came by, or what made it
    leg_room *legs
    plan *out
    header *h               # header values as they are now
    header around           # those of the packet around it, once it is inside one
    uint8_t layer
    header entry            # and as they were when the packet entered the present realm
    uint64_t now
    uint64_t seed
    trace_buffer *trace


cdef inline void clear_plan(plan *x) noexcept nogil:
    memset(x, 0, <size_t>(<char *>&x.effects - <char *>x))


cdef inline void note(walker *w, const node *n, uint8_t detail, uint32_t rule, uint32_t row=0) noexcept nogil:
    cdef hop *x
    if w.trace == NULL or w.trace.count >= MAX_HOPS:
        return
    x = &w.trace.hops[w.trace.count]
    w.trace.count += 1
    x.op = n.op
    x.mode = n.mode
    x.detail = detail
    x.family = w.p.family
    x.object = n.object
    x.rule = rule
    x.row = row
    x.realm = w.out.meta.realm
    x.leg = <uint8_t>w.legs.count
    x.to = w.h[0]
    x.cookie = 0


# The same of a packet that goes into or comes out of a tunnel.
cdef inline void note_tunnel(walker *w, const node *n, uint8_t detail, uint32_t object, uint32_t member, uint32_t cookie) noexcept nogil:
    note(w, n, detail, member)
    if w.trace != NULL and w.trace.count and w.trace.count < MAX_HOPS:
        w.trace.hops[w.trace.count - 1].object = object
        w.trace.hops[w.trace.count - 1].cookie = cookie


cdef inline void drop(walker *w, const node *n, uint16_t reason, uint32_t rule) noexcept nogil:
    w.out.verdict = VERDICT_DROP
    w.out.reason = reason
    w.out.object = n.object
    w.out.rule = rule
    note(w, n, DETAIL_DROPPED, rule)

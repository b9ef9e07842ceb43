# Immutable compiled tables: what dataplane.compile packs and the walk reads.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.footing cimport parts
from fastpath.lpm cimport lpm_table
from fastpath.lpm_build cimport Table
from fastpath.packet cimport addr
from fastpath.rule_list cimport RuleList, rule_list

cdef enum node_op:
    OP_DROP = 0
    OP_GUARD = 1
    OP_BRIDGE = 2
    OP_FILTER = 3
    OP_GROUP_SESSION = 4
    OP_NAT_SESSION = 5
    OP_LOOKUP = 6
    OP_REWRITE = 7
    OP_HOP = 8
    OP_ENTER = 9
    OP_EMIT = 10
    OP_SERVE = 11
    OP_FLOW_GATE = 12
    OP_ENCAPSULATE = 13
    OP_DECAPSULATE = 14
    OP_POINT = 15

cdef enum guard_test:
    TEST_SOURCE_IN = 1
    TEST_DESTINATION_IN = 2
    TEST_VIA = 3
    TEST_FROM_SUBNET = 4

cdef enum gate_mode:
    GATE_OPEN = 1
    GATE_REQUIRE = 2
    GATE_RESUME = 3
    GATE_LOOK = 4

# What a packet came through, as far as compiled code asks; dataplane.program.Via has them all.
cdef enum via_bit:
    VIA_NAT = 4
    VIA_TRACKED = 32        # something that has every flow tracked, whatever the rules say

cdef enum side:
    SIDE_SOURCE = 1
    SIDE_DESTINATION = 2

cdef enum direction:
    DIRECTION_EGRESS = 1
    DIRECTION_INGRESS = 2

cdef enum ttl_action:
    TTL_KEEP = 0
    TTL_SILENT = 1
    TTL_ANSWER = 2

cdef enum node_flag:
    FLAG_NEGATE = 1         # GUARD
    FLAG_KEEP_GROUPS = 1    # ENTER
    FLAG_ANSWERS_MTU = 1    # HOP, NAT_SESSION
    FLAG_DROPS_LARGE = 2    # HOP
    FLAG_CLAMPS_MSS = 4     # HOP
    FLAG_QUIET = 1          # LOOKUP
    FLAG_TRACKS = 1         # FLOW_GATE
    FLAG_RECORDED = 1       # POINT: flows are counted there

cdef enum tunnel_flag:
    TUNNEL_RESETS = 1

# What decides which member of a spread a flow gets.
cdef enum stickiness:
    STICKY_FIVE = 5
    STICKY_THREE = 3
    STICKY_TWO = 2

cdef struct node:
    uint8_t op
    uint8_t mode            # test, side, direction, gate mode or ttl action; ENTER: what path that is, see `crossing`
    uint8_t family
    uint8_t flags
    uint16_t reason
    uint16_t mtu
    uint32_t next
    uint32_t other          # GUARD: node to go to instead of dropping; 0: drop. FLOW_GATE: node for known flows
    uint32_t table          # index of the set, filter, policy, fib, map or bridge; ENTER: subnet; POINT: set that is not seen
    uint32_t value          # GUARD: via bits, or index + 1 of a set of subnets; FILTER: subnet to skip; ENTER: realm;
    # FLOW_GATE: direction; DECAPSULATE: balancer
    uint32_t extra          # HOP, ENTER, EMIT, NAT_SESSION: interface index + 1
    uint32_t via            # ENTER: bits to add
    uint32_t object

cdef struct route:
    uint32_t node
    uint32_t rule

cdef struct fib:
    const route *routes     # the table's value is index + 1 here
    uint32_t table          # index of an interval table

cdef struct timeouts:       # idle limits, milliseconds
    uint64_t tcp_established
    uint64_t tcp_opening
    uint64_t tcp_closing
    uint64_t udp_single
    uint64_t udp_stream
    uint64_t icmp
    uint64_t other

cdef struct group_policy:
    uint32_t owner
    uint32_t egress         # index into `filters`
    uint32_t ingress
    timeouts limits

cdef struct nat_policy:
    uint32_t owner
    uint32_t first_address  # index into `addresses`
    uint32_t address_count
    uint32_t port_first
    uint32_t port_last
    uint32_t per_destination
    uint8_t has_prefix6
    addr prefix6            # a /96
    timeouts limits

cdef struct flow_policy:
    uint32_t owner
    timeouts limits

cdef struct member:
    uint32_t number
    uint32_t address        # IPv4
    uint8_t takes_new
    uint8_t keeps

cdef struct spread:
    uint32_t owner
    uint32_t stickiness
    uint32_t first          # index into `members`
    uint32_t count

cdef struct tunnel:
    uint64_t endpoint_id
    uint32_t owner
    uint32_t balancer
    uint32_t source         # IPv4
    uint32_t spread
    uint32_t resume         # node
    uint32_t interface      # index + 1 of the endpoint's: resets leave by it; 0: none does
    uint8_t flags
    timeouts limits

cdef struct translation:
    uint32_t inside_table   # interval tables with value = index + 1 into `addresses`
    uint32_t outside_table

cdef struct number_set:
    uint32_t first          # index into `numbers`
    uint32_t count

cdef struct bridge_port:
    uint64_t mac
    uint32_t node

cdef struct bridge_table:
    uint32_t first          # index into `bridge_ports`, sorted by MAC
    uint32_t count

cdef struct interface:
    uint32_t number
    uint32_t port
    uint32_t realm
    uint32_t subnet
    uint32_t zone
    uint32_t groups         # index + 1 of a group set; 0: none
    uint32_t into
    uint32_t out
    uint32_t mtu
    uint32_t via            # of packets that it sends of its own
    uint8_t mac[6]
    uint8_t router_mac[6]
    uint8_t has4
    uint8_t has6
    addr address4
    addr address6
    uint8_t has_router4
    uint8_t has_router6
    addr router4
    addr router6

cdef struct context:
    uint32_t interface      # index + 1; 0: there is no such context
    uint32_t entry
    uint32_t neighbours     # interval table: value = index + 1 into `macs`
    uint32_t bridge         # index + 1; 0: only the router is on this link

cdef struct tables:
    uint32_t generation
    uint32_t node_count
    uint32_t context_count
    uint32_t interface_count
    uint32_t table_count
    uint32_t map_count
    uint32_t nat_count
    uint32_t fragment_lifetime      # milliseconds
    uint32_t bridge_count
    uint32_t tunnel_count
    uint32_t fib_count
    uint32_t filter_count
    uint32_t policy_count
    node *nodes
    context *contexts       # by context number
    interface *interfaces
    lpm_table *intervals    # value 0 is "no match"
    fib *fibs
    rule_list *filters      # lists of rules, those of group policies among them
    group_policy *group_policies
    nat_policy *nat_policies
    flow_policy *flow_policies
    tunnel *tunnels         # by owner, ascending
    uint32_t *tunnels_by_id  # indexes of them by endpoint id, ascending
    spread *spreads
    member *members
    translation *maps
    number_set *number_sets
    uint32_t *numbers
    bridge_table *bridges
    bridge_port *bridge_ports
    addr *addresses
    uint8_t *macs           # 6 bytes each


cdef uint32_t bridge_find(tables *t, uint32_t index, uint64_t mac) noexcept nogil
# The tunnel of this endpoint, or NULL.
cdef tunnel *tunnel_of(tables *t, uint32_t owner) noexcept nogil
# The same of the endpoint with this id.
cdef tunnel *tunnel_with_id(tables *t, uint64_t endpoint_id) noexcept nogil
cdef bint number_set_has(tables *t, uint32_t index, uint32_t number) noexcept nogil


cdef class Snapshot:
    cdef tables t
    cdef dict _blocks       # name of a table -> owner of the memory behind it
    cdef list _intervals    # owners of what is behind `t.intervals`
    cdef list _routes       # and behind `t.fibs`
    cdef list _lists        # and behind `t.filters`
    cdef readonly uint32_t classifiers_made     # the others were there already
    cdef object _identity
    cdef object _made_of    # the identity of the Snapshot before
    cdef parts _changes     # and what is another part than in that
    # Which parts differ from those of `other`; NULL: nobody knows. It points into this Snapshot.
    cdef const parts *changes_since(self, Snapshot other) noexcept
    cdef int _note_changes(self, dict rows, Snapshot before) except -1
    cdef int _note_splices(self, dict given, Snapshot before) except -1
    cdef int _note_spreads(self, Snapshot before) except -1
    cdef void *_block(self, str name, size_t count, size_t size, size_t had=*) except NULL
    cdef void *_table(self, str name, object given, size_t size, uint32_t *count) except NULL
    cdef int _read_intervals(self, object given) except -1
    cdef int _read_fibs(self, object given) except -1
    cdef int _read_lists(self, object given, object named, uint32_t classify_from) except -1
    cdef int _read_policies(self, object given) except -1
    cdef int _read_tunnels(self, object given) except -1
    cdef int _read_rest(self, dict rows) except -1
    cdef int _mac(self, uint8_t *to, bytes mac) except -1
    cdef int _interface(self, interface *i, tuple row) except -1

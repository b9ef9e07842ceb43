"""Snapshot: immutable compiled tables.

Built once from rows of plain numbers (dataplane.compile makes them), then only read. A Snapshot owns all
its memory in blocks freed with it; the engine keeps a reference for as long as a burst may read it.
"""

from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New

from fastpath.classifier cimport CLASSIFY_FROM, CLASSIFY_MOST, Classifier
from fastpath.lpm cimport lpm_answers, lpm_find


# The node of the neighbour with this MAC, or 0.
cdef uint32_t bridge_find(tables *t, uint32_t index, uint64_t mac) noexcept nogil:
    cdef bridge_table *b = &t.bridges[index]
    cdef uint32_t low = b.first, high = b.first + b.count, middle
    while low < high:
        middle = (low + high) >> 1
        if t.bridge_ports[middle].mac < mac:
            low = middle + 1
        else:
            high = middle
    if low < b.first + b.count and t.bridge_ports[low].mac == mac:
        return t.bridge_ports[low].node
    return 0


cdef tunnel *tunnel_of(tables *t, uint32_t owner) noexcept nogil:
    cdef uint32_t low = 0, high = t.tunnel_count, middle
    while low < high:
        middle = (low + high) >> 1
        if t.tunnels[middle].owner < owner:
            low = middle + 1
        else:
            high = middle
    if low < t.tunnel_count and t.tunnels[low].owner == owner:
        return &t.tunnels[low]
    return NULL


cdef tunnel *tunnel_with_id(tables *t, uint64_t endpoint_id) noexcept nogil:
    cdef uint32_t low = 0, high = t.tunnel_count, middle
    while low < high:
        middle = (low + high) >> 1
        if t.tunnels[t.tunnels_by_id[middle]].endpoint_id < endpoint_id:
            low = middle + 1
        else:
            high = middle
    if low < t.tunnel_count and t.tunnels[t.tunnels_by_id[low]].endpoint_id == endpoint_id:
        return &t.tunnels[t.tunnels_by_id[low]]
    return NULL


cdef bint number_set_has(tables *t, uint32_t index, uint32_t number) noexcept nogil:
    cdef uint32_t i
    cdef number_set *s = &t.number_sets[index]
    for i in range(s.first, s.first + s.count):
        if t.numbers[i] == number:
            return True
    return False


cdef void _free_block(object capsule) noexcept:
    PyMem_RawFree(PyCapsule_GetPointer(capsule, NULL))


cdef inline addr to_addr(object number) except *:
    cdef addr a
    a.hi = <uint64_t>(number >> 64)
    a.lo = <uint64_t>(number & 0xFFFFFFFFFFFFFFFF)
    return a


cdef inline void to_limits(timeouts *t, tuple row) except *:
    t.tcp_established, t.tcp_opening, t.tcp_closing, t.udp_single, t.udp_stream, t.icmp, t.other = row


cdef class Snapshot:
    """Immutable tables for one configuration. `rows` maps table names to lists of tuples of integers.

    The layout of each tuple is written beside the loop that reads it; `dataplane.compile` is the only author.
    Node 0 is always a drop, so that an index of 0 can mean "none". Raises OverflowError or ValueError when a
    number does not fit its field: a compiler error, never a user's. What long lists of rules are looked up by is taken
    from `before` where that has the same list. Lists of `classify_from` rules are long.
    """

    def __init__(self, dict rows, *, unsigned int generation, Snapshot before=None, unsigned int classify_from=CLASSIFY_FROM):
        cdef tables *t = &self.t
        cdef size_t i
        if self._blocks is not None:
            raise TypeError("a Snapshot is made once")
        self._blocks = []
        self._classifiers = {}
        t.generation = generation
        t.fragment_lifetime = rows["fragment_timeout"][0]

        nodes = rows["nodes"]   # (op, mode, family, flags, reason, mtu, next, other, table, value, extra, via, object)
        t.node_count = len(nodes)
        t.nodes = <node *>self._block(len(nodes), sizeof(node))
        for i, row in enumerate(nodes):
            (t.nodes[i].op, t.nodes[i].mode, t.nodes[i].family, t.nodes[i].flags, t.nodes[i].reason, t.nodes[i].mtu,
             t.nodes[i].next, t.nodes[i].other, t.nodes[i].table, t.nodes[i].value, t.nodes[i].extra, t.nodes[i].via,
             t.nodes[i].object) = row

        intervals = rows["intervals"]   # (starts4, values4, starts6, values6)
        t.table_count = len(intervals)
        t.intervals = <lpm_table *>self._block(len(intervals), sizeof(lpm_table))
        self._tables = Store()
        for i, row in enumerate(intervals):
            self._tables.build(&t.intervals[i], row)
        self.bytes += self._tables.bytes

        routes = rows["routes"]         # (node, rule)
        t.routes = <route *>self._block(len(routes), sizeof(route))
        for i, row in enumerate(routes):
            t.routes[i].node, t.routes[i].rule = row

        rules = rows["rules"]
        # (number, protocol, allow, family, port_first, port_last, icmp_type, icmp_code, any_port, any_address, table, group, first, last)
        t.rules = <rule *>self._block(len(rules), sizeof(rule))
        for i, row in enumerate(rules):
            (t.rules[i].number, t.rules[i].protocol, t.rules[i].allow, t.rules[i].family, t.rules[i].port_first,
             t.rules[i].port_last, t.rules[i].icmp_type, t.rules[i].icmp_code, t.rules[i].any_port,
             t.rules[i].any_address, t.rules[i].table, t.rules[i].group) = row[:12]
            t.rules[i].first = to_addr(row[12])
            t.rules[i].last = to_addr(row[13])

        filters = rows["filters"]       # (first, count)
        t.filters = <rule_list *>self._block(len(filters), sizeof(rule_list))
        for i, row in enumerate(filters):
            self._rule_list(&t.filters[i], rows, row[0], row[1], before, classify_from)

        groups = rows["group_policies"]
        # (owner, egress first, egress count, ingress first, ingress count, egress_open, ingress_open, limits)
        t.group_policies = <group_policy *>self._block(len(groups), sizeof(group_policy))
        for i, row in enumerate(groups):
            t.group_policies[i].owner = row[0]
            self._rule_list(&t.group_policies[i].egress, rows, row[1], row[2], before, classify_from)
            self._rule_list(&t.group_policies[i].ingress, rows, row[3], row[4], before, classify_from)
            t.group_policies[i].egress_open, t.group_policies[i].ingress_open = row[5:7]
            to_limits(&t.group_policies[i].limits, row[7])

        nats = rows["nat_policies"]
        # (owner, first_address, address_count, port_first, port_last, per_destination, prefix6 or None, limits)
        t.nat_count = len(nats)
        t.nat_policies = <nat_policy *>self._block(len(nats), sizeof(nat_policy))
        for i, row in enumerate(nats):
            (t.nat_policies[i].owner, t.nat_policies[i].first_address, t.nat_policies[i].address_count,
             t.nat_policies[i].port_first, t.nat_policies[i].port_last, t.nat_policies[i].per_destination) = row[:6]
            t.nat_policies[i].has_prefix6 = row[6] is not None
            if row[6] is not None:
                t.nat_policies[i].prefix6 = to_addr(row[6])
            to_limits(&t.nat_policies[i].limits, row[7])

        gates = rows["flow_policies"]   # (owner, limits)
        t.flow_policies = <flow_policy *>self._block(len(gates), sizeof(flow_policy))
        for i, row in enumerate(gates):
            t.flow_policies[i].owner = row[0]
            to_limits(&t.flow_policies[i].limits, row[1])

        members = rows["members"]       # (number, address, takes_new, keeps)
        t.members = <member *>self._block(len(members), sizeof(member))
        for i, row in enumerate(members):
            t.members[i].number, t.members[i].address, t.members[i].takes_new, t.members[i].keeps = row

        spreads = rows["spreads"]       # (owner, stickiness, first, count)
        t.spreads = <spread *>self._block(len(spreads), sizeof(spread))
        for i, row in enumerate(spreads):
            t.spreads[i].owner, t.spreads[i].stickiness, t.spreads[i].first, t.spreads[i].count = row

        tunnels = rows["tunnels"]       # (owner, endpoint_id, balancer, source, spread, resume, interface, flags, limits), by owner
        t.tunnel_count = len(tunnels)
        t.tunnels = <tunnel *>self._block(len(tunnels), sizeof(tunnel))
        for i, row in enumerate(tunnels):
            (t.tunnels[i].owner, t.tunnels[i].endpoint_id, t.tunnels[i].balancer, t.tunnels[i].source, t.tunnels[i].spread,
             t.tunnels[i].resume, t.tunnels[i].interface, t.tunnels[i].flags) = row[:8]
            to_limits(&t.tunnels[i].limits, row[8])
        t.tunnels_by_id = <uint32_t *>self._block(len(tunnels), sizeof(uint32_t))
        for i, middle in enumerate(sorted(range(len(tunnels)), key=lambda index: tunnels[index][1])):
            t.tunnels_by_id[i] = middle

        maps = rows["maps"]             # (inside_table, outside_table)
        t.map_count = len(maps)
        t.maps = <translation *>self._block(len(maps), sizeof(translation))
        for i, row in enumerate(maps):
            t.maps[i].inside_table, t.maps[i].outside_table = row

        number_sets = rows["number_sets"]     # (first, count)
        t.number_sets = <number_set *>self._block(len(number_sets), sizeof(number_set))
        for i, row in enumerate(number_sets):
            t.number_sets[i].first, t.number_sets[i].count = row
        numbers = rows["numbers"]
        t.numbers = <uint32_t *>self._block(len(numbers), sizeof(uint32_t))
        for i, row in enumerate(numbers):
            t.numbers[i] = row

        bridges = rows["bridges"]           # (first, count)
        t.bridge_count = len(bridges)
        t.bridges = <bridge_table *>self._block(len(bridges), sizeof(bridge_table))
        for i, row in enumerate(bridges):
            t.bridges[i].first, t.bridges[i].count = row
        ports = rows["bridge_ports"]        # (mac, node)
        t.bridge_ports = <bridge_port *>self._block(len(ports), sizeof(bridge_port))
        for i, row in enumerate(ports):
            t.bridge_ports[i].mac, t.bridge_ports[i].node = row

        addresses = rows["addresses"]
        t.addresses = <addr *>self._block(len(addresses), sizeof(addr))
        for i, row in enumerate(addresses):
            t.addresses[i] = to_addr(row)

        mac_rows = rows["macs"]
        t.macs = <uint8_t *>self._block(len(mac_rows), 6)
        for i, row in enumerate(mac_rows):
            self._mac(t.macs + 6 * i, row)

        interfaces = rows["interfaces"]
        # (number, port, realm, subnet, zone, groups, into, out, mtu, via, mac, router_mac,
        # address4, address6, router4, router6), addresses or None
        t.interface_count = len(interfaces)
        t.interfaces = <interface *>self._block(len(interfaces), sizeof(interface))
        for i, row in enumerate(interfaces):
            self._interface(&t.interfaces[i], row)

        contexts = rows["contexts"]     # (number, interface, entry, neighbours, bridge)
        t.context_count = 1 + max((row[0] for row in contexts), default=0)
        t.contexts = <context *>self._block(t.context_count, sizeof(context))
        for row in contexts:
            i = row[0]
            t.contexts[i].interface, t.contexts[i].entry, t.contexts[i].neighbours, t.contexts[i].bridge = row[1:]

    @property
    def generation(self):
        """Number of this Snapshot; flow entries made under another one are walked again."""
        return self.t.generation

    @property
    def node_count(self):
        """How many nodes the graph has (the drop node 0 included)."""
        return self.t.node_count

    def find(self, int table, int family, object address):
        """Look `address` (an integer) up in interval table `table`: the value, 0 for no match. For tests."""
        if not 0 <= table < <int>self.t.table_count:
            raise IndexError(table)
        return lpm_find(&self.t.intervals[table], family, to_addr(address))

    def find_many(self, int table, int family, object addresses, object out=None, *, str level=""):
        """The same for a buffer of addresses; see `fastpath.lpm.Lpm.find_many`."""
        if not 0 <= table < <int>self.t.table_count:
            raise IndexError(table)
        return lpm_answers(&self.t.intervals[table], family, addresses, out, level)

    cdef void *_block(self, size_t count, size_t size) except NULL:
        cdef void *memory = PyMem_RawCalloc(count if count else 1, size)
        if memory == NULL:
            raise MemoryError
        self._blocks.append(PyCapsule_New(memory, NULL, _free_block))
        self.bytes += count * size
        return memory

    cdef int _rule_list(self, rule_list *l, dict rows, uint32_t first, uint32_t count, Snapshot before, uint32_t least) except -1:
        cdef Classifier made
        l.first = first
        l.count = count
        if count < least or count > CLASSIFY_MOST or count == 0:
            return 0
        rules = rows["rules"][first:first + count]
        tables = rows["intervals"]
        # all that decides its classes: rules without their numbers and actions, tables as they are
        named = {row[10]: tuple(map(tuple, tables[row[10] - 1])) for row in rules if row[10]}
        key = tuple((row[1], *row[3:10], named.get(row[10]), *row[11:]) for row in rules)
        made = self._classifiers.get(key)
        if made is None:
            made = before._classifiers.get(key) if before is not None else None
            if made is None:
                made = Classifier(list(rules), list(tables))
                self.classifiers_made += 1
            self._classifiers[key] = made
            self.bytes += made.bytes
        l.classes = &made.c
        return 0

    cdef int _mac(self, uint8_t *to, bytes mac) except -1:
        cdef int i
        if len(mac) != 6:
            raise ValueError(f"a MAC has 6 bytes: {mac!r}")
        for i in range(6):
            to[i] = mac[i]
        return 0

    cdef int _interface(self, interface *i, tuple row) except -1:
        (i.number, i.port, i.realm, i.subnet, i.zone, i.groups, i.into, i.out, i.mtu, i.via) = row[:10]
        self._mac(i.mac, row[10])
        self._mac(i.router_mac, row[11])
        address4, address6, router4, router6 = row[12:]
        i.has4 = address4 is not None
        i.has6 = address6 is not None
        i.has_router4 = router4 is not None
        i.has_router6 = router6 is not None
        if address4 is not None:
            i.address4 = to_addr(address4)
        if address6 is not None:
            i.address6 = to_addr(address6)
        if router4 is not None:
            i.router4 = to_addr(router4)
        if router6 is not None:
            i.router6 = to_addr(router6)
        return 0

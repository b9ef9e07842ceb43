"""Snapshot: immutable compiled tables.

Built once from rows of plain numbers (dataplane.compile makes them), then only read. Its memory is in blocks that belong
to all the Snapshots which have them, so that one which differs from another in a few rows shares the rest with it; the
engine keeps a reference for as long as a burst may read it.
"""

from array import array

from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from libc.string cimport memcmp, memcpy

from fastpath.classifier cimport CLASSIFY_FROM
from fastpath.footing cimport *
from fastpath.intervals cimport content
from fastpath.lpm cimport lpm_answers, lpm_find, lpm_named
from fastpath.lpm_build cimport Store, bytes_of
from fastpath.rule_list cimport first_rules4


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


cdef class Memory:
    """Zeroed memory, freed with its owner."""

    cdef void *memory
    cdef size_t size

    def __cinit__(self, size_t size):
        self.memory = PyMem_RawCalloc(size if size else 1, 1)
        if self.memory == NULL:
            raise MemoryError
        self.size = size

    def __dealloc__(self):
        PyMem_RawFree(self.memory)


cdef inline addr to_addr(object number) except *:
    cdef addr a
    a.hi = <uint64_t>(number >> 64)
    a.lo = <uint64_t>(number & 0xFFFFFFFFFFFFFFFF)
    return a


cdef inline void to_limits(timeouts *t, tuple row) except *:
    t.tcp_established, t.tcp_opening, t.tcp_closing, t.udp_single, t.udp_stream, t.icmp, t.other = row


# (index, row) of rows as they are given.
cdef object numbered(object given):
    return given.items() if isinstance(given, dict) else enumerate(given)


cdef class Snapshot:
    """Immutable tables for one configuration. `rows` maps table names to lists of tuples of integers.

    The layout of each tuple is written beside the loop that reads it; `dataplane.compile` is the only author.
    Node 0 is always a drop, so that an index of 0 can mean "none". Raises OverflowError or ValueError when a
    number does not fit its field: a compiler error, never a user's. Lists of `classify_from` rules are long.

    With `before`, tables that `rows` does not name are that Snapshot's. One that is named as a list is there as a whole;
    `nodes`, `intervals`, `fibs`, `filters` and `group_policies` may also be named as a dict from index to row: the other
    rows are as they were. A row of `filters` is then a list of splices (at, removed, rules), see
    `fastpath.rule_list.RuleList`; `named` maps the indexes of the tables that these rules name to their intervals.
    """

    def __init__(self, dict rows, *, unsigned int generation, Snapshot before=None, unsigned int classify_from=CLASSIFY_FROM):
        cdef tables *t = &self.t
        cdef size_t i
        if self._blocks is not None:
            raise TypeError("a Snapshot is made once")
        if before is None:
            self._blocks, self._intervals, self._routes, self._lists = {}, [], [], []
        else:
            self.t = before.t
            self._blocks = dict(before._blocks)
            self._intervals, self._routes, self._lists = before._intervals, before._routes, before._lists
        t.generation = generation
        if "fragment_timeout" in rows:
            t.fragment_lifetime = rows["fragment_timeout"][0]
        if "nodes" in rows:     # (op, mode, family, flags, reason, mtu, next, other, table, value, extra, via, object)
            given = rows["nodes"]
            t.nodes = <node *>self._table("nodes", given, sizeof(node), &t.node_count)
            for i, row in numbered(given):
                (t.nodes[i].op, t.nodes[i].mode, t.nodes[i].family, t.nodes[i].flags, t.nodes[i].reason, t.nodes[i].mtu,
                 t.nodes[i].next, t.nodes[i].other, t.nodes[i].table, t.nodes[i].value, t.nodes[i].extra, t.nodes[i].via,
                 t.nodes[i].object) = row
        if "intervals" in rows:
            self._read_intervals(rows["intervals"])
        if "fibs" in rows:
            self._read_fibs(rows["fibs"])
        if "filters" in rows:
            self._read_lists(rows["filters"], rows["named"] if before is not None else rows["intervals"], classify_from)
        if "group_policies" in rows:    # (owner, egress, ingress, limits), filters by index
            given = rows["group_policies"]
            t.group_policies = <group_policy *>self._table("group_policies", given, sizeof(group_policy), &t.policy_count)
            for i, row in numbered(given):
                t.group_policies[i].owner, t.group_policies[i].egress, t.group_policies[i].ingress = row[:3]
                to_limits(&t.group_policies[i].limits, row[3])
        if "nat_policies" in rows:
            self._read_policies(rows["nat_policies"])
        if "flow_policies" in rows:     # (owner, limits)
            given = rows["flow_policies"]
            t.flow_policies = <flow_policy *>self._block("flow_policies", len(given), sizeof(flow_policy))
            for i, row in enumerate(given):
                t.flow_policies[i].owner = row[0]
                to_limits(&t.flow_policies[i].limits, row[1])
        if "members" in rows:           # (number, address, takes_new, keeps)
            given = rows["members"]
            t.members = <member *>self._block("members", len(given), sizeof(member))
            for i, row in enumerate(given):
                t.members[i].number, t.members[i].address, t.members[i].takes_new, t.members[i].keeps = row
        if "spreads" in rows:           # (owner, stickiness, first, count)
            given = rows["spreads"]
            t.spreads = <spread *>self._block("spreads", len(given), sizeof(spread))
            for i, row in enumerate(given):
                t.spreads[i].owner, t.spreads[i].stickiness, t.spreads[i].first, t.spreads[i].count = row
        if "tunnels" in rows:
            self._read_tunnels(rows["tunnels"])
        if before is None:
            self._read_rest(rows)
        else:
            self._made_of = before._identity
            self._note_changes(rows, before)
        self._identity = object()

    @property
    def generation(self):
        """Number of this Snapshot: of two that one engine uses, the later one's is larger."""
        return self.t.generation

    @property
    def bytes(self):
        """Memory of all tables, those that other Snapshots share included, without what Python itself takes."""
        cdef RuleList rules
        cdef uint64_t total = bytes_of(self._intervals)
        for rules in self._lists:
            total += rules.bytes
        for block in (*self._blocks.values(), *self._routes):
            total += (<Memory>block).size
        return total

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

    def rule_list(self, int index):
        """A list of rules. For tests."""
        return self._lists[index]

    def first_rules(self, int index, object remotes, object services, *, str level=""):
        """The first rule of a list that matches each of many packets, by its number (0: none does), as `array("I")`.

        `remotes` are IPv4 addresses, `services` what `fastpath.classifier.service` makes; both buffers of 32-bit numbers.
        Senders are in no group. `level` forces one of `fastpath.lpm.LEVELS`. The GIL is released. Raises ValueError for
        buffers of different sizes.
        """
        cdef const uint32_t[::1] r = memoryview(remotes).cast("B").cast("I"), s = memoryview(services).cast("B").cast("I")
        cdef uint32_t[::1] a
        cdef size_t n = len(r)
        cdef int number = lpm_named(level)
        cdef const rule_list *rules
        if not 0 <= index < <int>self.t.filter_count:
            raise IndexError(index)
        if <size_t>len(s) != n:
            raise ValueError("as many services as addresses")
        found = array("I", bytes(4 * n))
        if n:
            a = found
            rules = &self.t.filters[index]
            with nogil:
                first_rules4(rules, self.t.intervals, &r[0], &s[0], &a[0], n, number)
        return found

    def parts(self):
        """Each table as bytes, without what differs from one process to the next. For tests."""
        cdef Memory block
        found = {}
        for name, each in self._blocks.items():
            block = each
            found[name] = bytes(content(block.memory, block.size))
        del found["intervals"], found["fibs"], found["filters"]     # pointers; what they lead to is:
        found["intervals"] = [table.parts() for table in self._intervals]
        found["filters"] = [rules.parts() for rules in self._lists]
        found["fibs"] = [self.t.fibs[i].table for i in range(len(self._routes))]
        found["routes"] = []
        for each in self._routes:
            block = each
            found["routes"].append(bytes(content(block.memory, block.size)))
        return found

    cdef const parts *changes_since(self, Snapshot other) noexcept:
        if other is None or self._made_of is None or self._made_of is not other._identity:
            return NULL
        return &self._changes

    # What `rows` put in the place of rows of `before` are other parts, whatever is in them.
    cdef int _note_changes(self, dict rows, Snapshot before) except -1:
        cdef parts *changes = &self._changes
        cdef size_t i
        cdef uint32_t kind
        kinds = {"nodes": PART_NODE, "intervals": PART_TABLE, "fibs": PART_FIB, "group_policies": PART_GROUP_POLICY}
        for name, given in rows.items():
            if name == "flow_policies":
                add_part(changes, PART_FLOW_POLICIES, 0)
            elif name == "tunnels":
                add_part(changes, PART_TUNNELS, 0)
            elif name == "filters" and isinstance(given, dict):
                self._note_splices(given, before)
            elif name in kinds and isinstance(given, dict):
                kind = kinds[name]
                for i in given:
                    add_part(changes, kind, <uint32_t>i)
            elif name != "named" and name != "spreads" and name != "members":
                all_parts(changes)
        if isinstance(rows.get("intervals"), dict):
            for i in range(self.t.fib_count):
                if self.t.fibs[i].table in rows["intervals"]:
                    add_part(changes, PART_FIB, <uint32_t>i)
        if "spreads" in rows or "members" in rows:
            self._note_spreads(before)
        return 0

    cdef int _note_splices(self, dict given, Snapshot before) except -1:
        cdef const rule_list *had
        cdef uint32_t index, i, k
        for index, splices in given.items():
            had = &before.t.filters[index]
            add_part(&self._changes, PART_RULES, index)
            for at, removed, added in splices:
                if added:
                    add_part(&self._changes, PART_ADDED, index)
                k = at
                for i in range(k, k + <uint32_t>removed):
                    add_part(&self._changes, PART_RULE, index, had.rules[i].number)
        return 0

    # All of them are there anew, mostly as they were.
    cdef int _note_spreads(self, Snapshot before) except -1:
        cdef size_t size = (<Memory>self._blocks["spreads"]).size, i
        cdef const spread *old
        cdef const spread *new
        if (<Memory>before._blocks["spreads"]).size != size:
            all_parts(&self._changes)
            return 0
        for i in range(size // sizeof(spread)):
            old, new = &before.t.spreads[i], &self.t.spreads[i]
            if old.owner != new.owner or old.stickiness != new.stickiness or old.count != new.count \
                    or memcmp(before.t.members + old.first, self.t.members + new.first, new.count * sizeof(member)) != 0:
                add_part(&self._changes, PART_SPREAD, <uint32_t>i)
        return 0

    # Room for `count` rows, of which the first `had` are those of the Snapshot before.
    cdef void *_block(self, str name, size_t count, size_t size, size_t had=0) except NULL:
        cdef Memory made = Memory(count * size)
        cdef Memory old
        if had:
            old = self._blocks[name]
            memcpy(made.memory, old.memory, had * size)
        self._blocks[name] = made
        return made.memory

    # The same for rows as they are given: all of them, or some in place of others.
    cdef void *_table(self, str name, object given, size_t size, uint32_t *count) except NULL:
        if isinstance(given, dict):
            for index in given:
                if not 0 <= index < count[0]:
                    raise IndexError(f"{name} has no row {index}")
            return self._block(name, count[0], size, count[0])
        count[0] = <uint32_t>len(given)
        return self._block(name, count[0], size)

    cdef int _read_intervals(self, object given) except -1:
        cdef tables *t = &self.t
        cdef Store store = Store()
        cdef Table made
        cdef size_t i
        t.intervals = <lpm_table *>self._table("intervals", given, sizeof(lpm_table), &t.table_count)
        self._intervals = list(self._intervals) if isinstance(given, dict) else [None] * len(given)
        for i, row in numbered(given):      # (starts4, values4, starts6, values6)
            made = store.table(row)
            self._intervals[i] = made
            t.intervals[i] = made.t
        return 0

    cdef int _read_fibs(self, object given) except -1:
        cdef tables *t = &self.t
        cdef Memory made
        cdef route *routes
        cdef size_t i, k
        t.fibs = <fib *>self._table("fibs", given, sizeof(fib), &t.fib_count)
        self._routes = list(self._routes) if isinstance(given, dict) else [None] * len(given)
        for i, (table, found) in numbered(given):       # (interval table, routes: (node, rule))
            made = Memory(len(found) * sizeof(route))
            routes = <route *>made.memory
            for k, row in enumerate(found):
                routes[k].node, routes[k].rule = row
            self._routes[i] = made
            t.fibs[i].routes = routes
            t.fibs[i].table = table
        return 0

    cdef int _read_lists(self, object given, object named, uint32_t classify_from) except -1:
        cdef tables *t = &self.t
        cdef RuleList made
        cdef size_t i
        t.filters = <rule_list *>self._table("filters", given, sizeof(rule_list), &t.filter_count)
        lists, self._lists = self._lists, list(self._lists) if isinstance(given, dict) else [None] * len(given)
        for i, row in numbered(given):
            if isinstance(given, dict):
                made = RuleList(row, named, before=lists[i], classify_from=classify_from)
            else:
                made = RuleList(list(row), named, classify_from=classify_from)
            self.classifiers_made += made.l.classes != NULL
            self._lists[i] = made
            t.filters[i] = made.l
        return 0

    cdef int _read_policies(self, object given) except -1:
        cdef tables *t = &self.t
        cdef size_t i
        # (owner, first_address, address_count, port_first, port_last, per_destination, prefix6 or None, limits)
        t.nat_count = len(given)
        t.nat_policies = <nat_policy *>self._block("nat_policies", len(given), sizeof(nat_policy))
        for i, row in enumerate(given):
            (t.nat_policies[i].owner, t.nat_policies[i].first_address, t.nat_policies[i].address_count,
             t.nat_policies[i].port_first, t.nat_policies[i].port_last, t.nat_policies[i].per_destination) = row[:6]
            t.nat_policies[i].has_prefix6 = row[6] is not None
            if row[6] is not None:
                t.nat_policies[i].prefix6 = to_addr(row[6])
            to_limits(&t.nat_policies[i].limits, row[7])
        return 0

    cdef int _read_tunnels(self, object given) except -1:
        cdef tables *t = &self.t
        cdef size_t i
        # (owner, endpoint_id, balancer, source, spread, resume, interface, flags, limits), by owner
        t.tunnel_count = len(given)
        t.tunnels = <tunnel *>self._block("tunnels", len(given), sizeof(tunnel))
        for i, row in enumerate(given):
            (t.tunnels[i].owner, t.tunnels[i].endpoint_id, t.tunnels[i].balancer, t.tunnels[i].source, t.tunnels[i].spread,
             t.tunnels[i].resume, t.tunnels[i].interface, t.tunnels[i].flags) = row[:8]
            to_limits(&t.tunnels[i].limits, row[8])
        t.tunnels_by_id = <uint32_t *>self._block("tunnels_by_id", len(given), sizeof(uint32_t))
        for i, at in enumerate(sorted(range(len(given)), key=lambda index: given[index][1])):
            t.tunnels_by_id[i] = at
        return 0

    # What is there as a whole or not at all.
    cdef int _read_rest(self, dict rows) except -1:
        cdef tables *t = &self.t
        cdef size_t i
        maps = rows["maps"]             # (inside_table, outside_table)
        t.map_count = len(maps)
        t.maps = <translation *>self._block("maps", len(maps), sizeof(translation))
        for i, row in enumerate(maps):
            t.maps[i].inside_table, t.maps[i].outside_table = row

        number_sets = rows["number_sets"]     # (first, count)
        t.number_sets = <number_set *>self._block("number_sets", len(number_sets), sizeof(number_set))
        for i, row in enumerate(number_sets):
            t.number_sets[i].first, t.number_sets[i].count = row
        numbers = rows["numbers"]
        t.numbers = <uint32_t *>self._block("numbers", len(numbers), sizeof(uint32_t))
        for i, row in enumerate(numbers):
            t.numbers[i] = row

        bridges = rows["bridges"]           # (first, count)
        t.bridge_count = len(bridges)
        t.bridges = <bridge_table *>self._block("bridges", len(bridges), sizeof(bridge_table))
        for i, row in enumerate(bridges):
            t.bridges[i].first, t.bridges[i].count = row
        ports = rows["bridge_ports"]        # (mac, node)
        t.bridge_ports = <bridge_port *>self._block("bridge_ports", len(ports), sizeof(bridge_port))
        for i, row in enumerate(ports):
            t.bridge_ports[i].mac, t.bridge_ports[i].node = row

        addresses = rows["addresses"]
        t.addresses = <addr *>self._block("addresses", len(addresses), sizeof(addr))
        for i, row in enumerate(addresses):
            t.addresses[i] = to_addr(row)

        mac_rows = rows["macs"]
        t.macs = <uint8_t *>self._block("macs", len(mac_rows), 6)
        for i, row in enumerate(mac_rows):
            self._mac(t.macs + 6 * i, row)

        interfaces = rows["interfaces"]
        # (number, port, realm, subnet, zone, groups, into, out, mtu, via, mac, router_mac,
        # address4, address6, router4, router6), addresses or None
        t.interface_count = len(interfaces)
        t.interfaces = <interface *>self._block("interfaces", len(interfaces), sizeof(interface))
        for i, row in enumerate(interfaces):
            self._interface(&t.interfaces[i], row)

        contexts = rows["contexts"]     # (number, interface, entry, neighbours, bridge)
        t.context_count = 1 + max((row[0] for row in contexts), default=0)
        t.contexts = <context *>self._block("contexts", t.context_count, sizeof(context))
        for row in contexts:
            i = row[0]
            t.contexts[i].interface, t.contexts[i].entry, t.contexts[i].neighbours, t.contexts[i].bridge = row[1:]
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

"""The neutral program: a graph of nodes over tables, the form between Topology and Snapshot.

Constructs lower themselves into a `Program` in neutral words; `dataplane.compile` packs it into the C tables
of a Snapshot. Nodes and tables are named by *labels* (strings private to one Program, e.g. ``"eni:web/in"``)
and refer to each other by label, so a construct never needs to know in which order things are lowered.
Everything a user should read is a number from `Names`.

A packet enters at a `Context` and walks from node to node until one ends it (Emit, Serve, Drop, or a node
whose test fails). With it travels its metadata: realm (whose addresses these are), subnet, availability
zone, the interface it came from with that interface's groups, and the *via* bits below.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple

from dataplane.names import Names
from dataplane.verdict import Reason

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network


class Via(IntFlag):
    """What a packet has come through on its way to here."""

    NONE = 0
    GATEWAY = 1
    """An internet gateway (either direction)."""
    PEERING = 2
    NAT = 4
    ENDPOINT = 8
    TUNNEL = 16
    TRACKED = 32
    """Something that has every flow through it tracked, whatever the rules of groups say."""


class Test(IntEnum):
    """What a Guard looks at."""

    SOURCE_IN = 1
    DESTINATION_IN = 2
    VIA = 3
    """True when the packet came through any of the given via bits."""
    FROM_SUBNET = 4
    """True when the packet is in one of the given subnets, or has just left it."""


class Side(IntEnum):
    """Which address of a packet a node works on."""

    SOURCE = 1
    DESTINATION = 2


class Direction(IntEnum):
    """Relative to the interface that owns a policy."""

    EGRESS = 1
    INGRESS = 2


class GateMode(IntEnum):
    """What a FlowGate does with a packet of a flow it does not know."""

    OPEN = 1
    """Remember the flow, and let it pass."""
    REQUIRE = 2
    """Drop."""
    RESUME = 3
    """Let it pass; packets of known flows take another way."""
    LOOK = 4
    """The same, and a flow that is known is none the fresher for it."""


class TtlAction(IntEnum):
    """What a hop does to the TTL or hop limit."""

    KEEP = 0
    SILENT = 1
    """Decrement; when it runs out, drop without a word."""
    ANSWER = 2
    """Decrement; when it runs out, drop and send Time Exceeded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Common to all nodes: the object (a `Names` number) a trace shows for it."""

    object: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard(Node):
    """Go on when the test is true (or, with `negate`, false); else to `otherwise`, or drop with `reason`.

    `family` 4 or 6 limits the guard to that family; packets of the other family just go on.
    `tables` names an entry of `Program.sets` for the two address tests; `via` is for `Test.VIA`, `subnets` (numbers)
    for `Test.FROM_SUBNET`.
    """

    test: Test
    table: str = ""
    via: Via = Via.NONE
    subnets: tuple[int, ...] = ()
    negate: bool = False
    family: int = 0
    reason: Reason = Reason.NONE
    otherwise: str = ""
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge(Node):
    """Frame for a neighbour's MAC: go to the neighbour (`Program.bridges`); for the router's MAC: go on."""

    table: str
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter(Node):
    """Ordered, stateless, first match; no match drops. `remote` is the address that rules compare.

    Skipped when the packet's subnet is `skip_subnet` (it does not cross the subnet's border).
    """

    table: str
    remote: Side
    skip_subnet: int = 0
    reason: Reason
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSession(Node):
    """Stateful filter of one interface (`Program.group_policies`)."""

    policy: str
    direction: Direction
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NatSession(Node):
    """Port translation (`Program.nat_policies`): to its own address = a reply, else outbound.

    TCP from inside that belongs to no connection is answered with a reset, sent by interface `answer_as` (a label of
    `Program.interfaces`).
    """

    policy: str
    answer_as: str
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowGate(Node):
    """Remembers flows between two sides (`Program.flow_policies`) without looking at rules or changing packets.

    `direction` is the packet's, as the owner sees it: what passed one way is recognised as an answer the other way.
    With `GateMode.REQUIRE` packets of no flow are dropped with `reason`; with `RESUME` and `LOOK` those of one go to
    `otherwise`. ICMP errors pass by what they are about, and open nothing.
    """

    policy: str
    mode: GateMode
    direction: Direction
    reason: Reason = Reason.NONE
    otherwise: str = ""
    tracks: bool = False
    """Whether group policies must track what passes here, whatever their rules say."""
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup(Node):
    """ROUTE: longest match of an address in `Program.fibs[fib]`; no match drops with `reason`.

    A `quiet` lookup is part of another decision: it shows in no trace, and its routes decide no drop.
    """

    fib: str
    side: Side = Side.DESTINATION
    quiet: bool = False
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite(Node):
    """Stateless 1:1 translation of IPv4 addresses (`Program.maps`), inner headers of ICMP errors too.

    SOURCE looks inside addresses up and writes the outside ones; DESTINATION the other way round.
    No entry drops with `reason`. IPv6 passes unchanged.
    """

    map: str
    side: Side
    reason: Reason
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop(Node):
    """MTU and TTL of a gateway. `mtu` in bytes of IP packet (0: no limit).

    IPv4 without DF is fragmented; with DF, and always for IPv6, the packet is dropped and, if `answers_mtu`,
    the sender told. Errors come from interface `answer_as` (a label of `Program.interfaces`), routed from
    there; when empty from the subnet router of the interface the packet came from, handed to it directly.
    """

    mtu: int = 0
    answers_mtu: bool = True
    fragments: bool = True
    """False: what is too large is dropped, DF or not."""
    clamps_mss: bool = False
    """Whether TCP that opens a connection is told to send no segments that would be too large."""
    ttl: TtlAction = TtlAction.KEEP
    answer_as: str = ""
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Encapsulate(Node):
    """SPREAD and ENCAP: the packet goes on inside another one, to the member of a spread that has its flow.

    A flow that the tunnel (`Program.tunnels`) does not know gets a member and a cookie of its own; TCP in the middle of
    a connection is dropped, and what no member can take. From `next` on it is the outer packet that travels.
    """

    tunnel: str
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decapsulate(Node):
    """DECAP: the packet inside goes on where its flow left, at the `resume` node of its tunnel.

    `owner` is the number of the balancer whose flows come back here. What is not GENEVE goes to `otherwise`.
    """

    owner: int
    otherwise: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Enter(Node):
    """Change the packet's metadata: it is now in `realm` and `subnet` (0: in none), and came through `via` as well.

    `interface` (a label of `Program.interfaces`): from here on the packet comes from that interface (its
    subnet and zone are taken from it, `subnet` is ignored), and through `via` alone. With `keep_groups` false the
    sender's identity is lost: group references no longer match.
    """

    realm: int
    subnet: int = 0
    via: Via = Via.NONE
    interface: str = ""
    keep_groups: bool = False
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Emit(Node):
    """The packet leaves through the port of interface `interface` (a label of `Program.interfaces`)."""

    interface: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve(Node):
    """The router answers echo requests itself, from the address asked; all else is dropped as NOT_SERVED."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop(Node):
    """The packet dies."""

    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One entry of a FIB: longest prefix wins; two entries with one prefix are an error.

    `rule` is the `Names` number a trace shows for the route.
    """

    prefix: Prefix
    node: str
    rule: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One line of a filter or a group policy.

    `protocol` -1 matches all. `ports` (first, last) is compared with the destination port of TCP and UDP;
    `icmp` is (type, code) with -1 for any, compared for ICMP and ICMPv6. The remote end is exactly one of
    `prefix`, `table` (a label of `Program.sets`) or `group` (a number: the sender's groups hold it).
    """

    rule: int
    allow: bool = True
    protocol: int = -1
    ports: tuple[int, int] | None = None
    icmp: tuple[int, int] | None = None
    prefix: Prefix | None = None
    table: str = ""
    group: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Idle limits of tracked flows, in milliseconds."""

    tcp_established: int
    tcp_opening: int
    tcp_closing: int
    udp_single: int
    udp_stream: int
    icmp: int
    other: int

    @classmethod
    def of_gateway(cls, *, tcp: int, closing: int, other: int) -> Timeouts:
        """Those of a gateway that tells TCP (open or not, and closing) from everything else."""
        return cls(
            tcp_established=tcp,
            tcp_opening=tcp,
            tcp_closing=closing,
            udp_single=other,
            udp_stream=other,
            icmp=other,
            other=other,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPolicy:
    """Union of the rules of all groups of one interface; `owner` is the interface's number.

    `members` maps group number -> addresses now held by interfaces that carry it; only outbound rules need
    it (the receiver of a packet that has not yet been routed is known by its address alone).
    """

    owner: int
    egress: tuple[Rule, ...]
    ingress: tuple[Rule, ...]
    timeouts: Timeouts


@dataclass(frozen=True, slots=True, kw_only=True)
class NatPolicy:
    """Many-to-one translation; `owner` is the gateway's number, `addresses` its own inside addresses."""

    owner: int
    addresses: tuple[IPv4Address, ...]
    port_first: int
    port_last: int
    per_destination: int
    """Most simultaneous flows per own address towards one destination (address, port, protocol)."""
    prefix6: IPv6Network | None = None
    """A /96: IPv6 packets to it are translated to IPv4, to the address in their last 32 bits (RFC 6052)."""
    timeouts: Timeouts


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowPolicy:
    """What a FlowGate remembers; `owner` is the number of the object it belongs to."""

    owner: int
    timeouts: Timeouts


class Stickiness(IntEnum):
    """What of a packet decides which member of a spread its flow gets; both directions give the same."""

    FIVE_TUPLE = 5
    """Addresses, protocol and ports."""
    THREE_TUPLE = 3
    """Addresses and protocol."""
    TWO_TUPLE = 2
    """Addresses."""


class Member(NamedTuple):
    """One of those that flows are spread over."""

    number: int
    address: IPv4Address
    takes_new: bool
    """Whether new flows may go to it."""
    keeps: bool
    """Whether those that it has stay with it; else they go to another one that takes new ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """SPREAD: flows over members, as evenly as a hash does it; `owner` is the number of the group they form.

    A flow of a member that is not listed any more goes to another one.
    """

    owner: int
    stickiness: Stickiness = Stickiness.FIVE_TUPLE
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    """The way from an endpoint to a spread and back, in GENEVE (RFC 8926) with AWS's options.

    `owner` is the number of the endpoint: flows are its own. `endpoint_id` (64 bits) stands in every packet. `balancer`
    is the number of the object that packets come back to, `source` its address. `interface` is the endpoint's own (a
    label of `Program.interfaces`): resets leave by it. `resume`: the node where a packet goes on that has come back.
    """

    owner: int
    endpoint_id: int
    balancer: int
    interface: str
    source: IPv4Address
    spread: str
    resume: str
    resets: bool = False
    """Whether the senders of TCP that belongs to no flow are told, and both sides when a flow times out."""
    timeouts: Timeouts


class Translation(NamedTuple):
    """One pair of a 1:1 translation; not `outward`: it holds for what comes in only."""

    inside: IPv4Address
    outside: IPv4Address
    outward: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """Where packets come from and go to. Numbers are from `Names`; 0 means none.

    `port` is the number of the port behind it (0 for interfaces without one, such as a NAT gateway's).
    `into` is the node for packets addressed to it, `out` the node for packets it sends.
    """

    number: int
    port: int = 0
    realm: int
    subnet: int = 0
    zone: int = 0
    mac: bytes
    router_mac: bytes
    address4: IPv4Address | None = None
    address6: IPv6Address | None = None
    router4: IPv4Address | None = None
    router6: IPv6Address | None = None
    groups: tuple[int, ...] = ()
    into: str
    out: str
    mtu: int
    via: Via = Via.NONE
    """What packets that it sends of its own count as having come through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A virtual ingress: frames of port `number` enter as interface `interface`.

    `neighbours` (a label of `Program.neighbours`) answers ARP and neighbour discovery.
    """

    number: int
    interface: str
    entry: str
    neighbours: str


@dataclass(slots=True)
class Program:
    """Everything a Snapshot is packed from. Labels are the keys."""

    names: Names
    nodes: dict[str, Node] = field(default_factory=dict)
    interfaces: dict[str, Interface] = field(default_factory=dict)
    contexts: list[Context] = field(default_factory=list)
    fibs: dict[str, list[Route]] = field(default_factory=dict)
    sets: dict[str, list[Prefix]] = field(default_factory=dict)
    filters: dict[str, list[Rule]] = field(default_factory=dict)
    group_policies: dict[str, GroupPolicy] = field(default_factory=dict)
    nat_policies: dict[str, NatPolicy] = field(default_factory=dict)
    flow_policies: dict[str, FlowPolicy] = field(default_factory=dict)
    spreads: dict[str, Spread] = field(default_factory=dict)
    tunnels: dict[str, Tunnel] = field(default_factory=dict)
    maps: dict[str, list[Translation]] = field(default_factory=dict)
    """1:1 translations."""
    bridges: dict[str, list[tuple[bytes, str]]] = field(default_factory=dict)
    """Per subnet: (MAC, node) of each interface in it."""
    neighbours: dict[str, list[tuple[Prefix, bytes | None]]] = field(default_factory=dict)
    """Per subnet: who answers for which addresses (longest match); None: nobody."""
    fragment_timeout: int = 30_000
    """Milliseconds that fragments of one datagram are kept together."""

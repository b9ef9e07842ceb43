"""Nodes: what happens to a packet, one step each, and where it goes on."""

from __future__ import annotations

from dataclasses import dataclass

from dataplane.program.words import Direction, GateMode, Path, Side, Test, TtlAction, Via
from dataplane.verdict import Reason


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

    `mtu` (0: no limit) is for packets as they arrive, which are counted first: larger ones are fragmented if that is
    allowed, else dropped, and the sender told by `answer_as`. TCP that opens a connection is told to send no segments
    that would be too large.
    """

    policy: str
    answer_as: str
    mtu: int = 0
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
    path: Path = Path.NONE
    """What this is to whoever records what left an interface before; with `interface` it is `Path.INSIDE`."""
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Point(Node):
    """A place where packets are seen as they go by, in front of the gates of one side of the interface `object`.

    Nothing becomes of them. Packets from or to an address of `Program.sets[unseen]` are not seen.
    """

    direction: Direction
    unseen: str
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

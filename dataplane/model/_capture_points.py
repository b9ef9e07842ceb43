"""Where packets can be looked at on their way, by the words that users write.

    web, web/eth1            an interface of an instance, internet host or AWS service; eth0 when not said
    nat:VPC/NAME             a NAT gateway: /inside (before it translates) and /outside
    igw:VPC, eigw:VPC        an internet gateway, an egress-only one: /inside and /outside
    peering:NAME             a VPC peering
    gwlb:VPC/NAME            a gateway load balancer: /outer (GENEVE, with its targets) and /inner (what is in it)
    internet                 the internet, between all gateways and hosts (no node may be called so)

One side is asked for by its name, ``nat:shop/nat/outside``; the VPC may be left out where only one has the name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from dataplane.model._fields import did_you_mean
from dataplane.model.internet_gateway import INTERNET
from dataplane.names import Name

if TYPE_CHECKING:
    from dataplane.topology import Topology

SIDES = ("inside", "outside")
TUNNEL_SIDES = ("inner", "outer")
_INTERNET = Name("internet", INTERNET)


class UnknownPointError(ValueError):
    """No point of the lab has this name; the text says which there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a point: an interface of the capture."""

    name: str
    frames: bool
    """Whether packets have an Ethernet header here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A place on the way of packets."""

    kind: str
    """What it is to the recorder: interface, translator, border, passage or tunnel."""
    object: Name
    inside: Side | None
    outside: Side | None = None
    realm: Name | None = None
    """Of an interface: whose addresses it has; of a border: what is outside."""
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()

    @property
    def sides(self) -> tuple[Side, ...]:
        """Those that are captured."""
        return tuple(side for side in (self.inside, self.outside) if side is not None)


def find_point(topology: Topology, word: str) -> Point:
    """The point that a word names.

    Raises:
        UnknownPointError: there is none.
    """
    kind, colon, name = word.partition(":")
    if not colon:
        return _interface(topology, word)
    if kind not in _KINDS:
        hint = did_you_mean(kind, _KINDS)
        raise UnknownPointError(f"nothing that can be captured is called {word!r}: no such kind as {kind}; {hint}")
    points = {point.object.path: point for point in _KINDS[kind](topology)}
    path, _, side = name.rpartition("/")
    if path and side in (*SIDES, *TUNNEL_SIDES) and name not in points:
        return _one_side(_named(points, kind, path), word, side)
    return _named(points, kind, name)


def known_points(topology: Topology) -> list[str]:
    """All words that name a point, sides left out."""
    found = [name for name, _ in _interfaces(topology)]
    found += [f"{kind}:{point.object.path}" for kind, of in _KINDS.items() for point in of(topology)]
    return [*found, INTERNET]


def _named(points: Mapping[str, Point], kind: str, name: str) -> Point:
    found = [path for path in points if name in (path, path.rpartition("/")[2])]
    if len(found) == 1:
        return points[found[0]]
    if found:
        words = " or ".join(f"{kind}:{path}" for path in found)
        raise UnknownPointError(f"several are called {kind}:{name}: say {words}")
    hint = did_you_mean(f"{kind}:{name}", [f"{kind}:{path}" for path in points], f"the lab has no {kind}")
    raise UnknownPointError(f"nothing that can be captured is called '{kind}:{name}'; {hint}")


def _one_side(point: Point, word: str, side: str) -> Point:
    kept = [
        each if each is not None and each.name.endswith(f"/{side}") else None for each in (point.inside, point.outside)
    ]
    if kept == [None, None]:
        names = " and ".join(each.name.rpartition("/")[2] for each in point.sides)
        raise UnknownPointError(f"{word!r}: the sides of {word.rpartition('/')[0]} are {names}")
    return replace(point, inside=kept[0], outside=kept[1])


def _interfaces(topology: Topology) -> Iterator[tuple[str, Point]]:
    for each in topology.interfaces:
        if each.is_attached:
            realm = Name("vpc", each.subnet.vpc)
            yield each.path, _port(each.path, realm, (*each.addresses4, *each.addresses6))
    for name in (*topology.lab.internet.hosts, *topology.lab.aws_services):
        yield f"{name}/eth0", _port(f"{name}/eth0", _INTERNET, ())


def _port(path: str, realm: Name, addresses: tuple[IPv4Address | IPv6Address, ...]) -> Point:
    side = Side(name=path, frames=True)
    return Point(kind="interface", object=Name("interface", path), inside=side, realm=realm, addresses=addresses)


def _interface(topology: Topology, word: str) -> Point:
    known = dict(_interfaces(topology))
    path = word if "/" in word else f"{word}/eth0"
    if path in known:
        return known[path]
    if word == INTERNET:
        return Point(kind="passage", object=_INTERNET, inside=Side(name=INTERNET, frames=False))
    words = [each.removesuffix("/eth0") for each in known_points(topology)]
    hint = did_you_mean(word.partition("/")[0], words)
    raise UnknownPointError(f"nothing that can be captured is called {word!r}; {hint}")


def _two_sides(kind: str, word: str, name: Name, **more: object) -> Point:
    sides = {side: Side(name=f"{word}:{name.path}/{side}", frames=False) for side in SIDES}
    return Point(kind=kind, object=name, **sides, **more)  # type: ignore[arg-type]


def _nat_gateways(topology: Topology) -> Iterable[Point]:
    for vpc, declared in topology.lab.vpcs.items():
        for name in declared.nat_gateways:
            addresses = topology.nat_interface(vpc, name).addresses4
            yield _two_sides("translator", "nat", Name("nat-gateway", f"{vpc}/{name}"), addresses=addresses)


def _internet_gateways(topology: Topology) -> Iterable[Point]:
    for vpc, declared in topology.lab.vpcs.items():
        if declared.internet_gateway is not None:
            yield _two_sides("border", "igw", Name("internet-gateway", vpc), realm=_INTERNET)


def _egress_only_gateways(topology: Topology) -> Iterable[Point]:
    for vpc, declared in topology.lab.vpcs.items():
        if declared.egress_only_internet_gateway is not None:
            yield _two_sides("border", "eigw", Name("egress-only-internet-gateway", vpc), realm=_INTERNET)


def _peerings(topology: Topology) -> Iterable[Point]:
    for name in topology.lab.peerings:
        side = Side(name=f"peering:{name}", frames=False)
        yield Point(kind="passage", object=Name("vpc-peering", name), inside=side)


def _balancers(topology: Topology) -> Iterable[Point]:
    for vpc, declared in topology.lab.vpcs.items():
        for name in declared.gateway_load_balancers:
            path = f"{vpc}/{name}"
            yield Point(
                kind="tunnel",
                object=Name("gateway-load-balancer", path),
                inside=Side(name=f"gwlb:{path}/inner", frames=False),
                outside=Side(name=f"gwlb:{path}/outer", frames=True),
            )


_KINDS = {
    "nat": _nat_gateways,
    "igw": _internet_gateways,
    "eigw": _egress_only_gateways,
    "peering": _peerings,
    "gwlb": _balancers,
}

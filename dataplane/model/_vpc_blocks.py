"""Which CIDR blocks a VPC may have.

https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from dataplane.errors import Problem
from dataplane.model._cidr import GLOBAL_UNICAST, NEVER_HOSTS, inside, overlap

if TYPE_CHECKING:
    from dataplane.model.vpc import Vpc

RANGES = {
    name: IPv4Network(name)
    for name in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "198.19.0.0/16", "100.64.0.0/10")
}
"""The ranges the restrictions speak of; what is in none of them is public."""


def check_blocks(vpc: Vpc) -> Iterator[Problem]:
    """Yield what AWS would refuse about the VPC's own blocks."""
    blocks = [("cidr", vpc.cidr), *((f"secondary_cidrs[{i}]", c) for i, c in enumerate(vpc.secondary_cidrs))]
    for index, (path, cidr) in enumerate(blocks):
        if not 16 <= cidr.prefixlen <= 28:
            yield Problem(
                path,
                f"{cidr} is a /{cidr.prefixlen}",
                "InvalidVpc.Range",
                "an IPv4 block of a VPC is from /16 to /28",
            )
        for forbidden in NEVER_HOSTS:
            if overlap(cidr, forbidden):
                yield Problem(path, f"{cidr} overlaps {forbidden}, which no VPC can have", "InvalidVpc.Range")
        for other_path, other in blocks[:index]:
            if overlap(cidr, other):
                yield Problem(path, f"{cidr} overlaps {other_path}, {other}", "InvalidVpc.Conflict")
    for index, (path, cidr) in enumerate(blocks[1:]):
        earlier4 = [block for _, block in blocks[: index + 1]]
        if not any(overlap(cidr, block) for block in earlier4):
            yield from _check_association(path, cidr, earlier4)
        yield from _check_against_routes(vpc, path, cidr)
    for index, cidr6 in enumerate(vpc.ipv6_cidrs):
        path = f"ipv6_cidrs[{index}]"
        if cidr6.prefixlen not in range(44, 61, 4):
            yield Problem(
                path,
                f"{cidr6} is a /{cidr6.prefixlen}",
                "InvalidVpc.Range",
                "an IPv6 block of a VPC is /44, /48, /52, /56 or /60",
            )
        if not inside(cidr6, GLOBAL_UNICAST):
            yield Problem(
                path,
                f"{cidr6} is not of global unicast addresses",
                "InvalidVpc.Range",
                f"write a block inside {GLOBAL_UNICAST}, for example of 2001:db8::/32",
            )
        for earlier in vpc.ipv6_cidrs[:index]:
            if overlap(cidr6, earlier):
                yield Problem(path, f"{cidr6} overlaps {earlier}", "InvalidVpc.Conflict")


def _range_of(cidr: IPv4Network) -> str:
    """The range a block lies in, or ``public``."""
    return next((name for name, block in RANGES.items() if overlap(cidr, block)), "public")


def _check_association(path: str, cidr: IPv4Network, existing: list[IPv4Network]) -> Iterator[Problem]:
    """Yield why this secondary block may not join the others ("IPv4 VPC CIDR block association restrictions").

    Private ranges do not mix with each other, 198.19.0.0/16 with none of them; blocks of 10.0.0.0/15 exclude
    10.0.0.0/16, and 172.31.0.0/16 is not added to others of 172.16.0.0/12. Public blocks and 100.64.0.0/10 may be
    added to any, but private ones not to them.
    """
    added = _range_of(cidr)
    rule = "https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html#add-cidr-block-restrictions"
    if added in ("public", "100.64.0.0/10"):
        return
    for block in existing:
        present = _range_of(block)
        if present != added:
            yield Problem(
                path, f"{cidr} ({added}) cannot join {block} ({present}) in a VPC", "InvalidVpc.Range", f"see {rule}"
            )
            return
        if added == "172.16.0.0/12" and inside(cidr, IPv4Network("172.31.0.0/16")):
            yield Problem(path, f"{cidr} of 172.31.0.0/16 cannot join {block}", "InvalidVpc.Range", f"see {rule}")
            return
        if inside(block, IPv4Network("10.0.0.0/15")) and inside(cidr, IPv4Network("10.0.0.0/16")):
            yield Problem(path, f"{cidr} of 10.0.0.0/16 cannot join {block}", "InvalidVpc.Range", f"see {rule}")
            return


def _check_against_routes(vpc: Vpc, path: str, cidr: IPv4Network) -> Iterator[Problem]:
    """Yield the routes that keep a secondary block from being added: to the same block, or to a part of it."""
    for table, declared in vpc.route_tables.items():
        for index, route in enumerate(declared.routes):
            destination = route.destination.cidr
            replaces_local = destination == cidr and (route.target.inside_vpc or route.target.word == "local")
            whole_subnet = any(destination in subnet.cidrs() for subnet in vpc.subnets.values())
            if destination is None or replaces_local or whole_subnet or not inside(destination, cidr):
                continue
            yield Problem(
                path,
                f"{cidr} is as large as, or larger than, the destination of route_tables.{table}.routes[{index}], "
                f"{destination}",
                "InvalidVpc.Conflict",
                "remove the route, or choose another block",
            )

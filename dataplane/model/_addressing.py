"""Addresses written down for an interface: are they of its subnet, free, and public where they should be?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dataplane.errors import Problem
from dataplane.model._cidr import Network, reserved
from dataplane.model._placed import Asked, PlacedInterface

if TYPE_CHECKING:
    from dataplane.topology import Topology


def check_addresses(topology: Topology, interface: PlacedInterface) -> Iterator[Problem]:
    """Yield what is wrong with an interface's addresses. Paths are complete."""
    for asked in interface.wanted.asked:
        yield from _check_private(topology, interface, asked)
    if not interface.addresses4:
        yield Problem(
            interface.wanted.file_path,
            f"subnet {interface.subnet.path} has no free address left",
            "InsufficientFreeAddressesInSubnet",
            f"{interface.subnet.cidr} has {max(interface.subnet.cidr.num_addresses - 5, 0)}: use a larger subnet",
        )
    for path, private, public in interface.wanted.elastic_ips:
        if private is not None and private not in interface.addresses4:
            yield Problem(
                path,
                f"{private} is no address of the interface",
                "InvalidParameterValue",
                f"it has {', '.join(map(str, interface.addresses4))}",
            )
        earlier = topology.elastic_ip_at(public)
        if earlier != path:
            yield Problem(path, f"{public} is associated already, at {earlier}", "Resource.AlreadyAssociated")


def _check_private(topology: Topology, interface: PlacedInterface, asked: Asked) -> Iterator[Problem]:
    address, home = asked.address, interface.subnet
    block = next((cidr for cidr in home.cidrs if cidr.version == address.version), None)
    if block is None:
        yield Problem(
            asked.path,
            f"subnet {home.path} has no IPv6 block",
            "InvalidParameterCombination",
            f"write vpcs.{home.vpc}.subnets.{home.name}.ipv6_cidr",
        )
    elif address not in block:
        hint = topology.subnet_holding(home.vpc, address)
        yield Problem(
            asked.path,
            f"{address} is not in {block} of subnet {home.path}",
            "InvalidParameterValue",
            f"it is in subnet {hint}" if hint else _free(block),
        )
    elif address in set(reserved(block)):
        yield Problem(
            asked.path,
            f"{address} is reserved by AWS: the first four addresses of {block} and the last",
            "InvalidParameterValue",
            _free(block),
        )
    earlier = topology.private_address_at(home.vpc, address)
    if earlier != asked.path:
        yield Problem(asked.path, f"{address} is in use already, at {earlier}", "InvalidIPAddress.InUse")


def _free(block: Network) -> str:
    """What can be written in a block; one that AWS would not take as a subnet may hold nothing."""
    return f"write an address from {block[4]} to {block[-2]}" if block.num_addresses > 5 else "use a larger subnet"

"""What the nodes of a lab call each other: the names in their ``/etc/hosts``, and the addresses behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dataplane.model._cidr import Address

if TYPE_CHECKING:
    from dataplane.topology import Topology


def names_seen_from(topology: Topology, vpc: str | None) -> dict[str, tuple[Address, ...]]:
    """Node name -> the addresses it has from a VPC (None: from the internet): private ones where they can be meant."""
    near = set() if vpc is None else {vpc}
    for peering in topology.lab.peerings.values():
        if peering.status == "active" and vpc in (peering.requester, peering.accepter):
            near |= {peering.requester, peering.accepter}
    book: dict[str, tuple[Address, ...]] = {}
    for name, instance in topology.lab.instances.items():
        first = topology.interfaces_of(name)[0]
        if instance.vpc in near:
            book[name] = (*first.addresses4[:1], *first.addresses6[:1])
        else:
            public = topology.public_addresses_of(first).get(first.addresses4[0])
            book[name] = (*([public] if public else []), *first.addresses6[:1])
    for name, host in topology.lab.internet.hosts.items():
        book[name] = tuple(a for a in (host.address, host.ipv6_address) if a is not None)
    for name, service in topology.lab.aws_services.items():
        book[name] = book[f"{name}.{topology.lab.region}.amazonaws.com"] = (service.host_address(name),)
    return {name: addresses for name, addresses in book.items() if addresses}

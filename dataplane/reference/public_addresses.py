"""Public IPv4 addresses, and the private ones they belong to.

Elastic IPs are declared; AWS assigns one to each first interface whose subnet gives them and that has none. A NAT
gateway of private connectivity has none. https://docs.aws.amazon.com/vpc/latest/userguide/vpc-ip-addressing.html
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from dataplane.model.lab_file import LabFile
from dataplane.topology import Topology

POOLS = (IPv4Network("203.0.113.128/25"), IPv4Network("198.18.0.0/16"))
"""Where assigned public addresses are from, the lowest free one first (see `dataplane.model.elastic_ip`)."""

PublicAddresses = dict[tuple[str, IPv4Address], IPv4Address]
"""(VPC, private address) -> public address."""


def public_addresses(topology: Topology) -> PublicAddresses:
    """Elastic IPs as declared; then one for each first interface whose subnet gives them and that has none."""
    lab, found = topology.lab, PublicAddresses()
    wanting: list[tuple[str, IPv4Address]] = []
    for each in topology.interfaces:
        vpc, name, primary = each.subnet.vpc, each.wanted.name, each.addresses4[0]
        if each.kind == "nat-gateway":
            gateway = lab.vpcs[vpc].nat_gateways[name]
            if gateway.elastic_ip is not None:
                found[vpc, primary] = gateway.elastic_ip
            pairs = zip(gateway.secondary_private_ips, gateway.secondary_elastic_ips, strict=False)
            found |= {(vpc, private): public for private, public in pairs}
        elif each.kind in ("gateway-load-balancer", "vpc-endpoint"):
            continue
        elif each.wanted.is_declared:
            for private, public in lab.vpcs[vpc].network_interfaces[name].elastic_ips.items():
                found[vpc, private] = public
        elif (elastic := lab.instances[name].elastic_ip) is not None:
            found[vpc, primary] = elastic
        elif lab.vpcs[vpc].subnets[each.subnet.name].map_public_ip_on_launch:
            wanting.append((vpc, primary))
    free = _free(lab, {*found.values(), *(host.address for host in lab.internet.hosts.values())})
    return found | {where: next(free) for where in wanting}


def _free(lab: LabFile, taken: set[IPv4Address]) -> Iterator[IPv4Address]:
    blocks = [cidr for vpc in lab.vpcs.values() for cidr in vpc.cidrs()]
    for pool in POOLS:
        for address in pool:
            if address not in taken and not any(address in block for block in blocks):
                yield address

"""Nodes of Gateway Load Balancers and the endpoints that lead to them, derived from what is declared.

An endpoint leads to the node of its service's balancer in its own Availability Zone, once the service has accepted it.
https://docs.aws.amazon.com/vpc/latest/privatelink/gateway-load-balancer-endpoints.html
https://docs.aws.amazon.com/vpc/latest/privatelink/configure-endpoint-service.html
"""

from __future__ import annotations

from collections.abc import Mapping

from dataplane.names import Names
from dataplane.reference.lifetimes import limits_of_balancer
from dataplane.reference.nodes import BalancerNode, Endpoint, Subnet
from dataplane.reference.targets import targets_of
from dataplane.topology import Topology

Subnets = Mapping[tuple[str, str], Subnet]
Nodes = dict[tuple[str, str, str], BalancerNode]
"""By VPC, balancer and full name of the Availability Zone."""


def nodes_of(topology: Topology, names: Names, subnets: Subnets) -> Nodes:
    """The nodes of all Gateway Load Balancers."""
    found = Nodes()
    for each in topology.interfaces:
        if each.kind != "gateway-load-balancer":
            continue
        vpc, name, home = each.subnet.vpc, each.wanted.name, each.subnet
        balancer = topology.lab.vpcs[vpc].gateway_load_balancers[name]
        stickiness = topology.lab.vpcs[vpc].target_groups[balancer.target_group].stickiness
        found[vpc, name, home.zone] = BalancerNode(
            number=names.intern("gateway-load-balancer-node", f"{vpc}/{name}/{home.name}"),
            balancer=names.intern("gateway-load-balancer", f"{vpc}/{name}"),
            vpc=vpc,
            subnet=subnets[vpc, home.name],
            mac=each.mac,
            address=each.addresses4[0],
            dualstack=balancer.dualstack,
            resets=balancer.send_tcp_reset,
            stickiness=stickiness,
            targets=targets_of(topology, names, vpc, name, home.zone),
            limits=limits_of_balancer(balancer, stickiness, topology.lab.settings),
        )
    return found


def endpoints_of(topology: Topology, names: Names, subnets: Subnets, nodes: Nodes) -> dict[tuple[str, str], Endpoint]:
    """All Gateway Load Balancer endpoints, by VPC and name."""
    found = {}
    for each in topology.interfaces:
        if each.kind != "vpc-endpoint":
            continue
        vpc, name, home = each.subnet.vpc, each.wanted.name, each.subnet
        declared = topology.lab.vpcs[vpc].gateway_load_balancer_endpoints[name]
        provider, _, service = declared.service.partition("/")
        offer = topology.lab.vpcs[provider].endpoint_services[service]
        is_accepted = not offer.acceptance_required or f"{vpc}/{name}" in offer.accepted
        is_available = is_accepted and f"{vpc}/{name}" not in offer.rejected
        found[vpc, name] = Endpoint(
            number=names.intern("vpc-endpoint", f"{vpc}/{name}"),
            vpc=vpc,
            name=name,
            subnet=subnets[vpc, home.name],
            mac=each.mac,
            addresses=each.addresses4,
            identity=int(declared.identifier(vpc, name).removeprefix("vpce-"), 16),
            node=nodes.get((provider, offer.gateway_load_balancer, home.zone)) if is_available else None,
        )
    return found

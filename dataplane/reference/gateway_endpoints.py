"""Gateway endpoints: the way from a VPC to S3 or DynamoDB inside of AWS, and the answers' way back.

They have no interface: a route for the service's prefix list leads to them. From inside the VPC alone, and of all
protocols TCP and pings alone; the service sees the private source.
https://docs.aws.amazon.com/vpc/latest/privatelink/gateway-endpoints.html
https://docs.aws.amazon.com/vpc/latest/reachability/explanation-codes.html (VPCE_GATEWAY_*)

    there: came from outside? -> TCP or echo request -> same as a flow of another VPC? -> remembered -> MTU, TTL
    back:  remembered? -> TCP or echo reply -> MTU, TTL -> delivery inside the VPC

One host stands for the service, which cannot tell two VPCs with the same addresses apart: the second one's packets die.
"""

from __future__ import annotations

from collections.abc import Iterator

from dataplane.reference.flow_logs import GATEWAY_ENDPOINT
from dataplane.reference.flow_memory import FlowMemory
from dataplane.reference.hops import ENDPOINT_MTU, fit_endpoint, lose_ttl
from dataplane.reference.inventory import Inventory
from dataplane.reference.journey import GATEWAY, PEERING, TRACKED_SERVICE, Dropped, Journey
from dataplane.reference.lifetimes import limits_of_gateway_endpoints
from dataplane.reference.mss import clamp
from dataplane.reference.nodes import GatewayEndpoint, Host
from dataplane.reference.packets import ECHO, ICMP, TCP
from dataplane.verdict import Reason

TRACKED = ("dynamodb",)
"""Services whose flows security groups track, whatever their rules say.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html
"""


def leave(journey: Journey, endpoint: GatewayEndpoint, inventory: Inventory, memory: FlowMemory) -> Host:
    """To the service: the host that stands for it.

    Raises:
        Dropped: it is not forwarded.
    """
    packet, limits = journey.packet, limits_of_gateway_endpoints(inventory.lab.settings)
    own = inventory.lab.vpcs[endpoint.vpc].cidrs()
    if journey.through & {PEERING, GATEWAY} or not any(packet.source in cidr for cidr in own):
        raise Dropped(Reason.ENDPOINT_FROM_OUTSIDE, endpoint.number)
    _check_protocol(journey, endpoint, inventory, "out", ECHO[ICMP][0])
    rivals = (each for each in _of_service(inventory, endpoint.service) if each.vpc != endpoint.vpc)
    if any(memory.has(each.number, packet, journey.now_ms) for each in rivals):
        journey.note(endpoint.number, "known")
        raise Dropped(Reason.ENDPOINT_CONFLICT, endpoint.number, journey.route)
    done = memory.see(endpoint.number, packet, journey.now_ms, limits)
    if done:
        journey.note(endpoint.number, done)
    if endpoint.service in TRACKED:
        memory.room.have_tracked(journey, endpoint.number)
    _hop(journey, endpoint)
    journey.go_on(GATEWAY_ENDPOINT)
    service = inventory.names.intern("aws-service", endpoint.service)
    host = inventory.host(packet.destination)
    if host is None or host.service != endpoint.service:
        raise Dropped(Reason.OUTSIDE_NO_ROUTE, service)
    journey.note(service, "route", host.number)
    return host


def come_back(journey: Journey, host: Host, inventory: Inventory, memory: FlowMemory) -> str | None:
    """From the service: the VPC that an answer goes into; None: it is no answer to anything that came this way.

    Raises:
        Dropped: it is not forwarded.
    """
    packet, limits = journey.packet, limits_of_gateway_endpoints(inventory.lab.settings)
    for endpoint in _of_service(inventory, host.service):
        if not any(packet.destination in cidr for cidr in inventory.lab.vpcs[endpoint.vpc].cidrs()):
            continue
        if not memory.see_answer(endpoint.number, packet, journey.now_ms, limits):
            continue
        journey.note(endpoint.number, "known")
        _check_protocol(journey, endpoint, inventory, "back", ECHO[ICMP][1])
        _hop(journey, endpoint)
        if endpoint.service in TRACKED:
            journey.through.add(TRACKED_SERVICE)
        return endpoint.vpc
    return None


def _of_service(inventory: Inventory, service: str) -> Iterator[GatewayEndpoint]:
    return (each for each in inventory.gateway_endpoints.values() if each.service == service)


def _check_protocol(journey: Journey, endpoint: GatewayEndpoint, inventory: Inventory, way: str, echo: int) -> None:
    packet = journey.packet
    if packet.version == 4 and packet.protocol == TCP:
        words = "tcp"
    elif packet.version == 4 and packet.is_icmp and packet.icmp_type == echo:
        words = f"icmp type {echo}"
    else:
        raise Dropped(Reason.ENDPOINT_PROTOCOL, endpoint.number)
    journey.note(endpoint.number, "permit", inventory.names.intern("vpc-endpoint-rule", f"{way} {words}"))


def _hop(journey: Journey, endpoint: GatewayEndpoint) -> None:
    lose_ttl(journey, endpoint.number)
    fit_endpoint(journey, endpoint.number)
    journey.packet = clamp(journey.packet, ENDPOINT_MTU)
    journey.subnet, journey.groups = None, frozenset()

"""Gateway endpoints: from a VPC to S3 or DynamoDB inside of AWS, for TCP and pings, and back what answers.

    there: from the VPC itself? -> TCP or ping? -> nobody else's flow? -> remembered -> TTL - 1, MTU 8500 -> service
    back:  remembered? else by its public way -> TCP or answer to a ping? -> TTL - 1, MTU 8500 -> by address

Nobody is told when a packet dies here. The service sees private addresses, so two VPCs may not use it with the same
addresses and ports at a time: it would not know whom to answer.
https://docs.aws.amazon.com/vpc/latest/privatelink/gateway-endpoints.html
https://docs.aws.amazon.com/vpc/latest/privatelink/vpc-limits-endpoints.html (MTU, MSS)
"""

from __future__ import annotations

from collections.abc import Iterator

from dataplane.reference.flow_memory import FlowMemory
from dataplane.reference.hops import lose_ttl
from dataplane.reference.inventory import Inventory
from dataplane.reference.journey import GATEWAY, PEERING, TRACKED_SERVICE, Dropped, Journey
from dataplane.reference.lifetimes import limits_of_gateway_endpoints
from dataplane.reference.mss import clamp
from dataplane.reference.nodes import Host
from dataplane.reference.packets import TCP
from dataplane.verdict import Reason

MTU = 8500
REQUEST, REPLY = 8, 0
"""Echo of ICMP."""
TRACKED = ("dynamodb",)
"""Services whose flows groups track, whatever their rules say.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html (automatically tracked)
"""


def go_out(journey: Journey, inventory: Inventory, memory: FlowMemory, vpc: str, name: str) -> Host:
    """What has been routed to an endpoint: afterwards it is at the service.

    Raises:
        Dropped: it is not forwarded.
    """
    packet, number = journey.packet, _number(inventory, vpc, name)
    if journey.through & {PEERING, GATEWAY} or not _is_inside(inventory, vpc, packet.source):
        raise Dropped(Reason.ENDPOINT_FROM_OUTSIDE, number)
    _check_protocol(journey, inventory, number, "out", REQUEST)
    service = inventory.lab.vpcs[vpc].gateway_endpoints[name].service
    limits = limits_of_gateway_endpoints(inventory.lab.settings)
    for other, endpoint in _endpoints(inventory, service):
        if other != vpc and memory.knows(_number(inventory, other, endpoint), packet, journey.now_ms):
            journey.note(number, "known")
            raise Dropped(Reason.ENDPOINT_CONFLICT, number, journey.last_route())
    if service in TRACKED:
        journey.have_tracked()
    journey.note(number, memory.see(number, packet, journey.now_ms, limits))
    _hop(journey, number)
    of_service = inventory.names.intern("aws-service", service)
    host = next(each for each in inventory.hosts if each.service == service)
    if packet.destination not in host.addresses:
        raise Dropped(Reason.OUTSIDE_NO_ROUTE, of_service)
    journey.note(of_service, "route", host.number)
    return host


def come_back(journey: Journey, inventory: Inventory, memory: FlowMemory, host: Host) -> str | None:
    """What a service has sent: the VPC that it is delivered in; None: it goes by its public way.

    Raises:
        Dropped: it is not forwarded.
    """
    limits = limits_of_gateway_endpoints(inventory.lab.settings)
    for vpc, name in _endpoints(inventory, host.service):
        number = _number(inventory, vpc, name)
        if not _is_inside(inventory, vpc, journey.packet.destination):
            continue
        if memory.see_answer(number, journey.packet, journey.now_ms, limits):
            journey.note(number, "known")
            _check_protocol(journey, inventory, number, "back", REPLY)
            _hop(journey, number)
            if host.service in TRACKED:
                journey.through.add(TRACKED_SERVICE)
            return vpc
    return None


def _check_protocol(journey: Journey, inventory: Inventory, number: int, way: str, echo: int) -> None:
    packet = journey.packet
    if packet.protocol != TCP and not (packet.version == 4 and packet.is_icmp and packet.icmp_type == echo):
        raise Dropped(Reason.ENDPOINT_PROTOCOL, number)
    rule = f"{way} tcp" if packet.protocol == TCP else f"{way} icmp type {echo}"
    journey.note(number, "permit", inventory.names.intern("vpc-endpoint-rule", rule))


def _hop(journey: Journey, number: int) -> None:
    lose_ttl(journey, number)
    if any(len(piece) > MTU for piece in journey.pieces()):
        raise Dropped(Reason.MTU_EXCEEDED, number)
    journey.packet = clamp(journey.packet, MTU)


def _number(inventory: Inventory, vpc: str, name: str) -> int:
    return inventory.names.intern("vpc-endpoint", f"{vpc}/{name}")


def _is_inside(inventory: Inventory, vpc: str, address: object) -> bool:
    return any(address in cidr for cidr in inventory.lab.vpcs[vpc].cidrs())


def _endpoints(inventory: Inventory, service: str) -> Iterator[tuple[str, str]]:
    """Every endpoint for a service: its VPC and name."""
    for vpc, declared in inventory.lab.vpcs.items():
        for name, endpoint in declared.gateway_endpoints.items():
            if endpoint.service == service:
                yield vpc, name

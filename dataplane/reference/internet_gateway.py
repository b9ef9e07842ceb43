"""Internet gateways: stateless, address by address, any protocol; ICMP errors inside and out.

https://docs.aws.amazon.com/vpc/latest/userguide/VPC_Internet_Gateway.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network

from dataplane.reference.checksum import Address
from dataplane.reference.edge_routes import is_redirected
from dataplane.reference.hops import cross_into_internet
from dataplane.reference.inventory import Inventory
from dataplane.reference.journey import GATEWAY, PEERING, Dropped, Journey
from dataplane.reference.packets import Packet
from dataplane.reference.translation import translate, translate_quoted
from dataplane.verdict import Reason

PRIVATE = tuple(IPv4Network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"))
"""RFC 1918 and RFC 6598: these do not cross."""


def _is_private(address: Address) -> bool:
    return any(address in block for block in PRIVATE)


def _translate_quoted(packet: Packet, other: Callable[[Address], Address | None], *, source: bool) -> Packet:
    """Of the packet that an ICMP error is about, the same side is translated that faces the VPC (RFC 5508)."""
    if packet.quoted is None or packet.quoted.flow.source.version != 4:
        return packet
    flow = packet.quoted.flow
    known = other(flow.source if source else flow.destination)
    if known is None:
        return packet
    changed = replace(flow, source=known) if source else replace(flow, destination=known)
    return translate_quoted(packet, changed)


def leave(journey: Journey, inventory: Inventory, vpc: str) -> None:
    """Out of a VPC.

    Raises:
        Dropped: it may not.
    """
    gateway, packet = inventory.names.intern("internet-gateway", vpc), journey.packet
    if journey.through & {PEERING, GATEWAY}:
        raise Dropped(Reason.EDGE_TO_EDGE, gateway)
    if is_redirected(inventory, vpc, journey.subnet, packet.version):
        raise Dropped(Reason.EDGE_REDIRECTED, gateway)
    if packet.version == 4:
        if _is_private(packet.destination):
            raise Dropped(Reason.PRIVATE_DESTINATION, gateway)
        public = inventory.public_address(vpc, packet.source)
        if public is None:
            raise Dropped(Reason.PUBLIC_SOURCE_MISSING, gateway)
        packet = translate(packet, replace(packet.flow, source=public))
        journey.packet = _translate_quoted(packet, lambda a: inventory.public_address(vpc, a), source=False)
        journey.note(gateway, "translate")
    elif not inventory.has_address6(vpc, packet.source):
        raise Dropped(Reason.GATEWAY_SPOOFED, gateway)
    cross_into_internet(journey, inventory, gateway)


def enter(journey: Journey, inventory: Inventory, vpc: str) -> None:
    """Into a VPC, from the internet.

    Raises:
        Dropped: it may not.
    """
    gateway, packet = inventory.names.intern("internet-gateway", vpc), journey.packet
    if packet.version == 4:
        if _is_private(packet.source):
            raise Dropped(Reason.PRIVATE_SOURCE, gateway)
        private = inventory.private_address(vpc, packet.destination)
        if private is None:
            raise Dropped(Reason.PUBLIC_DESTINATION_MISSING, gateway)
        packet = translate(packet, replace(packet.flow, destination=private))
        journey.packet = _translate_quoted(packet, lambda a: inventory.private_address(vpc, a), source=True)
        journey.note(gateway, "translate")
    journey.through.add(GATEWAY)
    journey.subnet, journey.groups = None, frozenset()

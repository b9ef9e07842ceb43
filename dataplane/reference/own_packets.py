"""Packets that the network itself sends about others: ICMP errors of routers and NAT gateways, TCP resets of gateways.

They go their way like any packet; about them nobody is told anything.
"""

from __future__ import annotations

from dataplane.reference import nat64
from dataplane.reference.checksum import Address
from dataplane.reference.errors import build_error, may_be_answered
from dataplane.reference.journey import ENDPOINT, NAT, Answered, Dropped, Journey, WantedError, WantedReset
from dataplane.reference.nodes import BalancerNode, Endpoint, Host, Interface, NatGateway
from dataplane.reference.packets import Packet
from dataplane.reference.proposals import Proposals
from dataplane.reference.router import Receiver, Router
from dataplane.verdict import Cause, Reason

Arrival = tuple[Journey, Receiver]
"""A packet at the end of its way, and who gets it."""


def send(wanted: WantedError | WantedReset, journey: Journey, router: Router, port: int) -> Arrival | Reason | None:
    """Send what is due about the packet of `journey`, which came by `port`: who gets it, or what it dies of; None:
    nothing is sent."""
    if isinstance(wanted, WantedReset):
        way = _way(wanted.reset, wanted.by, journey.now_ms, Cause.RESET, journey.proposals)
        way.through.add(ENDPOINT if isinstance(wanted.by, Endpoint) else NAT)
        return _go(way, router, port, from_subnet=False)
    error = _error(wanted, journey)
    if error is None or not router.errors.may_tell(port, journey.now_ms):
        return None
    return _go(error, router, port, from_subnet=wanted.by is None)


def _go(way: Journey, router: Router, port: int, *, from_subnet: bool) -> Arrival | Reason | None:
    way.watched = router.inventory.watched
    router.room.begin(way, port)
    try:
        receiver = router.give_error(way) if from_subnet else router.own_packet(way)
    except Dropped as dropped:
        router.record(way, dropped.reason)
        return dropped.reason
    except Answered:
        router.record(way)
        return None
    router.record(way)
    return way, receiver


def _error(wanted: WantedError, journey: Journey) -> Journey | None:
    about, sender = wanted.about, wanted.by or journey.sender
    if isinstance(sender, Host) or not may_be_answered(about):
        return None
    if wanted.by is not None:
        source: Address = nat64.embed(wanted.by.address) if about.version == 6 else wanted.by.address
    else:
        own = next((address for address in sender.subnet.router if address.version == about.version), None)
        if own is None:
            return None  # IPv6 from where there is none: the router has no address to say so from
        source = own
    error = build_error(source, about, wanted.mtu)
    way = _way(error, sender, journey.now_ms, Cause.ERROR, journey.proposals)
    if wanted.by is not None:
        way.through.add(NAT)
    return way


def _way(
    packet: Packet,
    sender: Interface | NatGateway | Endpoint | BalancerNode,
    now_ms: int,
    cause: Cause,
    proposals: Proposals,
) -> Journey:
    return Journey(
        packet=packet,
        sender=sender,
        as_sent=packet,
        now_ms=now_ms,
        subnet=sender.subnet,
        proposals=proposals,
        cause=cause,
        is_made=True,
    )

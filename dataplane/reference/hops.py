"""MTU and TTL of a gateway.

A packet too large is cut into fragments if its sender allows that (IPv4 without "don't fragment"), else it dies and
the sender is told the MTU (RFC 1191, RFC 8201). https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/network_mtu.html
"""

from __future__ import annotations

from dataplane.reference.flow_logs import INTERNET
from dataplane.reference.inventory import Inventory
from dataplane.reference.journey import GATEWAY, Dropped, Journey, WantedError
from dataplane.reference.nodes import NatGateway
from dataplane.reference.packets import Packet
from dataplane.reference.translation import decrement_ttl
from dataplane.verdict import Reason

INSIDE_MTU, INTERNET_MTU, NAT_MTU, INTER_REGION_MTU, ENDPOINT_MTU = 9001, 1500, 8500, 8500, 8500


def lose_ttl(journey: Journey, number: int, *, teller: NatGateway | None = None, about: Packet | None = None) -> None:
    """One hop: the TTL becomes less by one.

    Raises:
        Dropped: it was the last. `teller` tells the sender, `about` the packet as it reached it; None: nobody does.
    """
    if journey.packet.ttl <= 1:
        error = WantedError(about, by=teller) if teller is not None and about is not None else None
        raise Dropped(Reason.TTL_EXCEEDED, number, error=error)
    journey.packet = decrement_ttl(journey.packet)


def fit(
    journey: Journey,
    number: int,
    mtu: int,
    *,
    teller: NatGateway | None = None,
    about: Packet | None,
) -> None:
    """A link with this MTU is ahead. `about` is what the sender is told about; None: it is told nothing.

    Raises:
        Dropped: the packet is larger and must not be fragmented.
    """
    if len(journey.packet.raw) <= mtu:
        return
    is_in_pieces = bool(journey.mtus) and journey.mtus[-1] <= mtu
    if not journey.packet.may_be_fragmented and not is_in_pieces:
        error = None if about is None else WantedError(about, mtu, teller)
        raise Dropped(Reason.MTU_EXCEEDED, number, error=error)
    journey.note(number, "fragment")
    journey.mtus.append(mtu)


def fit_endpoint(journey: Journey, number: int) -> None:
    """A VPC endpoint is ahead: what is too large dies there, whether it may be cut or not, and nobody is told.

    https://docs.aws.amazon.com/vpc/latest/privatelink/vpc-limits-endpoints.html

    Raises:
        Dropped: it is too large. What an earlier gateway has cut is not.
    """
    if any(len(piece) > ENDPOINT_MTU for piece in journey.pieces()):
        raise Dropped(Reason.MTU_EXCEEDED, number)
    if len(journey.packet.raw) > ENDPOINT_MTU:
        journey.note(number, "fragment")


def cross_into_internet(journey: Journey, inventory: Inventory, gateway: int) -> None:
    """The hop of a gateway to the internet, and what it leaves behind: it is in no subnet, and of no group.

    Raises:
        Dropped: it may go no further, or is too large.
    """
    if inventory.lab.settings.internet_gateway_ttl == "decrement":
        lose_ttl(journey, gateway)
    fit(journey, gateway, INTERNET_MTU, about=journey.as_sent)
    journey.through.add(GATEWAY)
    journey.go_on(INTERNET)
    journey.subnet, journey.groups = None, frozenset()

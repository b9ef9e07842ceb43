"""Network interfaces: the gates a packet passes on its way out of a guest and into one.

    out: to the subnet's router? it answers -> source check -> egress rules of the groups
    in:  ingress rules of the ACL, unless from the same subnet -> ingress rules of the groups -> destination check

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-eni.html
"""

from __future__ import annotations

from dataplane.reference.errors import build_echo_reply
from dataplane.reference.journey import EGRESS_ONLY, NAT, TRACKED_SERVICE, Answered, Dropped, Journey
from dataplane.reference.nodes import Interface, Subnet
from dataplane.reference.packets import ECHO
from dataplane.reference.tracking import Tracking
from dataplane.verdict import Reason

HAVE_FLOWS_TRACKED = {NAT, EGRESS_ONLY, TRACKED_SERVICE}
"""Gateways whose flows are tracked whatever the rules say.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html (automatically tracked)
"""


def serve(journey: Journey, subnet: Subnet) -> None:
    """A packet to the router of `subnet`: it answers pings from inside, to its first address of each family.

    Raises:
        Answered: it does.
        Dropped: it does not.
    """
    packet = journey.packet
    from_inside = isinstance(journey.sender, Interface) and journey.sender.subnet is subnet
    is_ping = packet.is_icmp and packet.fragment is None and packet.icmp_type == ECHO[packet.protocol][0]
    if from_inside and is_ping and packet.icmp_code == 0 and packet.destination in subnet.router:
        raise Answered(subnet.number, build_echo_reply(packet))
    raise Dropped(Reason.NOT_SERVED, subnet.number)


def go_out(journey: Journey, interface: Interface, tracking: Tracking) -> None:
    """Out of a guest.

    Raises:
        Answered: by the router of its subnet.
        Dropped: at one of the gates.
    """
    packet = journey.packet
    if interface.subnet.is_router(packet.destination):
        serve(journey, interface.subnet)
    if interface.source_dest_check and packet.source not in interface.addresses:
        raise Dropped(Reason.SOURCE_CHECK, interface.number)
    journey.see(interface.number, leaves=True)
    _pass_groups(journey, interface, tracking, outgoing=True)
    # Who forwards for others does not lend them its groups.
    journey.groups = interface.groups if packet.source in interface.addresses else frozenset()


def go_in(journey: Journey, interface: Interface, tracking: Tracking) -> None:
    """Into a guest.

    Raises:
        Dropped: at one of the gates.
    """
    if not interface.is_attached:
        raise Dropped(Reason.PORT_DOWN, interface.number)
    journey.see(interface.number, leaves=False)
    enter_subnet(journey, interface.subnet)
    _pass_groups(journey, interface, tracking, outgoing=False)
    if interface.source_dest_check and journey.packet.destination not in interface.addresses:
        raise Dropped(Reason.DESTINATION_CHECK, interface.number)


def leave_subnet(journey: Journey, subnet: Subnet) -> None:
    """Across the border of a subnet, outwards.

    Raises:
        Dropped: its network ACL denies it.
    """
    passes, rule = subnet.acl.judge(subnet.acl.egress, journey.packet, journey.packet.destination)
    if not passes:
        raise Dropped(Reason.ACL_EGRESS, subnet.acl.number, rule)
    journey.note(subnet.acl.number, "permit", rule)


def enter_subnet(journey: Journey, subnet: Subnet) -> None:
    """Into a subnet, unless the packet has never left it.

    Raises:
        Dropped: its network ACL denies it.
    """
    if journey.subnet is subnet:
        return
    passes, rule = subnet.acl.judge(subnet.acl.ingress, journey.packet, journey.packet.source)
    if not passes:
        raise Dropped(Reason.ACL_INGRESS, subnet.acl.number, rule)
    journey.note(subnet.acl.number, "permit", rule)
    journey.subnet = subnet


def _pass_groups(journey: Journey, interface: Interface, tracking: Tracking, *, outgoing: bool) -> None:
    packet, now = journey.packet, journey.now_ms
    sender = frozenset() if outgoing else journey.groups
    admitted = tracking.admit(interface, packet, now, outgoing=outgoing, sender=sender)
    if admitted is None:
        raise Dropped(Reason.GROUP_EGRESS if outgoing else Reason.GROUP_INGRESS, interface.number)
    action, rule = admitted.action, admitted.rule
    if admitted.may_be_tracked and journey.through & HAVE_FLOWS_TRACKED:
        tracking.room.ask(interface.number)
        tracking.track(interface, packet, now, outgoing=outgoing, rule=rule)
        action = "track"
    elif admitted.may_be_tracked:
        journey.untracked.append(lambda: tracking.track(interface, packet, now, outgoing=outgoing, rule=rule))
    journey.note(interface.number, action, rule)

"""The way of a packet, from one place to the next, until somebody has it.

    guest -> interface -> neighbour, or subnet -> route table -> gateway, peering, NAT gateway, interface or local

https://docs.aws.amazon.com/vpc/latest/userguide/VPC_Route_Tables.html
"""

from __future__ import annotations

from dataplane.reference import internet_gateway, peering
from dataplane.reference.hops import NAT_MTU, fit, lose_ttl
from dataplane.reference.interfaces import enter_subnet, go_in, go_out, leave_subnet, serve
from dataplane.reference.inventory import Inventory
from dataplane.reference.journey import NAT, PEERING, Dropped, Journey
from dataplane.reference.nat import NatTables
from dataplane.reference.nodes import Host, Interface, NatGateway, Subnet
from dataplane.reference.routes import BLACKHOLE, LOCAL, NOT_FORWARDED
from dataplane.reference.tracking import Tracking
from dataplane.verdict import Reason

MOST_PLACES = 32
"""Route tables one packet may see: beyond, it goes in circles."""


class Router:
    """The network between the interfaces: what is declared, and what it remembers."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.tracking = Tracking()
        self.nat = NatTables()

    def send(self, journey: Journey, destination_mac: bytes) -> Interface | Host:
        """A packet that a guest has sent: who gets it.

        Raises:
            Answered: the subnet's router has it.
            Dropped: nobody.
        """
        sender = journey.sender
        if isinstance(sender, Host):
            if journey.packet.source not in sender.addresses:
                raise Dropped(Reason.SOURCE_CHECK, sender.number)
            journey.source_mac = None
            return self._internet(journey)
        assert isinstance(sender, Interface)
        journey.subnet = sender.subnet
        go_out(journey, sender, self.tracking)
        if destination_mac != sender.subnet.router_mac:
            neighbour = self.inventory.neighbour(sender.subnet, destination_mac)
            assert neighbour is not None, "frames to nobody are not received"
            return self._into(journey, neighbour)
        journey.source_mac = None
        return self.leave(journey, sender.subnet)

    def leave(self, journey: Journey, subnet: Subnet) -> Interface | Host:
        """A packet handed to the router of a subnet: to its route table, unless it is for the subnet itself."""
        if subnet.holds(journey.packet.destination):
            return self._deliver(journey, subnet.vpc)
        leave_subnet(journey, subnet)
        return self._route(journey, subnet)

    def give_error(self, journey: Journey) -> Interface | Host:
        """An ICMP error of the subnet's router, handed to the interface the packet had come from."""
        assert not isinstance(journey.sender, Host)
        return self._into(journey, journey.sender)

    def _route(self, journey: Journey, subnet: Subnet) -> Interface | Host:
        journey.places += 1
        if journey.places > MOST_PLACES:
            raise Dropped(Reason.LOOP, subnet.table.number)
        route = subnet.table.lookup(journey.packet.destination)
        if route is None:
            raise Dropped(Reason.NO_ROUTE, subnet.table.number)
        if route.target == NOT_FORWARDED:
            raise Dropped(Reason.DESTINATION_MARTIAN, subnet.table.number, route.number)
        kind, _, name = route.target.partition(":")
        inventory, vpc = self.inventory, subnet.vpc
        if kind == LOCAL:
            return self._deliver(journey, vpc)
        if kind == "internet-gateway" and inventory.lab.vpcs[vpc].internet_gateway is not None:
            internet_gateway.leave(journey, inventory, vpc)
            return self._internet(journey)
        if kind == "peering" and peering.is_active(inventory, name):
            return self._deliver(journey, peering.cross(journey, inventory, name, vpc))
        target: Interface | NatGateway | None = None
        if kind == "nat-gateway":
            target = inventory.nat_gateways[vpc, name]
        elif kind == "instance":
            target = inventory.attached(vpc, f"{name}/eth0")
        elif kind == "network-interface":
            target = inventory.attached(vpc, name)
        if target is None:
            assert kind in ("network-interface", "internet-gateway", "peering", BLACKHOLE), kind
            raise Dropped(Reason.BLACKHOLE, subnet.table.number, route.number)
        return self._into(journey, target)

    def _deliver(self, journey: Journey, vpc: str) -> Interface | Host:
        """Inside a VPC packets find their interface by address, whatever the subnet."""
        owner = self.inventory.owner(vpc, journey.packet.destination)
        if owner is None:
            raise Dropped(Reason.DESTINATION_UNKNOWN, self.inventory.names.intern("vpc", vpc))
        if isinstance(owner, Subnet):
            serve(journey, owner)
            raise AssertionError("a router either answers or drops")
        return self._into(journey, owner)

    def _into(self, journey: Journey, target: Interface | NatGateway) -> Interface | Host:
        if isinstance(target, NatGateway):
            return self._through_nat(journey, target)
        go_in(journey, target, self.tracking)
        return target

    def _internet(self, journey: Journey) -> Interface | Host:
        """Among hosts and public addresses, everybody reaches everybody."""
        destination = journey.packet.destination
        host = self.inventory.host(destination)
        if host is not None:
            return host
        six = destination.version == 6
        vpc = self.inventory.vpc_of_block6(destination) if six else self.inventory.vpc_of_public(destination)
        if vpc is None:
            raise Dropped(Reason.OUTSIDE_NO_ROUTE, self.inventory.names.intern("internet", "internet"))
        internet_gateway.enter(journey, self.inventory, vpc)
        return self._deliver(journey, vpc)

    def _through_nat(self, journey: Journey, gateway: NatGateway) -> Interface | Host:
        """A NAT gateway: into its subnet, through it, and out of its subnet again."""
        enter_subnet(journey, gateway.subnet)
        before = journey.packet
        if before.destination == gateway.address:
            after = self.nat.inbound(gateway, before, journey.now_ms, from_router=journey.from_router)
        elif PEERING in journey.through:
            raise Dropped(Reason.NAT_FROM_PEER, gateway.number)
        else:
            after = self.nat.outbound(gateway, before, journey.now_ms, journey.proposals)
        if isinstance(after, Reason):
            raise Dropped(after, gateway.number)
        for track in journey.untracked:  # flows through a NAT gateway are tracked, whatever the rules
            track()
        journey.untracked.clear()
        journey.packet = after
        lose_ttl(journey, gateway.number, teller=gateway, about=before)
        fit(journey, gateway.number, NAT_MTU, teller=gateway, about=before)
        journey.sender, journey.as_sent = gateway, journey.packet
        journey.source_mac = None
        journey.groups = frozenset()
        journey.through = {NAT}
        journey.subnet = gateway.subnet
        return self.leave(journey, gateway.subnet)

    def own_error(self, journey: Journey) -> Interface | Host:
        """An ICMP error of a NAT gateway, which leaves it like anything else it sends."""
        assert isinstance(journey.sender, NatGateway)
        return self.leave(journey, journey.sender.subnet)

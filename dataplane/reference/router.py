"""The way of a packet, from one place to the next, until somebody has it.

    guest -> interface -> neighbour, or subnet -> route table -> gateway, peering, endpoint, interface or local

https://docs.aws.amazon.com/vpc/latest/userguide/VPC_Route_Tables.html
"""

from __future__ import annotations

from dataplane.reference import (
    edge_routes,
    egress_only,
    endpoint_hop,
    gateway_endpoints,
    geneve,
    internet_gateway,
    peering,
    resets,
    return_to_sender,
)
from dataplane.reference.balancer import Balancers
from dataplane.reference.error_limit import ErrorLimit
from dataplane.reference.flow_logs import INSIDE, FlowRecords
from dataplane.reference.flow_memory import FlowMemory
from dataplane.reference.hops import NAT_MTU, fit, lose_ttl
from dataplane.reference.interfaces import enter_subnet, go_in, go_out, leave_subnet, serve
from dataplane.reference.inventory import Inventory, Owner
from dataplane.reference.journey import NAT, Dropped, Journey, WantedReset
from dataplane.reference.lifetimes import limits_of_probes
from dataplane.reference.mss import clamp
from dataplane.reference.nat import NatTables
from dataplane.reference.nodes import BalancerNode, Endpoint, Host, Interface, NatGateway, Subnet
from dataplane.reference.packets import ICMP, TCP, Packet
from dataplane.reference.room import Room
from dataplane.reference.routes import BLACKHOLE, LOCAL, NOT_FORWARDED, Route
from dataplane.reference.tracking import Tracking
from dataplane.verdict import Reason

MTU_DIFFERS, FRAGMENT_HEADER = 20, 8
"""An IPv6 header is so many bytes longer than one of IPv4, and fragments of IPv6 have another header."""
MOST_PLACES = 32
"""Route tables one packet may see: beyond, it goes in circles."""
Receiver = Interface | BalancerNode | Host
"""Who gets packets in the end: everybody with a port."""


class Router:
    """The network between the interfaces: what is declared, and what it remembers."""

    def __init__(self, inventory: Inventory, room: Room, errors: ErrorLimit) -> None:
        self.inventory = inventory
        self.room, self.errors = room, errors
        self.tracking = Tracking(room)
        self.nat = NatTables(room)
        self.egress_only = FlowMemory(room)
        self.sent_by_nat = FlowMemory(room)
        self.to_services = FlowMemory(room)
        self.balancers = Balancers(room)
        self.probes = FlowMemory(room)
        """Connections of balancers' nodes, to see whether targets are healthy."""
        self.records = FlowRecords()

    def send(self, journey: Journey, destination_mac: bytes) -> Receiver:
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
            if sender.service:
                vpc = gateway_endpoints.come_back(journey, sender, self.inventory, self.to_services)
                if vpc is not None:
                    return self._deliver(journey, vpc)
            return self._internet(journey)
        assert isinstance(sender, Interface | BalancerNode)
        journey.subnet = sender.subnet
        if isinstance(sender, BalancerNode):
            self._probe(journey, sender)
            journey.see(sender.number, leaves=True)
        else:
            go_out(journey, sender, self.tracking)
        if destination_mac != sender.subnet.router_mac:
            neighbour = self.inventory.neighbour(sender.subnet, destination_mac)
            assert neighbour is not None, "frames to nobody are not received"
            if isinstance(neighbour, Endpoint):
                journey.see(neighbour.number, leaves=False)
                raise Dropped(Reason.ENDPOINT_ADDRESSED, neighbour.number, journey.route)
            return self._into(journey, neighbour)
        journey.source_mac = None
        return self.leave(journey, sender.subnet)

    def record(self, journey: Journey, reason: Reason = Reason.NONE) -> None:
        """A packet has arrived, or died: tell the flow logs that have seen it."""
        journey.end(reason)
        for sight in journey.seen:
            self.records.note(sight, journey.now_ms)

    def leave(self, journey: Journey, subnet: Subnet) -> Receiver:
        """A packet handed to the router of a subnet: to its route table, unless it is for the subnet itself."""
        if subnet.holds(journey.packet.destination):
            return self._deliver(journey, subnet.vpc)
        leave_subnet(journey, subnet)
        return self._route(journey, subnet)

    def give_error(self, journey: Journey) -> Receiver:
        """An ICMP error of the subnet's router, handed to the interface the packet had come from.

        What has left an endpoint was somebody else's: the error is routed from the endpoint's subnet.
        """
        assert not isinstance(journey.sender, Host)
        if isinstance(journey.sender, Endpoint):
            return self.leave(journey, journey.sender.subnet)
        return self._into(journey, journey.sender)

    def _route(self, journey: Journey, subnet: Subnet) -> Receiver:
        journey.places += 1
        if journey.places > MOST_PLACES:
            raise Dropped(Reason.LOOP, subnet.table.number)
        way_back = return_to_sender.way_back(journey, self.inventory, self.sent_by_nat, subnet.vpc)
        if way_back is not None:
            return self._peer(journey, way_back, subnet.vpc)
        route = subnet.table.lookup(journey.packet.destination)
        if route is None:
            raise Dropped(Reason.NO_ROUTE, subnet.table.number)
        journey.note(subnet.table.number, "route", route.number)
        if route.target == NOT_FORWARDED:
            raise Dropped(Reason.DESTINATION_MARTIAN, subnet.table.number, route.number)
        if self._is_blackhole(route, subnet.vpc):
            raise Dropped(Reason.BLACKHOLE, subnet.table.number, route.number)
        kind, _, name = route.target.partition(":")
        inventory, vpc = self.inventory, subnet.vpc
        if kind == LOCAL:
            return self._deliver(journey, vpc)
        if kind == "internet-gateway":
            internet_gateway.leave(journey, inventory, vpc)
            return self._internet(journey)
        if kind == egress_only.WORD:
            egress_only.leave(journey, inventory, self.egress_only, vpc)
            return self._internet(journey)
        if kind == "peering":
            return self._peer(journey, name, vpc)
        if kind == "nat-gateway":
            return self._into(journey, inventory.nat_gateways[vpc, name])
        if kind == "vpc-endpoint" and (vpc, name) in inventory.gateway_endpoints:
            endpoint = inventory.gateway_endpoints[vpc, name]
            return gateway_endpoints.leave(journey, endpoint, inventory, self.to_services)
        if kind == "vpc-endpoint":
            return self._into(journey, inventory.endpoints[vpc, name])
        target = inventory.attached(vpc, f"{name}/eth0" if kind == "instance" else name)
        assert target is not None, "or it were a blackhole"
        return self._into(journey, target)

    def _is_blackhole(self, route: Route, vpc: str) -> bool:
        """Whether what a route leads to is gone, or not active."""
        kind, _, name = route.target.partition(":")
        declared = self.inventory.lab.vpcs[vpc]
        if kind == "internet-gateway":
            return declared.internet_gateway is None
        if kind == "peering":
            return not peering.is_active(self.inventory, name)
        if kind == "network-interface":
            return self.inventory.attached(vpc, name) is None
        return kind == BLACKHOLE

    def _peer(self, journey: Journey, name: str, vpc: str) -> Receiver:
        """Over the peering `name`, from `vpc` to the other one."""
        peer = peering.cross(journey, self.inventory, name, vpc)
        return_to_sender.remember(journey, self.inventory, self.sent_by_nat, name, peer)
        peering.enter(journey, self.inventory, vpc, peer)
        return self._deliver(journey, peer)

    def _deliver(self, journey: Journey, vpc: str) -> Receiver:
        """Inside a VPC packets find their interface by address, whatever the subnet."""
        owner = self.inventory.owner(vpc, journey.packet.destination)
        if owner is None:
            raise Dropped(Reason.DESTINATION_UNKNOWN, self.inventory.names.intern("vpc", vpc))
        is_gone = isinstance(owner, Interface) and not owner.is_attached
        journey.note(self.inventory.names.intern("vpc", vpc), "route", 0 if is_gone else owner.number)
        if isinstance(owner, Subnet):
            serve(journey, owner)
            raise AssertionError("a router either answers or drops")
        if isinstance(owner, Endpoint):
            journey.see(owner.number, leaves=False)
            enter_subnet(journey, owner.subnet)
            raise Dropped(Reason.ENDPOINT_ADDRESSED, owner.number, journey.route)
        return self._into(journey, owner)

    def _into(self, journey: Journey, target: Owner) -> Receiver:
        if isinstance(target, NatGateway):
            return self._through_nat(journey, target)
        if isinstance(target, Endpoint):
            node = endpoint_hop.go_in(journey, target, self.balancers)
            return self.leave(journey, node.subnet)
        if isinstance(target, BalancerNode):
            return self._to_node(journey, target)
        go_in(journey, target, self.tracking)
        return target

    def _internet(self, journey: Journey) -> Receiver:
        """Among hosts and public addresses, everybody reaches everybody."""
        inventory, packet = self.inventory, journey.packet
        internet = inventory.names.intern("internet", "internet")
        host = inventory.host(packet.destination)
        if host is not None:
            journey.note(internet, "route", host.number)
            return host
        if packet.version == 6:
            vpc, block = inventory.vpc_of_block6(packet.destination)
        else:
            vpc, block = inventory.vpc_of_public(packet.destination), f"{packet.destination}/32"
        if vpc is None:
            raise Dropped(Reason.OUTSIDE_NO_ROUTE, internet)
        word = "internet-gateway" if inventory.lab.vpcs[vpc].internet_gateway is not None else egress_only.WORD
        journey.note(internet, "route", inventory.names.intern("route", f"internet {block} -> {word}:{vpc}"))
        if egress_only.is_entrance(inventory, vpc, packet):
            egress_only.enter(journey, inventory, self.egress_only, vpc)
            return self._deliver(journey, vpc)
        internet_gateway.enter(journey, inventory, vpc)
        target = edge_routes.redirect(journey, inventory, vpc)
        return self._deliver(journey, vpc) if target is None else self._into(journey, target)

    def _through_nat(self, journey: Journey, gateway: NatGateway) -> Receiver:
        """A NAT gateway: into its subnet, through it, and out of its subnet again."""
        journey.see(gateway.number, leaves=False)
        enter_subnet(journey, gateway.subnet)
        before, counters = journey.packet, self.nat.counters(gateway)
        is_inbound = before.destination in gateway.addresses
        if not is_inbound and not self.inventory.has_interface(gateway.vpc, before.source):
            raise Dropped(Reason.NAT_FROM_PEER, gateway.number)
        if not is_inbound and journey.sender is gateway:  # what it has sent itself is routed to it
            raise Dropped(Reason.LOOP, gateway.number)
        counters.count("InFromDestination" if is_inbound else "InFromSource", len(before.raw))
        fit(journey, gateway.number, NAT_MTU, teller=gateway, about=before)
        after: Packet | Reason
        if journey.mtus and before.protocol in (TCP, ICMP):  # cut by a gateway before, or here: only UDP may be
            after = Reason.NAT_FRAGMENT
        elif is_inbound:
            is_ours = journey.is_made or NAT in journey.through
            in_pieces = bool(journey.mtus)
            after = self.nat.inbound(gateway, before, journey.now_ms, is_ours=is_ours, in_pieces=in_pieces)
        else:
            after = self.nat.outbound(gateway, before, journey.now_ms, journey.proposals)
        if isinstance(after, Reason):
            is_reset = not is_inbound and after is Reason.NAT_NO_SESSION and resets.is_due(before)
            raise Dropped(
                after, gateway.number, error=WantedReset(resets.build_reset(before), gateway) if is_reset else None
            )
        self.room.have_tracked(journey, gateway.number)
        if after.version != before.version:  # as fragments of IPv6 the pieces are longer
            journey.mtus = [mtu + MTU_DIFFERS + FRAGMENT_HEADER for mtu in journey.mtus]
            journey.identification = int.from_bytes(before.raw[4:6])
        # With NAT64, who gets the SYN sends packets of the version that it has now: as these they arrive here.
        journey.packet = clamp(after, NAT_MTU)
        journey.note(gateway.number, "translate")
        lose_ttl(journey, gateway.number, teller=gateway, about=before)
        counters.count("OutToSource" if is_inbound else "OutToDestination", len(journey.packet.raw))
        journey.sender, journey.as_sent = gateway, journey.packet
        journey.source_mac = None
        journey.groups = frozenset()
        journey.through = {NAT}
        journey.subnet = gateway.subnet
        journey.go_on(INSIDE)
        journey.see(gateway.number, leaves=True)
        return self.leave(journey, gateway.subnet)

    def _to_node(self, journey: Journey, node: BalancerNode) -> Receiver:
        """A node of a balancer: what targets send back goes on, answers to what it has asked itself arrive."""
        journey.see(node.number, leaves=False)
        enter_subnet(journey, node.subnet)
        packet = journey.packet
        if geneve.is_geneve(packet):
            endpoint = endpoint_hop.come_back(journey, node, self.inventory, self.balancers)
            return self.leave(journey, endpoint.subnet)
        limits = limits_of_probes(self.inventory.lab.settings)
        if not self.probes.see_answer(node.number, packet, journey.now_ms, limits):
            raise Dropped(Reason.ENDPOINT_ADDRESSED, node.number)
        journey.note(node.number, "known")
        return node

    def _probe(self, journey: Journey, node: BalancerNode) -> None:
        """A node asks a target how it is: whose answers find it."""
        limits = limits_of_probes(self.inventory.lab.settings)
        done = self.probes.see(node.number, journey.packet, journey.now_ms, limits)
        if done:
            journey.note(node.number, done)

    def own_packet(self, journey: Journey) -> Receiver:
        """An ICMP error or a reset of a gateway, which leaves it like anything else it sends."""
        assert isinstance(journey.sender, NatGateway | Endpoint)
        journey.see(journey.sender.number, leaves=True)
        return self.leave(journey, journey.sender.subnet)

"""ARP and IPv6 neighbour discovery, answered by the network from what is declared (RFC 826, RFC 4861).

A guest's question never reaches another guest; who has an address is known from the lab file alone. Nobody is told
about an address of its own: it would think the address taken.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from dataplane.reference.checksum import Address, checksum, pseudo_header
from dataplane.reference.errors import build
from dataplane.reference.inventory import Inventory
from dataplane.reference.nodes import BalancerNode, Host, Interface
from dataplane.reference.packets import ICMPV6, Packet
from dataplane.verdict import Reason

ARP_IPV4_ETHERNET = bytes.fromhex("00010800060400")
Asker = Interface | BalancerNode | Host
"""Who may ask: everybody with a port."""
REQUEST, REPLY = 1, 2
SOLICITATION, ADVERTISEMENT = 135, 136
NEIGHBOUR_DISCOVERY = range(133, 138)
"""Router solicitation to redirect (RFC 4861, section 4)."""
ROUTER, SOLICITED, OVERRIDE = 0x80, 0x40, 0x20


def mac_of(inventory: Inventory, asker: Asker, address: Address) -> bytes | None:
    """Whose MAC a node in the subnet of `asker` would be told for an address."""
    if address in asker.addresses:
        return None
    if isinstance(asker, Host):
        return asker.router_mac
    subnet = asker.subnet
    if subnet.is_router(address):
        return subnet.router_mac
    for each in inventory.interfaces:
        if each.subnet is subnet and each.is_attached and address in each.addresses:
            return each.mac
    managed = (each for each in inventory.managed() if each.subnet is subnet and address in each.addresses)
    return next((each.mac for each in managed), None)


def answering_mac(inventory: Inventory, asker: Asker, address: Address) -> bytes | None:
    """Whose MAC the network tells a node in the subnet of `asker`: of a free address, perhaps the router's.

    AWS's pages do not say what becomes of such a question (`settings.arp_for_unassigned`).
    """
    mac = mac_of(inventory, asker, address)
    if mac is not None or isinstance(asker, Host) or inventory.lab.settings.arp_for_unassigned == "silent":
        return mac
    is_free = asker.subnet.holds(address) and inventory.owner(asker.vpc, address) is None
    return asker.router_mac if is_free else None


def answer_arp(inventory: Inventory, asker: Asker, body: bytes) -> bytes | Reason:
    """The frame that answers an ARP request."""
    if len(body) < 28 or body[:7] != ARP_IPV4_ETHERNET or body[7] not in (REQUEST, REPLY):
        return Reason.ARP_MALFORMED
    target = IPv4Address(body[24:28])
    mac = answering_mac(inventory, asker, target) if body[7] == REQUEST else None
    if mac is None:
        return Reason.ARP_UNANSWERED
    answer = ARP_IPV4_ETHERNET + bytes([REPLY]) + mac + target.packed + body[8:18]
    return body[8:14] + mac + b"\x08\x06" + answer


def is_neighbour_discovery(packet: Packet) -> bool:
    """Whether a packet belongs to neighbour discovery, which no router forwards."""
    return packet.protocol == ICMPV6 and packet.icmp_type in NEIGHBOUR_DISCOVERY and packet.fragment is None


def answer_solicitation(inventory: Inventory, asker: Asker, packet: Packet) -> bytes | Reason:
    """The frame that answers a neighbour solicitation (RFC 4861, section 7); nothing else is answered."""
    message = packet.raw[packet.transport :]
    covered = pseudo_header(packet.source, packet.destination, ICMPV6, len(message))
    right = checksum(covered + message[:2] + b"\0\0" + message[4:]) == int.from_bytes(message[2:4])
    if packet.ttl != 255 or packet.icmp_code != 0 or not right:
        return Reason.ND_MALFORMED
    if packet.icmp_type != SOLICITATION:
        return Reason.ND_UNANSWERED
    if len(message) < 24:
        return Reason.ND_MALFORMED
    target = IPv6Address(message[8:24])
    mac = None if target.is_multicast else answering_mac(inventory, asker, target)
    if mac is None or packet.source == IPv6Address(0):  # who looks for duplicates of its own address finds none
        return Reason.ND_UNANSWERED
    flags = (ROUTER if mac == asker.router_mac else 0) | SOLICITED | OVERRIDE
    body = bytes([ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0]) + target.packed + b"\x02\x01" + mac
    return asker.mac + mac + b"\x86\xdd" + build(target, packet.source, ICMPV6, body, ttl=255)

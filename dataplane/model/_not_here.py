"""What AWS has and a lab has not, by the words people look for it: no other key is what they mean."""

from __future__ import annotations

NOT_HERE = {
    "alb": "Application Load Balancers",
    "application_load_balancer": "Application Load Balancers",
    "carrier_gateway": "carrier gateways",
    "client_vpn_endpoint": "Client VPN endpoints",
    "cloud_wan": "Cloud WAN",
    "core_network": "Cloud WAN",
    "customer_gateway": "customer gateways",
    "dhcp_options": "DHCP option sets",
    "direct_connect": "Direct Connect",
    "direct_connect_gateway": "Direct Connect gateways",
    "instance_connect_endpoint": "EC2 Instance Connect Endpoints",
    "interface_endpoint": "interface endpoints",
    "interface_vpc_endpoint": "interface endpoints",
    "ipam": "IPAM",
    "ipam_pool": "IPAM pools",
    "lattice_service": "VPC Lattice services",
    "local_gateway": "local gateways",
    "network_firewall": "AWS Network Firewall",
    "network_load_balancer": "Network Load Balancers",
    "nlb": "Network Load Balancers",
    "resource_gateway": "resource gateways",
    "service_network": "VPC Lattice service networks",
    "site_to_site_vpn": "Site-to-Site VPN",
    "tgw": "transit gateways",
    "traffic_mirror_session": "Traffic Mirroring",
    "transit_gateway": "transit gateways",
    "transit_gateway_attachment": "transit gateways",
    "verified_access": "Verified Access",
    "virtual_private_gateway": "virtual private gateways",
    "vpn_attachment": "Site-to-Site VPN",
    "vpn_connection": "Site-to-Site VPN",
    "vpn_gateway": "virtual private gateways",
}
"""A word in the singular -> what of AWS it is."""


def not_here(word: str) -> str:
    """Return the hint for a word that stands for something of AWS that labs do not have; empty for any other."""
    form = word.lower().replace("-", "_")
    found = NOT_HERE.get(form) or NOT_HERE.get(form.removesuffix("s"))
    return f"a lab has no {found}" if found else ""

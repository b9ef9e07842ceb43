"""Addresses of the pages that the behaviours stand on."""

from __future__ import annotations

from typing import Final

AWS: Final = "https://docs.aws.amazon.com/"
BLOG: Final = "https://aws.amazon.com/blogs/networking-and-content-delivery/"
FAQ: Final = "https://aws.amazon.com/elasticloadbalancing/faqs"
RFC: Final = "https://www.rfc-editor.org/rfc/rfc"


def vpc_guide(page: str) -> str:
    """A page of the VPC User Guide."""
    return f"{AWS}vpc/latest/userguide/{page}.html"


def ec2_guide(page: str) -> str:
    """A page of the EC2 User Guide."""
    return f"{AWS}AWSEC2/latest/UserGuide/{page}.html"


def ec2_api(page: str) -> str:
    """A page of the EC2 API Reference."""
    return f"{AWS}AWSEC2/latest/APIReference/API_{page}.html"


def peering_guide(page: str) -> str:
    """A page of the VPC Peering Guide."""
    return f"{AWS}vpc/latest/peering/{page}.html"


def vpn_guide(page: str) -> str:
    """A page of the Site-to-Site VPN User Guide."""
    return f"{AWS}vpn/latest/s2svpn/{page}.html"


def balancer_guide(page: str) -> str:
    """A page of the User Guide for Gateway Load Balancers."""
    return f"{AWS}elasticloadbalancing/latest/gateway/{page}.html"


def privatelink_guide(page: str) -> str:
    """A page of the AWS PrivateLink Guide, which has gateway endpoints too."""
    return f"{AWS}vpc/latest/privatelink/{page}.html"


def networking_blog(post: str) -> str:
    """A post of AWS's blog on networking."""
    return f"{BLOG}{post}"


def reachability(page: str = "explanation-codes") -> str:
    """A page of the Reachability Analyzer guide."""
    return f"{AWS}vpc/latest/reachability/{page}.html"


def rfc(number: int, section: str = "") -> str:
    """An RFC, perhaps a section of it."""
    return f"{RFC}{number}" + (f"#section-{section}" if section else "")

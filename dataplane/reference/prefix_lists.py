"""Prefix lists: those that are declared, and those that AWS manages, of a service's addresses in the Region.

https://docs.aws.amazon.com/vpc/latest/userguide/managed-prefix-lists.html
https://docs.aws.amazon.com/vpc/latest/userguide/working-with-aws-managed-prefix-lists.html
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from dataplane.model.aws_service import SERVICES
from dataplane.model.lab_file import LabFile

MANAGED = "com.amazonaws."


def blocks_of(lab: LabFile, name: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """The blocks of a list."""
    if name.startswith(MANAGED):
        return blocks_of_service(lab, name.rpartition(".")[2])
    return tuple(entry.cidr for entry in lab.prefix_lists[name].entries)


def blocks_of_service(lab: LabFile, service: str) -> tuple[IPv4Network, ...]:
    """The blocks of a service of AWS: as written, else some that are really its own."""
    return lab.aws_services[service].prefixes or SERVICES[service]


def managed_list(lab: LabFile, service: str) -> str:
    """The name of a service's list in the lab's Region."""
    return f"{MANAGED}{lab.region}.{service}"

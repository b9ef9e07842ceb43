"""Prefix lists: those of one's own, and those that AWS manages for the services of the lab's Region.

https://docs.aws.amazon.com/vpc/latest/userguide/working-with-aws-managed-prefix-lists.html
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from dataplane.model.lab_file import LabFile


def blocks_of(lab: LabFile, name: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """The blocks of a list."""
    for service, declared in lab.aws_services.items():
        if name == managed(lab, service):
            return declared.all_prefixes(service)
    return tuple(entry.cidr for entry in lab.prefix_lists[name].entries)


def managed(lab: LabFile, service: str) -> str:
    """The name of the list that AWS manages for a service."""
    return f"com.amazonaws.{lab.region}.{service}"

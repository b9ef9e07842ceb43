"""Region and Availability Zone: where a lab is.

A Region is a name; its zones are the name with a letter: ``us-east-1`` has ``us-east-1a`` and so on. A subnet lies
in one zone. Zones forward alike: what depends on them is what AWS ties to a zone (a NAT gateway, quotas).
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-regions-availability-zones.html

Deviations from AWS:
- Any name of the right form is a Region, and every Region has zones a to f.
- Letters mean the same zone in every lab; AWS shuffles them per account (flow logs have zone ids: `az-id`).
- Local Zones, Wavelength Zones and Outposts are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dataplane.errors import Problem

if TYPE_CHECKING:
    from dataplane.topology import Topology

_NAME = re.compile(r"[a-z]{2}(-[a-z]+){1,2}-[1-9][0-9]?")


@dataclass(frozen=True, slots=True)
class Region:
    """An AWS Region."""

    name: str

    ZONES: ClassVar[str] = "abcdef"

    @classmethod
    def parse(cls, value: object) -> Region:
        """Read a name such as ``us-east-1``.

        Raises:
            ValueError: no such name.
        """
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise ValueError(f"{value} is no Region; write, for example, us-east-1")
        return cls(value)

    def __str__(self) -> str:
        return self.name

    def check(self, topology: Topology) -> Iterator[Problem]:
        """Yield what there is too much of in this Region. Paths are complete."""
        lab = topology.lab
        mine = [vpc for vpc in lab.vpcs if topology.region_of(vpc) == self]
        yield from topology.too_many("vpcs_per_region", [f"vpcs.{vpc}" for vpc in mine])
        groups = [f"vpcs.{v}.security_groups.{g}" for v in mine for g in lab.vpcs[v].all_security_groups()]
        yield from topology.too_many("security_groups_per_region", groups)
        addresses = [each.path for each in topology.public_addresses if each.vpc in mine and not each.automatic]
        yield from topology.too_many("elastic_ips_per_region", addresses)
        for quota, key in (
            ("gateway_load_balancers_per_region", "gateway_load_balancers"),
            ("target_groups_per_region", "target_groups"),
            ("gateway_endpoints_per_region", "gateway_endpoints"),
        ):
            paths = [f"vpcs.{vpc}.{key}.{name}" for vpc in mine for name in getattr(lab.vpcs[vpc], key)]
            yield from topology.too_many(quota, paths)
        if self == lab.region:
            yield from topology.too_many(
                "prefix_lists_per_region", [f"prefix_lists.{name}" for name in lab.prefix_lists]
            )
        for zone in {subnet.zone: None for subnet in topology.subnets.values() if subnet.vpc in mine}:
            inside = [each for each in topology.interfaces if each.subnet.zone == zone]
            paths = [each.wanted.file_path for each in inside]
            yield from topology.too_many("network_interfaces_per_zone", paths)
            gateways = [each.wanted.file_path for each in inside if each.kind == "nat-gateway"]
            yield from topology.too_many("nat_gateways_per_zone", gateways)

    def zone(self, text: str) -> str:
        """Return the full name of a zone given as its letter or in full.

        Raises:
            ValueError: no zone of this Region.
        """
        letter = text.removeprefix(self.name)
        if len(letter) != 1 or letter not in self.ZONES:
            raise ValueError(f"{text} is no Availability Zone of {self.name}; write a letter from a to f")
        return self.name + letter

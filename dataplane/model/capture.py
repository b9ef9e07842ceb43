"""Capture: packets at points of the lab, recorded from its start on in a pcapng file. It is ours, AWS has none.

What stands in the file is what ``vpclab capture`` writes: an interface for each side of a point, and for each packet a
comment that says what became of it. The lab writes it until it goes down. Where a disk does not keep up, records are
lost, and told as lost; packets never are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dataplane.errors import Problem
from dataplane.model._capture_points import UnknownPointError, find_point
from dataplane.model._fields import did_you_mean, doc
from dataplane.model.internet_gateway import INTERNET

if TYPE_CHECKING:
    from dataplane.model.lab_file import LabFile
    from dataplane.topology import Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """One file."""

    points: tuple[str, ...] = field(
        metadata=doc(
            "where packets are looked at: `web`, `web/eth1`, `nat:VPC/NAME`, `igw:VPC`, `eigw:VPC`, `peering:NAME`, "
            "`gwlb:VPC/NAME`, `internet`; one side of it with `/inside`, `/outside`, `/inner` or `/outer`",
            ["web", "nat:shop/nat"],
        )
    )
    file: str = field(
        metadata=doc("where to, from the folder of the lab file on; what is there is replaced", "web.pcapng")
    )
    filter: str = field(
        default="",
        metadata=doc("which packets, in tcpdump's syntax, which libpcap reads; all when empty", "tcp port 80"),
    )

    def check_nodes(self, lab: LabFile) -> Iterator[Problem]:
        """Yield nodes that the lab file does not have, whatever else is wrong with it."""
        known = {*lab.instances, *lab.internet.hosts, *lab.aws_services, INTERNET}
        for index, word in enumerate(self.points):
            node = word.partition("/")[0]
            if ":" not in word and node not in known:
                message = f"nothing that can be captured is called {word!r}"
                yield Problem(f"points[{index}]", message, "", did_you_mean(node, sorted(known)))

    def check(self, topology: Topology, name: str) -> Iterator[Problem]:
        """Yield what cannot be recorded."""
        if not self.points:
            yield Problem("points", "there are none", "", "write at least one, for example an instance")
        if not self.file:
            yield Problem("file", "it has no name", "", f"write for example {name}.pcapng")
        seen: set[str] = set()
        for index, word in enumerate(self.points):
            try:
                point = find_point(topology, word)
            except UnknownPointError as error:
                yield Problem(f"points[{index}]", str(error))
                continue
            twice = sorted(seen & {side.name for side in point.sides})
            if twice:
                yield Problem(f"points[{index}]", f"{twice[0]} is there twice", "", "leave one out")
            seen.update(side.name for side in point.sides)

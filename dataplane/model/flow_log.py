"""Flow log: who talked to whom, as each network interface saw it, in records of one or ten minutes.

It watches a VPC, a subnet or one network interface. A record is of one flow (addresses, ports, protocol), one
direction and one action, at one interface, in one aggregation interval. It tells packets and bytes of IP, and ACCEPT or
REJECT: what the security groups of the interface or the network ACL of its subnet refused on that side. A flow through
a NAT gateway is seen there four times: in and out, each way.
https://docs.aws.amazon.com/vpc/latest/userguide/flow-logs.html
https://docs.aws.amazon.com/vpc/latest/userguide/flow-log-records.html

    out: guest -> source check -> **seen** -> groups -> ACL      in: **seen** -> ACL -> groups -> guest

Packets are not touched by it. Not seen, as on AWS: what goes to or comes from the subnet's router, Amazon's DNS,
metadata, time and licence servers; ARP and DHCP. Files have the names that S3 would have them by, below `folder`, or
without one below ``flow-logs`` of the lab's state, which ``vpclab down`` removes:
https://docs.aws.amazon.com/vpc/latest/userguide/flow-logs-s3-path.html

Deviations from AWS:
- Intervals begin at full minutes of lab time, and are as long as `max_aggregation_interval` says, of every interface.
- Each interval is written as soon as it is over, to one file for each five minutes in which records of it end; AWS
  writes every five minutes.
- ``tcp-flags`` is 0 where there were none, of other protocols too.
- ``traffic-path`` is that of Nitro instances: 7 for gateway endpoints, 8 for internet gateways and egress-only ones. It
  is ``-`` for what died before it was through a gateway (too large for it, for example) or came to the gates of another
  interface; of a packet that dies between two interfaces it is 1 if the second one is watched too.
- A packet that a gateway has cut to fit is counted at the interfaces behind it as the one it was.
- A packet that an interface let pass and that died further on (no route, no port, no answer) is an ACCEPT there.
- ``reject-reason`` and ``encryption-status`` are ``-``: what they tell of does not exist here.
- Fields of Amazon ECS and of regional NAT gateways, Parquet, and destinations other than files are refused.
- Ids follow from names. ``pkt-src-aws-service`` knows the services of the lab, and EC2 for its public addresses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import TYPE_CHECKING, Literal

from dataplane.errors import Problem
from dataplane.model._cidr import Network, host_network
from dataplane.model._fields import did_you_mean, doc, unknown
from dataplane.model._placed import PlacedInterface, PlacedSubnet
from dataplane.program import Direction, Node, Point, Program

if TYPE_CHECKING:
    from dataplane.topology import Topology

FIELDS = {
    2: (
        *("version", "account-id", "interface-id", "srcaddr", "dstaddr", "srcport", "dstport", "protocol", "packets"),
        *("bytes", "start", "end", "action", "log-status"),
    ),
    3: ("vpc-id", "subnet-id", "instance-id", "tcp-flags", "type", "pkt-srcaddr", "pkt-dstaddr"),
    4: ("region", "az-id", "sublocation-type", "sublocation-id"),
    5: ("pkt-src-aws-service", "pkt-dst-aws-service", "flow-direction", "traffic-path"),
    8: ("reject-reason",),
    10: ("encryption-status",),
}
"""By the version that brought them."""
VERSION_OF = {name: version for version, names in FIELDS.items() for name in names}
DEFAULT_FORMAT = " ".join(f"${{{name}}}" for name in FIELDS[2])
ABSENT = {
    "resource-id": "regional NAT gateways do not exist here",
    **dict.fromkeys(
        (
            *("ecs-cluster-arn", "ecs-cluster-name", "ecs-container-instance-arn", "ecs-container-instance-id"),
            *("ecs-container-id", "ecs-second-container-id", "ecs-service-name", "ecs-task-definition-arn"),
            *("ecs-task-arn", "ecs-task-id"),
        ),
        "Amazon ECS does not exist here",
    ),
}
"""Fields of AWS's that are refused, and why."""
_FIELD = re.compile(r"\$\{([^{}]*)\}")
MANAGED = ("nat-gateway", "vpc-endpoint", "gateway-load-balancer")
"""Words for interfaces that AWS owns: ``nat-gateway:egress``."""
SERVICES: tuple[Network, ...] = tuple(
    ip_network(f"{base}{last}")
    for base, lasts in (("169.254.169.", (123, 250, 251, 253, 254)), ("fd00:ec2::", (123, 250, 253, 254)))
    for last in lasts
)
"""Time, Windows licences, DNS and metadata, at addresses of their own on every link
(https://docs.aws.amazon.com/vpc/latest/userguide/flow-logs-limitations.html)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowLog:
    """A flow log."""

    subnet: str | None = field(default=None, metadata=doc("the subnet it watches", "public"))
    network_interface: str | None = field(
        default=None,
        metadata=doc(
            "the network interface it watches: INSTANCE/ethN, its name, or nat-gateway:NAME, vpc-endpoint:NAME or "
            "gateway-load-balancer:NAME; without subnet and network_interface it watches the whole VPC",
            "web/eth0",
        ),
    )
    traffic_type: Literal["ACCEPT", "REJECT", "ALL"] = field(
        default="ALL", metadata=doc("which records to write", "ALL")
    )
    max_aggregation_interval: int = field(
        default=600, metadata=doc("seconds that a record is of at most: 60 or 600", 60)
    )
    log_format: str = field(
        default=DEFAULT_FORMAT, metadata=doc("fields of a record", "${interface-id} ${pkt-srcaddr} ${action}")
    )
    file_format: Literal["plain-text", "parquet"] = field(
        default="plain-text", metadata=doc("plain-text, and nothing else", "plain-text")
    )
    gzip: bool = field(default=True, metadata=doc("whether files are compressed (.log.gz), as AWS does"))
    hive_compatible_partitions: bool = field(default=False, metadata=doc("whether folders are called KEY=VALUE"))
    per_hour_partition: bool = field(default=False, metadata=doc("whether each hour has a folder of its own"))
    folder: str | None = field(
        default=None,
        metadata=doc(
            "where files are kept, from the folder of the lab file on (AWS has a bucket there); without it they are in "
            "the lab's state, and gone when the lab is taken down",
            "logs",
        ),
    )

    def check(self, topology: Topology, vpc: str, name: str) -> Iterator[Problem]:
        """Yield what AWS would refuse, and what does not exist here."""
        if self.subnet is not None and self.network_interface is not None:
            message = "a flow log watches one thing, and here are two"
            yield Problem("network_interface", message, "InvalidParameter", "remove subnet or network_interface")
        if self.subnet is not None and self.subnet not in topology.vpc(vpc).subnets:
            known = topology.vpc(vpc).subnets
            yield unknown("subnet", f"subnet of VPC {vpc}", self.subnet, known, "InvalidSubnetID.NotFound")
        if self.network_interface is not None and not self.interfaces(topology, vpc):
            found = [title(each) for each in topology.interfaces_of_vpc(vpc)]
            message = f"no network interface of VPC {vpc} is called {self.network_interface}"
            hint = did_you_mean(self.network_interface, found)
            yield Problem("network_interface", message, "InvalidNetworkInterfaceID.NotFound", hint)
        if self.max_aggregation_interval not in (60, 600):
            message = f"{self.max_aggregation_interval} is neither 60 nor 600"
            yield Problem("max_aggregation_interval", message, "InvalidParameter", "write 60 or 600 (seconds)")
        if self.file_format != "plain-text":
            message = "files are written as plain text only"
            yield Problem("file_format", message, "", "write plain-text, or leave it out")
        if self.folder == "":
            yield Problem("folder", "it has no name", "", "write for example logs")
        yield from self._check_format()

    def _check_format(self) -> Iterator[Problem]:
        if not self.fields or _FIELD.sub("", self.log_format).strip():
            message = f"{self.log_format!r} is no list of fields"
            yield Problem("log_format", message, "InvalidParameter", "write, for example, ${srcaddr} ${dstaddr}")
        for name in self.fields:
            if name in ABSENT:
                yield Problem("log_format", f"no record has {name}: {ABSENT[name]}", "", "leave it out")
            elif name not in VERSION_OF:
                hint = did_you_mean(name, VERSION_OF)
                yield Problem("log_format", f"no field is called {name}", "InvalidParameter", hint)
        twice = sorted({name for name in self.fields if self.fields.count(name) > 1})
        if twice:
            message = f"{', '.join(twice)} is written twice"
            yield Problem("log_format", message, "InvalidParameter", "write each field once")

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a record, in order."""
        return tuple(_FIELD.findall(self.log_format))

    @property
    def version(self) -> int:
        """The highest version among the fields; of the default format, 2."""
        return max(VERSION_OF[name] for name in self.fields)

    def interfaces(self, topology: Topology, vpc: str) -> list[PlacedInterface]:
        """The interfaces that it watches, in the order of the lab file."""
        return [each for each in topology.interfaces_of_vpc(vpc) if self.watches(each)]

    def watches(self, interface: PlacedInterface) -> bool:
        """Whether it watches an interface of its VPC."""
        if self.network_interface is not None:
            return self.network_interface in _names(interface)
        return self.subnet is None or self.subnet == interface.subnet.name


def title(interface: PlacedInterface) -> str:
    """What a flow log may call an interface."""
    return _names(interface)[0]


def _names(interface: PlacedInterface) -> list[str]:
    if interface.wanted.is_managed:
        return [f"{interface.kind}:{interface.wanted.name}"]
    declared = [interface.wanted.name] if interface.wanted.is_declared else []
    return [interface.path, *declared] if interface.is_attached else declared


def is_watched(topology: Topology, interface: PlacedInterface) -> bool:
    """Whether a flow log watches an interface."""
    return any(log.watches(interface) for log in topology.vpc(interface.subnet.vpc).flow_logs.values())


def lower_out(topology: Topology, program: Program, interface: PlacedInterface, number: int, following: str) -> str:
    """Make the point of what an interface sends, if somebody watches it; return where packets for `following` go."""
    if not is_watched(topology, interface):
        return following
    here = f"{following}/seen:{number}"
    program.nodes[here] = _point(topology, program, interface, number, "EGRESS", following)
    return here


def lower_in(
    topology: Topology, program: Program, interface: PlacedInterface, number: int, here: str, node: Node
) -> None:
    """Put `node` at `here`, where packets come to an interface, behind its point if somebody watches it."""
    if not is_watched(topology, interface):
        program.nodes[here] = node
        return
    program.nodes[here] = _point(topology, program, interface, number, "INGRESS", f"{here}/gates")
    program.nodes[f"{here}/gates"] = node


def _point(
    topology: Topology,
    program: Program,
    interface: PlacedInterface,
    number: int,
    way: Literal["EGRESS", "INGRESS"],
    following: str,
) -> Point:
    unseen = f"subnet:{interface.subnet.path}/unseen"
    program.sets[unseen] = list(not_seen(topology, interface.subnet))
    return Point(object=number, direction=Direction[way], unseen=unseen, next=following)


def not_seen(topology: Topology, home: PlacedSubnet) -> Iterator[Network]:
    """Addresses whose traffic is not logged in a subnet: its router's, and AWS's services on the link.

    Amazon's DNS also answers at the third address of the VPC's primary block.
    """
    yield from SERVICES
    yield host_network(topology.vpc(home.vpc).cidr[2])
    yield from (host_network(router) for router in home.routers)

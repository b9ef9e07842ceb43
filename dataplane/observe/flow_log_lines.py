"""Flow log records as text, field by field as AWS defines them.

https://docs.aws.amazon.com/vpc/latest/userguide/flow-log-records.html
https://docs.aws.amazon.com/vpc/latest/userguide/flow-logs-records-examples.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from dataplane.model._placed import PlacedInterface
from dataplane.model.flow_log import FlowLog
from dataplane.names import Names
from dataplane.observe.aws_ids import aws_id, zone_id
from dataplane.observe.records import Count, Flow, Window
from dataplane.program import Address, Direction

if TYPE_CHECKING:
    from dataplane.topology import Topology

NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Watched:
    """An interface, as far as records tell of it."""

    facts: Mapping[str, str]
    """Fields that are the same in all its records."""
    primary4: IPv4Address
    primary6: Address | None

    def own(self, address: Address) -> Address:
        """What stands for an address of the packet at its own end: the primary one of the same family."""
        mine = self.primary4 if address.version == 4 else self.primary6
        return address if mine is None else mine


class Services:
    """Which part of AWS a public address belongs to."""

    def __init__(self, topology: Topology) -> None:
        """Those of the lab: its services, and EC2 for the public addresses of its VPCs."""
        self._prefixes: list[tuple[IPv4Network, str]] = [
            (prefix, name.upper())
            for name, service in topology.lab.aws_services.items()
            for prefix in service.all_prefixes(name)
        ]
        self._public = {each.public for each in topology.public_addresses}

    def of(self, address: Address) -> str:
        """Its name in capitals, or a dash."""
        if not isinstance(address, IPv4Address):
            return NOTHING
        if address in self._public:
            return "EC2"
        return next((name for prefix, name in self._prefixes if address in prefix), NOTHING)


def watched_interfaces(topology: Topology, names: Names, vpc: str, log: FlowLog) -> dict[int, Watched]:
    """What a flow log of a VPC watches, by number."""
    return {number_of(names, each): _describe(topology, vpc, each) for each in log.interfaces(topology, vpc)}


def number_of(names: Names, interface: PlacedInterface) -> int:
    """The number by which the data plane knows an interface."""
    if interface.kind == "gateway-load-balancer":
        home = interface.subnet
        return names.find("gateway-load-balancer-node", f"{home.vpc}/{interface.wanted.name}/{home.name}")
    return names.find(interface.kind, interface.path)


def interface_id(interface: PlacedInterface) -> str:
    """Its id."""
    return aws_id("eni", f"{interface.kind} {interface.path}")


def log_id(vpc: str, name: str) -> str:
    """The id of a flow log."""
    return aws_id("fl", f"{vpc}/{name}")


def _describe(topology: Topology, vpc: str, interface: PlacedInterface) -> Watched:
    home, region = interface.subnet, str(topology.region_of(vpc))
    is_instances = interface.is_attached and not interface.wanted.is_managed
    facts = {
        "account-id": topology.vpc(vpc).account,
        "interface-id": interface_id(interface),
        "vpc-id": aws_id("vpc", vpc),
        "subnet-id": aws_id("subnet", home.path),
        "instance-id": aws_id("i", interface.instance) if is_instances else NOTHING,
        "region": region,
        "az-id": zone_id(region, home.zone),
    }
    return Watched(facts, interface.addresses4[0], next(iter(interface.addresses6), None))


def lines(
    log: FlowLog, watched: Mapping[int, Watched], window: Window, services: Services, *, start_s: int, epoch_ms: int
) -> Iterator[tuple[int, str]]:
    """The records of one aggregation interval that began at `start_s` (Unix time), by interface, each with its end.

    `epoch_ms` is the Unix time at which lab time was 0. An interface without traffic has a record that says so, and so
    has one of which some was or may have been lost.
    """
    mine: dict[int, list[tuple[Flow, Count]]] = {number: [] for number in watched}
    for flow, count in window.flows.items():
        if flow.interface in mine:
            mine[flow.interface].append((flow, count))
    for number, found in mine.items():
        interface = watched[number]
        for flow, count in sorted(found, key=lambda each: (each[1].first_ms, each[1].last_ms)):
            values = _values(flow, count, interface, services, epoch_ms)
            if log.traffic_type in ("ALL", values["action"]):
                yield int(values["end"]), _line(log, interface, values)
        end_s = start_s + log.max_aggregation_interval
        ends = {"start": str(start_s), "end": str(end_s)}
        if number in window.lost or window.lost_anywhere:
            yield end_s, _line(log, interface, {**ends, "log-status": "SKIPDATA"})
        elif not found:
            yield end_s, _line(log, interface, {**ends, "log-status": "NODATA"})


def header(log: FlowLog) -> str:
    """The first line of a file: names of its fields."""
    return " ".join(log.fields)


def _line(log: FlowLog, interface: Watched, values: Mapping[str, str]) -> str:
    known = {"version": str(log.version), **interface.facts, **values}
    return " ".join(known.get(name, NOTHING) for name in log.fields)


def _values(flow: Flow, count: Count, interface: Watched, services: Services, epoch_ms: int) -> dict[str, str]:
    leaves = flow.direction is Direction.EGRESS
    return {
        "srcaddr": str(interface.own(flow.source) if leaves else flow.source),
        "dstaddr": str(flow.destination if leaves else interface.own(flow.destination)),
        "pkt-srcaddr": str(flow.source),
        "pkt-dstaddr": str(flow.destination),
        "srcport": str(flow.source_port),
        "dstport": str(flow.destination_port),
        "protocol": str(flow.protocol),
        "packets": str(count.packets),
        "bytes": str(count.bytes),
        "start": str((count.first_ms + epoch_ms) // 1000),
        "end": str((count.last_ms + epoch_ms) // 1000),
        "action": "REJECT" if flow.refused else "ACCEPT",
        "log-status": "OK",
        "tcp-flags": str(count.tcp_flags),
        "type": f"IPv{flow.source.version}",
        "pkt-src-aws-service": services.of(flow.source),
        "pkt-dst-aws-service": services.of(flow.destination),
        "flow-direction": flow.direction.name.lower(),
        "traffic-path": str(int(flow.path)) if leaves and flow.path else NOTHING,
    }

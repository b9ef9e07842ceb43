"""A lab with gateway load balancers, and appliances that send back what they get.

Nothing here knows how the engines build GENEVE: offsets are those of RFC 8926, section 3.4, behind 28 bytes of IPv4 and
UDP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from dataplane.topology.runtime_state import FormerTarget, RuntimeState, TargetHealth
from dataplane.verdict import Verdict
from tests.scenario.network import Network, Result, Sent

# VPC shop has an internet gateway whose table leads to the endpoint for subnets apps; apps and data reach each other
# and the internet through it too. VPC twin has the same addresses and an endpoint of its own. VPC security has the
# appliances: two in zone a, one in zone b.
LAB = """
version: 1
name: inspected
vpcs:
  shop:
    cidr: 10.0.0.0/16
    ipv6_cidrs: ["2001:db8:10::/56"]
    internet_gateway: {route_table: ingress}
    subnets:
      gwlbe: {cidr: 10.0.1.0/24, ipv6_cidr: "2001:db8:10:1::/64", availability_zone: a, route_table: gwlbe}
      apps: {cidr: 10.0.2.0/24, ipv6_cidr: "2001:db8:10:2::/64", availability_zone: a, route_table: apps}
      data: {cidr: 10.0.3.0/24, ipv6_cidr: "2001:db8:10:3::/64", availability_zone: a, route_table: data}
    route_tables:
      ingress:
        routes:
          - {destination: 10.0.2.0/24, target: "vpc-endpoint:inspect"}
          - {destination: "2001:db8:10:2::/64", target: "vpc-endpoint:inspect"}
      gwlbe:
        routes:
          - {destination: 0.0.0.0/0, target: internet-gateway}
          - {destination: "::/0", target: internet-gateway}
      apps:
        routes:
          - {destination: 0.0.0.0/0, target: "vpc-endpoint:inspect"}
          - {destination: "::/0", target: "vpc-endpoint:inspect"}
          - {destination: 10.0.3.0/24, target: "vpc-endpoint:inspect"}
      data: {routes: [{destination: 10.0.2.0/24, target: "vpc-endpoint:inspect"}]}
    security_groups:
      open:
        description: everything
        ingress: [{protocol: all, source: 0.0.0.0/0}, {protocol: all, source: "::/0"}]
    gateway_load_balancer_endpoints:
      inspect: {service: security/inspection, subnet: gwlbe, private_ip: 10.0.1.10, id: vpce-0f583215d2e66b39c}
  twin:
    cidr: 10.0.0.0/16
    subnets:
      gwlbe: {cidr: 10.0.1.0/24, availability_zone: a}
      apps: {cidr: 10.0.2.0/24, availability_zone: a, route_table: apps}
      data: {cidr: 10.0.3.0/24, availability_zone: a, route_table: data}
    route_tables:
      apps: {routes: [{destination: 10.0.3.0/24, target: "vpc-endpoint:inspect"}]}
      data: {routes: [{destination: 10.0.2.0/24, target: "vpc-endpoint:inspect"}]}
    security_groups:
      open: {description: everything, ingress: [{protocol: all, source: 0.0.0.0/0}]}
    gateway_load_balancer_endpoints:
      inspect: {service: security/inspection, subnet: gwlbe, private_ip: 10.0.1.10, id: vpce-00000000000000001}
  security:
    cidr: 10.9.0.0/16
    subnets:
      fw-a: {cidr: 10.9.1.0/24, availability_zone: a}
      fw-b: {cidr: 10.9.2.0/24, availability_zone: b}
    security_groups:
      fw: {description: appliances, ingress: [{protocol: udp, ports: 6081, source: 10.9.0.0/16}]}
    gateway_load_balancers:
      inspection: {subnets: [fw-a, fw-b], private_ips: {fw-a: 10.9.1.10, fw-b: 10.9.2.10}, target_group: fleet}
    target_groups:
      fleet: {targets: [fw1, fw2, fw3]}
    endpoint_services:
      inspection: {gateway_load_balancer: inspection, acceptance_required: false, allowed_principals: ["*"]}
instances:
  app: {vpc: shop, subnet: apps, private_ip: 10.0.2.10, ipv6_address: "2001:db8:10:2::10", elastic_ip: 203.0.113.20,
    security_groups: [open]}
  db: {vpc: shop, subnet: data, private_ip: 10.0.3.10, ipv6_address: "2001:db8:10:3::10", security_groups: [open]}
  neighbour: {vpc: shop, subnet: gwlbe, private_ip: 10.0.1.20, security_groups: [open]}
  app2: {vpc: twin, subnet: apps, private_ip: 10.0.2.10, security_groups: [open]}
  db2: {vpc: twin, subnet: data, private_ip: 10.0.3.10, security_groups: [open]}
  fw1: {vpc: security, subnet: fw-a, private_ip: 10.9.1.21, security_groups: [fw]}
  fw2: {vpc: security, subnet: fw-a, private_ip: 10.9.1.22, security_groups: [fw]}
  fw3: {vpc: security, subnet: fw-b, private_ip: 10.9.2.23, security_groups: [fw]}
internet:
  hosts:
    far: {address: 198.51.100.10, ipv6_address: "2001:db8:99::10"}
"""
APP, DB, FAR, APP_OUTSIDE = "10.0.2.10", "10.0.3.10", "198.51.100.10", "203.0.113.20"
APP6, DB6, FAR6 = "2001:db8:10:2::10", "2001:db8:10:3::10", "2001:db8:99::10"
NODE_A, NODE_B = "10.9.1.10", "10.9.2.10"
ONE = LAB.replace("targets: [fw1, fw2, fw3]", "targets: [fw1]")
"""One appliance, so that nothing is left to choose."""
IN_A, EVERYBODY = {"fw1", "fw2"}, {"fw1", "fw2", "fw3"}
ENDPOINT_ID = bytes.fromhex("f583215d2e66b39c")


def group(**attributes: object) -> str:
    """The lab, with attributes of the target group; values are as in YAML."""
    more = "".join(f", {name}: {value}" for name, value in attributes.items())
    return LAB.replace("fleet: {targets: [fw1, fw2, fw3]}", f"fleet: {{targets: [fw1, fw2, fw3]{more}}}")


def balancer(text: str = LAB, **attributes: object) -> str:
    """The lab, with attributes of the load balancer."""
    more = "".join(f", {name}: {value}" for name, value in attributes.items())
    return text.replace("target_group: fleet}", f"target_group: fleet{more}}}")


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a target got: one GENEVE packet."""

    target: str
    outer: bytes

    @property
    def source(self) -> str:
        return str(IPv4Address(self.outer[12:16]))

    @property
    def destination(self) -> str:
        return str(IPv4Address(self.outer[16:20]))

    @property
    def source_port(self) -> int:
        return int.from_bytes(self.outer[20:22])

    @property
    def geneve(self) -> bytes:
        """Header and options."""
        return self.outer[28:68]

    @property
    def endpoint(self) -> bytes:
        return self.outer[40:48]

    @property
    def cookie(self) -> bytes:
        return self.outer[64:68]

    @property
    def inside(self) -> bytes:
        return self.outer[68:]

    @property
    def packet(self) -> Any:
        """What is inside, as scapy reads it."""
        return (IP if self.inside[0] >> 4 == 4 else IPv6)(self.inside)

    @property
    def identity(self) -> tuple[bytes, bytes, int]:
        """What is the same in all packets of a flow."""
        return self.endpoint, self.cookie, self.source_port


def delivery(sent: Sent) -> Delivery:
    return Delivery(sent.node, bytes(sent.packet))


def delivered(result: Result) -> Delivery:
    """The only packet that a target got."""
    assert result.verdict is Verdict.FORWARD, result
    [sent] = result.sent
    return delivery(sent)


def answer(got: Delivery, *, geneve: bytes | None = None, inside: bytes | None = None, **udp: Any) -> Any:
    """What an appliance sends back: outer addresses swapped, ports not, everything else as it came, unless said."""
    body = (got.geneve if geneve is None else geneve) + (got.inside if inside is None else inside)
    ports = {"sport": got.source_port, "dport": 6081, "chksum": 0} | udp
    return IP(src=got.destination, dst=got.source, ttl=2) / UDP(**ports) / Raw(body)


def send_back(net: Network, got: Delivery, **changes: Any) -> Result:
    """The target sends a packet back."""
    return net.send(got.target, answer(got, **changes))


def through(net: Network, node: str, packet: Any) -> Result:
    """Send a packet that is inspected once: what becomes of it behind the endpoint."""
    return send_back(net, delivered(net.send(node, packet)))


def set_state(
    net: Network, states: Mapping[str, Any] | None = None, former: Mapping[str, tuple[str, bool]] | None = None
) -> None:
    """Say how targets are (in AWS's words), and which have been deregistered: address, and whether it is drained."""
    health = {("security", "fleet", name): TargetHealth(state=state) for name, state in (states or {}).items()}
    gone = tuple(
        FormerTarget(name=name, address=IPv4Address(address), zone="us-east-1a", drained=drained, until_ms=0)
        for name, (address, drained) in (former or {}).items()
    )
    state = RuntimeState(health=health, former={("security", "fleet"): gone})
    net.plane.apply(net.plane.topology.with_runtime(state))


def targets_of_flows(net: Network, count: int = 40, **ports: int) -> set[str]:
    """Who gets the first packets of many flows."""
    first = ports.get("first", 1000)
    flows = (IP(src=APP, dst=DB) / UDP(sport=first + n, dport=53) for n in range(count))
    return {delivered(net.send("app", packet)).target for packet in flows}

"""Gateway endpoints: S3 and DynamoDB by a route, inside of AWS, without a public address."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Raw

from dataplane.verdict import Reason
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import accepted, changed, refused
from tests.conformance.sources import ec2_guide, peering_guide, privatelink_guide, reachability
from tests.scenario.network import Network

SECTION = "Endpoints"

PAGE, S3_PAGE = privatelink_guide("gateway-endpoints"), privatelink_guide("vpc-endpoints-s3")
QUOTAS = privatelink_guide("vpc-limits-endpoints")

# VPC a has gateway endpoints in the table of its private subnet; twin has the same addresses; b is a peer of a.
LAB = """
version: 1
vpcs:
  a:
    cidr: 10.0.0.0/16
    internet_gateway: {}
    subnets:
      public: {cidr: 10.0.1.0/24, route_table: public}
      private: {cidr: 10.0.2.0/24, route_table: private}
    route_tables:
      public:
        routes:
          - {destination: 0.0.0.0/0, target: internet-gateway}
          - {destination: 10.1.0.0/16, target: "peering:a-b"}
      private:
        routes:
          - {destination: 0.0.0.0/0, target: "nat-gateway:nat"}
          - {destination: 10.1.0.0/16, target: "peering:a-b"}
    nat_gateways: {nat: {subnet: public, elastic_ip: 203.0.113.10, private_ip: 10.0.1.5}}
    security_groups:
      open: {description: everything, ingress: [{protocol: all, source: 0.0.0.0/0}]}
      strict:
        description: to S3 and nowhere else
        egress: [{protocol: tcp, ports: 443, destination: "prefix-list:com.amazonaws.us-east-1.s3"}]
    gateway_endpoints:
      s3: {service: s3, route_tables: [private]}
      tables: {service: dynamodb, route_tables: [private]}
  twin:
    cidr: 10.0.0.0/16
    subnets: {private: {cidr: 10.0.2.0/24}}
    security_groups: &open {open: {description: everything, ingress: [{protocol: all, source: 0.0.0.0/0}]}}
    gateway_endpoints: {s3: {service: s3, route_tables: [main]}}
  b:
    cidr: 10.1.0.0/16
    subnets: {net: {cidr: 10.1.1.0/24, route_table: net}}
    route_tables: {net: {routes: [{destination: 0.0.0.0/0, target: "peering:a-b"}]}}
    security_groups: *open
peerings: {a-b: {requester: a, accepter: b}}
instances:
  app: {vpc: a, subnet: private, private_ip: 10.0.2.10, security_groups: [open], source_dest_check: false}
  strict: {vpc: a, subnet: private, private_ip: 10.0.2.20, security_groups: [strict]}
  web: {vpc: a, subnet: public, private_ip: 10.0.1.10, elastic_ip: 203.0.113.20, security_groups: [open]}
  twin: {vpc: twin, subnet: private, private_ip: 10.0.2.10, security_groups: [open]}
  b: {vpc: b, subnet: net, private_ip: 10.1.1.10, security_groups: [open]}
aws_services:
  s3: {address: 52.216.0.10, prefixes: [52.216.0.0/15]}
  dynamodb: {address: 52.94.0.10, prefixes: [52.94.0.0/22]}
internet: {hosts: {far: {address: 198.51.100.10}}}
"""
APP, WEB, B, S3, TABLES, FAR = "10.0.2.10", "10.0.1.10", "10.1.1.10", "52.216.0.10", "52.94.0.10", "198.51.100.10"
ROUTES = "      private:\n        routes:\n"
SYN = IP(src=APP, dst=S3) / TCP(sport=40000, dport=443, flags="S")
SYN_ACK = IP(src=S3, dst=APP) / TCP(sport=443, dport=40000, flags="SA")


# -- routes


@behaviour("An instance without a public address reaches S3 through a gateway endpoint", source=PAGE)
def test_without_a_public_address() -> None:
    """VPC twin has no gateway to the internet at all."""
    network = Network(LAB)
    assert network.send("twin", SYN).to == "s3"
    assert network.send("s3", SYN_ACK).to == "twin"


@behaviour("Behind a gateway endpoint the service sees the private address of who calls", source=S3_PAGE)
def test_private_address() -> None:
    packet = Network(LAB).send("app", SYN).packet
    assert (packet.src, packet[TCP].sport) == (APP, 40000)


@behaviour("Other subnets reach the service at its public endpoint, by their own gateways", source=PAGE)
def test_other_tables() -> None:
    network = Network(LAB)
    result = network.send("web", IP(src=WEB, dst=S3) / TCP(sport=1, dport=443, flags="S"))
    assert (result.to, result.packet.src) == ("s3", "203.0.113.20")
    assert network.send("s3", IP(src=S3, dst="203.0.113.20") / TCP(sport=443, dport=1, flags="SA")).to == "web"


@behaviour(
    "The route for the service's prefix list is more specific than 0.0.0.0/0; everything else takes that", source=PAGE
)
def test_longest_prefix() -> None:
    network = Network(LAB)
    assert network.send("app", SYN).packet.src == APP
    result = network.send("app", IP(src=APP, dst=FAR) / TCP(sport=1, dport=443, flags="S"))
    assert (result.to, result.packet.src) == ("far", "203.0.113.10")


@behaviour("A route of one's own for exactly a block of the service takes precedence over the endpoint's", source=PAGE)
def test_route_of_ones_own() -> None:
    for block, reason in (("52.216.0.0/15", Reason.BLACKHOLE), ("52.0.0.0/8", Reason.NONE)):
        own = f"{ROUTES}          - {{destination: {block}, target: blackhole}}\n"
        assert Network(changed(LAB, (ROUTES, own))).send("app", SYN).reason is reason


@behaviour("A table has endpoints of both services, but not two of one", source=PAGE)
def test_one_for_each_service() -> None:
    network = Network(LAB)
    assert network.send("app", SYN).to == "s3"
    assert network.send("app", IP(src=APP, dst=TABLES) / TCP(sport=1, dport=443, flags="S")).to == "dynamodb"
    line = "      tables: {service: dynamodb, route_tables: [private]}\n"
    found = refused(changed(LAB, (line, f"{line}      more: {{service: s3, route_tables: [private]}}\n")))
    assert found == {("vpcs.a.gateway_endpoints.more.route_tables[0]", "RouteAlreadyExists")}


@behaviour("No route to a gateway endpoint is written by hand: it puts them into its tables itself", source=PAGE)
def test_route_by_hand() -> None:
    route = ROUTES + '          - {destination: 198.51.100.0/24, target: "vpc-endpoint:s3"}\n'
    at = "vpcs.a.route_tables.private.routes[0].target"
    assert (at, "InvalidParameterValue") in refused(changed(LAB, (ROUTES, route)))


@behaviour("A gateway endpoint is for the service of its own Region", source=S3_PAGE)
def test_own_region() -> None:
    peering = "a-b: {requester: a, accepter: b"
    endpoint = "    gateway_endpoints: {s3: {service: s3}}\npeerings:"
    text = changed(LAB, (f"{peering}}}", f"{peering}, accepter_region: eu-west-1}}"), ("peerings:", endpoint))
    assert ("vpcs.b.gateway_endpoints.s3.service", "InvalidServiceName") in refused(text)


@behaviour(
    "A new endpoint switches routes under open connections: the service suddenly sees a private source, and they break",
    source=S3_PAGE,
)
def test_new_endpoint() -> None:
    network = Network(LAB)
    segment = IP(src=WEB, dst=S3) / TCP(sport=1, dport=443, flags="A")
    assert network.send("web", segment).packet.src == "203.0.113.20"
    network.apply(
        changed(LAB, ("s3: {service: s3, route_tables: [private]}", "s3: {service: s3, route_tables: [public]}"))
    )
    assert network.send("web", segment).packet.src == WEB


# -- what passes


@behaviour("A gateway endpoint takes TCP and pings, and nothing else", source=reachability())
@pytest.mark.parametrize(
    ("packet", "passes"),
    [
        (TCP(sport=1, dport=443, flags="S"), True),
        (TCP(sport=1, dport=9999, flags="A"), True),
        (ICMP(type=8, id=7), True),
        (ICMP(type=0, id=7), False),
        (ICMP(type=13, id=7), False),
        (UDP(sport=1, dport=53), False),
        (UDP(sport=1, dport=443), False),
        (Raw(b"GRE"), False),
    ],
)
def test_protocols(packet: Any, passes: bool) -> None:
    head = IP(src=APP, dst=S3, proto=47) if isinstance(packet, Raw) else IP(src=APP, dst=S3)
    result = Network(LAB).send("app", head / packet)
    assert result.reason is (Reason.NONE if passes else Reason.ENDPOINT_PROTOCOL)
    assert [sent.node for sent in result.sent] == (["s3"] if passes else [])


@behaviour("What comes out of it is TCP and answers to pings, and nothing else", source=reachability())
def test_protocols_of_answers() -> None:
    network = Network(LAB)
    network.send("app", SYN)
    network.send("app", IP(src=APP, dst=S3) / ICMP(type=8, id=7))
    assert network.send("s3", SYN_ACK).to == "app"
    assert network.send("s3", IP(src=S3, dst=APP) / ICMP(type=0, id=7)).to == "app"
    error = IP(src=S3, dst=APP) / ICMP(type=3, code=3) / Raw(bytes(SYN)[:28])
    assert network.send("s3", error).reason is Reason.ENDPOINT_PROTOCOL


@behaviour("The service begins nothing with a VPC: what answers no packet of the VPC does not come in", source=PAGE)
@pytest.mark.parametrize(
    "packet", [TCP(sport=443, dport=22, flags="S"), TCP(sport=443, dport=40001, flags="SA"), ICMP(), UDP(dport=53)]
)
def test_unsolicited(packet: Any) -> None:
    network = Network(LAB)
    network.send("app", SYN)
    assert network.send("s3", IP(src=S3, dst=APP) / packet).sent == ()


@behaviour("Over 8500 bytes packets are dropped at a gateway endpoint, and nobody is told", source=QUOTAS)
def test_too_big() -> None:
    network = Network(LAB)
    for flags in ("", "DF"):
        head = IP(src=APP, dst=S3, flags=flags) / TCP(sport=1, dport=443, flags="A")
        assert len(network.send("app", head / Raw(bytes(8460))).packet) == 8500
        result = network.send("app", head / Raw(bytes(8461)))
        assert (result.reason, result.sent) == (Reason.MTU_EXCEEDED, ())


@behaviour("A gateway endpoint lowers the segment size that SYNs of both sides tell", source=QUOTAS)
def test_segment_size() -> None:
    network = Network(LAB)
    for node, packet in (("app", SYN), ("s3", SYN_ACK)):
        asking = packet.copy()
        asking[TCP].options = [("MSS", 8961)]
        assert dict(network.send(node, asking).packet[TCP].options)["MSS"] == 8460


# -- who decides


@behaviour("A security group lets the service in its rules by its prefix list", source=PAGE)
def test_group() -> None:
    network = Network(LAB)
    assert network.send("strict", IP(src="10.0.2.20", dst=S3) / TCP(sport=1, dport=443, flags="S")).to == "s3"
    assert network.send("s3", IP(src=S3, dst="10.0.2.20") / TCP(sport=443, dport=1, flags="SA")).to == "strict"
    for address, port in ((S3, 80), (TABLES, 443), (FAR, 443)):
        packet = IP(src="10.0.2.20", dst=address) / TCP(sport=1, dport=port, flags="S")
        assert network.send("strict", packet).reason is Reason.GROUP_EGRESS


@behaviour("A network ACL lets it pass by its blocks, both ways: prefix lists are not for ACLs", source=PAGE)
def test_acl() -> None:
    subnet = "private: {cidr: 10.0.2.0/24, route_table: private"
    acl = (
        "    network_acls:\n      strict:\n"
        "        egress: [{rule: 1, protocol: tcp, ports: 443, cidr: 52.216.0.0/15, action: allow}]\n"
        "        ingress: [{rule: 1, protocol: tcp, ports: 40000, cidr: 52.216.0.0/15, action: allow}]\n"
        "    nat_gateways:"
    )
    text = changed(LAB, (subnet, f"{subnet}, network_acl: strict"), ("    nat_gateways:", acl))
    network = Network(text)
    assert network.send("app", SYN).to == "s3"
    assert network.send("s3", SYN_ACK).to == "app"
    assert network.send("app", IP(src=APP, dst=TABLES) / TCP(sport=40000, dport=443)).reason is Reason.ACL_EGRESS
    other = SYN.copy()
    other[TCP].sport = 40001
    assert network.send("app", other).to == "s3"
    back = IP(src=S3, dst=APP) / TCP(sport=443, dport=40001, flags="SA")
    assert network.send("s3", back).reason is Reason.ACL_INGRESS
    listed = changed(text, ("cidr: 52.216.0.0/15, action", 'cidr: "prefix-list:com.amazonaws.us-east-1.s3", action'))
    assert refused(listed)


@behaviour(
    "Flows to DynamoDB through a gateway endpoint are tracked whatever the rules say: they live on without them",
    source=ec2_guide("security-group-connection-tracking"),
)
@pytest.mark.parametrize(("address", "node", "lives"), [(TABLES, "dynamodb", True), (S3, "s3", False)])
def test_tracking(address: str, node: str, lives: bool) -> None:
    network = Network(LAB)
    network.send("app", IP(src=APP, dst=address) / TCP(sport=1, dport=443, flags="S"))
    everything = "open: {description: everything, ingress: [{protocol: all, source: 0.0.0.0/0}]}\n      strict"
    network.apply(changed(LAB, (everything, "open: {description: nothing in}\n      strict")))
    result = network.send(node, IP(src=address, dst=APP) / TCP(sport=443, dport=1, flags="SA"))
    assert result.reason is (Reason.NONE if lives else Reason.GROUP_INGRESS)


# -- who may use it


@behaviour(
    "A peering is not a way to a gateway endpoint: what B sends a service by way of A is dropped",
    source=peering_guide("vpc-peering-basics"),
    item=37,
)
@pytest.mark.parametrize("node_address", [S3, TABLES])
def test_peer(node_address: str) -> None:
    network = Network(LAB)
    assert network.send("b", IP(src=B, dst=APP) / ICMP()).to == "app"
    for packet in (TCP(sport=1, dport=443, flags="S"), ICMP(id=7)):
        result = network.send("b", IP(src=B, dst=node_address) / packet)
        assert (result.reason, result.sent) == (Reason.PEER_DESTINATION, ())


@behaviour("Nor does an instance that forwards lend the endpoint to a peer, or to the internet", source=S3_PAGE)
@pytest.mark.parametrize("source", [B, FAR, "192.168.0.1"])
def test_forwarded(source: str) -> None:
    result = Network(LAB).send("app", IP(src=source, dst=S3) / TCP(sport=1, dport=443, flags="S"))
    assert (result.reason, result.sent) == (Reason.ENDPOINT_FROM_OUTSIDE, ())


@behaviour(
    "A NAT gateway uses the endpoint in its own subnet's table: the service sees its private address",
    silent=True,
    source=PAGE,
)
def test_nat_gateway() -> None:
    network = Network(
        changed(LAB, ("s3: {service: s3, route_tables: [private]}", "s3: {service: s3, route_tables: [public]}"))
    )
    result = network.send("app", SYN)
    assert (result.to, result.packet.src) == ("s3", "10.0.1.5")
    answer = IP(src=S3, dst="10.0.1.5") / TCP(sport=443, dport=result.packet[TCP].sport, flags="SA")
    back = network.send("s3", answer)
    assert (back.to, back.packet.dst) == ("app", APP)


@behaviour("Of VPCs with the same addresses each gets the answers to its own packets", silent=True, source=S3_PAGE)
def test_same_addresses() -> None:
    network = Network(LAB)
    other, back = SYN.copy(), SYN_ACK.copy()
    other[TCP].sport = back[TCP].dport = 40001
    assert network.send("app", SYN).to == "s3"
    assert network.send("twin", other).to == "s3"
    assert [network.send("s3", each).to for each in (back, SYN_ACK)] == ["twin", "app"]


@behaviour(
    "A service cannot tell two flows with the same addresses and ports apart: that of the second VPC is dropped while "
    "the first lives",
    silent=True,
    source=S3_PAGE,
)
def test_same_flow() -> None:
    network = Network(LAB)
    network.send("app", SYN)
    result = network.send("twin", SYN)
    assert (result.reason, result.sent) == (Reason.ENDPOINT_CONFLICT, ())
    network.wait(350)
    assert network.send("twin", SYN).to == "s3"
    assert network.send("s3", SYN_ACK).to == "twin"


@behaviour(
    "A packet through a gateway endpoint loses one of its TTL, and nobody is told when it ends",
    silent=True,
    source=PAGE,
)
def test_ttl() -> None:
    network = Network(LAB)
    for ttl in (2, 1):
        packet = SYN.copy()
        packet.ttl = ttl
        result = network.send("app", packet)
        assert [sent.packet.ttl for sent in result.sent] == ([1] if ttl == 2 else [])


@behaviour("Endpoints that are in no table lead nobody to the service", source=PAGE)
def test_no_tables() -> None:
    text = changed(LAB, ("s3: {service: s3, route_tables: [private]}", "s3: {service: s3}"))
    accepted(text)
    assert Network(text).send("app", SYN).packet.src == "203.0.113.10"

"""Flow logs: AWS's published example records, made again by packets like those they are of.

Ids, which follow from names here, are put in the place of AWS's.
https://docs.aws.amazon.com/vpc/latest/userguide/flow-logs-records-examples.html
https://docs.aws.amazon.com/vpc/latest/userguide/flow-logs-limitations.html
"""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from dataplane.observe.aws_ids import aws_id, zone_id
from dataplane.verdict import Reason, Verdict
from tests.scenario.network import Network

ENI = "eni-1235b8ca123456789"
TCP_FLAG_FORMAT = (
    "version vpc-id subnet-id instance-id interface-id account-id type srcaddr dstaddr srcport dstport pkt-srcaddr "
    "pkt-dstaddr protocol bytes packets start end action tcp-flags log-status"
)
SERVICE_FORMAT = (
    "version srcaddr dstaddr srcport dstport protocol start end type packets bytes account-id vpc-id subnet-id "
    "instance-id interface-id region az-id sublocation-type sublocation-id action tcp-flags pkt-srcaddr pkt-dstaddr "
    "pkt-src-aws-service pkt-dst-aws-service traffic-path flow-direction log-status"
)


def fields(names: str) -> str:
    return " ".join(f"${{{name}}}" for name in names.split())


def home(acl: str = "", ingress: str = "[{protocol: all, source: 0.0.0.0/0}, {protocol: all, source: '::/0'}]") -> str:
    """VPC of the first examples: an instance in each of two subnets, and somebody at home on the internet."""
    return f"""
version: 1
name: home
vpcs:
  shop:
    cidr: 172.31.0.0/16
    ipv6_cidrs: ["2001:db8:1234:a100::/56"]
    account: "123456789010"
    internet_gateway: {{}}
    subnets:
      one:
        cidr: 172.31.16.0/20
        ipv6_cidr: 2001:db8:1234:a102::/64
        availability_zone: a
        route_table: out
        network_acl: {"acl" if acl else "default"}
      two: {{cidr: 172.31.0.0/20, ipv6_cidr: "2001:db8:1234:a100::/64", availability_zone: a, route_table: out}}
    route_tables: {{out: {{routes: [{{destination: 0.0.0.0/0, target: internet-gateway}}]}}}}
    network_acls: {{{acl}}}
    security_groups:
      server:
        description: as the example says
        ingress: {ingress}
        egress: [{{protocol: tcp, ports: 0-65535, destination: 0.0.0.0/0}}]
      client:
        description: whoever asks
        egress: [{{protocol: all, destination: 0.0.0.0/0}}, {{protocol: all, destination: "::/0"}}]
    flow_logs: {{one: {{network_interface: server/eth0}}}}
instances:
  server:
    vpc: shop
    subnet: one
    private_ip: 172.31.16.21
    secondary_private_ips: [172.31.16.22]
    ipv6_address: 2001:db8:1234:a102:3304:8879:34cf:4071
    elastic_ip: 203.0.113.80
    security_groups: [server]
  near: {{vpc: shop, subnet: one, private_ip: 172.31.16.139, security_groups: [client]}}
  far:
    vpc: shop
    subnet: two
    private_ip: 172.31.9.69
    ipv6_address: 2001:db8:1234:a100:8d6e:3477:df66:f105
    security_groups: [client]
internet:
  hosts:
    home: {{address: 203.0.113.12}}
"""


def split(packets: int, size: int, least: int) -> list[int]:
    """Sizes of so many packets that have `size` bytes together, none of fewer than `least` bytes."""
    each, rest = divmod(size, packets)
    assert each >= least
    return [each + rest] + [each] * (packets - 1)


def at(network: Network, *times_s: int) -> Any:
    """Let lab time be each of these times in turn."""
    for time_s in times_s:
        network.now = time_s * 1000
        yield time_s


def spread(first: int, last: int, count: int) -> list[int]:
    return [first + (last - first) * n // (count - 1) for n in range(count)]


def log_of(network: Network, path: str = "shop/one", **ids: str) -> list[str]:
    """Records, with AWS's ids in the place of ours."""
    found = []
    for line in network.flow_log(path):
        for kind, name in ids.items():
            prefix, _, own = kind.partition("_")
            line = line.replace(aws_id(prefix, own.replace("__", " ").replace("_", "/")), name)
        found.append(line)
    return found


SERVER = {"eni_interface__server_eth0": ENI}


@pytest.mark.parametrize(
    ("node", "source", "ports", "action"),
    [("near", "172.31.16.139", (20641, 22), "ACCEPT"), ("far", "172.31.9.69", (49761, 3389), "REJECT")],
)
def test_ssh_is_accepted_and_remote_desktop_rejected(
    node: str, source: str, ports: tuple[int, int], action: str
) -> None:
    network = Network(home(ingress="[{protocol: tcp, ports: 22, source: 172.31.0.0/16}]"))
    sizes = split(20, 4249, 40)
    for number, _ in enumerate(at(network, *spread(1418530010, 1418530070, 20))):
        flags = "S" if number == 0 or action == "REJECT" else "A"
        packet = IP(src=source, dst="172.31.16.21") / TCP(sport=ports[0], dport=ports[1], flags=flags)
        network.send(node, packet / Raw(bytes(sizes[number] - 40)))
    expected = (
        f"2 123456789010 {ENI} {source} 172.31.16.21 {ports[0]} {ports[1]} 6 20 4249 1418530010 1418530070 {action} OK"
    )
    assert log_of(network, **SERVER) == [expected]


def test_times_are_seconds_that_have_begun() -> None:
    """As Unix time is counted: what comes 999 ms after a second is of that second, at both ends of a record."""
    network = Network(home(ingress="[{protocol: udp, ports: 53, source: 172.31.0.0/16}]"))
    for now_ms in (1418530010_999, 1418530012_001, 1418530013_999):
        network.now = now_ms
        network.send("near", IP(src="172.31.16.139", dst="172.31.16.21") / UDP(sport=20641, dport=53))
    [line] = log_of(network)
    assert line.split()[10:12] == ["1418530010", "1418530013"]


def test_ipv6() -> None:
    network = Network(home())
    a, b = "2001:db8:1234:a100:8d6e:3477:df66:f105", "2001:db8:1234:a102:3304:8879:34cf:4071"
    sizes = split(54, 8855, 60)
    for number, _ in enumerate(at(network, *spread(1477913708, 1477913820, 54))):
        packet = IPv6(src=a, dst=b) / TCP(sport=34892, dport=22, flags="A" if number else "S")
        network.send("far", packet / Raw(bytes(sizes[number] - 60)))
    assert log_of(network, **SERVER) == [
        f"2 123456789010 {ENI} {a} {b} 34892 22 6 54 8855 1477913708 1477913820 ACCEPT OK"
    ]


def ping_home(network: Network) -> None:
    """Four pings from home, and the answers to those that arrive; the last three answer late."""
    for number, time_s in enumerate(at(network, 1432917027, 1432917094, 1432917120, 1432917142)):
        result = network.send("home", IP(src="203.0.113.12", dst="203.0.113.80") / ICMP(id=9, seq=number) / bytes(56))
        if result.verdict is Verdict.FORWARD and time_s != 1432917027:
            answer = IP(src="172.31.16.21", dst="203.0.113.12") / ICMP(type=0, id=9, seq=number) / bytes(56)
            for _ in range(2 if time_s == 1432917094 else 1):
                network.send("server", answer)


PING_IN = f"2 123456789010 {ENI} 203.0.113.12 172.31.16.21 0 0 1 4 336 1432917027 1432917142"
PING_OUT = f"2 123456789010 {ENI} 172.31.16.21 203.0.113.12 0 0 1 4 336 1432917094 1432917142"
NO_PINGS_OUT = (
    "acl: {ingress: [{rule: 100, action: allow, protocol: all, cidr: 0.0.0.0/0}], egress: "
    "[{rule: 100, action: allow, protocol: tcp, ports: 0-65535, cidr: 0.0.0.0/0}]}"
)


def test_an_answer_that_the_acl_denies_is_rejected_though_the_group_lets_it_pass() -> None:
    network = Network(home(NO_PINGS_OUT))
    ping_home(network)
    assert log_of(network, **SERVER) == [f"{PING_IN} ACCEPT OK", f"{PING_OUT} REJECT OK"]


def test_an_answer_that_the_acl_allows_is_accepted() -> None:
    network = Network(home())
    ping_home(network)
    assert log_of(network, **SERVER) == [f"{PING_IN} ACCEPT OK", f"{PING_OUT} ACCEPT OK"]


def test_a_ping_that_the_group_denies_is_rejected_and_that_is_all() -> None:
    network = Network(home(ingress="[]"))
    ping_home(network)
    assert log_of(network, **SERVER) == [f"{PING_IN} REJECT OK"]


def test_without_traffic_there_is_a_record_that_says_so() -> None:
    network = Network(home())
    network.now = 1431280900_000
    assert log_of(network, **SERVER) == [f"2 123456789010 {ENI} - - - - - - - 1431280800 1431281400 - NODATA"]


def test_addresses_are_the_primary_ones_whatever_the_packet_has() -> None:
    network = Network(home())
    network.send("near", IP(src="172.31.16.139", dst="172.31.16.22") / UDP(sport=1, dport=2))
    [line] = log_of(network)
    assert line.split()[3:5] == ["172.31.16.139", "172.31.16.21"]


SHOP = f"""
version: 1
name: shop
region: ap-southeast-2
vpcs:
  shop:
    cidr: 10.0.0.0/16
    account: "123456789012"
    internet_gateway: {{}}
    subnets:
      public: {{cidr: 10.0.0.0/24, availability_zone: c, route_table: public}}
      private: {{cidr: 10.0.1.0/24, availability_zone: c, route_table: private}}
    route_tables:
      public: {{routes: [{{destination: 0.0.0.0/0, target: internet-gateway}}]}}
      private: {{routes: [{{destination: 0.0.0.0/0, target: "nat-gateway:out"}}]}}
    nat_gateways:
      out: {{subnet: public, private_ip: 10.0.0.220, elastic_ip: 203.0.113.11}}
    security_groups:
      open: {{description: everybody, ingress: [{{protocol: all, source: 0.0.0.0/0}}]}}
    flow_logs:
      flags: {{network_interface: server/eth0, log_format: "{fields(TCP_FLAG_FORMAT)}"}}
      service: {{network_interface: web/eth0, log_format: "{fields(SERVICE_FORMAT)}"}}
      nat:
        network_interface: "nat-gateway:out"
        log_format: "${{instance-id}} ${{interface-id}} ${{srcaddr}} ${{dstaddr}} ${{pkt-srcaddr}} ${{pkt-dstaddr}}"
      inside:
        network_interface: private/eth0
        log_format: "${{instance-id}} ${{interface-id}} ${{srcaddr}} ${{dstaddr}} ${{pkt-srcaddr}} ${{pkt-dstaddr}}"
      paths:
        log_format: "{fields("interface-id pkt-srcaddr pkt-dstaddr flow-direction traffic-path action")}"
aws_services:
  s3: {{address: 52.95.128.179, prefixes: [52.95.128.0/21]}}
instances:
  server: {{vpc: shop, subnet: public, private_ip: 10.0.0.62, elastic_ip: 203.0.113.62, security_groups: [open]}}
  web: {{vpc: shop, subnet: public, private_ip: 10.0.0.71, elastic_ip: 203.0.113.71}}
  private: {{vpc: shop, subnet: private, private_ip: 10.0.1.5, security_groups: [open]}}
internet:
  hosts:
    client: {{address: 52.213.180.42}}
    server5: {{address: 203.0.113.5}}
"""
OURS = {
    "vpc_shop": "vpc-abcdefab012345678",
    "subnet_shop_public": "subnet-aaaaaaaa012345678",
}
TO_SERVER = OURS | {"i_server": "i-01234567890123456", "eni_interface__server_eth0": ENI}


def converse(
    network: Network, near: tuple[str, str, str], far: tuple[str, str], ports: tuple[int, int], script: list[Any]
) -> None:
    """Segments between `near` (node, address, public address), the server, and `far` (node, address).

    Each of the script: (whether the server sends, flags, size, when).
    """
    for from_server, flags, size, time_s in script:
        network.now = time_s * 1000
        if from_server:
            packet = IP(src=near[1], dst=far[1]) / TCP(sport=ports[1], dport=ports[0], flags=flags)
        else:
            packet = IP(src=far[1], dst=near[2]) / TCP(sport=ports[0], dport=ports[1], flags=flags)
        network.send(near[0] if from_server else far[0], packet / Raw(bytes(size - 40)))


def conversation(sizes: list[int], back: list[int], first: int, last: int, *, closes: bool) -> list[Any]:
    """A connection that is opened by the other side: packets of both sides, the first and last at these times."""
    way = ["S", *["A"] * (len(sizes) - 1 - closes), *["FA"] * closes]
    answers = ["SA", *["A"] * (len(back) - 1 - closes), *["FA"] * closes]
    steps = []
    for number in range(max(len(way), len(answers))):
        for from_server, flags, each in ((False, way, sizes), (True, answers, back)):
            if number < len(flags):
                time_s = first if number == 0 else last
                steps.append((from_server, flags[number], each[number], time_s))
    return steps


NEAR, FAR = ("server", "10.0.0.62", "203.0.113.62"), ("client", "52.213.180.42")


def test_flags_of_a_short_connection() -> None:
    network = Network(SHOP)
    script = conversation(split(17, 1260, 40), split(14, 967, 40), 1566933133, 1566933193, closes=True)
    converse(network, NEAR, FAR, (43638, 5001), script)
    times = "1566933133 1566933193"
    begin = f"3 vpc-abcdefab012345678 subnet-aaaaaaaa012345678 i-01234567890123456 {ENI} 123456789012 IPv4"
    assert log_of(network, "shop/flags", **TO_SERVER) == [
        f"{begin} 52.213.180.42 10.0.0.62 43638 5001 52.213.180.42 10.0.0.62 6 1260 17 {times} ACCEPT 3 OK",
        f"{begin} 10.0.0.62 52.213.180.42 5001 43638 10.0.0.62 52.213.180.42 6 967 14 {times} ACCEPT 19 OK",
    ]


def test_flags_of_a_connection_in_two_intervals() -> None:
    """Opened in one, closed in another: 2 and 18, then 1 and 1."""
    network = Network(SHOP)
    script = conversation(split(70, 100701, 40), split(12, 632, 40), 1566848875, 1566848933, closes=False)
    converse(network, NEAR, FAR, (43418, 5001), script)
    begin = f"3 vpc-abcdefab012345678 subnet-aaaaaaaa012345678 i-01234567890123456 {ENI} 123456789012 IPv4"
    there = f"{begin} 52.213.180.42 10.0.0.62 43418 5001 52.213.180.42 10.0.0.62 6"
    back = f"{begin} 10.0.0.62 52.213.180.42 5001 43418 10.0.0.62 52.213.180.42 6"
    assert log_of(network, "shop/flags", **TO_SERVER) == [
        f"{there} 100701 70 1566848875 1566848933 ACCEPT 2 OK",
        f"{back} 632 12 1566848875 1566848933 ACCEPT 18 OK",
    ]
    ends = [(True, "FA", 52, 1566849113), (False, "FA", 52, 1566849113), (True, "A", 40, 1566849113)]
    converse(network, NEAR, FAR, (43418, 5001), [(True, "A", 1000, 1566849060), *ends])
    assert log_of(network, "shop/flags", **TO_SERVER) == [
        f"{back} 1092 3 1566849060 1566849113 ACCEPT 1 OK",
        f"{there} 52 1 1566849113 1566849113 ACCEPT 1 OK",
    ]


def test_a_call_of_s3_names_service_path_and_direction() -> None:
    network = Network(SHOP)
    near, far = ("web", "10.0.0.71", "203.0.113.71"), ("s3", "52.95.128.179")
    sizes, back = split(7, 471, 40), split(14, 15044, 40)
    steps = conversation(sizes, back, 1616729292, 1616729349, closes=True)
    converse(network, near, far, (80, 34210), [(not from_client, *rest) for from_client, *rest in steps])
    ids = OURS | {"i_web": "i-0c50d5961bcb2d47b", "eni_interface__web_eth0": ENI}
    where = f"123456789012 vpc-abcdefab012345678 subnet-aaaaaaaa012345678 i-0c50d5961bcb2d47b {ENI}"
    zone = "ap-southeast-2 apse2-az3"
    times = "1616729292 1616729349"
    there = f"5 10.0.0.71 52.95.128.179 34210 80 6 {times} IPv4 7 471 {where} {zone} - -"
    answer = f"5 52.95.128.179 10.0.0.71 80 34210 6 {times} IPv4 14 15044 {where} {zone} - -"
    assert sorted(log_of(network, "shop/service", **ids)) == [
        f"{there} ACCEPT 3 10.0.0.71 52.95.128.179 - S3 8 egress OK",
        f"{answer} ACCEPT 19 52.95.128.179 10.0.0.71 S3 - - ingress OK",
    ]


def test_the_public_address_of_an_instance_is_one_of_ec2() -> None:
    """Flow log records, pkt-dst-aws-service: the part of AWS's address ranges that an address is of."""
    network = Network(SHOP)
    network.send("web", IP(src="10.0.0.71", dst="203.0.113.62") / UDP())
    [line] = log_of(network, "shop/service")
    assert " ACCEPT 0 10.0.0.71 203.0.113.62 - EC2 8 egress OK" in line


def test_an_interface_without_ipv6_that_gets_some_is_told_as_the_packet_has_it() -> None:
    """A NAT gateway has no IPv6 address that could stand for those of NAT64."""
    network = Network("""
version: 1
vpcs:
  shop:
    cidr: 10.0.0.0/16
    ipv6_cidrs: ["2001:db8::/56"]
    internet_gateway: {}
    subnets:
      public: {cidr: 10.0.0.0/24, route_table: public}
      six: {cidr: 10.0.1.0/24, ipv6_cidr: "2001:db8:0:1::/64", route_table: six}
    route_tables:
      public: {routes: [{destination: 0.0.0.0/0, target: internet-gateway}]}
      six: {routes: [{destination: "64:ff9b::/96", target: "nat-gateway:out"}]}
    nat_gateways: {out: {subnet: public, elastic_ip: 203.0.113.11}}
    flow_logs:
      nat: {network_interface: "nat-gateway:out", log_format: "${srcaddr} ${dstaddr} ${flow-direction} ${type}"}
instances:
  app: {vpc: shop, subnet: six, ipv6_address: "2001:db8:0:1::10"}
internet: {hosts: {server5: {address: 203.0.113.5}}}
""")
    network.send("app", IPv6(src="2001:db8:0:1::10", dst="64:ff9b::203.0.113.5") / UDP(sport=1000, dport=53))
    assert "2001:db8:0:1::10 64:ff9b::cb00:7105 ingress IPv6" in network.flow_log("shop/nat")


def through_nat(network: Network) -> None:
    out = network.send("private", IP(src="10.0.1.5", dst="203.0.113.5") / UDP(sport=1000, dport=53))
    port = out.packet[UDP].sport
    network.send("server5", IP(src="203.0.113.5", dst="203.0.113.11") / UDP(sport=53, dport=port))


def test_a_nat_gateway_sees_a_flow_four_times() -> None:
    network = Network(SHOP)
    through_nat(network)
    assert log_of(network, "shop/nat", **{"eni_nat-gateway__shop_out": ENI}) == [
        f"- {ENI} 10.0.1.5 10.0.0.220 10.0.1.5 203.0.113.5",
        f"- {ENI} 10.0.0.220 203.0.113.5 10.0.0.220 203.0.113.5",
        f"- {ENI} 203.0.113.5 10.0.0.220 203.0.113.5 10.0.0.220",
        f"- {ENI} 10.0.0.220 10.0.1.5 203.0.113.5 10.0.1.5",
    ]


def test_behind_a_nat_gateway_addresses_are_those_of_the_packets() -> None:
    network = Network(SHOP)
    through_nat(network)
    ids = {"i_private": "i-01234567890123456", "eni_interface__private_eth0": "eni-1111aaaa2222bbbb3"}
    assert log_of(network, "shop/inside", **ids) == [
        "i-01234567890123456 eni-1111aaaa2222bbbb3 10.0.1.5 203.0.113.5 10.0.1.5 203.0.113.5",
        "i-01234567890123456 eni-1111aaaa2222bbbb3 203.0.113.5 10.0.1.5 203.0.113.5 10.0.1.5",
    ]


def paths(network: Network) -> set[tuple[str, ...]]:
    ids = {aws_id("eni", f"interface {name}/eth0"): name for name in ("web", "server", "private")}
    ids[aws_id("eni", "nat-gateway shop/out")] = "nat"
    rows = (line.split() for line in network.flow_log("shop/paths"))
    return {(ids[row[0]], *row[1:]) for row in rows if row[1] != "-"}


def test_paths_tell_how_packets_go_on() -> None:
    network = Network(SHOP)
    network.send("web", IP(src="10.0.0.71", dst="10.0.0.62") / UDP())
    network.send("web", IP(src="10.0.0.71", dst="52.213.180.42") / UDP())
    network.send("private", IP(src="10.0.1.5", dst="203.0.113.5") / UDP())
    assert paths(network) == {
        ("web", "10.0.0.71", "10.0.0.62", "egress", "1", "ACCEPT"),
        ("server", "10.0.0.71", "10.0.0.62", "ingress", "-", "ACCEPT"),
        ("web", "10.0.0.71", "52.213.180.42", "egress", "8", "ACCEPT"),
        ("private", "10.0.1.5", "203.0.113.5", "egress", "1", "ACCEPT"),
        ("nat", "10.0.1.5", "203.0.113.5", "ingress", "-", "ACCEPT"),
        ("nat", "10.0.0.220", "203.0.113.5", "egress", "8", "ACCEPT"),
    }


def test_what_dies_further_on_is_an_accept() -> None:
    """Where no route leads, nobody's gates have refused it."""
    network = Network(SHOP)
    assert network.send("web", IP(src="10.0.0.71", dst="192.168.1.1") / UDP()).reason is Reason.PRIVATE_DESTINATION
    assert paths(network) == {("web", "10.0.0.71", "192.168.1.1", "egress", "-", "ACCEPT")}


@pytest.mark.parametrize("address", ["10.0.0.1", "10.0.0.2", "169.254.169.254", "169.254.169.253", "169.254.169.123"])
def test_traffic_of_the_router_and_of_services_on_the_link_is_not_logged(address: str) -> None:
    network = Network(SHOP)
    network.send("web", IP(src="10.0.0.71", dst=address) / ICMP())
    network.send("web", IP(src="10.0.0.71", dst=address) / UDP(sport=5353, dport=53))
    assert paths(network) == set()


@pytest.mark.parametrize("last", ["123", "250", "253", "254"])
def test_nor_is_traffic_of_services_at_their_ipv6_addresses(last: str) -> None:
    """Flow log limitations; time, licences, DNS and metadata in fd00:ec2::/32 (Amazon EC2 User Guide)."""
    network = Network(home())
    ours = "2001:db8:1234:a102:3304:8879:34cf:4071"
    for address, logged in ((f"fd00:ec2::{last}", 0), ("fd00:ec3::1", 1)):
        network.send("server", IPv6(src=ours, dst=address) / UDP(sport=5353, dport=53))
        lines = [line for line in network.flow_log("shop/one") if not line.endswith("NODATA")]
        assert len(lines) == logged


def test_amazons_dns_is_at_the_third_address_of_the_vpc_not_of_each_subnet() -> None:
    """Flow log limitations: of DNS, traffic to the Amazon DNS server is left out; that is at the VPC's base plus two
    (https://docs.aws.amazon.com/vpc/latest/userguide/AmazonDNS-concepts.html)."""
    network = Network(SHOP)
    for address in ("10.0.0.2", "10.0.1.2"):
        network.send("private", IP(src="10.0.1.5", dst=address) / UDP(sport=5353, dport=53))
    assert {row[2] for row in paths(network)} == {"10.0.1.2"}


def test_a_source_that_is_not_the_interfaces_own_never_comes_to_its_gates() -> None:
    network = Network(SHOP)
    assert network.send("web", IP(src="10.0.0.99", dst="10.0.0.62") / UDP()).reason is Reason.SOURCE_CHECK
    assert paths(network) == set()


def test_other_labs_are_none_the_wiser() -> None:
    """What becomes of packets does not depend on who looks at them."""
    import re

    logged, plain = Network(SHOP), Network(re.sub(r"    flow_logs:\n(      .*\n)+", "", SHOP))
    for network in (logged, plain):
        network.now = 5_000
    packets: list[tuple[str, Any]] = [
        ("web", IP(src="10.0.0.71", dst="10.0.0.62") / UDP()),
        ("web", IP(src="10.0.0.71", dst="10.0.0.1") / ICMP()),
        ("private", IP(src="10.0.1.5", dst="203.0.113.5", ttl=1) / UDP()),
        ("private", IP(src="10.0.1.5", dst="203.0.113.5") / UDP(sport=7)),
        ("client", IP(src="52.213.180.42", dst="203.0.113.71") / TCP(flags="S")),
    ] * 3
    for node, packet in packets:
        one, other = logged.send(node, packet), plain.send(node, packet)
        assert (one.verdict, one.reason, one.by, one.rule) == (other.verdict, other.reason, other.by, other.rule)
        assert [(s.node, bytes(s.packet)) for s in one.sent] == [(s.node, bytes(s.packet)) for s in other.sent]


@pytest.mark.parametrize(
    ("region", "zone", "expected"),
    [
        ("us-east-1", "us-east-1a", "use1-az1"),
        ("ap-southeast-2", "ap-southeast-2c", "apse2-az3"),
        ("us-gov-west-1", "us-gov-west-1b", "usgw1-az2"),
        ("eu-central-1", "eu-central-1a", "euc1-az1"),
        ("ap-northeast-1", "ap-northeast-1d", "apne1-az4"),
        ("ap-south-1", "ap-south-1b", "aps1-az2"),
        ("eu-north-1", "eu-north-1a", "eun1-az1"),
        ("sa-east-1", "sa-east-1c", "sae1-az3"),
    ],
)
def test_ids_of_zones(region: str, zone: str, expected: str) -> None:
    assert zone_id(region, zone) == expected

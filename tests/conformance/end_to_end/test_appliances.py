"""Routes to instances whose own kernels forward: an inspection appliance, and a NAT instance with port forwarding."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator

import pytest

from tests.conformance.behaviours import behaviour
from tests.conformance.end_to_end.labs import FORWARD, Watch, parsed, running
from tests.conformance.sources import vpc_guide
from tests.e2e.conversation import peer_seen
from vpclab import Lab, Reason

pytestmark = pytest.mark.e2e
SECTION = "Route tables"

A1, A2, B1, FIREWALL = "10.0.1.11", "10.0.1.12", "10.0.2.11", "10.0.3.10"
NAT_INSTANCE_PUBLIC, FAR, OTHER = "203.0.113.30", "198.51.100.10", "198.51.100.177"

LAB = f"""
version: 1
name: appliances
vpcs:
  main:
    cidr: 10.0.0.0/16
    internet_gateway: {{}}
    subnets:
      left: {{cidr: 10.0.1.0/24, route_table: left}}
      right: {{cidr: 10.0.2.0/24, route_table: right}}
      inspection: {{cidr: 10.0.3.0/24}}
      public: {{cidr: 10.0.4.0/24, route_table: public}}
    route_tables:
      left:
        routes:
          - {{destination: 10.0.2.0/24, target: "instance:firewall"}}
          - {{destination: 0.0.0.0/0, target: "instance:nat"}}
        propagated_routes:
          - {{destination: 0.0.0.0/0, target: "instance:firewall"}}
          - {{destination: 10.0.4.0/24, target: "instance:firewall"}}
          - {{destination: 192.0.2.0/24, target: "instance:firewall"}}
      right:
        routes:
          - {{destination: 10.0.1.0/24, target: "instance:firewall"}}
          - {{destination: 0.0.0.0/0, target: "instance:nat"}}
          - {{destination: 198.51.100.0/25, target: blackhole}}
      public: {{routes: [{{destination: 0.0.0.0/0, target: internet-gateway}}]}}
    security_groups:
      open: {{description: everything, ingress: [{{protocol: all, source: 0.0.0.0/0}}]}}
      friends:
        description: pings of those with the group open, and 80 from anywhere
        ingress: [{{protocol: icmp, source: "group:open"}}, {{protocol: tcp, ports: 80, source: 0.0.0.0/0}}]
instances:
  a1: {{vpc: main, subnet: left, private_ip: 10.0.1.11, security_groups: [open]}}
  a2: {{vpc: main, subnet: left, private_ip: 10.0.1.12, security_groups: [friends]}}
  b1: {{vpc: main, subnet: right, private_ip: 10.0.2.11, security_groups: [open]}}
  b2: {{vpc: main, subnet: right, private_ip: 10.0.2.12, security_groups: [friends]}}
  firewall:
    vpc: main
    subnet: inspection
    private_ip: 10.0.3.10
    source_dest_check: false
    security_groups: [open]
    programs:
      forward:
        command: [sh, -c, "{FORWARD}; exec sleep infinity"]
        ready: {{command: [grep, -q, "1", /proc/sys/net/ipv4/ip_forward]}}
  nat:
    vpc: main
    subnet: public
    private_ip: 10.0.4.10
    elastic_ip: 203.0.113.30
    source_dest_check: false
    security_groups: [open]
    programs:
      nat:
        command:
          - sh
          - -c
          - |
            {FORWARD}
            nft -f - <<'END'
            table ip nat {{
              chain in {{
                type nat hook prerouting priority dstnat
                ip daddr 10.0.4.10 tcp dport 8080 dnat to 10.0.2.12:80
              }}
              chain out {{
                type nat hook postrouting priority srcnat
                ip saddr 10.0.0.0/16 ip daddr != 10.0.0.0/16 masquerade
              }}
            }}
            END
            exec sleep infinity
        ready: {{command: [nft, list, chain, ip, nat, out]}}
internet:
  hosts:
    far: {{address: 198.51.100.10}}
    other: {{address: 198.51.100.177}}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running(LAB) as lab:
        yield lab


@behaviour(
    "With subnet B's block routed to an appliance, what goes to B passes it, and what stays in the subnet does not",
    end_to_end=True,
)
def test_appliance_between_two_subnets(lab: Lab) -> None:
    with Watch(lab, "firewall", "b1") as watch:
        assert lab["a1"].ping(B1)
        assert lab["a1"].ping(A2)
        through = [(packet.src, packet.dst, packet.ttl) for packet in watch.packets("firewall", proto=1)]
        arrived = [(packet.src, packet.ttl) for packet in watch.packets("b1", proto=1)]
    assert through == [(A1, B1, 64), (B1, A1, 64)]
    assert arrived == [(A1, 63)], "the kernel of the appliance is a hop, the VPC's router is none"
    report = lab["a1"].run(["traceroute", "-n", "-I", "-q", "1", "-w", "5", "-m", "3", B1], timeout_s=60).stdout
    assert re.findall(r"^\s*(\d+)\s+(\S+)", report, re.MULTILINE) == [("1", FIREWALL), ("2", B1)], report


@behaviour(
    "An appliance in the middle takes the sender's groups away: a group reference does not match what it forwards",
    end_to_end=True,
)
def test_group_reference_is_lost_through_an_appliance(lab: Lab) -> None:
    assert lab["a1"].ping(A2), "the group itself is let in"
    assert not lab["a1"].ping("10.0.2.12", timeout_s=0.5)
    trace = lab.trace("firewall", "10.0.2.12", protocol="icmp")
    assert trace.reachable, "from the appliance itself, which carries the group"


@behaviour(
    "With the source/destination check a packet from an address that is not the interface's own is dropped; "
    "without it, it is forwarded",
    end_to_end=True,
)
def test_source_check_of_what_a_kernel_sends(lab: Lab) -> None:
    with Watch(lab, "b1") as watch:
        for name in ("a1", "firewall"):
            lab[name].run(["ip", "address", "add", "10.0.1.77/32", "dev", "lo"], check=True)
            lab[name].run(["ping", "-n", "-c", "1", "-W", "0.3", "-I", "10.0.1.77", B1])
            lab[name].run(["ip", "address", "del", "10.0.1.77/32", "dev", "lo"], check=True)
            assert lab[name].ping(B1)
        sources = [packet.src for packet in watch.packets("b1", proto=1)]
    assert sources == [A1, "10.0.1.77", FIREWALL], "a1 checks its sources, the firewall does not"


@behaviour(
    "With the source/destination check a packet routed to an interface that has not its address is dropped there;"
    " without it, it arrives",
    end_to_end=True,
)
def test_checked_appliance_forwards_nothing(lab: Lab) -> None:
    checked = parsed(LAB)
    checked["instances"]["firewall"]["source_dest_check"] = True
    assert lab["a1"].ping(B1)
    lab.apply(checked)
    try:
        with Watch(lab, "firewall") as watch:
            assert not lab["a1"].ping(B1, timeout_s=0.5)
            assert lab["a1"].ping(FIREWALL)
            assert {packet.dst for packet in watch.packets("firewall", proto=1)} == {FIREWALL}
        assert lab.trace("a1", B1, protocol="icmp").forward.reason is Reason.DESTINATION_CHECK
    finally:
        lab.apply(parsed(LAB))
    assert lab["a1"].ping(B1)


@behaviour(
    "A static route is used before a propagated one for the same prefix, and one of a prefix list before it too",
    end_to_end=True,
)
@behaviour("A propagated route inside the VPC's block loses to local, though it is more specific", end_to_end=True)
def test_propagated_routes(lab: Lab) -> None:
    with Watch(lab, "firewall", "nat") as watch:
        assert lab["a1"].ping(FAR), "by the static default route"
        assert lab["a1"].ping("10.0.4.10"), "by local"
        assert not lab["a1"].ping("192.0.2.7", timeout_s=0.3), "by the propagated route; nobody is there"
        assert lab["a1"].ping(B1)
        by_firewall = [packet.dst for packet in watch.packets("firewall", proto=1, src=A1)]
        by_nat = [packet.dst for packet in watch.packets("nat", proto=1, src=A1)]
    assert by_firewall == ["192.0.2.7", B1]
    assert by_nat == [FAR, "10.0.4.10"]


@behaviour("A blackhole route that is more specific than a live one wins, and drops", end_to_end=True)
def test_blackhole_wins(lab: Lab) -> None:
    with Watch(lab, "far", "nat") as watch:
        assert not lab["b1"].ping(FAR, timeout_s=0.5)
        assert lab["b1"].ping(OTHER), "the default route lives"
        assert lab["a1"].ping(FAR), "and so does the destination"
        assert [packet.src for packet in watch.packets("far", proto=1)] == [NAT_INSTANCE_PUBLIC]
        assert {(p.src, p.dst) for p in watch.packets("nat", proto=1)} & {(B1, FAR)} == set()
    alive = copy.deepcopy(parsed(LAB))
    alive["vpcs"]["main"]["route_tables"]["right"]["routes"].pop()
    lab.apply(alive)
    assert lab["b1"].ping(FAR)
    lab.apply(parsed(LAB))
    assert not lab["b1"].ping(FAR, timeout_s=0.5)


@behaviour(
    "A NAT instance translates with its own kernel: the outside sees its Elastic IP",
    source=vpc_guide("VPC_NAT_Instance"),
    section="NAT gateways",
    end_to_end=True,
)
def test_nat_instance(lab: Lab) -> None:
    assert peer_seen(lab, "a1", "far", FAR)[0] == NAT_INSTANCE_PUBLIC
    said = lab["a1"].run(["ping", "-n", "-c", "1", "-M", "dont", "-s", "9500", FAR], timeout_s=20).stdout
    assert "1 received" in said, "a NAT instance puts fragments of ICMP together, unlike a NAT gateway"


@behaviour(
    "A NAT instance forwards ports by rules of its own kernel, which a NAT gateway cannot",
    source=vpc_guide("vpc-nat-comparison"),
    section="NAT gateways",
    end_to_end=True,
)
def test_port_forwarding_by_a_nat_instance(lab: Lab) -> None:
    listener = lab["b2"].socket()
    with listener:
        listener.bind(("", 80))
        listener.listen()
        listener.settimeout(20)
        with lab["other"].connect(NAT_INSTANCE_PUBLIC, 8080) as line:
            accepted, (peer, _) = listener.accept()
            with accepted:
                accepted.sendall(b"hello")
                assert (peer, line.recv(5)) == (OTHER, b"hello")

"""Inside a VPC, as kernels see it: TTL, ARP, broadcast, addresses that move, MTU towards the internet."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import ARP, Ether

from tests.conformance.behaviours import behaviour
from tests.conformance.end_to_end.labs import Watch, parsed, running
from tests.e2e.conversation import is_refused_udp
from vpclab import Lab

pytestmark = pytest.mark.e2e

A1, A2, B1, B2, MOVED = "10.0.1.11", "10.0.1.12", "10.0.2.11", "10.0.2.12", "10.0.2.50"
FAR, OTHER = "198.51.100.10", "198.51.100.77"
BROADCAST = "ff:ff:ff:ff:ff:ff"

LAB = """
version: 1
name: subnets
vpcs:
  main:
    cidr: 10.0.0.0/16
    internet_gateway: {}
    subnets:
      public: {cidr: 10.0.1.0/24, availability_zone: a, route_table: public}
      private: {cidr: 10.0.2.0/24, availability_zone: b}
    route_tables:
      public: {routes: [{destination: 0.0.0.0/0, target: internet-gateway}]}
    security_groups:
      open: {description: everything, ingress: [{protocol: all, source: 0.0.0.0/0}]}
instances:
  a1: {vpc: main, subnet: public, private_ip: 10.0.1.11, security_groups: [open], elastic_ip: 203.0.113.11}
  a2: {vpc: main, subnet: public, private_ip: 10.0.1.12, security_groups: [open]}
  b1: {vpc: main, subnet: private, private_ip: 10.0.2.11, security_groups: [open],
    secondary_private_ips: [10.0.2.50]}
  b2: {vpc: main, subnet: private, private_ip: 10.0.2.12, security_groups: [open]}
internet:
  hosts:
    far: {address: 198.51.100.10}
    other: {address: 198.51.100.77}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running(LAB) as lab:
        yield lab


@behaviour("A packet between two subnets of a VPC arrives with the TTL it was sent with", item=1, end_to_end=True)
@pytest.mark.parametrize("ttl", [1, 64])
def test_ttl_inside_a_vpc(lab: Lab, ttl: int) -> None:
    with Watch(lab, "b1") as watch:
        said = lab["a1"].run(["ping", "-n", "-c", "1", "-t", str(ttl), B1], check=True).stdout
        arrived = watch.packets("b1", proto=1)
    assert [packet.ttl for packet in arrived] == [ttl]
    assert "ttl=64" in said, "the kernel of b1 answers with 64"


@behaviour(
    "ARP for an address of the subnet is answered with the MAC of the interface that has it, which sees no ARP",
    item=2,
    end_to_end=True,
)
def test_arp_is_answered_for_the_peer(lab: Lab) -> None:
    lab["a1"].run(["ip", "neigh", "flush", "dev", "eth0"], check=True)
    with Watch(lab, "a2") as watch:
        assert lab["a1"].ping(A2)
        frames = watch.frames("a2")
    assert any(ICMP in frame for frame in frames)
    assert not [frame for frame in frames if ARP in frame and frame[ARP].op == 1]
    assert lab["a2"].mac in lab["a1"].run(["ip", "neigh", "show", A2]).stdout


@behaviour(
    "A gratuitous ARP for somebody else's address changes nothing: packets go on to who has it", item=3, end_to_end=True
)
def test_gratuitous_arp_moves_nothing(lab: Lab) -> None:
    b2 = lab["b2"]
    lie = Ether(src=b2.mac, dst=BROADCAST) / ARP(op=1, hwsrc=b2.mac, psrc=B1, hwdst=BROADCAST, pdst=B1)
    b2.run(["ip", "address", "add", f"{MOVED}/24", "dev", "eth0"], check=True)
    try:
        with Watch(lab, "b1", "b2") as watch:
            b2.send(lie)
            b2.send(Ether(src=b2.mac, dst=BROADCAST) / ARP(op=2, hwsrc=b2.mac, psrc=MOVED, hwdst=b2.mac, pdst=MOVED))
            lab["a1"].run(["ip", "neigh", "flush", "dev", "eth0"], check=True)
            assert lab["a1"].ping(B1)
            assert lab["a1"].ping(MOVED)
            assert lab["a1"].ping(B2)
            at_b1, at_b2 = watch.packets("b1", proto=1), watch.packets("b2", proto=1)
    finally:
        b2.run(["ip", "address", "del", f"{MOVED}/24", "dev", "eth0"], check=True)
    assert [packet.dst for packet in at_b1] == [B1, MOVED]
    assert [packet.dst for packet in at_b2] == [B2]


@behaviour("Broadcast, multicast and what is neither IP nor ARP reach no other guest", item=4, end_to_end=True)
def test_nobody_hears_broadcast(lab: Lab) -> None:
    a1 = lab["a1"]
    with Watch(lab, "a2", "b1", "b2") as watch:
        a1.run(["ping", "-b", "-n", "-c", "2", "-i", "0.1", "-W", "0.1", "10.0.1.255"])
        a1.run(["ip", "neigh", "flush", "dev", "eth0"], check=True)
        a1.run(["ping", "-n", "-c", "1", "-W", "0.1", "10.0.1.99"])  # the kernel asks for a MAC that nobody has
        a1.send(Ether(src=a1.mac, dst=BROADCAST) / IP(src=A1, dst="255.255.255.255") / UDP(sport=68, dport=67))
        a1.send(
            Ether(src=a1.mac, dst="01:00:5e:00:00:fb") / IP(src=A1, dst="224.0.0.251") / UDP(sport=5353, dport=5353)
        )
        a1.send(Ether(src=a1.mac, dst=BROADCAST, type=0x88B5) / bytes(46))
        heard = {}
        for name, address in (("a2", A2), ("b1", B1), ("b2", B2)):
            assert a1.ping(address)  # what comes before it on the line has come
            frames = watch.frames(name)
            heard[name] = [frame for frame in frames if not (IP in frame and frame[IP].dst == address)]
            assert len(frames) > len(heard[name])
            # The answer to a node's own question for the router's MAC is for it alone.
            heard[name] = [frame for frame in heard[name] if frame.dst != lab[name].mac]
    assert heard == {"a2": [], "b1": [], "b2": []}


@behaviour(
    "A secondary private address that was given to another interface is reached there at once, with no ARP from it",
    item=6,
    end_to_end=True,
)
def test_secondary_address_moves(lab: Lab) -> None:
    new = copy.deepcopy(parsed(LAB))
    new["instances"]["b2"]["secondary_private_ips"] = new["instances"]["b1"].pop("secondary_private_ips")
    assert lab["a1"].ping(MOVED)
    with Watch(lab, "b1", "b2") as watch, Watch(lab, "b2", outgoing=True) as sent:
        lab.apply(new)
        try:
            assert lab["a1"].ping(MOVED)
            assert [packet.dst for packet in watch.packets("b2", proto=1)] == [MOVED]
            assert watch.packets("b1", proto=1) == []
            said = [frame[ARP] for frame in sent.frames("b2") if ARP in frame and frame.src == lab["b2"].mac]
        finally:
            lab.apply(parsed(LAB))
    assert not [arp for arp in said if MOVED in (arp.psrc, arp.pdst)]
    assert lab["a1"].ping(MOVED)


@behaviour(
    "A packet of 1600 bytes with DF for the internet is answered by the subnet's router with a next-hop MTU of 1500",
    item=9,
    end_to_end=True,
)
def test_too_big_for_the_internet(lab: Lab) -> None:
    result = lab["a1"].ping(FAR, size_bytes=1572, dont_fragment=True)
    assert (result.received, "From 10.0.1.1 " in result.output, "mtu = 1500" in result.output) == (0, True, True)


@behaviour(
    "The same packet without DF leaves the internet gateway in fragments of at most 1500 bytes",
    item=10,
    end_to_end=True,
)
def test_fragments_towards_the_internet(lab: Lab) -> None:
    with Watch(lab, "other") as watch, Watch(lab, "a1", outgoing=True) as sent:
        said = lab["a1"].run(["ping", "-n", "-c", "1", "-M", "dont", "-s", "1572", OTHER], check=True).stdout
        whole, pieces = sent.packets("a1", dst=OTHER, proto=1), watch.packets("other", proto=1)
    assert [len(packet) for packet in whole] == [1600], "the kernel of a1 has a MTU of 9001"
    assert [(piece.src, int(piece.flags), piece.frag) for piece in pieces] == [
        ("203.0.113.11", 1, 0),
        ("203.0.113.11", 0, 185),
    ]
    assert all(len(piece) <= 1500 for piece in pieces)
    assert "1 received" in said, "both kernels put the pieces together"


@behaviour("Packets of 9001 bytes pass inside a VPC, between subnets as well", end_to_end=True)
def test_jumbo_packets_inside_a_vpc(lab: Lab) -> None:
    for address in (A2, B1):
        with Watch(lab, "a2", "b1") as watch:
            assert lab["a1"].ping(address, size_bytes=8973, dont_fragment=True)
            sizes = [len(packet) for name in ("a2", "b1") for packet in watch.packets(name, proto=1)]
        assert sizes == [9001]


@behaviour("A packet of 1500 bytes leaves through the internet gateway whole", end_to_end=True)
def test_what_fits_leaves_whole(lab: Lab) -> None:
    with Watch(lab, "far") as watch:
        assert lab["a1"].ping(FAR, size_bytes=1472, dont_fragment=True)
        assert [len(packet) for packet in watch.packets("far", proto=1)] == [1500]


@behaviour(
    "The router answers a ping to its address from inside the subnet; that of another subnet does not", end_to_end=True
)
def test_routers_answer_their_own_subnet(lab: Lab) -> None:
    assert lab["a1"].ping("10.0.1.1")
    assert lab["b1"].ping("10.0.2.1")
    assert not lab["a1"].ping("10.0.2.1", timeout_s=0.3)


@behaviour(
    "An ICMP error from outside is translated with the packet it quotes, whose checksums fit again", end_to_end=True
)
def test_port_unreachable_from_outside_reaches_the_socket(lab: Lab) -> None:
    assert is_refused_udp(lab, "a1", FAR, 9)


@behaviour("An ICMP error that an instance sends is translated with the packet it quotes", end_to_end=True)
def test_port_unreachable_from_inside_reaches_the_socket(lab: Lab) -> None:
    assert is_refused_udp(lab, "far", "203.0.113.11", 9)

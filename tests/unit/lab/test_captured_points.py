"""What is recorded at each kind of point: which side, which direction, and what became of it (docs/captures.md)."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from dataplane.verdict import Reason
from lab import pcapng
from lab.capture import Capture, Stories
from tests.scenario.gwlb import APP as BEHIND
from tests.scenario.gwlb import DB, ONE, through
from tests.scenario.labs import SHOP
from tests.scenario.network import Network

QUICKSTART = (Path(__file__).parents[3] / "examples" / "quickstart.yaml").read_text()
APP, WEB, BARE, FAR, VISITOR = "10.0.2.10", "10.0.1.10", "10.0.1.11", "198.51.100.10", "198.51.100.77"
NAT, NAT_OUTSIDE, WEB_OUTSIDE = "10.0.1.4", "203.0.113.10", "203.0.113.20"


def changed(text: str, old: str, new: str) -> str:
    """The lab with something else in one place."""
    assert text.count(old) == 1
    return text.replace(old, new)


def read(capture: Capture) -> list[pcapng.Captured]:
    written: list[bytes] = []
    capture.run(written.append, lambda seconds: True)
    return list(pcapng.Reader().packets(b"".join(written)))


def captured(network: Network, points: list[str], act: Callable[[], object]) -> list[pcapng.Captured]:
    """What is recorded at these points while something is done."""
    capture = Capture(network.plane, points, ring_bytes=1 << 25)
    act()
    return read(capture)


def packet_of(seen: pcapng.Captured) -> Any:
    octets = seen.data[14:] if seen.interface.link_type == pcapng.ETHERNET else seen.data
    return (IP if octets[0] >> 4 == 4 else IPv6)(octets)


def where(packets: list[pcapng.Captured]) -> list[tuple[str, str, str, str]]:
    """Side, direction and addresses of each."""
    return [
        (each.interface.name, "out" if each.outgoing else "in", packet_of(each).src, packet_of(each).dst)
        for each in packets
    ]


def fates(packets: list[pcapng.Captured]) -> list[tuple[str, str]]:
    """Side, and what became of the packet."""
    return [(each.interface.name, each.comment.partition("; ")[0]) for each in packets]


# -- sides -------------------------------------------------------------------------------------------------------------


def test_gateways_are_passed_from_one_side_to_the_other() -> None:
    """A request through a NAT gateway and an internet gateway, and the answer: at each side as it is there."""
    network = Network(QUICKSTART, engine="fast")
    points = ["nat:nat", "igw:shop", "internet"]
    ports: list[int] = []
    there = captured(
        network,
        points,
        lambda: ports.append(network.send("app", IP(src=APP, dst=FAR) / UDP(sport=5, dport=53)).packet[UDP].sport),
    )
    assert where(there) == [
        ("nat:shop/nat/inside", "in", APP, FAR),
        ("nat:shop/nat/outside", "out", NAT, FAR),
        ("igw:shop/inside", "in", NAT, FAR),
        ("igw:shop/outside", "out", NAT_OUTSIDE, FAR),
        ("internet", "in", NAT_OUTSIDE, FAR),
    ]
    allowed = "FORWARD to interface example/eth0; allowed by acl-rule shop/edge egress 110 allow all to 0.0.0.0/0"
    assert {each.comment for each in there} == {allowed}, "the last rule that let it pass"
    answer = IP(src=FAR, dst=NAT_OUTSIDE) / UDP(sport=53, dport=ports[0])
    back = captured(network, points, lambda: network.send("example", answer))
    assert sorted(where(back)) == sorted(
        [
            ("internet", "in", FAR, NAT_OUTSIDE),
            ("igw:shop/outside", "in", FAR, NAT_OUTSIDE),
            ("igw:shop/inside", "out", FAR, NAT),
            ("nat:shop/nat/outside", "in", FAR, NAT),
            ("nat:shop/nat/inside", "out", FAR, APP),
        ]
    )


def test_nat64_is_ipv6_inside_and_ipv4_outside() -> None:
    network = Network(
        changed(
            SHOP,
            "          - {destination: 198.51.100.128/25, target: blackhole}\n",
            '          - {destination: "64:ff9b::/96", target: "nat-gateway:nat"}\n',
        ),
        engine="fast",
    )
    own, far = "2001:db8:10:2::10", "64:ff9b::c633:640a"
    packet = IPv6(src=own, dst=far) / UDP(sport=5, dport=53) / b"abc"
    seen = captured(network, ["nat:nat"], lambda: network.send("app", packet))
    assert where(seen) == [
        ("nat:shop/nat/inside", "in", own, far),
        ("nat:shop/nat/outside", "out", "10.0.1.5", FAR),
    ]
    assert packet_of(seen[0]) == packet.__class__(bytes(packet))
    assert bytes(packet_of(seen[1])[UDP].payload) == b"abc"
    answer = IP(src=FAR, dst=NAT_OUTSIDE) / UDP(sport=53, dport=packet_of(seen[1])[UDP].sport)
    back = captured(network, ["nat:nat"], lambda: network.send("example", answer))
    assert sorted(where(back)) == [
        ("nat:shop/nat/inside", "out", far, own),
        ("nat:shop/nat/outside", "in", FAR, "10.0.1.5"),
    ]


# -- what dies ---------------------------------------------------------------------------------------------------------


def test_what_dies_at_a_gateway_is_at_the_side_that_it_came_to() -> None:
    network = Network(QUICKSTART, engine="fast")
    points = ["app", "nat:nat", "igw:shop"]
    at_nat = captured(network, points, lambda: network.send("app", IP(src=APP, dst=FAR, proto=50) / bytes(20)))
    assert fates(at_nat) == [
        ("app/eth0", "DROP NAT_PROTOCOL at nat-gateway shop/nat"),
        ("nat:shop/nat/inside", "DROP NAT_PROTOCOL at nat-gateway shop/nat"),
    ]
    behind = captured(network, points, lambda: network.send("app", IP(src=APP, dst=FAR, ttl=2) / UDP()))
    assert where(behind)[1:] == [
        ("nat:shop/nat/inside", "in", APP, FAR),
        ("nat:shop/nat/outside", "out", NAT, FAR),
        ("igw:shop/inside", "in", NAT, FAR),
    ]
    assert {fate for _, fate in fates(behind)} == {"DROP TTL_EXCEEDED at internet-gateway shop"}


def test_what_its_own_interface_does_not_let_out_is_there_as_sent_and_not_as_received() -> None:
    network = Network(
        changed(SHOP, "        ingress: []\n", "        ingress: []\n        egress: []\n"), engine="fast"
    )
    seen = captured(network, ["app"], lambda: network.send("app", IP(src=APP, dst=WEB) / UDP()))
    assert where(seen) == [("app/eth0", "out", APP, WEB)]
    assert fates(seen) == [("app/eth0", "DROP GROUP_EGRESS at interface app/eth0")]


def test_what_the_acl_of_its_subnet_does_not_let_in_is_at_the_interface_that_it_was_for() -> None:
    network = Network(QUICKSTART, engine="fast")
    syn = IP(src=VISITOR, dst=WEB_OUTSIDE) / TCP(dport=22)
    seen = captured(network, ["web", "app"], lambda: network.send("visitor", syn))
    assert where(seen) == [("web/eth0", "in", VISITOR, WEB)]
    assert seen[0].comment == (
        "DROP ACL_INGRESS at network-acl shop/edge; rule acl-rule shop/edge ingress 90 deny tcp 22 from 0.0.0.0/0; "
        "denied by the network ACL on the way into the subnet [SUBNET_ACL_RESTRICTION]"
    )
    web = network.plane.interface(network.port("web"))
    assert seen[0].data[:14] == web.mac + web.router_mac + b"\x08\x00"


def test_and_at_none_of_another_vpc_with_the_same_address() -> None:
    shut = "{ingress: [], egress: [{rule: 1, protocol: all, cidr: 0.0.0.0/0, action: allow}]}"
    text = changed(
        ONE,
        "      apps: {cidr: 10.0.2.0/24, availability_zone: a, route_table: apps}\n",
        "      apps: {cidr: 10.0.2.0/24, availability_zone: a, route_table: apps, network_acl: shut}\n",
    )
    head, tail = text.split("  twin:\n    cidr: 10.0.0.0/16\n")
    network = Network(
        f"{head}  twin:\n    cidr: 10.0.0.0/16\n    network_acls: {{shut: {shut}}}\n{tail}", engine="fast"
    )
    capture = Capture(network.plane, ["app", "app2"])
    result = through(network, "db2", IP(src=DB, dst=BEHIND) / UDP())
    assert result.reason is Reason.ACL_INGRESS
    assert where(read(capture)) == [("app2/eth0", "in", DB, BEHIND)]


def test_what_dies_between_neighbours_has_their_own_macs() -> None:
    network = Network(SHOP, engine="fast")

    def talk() -> None:
        for port in (80, 81):
            network.send("bare", IP(src=BARE, dst=WEB) / TCP(dport=port))

    let_in, refused = captured(network, ["web"], talk)
    assert [let_in.comment[:7], refused.comment[:4]] == ["FORWARD", "DROP"]
    for each in (let_in, refused):
        assert (Ether(each.data).src, Ether(each.data).dst) == (network.mac("bare"), network.mac("web"))


def test_an_error_that_its_receiver_does_not_let_in_is_at_its_door() -> None:
    """Nothing tracks answers of a port that is open to everybody: the group does not know what the error is about."""
    network = Network(SHOP, engine="fast")
    large = IP(src=WEB, dst=FAR, flags="DF") / TCP(sport=80, dport=40000, flags="A") / bytes(1500)
    seen = captured(network, ["web"], lambda: network.send("web", large))
    assert fates(seen) == [
        ("web/eth0", "DROP MTU_EXCEEDED at internet-gateway shop"),
        ("web/eth0", "DROP GROUP_INGRESS at interface web/eth0"),
    ]
    assert [each.outgoing for each in seen] == [True, False]
    error = packet_of(seen[1])
    assert (error[ICMP].type, error[ICMP].code, error[ICMP].nexthopmtu) == (3, 4, 1500)


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_fragment_that_waits_in_vain_is_there_twice() -> None:
    network = Network(SHOP, engine="fast")
    _, later = fragment(IP(src=APP, dst=BARE, id=7) / UDP() / bytes(1200), 1000)
    begun = network.now

    def wait_for_the_first() -> None:
        network.send("app", later)
        network.wait(60)

    seen = captured(network, ["app", "bare"], wait_for_the_first)
    assert fates(seen) == [
        ("app/eth0", "HOLD until the first fragment comes"),
        ("app/eth0", "DROP FRAGMENT_TIMEOUT at interface app/eth0"),
    ]
    assert seen[0].data == seen[1].data
    assert [each.outgoing for each in seen] == [True, True]
    assert [each.time_ns for each in seen] == [begun * 1_000_000, network.now * 1_000_000]


# -- bytes -------------------------------------------------------------------------------------------------------------


def test_a_udp_checksum_left_to_hardware_that_becomes_zero_is_all_ones() -> None:
    """RFC 768: zero says that there is none."""
    network = Network(SHOP, engine="fast")
    plain = IP(bytes(IP(src=APP, dst=BARE) / UDP(sport=5, dport=6) / bytes(2)))
    packet = IP(src=APP, dst=BARE) / UDP(sport=5, dport=6) / plain[UDP].chksum.to_bytes(2)
    frame = bytearray(network.frame("app", packet))
    pseudo = sum(struct.unpack(">4H", frame[26:34])) + 17 + 10
    frame[40:42] = ((pseudo & 0xFFFF) + (pseudo >> 16)).to_bytes(2)
    offload = struct.pack("<BBHHHHH", 1, 0, 0, 0, 34, 6, 0)
    port = network.port("app")
    seen = captured(
        network, ["app", "bare"], lambda: network.plane.process([bytes(frame)], [port], network.now, [offload])
    )
    assert [packet_of(each)[UDP].chksum for each in seen] == [0xFFFF] * 2


def test_what_there_is_no_room_to_send_is_told_as_dropped_at_every_point() -> None:
    """More pieces than a burst has room for: whole packets of them are lost at the end of it."""
    with patch("dataplane.model.network_interface.VPC_MTU", 65535):
        network = Network(SHOP, engine="fast")
    frames = [
        network.frame("app", IP(src=APP, dst=FAR, id=n) / UDP(sport=7, dport=9) / bytes(60_000)) for n in range(1, 65)
    ]
    outcomes: list[Any] = []
    seen = captured(
        network,
        ["app", "nat:nat"],
        lambda: outcomes.extend(network.plane.process(frames, [network.port("app")] * 64, network.now)[0]),
    )
    lost = {n for n, outcome in enumerate(outcomes, 1) if outcome.reason is Reason.EMISSION_LIMIT}
    assert 0 < len(lost) < 64
    assert {n: {each.comment[:4] for each in seen if packet_of(each).id == n} for n in range(1, 65)} == {
        n: {"DROP" if n in lost else "FORW"} for n in range(1, 65)
    }


# -- who sees what -----------------------------------------------------------------------------------------------------


def test_packets_are_followed_that_match_as_they_left() -> None:
    network = Network(QUICKSTART, engine="fast")
    stories = Stories(network.plane, f"src host {NAT_OUTSIDE}")
    network.send("app", IP(src=APP, dst=WEB) / TCP(dport=80))
    network.send("app", IP(src=APP, dst=FAR) / UDP(sport=1, dport=53))
    lines: list[bytes] = []
    stories.run(lines.append, lambda seconds: True)
    told = [json.loads(line) for line in b"".join(lines).splitlines()]
    followed = [each["trace"] for each in told if "trace" in each]
    assert [(each["source"], each["destination"]) for each in followed] == [("app/eth0", FAR)]


def test_flows_are_remembered_again_once_nobody_captures() -> None:
    network = Network(SHOP, engine="fast")
    packet = IP(src=APP, dst=BARE) / UDP()

    def hits() -> int:
        before = network.plane.engine.statistics()["flow_hits"]
        for _ in range(5):
            network.send("app", packet)
        return int(network.plane.engine.statistics()["flow_hits"] - before)

    assert hits()
    one, other = (Capture(network.plane, ["app"]) for _ in range(2))
    one.close()
    assert hits() == 0
    network.plane.engine.memo = True  # that it may remember does not make it: somebody looks on
    assert hits() == 0
    other.close()
    assert hits()
    assert len(read(other)) == 10

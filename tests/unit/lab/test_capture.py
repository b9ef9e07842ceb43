"""Captures without a kernel: what stands in their files, and what a slow reader loses."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether

from dataplane.errors import LimitError
from lab import pcapng
from lab.capture import Capture, Stories, running_captures, split_words
from lab.control import RequestError
from tests.scenario.network import Network

TEXT = (Path(__file__).parents[3] / "examples" / "quickstart.yaml").read_text()
SYN = IP(src="10.0.2.10", dst="10.0.1.10") / TCP(sport=40000, dport=80, flags="S")


def now(seconds: float) -> bool:
    return True


def collected(capture: Capture, ended: Callable[[float], bool] = now) -> tuple[list[pcapng.Captured], int]:
    """The packets of its file, and how many were lost."""
    written: list[bytes] = []
    count = capture.run(written.append, ended)
    file = b"".join(written)
    packets = list(pcapng.Reader().packets(file))
    assert len(packets) == count
    lost = [pcapng.dropped_of(block) for kind, block in pcapng.whole_blocks(file) if kind == pcapng.STATISTICS]
    assert len(lost) == len(capture.sides)
    return packets, sum(lost)


def test_a_slow_reader_loses_records_and_no_packets() -> None:
    """The ring is full of packets that nobody reads; all of them arrive, and what is lost is counted and told."""
    network = Network(TEXT, engine="fast")
    capture = Capture(network.plane, ["app", "web"], ring_bytes=1 << 18)
    packet = SYN / bytes(1000)
    arrived = sum(len(network.send("app", packet).sent) for _ in range(500))
    assert arrived == 500
    lost = capture.lost
    assert 400 < lost < 1000
    kept: list[pcapng.Captured] = []

    def ended(seconds: float) -> bool:
        """The reader has caught up; there is room again."""
        if not kept:
            kept.append(pcapng.Captured(pcapng.Interface("", 0), 0, b"", False, ""))
            network.send("app", packet)
            return False
        return True

    packets, told = collected(capture, ended)
    assert told == lost
    assert len(packets) + lost == 2 * 501
    assert packets[-2].comment.endswith(f"; {lost} records lost before this one")
    assert all("lost" not in each.comment for each in (*packets[:-2], packets[-1]))


def test_where_nothing_comes_nobody_spins_and_where_there_is_more_nobody_waits() -> None:
    network = Network(TEXT, engine="fast")
    capture = Capture(network.plane, ["app"])
    waited: list[bool] = []

    def ended(seconds: float) -> bool:
        waited.append(seconds > 0)
        if len(waited) == 1:
            network.send("app", SYN)
        return len(waited) == 3

    assert len(collected(capture, ended)[0]) == 1
    assert waited == [True, False, True]


def test_records_go_round_the_ring() -> None:
    """Many times its size, read as it fills, in sizes that do not divide it: nothing is lost, nothing mixed up."""
    network = Network(TEXT, engine="fast")
    capture = Capture(network.plane, ["app", "web"], ring_bytes=1 << 18)
    sent: list[bytes] = []
    rounds = iter(range(60))

    def ended(seconds: float) -> bool:
        number = next(rounds, None)
        if number is None:
            return True
        for size in range(0, 1400, 67):
            packet = IP(src="10.0.2.10", dst="10.0.1.10", id=number + 1) / TCP(dport=80, flags="S") / bytes(size)
            sent.append(bytes(packet))
            network.send("app", packet)
        return False

    packets, lost = collected(capture, ended)
    assert lost == 0
    assert [each.data[14:] for each in packets if each.outgoing] == sent
    assert sum(map(len, sent)) > 3 << 18


def test_a_filter_chooses_at_each_point_what_is_seen_there() -> None:
    network = Network(TEXT, engine="fast")
    capture = Capture(network.plane, ["app", "nat:nat", "example"], "src host 203.0.113.10")
    network.send("app", IP(src="10.0.2.10", dst="198.51.100.10") / UDP(sport=1, dport=53))
    packets, _ = collected(capture)
    assert [each.interface.name for each in packets] == ["example/eth0"]


def test_a_filter_knows_nodes_by_their_names() -> None:
    network = Network(TEXT, engine="fast")
    capture = Capture(network.plane, ["app"], "host web or host example")
    network.send("app", SYN)
    network.send("app", IP(src="10.0.2.10", dst="198.51.100.10") / UDP(sport=1, dport=53))
    network.send("app", IP(src="10.0.2.10", dst="198.51.100.11") / UDP(sport=1, dport=53))
    packets, _ = collected(capture)
    assert [IP(each.data[14:]).dst for each in packets] == ["10.0.1.10", "198.51.100.10"]
    with pytest.raises(RequestError, match="no node is called 'wbe'; others are named by their addresses"):
        Stories(network.plane, "host wbe")


SEVERAL = """\
version: 1
vpcs:
  shop:
    cidr: 10.0.0.0/16
    ipv6_cidrs: [2001:db8::/56]
    subnets:
      one: {cidr: 10.0.1.0/24, ipv6_cidr: 2001:db8::/64, availability_zone: a}
      two: {cidr: 10.0.2.0/24, availability_zone: a, network_acl: shut}
    network_acls: {shut: {}}
    security_groups: {shut: {}}
    network_interfaces:
      more: {subnet: two, private_ips: [10.0.2.20], attachment: {instance: fw, device_index: 1}}
instances:
  app: {vpc: shop, subnet: one, private_ip: 10.0.1.10, ipv6_address: 2001:db8::10}
  fw: {vpc: shop, subnet: one, private_ip: 10.0.1.20, secondary_private_ips: [10.0.1.21], security_groups: [shut]}
internet:
  hosts:
    site: {address: 198.51.100.10, ipv6_address: 2001:db8:ffff::10}
aws_services:
  s3: {prefixes: [203.0.113.0/24], address: 203.0.113.80}
"""


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("fw", ["10.0.1.20", "10.0.1.21", "10.0.2.20"]),
        ("site", ["198.51.100.10", "2001:db8:ffff::10"]),
        ("s3", ["203.0.113.80"]),
        ("app", ["10.0.1.10", "2001:db8::10"]),
    ],
)
def test_a_name_in_a_filter_is_all_addresses_of_its_node(name: str, addresses: list[str]) -> None:
    """Those of all its interfaces, of both families; packets to others are left out."""
    network = Network(SEVERAL, engine="fast")
    capture = Capture(network.plane, ["app"], f"dst host {name}")
    ends = ["10.0.1.10", "10.0.1.20", "10.0.1.21", "10.0.2.20", "198.51.100.10", "203.0.113.80"]
    packets: list[Any] = [IP(src="10.0.1.10", dst=end) / UDP() for end in ends]
    packets += [IPv6(src="2001:db8::10", dst=end) / UDP() for end in ("2001:db8::10", "2001:db8:ffff::10")]
    for packet in packets:
        network.send("app", packet)
    seen = [Ether(each.data).payload.dst for each in collected(capture)[0] if each.outgoing]
    assert seen == addresses


def test_a_filter_may_ask_for_what_only_frames_have() -> None:
    """Where all points have frames; where some have not, nothing of what matches frames alone is kept there."""
    network = Network(TEXT, engine="fast")
    asked = Ether(src=network.mac("app"), dst="ff:ff:ff:ff:ff:ff") / ARP(
        hwsrc=network.mac("app"), psrc="10.0.2.10", pdst="10.0.2.1"
    )
    captures = [
        Capture(network.plane, ["app"], f"ether src {network.mac('app')}"),
        Capture(network.plane, ["app", "nat:nat"], "arp"),
    ]
    network.put("app", asked)
    network.send("app", IP(src="10.0.2.10", dst="198.51.100.10") / UDP(sport=1, dport=53))
    mine, asking = (collected(capture)[0] for capture in captures)
    assert [Ether(each.data).type for each in mine] == [0x0806, 0x0800]
    assert [(each.interface.name, each.outgoing) for each in asking] == [("app/eth0", True), ("app/eth0", False)]
    Stories(network.plane, f"ether src {network.mac('app')}").close()
    with pytest.raises(RequestError, match="no Ethernet header at this point"):
        Capture(network.plane, ["app", "nat:nat"], f"ether src {network.mac('app')}")


def test_each_interface_of_a_file_ends_with_what_was_received_there() -> None:
    network = Network(TEXT, engine="fast")
    began = time.time_ns()
    capture = Capture(network.plane, ["app", "web", "db"])
    for port in (80, 9999, 81):
        network.send("app", IP(src="10.0.2.10", dst="10.0.1.10") / TCP(dport=port, flags="S"))
    network.send("app", IP(src="10.0.2.10", dst="198.51.100.10") / UDP(sport=1, dport=53))
    written: list[bytes] = []
    capture.run(written.append, now)
    found = {}
    for kind, block in pcapng.whole_blocks(b"".join(written)):
        if kind == pcapng.STATISTICS:
            number, _, _, *options = struct.unpack("=III HHII HHII HHQ HHQ I I", block[8:])
            start, end = (high << 32 | low for high, low in (options[2:4], options[6:8]))
            assert (options[8], options[0], options[4]) == (4, 2, 3)
            assert began <= start <= end <= time.time_ns()
            found[number] = options[10]
    assert found == {0: 4, 1: 3, 2: 0}


def test_what_became_of_a_packet_stands_in_its_comment() -> None:
    """Where it went and why, what the router said itself, and what waits."""
    network = Network(TEXT, engine="fast")
    capture = Capture(network.plane, ["app", "web"])
    asked = Ether(src=network.mac("app"), dst="ff:ff:ff:ff:ff:ff") / ARP(
        hwsrc=network.mac("app"), psrc="10.0.2.10", pdst="10.0.2.1"
    )
    network.put("app", asked)
    network.send("app", IP(src="10.0.2.10", dst="198.51.100.10", ttl=1) / UDP(sport=1, dport=53))
    first, last = fragment(IP(src="10.0.2.10", dst="10.0.1.10", id=7) / ICMP(id=5) / bytes(1000), 800)
    network.send_all("app", [last, first])
    told = [(each.interface.name, each.outgoing, each.comment) for each in collected(capture)[0]]
    served, answer, died, error, waits, *_ = told
    assert served == ("app/eth0", True, "SERVE by interface app/eth0")
    assert answer[:2] == ("app/eth0", False)
    assert answer[2].startswith("FORWARD (answer of the router) to interface app/eth0")
    assert died[2].startswith("DROP TTL_EXCEEDED at ")
    assert error[2].startswith("FORWARD (ICMP error of the router) to interface app/eth0")
    assert waits == ("app/eth0", True, "HOLD until the first fragment comes")
    assert any(
        (name, out) == ("web/eth0", False)
        and text.startswith("FORWARD (fragment that had waited) to interface web/eth0")
        for name, out, text in told
    )


def test_points_follow_what_is_applied_though_others_are_gone() -> None:
    """What is gone may come back; the others have their new addresses meanwhile."""
    network = Network(SEVERAL, engine="fast")
    capture = Capture(network.plane, ["site", "fw/eth1"])
    moved = SEVERAL[: SEVERAL.index("internet:")].replace("10.0.2.20", "10.0.2.77")
    steps = iter(
        [
            lambda: network.apply(moved),
            lambda: network.send("app", IP(src="10.0.1.10", dst="10.0.2.77") / TCP(dport=80, flags="S")),
        ]
    )

    def ended(seconds: float) -> bool:
        step = next(steps, None)
        if step is not None:
            step()
        return step is None

    [seen] = collected(capture, ended)[0]
    assert seen.interface.name == "fw/eth1"
    assert seen.comment.startswith("DROP ACL_INGRESS at network-acl shop/shut"), "on its way to that address"


def test_what_a_word_means_now_is_not_recorded_as_what_it_meant() -> None:
    """The NAT gateway of another VPC: the interfaces of a file are those that it began with."""
    network = Network(TEXT, engine="fast")
    capture = Capture(network.plane, ["nat:nat", "app"])
    steps = iter(
        [
            lambda: network.apply(TEXT.replace("shop", "mall")),
            lambda: network.send("app", IP(src="10.0.2.10", dst="198.51.100.10") / UDP(sport=1, dport=53)),
        ]
    )

    def ended(seconds: float) -> bool:
        step = next(steps, None)
        if step is not None:
            step()
        return step is None

    packets, _ = collected(capture, ended)
    assert [side.name for side in capture.sides] == ["nat:shop/nat/inside", "nat:shop/nat/outside", "app/eth0"]
    assert [(each.interface.name, each.outgoing) for each in packets] == [("app/eth0", True)]


def test_what_is_asked_for_twice_is_refused() -> None:
    """By its name, or as one side of what is asked for as a whole."""
    network = Network(TEXT, engine="fast")
    for words, name in (
        (["web", "app", "web/eth0"], "web/eth0"),
        (["nat:nat", "nat:nat/inside"], "nat:shop/nat/inside"),
    ):
        with pytest.raises(RequestError, match=f"{name} is asked for twice"):
            Capture(network.plane, words)
    assert running_captures(network.plane) == 0


def test_points_follow_what_is_applied() -> None:
    """A changed address is looked for from then on."""
    network = Network(TEXT, engine="fast")
    capture = Capture(network.plane, ["web", "peering:shop-store"])
    moved: list[str] = []

    def ended(seconds: float) -> bool:
        if len(moved) == 2:
            return True
        if not moved:
            network.apply(TEXT.replace("10.0.1.10", "10.0.1.77"))
        else:
            network.send("app", IP(src="10.0.2.10", dst="10.0.1.77") / TCP(dport=9999, flags="S"))
        moved.append("web")
        return False

    packets, _ = collected(capture, ended)
    assert [each.comment.partition(" at ")[0] for each in packets] == ["DROP GROUP_INGRESS"]


def test_all_that_was_followed_is_told_at_the_end_and_what_was_lost() -> None:
    network = Network(TEXT, engine="fast")
    stories = Stories(network.plane)
    for _ in range(600):  # more than are written at once
        network.send("app", SYN)
    lines: list[bytes] = []
    stories.run(lines.append, now)
    *told, last = map(json.loads, b"".join(lines).splitlines())
    assert len(told) == 600
    assert last == {"ended": True, "lost": 0}


def test_at_most_sixteen_captures_and_room_again_when_one_ends() -> None:
    network = Network(TEXT, engine="fast")
    many = [Capture(network.plane, ["app"], ring_bytes=1 << 18) for _ in range(16)]
    with pytest.raises(LimitError, match="at most 16 captures at once"):
        Stories(network.plane)
    many[3].close()
    many.append(Capture(network.plane, ["web"]))
    network.send("app", SYN)
    assert [len(collected(each)[0]) for each in many] == [1, 1, 1, 0, *[1] * 13]
    assert network.plane.engine.memo


@pytest.mark.parametrize(
    ("words", "points", "where"),
    [
        (["web"], ["web"], ""),
        (["web", "nat:nat/inside", "tcp", "port", "80"], ["web", "nat:nat/inside"], "tcp port 80"),
        (["web", "tcp port 80 or icmp"], ["web"], "tcp port 80 or icmp"),
        (["internet", "host", "web"], ["internet"], "host web"),
    ],
)
def test_the_filter_begins_with_the_first_word_that_is_no_point(
    words: list[str], points: list[str], where: str
) -> None:
    found = split_words(Network(TEXT, engine="fast").plane.topology, words)
    assert found[:2] == (points, where)
    assert bool(found[2]) == bool(where)


def test_no_point_at_all_is_told_with_the_nearest() -> None:
    with pytest.raises(RequestError, match="'wbe'; did you mean web"):
        split_words(Network(TEXT, engine="fast").plane.topology, ["wbe", "tcp"])

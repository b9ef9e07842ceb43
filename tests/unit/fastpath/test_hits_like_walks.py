"""Flows that an entry could get wrong: with the memo and without it, the same comes of them."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6

from dataplane.verdict import Reason, Verdict
from tests.scenario.gwlb import ONE
from tests.scenario.network import Network
from tests.unit.fastpath.two_hosts import TwoHosts


def like_a_balancers(number: int) -> IP:
    """What has all the options of a packet of a gateway load balancer, between two who have nothing to do with one."""
    inner = bytes(IP(src="1.1.1.1", dst="2.2.2.2") / UDP(sport=5, dport=6) / f"{number:20}")
    options = struct.pack(">IQIQII", 0x01080102, 1, 0x01080202, 2, 0x01080301, 77)
    geneve = bytes([len(options) // 4, 0, 8, 0, 0, 0, 0, 0]) + options
    return IP(src="10.0.2.10", dst="10.0.1.20") / UDP(sport=50000, dport=6081) / (geneve + inner)


def other(number: int) -> IP:
    return IP(src="10.0.3.10", dst="10.0.1.20") / UDP(sport=50001, dport=99) / f"of db {number:20}"


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "among others"])
def test_tunnel_packets_that_nobody_opens_are_forwarded_as_they_came(alone: bool) -> None:
    """In a lab with tunnels such packets are read for the one inside, which is not what goes on."""

    def play(memo: bool) -> list[Any]:
        network, log = Network(ONE, memo=memo, engine="fast"), []
        for burst in range(6):
            sent = [("app", like_a_balancers(4 * burst + n)) for n in range(4)]
            if not alone:
                sent = [each for n, one in enumerate(sent) for each in (("db", other(4 * burst + n)), one)]
                sent = sent[burst % 2 :] + sent[: burst % 2]
            frames, ports = [network.frame(*each) for each in sent], [network.port(node) for node, _ in sent]
            outcomes, emissions = network.plane.process(frames, ports, network.now + burst)
            assert all(outcome.verdict is Verdict.FORWARD for outcome in outcomes)
            assert [each.frame[34:] for each in emissions] == [bytes(packet)[20:] for _, packet in sent]
            log.append((outcomes, [(each.port, each.frame, each.parent) for each in emissions]))
        return [*log, network.plane.engine.counters()]

    assert play(memo=True) == play(memo=False)


@pytest.mark.parametrize("memo", [True, False])
def test_untracked_flows_pass_when_there_is_no_room_for_tracked_ones(memo: bool) -> None:
    """They open nothing, so it is nothing to them."""
    hosts = TwoHosts(sessions=64, flows=1024, memo=memo)

    def send(packet: IP) -> tuple[int, int]:
        frame = hosts.a.ether() + b"\x08\0" + bytes(packet)
        verdict, reason, *_ = hosts.engine.process([frame], [hosts.a.port], 1000)[0][0]
        return verdict, reason

    untracked = IP(src="10.0.1.10", dst="10.0.2.10") / UDP(sport=5, dport=6)
    assert send(untracked) == send(untracked) == (Verdict.FORWARD, Reason.NONE)
    assert hosts.engine.statistics()["sessions"] == 0
    pings = [send(IP(src="10.0.1.10", dst="10.0.2.10") / ICMP(id=number)) for number in range(40)]
    assert (Verdict.DROP, Reason.SESSION_LIMIT) in pings
    assert send(untracked) == (Verdict.FORWARD, Reason.NONE)


ONE_CLOSED = """
version: 1
name: closed
vpcs:
  v:
    cidr: 10.0.0.0/16
    ipv6_cidrs: ["2001:db8:1::/56"]
    subnets:
      near: {cidr: 10.0.1.0/24, ipv6_cidr: "2001:db8:1:1::/64", availability_zone: a}
      far: {cidr: 10.0.2.0/24, ipv6_cidr: "2001:db8:1:2::/64", availability_zone: a, network_acl: half}
    security_groups:
      open: {ingress: [{protocol: all, source: 0.0.0.0/0}, {protocol: all, source: "::/0"}]}
    network_acls:
      half:
        ingress:
          - {rule: 1, protocol: udp, ports: 0-32767, cidr: 0.0.0.0/0, action: allow}
          - {rule: 2, protocol: udp, ports: 0-32767, cidr: "::/0", action: allow}
instances:
  a: {vpc: v, subnet: near, private_ip: 10.0.1.10, ipv6_address: "2001:db8:1:1::a", security_groups: [open]}
  b: {vpc: v, subnet: far, private_ip: 10.0.2.10, ipv6_address: "2001:db8:1:2::a", security_groups: [open]}
"""


@pytest.mark.parametrize("packet", [
    IP(src="10.0.1.10", dst="10.0.2.10", flags="DF") / UDP(chksum=0),
    IPv6(src="2001:db8:1:1::a", dst="2001:db8:1:2::a") / UDP(chksum=0xABCD),
], ids=["IPv4", "IPv6"])  # fmt: skip
def test_flows_whose_tags_are_the_same_are_different_ones(packet: IP | IPv6) -> None:
    """Tags have 32 bits, so of 131,072 flows and 262,144 others 8 pairs can be expected that have the same one."""
    network = Network(ONE_CLOSED, engine="fast")
    frame, port = network.frame("a", packet), network.port("a")
    before, behind = frame[: -len(packet[UDP])], frame[-len(packet[UDP]) :][4:]

    def verdicts(source: int, destinations: range) -> set[int]:
        frames = [before + struct.pack(">HH", source, number) + behind for number in destinations]
        return {verdict for verdict, *_ in network.plane.engine.process(frames, [port] * len(frames), network.now)[0]}

    for source in range(4):
        assert verdicts(source, range(1 << 15)) == {Verdict.FORWARD}
    for source in range(8):
        assert verdicts(source, range(1 << 15, 1 << 16)) == {Verdict.DROP}

"""What the engines may differ in: the port of a NAT gateway that no packet has shown, or not in time; whom a sticky
flow follows when its like have parted; where a packet in circles is cut off.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Literal
from unittest.mock import patch

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment

from dataplane.engine import Outcome
from dataplane.load import load_topology
from dataplane.reference import InadmissibleChoiceError
from dataplane.topology import Topology
from dataplane.topology.runtime_state import FormerTarget, RuntimeState, TargetHealth
from dataplane.verdict import Reason, Verdict
from tests.property.disagreements import IncomparableError
from tests.property.geneve_frames import as_received, bounce, instead
from tests.property.pairing import NOBODY, ROUNDS, InCirclesError, Pair, rounds
from tests.property.test_limits import LOST
from tests.scenario.gwlb import ONE, balancer, group
from tests.scenario.labs import MAZE, SHOP
from tests.scenario.test_return_to_sender import APP, DB, LAB, NAT

CLOSED = LAB.replace("db: {vpc: far, subnet: data, private_ip: 10.1.1.10, security_groups: [open]",
                     "db: {vpc: far, subnet: data, private_ip: 10.1.1.10, security_groups: [default]")  # fmt: skip

# What app sends is translated twice; the answer to the first gateway goes to trap.
TWO_GATEWAYS = """
version: 1
name: twice
vpcs:
  shop:
    cidr: 10.0.0.0/16
    internet_gateway: {}
    subnets:
      apps: {cidr: 10.0.2.0/24, availability_zone: a, route_table: apps}
      first: {cidr: 10.0.3.0/24, availability_zone: a, route_table: first}
      second: {cidr: 10.0.4.0/24, availability_zone: a, route_table: second}
    route_tables:
      apps: {routes: [{destination: 0.0.0.0/0, target: "nat-gateway:one"}]}
      first: {routes: [{destination: 0.0.0.0/0, target: "nat-gateway:two"}]}
      second:
        routes:
          - {destination: 0.0.0.0/0, target: internet-gateway}
          - {destination: 10.0.3.0/24, target: "instance:trap"}
    nat_gateways:
      one: {subnet: first, connectivity: private}
      two: {subnet: second, elastic_ip: 203.0.113.10}
    security_groups:
      open: {description: everything, ingress: [{protocol: all, source: 0.0.0.0/0}]}
instances:
  app: {vpc: shop, subnet: apps, private_ip: 10.0.2.10}
  trap: {vpc: shop, subnet: second, security_groups: [open], source_dest_check: false}
internet: {hosts: {db: {address: 198.51.100.10}}}
"""


def send(pair: Pair, node: str, packet: IP, *, times: int = 1) -> None:
    send_raw(pair, f"{node}/eth0", b"\x08\x00" + bytes(packet), times=times)


def send_raw(pair: Pair, path: str, packet: bytes, *, times: int = 1) -> None:
    """EtherType and packet, from an interface, so many times at once."""
    port = pair.fast.port(path)
    interface = pair.fast.interface(port)
    pair.send(port, [interface.router_mac + interface.mac + packet] * times)


def error_about(port: int) -> IP:
    return IP(src=DB, dst=NAT) / ICMP(type=3, code=3) / IP(src=NAT, dst=DB) / UDP(sport=port, dport=6)


def test_guessed_port_that_died_unseen_ends_the_comparison() -> None:
    pair = Pair(load_topology(CLOSED, file_name="lab.yaml"))
    send(pair, "app", IP(src=APP, dst=DB) / UDP(sport=5, dport=6))
    assert not pair.news
    fast, reference = pair.chosen_ports()
    [(_, port)] = {end for end in fast - reference if end[1] != 6}
    with pytest.raises(IncomparableError):
        send(pair, "db", error_about(port))


def test_port_between_two_gateways_ends_the_comparison() -> None:
    """The answer comes to the first gateway's address, which a route leads to an instance instead."""
    pair = Pair(load_topology(TWO_GATEWAYS, file_name="lab.yaml"), seed=1)
    send(pair, "app", IP(src="10.0.2.10", dst="198.51.100.10") / UDP(sport=5, dport=6))
    [(_, frame)] = pair.news
    asked = IP(frame[14:])
    with pytest.raises(IncomparableError, match="port_between_two_gateways"):
        send(pair, "db", IP(src="198.51.100.10", dst=asked.src) / UDP(sport=6, dport=asked.sport))


def test_port_that_a_later_fragment_hides_ends_the_comparison() -> None:
    lab = LAB.replace("private_ip: 10.0.1.5}", "private_ip: 10.0.1.5, secondary_private_ips: [10.0.1.6]}")
    closed = lab.replace("ingress: [{protocol: all", "egress: [], ingress: [{protocol: all", 1)
    first, later = fragment(IP(src=APP, dst=DB, id=7) / UDP(sport=5, dport=6) / bytes(48), 32)
    for seed in range(8):  # until the fast engine chooses an address that the reference engine would not
        pair = Pair(load_topology(closed, file_name="lab.yaml"), seed=seed)
        send(pair, "app", first)
        assert not pair.news
        pair.apply(load_topology(lab, file_name="lab.yaml"))
        try:
            send(pair, "app", later)
        except IncomparableError:
            return
        assert pair.news
    pytest.fail("nothing was chosen in a later fragment")


def test_port_that_was_seen_is_compared() -> None:
    pair = Pair(load_topology(LAB, file_name="lab.yaml"))
    send(pair, "app", IP(src=APP, dst=DB) / UDP(sport=5, dport=6))
    [(_, frame)] = pair.news
    fast, reference = pair.chosen_ports()
    assert fast == reference
    send(pair, "db", error_about(IP(frame[14:])[UDP].sport))
    assert [pair.names[port].path for port, _ in pair.news] == ["app/eth0"]


def test_port_of_a_connection_that_begins_again_is_compared() -> None:
    """It has the one that was seen (RFC 7857, section 2.1), though what begins it dies behind the gateway."""
    pair = Pair(load_topology(SHOP, file_name="lab.yaml"))
    begin = IP(src="10.0.2.10", dst="198.51.100.10") / TCP(sport=5, dport=6)
    send(pair, "app", begin)
    [(_, frame)] = pair.news
    seen = IP(frame[14:])
    send(pair, "app", IP(src="10.0.2.10", dst="198.51.100.10") / TCP(sport=5, dport=6, flags="R"))
    begin[IP].ttl = 2
    send(pair, "app", begin)
    assert not pair.news
    send(pair, "example", IP(src="198.51.100.10", dst=seen.src) / TCP(sport=6, dport=seen.sport, flags="SA"))
    assert [pair.names[port].path for port, _ in pair.news] == ["app/eth0"]


LATE = (
    ONE.replace("route_table: apps}", "route_table: nat}", 1)
    .replace(
        "    route_tables:\n      ingress:",
        "    nat_gateways: {nat: {subnet: out, elastic_ip: 203.0.113.10}}\n"
        '    route_tables:\n      nat: {routes: [{destination: 0.0.0.0/0, target: "nat-gateway:nat"}]}\n      ingress:',
        1,
    )
    .replace(
        "    subnets:\n", "    subnets:\n      out: {cidr: 10.0.4.0/24, availability_zone: a, route_table: apps}\n", 1
    )
)
"""What goes out goes through a NAT gateway, and then through an endpoint."""


def test_port_that_shows_late_ends_the_comparison() -> None:
    pair = Pair(load_topology(LATE.replace("ports: 6081", "ports: 80"), file_name="lab.yaml"))
    begin, ping = (IP(src="10.0.2.10", dst="198.51.100.10") / TCP(sport=5, dport=6, flags=flags) for flags in "SA")
    send(pair, "app", begin)
    assert not pair.news
    pair.apply(load_topology(LATE, file_name="lab.yaml"))
    with pytest.raises(IncomparableError, match="shows_late"):
        send(pair, "app", ping)


def test_port_that_is_seen_at_once_is_compared_behind_an_endpoint_too() -> None:
    pair = Pair(load_topology(LATE, file_name="lab.yaml"))
    send(pair, "app", IP(src="10.0.2.10", dst="198.51.100.10") / TCP(sport=5, dport=6))
    send(pair, "app", IP(src="10.0.2.10", dst="198.51.100.10") / TCP(sport=5, dport=6, flags="A"))
    assert [pair.names[port].path for port, _ in pair.news] == ["fw1/eth0"]


def test_port_that_a_later_hop_had_remembered_ends_the_comparison() -> None:
    """The endpoint has seen the flow with the port that stood in for the one that shows now."""
    pair = Pair(load_topology(LATE.replace("ports: 6081", "ports: 80"), file_name="lab.yaml"))
    packet = IP(src="10.0.2.10", dst="198.51.100.10") / UDP(sport=5, dport=6)
    send(pair, "app", packet)
    assert not pair.news
    pair.apply(load_topology(LATE, file_name="lab.yaml"))
    with pytest.raises(IncomparableError, match="had_remembered"):
        send(pair, "app", packet)


def test_memories_that_differ_in_something_else_too_are_a_disagreement() -> None:
    pair = Pair(load_topology(LATE.replace("ports: 6081", "ports: 80"), file_name="lab.yaml"))
    send(pair, "app", IP(src="10.0.2.10", dst="10.0.1.20") / ICMP(id=1))
    packet = IP(src="10.0.2.10", dst="198.51.100.10") / UDP(sport=5, dport=6)
    send(pair, "app", packet)
    flows = pair.reference.router.tracking._flows
    del flows[next(key for key in flows if key[1].protocol == 1)]
    pair.apply(load_topology(LATE, file_name="lab.yaml"))
    with pytest.raises(AssertionError, match=r"sessions only of fast: \[\('group'"):
        send(pair, "app", packet)


def test_port_that_a_connection_has_stands_in_for_none() -> None:
    """Were the fast engine to forget all of it, they would not remember the same."""
    pair = Pair(load_topology(LATE, file_name="lab.yaml"))
    send(pair, "app", IP(src="10.0.2.10", dst="198.51.100.10") / UDP(sport=5, dport=6))
    _, reference = pair.chosen_ports()
    with patch.object(pair, "chosen_ports", return_value=(set(), reference)):
        assert {kind for kind, *_ in pair.remembered_but_for_stand_ins()} == {"balancer", "group", "nat"}


def test_packet_that_comes_out_of_its_circle_may_have_passed_a_place_often() -> None:
    def passed(times: int) -> Outcome:
        return Outcome(Verdict.FORWARD, Reason.NONE, 1, 0, ((2, "translate", 0),) * times + ((1, "deliver", 0),))

    assert [rounds(passed(times)) for times in (0, 1, ROUNDS)] == [1, 1, ROUNDS]


SECONDARY = (
    "elastic_ip: 203.0.113.10}",
    "elastic_ip: 203.0.113.10, secondary_private_ips: [10.0.4.6], secondary_elastic_ips: [203.0.113.11]}",
)
"""A second address of the NAT gateway."""
STICKY = LATE.replace(*SECONDARY).replace(
    "{targets: [fw1]}", "{targets: [fw1, fw2], stickiness: source_ip_dest_ip_proto}"
)
"""Which appliance gets a flow depends on the address that the NAT gateway has chosen."""
CLOSED_FW2 = STICKY.replace("10.9.1.22, security_groups: [fw]", "10.9.1.22, security_groups: [default]")


def test_target_for_an_address_that_nobody_has_seen_ends_the_comparison() -> None:
    pair = Pair(load_topology(CLOSED_FW2, file_name="lab.yaml"))
    first, second = (IP(src="10.0.2.10", dst="198.51.100.10") / UDP(sport=port, dport=6) for port in (1, 2))
    send(pair, "app", first)
    assert [pair.names[port].path for port, _ in pair.news] == ["fw1/eth0"]
    with pytest.raises(IncomparableError, match="target_for_an_address"):
        send(pair, "app", second)  # from the other address, to the other appliance


def test_target_for_an_address_that_was_seen_is_compared() -> None:
    pair = Pair(load_topology(STICKY, file_name="lab.yaml"))
    only_other = patch("dataplane.reference.balancer.takers", return_value=frozenset({NOBODY}))
    with only_other, pytest.raises(InadmissibleChoiceError, match=r"target 10\.9\.1\.2[12], but may be"):
        send(pair, "app", IP(src="10.0.2.10", dst="198.51.100.10") / UDP(sport=1, dport=6))


def test_cookie_of_an_end_that_nobody_has_seen_ends_the_comparison() -> None:
    """The first fragment dies of its TTL behind the gateway, the later one gets a cookie, and shows no port."""
    pair = Pair(load_topology(LATE, file_name="lab.yaml"))
    whole = IP(src="10.0.2.10", dst="198.51.100.10", id=7) / UDP(sport=5, dport=6) / bytes(48)
    first, later = fragment(whole, 32)
    first.ttl = 2
    send(pair, "app", first)
    send(pair, "app", later)
    assert [pair.names[port].path for port, _ in pair.news] == ["fw1/eth0"]
    with pytest.raises(IncomparableError, match="cookie_of_an_end"):
        send(pair, "app", whole)


def test_cookie_of_another_flow_than_the_stand_in_is_compared() -> None:
    pair = Pair(load_topology(LATE, file_name="lab.yaml"))
    other = IP(src="10.0.2.10", dst="198.51.100.10") / UDP(sport=5, dport=99)
    whole = IP(src="10.0.2.10", dst="198.51.100.10", id=7) / UDP(sport=5, dport=6) / bytes(48)
    first, later = fragment(whole, 32)
    first.ttl = 2
    for packet in (other, first, later):
        send(pair, "app", packet)
    [held] = [each for _, each in pair.reference.router.balancers.all(pair.now) if each.flow.destination_port == 99]
    taken = patch("dataplane.reference.balanced_flows.BalancedFlows.with_cookie", return_value=held)
    with taken, pytest.raises(InadmissibleChoiceError, match="destination_port=99"):
        send(pair, "app", whole)


def test_cookie_of_another_flow_is_compared() -> None:
    pair = Pair(load_topology(LATE, file_name="lab.yaml"))
    first, second = (IP(src="10.0.2.10", dst="198.51.100.10") / UDP(sport=port, dport=6) for port in (1, 2))
    send(pair, "app", first)
    [(_, other)] = pair.reference.router.balancers.all(pair.now)
    taken = patch("dataplane.reference.balanced_flows.BalancedFlows.with_cookie", return_value=other)
    with taken, pytest.raises(InadmissibleChoiceError, match="which Flow"):
        send(pair, "app", second)


TOGETHER = balancer(
    group(stickiness="source_ip_dest_ip", on_deregistration="rebalance", on_unhealthy="rebalance").replace(
        "targets: [fw1, fw2, fw3]", "targets: [fw1, fw2]"
    ),
    cross_zone="true",
)


def in_state(states: Mapping[str, Literal["healthy", "unhealthy"]], *, left: str = "") -> Topology:
    """TOGETHER, with targets in these states; one may have left the group, and its flows stay for a while."""
    found = load_topology(TOGETHER.replace("[fw1, fw2]", f"[{', '.join(states)}]"), file_name="lab.yaml")
    address = {"fw1": "10.9.1.21", "fw2": "10.9.1.22", "": "0.0.0.0"}[left]
    gone = FormerTarget(name=left, address=IPv4Address(address), zone="us-east-1a", drained=False, until_ms=0)
    health = {("security", "fleet", name): TargetHealth(state=state) for name, state in states.items()}
    return found.with_runtime(RuntimeState(health=health, former={("security", "fleet"): (gone,)} if left else {}))


def parted() -> tuple[Pair, IP]:
    """Both flows had one target, which failed, and the second has moved; the second."""
    first, second = (IP(src="10.0.2.10", dst="10.0.3.10") / UDP(sport=port, dport=6) for port in (1, 2))
    pair = Pair(in_state({"fw1": "healthy", "fw2": "unhealthy"}))
    send(pair, "app", first)
    send(pair, "app", second)
    pair.apply(in_state({"fw1": "unhealthy", "fw2": "healthy"}))
    send(pair, "app", second)
    assert [pair.names[port].path for port, _ in pair.news] == ["fw2/eth0"]
    return pair, second


def test_sticky_flows_that_have_parted_end_the_comparison() -> None:
    pair, second = parted()
    pair.apply(in_state({"fw2": "unhealthy", "fw3": "healthy"}, left="fw1"))  # it keeps the first
    with pytest.raises(IncomparableError, match="sticky_flows_that_have_parted"):
        send(pair, "app", second)


def test_errors_that_die_on_their_way_to_a_target_are_compared_whichever_frame_they_are_about() -> None:
    """What the NAT gateway says of a packet goes to an appliance first: as none is healthy, whichever comes."""
    lab = CLOSED_FW2.replace(
        "      apps:\n        routes:\n",
        '      apps:\n        routes:\n          - {destination: 10.0.2.0/24, target: "vpc-endpoint:inspect"}\n',
        1,
    ).replace("stickiness:", "on_deregistration: rebalance, on_unhealthy: rebalance, stickiness:")
    health = {("security", "fleet", name): TargetHealth(state="unhealthy") for name in ("fw1", "fw2")}
    topology = load_topology(lab, file_name="lab.yaml").with_runtime(RuntimeState(health=health, former={}))
    ended = set()
    for seed in range(16):
        pair = Pair(topology, seed=seed)
        send(pair, "app", IP(src="10.0.2.10", dst="198.51.100.10", ttl=1) / UDP(sport=5, dport=6), times=2)
        ended.add(tuple(pair.names[port].path for port, _ in pair.news))
    assert ended == {(), ("fw1/eth0", "fw1/eth0")}


def test_cookies_of_sticky_flows_that_have_parted_are_compared() -> None:
    pair, _ = parted()
    pair.apply(in_state({"fw1": "healthy", "fw2": "healthy"}))
    [_, (_, other)] = pair.reference.router.balancers.all(pair.now)
    taken = patch("dataplane.reference.balanced_flows.BalancedFlows.with_cookie", return_value=other)
    with taken, pytest.raises(InadmissibleChoiceError, match="which Flow"):
        send(pair, "app", IP(src="10.0.2.10", dst="10.0.3.10") / UDP(sport=3, dport=6))


CIRCLE = balancer(
    LATE.replace(
        "      gwlbe:\n        routes:\n          - {destination: 0.0.0.0/0, target: internet-gateway}",
        '      gwlbe:\n        routes:\n          - {destination: 0.0.0.0/0, target: "nat-gateway:nat"}',
        1,
    ),
    send_tcp_reset="true",
    tcp_idle_timeout=60,
)
"""What comes back from the appliance is translated, and goes to the endpoint again."""


def wound_up(times: int, *, lab: str = CIRCLE) -> Pair:
    """A connection that a NAT gateway has translated so many times; who had opened it at the endpoint waits for it."""
    pair = Pair(load_topology(lab, file_name="lab.yaml"))
    send(pair, "app", IP(src="10.0.2.10", dst="198.51.100.10") / TCP(sport=5, dport=6))
    for _ in range(times - 1):
        [(port, frame)] = pair.news
        send_raw(pair, pair.names[port].path, bounce(frame))
    return pair


SEEN = CIRCLE.replace("    subnets:\n", "    flow_logs: {log: {}}\n    subnets:\n", 1)
"""A flow log watches the NAT gateway."""


def answered(pair: Pair) -> None:
    """The appliance answers what has come to it last."""
    [(port, frame)] = pair.news
    packet = IP(as_received(frame)[14:])
    packet.src, packet.dst = packet.dst, packet.src
    packet[TCP].sport, packet[TCP].dport, packet[TCP].flags = packet[TCP].dport, packet[TCP].sport, "SA"
    del packet.chksum, packet[TCP].chksum
    send_raw(pair, pair.names[port].path, instead(frame, bytes(packet)))


@pytest.mark.parametrize("rounds_made", [6, 8])
def test_answer_that_unwinds_a_circle_is_recorded_at_every_point_it_goes_by(rounds_made: int) -> None:
    """Eight rounds make more than sixteen points."""
    pair = wound_up(rounds_made, lab=SEEN)
    answered(pair)
    assert [pair.names[port].path for port, _ in pair.news] == ["app/eth0"]
    pair.reference.router.records.found.popitem()
    with pytest.raises(AssertionError, match="records only of fast"):
        pair.compare_records()


TARGETS_SEEN = LATE.replace("    cidr: 10.9.0.0/16\n", "    cidr: 10.9.0.0/16\n    flow_logs: {log: {}}\n")


@pytest.mark.parametrize("size", [8400, 8476])
def test_bytes_of_what_went_to_a_target_are_compared(size: int) -> None:
    """8476 bytes and their headers are longer than a NAT gateway forwards in one piece."""
    pair = Pair(load_topology(TARGETS_SEEN, file_name="lab.yaml"))
    send(pair, "app", IP(src="10.0.2.10", dst="198.51.100.10") / UDP(sport=5, dport=6) / bytes(size))
    assert [pair.names[port].path for port, _ in pair.news] == ["fw1/eth0"] * (2 if size == 8476 else 1)
    for found in pair.reference.router.records.found.values():
        found.bytes += 1
    with pytest.raises(AssertionError, match="records only of fast"):
        pair.compare_records()


def full() -> Pair:
    """There is room for 16 connections, and `open` finds none any more."""
    pair = Pair(load_topology(SHOP, file_name="lab.yaml"), sessions=16)
    for port in range(1, 9):
        send(pair, "open", IP(src="10.0.2.11", dst="198.51.100.10") / UDP(sport=port, dport=9))
        for other, address in {"app": "10.0.2.10", "web": "10.0.1.10"}.items():
            send(pair, other, IP(src=address, dst="10.0.1.11") / UDP(sport=port, dport=9))
    assert not pair.news
    return pair


def send_all(pair: Pair, node: str, *packets: IP) -> None:
    """In one burst."""
    port = pair.fast.port(f"{node}/eth0")
    interface = pair.fast.interface(port)
    header = interface.router_mac + interface.mac + b"\x08\x00"
    pair.send(port, [header + bytes(packet) for packet in packets])


def refused(pair: Pair) -> int:
    """How often `open` has found no room."""
    row = pair.fast.engine.counters()[pair.fast.port("open/eth0")]
    return int(row["reasons"][Reason.SESSION_LIMIT])


NEW = IP(src="10.0.2.11", dst="198.51.100.10") / UDP(sport=9, dport=9) / bytes(32)


def test_piece_that_had_waited_and_finds_no_room_ends_the_comparison() -> None:
    """Nobody tells what becomes of it: it has no outcome."""
    first, later = fragment(NEW, fragsize=24)
    pair = full()
    with pytest.raises(IncomparableError):
        send_all(pair, "open", later, first)


def test_piece_that_finds_no_room_without_waiting_is_compared() -> None:
    pair = full()
    before = refused(pair)
    send_all(pair, "open", *fragment(NEW, fragsize=24))
    assert refused(pair) == before + 2


def test_pieces_that_had_waited_and_find_room_are_compared() -> None:
    first, later = fragment(NEW, fragsize=24)
    pair = Pair(load_topology(SHOP, file_name="lab.yaml"), sessions=16)
    send_all(pair, "open", later, first)
    assert len(pair.news) == 2


LATE_ACK = IP(src="10.0.2.11", dst="198.51.100.10") / TCP(sport=9, dport=9, flags="A")


@pytest.mark.parametrize("at", [0, 1])
def test_reset_that_finds_no_room_is_compared(at: int) -> None:
    """At the interface that it is for, which had let what it is about pass untracked."""
    pair = full()
    before = refused(pair)
    send_all(pair, "open", *[NEW] * at, LATE_ACK)
    assert not pair.news
    assert refused(pair) == before + at + 1
    pair.reference.drops[pair.fast.port("open/eth0")][Reason.SESSION_LIMIT] -= 1
    with pytest.raises(AssertionError, match="drops counted"):
        pair.advance(1)


@pytest.mark.parametrize("sessions", [48, 400])
def test_what_circles_may_fill_the_table_of_the_engine_that_cuts_it_off_last(sessions: int) -> None:
    """Each round opens two connections, and the reference engine makes more rounds."""
    lab = SHOP.replace("peerings:\n", f"{MAZE}peerings:\n").replace("internet:\n", LOST)
    pair = Pair(load_topology(lab, file_name="lab.yaml"), sessions=sessions)
    with pytest.raises(InCirclesError):
        send(pair, "lost", IP(src="10.9.1.10", dst="198.51.100.10") / ICMP())


def test_room_that_only_one_engine_finds_is_a_disagreement() -> None:
    pair = full()
    with patch.object(pair.reference.router.room, "most", 64), pytest.raises(AssertionError, match="was refused"):
        send(pair, "open", NEW)


def test_interface_that_has_room_the_first_time_and_not_the_second_is_compared() -> None:
    """What an appliance sends back is translated, and goes to it again: there is no room left to track that."""
    pair = Pair(load_topology(CIRCLE, file_name="lab.yaml"), sessions=16)
    send(pair, "app", IP(src="10.0.2.10", dst="198.51.100.10") / TCP(sport=5, dport=6))
    [(port, frame)] = pair.news
    send_raw(pair, pair.names[port].path, bounce(frame))
    assert not pair.news
    assert pair.fast.engine.counters()[port]["reasons"] == {Reason.SESSION_LIMIT: 1}


@pytest.mark.parametrize("sessions", [16, 23])
def test_records_of_what_finds_no_room_at_a_peering_are_compared(sessions: int) -> None:
    """It has not gone over it, so nobody knows how it went on."""
    seen = LAB.replace("    subnets:\n", "    flow_logs: {log: {}}\n    subnets:\n", 1)
    pair = Pair(load_topology(seen, file_name="lab.yaml"), sessions=sessions)
    for port in range(1, 9):
        send(pair, "app", IP(src=APP, dst=DB) / UDP(sport=port, dport=6))
    assert not pair.news

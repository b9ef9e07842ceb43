"""Gateway load balancers: what is a flow and how long, which target gets it, and what becomes of it then."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from dataplane.verdict import Cause, Reason
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import accepted, changed, refused
from tests.conformance.sources import FAQ, balancer_guide, ec2_guide
from tests.scenario.gwlb import (
    APP,
    APP6,
    DB,
    EVERYBODY,
    FAR6,
    IN_A,
    LAB,
    NODE_A,
    ONE,
    balancer,
    delivered,
    delivery,
    group,
    send_back,
    set_state,
    targets_of_flows,
    through,
)
from tests.scenario.network import Network

SECTION = "Gateway load balancers"

GUIDE = balancer_guide("gateway-load-balancers")
INTRODUCTION = balancer_guide("introduction")
LISTENERS = balancer_guide("gateway-listeners")
GROUPS = balancer_guide("target-groups")
HEALTH = balancer_guide("health-checks")
STARTING = balancer_guide("getting-started")

SYN = IP(src=APP, dst=DB) / TCP(sport=40000, dport=80, flags="S", seq=100)
SYN_ACK = IP(src=DB, dst=APP) / TCP(sport=80, dport=40000, flags="SA", seq=900, ack=101)
ACK = IP(src=APP, dst=DB) / TCP(sport=40000, dport=80, flags="A", seq=101, ack=901)
QUERY = IP(src=APP, dst=DB) / UDP(sport=5000, dport=53)
REPLY = IP(src=DB, dst=APP) / UDP(sport=53, dport=5000)
RESETS = balancer(send_tcp_reset="true")


def connect(network: Network) -> None:
    for node, packet in (("app", SYN), ("db", SYN_ACK), ("app", ACK)):
        assert through(network, node, packet).sent


def udp(port: int) -> IP:
    """The first packet of a flow of its own."""
    return IP(src=APP, dst=DB) / UDP(sport=port, dport=9)


# -- what is balanced


@behaviour("All protocols and ports are balanced, of IPv4 and IPv6", source=LISTENERS)
@pytest.mark.parametrize(
    "packet",
    [
        SYN,
        QUERY,
        IP(src=APP, dst=DB) / UDP(sport=1, dport=65535),
        IP(src=APP, dst=DB) / ICMP(id=1),
        IP(src=APP, dst=DB, proto=47) / Raw(b"GRE"),
        IP(src=APP, dst=DB, proto=50) / Raw(b"ESP"),
        IP(src=APP, dst=DB, proto=253) / Raw(b"whatever"),
        IPv6(src=APP6, dst=FAR6) / TCP(sport=1, dport=2, flags="S"),
    ],
)
def test_everything_is_balanced(packet: Any) -> None:
    network = Network(LAB)
    got = delivered(network.send("app", packet))
    assert got.target in IN_A
    assert send_back(network, got).to == ("db" if IP in packet else "far")


@behaviour("Both directions of a flow through a gateway load balancer go through the same target", source=INTRODUCTION)
@pytest.mark.parametrize(
    ("there", "back"),
    [
        (SYN, SYN_ACK),
        (QUERY, REPLY),
        (IP(src=APP, dst=DB) / ICMP(id=9), IP(src=DB, dst=APP) / ICMP(type=0, id=9)),
        (IP(src=APP, dst=DB, proto=47) / Raw(b"GRE"), IP(src=DB, dst=APP, proto=47) / Raw(b"GRE")),
    ],
)
def test_both_directions(there: Any, back: Any) -> None:
    for seed in range(4):
        network = Network(LAB, seed=seed)
        assert delivered(network.send("app", there)).target == delivered(network.send("db", back)).target


@behaviour(
    "What is neither TCP nor UDP is one flow with all of its protocol between two addresses: pings of both sides too",
    source=FAQ,
)
@pytest.mark.parametrize("protocol", [1, 47, 132])
def test_what_has_no_ports(protocol: int) -> None:
    network = Network(LAB)
    bodies = [ICMP(id=n) for n in range(9)] if protocol == 1 else [Raw(bytes([n]) * 12) for n in range(9)]
    got = {
        delivered(network.send(node, IP(src=source, dst=to, proto=protocol) / body)).identity
        for body in bodies
        for node, source, to in (("app", APP, DB), ("db", DB, APP))
    }
    assert len(got) == 1


@behaviour("A flow whose answers take another way is balanced in the one direction there is", source=GUIDE)
def test_requests_only() -> None:
    network = Network(LAB)
    got = [delivered(network.send("app", packet)) for packet in (SYN, ACK, ACK)]
    assert len({(each.target, each.cookie) for each in got}) == 1


@behaviour("A TCP answer whose request did not pass the load balancer is dropped", source=GUIDE)
def test_answers_only() -> None:
    result = Network(LAB).send("db", SYN_ACK)
    assert (result.reason, result.sent) == (Reason.BALANCER_NO_FLOW, ())


@behaviour("Each fragment is encapsulated by itself, and goes to the target of its flow", silent=True, source=GUIDE)
def test_fragments() -> None:
    network = Network(LAB)
    pieces = fragment(IP(src=APP, dst=DB, id=77) / UDP(sport=1, dport=2) / Raw(bytes(2000)), 800)
    got = [delivered(network.send("app", piece)) for piece in pieces]
    assert [each.packet.frag for each in got] == [0, 100, 200]
    assert len({each.identity for each in got}) == 1
    assert [send_back(network, each).packet.frag for each in got] == [0, 100, 200]


@behaviour("A later fragment that an appliance has made is dropped at the load balancer", source=FAQ)
def test_fragments_of_an_appliance() -> None:
    network = Network(LAB)
    got = delivered(network.send("app", IP(src=APP, dst=DB, id=77) / UDP(sport=1, dport=2) / Raw(bytes(2000))))
    first, *later = fragment(got.packet, 800)
    assert send_back(network, got, inside=bytes(first)).to == "db"
    for piece in later:
        result = send_back(network, got, inside=bytes(piece))
        assert (result.reason, result.sent) == (Reason.GENEVE_FRAGMENT, ())


@behaviour("An ICMP error goes to the target of the flow that it is about", silent=True, source=INTRODUCTION)
def test_errors() -> None:
    network = Network(LAB)
    flow = delivered(network.send("app", QUERY))
    error = IP(src=DB, dst=APP) / ICMP(type=3, code=3) / Raw(bytes(QUERY)[:28])
    got = delivered(network.send("db", error))
    assert got.identity == flow.identity
    assert send_back(network, got).to == "app"


# -- how long a flow lives


@behaviour("TCP is forgotten after 350 idle seconds, and what is sent in its middle then is dropped", source=LISTENERS)
@pytest.mark.parametrize(("idle", "known"), [(349, True), (350, False)])
def test_idle_tcp(idle: int, known: bool) -> None:
    network = Network(LAB)
    connect(network)
    network.wait(idle)
    result = network.send("app", ACK)
    assert result.reason is (Reason.NONE if known else Reason.BALANCER_NO_FLOW)
    assert bool(result.sent) is known


@behaviour("After that a SYN begins a flow anew", source=LISTENERS)
def test_syn_after_idle_tcp() -> None:
    network = Network(LAB)
    before = delivered(network.send("app", SYN))
    network.wait(350)
    after = delivered(network.send("app", SYN))
    assert send_back(network, after).to == "db"
    assert send_back(network, before).reason is Reason.GENEVE_COOKIE_UNKNOWN


@behaviour("The idle timeout of TCP may be set, from 60 to 6000 seconds", source=LISTENERS)
@pytest.mark.parametrize("timeout", [60, 6000])
def test_idle_timeout(timeout: int) -> None:
    for idle, known in ((timeout - 1, True), (timeout, False)):
        network = Network(balancer(tcp_idle_timeout=timeout))
        connect(network)
        network.wait(idle)
        assert network.send("db", SYN_ACK).reason is (Reason.NONE if known else Reason.BALANCER_NO_FLOW)
    at = "vpcs.security.gateway_load_balancers.inspection.tcp_idle_timeout"
    for wrong in (59, 6001):
        assert (at, "InvalidConfigurationRequest") in refused(balancer(tcp_idle_timeout=wrong))


@behaviour("A timeout that was set does not count where flows stick by addresses: 350 seconds do", source=LISTENERS)
@pytest.mark.parametrize("stickiness", ["source_ip_dest_ip", "source_ip_dest_ip_proto"])
def test_idle_timeout_with_stickiness(stickiness: str) -> None:
    for idle, known in ((349, True), (350, False)):
        network = Network(balancer(group(stickiness=stickiness), tcp_idle_timeout=60))
        connect(network)
        network.wait(idle)
        assert network.send("db", SYN_ACK).reason is (Reason.NONE if known else Reason.BALANCER_NO_FLOW)


@behaviour("What is not TCP is forgotten after 120 idle seconds, and its next packet begins a new flow", source=GROUPS)
@pytest.mark.parametrize(
    "packet", [QUERY, IP(src=APP, dst=DB) / ICMP(id=9), IP(src=APP, dst=DB, proto=47) / Raw(b"GRE")]
)
def test_idle_others(packet: Any) -> None:
    for idle, same in ((119, True), (120, False)):
        network = Network(balancer(tcp_idle_timeout=6000))
        before = delivered(network.send("app", packet))
        network.wait(idle)
        assert (delivered(network.send("app", packet)).cookie == before.cookie) is same


@behaviour("Packets of either direction keep a flow, keepalives too", source=LISTENERS)
def test_keepalive() -> None:
    network = Network(LAB)
    connect(network)
    keepalive = ACK.copy()
    keepalive[TCP].seq = 100
    cookies = set()
    for node, packet in (("app", keepalive), ("db", SYN_ACK), ("app", keepalive)):
        network.wait(349)
        cookies.add(delivered(network.send(node, packet)).cookie)
    assert len(cookies) == 1


@behaviour("What a target sends keeps its flow as what a client sends does, keepalives too", source=GUIDE)
@pytest.mark.parametrize(
    ("opening", "inside", "seconds"), [(SYN, ACK, 349), (SYN, SYN_ACK, 349), (QUERY, QUERY, 119), (QUERY, REPLY, 119)]
)
def test_keepalive_of_a_target(opening: Any, inside: Any, seconds: int) -> None:
    network = Network(LAB)
    got = delivered(network.send("app", opening))
    for _ in range(3):
        network.wait(seconds)
        assert send_back(network, got, inside=bytes(inside)).sent
    network.wait(seconds)
    assert delivered(network.send("app", ACK if opening is SYN else opening)).cookie == got.cookie


@behaviour("A flow that its target has reset is over: the next SYN begins another one", source=HEALTH)
def test_reset_by_a_target() -> None:
    network = Network(LAB)
    connect(network)
    got = delivered(network.send("app", ACK))
    reset = SYN_ACK.copy()
    reset[TCP].flags = "RA"
    assert send_back(network, got, inside=bytes(reset)).to == "app"
    assert delivered(network.send("app", SYN)).cookie != got.cookie


@behaviour(
    "Nobody is told that TCP was forgotten, or that a segment is of no flow, unless resets are on", source=LISTENERS
)
def test_no_resets() -> None:
    network = Network(LAB)
    connect(network)
    network.now += 350_000
    _, emissions = network.plane.advance(network.now)
    assert list(emissions) == []
    assert network.send("app", ACK).sent == ()


@behaviour(
    "With resets on, whoever goes on with TCP that was forgotten is sent one: nothing leaves before",
    source=balancer_guide("update-idle-timeout"),
)
def test_resets_when_time_is_over() -> None:
    network = Network(RESETS)
    connect(network)
    network.now += 350_000
    assert network.plane.advance(network.now)[1] == []
    for node, packet in (("app", ACK), ("db", SYN_ACK)):
        [sent] = network.send(node, packet).sent
        assert (sent.node, sent.cause, sent.packet.src) == (node, Cause.RESET, packet.dst)


@behaviour("With resets on, the sender of a segment of no flow is sent one", source=LISTENERS)
def test_resets_for_segments_of_no_flow() -> None:
    result = Network(RESETS).send("app", ACK)
    [sent] = result.sent
    assert (result.reason, sent.node, sent.cause) == (Reason.BALANCER_NO_FLOW, "app", Cause.RESET)
    assert (sent.packet.src, str(sent.packet[TCP].flags), sent.packet[TCP].seq) == (DB, "R", 901)


# -- which flows share a target


@behaviour("A flow is what has one protocol, two addresses and two ports: each keeps the target it has", source=GROUPS)
def test_five_tuple(engine: str) -> None:
    network = Network(LAB)
    first = [delivered(network.send("app", udp(port))) for port in range(1000, 1040)]
    targets = {each.target for each in first}
    assert targets == IN_A if engine == "fast" else targets <= IN_A, "the reference engine spreads nothing by itself"
    again = [delivered(network.send("app", udp(port))) for port in range(1000, 1040)]
    assert [each.target for each in again] == [each.target for each in first]
    assert len({each.cookie for each in first}) == 40


@behaviour("With stickiness by addresses and protocol, all flows of these share a target, both ways", source=GROUPS)
def test_three_tuple() -> None:
    network = Network(group(stickiness="source_ip_dest_ip_proto"))
    [target] = targets_of_flows(network)
    assert delivered(network.send("db", IP(src=DB, dst=APP) / UDP(sport=7, dport=8))).target == target


@behaviour(
    "With stickiness by addresses, the flows of all protocols between two addresses share a target", source=GROUPS
)
def test_two_tuple() -> None:
    network = Network(group(stickiness="source_ip_dest_ip"))
    [target] = targets_of_flows(network)
    others = (SYN, IP(src=APP, dst=DB) / ICMP(id=1), IP(src=APP, dst=DB, proto=47) / Raw(b"GRE"))
    assert {delivered(network.send("app", packet)).target for packet in others} == {target}


@behaviour("Flows that stick together do so until the last of them is forgotten", silent=True, source=GROUPS)
def test_stickiness_lasts() -> None:
    network = Network(group(stickiness="source_ip_dest_ip"))
    first = delivered(network.send("app", QUERY))
    [other] = IN_A - {first.target}
    set_state(network, {first.target: "unhealthy", other: "healthy"})
    assert delivered(network.send("app", udp(1))).target == first.target
    network.wait(120)
    assert delivered(network.send("app", udp(1))).target == other


# -- zones


@behaviour("A node sends to targets of its own zone only, by default", source=GUIDE)
def test_own_zone() -> None:
    network = Network(LAB)
    for mine, other in (("fw1", "fw2"), ("fw2", "fw1")):
        set_state(network, {mine: "healthy", other: "unhealthy", "fw3": "healthy"})
        assert targets_of_flows(network, first=1000 if mine == "fw1" else 2000) == {mine}


@behaviour("With cross-zone load balancing it sends to targets of all zones", source=GUIDE)
def test_cross_zone() -> None:
    network = Network(balancer(cross_zone="true"))
    for port, mine in enumerate(sorted(EVERYBODY), start=1000):
        set_state(network, dict.fromkeys(EVERYBODY, "unhealthy") | {mine: "healthy"})
        got = delivered(network.send("app", udp(port)))
        assert (got.target, got.source) == (mine, NODE_A), "the node is that of the endpoint's zone"


@behaviour(
    "Each zone decides for itself: when all of its targets are unhealthy new flows go to any of them, though another "
    "zone has healthy ones",
    source=HEALTH,
)
def test_zone_without_healthy_targets() -> None:
    states = {"fw1": "unhealthy", "fw2": "unhealthy", "fw3": "healthy"}
    network = Network(LAB)
    set_state(network, states)
    assert delivered(network.send("app", QUERY)).target in IN_A
    network = Network(balancer(cross_zone="true"))
    set_state(network, states)
    assert delivered(network.send("app", QUERY)).target == "fw3"


@behaviour("A target in a zone that the load balancer does not have gets nothing, cross-zone or not", source=HEALTH)
def test_zone_that_is_not_enabled() -> None:
    zones = "subnets: [fw-a, fw-b], private_ips: {fw-a: 10.9.1.10, fw-b: 10.9.2.10}"
    text = changed(balancer(cross_zone="true"), (zones, "subnets: [fw-a], private_ips: {fw-a: 10.9.1.10}"))
    network = Network(text)
    set_state(network, {"fw1": "healthy", "fw2": "unhealthy", "fw3": "healthy"})
    assert targets_of_flows(network) == {"fw1"}


# -- where it stands


@behaviour(
    "The security group of a target has to let UDP 6081 in from the load balancer, which has none", source=STARTING
)
def test_group_of_a_target() -> None:
    assert delivered(Network(ONE).send("app", QUERY)).target == "fw1"
    result = Network(changed(ONE, ("ports: 6081", "ports: 6080"))).send("app", QUERY)
    assert (result.reason, result.by) == (Reason.GROUP_INGRESS, "interface fw1/eth0")


@behaviour(
    "What a target sends back is no answer to its security group, for the ports are not swapped: UDP 6081 has to be "
    "let out",
    silent=True,
    source=ec2_guide("security-group-connection-tracking"),
)
def test_way_back_is_a_flow_of_its_own() -> None:
    rule = "ingress: [{protocol: udp, ports: 6081, source: 10.9.0.0/16}]"
    network = Network(changed(ONE, (rule, f"{rule}, egress: []")))
    assert through(network, "app", QUERY).reason is Reason.GROUP_EGRESS
    network.apply(changed(ONE, (rule, f"{rule}, egress: [{{protocol: udp, ports: 6081, destination: 10.9.1.10/32}}]")))
    assert through(network, "app", QUERY).to == "db"


@behaviour("A node answers neither pings nor anything else", silent=True, source=GUIDE)
@pytest.mark.parametrize("packet", [ICMP(), TCP(dport=80, flags="S"), TCP(dport=6081, flags="S"), UDP(dport=53)])
def test_node_is_silent(packet: Any) -> None:
    result = Network(LAB).send("fw1", IP(src="10.9.1.21", dst=NODE_A) / packet)
    assert (result.reason, result.sent) == (Reason.ENDPOINT_ADDRESSED, ())


@behaviour("A load balancer has one subnet in each of its zones", source=GUIDE)
def test_one_subnet_in_a_zone() -> None:
    at = "vpcs.security.gateway_load_balancers.inspection.subnets[1]"
    subnet = "fw-b: {cidr: 10.9.2.0/24, availability_zone: "
    text = changed(LAB, (f"{subnet}b}}", f"{subnet}a}}"))
    assert (at, "InvalidConfigurationRequest") in refused(text)


@behaviour("Each of its subnets has to have 8 addresses free", source=GUIDE)
def test_free_addresses() -> None:
    subnet, more = "fw-b: {cidr: 10.9.2.0/24", "instances:\n"
    fw3 = "10.9.2.23"
    few = (subnet, "fw-b: {cidr: 10.9.2.0/28"), (fw3, "10.9.2.9")
    extra = "".join(f"  x{n}: {{vpc: security, subnet: fw-b, security_groups: [fw]}}\n" for n in range(3))
    accepted(changed(LAB, *few, (more, more + extra[: 2 * len(extra) // 3])))
    at = "vpcs.security.gateway_load_balancers.inspection.subnets[1]"
    assert (at, "InvalidSubnet") in refused(changed(LAB, *few, (more, more + extra)))


@behaviour("An IPv4 load balancer takes no IPv6: no route of IPv6 leads to it", source=STARTING)
def test_ipv4_only() -> None:
    at = "vpcs.shop.route_tables.apps.routes[1].target"
    assert (at, "InvalidParameterValue") in refused(balancer(dualstack="false"))
    assert at not in {path for path, _ in refused(balancer(tcp_idle_timeout=1))}


@behaviour("One burst of packets is balanced as single packets are", silent=True, source=GUIDE)
def test_bursts() -> None:
    network = Network(LAB)
    results = network.send_all("app", [SYN, ACK, QUERY, QUERY])
    got = [delivery(sent) for result in results for sent in result.sent]
    assert (got[0].identity, got[2].identity) == (got[1].identity, got[3].identity)

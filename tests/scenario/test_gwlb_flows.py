"""Flows at a gateway load balancer endpoint: who they are, how long they live, which of them share a target.

https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/gateway-load-balancers.html (idle timeout, TCP resets)
https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/edit-target-group-attributes.html (stickiness)
"""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, TCPerror, UDPerror, fragment
from scapy.packet import Raw

from dataplane.verdict import Cause, Reason
from tests.scenario.gwlb import (
    APP,
    DB,
    LAB,
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
from tests.scenario.network import Network, Result

SYN = IP(src=APP, dst=DB) / TCP(sport=40000, dport=80, flags="S", seq=100)
SYN_ACK = IP(src=DB, dst=APP) / TCP(sport=80, dport=40000, flags="SA", seq=900, ack=101)
ACK = IP(src=APP, dst=DB) / TCP(sport=40000, dport=80, flags="A", seq=101, ack=901)
DATA = IP(src=DB, dst=APP) / TCP(sport=80, dport=40000, flags="PA", seq=901, ack=101) / Raw(b"12345")
QUERY = IP(src=APP, dst=DB) / UDP(sport=5000, dport=53)
RESPONSE = IP(src=DB, dst=APP) / UDP(sport=53, dport=5000)
RESETS = balancer(send_tcp_reset="true")


def connect(net: Network) -> None:
    for node, packet in (("app", SYN), ("db", SYN_ACK), ("app", ACK)):
        assert through(net, node, packet).sent


def close(net: Network) -> None:
    connect(net)
    for node, packet in (("app", ACK), ("db", DATA)):
        fin = packet.copy()
        fin[TCP].flags = "FA"
        delivered(net.send(node, fin))


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        (SYN, SYN_ACK),
        (QUERY, RESPONSE),
        (IP(src=APP, dst=DB) / ICMP(id=9), IP(src=DB, dst=APP) / ICMP(type=0, id=9)),
        (IP(src=APP, dst=DB, proto=47) / Raw(b"gre"), IP(src=DB, dst=APP, proto=47) / Raw(b"gre")),
    ],
)
def test_both_directions_are_one_flow(request_: Any, response: Any) -> None:
    net = Network(LAB)
    there, back = delivered(net.send("app", request_)), delivered(net.send("db", response))
    assert there.identity == back.identity
    assert there.target == back.target


def test_flows_have_cookies_of_their_own() -> None:
    net = Network(LAB)
    packets = [IP(src=APP, dst=DB) / UDP(sport=1000 + n, dport=53) for n in range(20)]
    assert len({delivered(net.send("app", packet)).cookie for packet in packets}) == 20


@pytest.mark.parametrize(
    "others",
    [
        [ICMP(id=10), ICMP(type=13, id=9), ICMP(type=0, id=3), ICMP(type=5), ICMP(type=3) / Raw(bytes(QUERY)[:28])],
        [Raw(b"gre")],
    ],
)
def test_what_has_no_ports_is_told_apart_by_protocol_and_addresses(others: list[Any]) -> None:
    """ "3-tuple (for non-TCP/UDP flows)": requests of both sides are of one flow too, whatever their identifier."""
    net = Network(LAB)
    protocol = 1 if isinstance(others[0], ICMP) else 47
    identities = {
        delivered(net.send(node, IP(src=source, dst=to, proto=protocol) / each)).identity
        for node, source, to in (("app", APP, DB), ("db", DB, APP))
        for each in (others[-1], *others) * 2
    }
    assert len(identities) == 1
    assert delivered(net.send("app", IP(src=APP, dst=DB, proto=50) / Raw(b"esp"))).identity not in identities


def test_equal_tuples_of_two_vpcs_are_two_flows() -> None:
    net = Network(LAB)
    one, other = delivered(net.send("app", QUERY)), delivered(net.send("app2", QUERY))
    assert (one.endpoint.hex(), other.endpoint.hex()) == ("f583215d2e66b39c", "0000000000000001")
    assert (send_back(net, one).to, send_back(net, other).to) == ("db", "db2")


# -- TCP


@pytest.mark.parametrize("flags", ["A", "PA", "FA", "SA", "R", "RA", "SR", ""])
def test_only_a_syn_opens_tcp(flags: str) -> None:
    packet = SYN.copy()
    packet[TCP].flags = flags
    result = Network(LAB).send("app", packet)
    assert (result.reason, result.sent) == (Reason.BALANCER_NO_FLOW, ())
    assert result.by == "gateway-load-balancer security/inspection"


def test_answer_whose_question_did_not_come_this_way_is_dropped() -> None:
    assert Network(LAB).send("db", SYN_ACK).reason is Reason.BALANCER_NO_FLOW


def test_retransmitted_syn_is_of_the_same_flow() -> None:
    net = Network(LAB)
    assert delivered(net.send("app", SYN)).identity == delivered(net.send("app", SYN)).identity


def test_syn_after_the_end_is_a_new_flow() -> None:
    net = Network(LAB)
    before = delivered(net.send("app", SYN))
    close(net)
    assert delivered(net.send("app", ACK)).cookie == before.cookie
    after = delivered(net.send("app", SYN))
    assert after.cookie != before.cookie
    assert send_back(net, before).reason is Reason.GENEVE_COOKIE_UNKNOWN


def test_syn_of_the_other_side_after_the_end_too() -> None:
    net = Network(LAB)
    close(net)
    syn = SYN_ACK.copy()
    syn[TCP].flags = "S"
    got = delivered(net.send("db", syn))
    [session] = [each for each in net.plane.engine.sessions() if each["kind"] == "balancer"]
    assert session["forward"][4:] == (80, 40000)
    assert send_back(net, got).to == "app"


# -- time


@pytest.mark.parametrize(("idle", "alive"), [(349.999, True), (350, False)])
def test_tcp_lives_for_350_seconds(idle: float, alive: bool) -> None:
    net = Network(LAB)
    connect(net)
    net.wait(idle)
    assert net.send("db", DATA).reason is (Reason.NONE if alive else Reason.BALANCER_NO_FLOW)


@pytest.mark.parametrize(("idle", "alive"), [(59.999, True), (60, False)])
def test_or_as_long_as_the_balancer_says(idle: float, alive: bool) -> None:
    net = Network(balancer(tcp_idle_timeout=60))
    connect(net)
    net.wait(idle)
    assert net.send("db", DATA).reason is (Reason.NONE if alive else Reason.BALANCER_NO_FLOW)


def test_which_counts_with_five_tuple_stickiness_only() -> None:
    net = Network(balancer(group(stickiness="source_ip_dest_ip"), tcp_idle_timeout=60))
    connect(net)
    net.wait(349)
    assert net.send("db", DATA).reason is Reason.NONE


@pytest.mark.parametrize(("idle", "alive"), [(59.999, True), (60, False)])
def test_a_new_limit_counts_from_the_next_packet_on(idle: float, alive: bool) -> None:
    """Also of a flow that has gone by often."""
    net = Network(LAB)
    connect(net)
    for _ in range(3):
        assert through(net, "app", ACK).sent
    net.apply(balancer(tcp_idle_timeout=60))
    net.wait(100)
    assert through(net, "app", ACK).sent
    net.wait(idle)
    assert net.send("db", DATA).reason is (Reason.NONE if alive else Reason.BALANCER_NO_FLOW)


@pytest.mark.parametrize(("idle", "same"), [(119.999, True), (120, False)])
def test_everything_else_lives_for_120_seconds(idle: float, same: bool) -> None:
    net = Network(LAB)
    for packet in (QUERY, IP(src=APP, dst=DB) / ICMP(id=9), IP(src=APP, dst=DB, proto=47) / Raw(b"gre")):
        before = delivered(net.send("app", packet))
        [other] = {"fw1", "fw2"} - {before.target}
        set_state(net, {before.target: "unhealthy", other: "healthy"})  # a new flow goes to the other one
        net.wait(idle)
        assert (delivered(net.send("app", packet)).target == before.target) is same


@pytest.mark.parametrize(("idle", "alive"), [(59.999, True), (60, False)])
def test_closed_tcp_lives_for_60_seconds(idle: float, alive: bool) -> None:
    net = Network(LAB)
    close(net)
    net.wait(idle)
    assert net.send("app", ACK).reason is (Reason.NONE if alive else Reason.BALANCER_NO_FLOW)


def test_packets_of_both_directions_keep_it_alive() -> None:
    net = Network(LAB)
    before = delivered(net.send("app", QUERY))
    for node, packet in (("db", RESPONSE), ("app", QUERY), ("db", RESPONSE)):
        net.wait(119)
        assert delivered(net.send(node, packet)).cookie == before.cookie


@pytest.mark.parametrize("inside", [QUERY, RESPONSE])
def test_what_comes_back_from_a_target_does_too(inside: Any) -> None:
    """In either direction; the first of these packets, and those of a flow that is known."""
    net = Network(LAB)
    got = delivered(net.send("app", QUERY))
    for _ in range(6):
        net.wait(119)
        assert send_back(net, got, inside=bytes(inside)).to == ("db" if inside is QUERY else "app")
    net.wait(119)
    assert delivered(net.send("app", QUERY)).cookie == got.cookie
    net.wait(120)
    assert send_back(net, got).reason is Reason.GENEVE_COOKIE_UNKNOWN


def test_errors_that_come_back_do_not() -> None:
    net = Network(LAB)
    got = delivered(net.send("app", QUERY))
    net.wait(119)
    assert send_back(net, got, inside=bytes(error(QUERY, DB, APP))).to == "app"
    net.wait(1)
    assert send_back(net, got).reason is Reason.GENEVE_COOKIE_UNKNOWN


def test_a_limit_of_the_balancer_counts_from_what_comes_back_too() -> None:
    net = Network(LAB)
    connect(net)
    got = delivered(net.send("app", ACK))
    net.apply(balancer(tcp_idle_timeout=60))
    assert send_back(net, got).to == "db"
    net.wait(60)
    assert net.send("app", ACK).reason is Reason.BALANCER_NO_FLOW


@pytest.mark.parametrize(("inside", "to"), [(SYN_ACK, "app"), (ACK, "db")])
def test_a_connection_that_its_target_resets_is_closed(inside: Any, to: str) -> None:
    """As one that an end resets: after that a SYN is a new flow, and 60 s later nothing else is of the old one."""
    net = Network(LAB)
    connect(net)
    got = delivered(net.send("app", ACK))
    reset = inside.copy()
    reset[TCP].flags = "RA"
    assert send_back(net, got, inside=bytes(reset)).to == to
    net.wait(59)
    assert delivered(net.send("db", DATA)).cookie == got.cookie
    assert delivered(net.send("app", SYN)).cookie != got.cookie


# -- resets


def test_reset_tells_the_sender_of_a_segment_of_no_flow() -> None:
    net = Network(RESETS)
    result = net.send("app", ACK)
    assert (result.reason, [each.cause for each in result.sent]) == (Reason.BALANCER_NO_FLOW, [Cause.RESET])
    [sent] = result.sent
    assert (sent.node, sent.packet.src, sent.packet.dst, sent.packet.ttl) == ("app", DB, APP, 64)
    tcp = sent.packet[TCP]
    assert (tcp.sport, tcp.dport, str(tcp.flags), tcp.seq, tcp.ack) == (80, 40000, "R", 901, 0)


def test_of_a_segment_in_fragments_the_first_is_reset_and_no_other() -> None:
    """The others have no sequence number."""
    net = Network(RESETS)
    pieces = fragment(IP(src=APP, dst=DB, id=77) / TCP(sport=1, dport=2, flags="A", ack=5) / Raw(bytes(1600)), 800)
    results = [net.send("app", piece) for piece in pieces]
    assert [(each.reason, len(each.sent)) for each in results] == [(Reason.BALANCER_NO_FLOW, n) for n in (1, 0, 0)]


def test_no_reset_answers_a_reset() -> None:
    packet = ACK.copy()
    packet[TCP].flags = "R"
    assert Network(RESETS).send("app", packet).sent == ()


def test_nothing_leaves_because_a_flow_timed_out_and_its_next_segment_is_reset() -> None:
    """ "To the sender of traffic": whoever goes on, and nobody else."""
    net = Network(RESETS)
    connect(net)
    net.now += 350_000
    assert net.plane.advance(net.now) == ([], [])
    for node, packet, other in (("db", DATA, APP), ("app", ACK, DB)):
        result = net.send(node, packet)
        assert (result.reason, [(each.node, each.cause) for each in result.sent]) == (
            Reason.BALANCER_NO_FLOW,
            [(node, Cause.RESET)],
        )
        assert (result.packet.src, result.packet[TCP].seq) == (other, packet[TCP].ack)


# -- errors


def error(about: Any, source: str, destination: str) -> Any:
    return IP(src=source, dst=destination) / ICMP(type=3, code=3) / Raw(bytes(about)[:28])


def test_error_about_a_flow_goes_with_it() -> None:
    net = Network(LAB)
    flow = delivered(net.send("app", QUERY))
    got = delivered(net.send("db", error(QUERY, DB, APP)))
    assert got.identity == flow.identity
    assert send_back(net, got).to == "app"


def test_error_of_somebody_in_between_too() -> None:
    net = Network(LAB)
    delivered(net.send("app", QUERY))
    flow = delivered(net.send("db", RESPONSE))
    got = delivered(net.send("app", error(RESPONSE, APP, DB)))
    assert got.identity == flow.identity


def test_errors_keep_no_flow_alive() -> None:
    net = Network(LAB)
    delivered(net.send("app", QUERY))
    net.wait(119)
    assert delivered(net.send("db", error(QUERY, DB, APP))).target
    net.wait(1)
    assert not [each for each in net.plane.engine.sessions() if each["kind"] == "balancer"]


def test_error_about_nothing_known_is_of_the_icmp_between_its_own_addresses() -> None:
    net = Network(LAB)
    one = delivered(net.send("db", error(QUERY, DB, APP)))
    assert delivered(net.send("db", error(SYN, DB, APP))).identity == one.identity
    assert delivered(net.send("app", IP(src=APP, dst=DB) / ICMP(id=7))).identity == one.identity
    assert send_back(net, one).to == "app"


def test_error_about_a_ping_goes_with_the_pings_and_keeps_them_not() -> None:
    net = Network(LAB)
    ping = IP(src=APP, dst=DB) / ICMP(id=7)
    flow = delivered(net.send("app", ping))
    net.wait(119)
    assert delivered(net.send("db", error(ping, DB, APP))).identity == flow.identity
    net.wait(1)
    assert send_back(net, flow).reason is Reason.GENEVE_COOKIE_UNKNOWN


def test_quoted_packet_is_what_the_sender_had_sent() -> None:
    net = Network(LAB)
    delivered(net.send("app", QUERY))
    packet = through(net, "db", error(QUERY, DB, APP)).packet
    assert (packet[IPerror].src, packet[IPerror].dst) == (APP, DB)
    assert TCPerror not in packet
    assert packet[UDPerror].sport == 5000


# -- stickiness


def test_five_tuple_spreads_flows_of_the_same_addresses() -> None:
    assert targets_of_flows(Network(LAB)) <= {"fw1", "fw2"}


def test_three_tuple_keeps_a_protocol_together() -> None:
    net = Network(group(stickiness="source_ip_dest_ip_proto"))
    assert len(targets_of_flows(net)) == 1
    [target] = targets_of_flows(net, first=5000)
    response = IP(src=DB, dst=APP) / UDP(sport=77, dport=78)
    assert delivered(net.send("db", response)).target == target


def test_two_tuple_keeps_two_addresses_together() -> None:
    net = Network(group(stickiness="source_ip_dest_ip"))
    [target] = targets_of_flows(net)
    others = (SYN, IP(src=APP, dst=DB) / ICMP(id=1), IP(src=APP, dst=DB, proto=47) / Raw(b"gre"))
    assert {delivered(net.send("app", packet)).target for packet in others} == {target}


@pytest.mark.parametrize("stickiness", ["source_ip_dest_ip_proto", "source_ip_dest_ip"])
def test_as_long_as_one_flow_lives_new_ones_join_it(stickiness: str) -> None:
    net = Network(group(stickiness=stickiness))
    first = delivered(net.send("app", QUERY))
    [other] = {"fw1", "fw2"} - {first.target}
    set_state(net, {first.target: "unhealthy", other: "healthy"})
    assert targets_of_flows(net, 5) == {first.target}
    net.wait(120)
    assert targets_of_flows(net, 5) == {other}


@pytest.mark.parametrize("stickiness", ["source_ip_dest_ip_proto", "source_ip_dest_ip"])
def test_who_sticks_together_has_one_target_whoever_begins_and_however_long_ago_the_last_flow_was(
    stickiness: str,
) -> None:
    """Nothing but what sticks together decides, as long as the targets are the same."""
    net = Network(group(stickiness=stickiness))
    found = set()
    for n in range(1, 9):
        found.add(delivered(net.send("app", IP(src=APP, dst=DB) / UDP(sport=n, dport=53))).target)
        net.wait(120)
        found.add(delivered(net.send("db", IP(src=DB, dst=APP) / UDP(sport=n, dport=7))).target)
        net.wait(120)
    assert len(found) == 1


def test_flows_stay_flows_whatever_the_stickiness() -> None:
    net = Network(group(stickiness="source_ip_dest_ip"))
    cookies = {delivered(net.send("app", IP(src=APP, dst=DB) / UDP(sport=n, dport=9))).cookie for n in range(1, 9)}
    assert len(cookies) == 8


# -- what is remembered


def test_sessions_tell_of_flows_as_their_openers_send_them() -> None:
    net = Network(LAB)
    through(net, "app", SYN)
    delivered(net.send("db", SYN_ACK))
    [session] = [each for each in net.plane.engine.sessions() if each["kind"] == "balancer"]
    assert str(net.plane.names[session["owner"]]) == "vpc-endpoint shop/inspect"
    assert session["forward"][3:] == (6, 40000, 80)


def test_one_burst_is_like_many() -> None:
    net = Network(LAB)
    results: list[Result] = net.send_all("app", [SYN, ACK, QUERY, QUERY])
    got = [delivery(sent) for result in results for sent in result.sent]
    assert len(got) == 4
    assert (got[0].identity, got[2].identity) == (got[1].identity, got[3].identity)


def test_a_flow_outlives_another_id_of_its_endpoint() -> None:
    net = Network(ONE)
    query = IP(src=APP, dst=DB) / UDP(sport=5000, dport=53)
    before = delivered(net.send("app", query))
    net.apply(ONE.replace("vpce-0f583215d2e66b39c", "vpce-0f583215d2e66b39d"))
    after = delivered(net.send("app", query))
    assert (after.cookie, after.source_port) == (before.cookie, before.source_port)
    assert after.endpoint != before.endpoint
    assert send_back(net, after).to == "db"
    assert send_back(net, before).reason is Reason.GENEVE_COOKIE_UNKNOWN

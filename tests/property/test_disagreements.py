"""What the two engines did not agree on when they met, in the smallest form: both must now say what is asserted.

What is not settled yet is listed in `UNSETTLED`, by the engine that is wrong, and known to `disagreements`.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6ND_NS, ICMPv6Unknown, IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import ARP

from dataplane.verdict import Cause, Reason, Verdict
from tests.scenario.labs import SHOP
from tests.scenario.network import Network

OPEN_EGRESS = """        ingress: [{protocol: all, source: 0.0.0.0/0}, {protocol: all, source: "::/0"}]
"""
APP, OPEN, WEB, BARE, EXAMPLE = "10.0.2.10", "10.0.2.11", "10.0.1.10", "10.0.1.11", "198.51.100.10"
UNCHECKED_APP = SHOP.replace("private_ip: 10.0.2.10,", "private_ip: 10.0.2.10, source_dest_check: false,")


FAST, REFERENCE = "fast", "reference"
UNSETTLED: dict[str, str] = {}
"""Which engine still says otherwise."""


@pytest.fixture(params=[FAST, REFERENCE])
def engine(request: pytest.FixtureRequest) -> Any:
    if UNSETTLED.get(getattr(request.node, "originalname", "")) == request.param:
        request.applymarker(pytest.mark.xfail(strict=True))
    return request.param


def test_middle_of_a_connection_the_nat_gateway_does_not_know_opens_none(engine: str) -> None:
    """AWS answers it with a reset (VPC User Guide, "Troubleshoot NAT gateways")."""
    shop = Network(SHOP, engine=engine)
    port = shop.send("app", IP(src=APP, dst=EXAMPLE) / TCP(sport=33000, dport=80)).packet[TCP].sport
    shop.send("example", IP(src=EXAMPLE, dst="203.0.113.10") / TCP(sport=80, dport=port, flags="SA"))
    shop.send("app", IP(src=APP, dst=EXAMPLE) / TCP(sport=33000, dport=80, flags="A"))
    shop.wait(350)
    late = shop.send("app", IP(src=APP, dst=EXAMPLE) / TCP(sport=33000, dport=80, flags="A"))
    assert (late.verdict, late.reason) == (Verdict.DROP, Reason.NAT_NO_SESSION)
    [reset] = late.sent
    assert (reset.node, reset.cause, reset.packet.src, reset.packet[TCP].flags) == ("app", Cause.RESET, EXAMPLE, "R")


def test_packet_that_comes_back_in_is_no_answer_to_itself(engine: str) -> None:
    """Its direction is that of the flow it opened; the second one must not get in where the first did not."""
    shop = Network(UNCHECKED_APP, engine=engine)
    packet = IP(src=BARE, dst=APP) / UDP(sport=5, dport=6)
    assert {r.reason for r in shop.send_all("app", [packet] * 3)} == {Reason.GROUP_INGRESS}


def test_answer_to_itself_through_the_internet_gateway_passes_at_once(engine: str) -> None:
    """What a hop before has committed holds for the hops after it, of the same packet too."""
    shop = Network(SHOP, engine=engine)
    packet = IP(src=WEB, dst="203.0.113.20", proto=47) / b"whatever"
    assert [r.verdict for r in shop.send_all("web", [packet] * 2)] == [Verdict.FORWARD] * 2


def test_who_forwards_for_others_does_not_lend_them_its_groups(engine: str) -> None:
    """web lets pings of group app in; app forwards one of somebody else."""
    shop = Network(UNCHECKED_APP, engine=engine)
    assert shop.send("app", IP(src="192.0.2.1", dst=WEB) / ICMP()).reason is Reason.GROUP_INGRESS


def test_error_for_somebody_who_did_not_send_what_it_quotes_is_not_related(engine: str) -> None:
    shop = Network(SHOP, engine=engine)
    shop.send("app", IP(src=APP, dst=OPEN) / UDP(sport=5, dport=6))
    about_the_answer = IP(src=OPEN, dst=APP) / UDP(sport=6, dport=5)
    error = IP(src=OPEN, dst=APP) / ICMP(type=3, code=3) / about_the_answer
    assert shop.send("open", error).reason is Reason.GROUP_INGRESS


def test_solicitation_with_a_wrong_checksum_is_not_answered(engine: str) -> None:
    """RFC 4861, section 7.1.1."""
    shop = Network(SHOP, engine=engine)
    port = shop.port("app")
    question = IPv6(src="2001:db8:10:2::10", dst="ff02::1:ff00:1") / ICMPv6ND_NS(tgt="2001:db8:10:2::1", cksum=1)
    frame = b"\x33\x33\xff\0\0\x01" + shop.plane.interface(port).mac + b"\x86\xdd" + bytes(question)
    outcomes, emissions = shop.plane.process([frame], [port], shop.now)
    assert (outcomes[0].reason, emissions) == (Reason.ND_MALFORMED, [])


def test_nobody_has_a_multicast_address(engine: str) -> None:
    """RFC 4861, section 7.1.1: the target of a solicitation is not multicast. Hosts on the internet are told it is."""
    shop = Network(SHOP, engine=engine)
    port = shop.port("example")
    question = IPv6(src="2001:db8:99::10", dst="ff02::1:ff00:1") / ICMPv6ND_NS(tgt="ff02::1")
    frame = b"\x33\x33\xff\0\0\x01" + shop.plane.interface(port).mac + b"\x86\xdd" + bytes(question)
    outcomes, emissions = shop.plane.process([frame], [port], shop.now)
    assert (outcomes[0].verdict, emissions) == (Verdict.DROP, [])


def test_public_address_of_an_unattached_interface_takes_nobody_out(engine: str) -> None:
    """Reachability Analyzer, IGW_PUBLIC_IP_ASSOCIATION_FOR_EGRESS: of an attached interface."""
    spare = "{subnet: public, private_ips: [10.0.1.31], elastic_ips: {10.0.1.31: 203.0.113.31}}"
    text = SHOP.replace("    nat_gateways:", f"    network_interfaces: {{spare: {spare}}}\n    nat_gateways:", 1)
    unchecked = text.replace("private_ip: 10.0.1.11,", "private_ip: 10.0.1.11, source_dest_check: false,")
    shop = Network(unchecked, engine=engine)
    result = shop.send("bare", IP(src="10.0.1.31", dst=EXAMPLE) / UDP())
    assert (result.verdict, result.reason) == (Verdict.DROP, Reason.PUBLIC_SOURCE_MISSING)


def test_unattached_interface_is_named_once(engine: str) -> None:
    """It decides; there is no rule."""
    spare = "network_interfaces: {spare: {subnet: public, private_ips: [10.0.1.31]}}"
    shop = Network(SHOP.replace("    nat_gateways:", f"    {spare}\n    nat_gateways:", 1), engine=engine)
    result = shop.send("open", IP(src=OPEN, dst="10.0.1.31") / UDP())
    assert (result.reason, result.by, result.rule) == (Reason.PORT_DOWN, "network-interface shop/spare", "")


def test_router_behind_a_nat_gateway_quotes_the_ttl_it_saw(engine: str) -> None:
    """RFC 792: the header of the datagram as it arrived there, one hop further on."""
    shop = Network(SHOP, engine=engine)
    result = shop.send("app", IP(src=APP, dst=EXAMPLE, flags="DF", ttl=64) / UDP(sport=5, dport=6) / bytes(1573))
    assert IP(bytes(result.sent[0].ether)[14 + 28 :]).ttl == 63


def test_each_gateway_cuts_what_it_gets(engine: str) -> None:
    """8500 at the NAT gateway, then 1500 at the internet gateway: pieces of pieces, as two routers make them."""
    shop = Network(SHOP, engine=engine)
    result = shop.send("app", IP(src=APP, dst=EXAMPLE, id=7) / UDP(sport=5, dport=6) / bytes(8900))
    sizes = [len(s.packet.payload) for s in result.sent]
    assert {s.cause for s in result.sent} == {Cause.FRAGMENT}
    assert sizes == [*[1480] * 5, 1080, 428]


def test_what_had_waited_since_an_earlier_burst_stems_from_what_released_it(engine: str) -> None:
    shop = Network(SHOP, engine=engine)
    first, *others = fragment(IP(src=OPEN, dst=BARE, id=1) / UDP(sport=5, dport=6) / bytes(400), 80)
    shop.send_all("open", others)
    [result] = shop.send_all("open", [first])
    assert [s.cause for s in result.sent] == [Cause.FORWARDED, *[Cause.RELEASED] * len(others)]


def test_error_about_a_packet_with_extension_headers_is_related(engine: str) -> None:
    """The quoted packet's flow is found behind its extension headers, as that of the packet itself was."""
    shop = Network(SHOP, engine=engine)
    ends = {"src": "2001:db8:10:2::10", "dst": "2001:db8:10:2::11"}
    sent = IPv6(**ends) / IPv6ExtHdrDestOpt() / UDP(sport=5, dport=6) / b"data"
    assert shop.send("app", sent).to == "open"
    error = IPv6(src=ends["dst"], dst=ends["src"]) / ICMPv6DestUnreach(code=4) / bytes(sent)
    assert shop.send("open", error).to == "app"


def test_nat_gateway_is_no_neighbour_of_another_subnet(engine: str) -> None:
    """Sent to the gateway's own MAC, a packet leaves it by routing: where it arrives it comes from the router there."""
    shop = Network(SHOP, engine=engine)
    gateway = next(each for each in shop.plane.topology.interfaces if each.kind == "nat-gateway")
    result = shop.send("bare", IP(src=BARE, dst=OPEN) / UDP(sport=5, dport=6), to_mac=gateway.mac)
    router = shop.plane.interface(shop.port("open")).router_mac
    assert (result.to, result.packet.src, result.sent[0].ether.src) == ("open", "10.0.1.5", router.hex(":"))


def test_echo_reply_leaves_the_padding_of_its_request_behind(engine: str) -> None:
    """Ethernet pads short frames; a reply is as long as its IP header says."""
    shop = Network(SHOP, engine=engine)
    port = shop.port("app")
    frame = shop.frame("app", IP(src=APP, dst="10.0.2.1") / ICMP(id=1) / b"abc")
    _, [answer] = shop.plane.process([frame + bytes(6)], [port], shop.now)
    assert len(answer.frame) == len(frame)


def test_quote_cut_short_is_of_no_flow(engine: str) -> None:
    """RFC 792: header and 64 bits. Ports that are not there are not zero."""
    shop = Network(SHOP, engine=engine)
    sent = IP(src=APP, dst=OPEN) / UDP(sport=0, dport=0)
    assert shop.send("app", sent).to == "open"
    error = IP(src=OPEN, dst=APP) / ICMP(type=3, code=3) / bytes(sent)[:24]
    assert shop.send("open", error).reason is Reason.GROUP_INGRESS


def test_flow_that_a_nat_gateway_drops_is_not_tracked_by_it(engine: str) -> None:
    """A dropped packet has the effects of the hops it passed, and it has not passed the gateway.

    Flows through a NAT gateway are tracked automatically
    (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html).
    """
    shop = Network(SHOP, engine=engine)
    lost = IP(src=OPEN, dst=EXAMPLE) / TCP(sport=5, dport=6, flags="R")  # which gets no reset that were tracked
    assert shop.send("open", lost).reason is Reason.NAT_NO_SESSION
    shop.apply(SHOP.replace(OPEN_EGRESS, OPEN_EGRESS + "        egress: []\n"))
    assert shop.send("open", lost).reason is Reason.GROUP_EGRESS


def test_every_icmp_message_is_tracked(engine: str) -> None:
    """ "ICMP traffic is always tracked": a message that is no query too, so it goes on when its rule is gone.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html
    """
    shop = Network(SHOP, engine=engine)
    redirect = IP(src=OPEN, dst=BARE) / ICMP(type=5, code=1, gw="10.0.2.1") / IP(src=BARE, dst=OPEN) / UDP()
    assert shop.send("open", redirect).to == "bare"
    shop.apply(SHOP.replace(OPEN_EGRESS, OPEN_EGRESS + "        egress: []\n"))
    assert shop.send("open", redirect).to == "bare"


def test_connection_is_established_when_both_have_acknowledged(engine: str) -> None:
    """RFC 9293, section 3.10.7.4: a segment without ACK does not get anybody out of SYN-SENT or SYN-RECEIVED."""
    shop = Network(SHOP, engine=engine)
    shop.send("app", IP(src=APP, dst=OPEN) / TCP(sport=5, dport=6))
    answer = IP(src=OPEN, dst=APP) / TCP(sport=6, dport=5, flags="")
    assert shop.send("open", answer).to == "app"
    shop.wait(60)
    assert shop.send("open", answer).reason is Reason.GROUP_INGRESS


def test_what_had_waited_stems_from_what_released_it(engine: str) -> None:
    """In the same burst too."""
    shop = Network(SHOP, engine=engine)
    first, later = fragment(IP(src=OPEN, dst=BARE, id=1) / UDP(sport=5, dport=6) / bytes(100), 80)
    waited, released = shop.send_all("open", [later, first])
    assert waited.verdict is Verdict.HOLD
    assert [s.cause for s in released.sent] == [Cause.FORWARDED, Cause.RELEASED]


def test_fragment_that_had_waited_is_counted_where_it_dies(engine: str) -> None:
    """Each packet that dies is counted at its port."""
    shop = Network(SHOP, engine=engine)
    first, later = fragment(IP(src=BARE, dst=APP, id=1) / UDP(sport=5, dport=6) / bytes(100), 80)
    shop.send_all("bare", [later, first])
    assert shop.plane.engine.counters()[shop.port("bare")]["reasons"] == {Reason.GROUP_INGRESS: 2}


def test_icmp_of_the_other_family_is_a_protocol_like_others(engine: str) -> None:
    """Protocol 1 in IPv6 is not ICMP (RFC 4443: that is 58): what it carries is nobody's identifier."""
    shop = Network(SHOP, engine=engine)
    ends = {"src": "2001:db8:10:2::10", "dst": "2001:db8:10:2::11"}
    assert shop.send("app", IPv6(**ends, nh=1) / bytes(ICMP(id=5))).to == "open"
    back = IPv6(src=ends["dst"], dst=ends["src"], nh=1) / bytes(ICMP(type=0, id=6))
    assert shop.send("open", back).to == "app"


def test_syn_on_a_closed_connection_takes_its_place(engine: str) -> None:
    """RFC 7857, section 2.1: what is closed may be opened again; it needs no port besides the one it has."""
    with (
        patch("dataplane.model.nat_gateway.NAT_FLOWS_PER_DESTINATION", 1),
        patch("dataplane.reference.nat.MOST_PER_DESTINATION", 1),
    ):
        shop = Network(SHOP, engine=engine)
        for flags in ("S", "R", "S"):
            assert shop.send("app", IP(src=APP, dst=EXAMPLE) / TCP(sport=5, dport=6, flags=flags)).to == "example"


def test_syn_is_no_answer_whatever_port_it_comes_from(engine: str) -> None:
    """Ports 80 let in from anywhere: a connection that port 80 opens is tracked all the same, as not all ports are.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html
    """
    shop = Network(SHOP, engine=engine)
    assert shop.send("web", IP(src=WEB, dst=OPEN) / TCP(sport=80, dport=443, flags="S")).to == "open"
    shop.apply(SHOP.replace("{protocol: tcp, ports: 80, source: 0.0.0.0/0}, ", ""))
    assert shop.send("open", IP(src=OPEN, dst=WEB) / TCP(sport=443, dport=80, flags="SA")).to == "web"


def test_error_of_a_type_that_nobody_knows_is_not_translated(engine: str) -> None:
    """RFC 7915, section 5.2: unknown error messages are dropped; of ICMPv6 only types 1 to 4 have a counterpart."""
    way = '          - {destination: "::/0", target: internet-gateway}\n'
    more = '          - {destination: "64:ff9b::/96", target: "nat-gateway:nat"}\n'
    shop = Network(SHOP.replace(way, way + more), engine=engine)
    error = IPv6(src="2001:db8:10:1::10", dst="64:ff9b::c633:640a", nh=58) / (b"\x05" + bytes(63))
    result = shop.send("web", error)
    assert (result.reason, result.by) == (Reason.NAT_PROTOCOL, "nat-gateway shop/nat")


def test_waiting_fragments_are_counted_one_by_one(engine: str) -> None:
    """What may wait of one interface is bounded in fragments, not in datagrams: it is memory that is bounded."""
    shop = Network(SHOP, engine=engine)
    later = [IP(src=OPEN, dst=BARE, id=7, frag=1 + n, flags="MF", proto=17) / bytes(8) for n in range(65)]
    reasons = [result.reason for result in shop.send_all("open", later)]
    assert reasons == [Reason.NONE] * 64 + [Reason.FRAGMENT_LIMIT]


def test_icmpv6_messages_below_128_are_errors(engine: str) -> None:
    """RFC 4443, section 2.1: also those that no RFC names. About nothing that is known, they open no flow."""
    shop = Network(SHOP, engine=engine)
    ends = {"src": "2001:db8:10:2::10", "dst": "2001:db8:10:2::11"}
    assert shop.send("app", IPv6(**ends) / ICMPv6Unknown(type=0) / bytes(16)).to == "open"
    assert shop.plane.engine.sessions() == []


def test_icmp_of_the_other_family_has_no_header_that_must_be_there(engine: str) -> None:
    """As any protocol that nobody reads: a few bytes of it pass, and a quote of them is of its flow."""
    shop = Network(SHOP, engine=engine)
    ends = {"src": "2001:db8:10:2::10", "dst": "2001:db8:10:2::11"}
    sent = IPv6(**ends, nh=1) / b"abc"
    assert shop.send("app", sent).to == "open"
    error = IPv6(src=ends["dst"], dst=ends["src"]) / ICMPv6DestUnreach(code=4) / bytes(sent)
    assert shop.send("open", error).to == "app"


def test_address_of_an_unattached_interface_is_not_free(engine: str) -> None:
    """With `arp_for_unassigned: router` the router answers for free addresses only, and this one is somebody's."""
    spare = "{subnet: public, private_ips: [10.0.1.31]}"
    text = SHOP.replace("    nat_gateways:", f"    network_interfaces: {{spare: {spare}}}\n    nat_gateways:", 1)
    shop = Network(text + "settings: {arp_for_unassigned: router}\n", engine=engine)
    port = shop.port("bare")
    for address, verdict in (("10.0.1.77", Verdict.SERVE), ("10.0.1.31", Verdict.DROP)):
        mac = shop.plane.interface(port).mac
        question = bytes(ARP(hwsrc=mac.hex(":"), psrc=BARE, pdst=address))
        [outcome], _ = shop.plane.process([b"\xff" * 6 + mac + b"\x08\x06" + question], [port], shop.now)
        assert outcome.verdict is verdict, address


def test_nobody_is_told_of_a_redirect_that_is_too_large(engine: str) -> None:
    """RFC 1122, section 3.2.2: a redirect is an error message, and about those no errors are sent."""
    shop = Network(SHOP, engine=engine)
    redirect = IP(src=WEB, dst=EXAMPLE, flags="DF") / ICMP(type=5, code=1) / bytes(1600)
    result = shop.send("web", redirect)
    assert (result.reason, result.sent) == (Reason.MTU_EXCEEDED, ())


def test_router_without_an_ipv6_address_tells_nobody(engine: str) -> None:
    """The sender is in a subnet without IPv6, and nobody looks at its sources: a packet never raises."""
    text = SHOP.replace(', ipv6_cidr: "2001:db8:10:2::/64", availability_zone: b', ", availability_zone: b")
    text = text.replace('private_ip: 10.0.2.10, ipv6_address: "2001:db8:10:2::10",', "private_ip: 10.0.2.10,")
    text = text.replace('private_ip: 10.0.2.11, ipv6_address: "2001:db8:10:2::11",', "private_ip: 10.0.2.11,")
    text = text.replace("private_ip: 10.0.2.11,", "private_ip: 10.0.2.11, source_dest_check: false,")
    text = text.replace("          - {destination: 198.51.100.128/25, target: blackhole}\n",
                        '          - {destination: "::/0", target: internet-gateway}\n')  # fmt: skip
    shop = Network(text, engine=engine)
    result = shop.send("open", IPv6(src="2001:db8:10:1::10", dst="2001:db8:99::10") / UDP() / bytes(1600))
    assert (result.reason, result.sent) == (Reason.MTU_EXCEEDED, ())


def test_gateway_that_a_packet_enters_by_does_not_track_for_the_vpc_it_came_from(engine: str) -> None:
    """app's VPC answers the internet; that the answer goes to a VPC with an egress-only gateway is not its affair.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html
    """
    here = SHOP.replace("          - {destination: 198.51.100.128/25, target: blackhole}\n",
                        '          - {destination: "::/0", target: internet-gateway}\n')  # fmt: skip
    there = """  there:
    cidr: 10.9.0.0/16
    ipv6_cidrs: ["2001:db8:30::/56"]
    egress_only_internet_gateway: {}
    subnets: {only: {cidr: 10.9.1.0/24, ipv6_cidr: "2001:db8:30:1::/64"}}
    route_tables: {main: {routes: [{destination: "::/0", target: egress-only-internet-gateway}]}}
peerings:
"""
    host = '  far: {vpc: there, subnet: only, ipv6_address: "2001:db8:30:1::10"}\ninternet:\n'
    shop = Network(here.replace("peerings:\n", there).replace("internet:\n", host), engine=engine)
    ends = {"src": "2001:db8:30:1::10", "dst": "2001:db8:10:2::11"}
    assert shop.send("far", IPv6(**ends) / UDP(sport=5, dport=6)).to == "open"
    assert shop.send("open", IPv6(src=ends["dst"], dst=ends["src"]) / UDP(sport=6, dport=5)).to == "far"
    owners = {shop.plane.names[row["owner"]].path for row in shop.plane.engine.sessions() if row["kind"] == "group"}
    assert owners == {"far/eth0"}


def test_answer_that_is_routed_back_to_its_nat_gateway_comes_from_no_interface(engine: str) -> None:
    """That it has sent the packet itself is looked at later: who it is from does not depend on its way."""
    text = SHOP.replace("      public:\n        routes:\n", "      public:\n        routes:\n"
                        '          - {destination: 10.0.2.0/24, target: "nat-gateway:nat"}\n')  # fmt: skip
    shop = Network(text, engine=engine)
    port = shop.send("app", IP(src=APP, dst=EXAMPLE) / UDP(sport=33000, dport=53)).packet[UDP].sport
    answer = shop.send("example", IP(src=EXAMPLE, dst="203.0.113.10") / UDP(sport=53, dport=port))
    assert (answer.verdict, answer.reason) == (Verdict.DROP, Reason.NAT_FROM_PEER)

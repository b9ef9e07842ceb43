"""Connection tracking: which flows are tracked, and what tracked ones survive."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP

from dataplane.verdict import Reason
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import changed
from tests.conformance.sources import ec2_guide, rfc, vpc_guide
from tests.scenario.network import Network

SECTION = "Connection tracking"

CLIENT, SERVER, ROUTER = "10.0.2.11", "10.0.1.11", "10.0.1.12"
PAGE = ec2_guide("security-group-connection-tracking")

# INBOUND and OUTBOUND are the server's rules; the client lets everything in and out.
LAB = """
version: 1
vpcs:
  v:
    cidr: 10.0.0.0/16
    subnets: {servers: {cidr: 10.0.1.0/24}, clients: {cidr: 10.0.2.0/24}}
    security_groups:
      client: {description: everything, ingress: [{protocol: all, source: 0.0.0.0/0}]}
      server: {description: as the test says, ingress: [INBOUND], egress: [OUTBOUND]}
      none: {description: nothing, ingress: [], egress: []}
instances:
  client: {vpc: v, subnet: clients, private_ip: 10.0.2.11, security_groups: [client]}
  server: {vpc: v, subnet: servers, private_ip: 10.0.1.11, security_groups: [server],
    secondary_private_ips: [10.0.1.21]}
  near: {vpc: v, subnet: servers, private_ip: 10.0.1.12, security_groups: [client], source_dest_check: false}
"""
UDP_INSIDE = (
    "{protocol: udp, ports: 0-65535, source: 10.0.0.0/16}",
    "{protocol: udp, ports: 0-65535, destination: 10.0.0.0/16}",
)
WORLD, ALL_OUT = "0.0.0.0/0", "{protocol: all, destination: 0.0.0.0/0}"


def lab(inbound: str = "", outbound: str = "") -> str:
    return LAB.replace("INBOUND", inbound).replace("OUTBOUND", outbound)


def ssh(source: str) -> str:
    return f"{{protocol: tcp, ports: 22, source: {source}}}"


def request(network: Network, flags: str = "S", port: int = 22, own: int = 5000) -> Reason:
    return network.send("client", IP(src=CLIENT, dst=SERVER) / TCP(sport=own, dport=port, flags=flags)).reason


def answer(network: Network, flags: str = "SA", port: int = 22, own: int = 5000) -> Reason:
    return network.send("server", IP(src=SERVER, dst=CLIENT) / TCP(sport=port, dport=own, flags=flags)).reason


def open_ssh(text: str) -> Network:
    """The lab with an SSH connection that is open."""
    network = Network(text)
    assert [request(network), answer(network), request(network, "A")] == [Reason.NONE] * 3
    return network


@behaviour(
    "The answers of a connection that an inbound rule lets in from one address pass without outbound rules, and it "
    "lives on when the rule is removed",
    source=PAGE,
    item=32,
)
def test_tracked_flow() -> None:
    network = open_ssh(lab(ssh("10.0.2.11/32")))
    network.apply(lab())
    assert [request(network, "PA"), answer(network, "PA")] == [Reason.NONE] * 2
    assert request(network, own=5001) is Reason.GROUP_INGRESS
    network.wait(3600)
    assert [request(network, "PA"), answer(network, "PA")] == [Reason.NONE] * 2


@behaviour(
    "A connection that is let in from everywhere, with everything let out, stops at once when its rule is removed",
    source=PAGE,
    item=33,
)
@pytest.mark.parametrize("outbound", [ALL_OUT, "{protocol: tcp, ports: 0-65535, destination: 0.0.0.0/0}"])
def test_untracked_flow(outbound: str) -> None:
    network = open_ssh(lab(ssh(WORLD), outbound))
    assert {send(network, "PA") for send in (request, answer) * 3} == {Reason.NONE}
    network.apply(lab("", outbound))
    assert request(network, "PA") is Reason.GROUP_INGRESS
    for flags in ("PA", "FA", "R", "SA"):
        assert answer(network, flags) is Reason.NONE  # by the outbound rule
        assert {request(network, flags) for flags in ("A", "PA", "R", "S")} == {Reason.GROUP_INGRESS}


@behaviour(
    "An untracked connection stays untracked when its rules become such that it would have been",
    silent=True,
    source=PAGE,
)
def test_untracked_stays_untracked() -> None:
    network = open_ssh(lab(ssh(WORLD), ALL_OUT))
    network.apply(lab(ssh(WORLD), ""))
    assert [request(network, "PA"), answer(network, "PA")] == [Reason.NONE, Reason.GROUP_EGRESS]
    assert [request(network), answer(network)] == [Reason.NONE] * 2


@behaviour(
    "A connection that is let in from everywhere is tracked where the other direction does not allow everything",
    source=PAGE,
)
@pytest.mark.parametrize(
    "outbound",
    [
        "",
        "{protocol: all, destination: 10.0.0.0/8}",
        "{protocol: tcp, ports: 1-65535, destination: 0.0.0.0/0}",
        "{protocol: udp, ports: 0-65535, destination: 0.0.0.0/0}",
    ],
)
def test_untracked_needs_both(outbound: str) -> None:
    network = open_ssh(lab(ssh(WORLD), outbound))
    network.apply(lab("", ""))
    assert [request(network, "PA"), answer(network, "PA")] == [Reason.NONE] * 2


@behaviour("Answers of an untracked connection are judged by the rules", source=PAGE)
def test_answers_of_untracked_flows() -> None:
    network = open_ssh(lab(ssh(WORLD), ALL_OUT))
    network.apply(lab(ssh(WORLD), ""))
    assert [answer(network, "PA"), request(network, "PA")] == [Reason.GROUP_EGRESS, Reason.NONE]


@behaviour("A ping is tracked whatever the rules", source=PAGE)
def test_pings_are_tracked() -> None:
    network = Network(lab("{protocol: icmp, source: 0.0.0.0/0}", ALL_OUT))
    ping, pong = IP(src=CLIENT, dst=SERVER) / ICMP(id=7), IP(src=SERVER, dst=CLIENT) / ICMP(type=0, id=7)
    assert network.send("client", ping).to == "server"
    network.apply(lab())
    assert network.send("server", pong).to == "client"
    assert network.send("client", ping).to == "server"
    assert network.send("client", IP(src=CLIENT, dst=SERVER) / ICMP(id=8)).reason is Reason.GROUP_INGRESS


@behaviour("A tracked connection lives on when the interface is given other groups", source=PAGE)
def test_other_groups() -> None:
    text = lab(ssh("10.0.2.0/24"))
    network = open_ssh(text)
    network.apply(changed(text, ("security_groups: [server]", "security_groups: [none]")))
    assert [request(network, "PA"), answer(network, "PA")] == [Reason.NONE] * 2
    assert request(network, own=5001) is Reason.GROUP_INGRESS


@behaviour("A network ACL that is changed cuts tracked connections too", source=PAGE)
def test_acl_cuts() -> None:
    text = lab(ssh("10.0.2.0/24"))
    network = open_ssh(text)
    closed = changed(
        text,
        ("    security_groups:\n", "    network_acls: {closed: {}}\n    security_groups:\n"),
        ("servers: {cidr: 10.0.1.0/24}", "servers: {cidr: 10.0.1.0/24, network_acl: closed}"),
    )
    network.apply(closed)
    assert [request(network, "PA"), answer(network, "PA")] == [Reason.ACL_INGRESS, Reason.ACL_EGRESS]
    network.apply(text)
    assert [request(network, "PA"), answer(network, "PA")] == [Reason.NONE] * 2


@behaviour("Connections are tracked per interface: what one let out does not come in at another", source=PAGE)
def test_per_interface() -> None:
    only_out = changed(
        lab("", ALL_OUT), ("security_groups: [client], source_dest_check: false", "security_groups: [server]")
    )
    network = Network(only_out)
    assert network.send("server", IP(src=SERVER, dst=CLIENT) / UDP(sport=5, dport=53)).to == "client"
    assert network.send("client", IP(src=CLIENT, dst=SERVER) / UDP(sport=53, dport=5)).to == "server"
    assert network.send("client", IP(src=CLIENT, dst=ROUTER) / UDP(sport=53, dport=5)).reason is Reason.GROUP_INGRESS


@behaviour("An answer comes from the address, protocol and ports that the request went to", source=PAGE)
def test_what_is_an_answer() -> None:
    network = Network(lab("", ALL_OUT))
    network.send("server", IP(src=SERVER, dst=CLIENT) / UDP(sport=5, dport=53))
    for body in (UDP(sport=54, dport=5), UDP(sport=53, dport=6), TCP(sport=53, dport=5, flags="SA")):
        assert network.send("client", IP(src=CLIENT, dst=SERVER) / body).reason is Reason.GROUP_INGRESS
    near = IP(src=ROUTER, dst=SERVER) / UDP(sport=53, dport=5)
    assert network.send("near", near).reason is Reason.GROUP_INGRESS
    secondary = IP(src=CLIENT, dst="10.0.1.21") / UDP(sport=53, dport=5)
    assert network.send("client", secondary).reason is Reason.GROUP_INGRESS
    assert network.send("client", IP(src=CLIENT, dst=SERVER) / UDP(sport=53, dport=5)).to == "server"


@behaviour(
    "An ICMP error goes to who sent the packet that it is about; for anybody else it needs a rule",
    source=rfc(792),
)
def test_errors_for_others() -> None:
    network = Network(lab("{protocol: udp, ports: 53, source: 10.0.2.11/32}", ""))
    asked = IP(src=CLIENT, dst=SERVER) / UDP(sport=6000, dport=53) / bytes(8)
    assert network.send("client", asked).to == "server"
    for error in (ICMP(type=3, code=3), ICMP(type=11), ICMP(type=12)):
        assert network.send("server", IP(src=SERVER, dst=ROUTER) / error / asked).reason is Reason.GROUP_EGRESS
        assert network.send("server", IP(src=SERVER, dst=CLIENT) / error / asked).to == "client"
    answered = IP(src=SERVER, dst=CLIENT) / UDP(sport=53, dport=6000) / bytes(8)
    secondary = IP(src=ROUTER, dst="10.0.1.21") / ICMP(type=3, code=1) / answered
    assert network.send("near", secondary).reason is Reason.GROUP_INGRESS
    assert network.send("near", IP(src=ROUTER, dst=SERVER) / ICMP(type=3, code=1) / answered).to == "server"


@behaviour("A reply that nobody has asked for passes by a rule, and lets no request in", source=PAGE, silent=True)
@pytest.mark.parametrize(("ask", "reply"), [(8, 0), (13, 14)])
def test_unsolicited_replies(ask: int, reply: int) -> None:
    replies = f"{{protocol: icmp, icmp: {{type: {reply}, code: 0}}, destination: 0.0.0.0/0}}"
    network = Network(lab("", replies))
    asked = IP(src=CLIENT, dst=SERVER) / ICMP(type=ask, id=7)
    told = IP(src=SERVER, dst=CLIENT) / ICMP(type=reply, id=7)
    for _ in range(2):
        assert network.send("client", asked).reason is Reason.GROUP_INGRESS
        assert [network.send("server", told).to for _ in range(2)] == ["client"] * 2
    network.apply(lab(f"{{protocol: icmp, icmp: {{type: {ask}, code: 0}}, source: 0.0.0.0/0}}", ""))
    assert network.send("server", told).reason is Reason.GROUP_EGRESS
    assert network.send("client", asked).to == "server"
    assert network.send("server", told).to == "client"


@behaviour(
    "An ICMP error about a tracked flow is let in without a rule; about an untracked one it needs a rule",
    source=ec2_guide("network_mtu"),
)
def test_errors() -> None:
    for inbound, outbound, passes in (
        (ssh("10.0.2.0/24"), "", True),
        (ssh(WORLD), ALL_OUT, False),
        (ssh(WORLD) + ", {protocol: icmp, source: 10.0.1.12/32}", ALL_OUT, True),
    ):
        network = Network(lab(inbound, outbound))
        request(network)
        sent = IP(src=SERVER, dst=CLIENT) / TCP(sport=22, dport=5000, flags="SA")
        assert network.send("server", sent).to == "client"
        for error in (ICMP(type=3, code=4, nexthopmtu=1400), ICMP(type=11, code=0), ICMP(type=3, code=1)):
            result = network.send("near", IP(src=ROUTER, dst=SERVER) / error / sent)
            assert result.reason is (Reason.NONE if passes else Reason.GROUP_INGRESS)


@behaviour("An ICMP error about what was never sent is let in by a rule only", source=vpc_guide("security-group-rules"))
def test_errors_about_nothing() -> None:
    network = open_ssh(lab(ssh("10.0.2.0/24")))
    never = IP(src=SERVER, dst=CLIENT) / TCP(sport=23, dport=5000)
    result = network.send("near", IP(src=ROUTER, dst=SERVER) / ICMP(type=3, code=1) / never)
    assert (result.reason, result.sent) == (Reason.GROUP_INGRESS, ())


@behaviour(
    "Who has as many connections tracked as he may opens no other; those that he has go on, and others open theirs",
    source=PAGE,
)
def test_allowance_of_connections() -> None:
    network = Network(lab(*UDP_INSIDE), sessions=256)

    def datagram(node: str, source: str, own: int) -> Reason:
        return network.send(node, IP(src=source, dst=SERVER) / UDP(sport=own, dport=9)).reason

    fates = [datagram("client", CLIENT, own) for own in range(1, 257)]
    assert set(fates) == {Reason.NONE, Reason.SESSION_LIMIT}
    most = fates.index(Reason.SESSION_LIMIT)
    assert set(fates[most:]) == {Reason.SESSION_LIMIT}
    assert {datagram("client", CLIENT, own) for own in range(1, most + 1)} == {Reason.NONE}
    assert {datagram("near", ROUTER, own) for own in range(1, 33)} == {Reason.NONE}
    assert datagram("client", CLIENT, 1) is Reason.NONE
    network.wait(31)
    assert datagram("client", CLIENT, 300) is Reason.NONE


@behaviour(
    "An instance may have half of the connections that there is room for, and never more than are free for others",
    source=PAGE,
    silent=True,
)
def test_size_of_the_allowance() -> None:
    network = Network(lab(*UDP_INSIDE), sessions=256)

    def opened(node: str, source: str) -> int:
        packets = (IP(src=source, dst=SERVER) / UDP(sport=own, dport=9) for own in range(1, 257))
        return sum(network.send(node, packet).reason is Reason.NONE for packet in packets)

    assert 120 <= opened("client", CLIENT) <= 128  # the client's own are not tracked, the server's are
    assert 56 <= opened("near", ROUTER) <= 64

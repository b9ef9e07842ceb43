"""Connection tracking: how long idle flows are remembered, and what is different afterwards."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, UDP

from dataplane.verdict import Reason
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import accepted, changed, refused
from tests.conformance.sources import ec2_api, ec2_guide
from tests.conformance.test_tracking import ALL_OUT, CLIENT, SERVER, answer, lab, open_ssh, request, ssh
from tests.scenario.network import Network

SECTION = "Connection tracking"

PAGE = ec2_guide("security-group-connection-tracking")
OUT_ONLY = lab("", ALL_OUT)
SERVER_KEYS = "secondary_private_ips: [10.0.1.21]"


def timeouts(text: str, words: str) -> str:
    """The server with idle timeouts of its own."""
    return changed(text, (SERVER_KEYS, f"{SERVER_KEYS}, connection_tracking: {{{words}}}"))


def asked(network: Network) -> None:
    """The server asks the client by UDP."""
    assert network.send("server", IP(src=SERVER, dst=CLIENT) / UDP(sport=5, dport=53)).to == "client"


def told(network: Network) -> Reason:
    """The client answers."""
    return network.send("client", IP(src=CLIENT, dst=SERVER) / UDP(sport=53, dport=5)).reason


@behaviour(
    "The answer to a single UDP request is late after 30 idle seconds, within a stream of UDP after 180",
    source=PAGE,
    item=34,
)
@pytest.mark.parametrize(("exchanges", "seconds"), [(0, 30), (1, 30), (2, 180), (5, 180)])
def test_udp(exchanges: int, seconds: int) -> None:
    for wait, fate in ((seconds - 0.001, Reason.NONE), (seconds + 1, Reason.GROUP_INGRESS)):
        network = Network(OUT_ONLY)
        for _ in range(exchanges):
            asked(network)
            assert told(network) is Reason.NONE
        if exchanges == 0:
            asked(network)
        network.wait(wait)
        assert told(network) is fate


@behaviour("An established TCP connection is remembered for five days by default", source=PAGE)
def test_tcp() -> None:
    for wait, fate in ((432_000 - 0.001, Reason.NONE), (432_001, Reason.GROUP_EGRESS)):
        network = open_ssh(lab(ssh("10.0.2.0/24")))
        network.apply(lab())
        network.wait(wait)
        assert answer(network, "PA") is fate


@behaviour("The idle timeout of established TCP is set per interface", source=PAGE)
def test_tcp_of_an_interface() -> None:
    text = timeouts(lab(ssh("10.0.2.0/24")), "tcp_established_timeout: 350")
    for wait, fate in ((350 - 0.001, Reason.NONE), (351, Reason.GROUP_EGRESS)):
        network = open_ssh(text)
        network.wait(wait)
        assert answer(network, "PA") is fate
        assert request(network, "PA") is Reason.NONE  # by its rule


@behaviour("The idle timeouts of UDP, single and stream, are set per interface", source=PAGE)
def test_udp_of_an_interface() -> None:
    text = timeouts(OUT_ONLY, "udp_timeout: 45, udp_stream_timeout: 75")
    for exchanges, seconds in ((1, 45), (2, 75)):
        for wait, fate in ((seconds - 0.001, Reason.NONE), (seconds, Reason.GROUP_INGRESS)):
            network = Network(text)
            for _ in range(exchanges):
                asked(network)
                told(network)
            network.wait(wait)
            assert told(network) is fate


@behaviour(
    "Idle timeouts are from 60 s to five days for TCP, 30 to 60 s for UDP and 60 to 180 s for a stream of it",
    source=ec2_api("ConnectionTrackingSpecificationRequest"),
)
@pytest.mark.parametrize(
    ("key", "least", "most"),
    [("tcp_established_timeout", 60, 432_000), ("udp_timeout", 30, 60), ("udp_stream_timeout", 60, 180)],
)
def test_ranges(key: str, least: int, most: int) -> None:
    for value in (least, most):
        accepted(timeouts(OUT_ONLY, f"{key}: {value}"))
    for value in (least - 1, most + 1):
        found = refused(timeouts(OUT_ONLY, f"{key}: {value}"))
        assert found == {(f"instances.server.connection_tracking.{key}", "InvalidParameterValue")}


@behaviour("Other protocols are tracked by their addresses, for 600 seconds", source=PAGE)
def test_other_protocols() -> None:
    out, back = (IP(src=s, dst=d, proto=47) / bytes(24) for s, d in ((SERVER, CLIENT), (CLIENT, SERVER)))
    for wait, fate in ((599.999, Reason.NONE), (600, Reason.GROUP_INGRESS)):
        network = Network(lab("", "{protocol: 47, destination: 10.0.2.0/24}"))
        network.send("server", out)
        network.wait(wait)
        assert network.send("client", back).reason is fate
    network.send("server", out)
    other = IP(src=CLIENT, dst=SERVER, proto=50) / bytes(24)
    assert network.send("client", other).reason is Reason.GROUP_INGRESS


@behaviour(
    "The middle of a TCP connection that was forgotten opens nothing: it passes by a rule, and so do its answers",
    silent=True,
    source=PAGE,
)
def test_forgotten_connection() -> None:
    text = timeouts(lab(ssh("10.0.2.0/24")), "tcp_established_timeout: 60")
    network = open_ssh(text)
    network.wait(61)
    assert answer(network, "PA") is Reason.GROUP_EGRESS
    assert request(network, "PA") is Reason.NONE
    assert answer(network, "PA") is Reason.GROUP_EGRESS
    network.apply(timeouts(lab(), "tcp_established_timeout: 60"))
    assert request(network, "PA") is Reason.GROUP_INGRESS
    network.apply(text)
    assert [request(network), answer(network)] == [Reason.NONE] * 2


@behaviour("Every packet of a flow, in either direction, begins its idle time anew", source=PAGE)
def test_packets_refresh() -> None:
    network = Network(OUT_ONLY)
    asked(network)
    told(network)
    for _ in range(4):
        network.wait(29)
        asked(network)
        network.wait(29)
        assert told(network) is Reason.NONE


@behaviour(
    "A ping and its answer are one flow, which the next ping with the same identifier goes on with",
    silent=True,
    source=PAGE,
)
def test_ping() -> None:
    network = Network(OUT_ONLY)
    ping, pong = IP(src=SERVER, dst=CLIENT) / ICMP(id=7), IP(src=CLIENT, dst=SERVER) / ICMP(type=0, id=7)
    assert network.send("client", pong).reason is Reason.GROUP_INGRESS
    network.send("server", ping)
    assert network.send("client", pong).to == "server"
    assert network.send("client", IP(src=CLIENT, dst=SERVER) / ICMP(id=7)).reason is Reason.GROUP_INGRESS
    network.wait(31)
    assert network.send("client", pong).reason is Reason.GROUP_INGRESS


@behaviour("A closed TCP connection may be opened again from the same port", silent=True, source=PAGE)
def test_reopened() -> None:
    network = open_ssh(lab(ssh("10.0.2.0/24")))
    for flags in ("FA", "A"):
        request(network, flags)
        answer(network, flags)
    answer(network, "FA")
    request(network, "A")
    assert [request(network), answer(network), request(network, "A")] == [Reason.NONE] * 3
    network.wait(3600)
    assert answer(network, "PA") is Reason.NONE


@behaviour("UDP without an answer is a single flow however often it is sent", source=PAGE)
def test_one_way_udp() -> None:
    network = Network(OUT_ONLY)
    for _ in range(5):
        asked(network)
    network.wait(30)
    assert told(network) is Reason.GROUP_INGRESS


@behaviour("A reset ends a tracked connection: soon afterwards its answers are strangers", silent=True, source=PAGE)
def test_reset() -> None:
    network = open_ssh(lab(ssh("10.0.2.0/24")))
    request(network, "R")
    network.wait(61)
    assert answer(network, "PA") is Reason.GROUP_EGRESS

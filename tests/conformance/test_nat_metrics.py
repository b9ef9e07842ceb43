"""What CloudWatch counts of a NAT gateway, under its names."""

from __future__ import annotations

from scapy.layers.inet import ICMP, IP, TCP, UDP

from tests.conformance.behaviours import behaviour
from tests.conformance.labs import VPC
from tests.conformance.sources import vpc_guide
from tests.scenario.network import Network

SECTION = "NAT gateways"

B1, B2, FAR, PUBLIC = "10.0.2.11", "10.0.2.12", "198.51.100.10", "203.0.113.10"
PAGE = vpc_guide("metrics-dimensions-nat-gateway")


def counted(network: Network, *names: str) -> tuple[int, ...]:
    metrics = network.plane.nat_metrics()["main/nat"]
    return tuple(metrics[name] for name in names)


@behaviour(
    "Packets and bytes are counted at a NAT gateway from and to each side, and what is dropped in between",
    source=PAGE,
)
def test_packets_and_bytes() -> None:
    network = Network(VPC)
    ways = ("InFromSource", "OutToDestination", "InFromDestination", "OutToSource")
    packets, sizes = [f"Packets{way}" for way in ways], [f"Bytes{way}" for way in ways]
    assert counted(network, *packets, *sizes, "PacketsDropCount") == (0,) * 9
    outside = network.send("b1", IP(src=B1, dst=FAR) / UDP(sport=5, dport=53) / bytes(72)).packet  # 100 bytes
    assert counted(network, *packets) == (1, 1, 0, 0)
    answer = IP(src=FAR, dst=PUBLIC) / UDP(sport=53, dport=outside[UDP].sport) / bytes(172)
    network.send("far", answer)
    network.send("far", answer)
    assert counted(network, *packets) == (1, 1, 2, 2)
    assert counted(network, *sizes) == (100, 100, 400, 400)
    network.send("far", IP(src=FAR, dst=PUBLIC) / UDP(sport=54, dport=outside[UDP].sport))
    network.send("b1", IP(src=B1, dst=FAR, proto=50) / bytes(20))
    assert counted(network, *packets, "PacketsDropCount") == (2, 1, 3, 2, 2)
    assert counted(network, *sizes) == (100 + 40, 100, 400 + 28, 400), "what is dropped came in, and did not go out"


@behaviour(
    "ConnectionAttemptCount counts TCP connections asked for, ConnectionEstablishedCount those that opened", source=PAGE
)
def test_attempts() -> None:
    network = Network(VPC)
    names = ("ConnectionAttemptCount", "ConnectionEstablishedCount")
    for own in (5000, 5001):
        port = network.send("b1", IP(src=B1, dst=FAR) / TCP(sport=own, dport=80)).packet[TCP].sport
    network.send("b1", IP(src=B1, dst=FAR) / TCP(sport=5001, dport=80))  # once more: no new attempt
    assert counted(network, *names) == (2, 0)
    network.send("far", IP(src=FAR, dst=PUBLIC) / TCP(sport=80, dport=port, flags="SA"))
    network.send("b1", IP(src=B1, dst=FAR) / TCP(sport=5001, dport=80, flags="A"))
    assert counted(network, *names) == (2, 1)
    network.send("b1", IP(src=B1, dst=FAR) / UDP(sport=5, dport=53))
    assert counted(network, *names) == (2, 1)


@behaviour("ActiveConnectionCount is the number of TCP connections; UDP and pings do not count", source=PAGE)
def test_active() -> None:
    network = Network(VPC)
    port = network.send("b1", IP(src=B1, dst=FAR) / TCP(sport=5000, dport=80)).packet[TCP].sport
    network.send("far", IP(src=FAR, dst=PUBLIC) / TCP(sport=80, dport=port, flags="SA"))
    network.send("b2", IP(src=B2, dst=FAR) / TCP(sport=5000, dport=80))
    network.send("b1", IP(src=B1, dst=FAR) / UDP(sport=5, dport=53))
    network.send("b1", IP(src=B1, dst=FAR) / ICMP(id=7))
    assert counted(network, "ActiveConnectionCount") == (2,)
    network.send("b1", IP(src=B1, dst=FAR) / TCP(sport=5000, dport=80, flags="R"))
    assert counted(network, "ActiveConnectionCount") == (1,)
    network.wait(350)
    assert counted(network, "ActiveConnectionCount") == (0,)


@behaviour("IdleTimeoutCount counts connections that died of silence, and not those that were closed", source=PAGE)
def test_idle() -> None:
    network = Network(VPC)
    network.send("b1", IP(src=B1, dst=FAR) / UDP(sport=5, dport=53))
    network.send("b1", IP(src=B1, dst=FAR) / TCP(sport=5000, dport=80))
    network.send("b2", IP(src=B2, dst=FAR) / TCP(sport=5000, dport=80))
    network.send("b2", IP(src=B2, dst=FAR) / TCP(sport=5000, dport=80, flags="R"))
    network.wait(349.999)
    assert counted(network, "IdleTimeoutCount") == (0,)
    network.wait(0.001)
    assert counted(network, "IdleTimeoutCount") == (2,)

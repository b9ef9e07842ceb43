"""Captures around a gateway load balancer: packets in packets, wherever they get to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scapy.layers.inet import IP, TCP, UDP, fragment
from scapy.layers.l2 import Ether

from dataplane.verdict import Verdict
from lab import pcapng
from lab.capture import Capture
from tests.scenario.network import Network

TEXT = (Path(__file__).parents[3] / "examples" / "inspection-east-west.yaml").read_text()
INNER, OUTER = "gwlb:security/fleet/inner", "gwlb:security/fleet/outer"
SYN = IP(src="10.80.1.10", dst="10.80.2.10") / TCP(sport=40000, dport=5432, flags="S")
SHELL_BYTES = 68
"""IPv4, UDP and GENEVE with the options of a load balancer (RFC 8926, section 3.4)."""


def changed(old: str, new: str) -> str:
    """The lab with another rule."""
    assert TEXT.count(old) == 1
    return TEXT.replace(old, new)


def begun(network: Network, *points: str, where: str = "") -> Capture:
    return Capture(network.plane, points, where, ring_bytes=1 << 20)


def read(capture: Capture) -> list[pcapng.Captured]:
    written: list[bytes] = []
    capture.run(written.append, lambda seconds: True)
    return list(pcapng.Reader().packets(b"".join(written)))


def names(packets: Sequence[pcapng.Captured]) -> list[str]:
    return [each.interface.name for each in packets]


def sent_back(network: Network, outer: Any) -> Any:
    """What an appliance sends that lets a packet pass: the same, ends swapped (no checksum changes by that)."""
    packet = IP(bytes(outer))
    packet.src, packet.dst = packet.dst, packet.src
    return packet


def test_what_dies_behind_an_appliance_is_found_by_a_filter() -> None:
    """It was taken out of GENEVE: the Ethernet header in front of it is that of the door where it died."""
    network = Network(
        changed("protocol: all, source: 10.80.0.0/16", "protocol: icmp, source: 10.80.0.0/16"), engine="fast"
    )
    everything, filtered = begun(network, "db"), begun(network, "db", where="tcp port 5432")
    there = network.send("shop", SYN)
    network.send("fw", sent_back(network, there.packet))
    [seen] = read(everything)
    assert [each.data for each in read(filtered)] == [seen.data]
    db = network.plane.interface(network.plane.port("db/eth0"))
    frame = Ether(seen.data)
    assert (frame.dst, frame.src, frame.type) == (db.mac.hex(":"), db.router_mac.hex(":"), 0x0800)
    assert (frame[IP].src, frame[IP].dst, frame[TCP].dport) == (SYN.src, SYN.dst, 5432)
    assert seen.comment.startswith("DROP GROUP_INGRESS at interface db/eth0")


def test_what_dies_at_the_door_of_an_appliance_is_there_inside_of_geneve() -> None:
    """Byte by byte what would have come in, had its group let it; also outside of the tunnel."""
    open_, shut = Network(TEXT, engine="fast"), Network(changed("udp, ports: 6081", "udp, ports: 6082"), engine="fast")
    for size in (0, 1000, 8000):
        capture = begun(shut, "gwlb:fleet", "fw")
        packet = SYN / bytes(size)
        frame = bytes(open_.send("shop", packet).sent[0].ether)
        assert shut.send("shop", packet).verdict == Verdict.DROP
        _, *around = seen = read(capture)
        assert names(seen) == [INNER, OUTER, "fw/eth0"]
        assert [each.data for each in around] == [frame] * 2
        assert not any(each.outgoing for each in around)
        assert len(seen[0].data) + SHELL_BYTES + 14 == len(frame)
        assert all(each.comment.startswith("DROP GROUP_INGRESS at interface fw/eth0") for each in seen)
        assert "; target 10.80.1.10" in seen[1].comment


def test_fragments_that_had_waited_are_outside_of_the_tunnel_too() -> None:
    network = Network(TEXT, engine="fast")
    capture = begun(network, "fw", OUTER)
    first, *later = fragment(IP(src="10.80.1.10", dst="10.80.2.10", id=7) / UDP(sport=5, dport=53) / bytes(2000), 1000)
    network.send_all("shop", [*later, first])
    seen = read(capture)
    assert names(seen) == ["fw/eth0", OUTER] * 3
    for at_fw, outside in zip(seen[::2], seen[1::2], strict=True):
        assert at_fw.data == outside.data
        assert not outside.outgoing
        assert outside.comment.endswith("; target 10.80.1.10")
    assert ["had waited" in each.comment for each in seen[::2]] == [False, True, True]

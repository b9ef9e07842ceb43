"""What was captured is the same again in the same network, and what is not is told."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Timestamp, fragment
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from dataplane.load import load_topology
from dataplane.model._capture_points import known_points
from lab import pcapng
from lab.capture import Capture
from lab.control import RequestError
from lab.replay import replay
from tests.scenario.network import Network
from vpclab.cli.captures import line_of

TEXT = (Path(__file__).parents[3] / "examples" / "quickstart.yaml").read_text()


class Recorded:
    """A network whose packets are captured at all its points."""

    def __init__(self, *words: str, text: str = TEXT) -> None:
        self.network = Network(text, engine="fast")
        self.capture = Capture(self.network.plane, words or known_points(self.network.plane.topology))

    def file(self) -> bytes:
        written: list[bytes] = []
        self.capture.run(written.append, lambda seconds: True)
        return b"".join(written)

    def converse(self) -> None:
        """TCP, UDP and echo, through the NAT gateway and the peering, some of it dropped."""
        network = self.network
        for packet in (
            IP(src="10.0.2.10", dst="198.51.100.10") / TCP(sport=40000, dport=80, flags="S", seq=1),
            IP(src="10.0.2.10", dst="198.51.100.10") / UDP(sport=40001, dport=53) / b"?",
            IP(src="10.0.2.10", dst="198.51.100.10") / ICMP(id=7),
            IP(src="10.0.2.10", dst="10.1.1.10") / TCP(sport=40002, dport=5432, flags="S"),
            IP(src="10.0.2.10", dst="10.0.1.10") / TCP(sport=40003, dport=9999, flags="S"),
        ):
            network.now += 7
            sent = network.send("app", packet).sent
            if sent and sent[0].node == "example" and TCP in sent[0].packet:
                seen = sent[0].packet
                answer = IP(src=seen.dst, dst=seen.src) / TCP(
                    sport=80, dport=seen.sport, flags="SA", seq=9, ack=seen.seq + 1
                )
                network.send("example", answer)


def test_the_same_network_gives_the_same_packets() -> None:
    recorded = Recorded()
    recorded.converse()
    file = recorded.file()
    found = replay(file, load_topology(TEXT, file_name="lab.yaml"))
    assert found.is_equal, (found.missing, found.new)
    assert found.sent == 6
    assert found.equal == len(list(pcapng.Reader().packets(file))) > 25
    assert sorted(pcapng.Reader().packets(found.file)) == sorted(pcapng.Reader().packets(file))


def test_another_network_is_told_from_it_packet_by_packet() -> None:
    recorded = Recorded("app", "db", "nat:nat", "example")
    recorded.converse()
    changed = TEXT.replace("protocol: tcp, ports: 5432", "protocol: udp, ports: 1")
    assert changed != TEXT
    found = replay(recorded.file(), load_topology(changed, file_name="lab.yaml"))
    assert not found.is_equal
    assert {seen.side for seen in found.missing} == {"app/eth0", "db/eth0"}
    assert all(seen.fate.startswith("DROP GROUP_INGRESS at interface db/eth0") for seen in found.new)
    assert {(seen.side, seen.data) for seen in found.new} == {(seen.side, seen.data) for seen in found.missing}


def read(file: bytes) -> tuple[list[pcapng.Interface], list[pcapng.Captured]]:
    reader = pcapng.Reader()
    packets = list(reader.packets(file))
    return reader.interfaces, packets


def file_of(interfaces: list[pcapng.Interface], packets: list[pcapng.Captured]) -> bytes:
    file = pcapng.section("vpclab")
    for each in interfaces:
        file += pcapng.interface(each.name, "", capture_length=0, link_type=each.link_type)
    for packet in packets:
        file += pcapng.packet(
            packet.data,
            time_ns=packet.time_ns,
            length=len(packet.data),
            direction=pcapng.OUTBOUND if packet.outgoing else pcapng.INBOUND,
            interface=interfaces.index(packet.interface),
            comment=packet.comment,
        )
    return file


def test_what_was_lost_when_it_was_recorded_makes_no_packet_another_one() -> None:
    recorded = Recorded()
    recorded.converse()
    interfaces, packets = read(recorded.file())
    told = [each._replace(comment=f"{each.comment}; 12 records lost before this one") for each in packets]
    assert replay(file_of(interfaces, told), load_topology(TEXT, file_name="lab.yaml")).is_equal


def test_time_passes_as_it_did() -> None:
    """An answer that comes later than the NAT gateway (350 s) and security groups (30 s) remember UDP is dropped."""
    recorded = Recorded("app", "example")
    network = recorded.network
    seen = network.send("app", IP(src="10.0.2.10", dst="198.51.100.10") / UDP(sport=40001, dport=53) / b"?").packet
    network.send("example", IP(src=seen.dst, dst=seen.src) / UDP(sport=53, dport=seen.sport) / b"!")
    interfaces, packets = read(recorded.file())
    topology = load_topology(TEXT, file_name="lab.yaml")

    def after(seconds: int) -> Any:
        times = (10**18 + (each.data[-1:] == b"!") * seconds * 10**9 for each in packets)
        moved = [each._replace(time_ns=at) for each, at in zip(packets, times, strict=True)]
        return replay(file_of(interfaces, moved), topology)

    assert after(29).is_equal
    found = after(400)
    assert [(seen.side, seen.outgoing) for seen in found.missing] == [("example/eth0", True), ("app/eth0", False)]
    assert [(seen.side, seen.fate.split()[0]) for seen in found.new] == [("example/eth0", "DROP")]
    assert after(-1).is_equal, "clocks may be set back; the network's goes on"


@pytest.mark.parametrize("silence_s", [31, 40])
@pytest.mark.parametrize("is_last", [False, True])
def test_fragments_whose_first_one_never_came_are_sent_once(silence_s: int, is_last: bool) -> None:
    """A capture has them twice: when they began to wait, and when they died of it."""
    recorded = Recorded()
    network = recorded.network
    first, second = fragment(
        IP(src="10.0.2.10", dst="198.51.100.10", id=5) / UDP(sport=5000, dport=53) / bytes(1200), 800
    )
    network.send("app", second)
    network.now += 10
    network.send("app", first)
    second.id = 6
    network.send("app", second)
    network.now += 29_500
    network.send("app", IP(src="10.0.2.10", dst="198.51.100.10") / ICMP(id=7))
    network.now += silence_s * 1000 - 29_500
    network.plane.advance(network.now)
    if not is_last:
        network.send("app", IP(src="10.0.2.10", dst="198.51.100.10") / ICMP(id=7))
    file = recorded.file()
    assert sum("FRAGMENT_TIMEOUT" in each.comment for each in pcapng.Reader().packets(file)) == 1
    found = replay(file, load_topology(TEXT, file_name="lab.yaml"))
    assert found.is_equal, (found.missing, found.new)
    assert found.sent == 5 - is_last


def test_one_packet_more_or_less_is_not_the_same() -> None:
    """Of what arrived: one that the file has not is new, and one that it has once too often is missing once."""
    recorded = Recorded()
    recorded.converse()
    interfaces, packets = read(recorded.file())
    number, arrived = next((n, each) for n, each in enumerate(packets) if each.interface.name == "db/eth0")
    for changed, difference in (
        (packets[:number] + packets[number + 1 :], ([], [arrived.data])),
        ([arrived, *packets], ([arrived.data], [])),
    ):
        found = replay(file_of(interfaces, changed), load_topology(TEXT, file_name="lab.yaml"))
        assert not found.is_equal
        assert ([seen.data for seen in found.missing], [seen.data for seen in found.new]) == difference


def offloaded(network: Network, node: str, segment: Any) -> tuple[bytes, bytes]:
    """A segment that a node's kernel leaves to be cut, its checksum only begun (virtio_net.h: 1 is TCPv4, 4 TCPv6)."""
    frame = bytearray(network.frame(node, segment))
    head = 14 + (frame[14] & 15) * 4 if IP in segment else 54
    ends = frame[26:34] if IP in segment else frame[22:54]
    total = sum(struct.unpack(f">{len(ends) // 2}H", ends)) + 6 + len(frame) - head
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    frame[head + 16 : head + 18] = total.to_bytes(2, "big")
    size = head + (frame[head + 12] >> 4) * 4
    return bytes(frame), struct.pack("<BBHHHHH", 1, 1 if IP in segment else 4, size, 1448, head, 16, 0)


DUAL_STACK = (Path(__file__).parents[3] / "examples" / "dual-stack.yaml").read_text()


@pytest.mark.parametrize(
    ("text", "node", "ends"),
    [
        (TEXT, "app", IP(src="10.0.2.10", dst="10.0.1.10")),
        (DUAL_STACK, "batch", IPv6(src="2001:db8:40:2::10", dst="2001:db8:40:1::10")),
        (TEXT, "app", IP(src="10.0.2.10", dst="10.0.1.10", options=[IPOption_Timestamp()])),
    ],
    ids=["IPv4", "IPv6", "IPv4 with options"],
)
def test_segments_that_were_left_to_hardware_are_left_to_it_again(text: str, node: str, ends: Any) -> None:
    recorded = Recorded(node, "web", text=text)
    network = recorded.network
    network.send(node, ends / TCP(sport=40000, dport=80, flags="S", seq=1))
    times = TCP(sport=40000, dport=80, flags="PA", seq=2, options=[("Timestamp", (7, 5)), ("NOP", None), ("NOP", None)])
    frame, offload = offloaded(network, node, ends / times / bytes(4000))
    [outcome], emissions = network.plane.process([frame], [network.port(node)], network.now, [offload])
    assert outcome.reason == 0
    assert emissions[0].offload[:2] == offload[:2]
    file = recorded.file()
    large = [each for each in pcapng.Reader().packets(file) if len(each.data) > 4000]
    assert [each.interface.name for each in large] == [f"{node}/eth0", "web/eth0"]
    for each in large:
        assert each.comment.endswith("; segments of 1448 bytes")
        packet = Ether(each.data)
        given = packet[TCP].chksum
        del packet[TCP].chksum
        assert given == Ether(bytes(packet))[TCP].chksum
    assert replay(file, load_topology(text, file_name="lab.yaml")).is_equal


def test_what_cannot_be_replayed() -> None:
    recorded = Recorded("nat:nat", "internet")
    recorded.converse()
    other = pcapng.section("x") + pcapng.interface("wbe/eth0", "", capture_length=0)
    for file, words in (
        (b"nothing", "cannot be replayed: no pcapng file"),
        (other, "called 'wbe/eth0'"),
        (recorded.file(), "no packets as an instance sent them"),
    ):
        with pytest.raises(RequestError, match=words):
            replay(file, load_topology(TEXT, file_name="lab.yaml"))


ODD = {
    "shorter than a header": (b"\x02" * 14 + b"\x45", "segments of 1448 bytes"),
    "without one": (b"\x02" * 12 + b"\x08\0", "segments of 1448 bytes"),
    "of a header without addresses": (b"\x02" * 12 + b"\x08\0\x40" + bytes(80), "segments of 1448 bytes"),
    "of IPv6 without TCP": (b"\x02" * 12 + b"\x86\xdd\x60" + bytes(45), "segments of 1448 bytes"),
    "of more than 16 bits": (b"\x02" * 60, "segments of 65536 bytes"),
    "of more digits than a number has": (b"\x02" * 60, f"segments of {'9' * 5000} bytes"),
}


@pytest.mark.parametrize("what", ODD)
def test_segments_that_cannot_be_are_replayed_as_they_came(what: str) -> None:
    """Anybody may have written a file: what no kernel left to be cut dies of what it died of, or is told as new."""
    data, comment = ODD[what]
    file = pcapng.section("x") + pcapng.interface("web/eth0", "", capture_length=0)
    file += pcapng.packet(data, time_ns=1, length=len(data), direction=pcapng.OUTBOUND, comment=comment)
    found = replay(file, load_topology(TEXT, file_name="lab.yaml"))
    assert (found.sent, len(found.missing), [each.data for each in found.new]) == (1, 1, [data])
    assert replay(found.file, load_topology(TEXT, file_name="lab.yaml")).is_equal


def test_a_packet_longer_than_any_frame_is_refused() -> None:
    longest = pcapng.section("x") + pcapng.interface("web/eth0", "", capture_length=0)
    longest += pcapng.packet(bytes(131072), time_ns=1, length=131072, direction=pcapng.OUTBOUND)
    assert replay(longest, load_topology(TEXT, file_name="lab.yaml")).sent == 1
    data = bytes(131073)
    file = pcapng.section("x") + pcapng.interface("web/eth0", "", capture_length=0)
    file += pcapng.packet(data, time_ns=1, length=len(data), direction=pcapng.OUTBOUND)
    with pytest.raises(RequestError, match="a packet of 131073 bytes; no frame has more than 131072"):
        replay(file, load_topology(TEXT, file_name="lab.yaml"))


def test_a_name_that_steers_a_terminal_is_refused_without_it() -> None:
    file = pcapng.section("x") + pcapng.interface("\x1b]0;a\x07\nvpclab: fine", "", capture_length=0)
    with pytest.raises(RequestError) as refused:
        replay(file, load_topology(TEXT, file_name="lab.yaml"))
    assert str(refused.value) == r"cannot be replayed: no point has the name '\x1b]0;a\x07\nvpclab: fine'"


def test_what_a_file_says_does_not_steer_the_terminal_it_is_shown_on() -> None:
    told = pcapng.Captured(pcapng.Interface("web\x1b[2J/eth0", pcapng.ETHERNET), 1, bytes(14), True, "a\n\x1b]0;b")
    line = line_of(told)
    assert line.isprintable()
    assert "web\\x1b[2J/eth0" in line
    assert line.endswith("a\\n\\x1b]0;b")

"""tcpdump's filters, by libpcap."""

from __future__ import annotations

import gc

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether

from dataplane.errors import LabError
from lab import packet_filter
from lab.control import RequestError
from lab.packet_filter import PacketFilter

SYN = IP(src="10.0.1.10", dst="10.0.2.10") / TCP(sport=40000, dport=443, flags="S")
PACKETS = {
    "tcp port 443": [SYN],
    "tcp[tcpflags] & tcp-syn != 0": [SYN],
    "udp and dst host 10.0.2.11": [IP(dst="10.0.2.11") / UDP()],
    "icmp": [IP() / ICMP()],
    "ip6": [IPv6() / TCP()],
    "net 10.0.2.0/24": [SYN, IP(dst="10.0.2.11") / UDP()],
    "greater 80": [IP() / UDP() / bytes(60)],
}
ALL = [SYN, IP(dst="10.0.2.11") / UDP(), IP() / ICMP(), IPv6() / TCP(), IP() / UDP() / bytes(60)]


@pytest.mark.parametrize("text", PACKETS)
def test_frames_and_packets_are_told_apart_alike(text: str) -> None:
    chosen = PacketFilter(text)
    wanted = [bytes(packet) for packet in PACKETS[text]]
    framed = [bytes(each) for each in ALL if chosen.matches(bytes(Ether(src="02:00:00:00:00:01") / each))]
    bare = [bytes(each) for each in ALL if chosen.matches(bytes(each), bare=True)]
    assert framed == bare == wanted


def test_what_has_to_do_with_frames_only() -> None:
    chosen = PacketFilter("arp or ether src 02:00:00:00:00:01", bare=False)
    assert chosen.matches(bytes(Ether(dst="ff:ff:ff:ff:ff:ff") / ARP()))
    assert chosen.programs[1] == 0
    with pytest.raises(RequestError, match="no Ethernet header at this point"):
        PacketFilter("ether src 02:00:00:00:00:01")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tcp prot 80", "syntax error"),
        ("port 70000", "70000"),
        ("port 80 and", "syntax error"),
        ("tcp and udp and less 3", "rejects all packets"),
    ],
)
def test_a_filter_that_libpcap_refuses(text: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as refused:
        PacketFilter(text)
    assert repr(text) in str(refused.value)


def test_filters_come_and_go() -> None:
    for number in range(1, 300):
        assert PacketFilter(f"tcp port {number}").matches(bytes(SYN), bare=True) is False
    gc.collect()


def test_without_libpcap_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packet_filter, "_NAMES", ("libnothing.so.0",))
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    with pytest.raises(LabError, match=r"apt-get install -y libpcap0\.8"):
        PacketFilter("tcp")

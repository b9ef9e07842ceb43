"""tcpdump's filters, by libpcap."""

from __future__ import annotations

import gc
from collections import Counter
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether

from dataplane.errors import LabError
from lab import packet_filter
from lab.control import RequestError
from lab.filter_names import with_addresses
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


def test_what_can_match_frames_only_keeps_nothing_elsewhere() -> None:
    chosen = PacketFilter("arp")
    assert chosen.matches(bytes(Ether(dst="ff:ff:ff:ff:ff:ff") / ARP()))
    assert not any(chosen.matches(bytes(each), bare=True) for each in ALL)
    with pytest.raises(RequestError, match="rejects all packets"):
        PacketFilter("arp", frames=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tcp prot 80", "syntax error"),
        ("port 70000", "70000"),
        ("port 80 and", "syntax error"),
        ("tcp and udp and less 3", "rejects all packets"),
        ("inbound", "directions and interfaces are those of points"),
        ("tcp and not outbound", "directions and interfaces are those of points"),
        ("ifindex 2", "directions and interfaces are those of points"),
        ("tcp \udcff", "characters that are no text"),
        ("tcp\0 and udp", "characters that are no text"),
    ],
)
def test_a_filter_that_libpcap_refuses(text: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as refused:
        PacketFilter(text)
    assert repr(text) in str(refused.value)


def test_a_filter_is_told_as_it_was_written() -> None:
    """Not with the addresses that stand for its names; of two names that nobody has, the first is named."""
    for text, words in (
        ("host web and prot 6", "syntax error"),
        ("host web and inbound", "directions and interfaces"),
        ("host web and wbe or bew", "no node is called 'wbe'"),
    ):
        with pytest.raises(RequestError, match=words) as refused:
            PacketFilter(text, NODES)
        assert f"filter {text!r}: " in str(refused.value)


def test_a_filter_may_have_several_lines() -> None:
    assert PacketFilter("tcp\n\tand port 443\n").matches(bytes(SYN), bare=True)


NODES = {"web": ["10.0.1.10"], "db-1": ["10.0.2.11", "2001:db8::11"], "www": ["192.0.2.1"], "net": ["10.0.1.12"]}

AS_THEY_ARE = [
    "tcp port http or https",
    "ip proto ospf or ip proto \\udp",
    "tcp[tcpflags] & (tcp-syn|tcp-ack) != 0 or net 10.0/16",
    "icmp[icmptype] = icmp-echo or ip6 host ::ffff:1",
    "udp[0x8:2] = 0xbeef and ether host 02:00:00:00:00:0a",
    "icmp6[icmp6type] = icmp6-echo or icmp6[icmp6code] = 0",
    "tcp portrange ssh-domain or portrange 80-90",
    "ip[icmpcode] = 0 or icmp[icmpcode] = 3",
    # examples of pcap-filter(7), where they hold for Ethernet
    "ether proto \\ip or ether dst ff:ff:ff:ff:ff:ff",
    "ip6 protochain \\tcp or ip protochain 6 or ip protochain ospf",
    "dst net 128.3 or src net 10.0.0.0 mask 255.0.0.0",
    "ether broadcast or ether multicast or ip multicast or ip6 multicast",
    "ether[0] & 1 != 0 or ip[0] & 0xf != 5 or ip[6:2] & 0x1fff = 0",
    "less 100 or greater 100 or len <= 100",
    "vlan 100 && vlan 200 || mpls 100000",
    "pppoed or pppoes 0x27 or geneve 0xb",
    "arp or rarp or igmp or pim or vrrp or carp or ah or esp or igrp or sctp",
    "atalk or aarp or decnet or lat or sca or moprc or mopdl or stp or ipx or netbeui or iso or llc",
    "tcp src port http or udp dst port domain or sctp port 80",
]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("host \\net and port 80", "host 10.0.1.12 and port 80"),
        ("port domain or ssh or host web", "port domain or ssh or host 10.0.1.10"),
        ("ip proto \\tcp or \\udp or src web", "ip proto \\tcp or \\udp or src 10.0.1.10"),
        *((text, text) for text in AS_THEY_ARE),
        ("host web", "host 10.0.1.10"),
        ("src web and dst db-1", "src 10.0.1.10 and dst (10.0.2.11 or 2001:db8::11)"),
        ("tcp port www and host www", "tcp port www and host 192.0.2.1"),
        (
            "tcp[tcpflags] & (tcp-syn|tcp-ack) != 0 or net 10.0/16",
            "tcp[tcpflags] & (tcp-syn|tcp-ack) != 0 or net 10.0/16",
        ),
        (
            "udp[0x8:2] = 0xbeef and ether host 02:00:00:00:00:0a",
            "udp[0x8:2] = 0xbeef and ether host 02:00:00:00:00:0a",
        ),
    ],
)
def test_names_in_a_filter_are_those_of_nodes(text: str, meant: str) -> None:
    assert with_addresses(text, NODES) == (meant, "")
    assert PacketFilter(text, NODES, bare=False).programs[0]


@pytest.mark.parametrize("word", ["host", "net", "gateway", "src", "dst", "ra", "ta", "addr1", "address4"])
def test_hosts_are_meant_again_behind_words_for_ends(word: str) -> None:
    """pcap-filter(7): `port http or ssh` is of ports; another type or direction begins anew."""
    assert with_addresses(f"port http or {word} web", NODES) == (f"port http or {word} 10.0.1.10", "")
    assert with_addresses(f"subtype beacon or {word} localhost", NODES)[1] == "localhost"


def test_words_behind_type_are_no_names() -> None:
    """pcap-filter(7), of IEEE 802.11: `type mgt` and `subtype beacon`; libpcap then says that this is Ethernet."""
    text = "type mgt subtype beacon"
    assert with_addresses(text, NODES) == (text, "")
    with pytest.raises(RequestError, match=r"802\.11"):
        PacketFilter(text, NODES)


@pytest.mark.parametrize(
    "name", ["db.internal.example.", "wbe", "3com.example", "localhost", "nat:nta", "\\localhost", "ssh"]
)
def test_other_names_are_refused_and_asked_of_nobody(name: str) -> None:
    """libpcap would resolve `localhost`; that it is refused shows that it is not asked.

    `ssh` is a service, and no host because of that; behind a backslash is a name like any other.
    """
    for text in (f"host {name}", f"port 22 or src {name}"):
        with pytest.raises(RequestError, match="by their addresses"):
            PacketFilter(text, NODES)


def test_filters_come_and_go() -> None:
    for number in range(1, 300):
        assert PacketFilter(f"tcp port {number}").matches(bytes(SYN), bare=True) is False
    gc.collect()


def test_what_libpcap_has_made_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of filters that it refuses, too: pcap_close(3PCAP), pcap_freecode(3PCAP)."""
    library, calls = packet_filter._load(), Counter[str]()

    class Counted:
        def __getattr__(self, name: str) -> Any:
            calls[name] += name.startswith("pcap_")
            return getattr(library, name)

    monkeypatch.setattr(packet_filter, "_load", Counted)
    chosen = PacketFilter("tcp port 443")
    assert chosen.matches(bytes(SYN), bare=True)
    del chosen
    with pytest.raises(RequestError):
        PacketFilter("tcp prot")
    gc.collect()
    assert calls["pcap_open_dead"] == calls["pcap_close"] == 3
    assert calls["pcap_freecode"] == 2


def test_without_libpcap_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packet_filter, "_NAMES", ("libnothing.so.0",))
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    with pytest.raises(LabError, match=r"apt-get install -y libpcap0\.8"):
        PacketFilter("tcp")

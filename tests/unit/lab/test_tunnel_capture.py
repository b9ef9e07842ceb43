"""Which frames belong to a load balancer, and what is inside of them."""

from __future__ import annotations

import io
import socket
from typing import Any

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.utils import RawPcapNgReader

from lab import pcapng
from lab.tunnel_capture import inner_packet, is_tunnelled

NODE, TARGET = "10.9.2.20", "10.9.1.10"
NODES, AT = {socket.inet_aton(NODE)}, socket.inet_aton(TARGET)
GENEVE = bytes.fromhex("080008000000000001080102f583215d2e66b39c010802020000000000000000010803016742cc6d")
INNER = bytes(IP(src="10.0.1.10", dst="10.0.2.10") / TCP(dport=80))


def frame(packet: Any) -> bytes:
    return bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet)


def outer(source: str = NODE, destination: str = TARGET, port: int = 6081, **fields: Any) -> bytes:
    return frame(IP(src=source, dst=destination, **fields) / UDP(sport=50000, dport=port) / (GENEVE + INNER))


def test_both_directions_are_the_load_balancers() -> None:
    assert is_tunnelled(outer(), NODES, AT)
    assert is_tunnelled(outer(TARGET, NODE), NODES, AT)
    assert is_tunnelled(outer(options=b"\x01\x01\x01\x00"), NODES, AT)


def test_what_is_not_the_load_balancers() -> None:
    assert not is_tunnelled(outer("10.9.2.21"), NODES, AT)
    assert not is_tunnelled(outer(destination="10.9.1.11"), NODES, AT), "of another target at the same device"
    assert not is_tunnelled(outer("10.9.1.11", NODE), NODES, AT)
    assert not is_tunnelled(outer(port=53), NODES, AT)
    assert not is_tunnelled(frame(IP(src=NODE, dst=TARGET) / TCP(dport=6081)), NODES, AT)
    assert not is_tunnelled(outer(frag=100), NODES, AT)
    assert not is_tunnelled(frame(ARP()), NODES, AT)
    assert not is_tunnelled(outer()[:41], NODES, AT)
    assert not is_tunnelled(b"", NODES, AT)


def test_the_packet_inside_and_nothing_behind_it() -> None:
    assert inner_packet(outer()) == INNER
    assert inner_packet(outer() + bytes(10)) == INNER
    six = bytes(IPv6() / TCP())
    assert inner_packet(frame(IP(src=NODE, dst=TARGET) / UDP(dport=6081) / (GENEVE + six))) == six
    assert inner_packet(frame(IP(src=NODE, dst=TARGET) / UDP(dport=6081) / GENEVE)) == b""
    assert inner_packet(frame(IP(src=NODE, dst=TARGET) / UDP(dport=6081))) == b""
    assert inner_packet(frame(IP(src=NODE, dst=TARGET) / UDP(dport=6081) / b"\x3f\0\x08\0")) == b""


def test_two_interfaces_and_a_comment_in_one_file() -> None:
    file = pcapng.section("vpclab")
    for name, kind in (("outer", pcapng.ETHERNET), ("inner", pcapng.RAW_IP)):
        file += pcapng.interface(name, name, capture_length=0, link_type=kind)
    for interface, data in enumerate((outer(), INNER)):
        file += pcapng.packet(
            data, time_ns=1, length=len(data), direction=pcapng.INBOUND, interface=interface, comment="target fw-a"
        )
    (first, one), (second, two) = RawPcapNgReader(io.BytesIO(file))
    assert (first, second) == (outer(), INNER)
    assert (one.ifname, one.linktype, two.ifname, two.linktype) == (b"outer", 1, b"inner", 101)

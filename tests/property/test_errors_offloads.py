"""Errors about what a sender's kernel has left to its hardware quote what the wire would have had (RFC 792, RFC 5508).

A packet is sent with its checksum left out, or as one of many segments, and as its hardware would have made it of that:
what the router says about both is the same, to the byte. Of segments it says it once, about the first.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from dataplane.engine import DataPlane
from dataplane.load import load_topology
from dataplane.verdict import Cause, Reason
from tests.property.test_hits_offloads import partial
from tests.scenario.labs import SHOP

NOW = 1_000
LAB = SHOP.replace(
    "{destination: 198.51.100.128/25, target: blackhole}", '{destination: "64:ff9b::/96", target: "nat-gateway:nat"}'
)
WAYS: dict[str, tuple[str, Any]] = {
    "internet gateway": ("web", IP(src="10.0.1.10", dst="198.51.100.10", id=9)),
    "internet gateway, IPv6": ("bare", IPv6(src="2001:db8:10:1::11", dst="2001:db8:99::10")),
    "NAT": ("app", IP(src="10.0.2.10", dst="198.51.100.10", id=9)),
    "NAT64": ("open", IPv6(src="2001:db8:10:2::11", dst="64:ff9b::c633:640a")),
}
"""Who sends what."""
BODY = bytes(range(1, 256)) * 110


def first_of(packet: Any, size: int) -> Any:
    """What hardware sends first of a packet, in segments of so many bytes (0: whole)."""
    if not size or len(packet[TCP].payload) <= size:
        return packet
    head = packet.copy()
    head[TCP].remove_payload()
    head[TCP].flags = str(head[TCP].flags).replace("P", "").replace("F", "")
    return head / bytes(packet[TCP].payload)[:size]


def test_errors_quote_what_the_wire_would_have_had() -> None:
    seen: Counter[str] = Counter()
    topology = load_topology(LAB, file_name="shop.yaml")

    @settings(max_examples=300, derandomize=True, database=None, deadline=None)
    @given(
        way=st.sampled_from(sorted(WAYS)),
        protocol=st.sampled_from(["tcp", "tcp", "udp"]),
        size=st.sampled_from([0, 0, 536, 1440, 1460, 1461, 8440, 8461, 8961, 8962]),
        length=st.sampled_from([0, 1, 13, 100, 601, 1460, 1473, 8473, 8933, 8953, 8954, 20_001]),
        flags=st.sampled_from(["A", "PA", "CPA", "FA"]),
        ttl=st.sampled_from([64, 64, 2, 1]),
        whole=st.booleans(),
        memo=st.booleans(),
    )
    def law(way: str, protocol: str, size: int, length: int, flags: str, ttl: int, whole: bool, memo: bool) -> None:
        size = 0 if protocol == "udp" else size
        length = length if size else min(length, 8954)
        node, head = WAYS[way]
        head = head.copy()
        if head.version == 4:
            head.flags = "DF" if whole else 0
        first: Any = TCP(sport=4000, dport=80, flags="S") if protocol == "tcp" else UDP(sport=4000, dport=53)
        layer: Any = TCP(sport=4000, dport=80, flags=flags) if protocol == "tcp" else UDP(sport=4000, dport=53)
        opening = bytes(head / first)
        setattr(head, "ttl" if head.version == 4 else "hlim", ttl)
        packet = head.__class__(bytes(head / layer / BODY[:length]))
        raw, offload = partial(packet, size, congested=False)
        finished = bytes(first_of(head / layer / BODY[:length], size))
        told = []
        for sent, header in ((raw, offload), (raw[:2] + finished, None)):
            plane = DataPlane(topology, sessions=64, flows=64, memo=memo)
            port = plane.port(f"{node}/eth0")
            macs = plane.interface(port).router_mac + plane.interface(port).mac
            plane.process([macs + raw[:2] + opening] * 2, [port] * 2, NOW)
            [outcome], emissions = plane.process([macs + sent], [port], NOW, [header])
            told.append((outcome, [each for each in emissions if each.cause is Cause.ERROR]))
        assert told[0] == told[1]
        outcome, errors = told[0]
        kind = "cut" if size and length > size else "whole"
        if errors:
            seen[f"{way}, {protocol}, {kind}"] += 1
            seen[outcome.reason.name] += 1
        elif outcome.reason is Reason.MTU_EXCEEDED:
            seen[f"silent, {kind}"] += 1

    law()
    for way in WAYS:
        for how in ("tcp, cut", "tcp, whole", "udp, whole"):
            assert seen[f"{way}, {how}"], seen
    assert all(seen[each] for each in ("MTU_EXCEEDED", "TTL_EXCEEDED", "silent, cut", "silent, whole")), seen

"""Beginnings of conversations that may go through load balancers and endpoints (`balanced_labs`)."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

from tests.property.lab_packets import Draw

S3, DYNAMODB = "52.216.0.10", "52.94.0.10"

TALKERS = (
    ("c/eth0", "10.0.2.10", "198.51.100.10"),
    ("c/eth0", "10.0.2.10", "10.0.1.10"),
    ("c/eth0", "10.0.2.10", "10.1.1.10"),
    ("c/eth0", "2001:db8:10:2::10", "2001:db8:99::10"),
    ("c/eth0", "2001:db8:10:2::10", "2001:db8:10:1::10"),
    ("a/eth0", "10.0.1.10", "198.51.100.10"),
    ("a/eth0", "10.0.1.10", "10.0.2.10"),
    ("a/eth0", "10.0.1.10", "10.0.3.10"),
    ("a/eth0", "2001:db8:10:1::10", "2001:db8:99::10"),
    ("t/eth0", "10.0.1.10", "198.51.100.10"),
    ("t/eth0", "2001:db8:30:1::10", "2001:db8:99::10"),
    ("e/eth0", "10.1.1.10", "10.0.1.10"),
    ("e/eth0", "10.1.1.10", "10.1.2.10"),
    ("example/eth0", "198.51.100.10", "203.0.113.20"),
    ("example/eth0", "198.51.100.10", "203.0.113.22"),
    ("example/eth0", "2001:db8:99::10", "2001:db8:10:2::10"),
    ("example/eth0", "2001:db8:99::10", "2001:db8:10:1::10"),
)
"""Who may have something to say to whom through load balancers (`balanced_labs`)."""
CUSTOMERS = (
    *[("a/eth0", "10.0.1.10", S3), ("t/eth0", "10.0.1.10", S3)] * 3,
    ("c/eth0", "10.9.9.9", S3),
    ("b/eth0", "10.1.1.10", DYNAMODB),
    ("c/eth0", "10.0.2.10", S3),
    ("c/eth0", "10.0.2.10", DYNAMODB),
    ("e/eth0", "10.1.1.10", S3),
    ("b/eth0", "10.0.1.11", DYNAMODB),
)
"""The same through gateway endpoints."""
FIXED = {"sport": 40000, "dport": 443}
"""Ports that two VPCs with the same addresses may well use at a time."""
SIZES = (0, 0, 0, 5, 1473, 2900, 8432, 8433, 8460, 8472, 8473, 8900)


def opening(draw: Draw, kind: str = "", *, services: bool, balancers: bool) -> tuple[str, int, bytes]:
    """The first packet of a conversation (of a `kind`, if one is given): by whom, its version and bytes."""
    both = (*(TALKERS if balancers else ()), *(CUSTOMERS if services else ()))
    node, source, destination = draw(st.sampled_from(both))
    is_served = destination in (S3, DYNAMODB)
    kinds = ["tcp", "tcp", "tcp", "query", "udp"] if is_served else ["tcp", "udp", "udp", "query", "gre"]
    kind = kind or draw(st.sampled_from(kinds))
    size = draw(st.sampled_from(SIZES)) if draw(st.integers(0, 2)) == 0 else 0
    ports = (
        FIXED if is_served or draw(st.booleans()) else {"sport": draw(st.sampled_from([1, 40001, 65535])), "dport": 80}
    )
    ttl = draw(st.sampled_from([64, 64, 64, 64, 64, 4, 3, 2, 1]))
    flags = draw(st.sampled_from(["", "", "DF"]))
    upper: Any = UDP(**ports) / bytes(size)
    if kind == "tcp":
        options = [("MSS", draw(st.sampled_from([536, 8440, 8460, 8461, 8961])))]
        upper = TCP(**ports, flags=draw(st.sampled_from(["S", "S", "S", "S", "A", "R"])), options=options) / bytes(size)
    if ":" in source:
        upper = ICMPv6EchoRequest(id=1, data=bytes(size)) if kind == "query" else upper
        head6 = IPv6(src=source, dst=destination, hlim=ttl)
        if kind == "gre":
            head6.nh, upper = 47, bytes(16 + size)
        return node, 6, bytes(head6 / upper)
    upper = ICMP(id=1) / bytes(size) if kind == "query" else upper
    head = IP(src=source, dst=destination, id=draw(st.integers(0, 3)), ttl=ttl, flags=flags)
    if kind == "gre":
        head.proto, upper = 47, bytes(16 + size)
    return node, 4, bytes(head / upper)

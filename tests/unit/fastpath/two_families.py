"""An IPv6 host and an IPv4 host with a translator between them, and nothing else: no filters, no TTL, no MTU."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Network, ip_address, ip_network
from typing import Any

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

from dataplane.compile import compile_program
from dataplane.names import Names
from dataplane.program import Context, Emit, Interface, Lookup, NatPolicy, NatSession, Program, Route
from dataplane.verdict import Reason
from fastpath.engine import Engine
from tests.unit.fastpath.two_hosts import LIMITS

SIX, FOUR, OWN = "2001:db8:6::10", "198.51.100.10", "10.0.0.5"
FAR = "64:ff9b::198.51.100.10"
"""FOUR as SIX sees it."""
PORTS = {"six": 1, "four": 2}
LONGEST6 = 40 + 65535


class TwoFamilies:
    """`six` talks to FAR; `four` answers to OWN. `flow` opens a flow and gives the port that it has outside."""

    def __init__(self) -> None:
        p = Program(names=Names())
        self.number = p.names.intern("gateway", "between")
        p.nodes |= {
            "in": NatSession(object=self.number, policy="between", answer_as="between", next="route"),
            "route": Lookup(object=self.number, fib="hosts", reason=Reason.NO_ROUTE),
        }
        p.fibs["hosts"] = []
        for name, address in (("six", SIX), ("four", FOUR)):
            number = PORTS[name]
            p.nodes[f"{name}/emit"] = Emit(object=number, interface=name)
            p.neighbours[name] = []
            p.fibs["hosts"].append(Route(prefix=ip_network(address), node=f"{name}/emit", rule=0))
            p.interfaces[name] = Interface(
                number=number,
                port=number,
                realm=1,
                mac=bytes([2, 0, 0, 0, 0, number]),
                router_mac=bytes([2, 0, 0, 0, 1, number]),
                into=f"{name}/emit",
                out="route",
                mtu=LONGEST6,
            )
            p.contexts.append(Context(number=number, interface=name, entry="in", neighbours=name))
        p.interfaces["between"] = Interface(
            number=self.number, realm=1, mac=bytes(6), router_mac=bytes(6), into="in", out="route", mtu=9001
        )
        p.nat_policies["between"] = NatPolicy(
            owner=self.number,
            addresses=(IPv4Address(OWN),),
            port_first=1024,
            port_last=65535,
            per_destination=55_000,
            prefix6=IPv6Network("64:ff9b::/96"),
            timeouts=LIMITS,
        )
        self.engine = Engine(sessions=1024, flows=1024)
        self.engine.swap(compile_program(p, generation=1))

    def send(
        self, node: str, packet: Any, offload: bytes | None = None
    ) -> tuple[Reason, list[tuple[int, bytes, bytes]]]:
        """Why it died, if it did, and what left: port, IP packet, offload header."""
        number, raw = PORTS[node], bytes(packet)
        kind = b"\x08\x00" if raw[0] >> 4 == 4 else b"\x86\xdd"
        frame = bytes([2, 0, 0, 0, 1, number, 2, 0, 0, 0, 0, number]) + kind + raw
        [(_, reason, *_)], emissions = self.engine.process([frame], [number], 1000, [offload])
        for _, sent, *_ in emissions:
            assert sent[12:14] == (b"\x08\x00" if sent[14] >> 4 == 4 else b"\x86\xdd")
        return Reason(reason), [(port, sent[14:], vnet) for port, sent, _, _, vnet in emissions]

    def translated(self, node: str, packet: Any) -> bytes:
        """The one packet that comes out at the other host."""
        reason, sent = self.send(node, packet)
        assert (reason, [port for port, _, _ in sent]) == (Reason.NONE, [PORTS["four" if node == "six" else "six"]])
        return sent[0][1]

    def flow(self, protocol: str) -> int:
        """Open the flow from port (identifier) 1000 of SIX, to port 80 of FAR; its port outside."""
        upper = {
            "tcp": TCP(sport=1000, dport=80, flags="S"),
            "udp": UDP(sport=1000, dport=80),
            "icmp": ICMPv6EchoRequest(id=1000),
        }[protocol]
        raw = self.translated("six", IPv6(src=SIX, dst=FAR) / upper)
        at = 24 if protocol == "icmp" else 20
        port: int = struct.unpack(">H", raw[at : at + 2])[0]
        return port


def pseudo_sum(source: str, destination: str, length: int, protocol: int) -> int:
    """Sum of a pseudo-header, folded and not complemented (RFC 9293, 3.1; RFC 8200, 8.1)."""
    words = ip_address(source).packed + ip_address(destination).packed + struct.pack(">II", length, protocol)
    total = sum(struct.unpack(f">{len(words) // 2}H", words))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def shown(raw: bytes) -> str:
    """What a packet says, for messages."""
    return repr(IP(raw) if raw[0] >> 4 == 4 else IPv6(raw))

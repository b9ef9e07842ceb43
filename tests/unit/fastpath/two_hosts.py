"""The smallest program worth walking: two hosts in two subnets of one realm, each with a group filter.

Made by hand, from `dataplane.program` alone, so that tests of the compiled path do not depend on the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network

from dataplane.compile import compile_program
from dataplane.names import Names
from dataplane.program import (
    Bridge,
    Context,
    Direction,
    Emit,
    GroupPolicy,
    GroupSession,
    Guard,
    Interface,
    Lookup,
    Point,
    Program,
    Route,
    Rule,
    Serve,
    Test,
    Timeouts,
)
from dataplane.verdict import Reason
from fastpath.engine import Engine

LIMITS = Timeouts(
    tcp_established=432_000_000,
    tcp_opening=60_000,
    tcp_closing=60_000,
    udp_single=30_000,
    udp_stream=180_000,
    icmp=30_000,
    other=600_000,
)


@dataclass(frozen=True, slots=True)
class Host:
    """One end: its port number, addresses and MACs."""

    port: int
    address: str
    address6: str
    mac: bytes
    router_mac: bytes

    def ether(self, destination: bytes | None = None) -> bytes:
        """MACs of a frame it sends to the router (or to `destination`)."""
        return (destination or self.router_mac) + self.mac


class TwoHosts:
    """Hosts a (10.0.1.10, 2001:db8:1::10) and b (10.0.2.10, 2001:db8:2::10), and an engine between them."""

    def __init__(
        self,
        *,
        ingress: tuple[Rule, ...] | None = None,
        memo: bool = True,
        sessions: int = 1024,
        flows: int = 1024,
        seen: bool = False,
    ) -> None:
        self.names = Names()
        self.program = Program(names=self.names)
        everything = (self.rule("all4", prefix="0.0.0.0/0"), self.rule("all6", prefix="::/0"))
        self.program.fibs["hosts"] = []
        self.program.sets["unseen"] = [ip_network("10.0.2.99")]
        self.seen = seen
        self.a = self._host("a", 1, everything, everything if ingress is None else ingress)
        self.b = self._host("b", 2, everything, everything if ingress is None else ingress)
        self.engine = Engine(sessions=sessions, flows=flows, memo=memo)
        self.engine.swap(compile_program(self.program, generation=1))

    def rule(self, name: str, *, prefix: str, protocol: int = -1, ports: tuple[int, int] | None = None) -> Rule:
        return Rule(rule=self.names.intern("rule", name), protocol=protocol, ports=ports, prefix=ip_network(prefix))

    def _host(self, name: str, n: int, egress: tuple[Rule, ...], ingress: tuple[Rule, ...]) -> Host:
        p, number = self.program, self.names.intern("interface", name)
        subnet = self.names.intern("subnet", f"s{n}")
        address, address6 = f"10.0.{n}.10", f"2001:db8:{n}::10"
        router, router6 = f"10.0.{n}.1", f"2001:db8:{n}::1"
        mac, router_mac = bytes([2, 0, 0, 0, 0, n]), bytes([2, 0, 0, 0, 1, n])
        p.sets[f"{name}/own"] = [ip_network(address), ip_network(address6)]
        p.sets[f"{name}/router"] = [ip_network(router), ip_network(router6)]
        out, into = f"{name}/rules-out", f"{name}/rules-in"
        p.filters |= {out: list(egress), into: list(ingress)}
        p.group_policies[name] = GroupPolicy(owner=number, egress=out, ingress=into, timeouts=LIMITS)
        p.nodes |= {
            f"{name}/out": Guard(
                object=number,
                test=Test.DESTINATION_IN,
                table=f"{name}/router",
                negate=True,
                otherwise=f"{name}/serve",
                next=f"{name}/source",
            ),
            f"{name}/source": Guard(
                object=number,
                test=Test.SOURCE_IN,
                table=f"{name}/own",
                reason=Reason.SOURCE_CHECK,
                next=f"{name}/seen-out" if self.seen else f"{name}/egress",
            ),
            f"{name}/egress": GroupSession(
                object=number, policy=name, direction=Direction.EGRESS, next=f"{name}/bridge"
            ),
            f"{name}/bridge": Bridge(object=subnet, table=name, next=f"{name}/route"),
            f"{name}/route": Lookup(object=subnet, fib="hosts", reason=Reason.NO_ROUTE),
            f"{name}/serve": Serve(object=subnet),
            f"{name}/in": GroupSession(
                object=number, policy=name, direction=Direction.INGRESS, next=f"{name}/destination"
            ),
            f"{name}/destination": Guard(
                object=number,
                test=Test.DESTINATION_IN,
                table=f"{name}/own",
                reason=Reason.DESTINATION_CHECK,
                next=f"{name}/emit",
            ),
            f"{name}/emit": Emit(object=number, interface=name),
        }
        enter = f"{name}/seen-in" if self.seen else f"{name}/in"
        for way, direction, following in (("out", Direction.EGRESS, "egress"), ("in", Direction.INGRESS, "in")):
            if self.seen:
                p.nodes[f"{name}/seen-{way}"] = Point(
                    object=number, direction=direction, unseen="unseen", next=f"{name}/{following}"
                )
        p.bridges[name] = [(mac, enter)]
        p.neighbours[name] = [(ip_network(x), router_mac) for x in (router, router6)]
        p.neighbours[name] += [(ip_network(x), mac) for x in (address, address6)]
        p.fibs["hosts"] += [Route(prefix=ip_network(x), node=enter, rule=number) for x in (address, address6)]
        p.interfaces[name] = Interface(
            number=number,
            port=number,
            realm=1,
            subnet=subnet,
            mac=mac,
            router_mac=router_mac,
            into=enter,
            out=f"{name}/route",
            mtu=65535,
            address4=IPv4Address(address),
            address6=IPv6Address(address6),
            router4=IPv4Address(router),
            router6=IPv6Address(router6),
        )
        p.contexts.append(Context(number=number, interface=name, entry=f"{name}/out", neighbours=name))
        return Host(number, address, address6, mac, router_mac)

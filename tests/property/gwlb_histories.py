"""Random histories of labs with gateway load balancers: packets, what targets send back, errors, time, health.

Everything is drawn from one seed; sizes, TTLs, times and options of TCP are from both sides of what makes a difference.
"""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.packet import Raw

from dataplane.load import load_topology
from dataplane.topology.runtime_state import FormerTarget, RuntimeState, TargetHealth, TargetState
from tests.property.pairing import KEEP, Pair
from tests.scenario.gwlb import APP, APP6, APP_OUTSIDE, DB, FAR, FAR6

TALKS = {
    "app": (DB, FAR, FAR6, "52.216.0.10", "52.94.0.10"),
    "db": (APP, FAR, APP6),
    "far": (APP_OUTSIDE, "203.0.113.77", APP6),
    "app2": (DB,),
    "db2": (APP,),
    "twin": ("52.216.0.10",),
    "s3": (APP,),
    "strict": ("52.216.0.10",),
}
"""Who has something to say to whom."""
SIZES = (0, 0, 0, 8, 600, 1472, 1473, 8392, 8404, 8405, 8452, 8453, 8460, 8461, 8472, 8473, 8900)
OPTIONS: tuple[list[Any], ...] = ([], [("MSS", 8440)], [("MSS", 8461)], [("NOP", None), ("MSS", 9000)])
STATES: tuple[TargetState, ...] = ("healthy", "healthy", "unhealthy", "initial", "draining", "unused")
TARGETS = {"fw1": "10.9.1.21", "fw2": "10.9.1.22", "fw3": "10.9.2.23"}
TYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}


class History:
    """One history of a lab, on all engines."""

    def __init__(self, text: str, seed: int) -> None:
        self.draw = random.Random(seed)
        self.text = text
        self.pair = Pair(load_topology(text, file_name="lab.yaml"), seed=seed)
        self.sent: list[tuple[int, bytes]] = []
        self.got: list[tuple[int, bytes]] = []

    def play(self, steps: int) -> None:
        """Let things happen."""
        moves = [self.packet] * 7 + [self.answer] * 8 + [self.again] * 2 + [self.wait] * 2 + [self.change]
        for _ in range(steps):
            self.draw.choice(moves)()

    def send(self, port: int, raw: bytes) -> None:
        """Send a packet, once or twice."""
        ports = self.pair.reference.router.inventory.ports
        if port not in ports:
            return
        node, mac = ports[port], ports[port].router_mac
        if raw[0] >> 4 == 4 and raw[19] % 2:
            mac = self.pair.reference.next_mac(port, IPv4Address(raw[16:20]))
        self.sent.append((port, raw))
        frame = mac + node.mac + TYPES[raw[0] >> 4] + raw
        keep = self.draw.choice((0, KEEP, 0x5555555555555555))
        self.pair.send(port, [frame] * self.draw.choice((1, 1, 1, 2)), keep=keep, traced=self.draw.random() < 0.5)
        self.got += [(to, got[14:]) for to, got in self.pair.news if got[12:14] in TYPES.values()]

    def packet(self) -> None:
        """Somebody says something, mostly to somebody it has something to say to."""
        draw, inventory = self.draw, self.pair.reference.router.inventory
        port = draw.choice(
            [n for n in inventory.ports if draw.random() < 0.3 or self._name(n) in TALKS] or [*inventory.ports]
        )
        own = draw.choice([str(address) for address in inventory.ports[port].addresses])
        anybody = [str(a) for each in (*inventory.ports.values(), *inventory.managed()) for a in each.addresses]
        known = TALKS.get(self._name(port), ())
        far = [a for a in (known if known and draw.random() < 0.8 else anybody) if (":" in a) == (":" in own)]
        if not far:
            return
        ttl = draw.choice((64, 64, 64, 64, 1, 2, 3, 4))
        if ":" in own:
            self.send(port, bytes(IPv6(src=own, dst=draw.choice(far), hlim=ttl) / self._message(6)))
            return
        message = self._message(4)
        protocol = {"proto": 47} if isinstance(message, Raw) else {}
        ip = IP(
            src=own, dst=draw.choice(far), ttl=ttl, id=draw.randrange(4), flags=draw.choice((0, 0, "DF")), **protocol
        )
        pieces = [ip / message]
        if not ip.flags.DF and len(pieces[0]) > 100 and draw.random() < 0.2:
            pieces = fragment(pieces[0], draw.choice((400, 1400)))
            draw.shuffle(pieces)
        for piece in pieces[:3]:
            self.send(port, bytes(piece))

    def _message(self, version: int) -> Any:
        draw = self.draw
        ports = {"sport": draw.choice((1000, 1001, 5000)), "dport": draw.choice((53, 80, 6081))}
        body = Raw(bytes(draw.choice(SIZES)))
        match draw.randrange(6):
            case 0 | 1:
                return UDP(**ports) / body
            case 2 | 3:
                flags = draw.choice(("S", "S", "SA", "A", "FA", "R", "PA", "SF"))
                numbers = {"seq": draw.randrange(2**32), "ack": draw.randrange(2**32)}
                return TCP(**ports, **numbers, flags=flags, options=draw.choice(OPTIONS)) / body
            case _ if version == 6:
                return draw.choice((ICMPv6EchoRequest, ICMPv6EchoReply))(id=draw.choice((1, 2)))
            case 4:
                return ICMP(type=draw.choice((8, 8, 0, 13, 14, 5)), id=draw.choice((1, 2))) / body
            case _:
                return Raw(b"other")

    def answer(self) -> None:
        """Whoever got something sends it back, as a target does, answers, or complains."""
        if not self.got:
            return self.packet()
        port, raw = self.draw.choice(self.got[-12:])
        if raw[0] >> 4 == 6:
            swapped = raw[24:40] + raw[8:24]
            ports = raw[42:44] + raw[40:42] if raw[6] in (6, 17) else raw[40:44]
            return self.send(port, raw[:8] + swapped + ports + raw[44:])
        if raw[9] == 17 and raw[22:24] == b"\x17\xc1" and len(raw) > 96 and not raw[6] & 0x3F:
            return self._send_back(port, raw)
        if self.draw.random() < 0.2:
            error = ICMP(type=self.draw.choice((3, 11)), code=self.draw.choice((0, 3)))
            quoted = Raw(raw[: self.draw.choice((24, 28, 60))])
            return self.send(port, bytes(IP(src=_dotted(raw[16:20]), dst=_dotted(raw[12:16])) / error / quoted))
        packet = IP(raw)
        packet.src, packet.dst, packet.ttl = packet.dst, packet.src, 64
        if packet.haslayer(TCP) or packet.haslayer(UDP):
            packet.payload.sport, packet.payload.dport = packet.payload.dport, packet.payload.sport
        if packet.haslayer(TCP):
            packet[TCP].flags = self.draw.choice(("SA", "A", "FA", "R", "PA", "S"))
        elif packet.haslayer(ICMP) and packet[ICMP].type == 8:
            packet[ICMP].type = 0
        del packet.chksum
        return self.send(port, bytes(packet))

    def _send_back(self, port: int, raw: bytes) -> None:
        """Like a target, with or without a fault."""
        draw, header, inside = self.draw, raw[28:68], raw[68:]
        source_port, source = int.from_bytes(raw[20:22]), _dotted(raw[16:20])
        match draw.randrange(12):
            case 0:
                at, bit = draw.randrange(40), 1 << draw.randrange(8)
                header = header[:at] + bytes([header[at] ^ bit]) + header[at + 1 :]
            case 1:
                source_port = 1234
            case 2 if inside[0] >> 4 == 4:
                turned = inside[20:24] if inside[9] not in (6, 17) else inside[22:24] + inside[20:22]
                inside = inside[:12] + inside[16:20] + inside[12:16] + turned + inside[24:]
            case 3 if inside[0] >> 4 == 4:
                error = IP(src=source, dst=_dotted(inside[12:16])) / ICMP(type=3, code=draw.choice((1, 4)))
                inside = bytes(error / Raw(inside[:60]))
            case 4:
                port = draw.choice([*self.pair.reference.router.inventory.ports])
                source = str(self.pair.reference.router.inventory.ports[port].addresses[0])
            case 5:
                inside = inside[: draw.randrange(len(inside))]
        outer = IP(src=source, dst=_dotted(raw[12:16]), ttl=draw.choice((2, 64, 254)))
        self.send(port, bytes(outer / UDP(sport=source_port, dport=6081, chksum=0) / Raw(header + inside)))

    def again(self) -> None:
        """Something is sent again."""
        if self.sent:
            self.send(*self.draw.choice(self.sent[-15:]))

    def wait(self) -> None:
        """Time passes, mostly to the end of something that is remembered, a millisecond less or more."""
        rows = self.pair.fast.engine.sessions()
        ends = sorted({row["limit_ms"] - row["idle_ms"] for row in rows})
        if ends and self.draw.random() < 0.8:
            self.pair.advance(max(0, self.draw.choice(ends) + self.draw.choice((-1, 0, 1))))
        else:
            self.pair.advance(self.draw.choice((1, 60_000, 120_000, 350_000)))

    def change(self) -> None:
        """Targets become ill or well, are deregistered and drained, or vanish; a service rejects an endpoint."""
        draw, text = self.draw, self.text
        health = {name: draw.choice(STATES) for name in (*TARGETS, "10.20.1.10") if draw.random() < 0.8}
        state = RuntimeState(health={("security", "fleet", n): TargetHealth(state=s) for n, s in health.items()})
        gone = draw.choice([*TARGETS])
        if "[fw1, fw2, fw3]" in text and draw.random() < 0.4:
            text = text.replace("[fw1, fw2, fw3]", f"[{', '.join(each for each in TARGETS if each != gone)}]")
            address, drained = IPv4Address(TARGETS[gone]), draw.random() < 0.5
            former = FormerTarget(name=gone, address=address, zone="us-east-1a", drained=drained, until_ms=0)
            if draw.random() < 0.7:
                state = replace(state, former={("security", "fleet"): (former,)})
        if draw.random() < 0.15:
            text = text.replace("acceptance_required: false", 'acceptance_required: false, rejected: ["shop/inspect"]')
        self.pair.apply(load_topology(text, file_name="lab.yaml").with_runtime(state))
        self.pair.compare_memories()

    def _name(self, port: int) -> str:
        return self.pair.names[port].path.split("/")[0]


def _dotted(packed: bytes) -> str:
    return str(IPv4Address(packed))

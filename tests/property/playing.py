"""What can happen in a lab: the moves that long histories and short comparisons are made of.

Each move draws what it needs (`draw` is that of Hypothesis) and does it to both engines. Time passes up to the ends of
what is remembered just then, one millisecond to either side; packets are new ones, earlier ones again, answers to
what somebody got, errors about it, and pieces in any order.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6

from dataplane.reference.inventory import Owner
from dataplane.reference.nodes import BalancerNode, Interface
from dataplane.reference.packets import TCP
from dataplane.topology.runtime_state import advance
from tests.property import balanced_packets
from tests.property.balanced_changes import fail
from tests.property.disagreements import IncomparableError
from tests.property.geneve_frames import as_received, bounce, by_another, instead, is_as_sent, is_geneve, rejoined
from tests.property.ground import Ground
from tests.property.lab_changes import changed
from tests.property.lab_packets import (
    EDGES6,
    HOSTS,
    Draw,
    error_about,
    flood,
    odd_frame,
    opening,
    pieces,
    questions,
    some_packet,
)
from tests.property.quick_load import stored
from tests.property.tampering import tampered
from tests.property.test_memo import TYPES, internet_sum, swap_ends

WAITS = (1, 29_999, 30_000, 60_000, 120_000, 180_000, 350_000, 600_000, 432_000_000)
DRAWN = 4
"""Beginnings of a conversation that are drawn, until one meets an endpoint."""
SMALLEST = 54
"""Bytes of a frame with an IPv6 header: an appliance may be sent what is none."""
ROUND_TRIPS = 8
"""Packets in GENEVE that come back by themselves, of one conversation's packet."""
TRACKED_BY_DEFAULT = {"open": 432_000_000, "single": 30_000, "replied": 30_000, "stream": 180_000}
"""Idle limits that `connection_tracking` changes, in milliseconds."""
DOCUMENTED = (30_000, 60_000, 120_000, 350_000, 600_000, *TRACKED_BY_DEFAULT.values())
"""Idle limits where no setting says otherwise."""


class Playground(Ground):
    """Both engines in a lab, and everything that can happen there."""

    def packet(self, draw: Draw) -> None:
        """Somebody sends a packet."""
        if draw(st.integers(0, 3)) == 0 and self._by_nobody(draw):
            return
        port = draw(st.sampled_from(self.nodes))
        own, node = self.own(port), self.reference.router.inventory.ports[port]
        live4, live6 = self.live4, self.live6
        if isinstance(node, Interface) and not node.source_dest_check and draw(st.booleans()):
            own = [*live4, *live6]  # nobody looks at whose packets these are
            if draw(st.booleans()):  # IPv6 of some VPC, to the internet
                own, live6 = self.live6, [each for each in live6 if each.startswith(HOSTS)]
                own = [each for each in own if each not in live6]
        version, packet = some_packet(draw, own, live4, live6)
        self.put(draw, port, [self._frame(draw, port, version, packet)] * draw(st.sampled_from([1, 1, 2])))

    def _frame(self, draw: Draw, port: int, version: int, packet: bytes) -> bytes:
        inventory = self.reference.router.inventory
        ether = self.ether(port)
        if draw(st.integers(0, 7)) == 0:  # straight to a neighbour, mostly one that is there
            node = inventory.ports[port]
            everybody: list[Owner] = [*inventory.interfaces, *inventory.managed()]
            home = node.subnet if isinstance(node, Interface | BalancerNode) else None
            near = [each.mac for each in everybody if each.subnet is home]
            chosen = near if near and draw(st.integers(0, 3)) else [each.mac for each in everybody]
            ether = draw(st.sampled_from(chosen)) + ether[6:]
        return ether + TYPES[version] + packet

    def spoof(self, draw: Draw) -> None:
        """Somebody at whose packets nobody looks sends IPv6 to the internet that is not his own."""
        inventory = self.reference.router.inventory
        open_to_all = [
            port
            for port in self.nodes
            if isinstance(node := inventory.ports[port], Interface) and not node.source_dest_check
        ]
        hosts = [each for each in self.live6 if each.startswith(HOSTS)]
        if not open_to_all or not hosts:
            return self.packet(draw)
        port, others = draw(st.sampled_from(open_to_all)), [*EDGES6, *(set(self.live6) - set(hosts))]
        head = IPv6(src=draw(st.sampled_from(sorted(others))), dst=draw(st.sampled_from(hosts)))
        self.put(draw, port, [self.ether(port) + TYPES[6] + bytes(head / UDP(sport=5000, dport=53))])
        return None

    def again(self, draw: Draw) -> None:
        """Somebody sends an earlier packet again; of TCP perhaps another segment."""
        if not self.sent:
            return self.packet(draw)
        port, frame = draw(st.sampled_from(list(self.sent)))
        if port in self.nodes:
            self.put(draw, port, [self.ether(port) + resegmented(draw, frame)])
        return None

    def talk(self, draw: Draw, kind: str = "") -> None:
        """Somebody begins a conversation, and whoever gets something answers, and is answered.

        `kind`: "tcp", or nothing in particular.
        """
        node, version, packet = self._opening(draw, kind)
        port = self.reference.router.inventory.port_of.get(node)
        if port is None:
            self.packet(draw)
            return
        self.put(draw, port, [self.ether(port) + TYPES[version] + packet])
        if any(is_geneve(frame) for _, frame in self.news):
            self.inspected = port, TYPES[version] + packet
        self._bounce_all(draw)
        for _ in range(draw(st.integers(1, 3))):
            got = [(p, frame) for p, frame in self.news if p in self.nodes and frame[12:14] in TYPES.values()]
            if not got:
                return
            port, frame = got[-1]
            self.put(draw, port, [self.ether(port) + resegmented(draw, bytes(12) + swap_ends(frame))])
            self._bounce_all(draw)

    def _opening(self, draw: Draw, kind: str) -> tuple[str, int, bytes]:
        kinds = {"balancers": "guard" in self.lab["vpcs"], "services": "aws_services" in self.lab}
        found = opening(draw)
        if any(kinds.values()) and draw(st.integers(0, 7)):
            for _ in range(DRAWN):
                found = balanced_packets.opening(draw, kind, **kinds)
                if self._meets_an_endpoint(*found):
                    break
        return found

    def _meets_an_endpoint(self, node: str, version: int, packet: bytes) -> bool:
        port = self.reference.router.inventory.port_of.get(node)
        if port is None:
            return False
        hops = self._plan(port, self.ether(port) + TYPES[version] + packet)["hops"]
        return any(self.names[hop["object"]].kind == "vpc-endpoint" for hop in hops)

    def _bounce_all(self, draw: Draw) -> None:
        """Whoever has got a packet in GENEVE sends it back, and so on, hop by hop."""
        for _ in range(ROUND_TRIPS):
            got = [(p, frame) for p, frame in self.news if p in self.nodes]
            whole = rejoined([frame for _, frame in got])
            if whole is None:
                return
            port = got[-1][0]
            self.put(draw, port, [self.ether(port) + bounce(whole)])

    def fail(self, draw: Draw) -> None:
        """The target of a flow fails, or is deregistered, and the flow goes on; perhaps it is watched."""
        if self.inspected is None:
            self.talk(draw)
        if self.inspected is None or self.inspected[0] not in self.nodes:
            return
        port, packet = self.inspected
        if watched := draw(st.booleans()):
            self.put(draw, port, [self.ether(port) + packet], traced=True)
            self._bounce_all(draw)
        rows = [row for row in self.fast.engine.sessions() if row["kind"] == "balancer"]
        if not rows:
            return
        if draw(st.integers(0, 3)):
            latest = min(row["idle_ms"] for row in rows)
            rows = [row for row in rows if row["idle_ms"] == latest]
        _, group, target = self.names[draw(st.sampled_from(rows))["target"]].path.split("/")
        self.become(fail(draw, self.lab, group, target), "target fails")
        if port in self.nodes:
            self.put(draw, port, [self.ether(port) + packet], traced=watched)
            self._bounce_all(draw)

    def bounce(self, draw: Draw) -> None:
        """Somebody sends an earlier packet in GENEVE back; mostly what goes on from there goes on."""
        if (found := self._tunnelled(draw)) is None:
            return self.talk(draw)
        port, frame = found
        self.put(draw, port, [self.ether(port) + bounce(frame)] * draw(st.sampled_from([1, 1, 2])))
        if draw(st.integers(0, 3)):
            self._bounce_all(draw)
        return None

    def tamper(self, draw: Draw) -> None:
        """Somebody sends back what is not quite the packet in GENEVE that it has got, or for another; a few times."""
        if (found := self._tunnelled(draw)) is None:
            return self.talk(draw)
        for _ in range(draw(st.integers(1, 4))):
            self._tamper(draw, *found)
        if draw(st.booleans()):
            self._bounce_all(draw)
        return None

    def _tamper(self, draw: Draw, port: int, frame: bytes) -> None:
        inventory = self.reference.router.inventory
        kind, packets = tampered(draw, frame, [str(each.address) for each in inventory.balancer_nodes])
        self.seen.note(f"tampered {kind}")
        if draw(st.integers(0, 3)) == 0:  # not by whom it was for
            appliances = [each for each in self.nodes if self.names[each].path.startswith("fw")]
            port = draw(st.sampled_from(appliances if appliances and draw(st.booleans()) else self.nodes))
            own = next((address for address in self.own(port) if ":" not in address), None)
            if own is not None and draw(st.integers(0, 3)):
                packets = [by_another(packet, own) for packet in packets]
        self.put(draw, port, [self.ether(port) + packet for packet in packets])

    def _tunnelled(self, draw: Draw) -> tuple[int, bytes] | None:
        """An earlier packet in GENEVE, mostly one of the last, with who got it."""
        usable = [(port, frame) for port, frame in self.emitted if port in self.nodes and is_geneve(frame)]
        whole = [(port, frame) for port, frame in usable if not frame[20] & 0x20 and is_as_sent(frame)]
        return whole[-draw(st.integers(1, len(whole)).map(lambda n: 1 + n // 3)) :][0] if whole else None

    def answer(self, draw: Draw) -> None:
        """Whoever got an earlier frame sends back what it makes of it."""
        if (found := self._received(draw)) is None:
            return self.packet(draw)
        port, frame = found
        inner = as_received(frame) if is_geneve(frame) and not frame[20] & 0x20 else b""
        if len(inner) >= SMALLEST:  # an answer of the far end, in the place of the packet itself
            answer = resegmented(draw, bytes(12) + swap_ends(inner))
            packet = instead(frame, answer[2:]) if draw(st.booleans()) else bounce(frame)
            self.put(draw, port, [self.ether(port) + packet])
            return None
        self.put(draw, port, [self.ether(port) + resegmented(draw, bytes(12) + swap_ends(frame))])
        return None

    def error(self, draw: Draw) -> None:
        """Whoever got an earlier frame, or sits elsewhere, sends an ICMP error about it."""
        if (found := self._received(draw)) is None:
            return self.packet(draw)
        port, frame = found
        if draw(st.integers(0, 4)) == 0:
            port = draw(st.sampled_from(self.nodes))
        self.put(draw, port, [self.ether(port) + frame[12:14] + error_about(draw, frame)])
        return None

    def _received(self, draw: Draw) -> tuple[int, bytes] | None:
        if not self.emitted:
            return None
        back = draw(st.integers(1, len(self.emitted)).map(lambda n: min(n, 1 + n // 3)))
        port, frame = self.emitted[-back]
        return (port, frame) if port in self.nodes and frame[12:14] in TYPES.values() else None

    def ask(self, draw: Draw) -> None:
        """Somebody asks who has an address."""
        port = draw(st.sampled_from(self.nodes))
        mac = self.reference.router.inventory.ports[port].mac
        self.put(draw, port, [questions(draw, mac, self.own(port))])

    def fragments(self, draw: Draw) -> None:
        """Somebody sends a datagram in pieces, in some order, some of them later or never."""
        port = draw(st.sampled_from(self.nodes))
        version, packets = pieces(draw, self.own(port), self.live4, self.live6)
        frames = [self.ether(port) + TYPES[version] + packet for packet in draw(st.permutations(packets))]
        now = draw(st.integers(1, len(frames)))
        self.late += [(port, frame) for frame in frames[now:]]
        del self.late[:-16]
        self.put(draw, port, frames[:now])

    def late_fragment(self, draw: Draw) -> None:
        """A piece that had not come yet comes."""
        if not self.late:
            return self.fragments(draw)
        port, frame = self.late.pop(draw(st.integers(0, len(self.late) - 1)))
        if port in self.nodes:
            self.put(draw, port, [self.ether(port) + frame[12:]])
        return None

    def odd(self, draw: Draw) -> None:
        """Somebody sends a frame that is wrong, or one through a port that is not there any more."""
        if draw(st.booleans()) and self._by_nobody(draw):
            return
        port = draw(st.sampled_from(self.nodes))
        self.put(draw, port, [odd_frame(draw, self.ether(port), self.own(port))])

    def _by_nobody(self, draw: Draw) -> bool:
        """A frame comes through a port that is not there any more; False: all are."""
        gone = sorted(self.known - set(self.nodes))
        if gone:
            self.put(draw, draw(st.sampled_from(gone)), [bytes(60)])
        return bool(gone)

    def flood(self, draw: Draw) -> None:
        """Somebody sends more pieces than may wait.

        The fast engine follows 1024 datagrams at once, in sets of eight, by a secret of each engine's own: so few that
        hardly ever a set is full. With 64 others that wait one was in one of ten thousand floods.
        """
        if self.fast.engine.statistics()["fragments_waiting"]:
            self.packet(draw)
            return
        port = draw(st.sampled_from(self.nodes))
        self.put(draw, port, [self.ether(port) + TYPES[4] + piece for piece in flood(draw, self.own(port))])

    # -- what else happens

    def wait(self, draw: Draw) -> None:
        """Time passes: to the end of something that is remembered, a millisecond less or more; or some other time."""
        rows = self.fast.engine.sessions()
        ends = sorted({row["limit_ms"] - row["idle_ms"] for row in rows})
        ends += [30_000] if self.fast.engine.statistics()["fragments_waiting"] else []
        if ends and draw(st.integers(0, 3)):
            end, beside = draw(st.sampled_from(ends)), draw(st.sampled_from([-1, 0, 1]))
            self._note_ends([row for row in rows if row["limit_ms"] - row["idle_ms"] == end], beside)
            self.advance(max(0, end + beside))
        else:
            self.advance(draw(st.sampled_from(WAITS)))
        self._drain()

    def time_out(self, draw: Draw) -> None:
        """Of a TCP connection through an endpoint nobody says anything any more; its ends may be told."""
        if not (rows := self._balanced_tcp()):
            self.talk(draw, "tcp")
            rows = self._balanced_tcp()
        if rows:
            row = draw(st.sampled_from(rows))
            self.advance(row["limit_ms"] - row["idle_ms"])
            self._drain()

    def _balanced_tcp(self) -> list[dict[str, Any]]:
        rows = self.fast.engine.sessions()
        return [row for row in rows if row["kind"] == "balancer" and row["forward"][3] == TCP]

    def _drain(self) -> None:
        """Targets that had time to let go of their flows have had it."""
        if (state := advance(self.topology, self.now)) is not None:
            self.become({**self.lab, "runtime": stored(state)}, "drained")

    def _note_ends(self, rows: list[dict[str, Any]], beside: int) -> None:
        for row in rows:
            kind, state, limit = row["kind"], row["state"], row["limit_ms"]
            self.seen.note(f"expiry {kind} {state} {beside:+d}")
            if kind == "group" and state in TRACKED_BY_DEFAULT and limit != TRACKED_BY_DEFAULT[state]:
                self.seen.note("construct connection_tracking")
            elif limit not in DOCUMENTED:
                self.seen.note("construct settings")

    def change(self, draw: Draw) -> None:
        """Somebody works on the lab."""
        kind, lab = changed(draw, self.lab)
        self.become(lab, kind)

    def undo(self, draw: Draw) -> None:
        """What was changed last is changed back."""
        if not self.before:
            return self.change(draw)
        lab = self.before.pop()
        if self.become(lab, "undo"):
            self.before.pop()
        return None


Move = Callable[[Playground, Draw], None]
MOVES: dict[str, Move] = {
    name: getattr(Playground, name)
    for name in (
        "packet",
        "talk",
        "spoof",
        "fail",
        "bounce",
        "tamper",
        "again",
        "answer",
        "error",
        "ask",
        "fragments",
        "late_fragment",
        "odd",
        "flood",
        "wait",
        "time_out",
        "change",
        "undo",
    )
}
OFTEN = ("packet", "packet", "talk", "talk", "bounce", "tamper", "answer", "answer", "answer", "again", "error", "wait")
"""Moves of a comparison, by how often they come, besides each once."""


def play(pair: Playground, draw: Draw, *, most: int) -> None:
    """Some moves; it ends where the engines cannot be compared any further."""
    try:
        for _ in range(draw(st.integers(1, most))):
            move = draw(st.sampled_from([*OFTEN, *MOVES]))
            pair.seen.note(f"move {move}")
            pair.steps += 1
            MOVES[move](pair, draw)
    except IncomparableError:
        pair.seen.note("cut short")
    pair.done()


def resegmented(draw: Draw, frame: bytes) -> bytes:
    """EtherType and packet; a TCP segment perhaps with other flags, and a checksum as right or wrong as before."""
    packet = bytearray(frame[14:])
    if frame[12:14] == TYPES[4]:
        at = (packet[0] & 15) * 4 if packet else 0
        is_tcp = len(packet) >= at + 20 and packet[9] == 6 and not (packet[6] & 31 or packet[7])
    else:
        at, is_tcp = 40, len(packet) >= 60 and packet[6] == 6
    if is_tcp and draw(st.integers(0, 2)):
        before = bytes(packet[at + 12 : at + 14])
        packet[at + 13] = draw(st.sampled_from([2, 16, 16, 16, 18, 17, 4, 20]))
        # RFC 1624, equation 3
        [old] = struct.unpack(">H", packet[at + 16 : at + 18])
        inverted = struct.pack(">HH", ~old & 0xFFFF, ~int.from_bytes(before) & 0xFFFF)
        packet[at + 16 : at + 18] = struct.pack(">H", internet_sum(inverted + bytes(packet[at + 12 : at + 14])))
    return frame[12:14] + bytes(packet)

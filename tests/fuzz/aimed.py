"""Moves that aim at what octets by themselves meet seldom: one field of a header that is wrong and all else right, a
source that is somebody else's, an inspected packet that comes back from the wrong one, circles that are wound up, two
who say the same, more at once than may leave, more to complain about than is told, flows that go on in another lab,
frames that end too early, and time that passes unnoticed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from tests.fuzz import frames
from tests.fuzz.playing import MOVES, TALLY, WAITS, Play
from tests.fuzz.worlds import End

GENEVE = 14 + 20 + 8
"""Where GENEVE begins in a frame."""
GENEVE_PORT = (6081).to_bytes(2)
ROUNDS = 16
"""Most rounds that a circle is wound up by."""
SEGMENTS = (1, 8, 100, 1448)
"""Octets in each segment of a packet that is many."""
SUPERSIZES = (9_000, 20_000, 40_000, 60_000)
"""Octets in all of its segments."""
FEW, MANY = 8, 16
"""Frames that are sent at once, at most."""
STUMPS = (0, 8, 14, 34, 42, 54)
"""About where the headers of a frame end."""
REFUSED = ((1, 8), (1, 8), (64, 1_473), (64, 8_960))
"""TTL and octets of UDP that a router refuses: because time is over, or because it is too large for the next link."""
DONT_FRAGMENT = 0x4000
SWAPS = (1, 1, 2, 40)
"""How often the lab becomes another behind a flow's back; the last is more than the fast engine remembers."""
EDGES4 = (
    (0, b"\x40"), (0, b"\x44"), (0, b"\x4f"), (0, b"\x46"), (0, b"\x55"), (0, b"\x65"), (2, b"\0\0"), (2, b"\0\x13"),
    (2, b"\xff\xff"), (6, b"\x80"), (6, b"\x20\1"), (6, b"\x3f\xff"), (8, b"\0"), (8, b"\1"), (9, b"\0"), (9, b"\x3a"),
    (12, b"\x7f\0\0\1"), (12, b"\xe0\0\0\1"), (16, b"\x7f\0\0\1"), (16, b"\xff\xff\xff\xff"),
)  # fmt: skip
"""Where in an IPv4 header, and what stands there then (RFC 791)."""
EDGES6 = (
    (0, b"\x40"), (0, b"\x50"), (4, b"\0\0"), (4, b"\0\7"), (4, b"\xff\xff"), (6, b"\0"), (6, b"\x2b"), (6, b"\x2c"),
    (6, b"\x3b"), (7, b"\0"), (7, b"\1"), (8, bytes(15) + b"\1"), (8, b"\xff\2"), (24, bytes(15) + b"\1"),
    (24, b"\xff\2"),
)  # fmt: skip
"""The same of IPv6 (RFC 8200)."""


class Aimed(Play):
    """An input with these moves too."""

    def tunnelled(self) -> tuple[End, bytes] | None:
        """The last frame in GENEVE that somebody got."""
        for port, frame in reversed(self.left):
            is_whole = len(frame) >= GENEVE + 8
            if is_whole and frame[12:14] == frames.IPV4 and frame[23] == 17 and frame[36:38] == GENEVE_PORT:
                end = self.by_port.get(port)
                if end is not None:
                    return end, frame
        return None

    def sent_back(self) -> tuple[End, bytes, bytes] | None:
        """Who got it, and what is sent back, or the answer to it: the frame's head, and the packet.

        None: nobody got any, and somebody sends a packet.
        """
        found = self.tunnelled()
        if found is None:
            self.packet()
            return None
        end, frame = found
        type_, raw = frames.returned(frame, answers=self.octets.rarely(4))
        return end, end.router + end.mac + type_, raw

    def neighbours(self, end: End) -> list[End]:
        """Who is in somebody's subnet, itself too."""
        return [each for each in self.world.ends if each.router == end.router]

    # -- what happens

    def wind(self) -> None:
        """What somebody got in GENEVE is sent back, and again when it comes again; then the answer to it, perhaps."""
        rounds = self.octets.one() % (2 * ROUNDS)
        found = self.tunnelled()
        for _ in range(rounds // 2):
            if found is None:
                return
            end, frame = found
            self.left.clear()
            self._put(end.port, [end.router + end.mac + b"".join(frames.returned(frame, answers=False))])
            found = self.tunnelled()
        if found is not None and rounds & 1:
            end, frame = found
            self._put(end.port, [end.router + end.mac + b"".join(frames.returned(frame, answers=True))])

    def stray(self) -> None:
        """What somebody got in GENEVE is sent back from or to other ports, in pieces, by others, or as if by others."""
        sent = self.sent_back()
        if sent is None:
            return
        octets, (end, head, raw) = self.octets, sent
        how = octets.one() % 5
        if how < 2:
            changes = [octets.two() or 1 for _ in range(octets.one() % FEW + 1)]
            ports = [(int.from_bytes(raw[20:24]) ^ each << octets.among((0, 16))).to_bytes(4) for each in changes]
            self._put(end.port, [head + raw[:20] + each + raw[24:] for each in ports])
        elif how == 2:
            whole = raw[:26] + b"\0\0" + raw[28:]
            self._put(end.port, [head + each for each in frames.pieces(octets, frames.IPV4, whole)])
        else:
            for each in self.neighbours(end):
                source = octets.among(each.own4 or self.world.addresses4)
                made = frames.headed4(source, raw[16:20], 17, raw[20:])
                self._put(each.port, [each.router + each.mac + frames.IPV4 + made])
            sources = self.several(self.world.addresses4)
            self._put(end.port, [head + frames.headed4(each, raw[16:20], 17, raw[20:]) for each in sources])

    def rewrap(self) -> None:
        """It is sent back with fewer and fewer options, or with packets inside of which one octet is another."""
        sent = self.sent_back()
        if sent is None:
            return
        octets, (end, head, raw) = self.octets, sent
        message, made = raw[28:], []
        options = (message[0] & 0x3F) * 4
        inside = message[8 + options :]
        if octets.one() & 1:
            for kept in range(0, options, 4):
                made.append(bytes([message[0] & 0xC0 | kept // 4]) + message[1 : 8 + kept] + inside)
        else:
            for _ in range(octets.one() % FEW + 1 if inside else 0):
                other = bytearray(inside)
                other[octets.one() % min(len(inside), 40)] ^= octets.one() or 1
                type_inside = frames.IPV4 if other[0] >> 4 == 4 else frames.IPV6
                made.append(message[: 8 + options] + frames.repaired(type_inside, bytes(other)))
        tunnels = [raw[20:24] + (8 + len(each)).to_bytes(2) + b"\0\0" + each for each in made]
        self._put(end.port, [head + frames.headed4(raw[12:16], raw[16:20], 17, each) for each in tunnels])

    def sweep(self) -> None:
        """Somebody says the same to several."""
        end = self.octets.among(self.world.ends)
        self._put(end.port, self._to_several(end))

    def spoof(self) -> None:
        """Somebody who may says to several what is somebody else's."""
        end = self.octets.among(self.world.spoofers or self.world.ends)
        self._put(end.port, self._to_several(end, by_anybody=True))

    def _to_several(self, end: End, *, by_anybody: bool = False) -> list[bytes]:
        six = bool(end.own6) and bool(self.octets.one() & 1)
        everybody = self.world.addresses6 if six else self.world.addresses4
        own = () if by_anybody else end.own6 if six else end.own4
        source = self.octets.among(own or everybody)
        headed = frames.headed6 if six else frames.headed4
        head = end.router + end.mac + (frames.IPV6 if six else frames.IPV4)
        kind = self.octets.among(("udp", "tcp", "query"))
        to = self.several(everybody)
        to += () if six else self.world.services
        proto, body = frames.segment(self.octets, kind, six, source, to[0])
        at = {"udp": 6, "tcp": 16}.get(kind, 2)
        return [
            head + headed(source, each, proto, frames.summed(source, each, proto, body, at) if proto != 1 else body)
            for each in to
        ]

    def several(self, everybody: Sequence[bytes]) -> tuple[bytes, ...]:
        """Some addresses that are next to each other."""
        at, count = self.octets.one() % len(everybody), self.octets.one() % MANY + 1
        return (*everybody[at:], *everybody[:at])[:count]

    def perish(self) -> None:
        """Somebody sends several what the next router has to refuse, and more of it than it tells about."""
        octets, end = self.octets, self.octets.among(self.world.ends)
        six = bool(end.own6) and bool(octets.one() & 1)
        everybody = self.world.addresses6 if six else self.world.addresses4
        source = octets.among((end.own6 if six else end.own4) or everybody)
        ttl, size = octets.among(REFUSED)
        head = end.router + end.mac + (frames.IPV6 if six else frames.IPV4)
        body = struct.pack(">HHHH", octets.among(frames.PORTS), octets.among(frames.PORTS), 8 + size, 0) + bytes(size)
        made = []
        for each in self.several(everybody):
            message = frames.summed(source, each, 17, body, 6)
            if six:
                made.append(head + frames.headed6(source, each, 17, message, ttl=ttl))
            else:
                made.append(head + frames.headed4(source, each, 17, message, ttl=ttl, field=DONT_FRAGMENT))
        self._put(end.port, made * (octets.one() % MANY + 1))

    def twin(self) -> None:
        """Everybody who has an address says the same, to a service of all."""
        octets = self.octets
        end = octets.among([each for each in self.world.ends if len(self.twins(each)) > 1] or self.world.ends)
        source = octets.among(end.own4) if end.own4 else octets.among(self.world.addresses4)
        destination = octets.among(self.world.services or self.world.addresses4)
        proto, body = frames.segment(octets, octets.among(("tcp", "query", "udp")), False, source, destination)
        raw = frames.headed4(source, destination, proto, body)
        for each in self.twins(end):
            self._put(each.port, [each.router + each.mac + frames.IPV4 + raw])

    def twins(self, end: End) -> list[End]:
        """Who has the first address of somebody."""
        return [each for each in self.world.ends if each.own4[:1] == end.own4[:1]]

    def edge(self) -> None:
        """Somebody sends a packet with one field of its header at an edge, and all else as it should be."""
        end = self.octets.among(self.world.ends)
        type_, raw = frames.packet(self.octets, self.world, end)
        at, value = self.octets.among(EDGES4 if type_ == frames.IPV4 else EDGES6)
        raw = raw[:at] + value + raw[at + len(value) :]
        self._put(end.port, [self._framed(end, type_, frames.repaired(type_, raw))])

    def lean(self) -> None:
        """Somebody talks to a neighbour past the router."""
        end = self.octets.among(self.world.ends)
        other = self.octets.among(self.neighbours(end))
        self._put(end.port, [other.mac + end.mac + b"".join(frames.packet(self.octets, self.world, end))])

    def deluge(self) -> None:
        """Packets of many segments each, more than may leave at once, and behind them others that want to leave."""
        octets, end = self.octets, self.octets.among(self.world.ends)
        six = bool(end.own6) and bool(octets.one() & 1)
        everybody = self.world.addresses6 if six else self.world.addresses4
        source = octets.among((end.own6 if six else end.own4) or everybody)
        destination = octets.among(everybody)
        ports = struct.pack(">HH", octets.among(frames.PORTS), octets.among(frames.PORTS))
        tcp = ports + struct.pack(">IIBBHHH", 1, 1, 0x50, octets.among((0x02, 0x02, 0x10, 0x18)), 65535, 0, 0)
        l4 = 54 if six else 34
        vnet = struct.pack("<BBHHHHH", 1, 4 if six else 1, l4 + 20, octets.among(SEGMENTS), l4, 16, 0)
        type_, headed = (frames.IPV6, frames.headed6) if six else (frames.IPV4, frames.headed4)
        large = type_ + headed(source, destination, 6, tcp + bytes(octets.among(SUPERSIZES)))
        burst: list[tuple[bytes, bytes | None]] = [(large, vnet)] * (octets.one() % 8 + 1)
        for _ in range(octets.one() % (2 * MANY)):
            kind = octets.one() % 3
            if kind == 0:
                behind = b"".join(frames.packet(octets, self.world, end))
            elif kind == 1:
                behind = b"".join(frames.question(octets, self.world, end))
            else:  # of the same flow
                behind = type_ + headed(source, destination, 6, tcp)
            burst.append((behind, None))
        self._put(end.port, [end.router + end.mac + each for each, _ in burst], [offload for _, offload in burst])

    def outlive(self) -> None:
        """The lab becomes another while somebody talks to several."""
        end = self.octets.among(self.world.ends)
        made = self._to_several(end)
        for _ in range(2):
            self._put(end.port, made)
        stage = self.stage
        for _ in range(self.octets.among(SWAPS)):
            self.swap()
        before = self.engines[1].statistics()["flow_hits"]
        self._put(end.port, made)
        if self.stage > stage:
            TALLY.met["flow that outlived a swap"] += self.engines[1].statistics()["flow_hits"] - before

    def shatter(self) -> None:
        """Somebody says the same to several in pieces."""
        end = self.octets.among(self.world.ends)
        for each in self._to_several(end)[:FEW]:
            made = frames.pieces(self.octets, each[12:14], each[14:])
            self._put(end.port, [each[:14] + piece for piece in made])

    def stump(self) -> None:
        """Somebody sends a frame that is cut in or behind one of its headers, or has a tag in it."""
        octets, end = self.octets, self.octets.among(self.world.ends)
        frame = self._framed(end, *frames.packet(octets, self.world, end))
        tagged = frame[:12] + octets.among(frames.TYPES) + octets.take(2) + frame[12:]
        self._put(end.port, [frame[: octets.among(STUMPS) + octets.one() % 8], tagged])

    def lapse(self) -> None:
        """Time has passed, and nobody has cleared away what is over when the next packet comes."""
        self.now = min(self.now + self.octets.among(WAITS), (1 << 63) - 1)


AIMED: tuple[Callable[[Aimed], None], ...] = (
    Aimed.wind, Aimed.wind, Aimed.stray, Aimed.stray, Aimed.rewrap, Aimed.rewrap, Aimed.spoof, Aimed.spoof, Aimed.sweep,
    Aimed.sweep, Aimed.twin, Aimed.edge, Aimed.lean, Aimed.deluge, Aimed.deluge, Aimed.lapse, Play.crowd,
    Aimed.outlive, Aimed.outlive, Aimed.perish, Aimed.stump, Aimed.shatter, Aimed.stray, Aimed.lean,
    Aimed.deluge, Aimed.twin,
)  # fmt: skip


def play(data: bytes) -> None:
    """Play an input. Raises AssertionError for what must not happen."""
    Aimed(data, (*MOVES, *AIMED)).run()

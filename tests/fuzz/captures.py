"""Capture files, from octets: any, of other programs, and captures of a world whose blocks, frames, times and comments
are others; read, printed and replayed in the world's network.

A file is refused in words, or replayed. Then every packet of it is accounted for, what was recorded meanwhile is a file
that says so, and the same happens when that is replayed.
"""

from __future__ import annotations

import struct

from dataplane.errors import VpclabError
from dataplane.model._capture_points import known_points
from lab import pcapng
from lab.capture import points_of
from lab.replay import replay
from tests.fuzz import frames
from tests.fuzz.octets import Octets
from tests.fuzz.playing import TALLY
from tests.fuzz.worlds import world
from vpclab.cli.captures import line_of

BLOCKS = 24
"""Blocks of a file that is made, at most."""
MAGICS = (
    b"\xd4\xc3\xb2\xa1\2\0\4\0", b"\xa1\xb2\xc3\xd4\0\2\0\4", b"\x4d\x3c\xb2\xa1\2\0\4\0", b"\xa1\xb2\x3c\x4d\0\2\0\4",
    b"\x0a\x0d\x0d\x0a\0\0\0\x1c\x1a\x2b\x3c\x4d\0\1\0\0", b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a\1\0\0\0",
    b"\x1f\x8b\x08\0", b"RTSS", b"",
)  # fmt: skip
"""What files of other programs begin with: pcap in both orders and resolutions, pcapng in both orders, gzip."""
LINKS = (pcapng.ETHERNET, pcapng.ETHERNET, pcapng.ETHERNET, pcapng.RAW_IP, 0, 12, 113, 276, 0xFFFF)
WORDS = ("", "wbe", "nat:", "web/eth9", "igw:nowhere", "é/\0", "a" * 500, "internet", "nat:guard/nope/inside")
TIMES = (0, 1, 10**6, 10**9, 1_700_000_000 * 10**9, (1 << 63) - 1, (1 << 64) - 1)
COMMENTS = (
    "", "", "segments of 1448 bytes", "segments of 0 bytes", "segments of 65535 bytes", "segments of 65536 bytes",
    "segments of 99999999999999999999 bytes", "FORWARD; segments of 536 bytes; 3 records lost before this one", "\0",
    "DROP GROUP_INGRESS at interface web/eth0; no rule", "segments of 1 bytes", "segments of " + "9" * 5000 + " bytes",
)  # fmt: skip
KINDS = (0, 2, 3, 4, 0xA, 0xBAD, 0x80000001, 0xFFFFFFFF, 1, 5, 6)
"""Of blocks: those of other programs, of nobody, and ours."""
SIZES = (0, 1, 8, 11, 12, 13, 16, 28, 32, 64, 0x7FFFFFFC, 0xFFFFFFFC, 0xFFFFFFFF)


class File:
    """A file that octets tell of, made for the first lab of a world."""

    def __init__(self, octets: Octets) -> None:
        self.octets = octets
        self.world = world(octets.one())
        self.topology = self.world.topologies[0]
        points = points_of(self.topology, known_points(self.topology))
        self.sides = [side for point in points for side in point.sides]
        self.interfaces: list[str] = []

    def content(self) -> bytes:
        """All of it."""
        octets, how = self.octets, self.octets.one()
        if how < 0x18:
            return octets.take(octets.left)
        if how < 0x28:
            return octets.among(MAGICS) + octets.take(octets.left)
        made = [pcapng.section("vpclab")]
        if how < 0xE0:
            for side in self.sides[: octets.one() if how < 0x60 else None]:
                made.append(self._interface(side.name, pcapng.ETHERNET if side.frames else pcapng.RAW_IP))
        blocks = 0
        while octets.left and blocks < BLOCKS:
            made.append(self._changed(self._block()))
            blocks += 1
        return b"".join(made)

    def _interface(self, name: str, link_type: int) -> bytes:
        self.interfaces.append(name)
        return pcapng.interface(name, "", capture_length=0, link_type=link_type)

    def _block(self) -> bytes:
        octets, kind = self.octets, self.octets.one()
        if kind < 0xC0:
            return self._packet()
        if kind < 0xD8:
            name = octets.among(WORDS) if octets.rarely(4) else octets.among(self.sides).name
            return self._interface(name, octets.among(LINKS))
        if kind < 0xE0:
            return pcapng.statistics(start_ns=0, end_ns=octets.two(), received=octets.one(), dropped=octets.two())
        if kind < 0xE8:
            return pcapng.section("another")
        body = octets.take(octets.one())
        body += bytes(-len(body) % 4)
        size = struct.pack("=I", len(body) + 12)
        return struct.pack("=I", octets.among(KINDS)) + size + body + size

    def _packet(self) -> bytes:
        """Mostly of something that the interface it names sent."""
        octets = self.octets
        data, sender = self._frame()
        known = sender in self.interfaces and not octets.rarely(8)
        return pcapng.packet(
            data,
            time_ns=octets.among(TIMES) if octets.rarely(4) else 10**9 + octets.two() * 10**7,
            length=len(data),
            direction=octets.among((pcapng.OUTBOUND, pcapng.OUTBOUND, pcapng.OUTBOUND, pcapng.INBOUND, 0, 3)),
            interface=self.interfaces.index(sender) if known else octets.one(),
            comment=octets.among(COMMENTS) if octets.rarely(3) else "",
        )

    def _frame(self) -> tuple[bytes, str]:
        octets = self.octets
        end = octets.among(self.world.ends)
        type_, raw = frames.packet(octets, self.world, end)
        how = octets.one()
        if how < 0x40:
            raw = frames.changed(octets, type_, raw)
        whole = end.router + end.mac + type_ + raw
        if how >= 0xF0:
            whole = whole[: octets.one()]
        elif how >= 0xE8:
            whole += bytes(octets.two() * 4)
        return whole, self.world.names[end.port].path

    def _changed(self, block: bytes) -> bytes:
        """A few are: how long it says it is, any of its octets, or where it ends."""
        octets, how = self.octets, self.octets.one()
        if how < 0xF8:
            return block
        made = bytearray(block)
        if how < 0xFA:
            made[4:8] = struct.pack("=I", octets.among(SIZES))
        elif how < 0xFE:
            for _ in range(octets.one() % 4):
                made[octets.two() % len(made)] = octets.one()
        else:
            del made[octets.two() % len(made) :]
        return bytes(made)


def play(data: bytes) -> None:
    """Read, print and replay the file that the octets say. Raises what is not a word of why not."""
    file = File(Octets(data))
    content = file.content()
    try:
        for packet in pcapng.Reader().packets(content):
            assert line_of(packet).isprintable()
    except ValueError:
        pass
    try:
        found = replay(content, file.topology)
    except VpclabError:
        TALLY.met["capture refused"] += 1
        return
    TALLY.met["capture replayed"] += 1
    TALLY.met["frame replayed"] += found.sent
    given, seen = (list(pcapng.Reader().packets(each)) for each in (content, found.file))
    assert found.sent > 0
    assert found.equal + len(found.missing) == len(given)
    assert found.equal + len(found.new) == len(seen)
    again = replay(found.file, file.topology)
    assert again.is_equal, (again.missing, again.new)
    assert again.file == found.file

"""What a sender's kernel leaves to its hardware, on a flow entry: the same leaves as after a walk, in tunnels too."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from dataplane.engine import DataPlane
from dataplane.topology import Topology
from tests.property.geneve_frames import bounce, is_geneve
from tests.property.quick_load import topology_of
from tests.property.test_laws_balancers import INSPECTED, untouched
from tests.property.test_memo import TYPES, internet_sum, swap_ends
from tests.scenario.gwlb import APP, APP6, DB, DB6, FAR

NOW = 1_000
LABS: dict[bool, Topology] = {True: topology_of(INSPECTED), False: topology_of(untouched(INSPECTED))}
"""From app to db or far away: through an endpoint and its targets, or not."""


def partial(packet: Any, size: int, *, congested: bool) -> tuple[bytes, bytes]:
    """EtherType and packet with its checksum left to hardware, and its header (virtio, 5.1.6.2); `size` 0: not cut."""
    raw = bytearray(bytes(packet))
    version, is_tcp = raw[0] >> 4, TCP in packet
    at, ends = (20, raw[12:20]) if version == 4 else (40, raw[8:40])
    field = 16 if is_tcp else 6
    pseudo = bytes(ends) + struct.pack(">HH", 6 if is_tcp else 17, len(raw) - at)
    raw[at + field : at + field + 2] = struct.pack(">H", ~internet_sum(pseudo) & 0xFFFF)
    kind = (1 if version == 4 else 4) | (0x80 if congested else 0) if size else 0
    header = struct.pack("<BBHHHHH", 1, kind, 14 + at + 20 if size else 0, size, 14 + at, field, 0)
    return TYPES[version] + bytes(raw), header


class Player:
    """One data plane; its answers to everything go to a log."""

    def __init__(self, topology: Topology, *, memo: bool) -> None:
        self.plane = DataPlane(topology, sessions=1024, flows=256, memo=memo)
        self.log: list[Any] = []

    def send(self, port: int, packet: bytes, offload: bytes | None = None) -> list[tuple[int, bytes]]:
        """Who gets what in the end: targets give back what they get."""
        interface = self.plane.interface(port)
        waiting = [(port, interface.router_mac + interface.mac + packet, offload)]
        arrived = []
        while waiting:
            number, frame, header = waiting.pop(0)
            outcomes, emissions = self.plane.process([frame], [number], NOW, [header])
            self.log.append((outcomes, emissions))
            for emission in emissions:
                if is_geneve(emission.frame):
                    target = self.plane.interface(emission.port)
                    waiting.append((emission.port, target.router_mac + target.mac + bounce(emission.frame), None))
                else:
                    arrived.append((emission.port, emission.frame))
        return arrived

    def answer(self, arrived: list[tuple[int, bytes]]) -> None:
        for port, frame in arrived[:1]:
            self.send(port, swap_ends(frame))


def opened(player: Player, head: Any, protocol: str, ports: dict[str, int]) -> int:
    """A flow that is settled on both sides; the port it comes from."""
    port = player.plane.port("app/eth0")
    kind = TYPES[head.version]
    if protocol == "tcp":
        player.answer(player.send(port, kind + bytes(head / TCP(**ports, flags="S", seq=100))))
        player.send(port, kind + bytes(head / TCP(**ports, flags="A", seq=101, ack=101)))
    else:
        for _ in range(2):
            player.answer(player.send(port, kind + bytes(head / UDP(**ports) / b"hello")))
    return port


def test_on_an_entry_and_on_a_walk_the_same_leaves() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=250, derandomize=True, database=None, deadline=None)
    @given(
        inspected=st.booleans(),
        to=st.sampled_from(["db", "db6", "far"]),
        protocol=st.sampled_from(["tcp", "tcp", "udp"]),
        length=st.sampled_from([0, 1, 2, 100, 1399, 1400, 1460, 8000, 8400, 8973, 8974, 20_001]),
        size=st.sampled_from([0, 0, 536, 1400, 1460, 8440, 8461, 8961, 8962]),
        flags=st.sampled_from(["A", "PA", "CPA"]),
        ttl=st.sampled_from([64, 64, 64, 3, 2]),
        congested=st.booleans(),
    )
    def law(
        inspected: bool, to: str, protocol: str, length: int, size: int, flags: str, ttl: int, congested: bool
    ) -> None:
        length, size = (min(length, 8974), 0) if protocol == "udp" else (length, size)
        head: Any = IPv6(src=APP6, dst=DB6) if to == "db6" else IP(src=APP, dst=FAR if to == "far" else DB, flags="DF")
        later = head.copy()
        setattr(later, "hlim" if to == "db6" else "ttl", ttl)
        ports = {"sport": 4000, "dport": 80 if protocol == "tcp" else 53}
        body = bytes(range(1, 256)) * 80
        layer: Any = TCP(**ports, flags=flags, seq=101, ack=101) if protocol == "tcp" else UDP(**ports)
        packet, offload = partial(later.__class__(bytes(later / layer / body[:length])), size, congested=congested)
        players = [Player(LABS[inspected], memo=memo) for memo in (False, True)]
        for player in players:
            port = opened(player, head, protocol, ports)
            before = player.plane.engine.statistics()["flow_hits"]
            for _ in range(3):
                player.answer(player.send(port, packet, offload))
            hits = player.plane.engine.statistics()["flow_hits"] - before
            player.log.append(sorted(map(repr, player.plane.engine.sessions())))
            player.plane.engine.selfcheck()
        assert players[0].log == players[1].log
        what = "tunnel" if inspected else "plain"
        seen[f"{what}, {protocol}, {'cut' if size and length > size else 'whole'}"] += hits > 0
        seen["left"] += any(emissions for _, emissions in players[1].log[-4:-1])

    law()
    for what in ("plain", "tunnel"):
        for how in ("tcp, cut", "tcp, whole", "udp, whole"):
            assert seen[f"{what}, {how}"], seen
    assert seen["left"] > 10

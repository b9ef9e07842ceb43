"""What a real packet went through, from its record to a `dataplane.trace.Trace` of one direction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address
from typing import NamedTuple

from dataplane.capture import Record
from dataplane.names import Name, Names
from dataplane.probe import ICMP, ICMPV6, TCP, UDP, Probe, as_packet
from dataplane.trace import Action, Hop, Packet, Step, Trace, Walk
from dataplane.tracing import walk_of
from dataplane.verdict import Reason, Verdict

_ETHERNET, _UDP_HEADER, _GENEVE_HEADER = 14, 8, 8
_VERSIONS = {b"\x08\x00": 4, b"\x86\xdd": 6}
_EXTENSIONS = frozenset({0, 43, 44, 60})
"""IPv6 extension headers that say how long they are (RFC 8200)."""


def story_of(record: Record, names: Names) -> Trace:
    """The trace of one packet that was received; its answer is a packet, and a story, of its own."""
    frame = record.data
    start = names[record.member] if record.member else names[0]
    found = _read(frame)
    if found is None:
        walk = _bare(record, names, start)
    else:
        fate = {"verdict": record.verdict, "reason": record.reason, "object": record.object, "rule": record.rule}
        inside = _read_inside(frame)
        walk = walk_of(
            {**fate, "hops": record.hops}, found.probe, start, names, None if inside is None else inside.probe
        )
        walk = replace(walk, hops=_as_it_was(walk.hops, found, inside))
    packet = walk.hops[0].steps[0].packet
    return Trace(source=start.path, destination=packet.destination, forward=walk, is_story=True)


class _Found(NamedTuple):
    """The packet in a frame."""

    probe: Probe
    icmp: tuple[int, int] | None
    """Type and code, where they are in it: a `Probe` knows only of echo requests and replies."""
    length: int
    """Octets of the IP packet, as it says itself: a `Probe` has neither options nor extension headers."""

    def as_it_is(self, told: Packet) -> Packet:
        """What is told of the probe, at some step, with what it does not know."""
        more = self.length - _sent(self.probe).length_bytes
        icmp = self.icmp if told.protocol == self.probe.protocol else told.icmp
        return replace(told, icmp=icmp, length_bytes=told.length_bytes + more)


def _read(frame: bytes) -> _Found | None:
    """None: there is no IP packet to speak of."""
    version = _VERSIONS.get(frame[12:_ETHERNET])
    return None if version is None else _read_packet(frame[_ETHERNET:], version)


def _read_inside(frame: bytes) -> _Found | None:
    """The packet that a target of a load balancer sends back, inside this one (RFC 8926); None if there is none."""
    ip = frame[_ETHERNET:]
    at = (ip[0] & 15) * 4 + _UDP_HEADER if frame[12:_ETHERNET] == b"\x08\x00" and ip else len(ip)
    geneve = ip[at:]
    if len(geneve) < _GENEVE_HEADER:
        return None
    version = _VERSIONS.get(geneve[2:4])
    return None if version is None else _read_packet(geneve[_GENEVE_HEADER + 4 * (geneve[0] & 0x3F) :], version)


def _read_packet(ip: bytes, version: int) -> _Found | None:
    if version == 4 and len(ip) >= 20 and ip[0] >> 4 == 4:
        ends, protocol, ttl = (ip[12:16], ip[16:20]), ip[9], ip[8]
        is_later = int.from_bytes(ip[6:8], "big") & 0x1FFF != 0
        length = int.from_bytes(ip[2:4], "big")
        rest = ip[(ip[0] & 15) * 4 : length]
    elif version == 6 and len(ip) >= 40:
        ends, ttl = (ip[8:24], ip[24:40]), ip[7]
        length = 40 + int.from_bytes(ip[4:6], "big")
        protocol, rest, is_later = _behind_extensions(ip[6], ip[40:length])
    else:
        return None
    ports = (0, 0)
    if not is_later and protocol in (TCP, UDP) and len(rest) >= 4:
        ports = (int.from_bytes(rest[:2], "big"), int.from_bytes(rest[2:4], "big"))
    elif not is_later and protocol in (ICMP, ICMPV6) and len(rest) >= 6:
        ports = (int.from_bytes(rest[4:6], "big"), 0)
    probe = Probe(
        source=ip_address(ends[0]),
        destination=ip_address(ends[1]),
        protocol=protocol,
        source_port=ports[0],
        destination_port=ports[1],
        ttl=ttl,
    )
    has_type = protocol in (ICMP, ICMPV6) and not is_later and len(rest) >= 2
    return _Found(probe, (rest[0], rest[1]) if has_type else None, min(length, len(ip)))


def packet_of(frame: bytes) -> Packet:
    """The headers of the packet in a frame, as far as they are told; of other frames, the MACs."""
    found = _read(frame)
    if found is None:
        ends = (frame[6:12].hex(":"), frame[:6].hex(":"))
        return Packet(protocol=0, source=ends[0], destination=ends[1], length_bytes=len(frame))
    return found.as_it_is(_sent(found.probe))


def _sent(probe: Probe) -> Packet:
    return as_packet(probe, probe.source, probe.destination, (probe.source_port, probe.destination_port))


def _behind_extensions(protocol: int, rest: bytes) -> tuple[int, bytes, bool]:
    is_later = False
    while protocol in _EXTENSIONS and len(rest) >= 8:
        size = 8
        if protocol == 44:
            is_later = is_later or int.from_bytes(rest[2:4], "big") & 0xFFF8 != 0
        else:
            size = 8 + rest[1] * 8
        protocol, rest = rest[0], rest[size:]
    return protocol, rest, is_later


def _as_it_was(hops: Iterable[Hop], found: _Found, inside: _Found | None) -> tuple[Hop, ...]:
    """The hops of `found`, and from where the packet inside came out of it, of that one."""
    told = []
    for hop in hops:
        steps = []
        for step in hop.steps:
            if step.action is Action.DECAPSULATE and inside is not None:
                found = inside
            steps.append(replace(step, packet=found.as_it_is(step.packet)))
        told.append(Hop(object=hop.object, steps=tuple(steps)))
    return tuple(told)


def _bare(record: Record, names: Names, start: Name) -> Walk:
    """A frame without an IP packet, as far as there is something to say of it."""
    packet = packet_of(record.data)
    kind = f"Ethernet type 0x{record.data[12:14].hex()}"
    return Walk(
        hops=(Hop(object=start, steps=(Step(action=Action.SEND, packet=packet, note=kind),)),),
        verdict=Verdict(record.verdict),
        reason=Reason(record.reason),
        object=names[record.object] if record.object else None,
        rule=names[record.rule] if record.rule else None,
    )

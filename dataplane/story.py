"""What a real packet went through, from its record to a `dataplane.trace.Trace` of one direction."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from dataplane.capture import Record
from dataplane.names import Name, Names
from dataplane.probe import ICMP, ICMPV6, TCP, UDP, Probe, as_packet
from dataplane.trace import Action, Hop, Packet, Step, Trace, Walk
from dataplane.tracing import walk_of
from dataplane.verdict import Reason, Verdict

_ETHERNET = 14
_EXTENSIONS = frozenset({0, 43, 44, 60})
"""IPv6 extension headers that say how long they are (RFC 8200)."""


def story_of(record: Record, names: Names) -> Trace:
    """The trace of one packet that was received; its answer is a packet, and a story, of its own."""
    frame = record.data
    start = names[record.member] if record.member else names[0]
    probe = probe_of(frame)
    if probe is None:
        walk = _bare(record, names, start)
    else:
        fate = {"verdict": record.verdict, "reason": record.reason, "object": record.object, "rule": record.rule}
        walk = walk_of({**fate, "hops": record.hops}, probe, start, names)
        walk = replace(walk, hops=tuple(_as_it_was(hop, frame, probe) for hop in walk.hops))
    packet = walk.hops[0].steps[0].packet
    return Trace(source=start.path, destination=packet.destination, forward=walk)


def probe_of(frame: bytes) -> Probe | None:
    """The packet in a frame; None when there is no IP packet to speak of."""
    kind, ip = frame[12:14], frame[_ETHERNET:]
    if kind == b"\x08\x00" and len(ip) >= 20 and ip[0] >> 4 == 4:
        ends, protocol, ttl = (ip[12:16], ip[16:20]), ip[9], ip[8]
        is_later = int.from_bytes(ip[6:8], "big") & 0x1FFF != 0
        rest = ip[(ip[0] & 15) * 4 : int.from_bytes(ip[2:4], "big")]
    elif kind == b"\x86\xdd" and len(ip) >= 40:
        ends, ttl = (ip[8:24], ip[24:40]), ip[7]
        protocol, rest, is_later = _behind_extensions(ip[6], ip[40 : 40 + int.from_bytes(ip[4:6], "big")])
    else:
        return None
    ports = (0, 0)
    if not is_later and protocol in (TCP, UDP) and len(rest) >= 4:
        ports = (int.from_bytes(rest[:2], "big"), int.from_bytes(rest[2:4], "big"))
    elif not is_later and protocol in (ICMP, ICMPV6) and len(rest) >= 6:
        ports = (int.from_bytes(rest[4:6], "big"), 0)
    head = {TCP: 20}.get(protocol, 8)
    return Probe(
        source=ip_address(ends[0]),
        destination=ip_address(ends[1]),
        protocol=protocol,
        source_port=ports[0],
        destination_port=ports[1],
        payload=rest[head:],
        ttl=ttl,
    )


def packet_of(frame: bytes) -> Packet:
    """The headers of the packet in a frame, as far as they are told; of other frames, the MACs."""
    probe = probe_of(frame)
    if probe is None:
        ends = (frame[6:12].hex(":"), frame[:6].hex(":"))
        return Packet(protocol=0, source=ends[0], destination=ends[1], length_bytes=len(frame))
    packet = as_packet(probe, probe.source, probe.destination, (probe.source_port, probe.destination_port))
    return packet if packet.icmp is None else replace(packet, icmp=_icmp(frame, probe) or packet.icmp)


def _icmp(frame: bytes, probe: Probe) -> tuple[int, int] | None:
    """Type and code that the packet has: a `Probe` knows only of echo requests and replies."""
    at = _ETHERNET + ((frame[_ETHERNET] & 15) * 4 if probe.source.version == 4 else 40)
    return (frame[at], frame[at + 1]) if len(frame) >= at + 2 else None


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


def _as_it_was(hop: Hop, frame: bytes, probe: Probe) -> Hop:
    """ICMP with its own type and code."""
    icmp = _icmp(frame, probe) if probe.protocol in (ICMP, ICMPV6) else None
    if icmp is None:
        return hop
    steps = (
        replace(step, packet=replace(step.packet, icmp=icmp)) if step.packet.protocol == probe.protocol else step
        for step in hop.steps
    )
    return Hop(object=hop.object, steps=tuple(steps))


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

"""Capturing a gateway load balancer: what goes to its targets and comes back, and what is inside of it.

Packets are taken at the targets' own devices, where both sides of an appliance can be seen: what it got (inbound), and
what it gave back (outbound). Of each frame of the load balancer's, two packets are written, at the same time:

    interface 0, ``outer``    the Ethernet frame with the GENEVE packet, as it is
    interface 1, ``inner``    the IP packet inside (link type LINKTYPE_RAW), as it entered or left the endpoint

A comment names the target. What a target sends and receives besides is left out, health checks too.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lab import pcapng
from lab.capture import Capture, direction
from lab.enter import NodeView, open_socket
from lab.packet_ring import Frame, PacketRing

OUTER, INNER = 0, 1
GENEVE_PORT = 6081
_BLOCKS = 8
"""Of a ring: there is one per target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetDevice:
    """Where the packets of one target can be seen."""

    target: str
    address: str
    """Another target may have another address of the same device."""
    view: NodeView
    device: str


def open_tunnel_capture(name: str, nodes: Collection[str], targets: Sequence[TargetDevice]) -> Capture:
    """Start to capture a load balancer whose nodes have these addresses. OSError when a device is gone."""
    addresses = {socket.inet_aton(address) for address in nodes}
    own = [socket.inet_aton(each.address) for each in targets]
    head = pcapng.section("vpclab") + b"".join(
        pcapng.interface(word, f"{name} {word} packets, at {_names(targets)}", capture_length=0, link_type=kind)
        for word, kind in (("outer", pcapng.ETHERNET), ("inner", pcapng.RAW_IP))
    )

    def write(number: int, frame: Frame) -> bytes:
        if not is_tunnelled(frame.data, addresses, own[number]):
            return b""
        comment, way = f"target {targets[number].target}", direction(frame)
        blocks = pcapng.packet(
            frame.data, time_ns=frame.time_ns, length=frame.length, direction=way, interface=OUTER, comment=comment
        )
        inner = inner_packet(frame.data)
        if inner:
            length = len(inner) + frame.length - len(frame.data)
            blocks += pcapng.packet(
                inner, time_ns=frame.time_ns, length=length, direction=way, interface=INNER, comment=comment
            )
        return blocks

    lab = os.pidfd_open(targets[0].view.spawner)
    with contextlib.ExitStack() as made:
        made.callback(os.close, lab)
        rings = []
        for each in targets:
            ring = PacketRing(open_socket(each.view, socket.AF_PACKET, socket.SOCK_RAW, 0), each.device, _BLOCKS)
            made.callback(ring.close)
            rings.append(ring)
        made.pop_all()
    return Capture(rings, head, write, lab=lab)


def is_tunnelled(frame: bytes, nodes: Collection[bytes], target: bytes) -> bool:
    """Whether a frame is a GENEVE packet between a load balancer's nodes and a target (packed addresses)."""
    if len(frame) < 42 or frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_UDP:
        return False
    if int.from_bytes(frame[20:22], "big") & 0x1FFF:  # a later fragment, whose ports nobody knows
        return False
    udp = 14 + (frame[14] & 15) * 4
    is_geneve = int.from_bytes(frame[udp + 2 : udp + 4], "big") == GENEVE_PORT
    source, destination = frame[26:30], frame[30:34]
    return is_geneve and ((source in nodes and destination == target) or (source == target and destination in nodes))


def inner_packet(frame: bytes) -> bytes:
    """The IP packet inside a GENEVE packet; empty when there is none (RFC 8926, 3.4)."""
    geneve = 14 + (frame[14] & 15) * 4 + 8
    begin = geneve + 8 + (frame[geneve] & 0x3F) * 4 if len(frame) > geneve else len(frame)
    end = 14 + int.from_bytes(frame[16:18], "big")  # what is behind it is padding
    inner = frame[begin:end]
    return inner if inner and inner[0] >> 4 in (4, 6) else b""


def _names(targets: Sequence[TargetDevice]) -> str:
    return ", ".join(each.target for each in targets)

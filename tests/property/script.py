"""What an example did, as data: enough to play it again without Hypothesis, when strategies have long changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import scapy.layers.inet
import scapy.layers.inet6  # noqa: F401  what frames are told with
from scapy.layers.l2 import Ether

from dataplane.load import load_topology
from dataplane.reference.nat_ports import MOST_PER_DESTINATION
from dataplane.topology import Topology
from tests.property.disagreements import IncomparableError
from tests.property.quick_load import topology_of

Script = list[list[Any]]
"""Steps: ``["connections", MOST, SESSIONS, ERRORS]`` (of a NAT gateway to one destination, of a lab, and ICMP errors at
once), ``["lab", LAB]``, ``["advance", MILLISECONDS]``, ``["send", PORT NAME, [FRAMES AS HEX], KEEP, TRACED]``."""

SESSIONS, ERRORS = 2048, 1000
"""There is room for in an example, and ICMP errors at once, unless it says otherwise."""
HEADER = 14
"""Bytes of an Ethernet header."""
PORTS = ("interface", "network-interface", "gateway-load-balancer-node")
"""Kinds of what has a port."""
LAST: Script = []
"""Of the example that began last: when one fails, Hypothesis runs that one again as the last."""


class PortGoneError(Exception):
    """A script sends through a port that has never been there."""


def begin(
    lab: dict[str, Any] | str,
    *,
    connections: int = MOST_PER_DESTINATION,
    sessions: int = SESSIONS,
    errors: int = ERRORS,
) -> None:
    """Another example begins, with a lab (a plain structure, or the text of a lab file)."""
    LAST[:] = [["connections", connections, sessions, errors], ["lab", lab]]


def sent(port: str, frames: Sequence[bytes], keep: int, traced: bool) -> None:
    """Frames are about to be sent."""
    LAST.append(["send", port, [frame.hex() for frame in frames], keep, traced])


def advanced(wait_ms: int) -> None:
    """Time is about to pass."""
    LAST.append(["advance", wait_ms])


def changed(lab: dict[str, Any]) -> None:
    """The lab has become another."""
    LAST.append(["lab", lab])


def replay(script: Script) -> None:
    """Play an example again.

    Raises:
        AssertionError: the engines disagree.
    """
    from tests.property.pairing import Pair  # which writes scripts

    steps = [list(step) for step in script]
    [[_, connections, *room], [_, lab], *steps] = steps  # older ones say less of room
    with (
        patch("dataplane.model.nat_gateway.NAT_FLOWS_PER_DESTINATION", connections),
        patch("dataplane.reference.nat.MOST_PER_DESTINATION", connections),
    ):
        pair = Pair(_topology(lab), **dict(zip(("sessions", "errors"), room, strict=False)))
        for kind, *words in steps:
            if kind == "lab":
                pair.apply(_topology(words[0]))
            elif kind == "advance":
                pair.advance(words[0])
            else:
                path, frames, keep, traced = words
                port = next(filter(None, (pair.names.find(kind, path) for kind in PORTS)), 0)
                if not port:
                    raise PortGoneError(path)
                pair.send(port, [bytes.fromhex(each) for each in frames], keep=keep, traced=traced)


def fails(script: Script) -> str:
    """Why an example fails when it is played again; empty when it does not."""
    kept = list(LAST)
    try:
        replay(script)
    except IncomparableError:
        return ""
    except PortGoneError:
        return ""  # a step is missing that made the port of a later one
    except Exception as error:  # a packet never raises: that is a failure too
        return str(error) if isinstance(error, AssertionError) and str(error) else repr(error)
    finally:
        LAST[:] = kept
    return ""


def told(script: Script) -> list[str]:
    """The steps, one line each."""
    lines = []
    for kind, *words in script:
        if kind == "send":
            port, frames, keep, traced = words
            lines += [f"send {port} {_summary(bytes.fromhex(each))} {each}" for each in frames]
            lines.append(f"     keep={keep:#x} traced={traced}")
        elif kind == "lab":
            lines.append(f"lab {words[0] if isinstance(words[0], str) else json.dumps(words[0])}")
        else:
            lines.append(f"{kind} {words[0]}")
    return lines


def _summary(frame: bytes) -> str:
    """What scapy makes of a frame, if it is long enough to be one."""
    return str(Ether(frame).summary()) if len(frame) >= HEADER else f"{len(frame)} bytes"


def shrunk(script: Script) -> Script:
    """The example without the steps and repetitions that its failure does not need."""
    if not fails(script):
        return script
    size = len(script) // 2
    while size >= 1:
        at = 2
        while at < len(script):
            shorter = [*script[:at], *script[at + size :]]
            if fails(shorter):
                script = shorter
            else:
                at += size
        size //= 2
    return script


def _topology(lab: dict[str, Any] | str) -> Topology:
    return load_topology(lab, file_name="lab.yaml") if isinstance(lab, str) else topology_of(lab)

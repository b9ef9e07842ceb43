"""Labs of the end-to-end tests of behaviours, and what arrived at their nodes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ruamel.yaml import YAML
from scapy.layers.inet import IP
from scapy.layers.l2 import Ether

from vpclab import Lab

FORWARD = "echo 1 > /proc/sys/net/ipv4/ip_forward"
"""What the program of an appliance says to its own kernel first."""


def parsed(text: str) -> dict[str, Any]:
    """A lab file as a dict, to change and apply."""
    found: dict[str, Any] = YAML(typ="safe", pure=True).load(text)
    return found


@contextmanager
def running(text: str) -> Iterator[Lab]:
    """A lab that runs inside the block."""
    with Lab.from_dict(parsed(text)) as lab:
        yield lab


class Watch:
    """What arrives at some nodes while something happens."""

    def __init__(self, lab: Lab, *nodes: str, outgoing: bool = False) -> None:
        self._lab, self._nodes, self._outgoing = lab, nodes, outgoing
        self._stack = ExitStack()

    def __enter__(self) -> Watch:
        self._lines = {
            name: self._stack.enter_context(self._lab[name].sniffer(outgoing=self._outgoing)) for name in self._nodes
        }
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def frames(self, node: str, timeout_s: float = 0.1) -> list[Ether]:
        """Everything that arrived at a node so far. Packets are carried in order: end with one that must arrive."""
        return [Ether(frame) for frame in self._lines[node].frames(0, timeout_s)]

    def packets(self, node: str, **fields: object) -> list[IP]:
        """IPv4 packets that arrived at a node so far and have these header fields (``proto=1``)."""
        found = [frame[IP] for frame in self.frames(node) if IP in frame]
        return [each for each in found if all(getattr(each, name) == value for name, value in fields.items())]

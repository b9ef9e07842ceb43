"""A lab that both engines run: who is there and has which addresses, and how it becomes another lab."""

from __future__ import annotations

from collections import deque
from typing import Any

from hypothesis import strategies as st

from dataplane.errors import ConfigurationError
from dataplane.reference.nodes import Endpoint
from dataplane.topology.runtime_state import carry_over
from tests.property import script
from tests.property.exercised import TALLY
from tests.property.lab_packets import Draw
from tests.property.pairing import KEEP, Pair
from tests.property.quick_load import stored, topology_of

KEPT = (KEEP, KEEP, 0, 0x5555555555555555, 0x00FF00FF00FF00FF)
"""Which flow entries survive a burst, where they are emptied at random."""


class Ground(Pair):
    """Both engines in a lab, what has happened there, and how the lab becomes another.

    Args:
        lab: a plain structure.
        sessions: how many connections there is room for.
        errors: how many ICMP errors may be sent at once about packets of one port.
    """

    def __init__(self, lab: dict[str, Any], *, sessions: int = script.SESSIONS, errors: int = script.ERRORS) -> None:
        self.topology = topology_of(lab)
        super().__init__(self.topology, sessions=sessions, errors=errors)
        script.begin(lab, sessions=sessions, errors=errors)
        self.lab = lab
        self.before: list[dict[str, Any]] = []
        """Labs that were, the present one's predecessor last."""
        self.sent: deque[tuple[int, bytes]] = deque(maxlen=32)
        self.late: list[tuple[int, bytes]] = []
        """Pieces of datagrams that are still to come."""
        self.inspected: tuple[int, bytes] | None = None
        """Who began the last conversation that went to a target, and with what."""
        self.steps = 0
        """Moves made."""
        self.known: set[int] = set()
        """Ports that are or were there."""
        self._learn()

    def _learn(self) -> None:
        self.seen.is_inter_region = "accepter_region" in self.lab["peerings"]["p"]
        self.seen.stickiness = {e.number: e.node.stickiness for e in self.endpoints() if e.node is not None}
        inventory = self.reference.router.inventory
        self.nodes = sorted(inventory.ports)
        self.known |= set(self.nodes)
        every = [address for node in inventory.interfaces for address in node.addresses]
        every += [address for host in inventory.hosts for address in host.addresses]
        every += list(inventory.public_of.values())
        self.live4 = sorted({str(a) for a in every if a.version == 4} | {str4(n) for n in self.translated})
        self.live6 = sorted({str(a) for a in every if a.version == 6})

    def endpoints(self) -> list[Endpoint]:
        return list(self.reference.router.inventory.endpoints.values())

    # -- what is sent

    def ether(self, port: int) -> bytes:
        """The addresses of a frame from a port to its router."""
        node = self.reference.router.inventory.ports[port]
        return node.router_mac + node.mac

    def own(self, port: int) -> list[str]:
        """The addresses behind a port."""
        return [str(address) for address in self.reference.router.inventory.ports[port].addresses]

    def put(self, draw: Draw, port: int, frames: list[bytes], *, traced: bool = False) -> None:
        """Send frames; mostly nobody traces unless it is said, so that memos are used."""
        self.sent.extend((port, frame) for frame in frames[:4])
        self.send(port, frames, keep=draw(st.sampled_from(KEPT)), traced=traced or draw(st.integers(0, 2)) == 0)

    def become(self, lab: dict[str, Any], kind: str) -> bool:
        try:
            topology = topology_of(lab)
        except ConfigurationError:
            self.seen.note(f"refused {kind}")  # AWS would refuse it
            return False
        if topology.lab != self.topology.lab:  # what it was before does not come back with the rules it had
            state = carry_over(self.topology, topology, self.now)
            topology, lab = topology.with_runtime(state), {**lab, "runtime": stored(state)}
        self.before.append(self.lab)
        del self.before[:-8]
        self.lab, self.topology = lab, topology
        script.changed(lab)
        self.apply(topology)
        self._learn()
        self.seen.note(f"change {kind}")
        self.compare_memories()
        return True

    def done(self) -> None:
        """The example is over."""
        TALLY.add(self.seen, self.steps)


def str4(number: int) -> str:
    """An IPv4 address as one writes it."""
    return ".".join(map(str, number.to_bytes(4, "big")))

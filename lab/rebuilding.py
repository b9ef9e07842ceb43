"""What a network must remember of connections, rebuilt from the kernels at their ends.

A daemon that was killed has told nobody what its network remembered: tracked flows, the ports of NAT gateways. But the
nodes live, and their kernels know each TCP connection. So each is opened once more, in the tables only: the three
packets of its handshake go through the packet path, from the node that had opened it to the one that answers, and
nothing is sent. What they open on their way is what the connection had opened: rules let it in again, and a NAT
gateway's port is a function of the connection and the gateway (`fastpath/translator.pyx`), so it is the same. Whether
it is, the other node's kernel says: it has a socket for just that address and port.

Who opened a connection no kernel says: the end at whose port nobody listens. Where both listen, or neither, each is
tried, that with the higher port first, as most who open have. Each handshake is traced before it is sent, so that one
from the wrong end leaves nothing behind.

When two connections want the same port of a NAT gateway, who comes first gets it, and nothing but the order in which
they were opened tells which that was. So they are opened in the order in which their sockets were made.

Not rebuilt is what no kernel knows or rules no longer allow: a connection that was let in by a rule that is gone since,
or one that had another port at a NAT gateway because its own was taken. UDP and ICMP need nothing of the kind: the next
packet of the side that began opens the flow again, with the same port.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from dataplane.analysis.course import is_tunnelled
from dataplane.analysis.headers import forwarded
from dataplane.analysis.passing import back_from_target, goes_to_target
from dataplane.engine import DataPlane
from dataplane.probe import TCP, Probe, read_probe
from dataplane.verdict import Cause, Verdict
from fastpath.tracer import Overlay
from lab.connections import Connection, Sockets
from lab.node_plan import NodePlan

_ACK = 0x10
_MOST_STOPS = 8
"""So often a packet may be on the way through somebody's hands: targets of load balancers, instances that forward."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What became of the connections there are."""

    count: int
    """Those that go on."""
    lost: tuple[Connection, ...]
    """Those that do not, each as the node sees it that had opened it."""


def rebuild(plane: DataPlane, now_ms: int, plans: Mapping[str, NodePlan], sockets: Mapping[str, Sockets]) -> Rebuilt:
    """Open the connections of these nodes once more in a data plane that remembers nothing yet."""
    return _Rebuilding(plane, now_ms, plans, sockets).run()


class _End(NamedTuple):
    """A connection as one node has it."""

    node: str
    connection: Connection


class _Left(NamedTuple):
    """A frame that has left the network, or would have."""

    port: int
    frame: bytes
    is_inside: bool
    """Whether the packet is in another, on its way to a load balancer's target."""


_Go = Callable[[bytes, int], _Left | None]
"""What becomes of a frame received through a port; None when it dies."""


class _Rebuilding:
    def __init__(
        self, plane: DataPlane, now_ms: int, plans: Mapping[str, NodePlan], sockets: Mapping[str, Sockets]
    ) -> None:
        self._plane, self._now_ms = plane, now_ms
        self._sockets = {name: found for name, found in sockets.items() if name in plans}
        self._plans = plans
        self._failed = False
        self._owner = {i.port: plan.name for plan in plans.values() for i in plan.interfaces}
        self._ports = {
            (plan.name, address): i.port
            for plan in plans.values()
            for i in plan.interfaces
            for address, _ in i.addresses
        }

    def run(self) -> Rebuilt:
        """Do it."""
        done: set[_End] = set()
        lost: dict[_End, None] = {}
        for end in self._ends():
            if end in done:
                continue  # it was found to be the one that answered
            other = self._tried(end)
            if other is not None:
                done |= {end, other}
            elif self._is_to_be_named(end, lost):
                lost[end] = None
        left = tuple(end.connection for end in lost if end not in done)
        return Rebuilt(count=len(done) // 2, lost=left)

    def _ends(self) -> list[_End]:
        """Both ends of each connection that crosses the network: first those that have probably opened it, in order."""
        made = {
            _End(name, connection): inode
            for name, sockets in self._sockets.items()
            for connection, inode in sockets.connections.items()
            if (name, connection.local) in self._ports
            and (name, connection.remote) not in self._ports  # what a node has with itself never left it
        }

        def place(end: _End) -> tuple[bool, bool, int, str, str]:
            here = end.connection
            return not self._is_opener(end), here.local_port < here.remote_port, made[end], end.node, str(here)

        return sorted(made, key=place)

    def _is_opener(self, end: _End) -> bool:
        """Whether this end seems to have opened its connection: nothing waits on its port."""
        return end.connection.local_port not in self._sockets[end.node].listening

    def _is_to_be_named(self, end: _End, lost: Mapping[_End, None]) -> bool:
        """Whether it is this end by which a connection is named that cannot be rebuilt.

        That is the one that has opened it. Where that is not known, it is the first, if addresses are the same at both.
        """
        here = end.connection
        mirrored = Connection(here.remote, here.remote_port, here.local, here.local_port)
        others = [_End(name, mirrored) for name, found in self._sockets.items() if mirrored in found.connections]
        if any(other in lost for other in others):
            return False
        return self._is_opener(end) or any(not self._is_opener(other) for other in others)

    def _tried(self, end: _End) -> _End | None:
        """Open a connection; as odd as programs can make them, what goes wrong with one is its own affair."""
        try:
            return self._open(end)
        except Exception:
            log.log(logging.DEBUG if self._failed else logging.ERROR, "%s", end, exc_info=True)  # the first of many
            self._failed = True
            return None

    def _open(self, end: _End) -> _End | None:
        """Open a connection from this end, if that can be; who answers."""
        overlay = Overlay()
        if self._shake_hands(end, lambda frame, port: self._trace(frame, port, overlay)) is None:
            return None
        return self._shake_hands(end, self._send)

    def _shake_hands(self, end: _End, go: _Go) -> _End | None:
        """Let the handshake go; who answers. None: it does not get there, or not back, or is not from this end."""
        port, here = self._ports[end.node, end.connection.local], end.connection
        opening = Probe(
            source=here.local,
            destination=here.remote,
            protocol=TCP,
            source_port=here.local_port,
            destination_port=here.remote_port,
        )
        arrived = self._carry(port, opening, go)
        if arrived is None:
            return None
        came = read_probe(arrived.frame)
        seen = Connection(came.destination, came.destination_port, came.source, came.source_port)
        there = _End(self._owner[arrived.port], seen)
        if there.node not in self._sockets or seen not in self._sockets[there.node].connections:
            return None
        if self._is_opener(there) and not self._is_opener(end):
            return None  # it was that one, and could not
        back = self._carry(arrived.port, came.answer(), go)
        if back is None or back.port != port or self._carry(port, replace(opening, tcp_flags=_ACK), go) is None:
            return None
        return there

    def _carry(self, port: int, probe: Probe, go: _Go) -> _Left | None:
        """Where a packet arrives; None when it dies.

        Targets of load balancers give it back, and instances that it is not for send it on, out of their one interface.
        """
        frame = self._plane.frame(port, probe)
        for _ in range(_MOST_STOPS):
            left = go(frame, port)
            if left is None:
                return None
            port = left.port
            if left.is_inside:
                frame = back_from_target(self._plane, port, left.frame)
                continue
            owner = self._owner[port]
            destination = read_probe(left.frame).destination
            if (owner, destination) in self._ports or len(self._plans[owner].interfaces) != 1:
                return left
            frame = forwarded(left.frame, self._plane.interface(port).mac, self._plane.next_mac(port, destination))
        return None

    def _send(self, frame: bytes, port: int) -> _Left | None:
        [outcome], all_left = self._plane.process([frame], [port], self._now_ms, traced=True)
        left = next((each for each in all_left if each.parent == 0 and each.cause == Cause.FORWARDED), None)
        return None if left is None else _Left(left.port, left.frame, is_tunnelled(outcome))

    def _trace(self, frame: bytes, port: int, overlay: Overlay) -> _Left | None:
        found = self._plane.engine.trace(frame, port, overlay, self._now_ms)
        if found["verdict"] != Verdict.FORWARD:
            return None
        return _Left(found["port"], found["frame"], goes_to_target(found["hops"]))

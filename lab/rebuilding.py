"""What a network must remember of connections, rebuilt from the kernels at their ends.

A daemon that was killed has told nobody what its network remembered: tracked flows, the ports of NAT gateways. But the
nodes live, and their kernels know each TCP connection. So each is opened once more, in the tables only: the three
packets of its handshake go through the packet path, from the node that had opened it to the one that answers, and
nothing is sent. What they open on their way is what the connection had opened: rules let it in again, and a NAT
gateway's port is a function of the connection and the gateway (`fastpath/translator.pyx`), so it is the same. Whether
it is, the other node's kernel says: it has a socket for just that address and port.

Not rebuilt is what no kernel knows or rules no longer allow: a connection that was let in by a rule that is gone since,
or one that had another port at a NAT gateway because its own was taken. UDP and ICMP need nothing of the kind: the next
packet of the side that began opens the flow again, with the same port.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address

from dataplane.analysis.course import is_tunnelled
from dataplane.analysis.headers import forwarded, sent_back
from dataplane.engine import DataPlane, Emission
from dataplane.probe import TCP, Probe, read_probe
from dataplane.verdict import Cause
from lab.connections import Connection, Sockets
from lab.node_plan import NodePlan

_ACK = 0x10
_MOST_STOPS = 8
"""So often a packet may be on the way through somebody's hands: targets of load balancers, instances that forward."""


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


class _Rebuilding:
    def __init__(
        self, plane: DataPlane, now_ms: int, plans: Mapping[str, NodePlan], sockets: Mapping[str, Sockets]
    ) -> None:
        self._plane, self._now_ms = plane, now_ms
        self._sockets = {name: found for name, found in sockets.items() if name in plans}
        self._plans = plans
        self._owner = {i.port: plan.name for plan in plans.values() for i in plan.interfaces}
        self._ports = {
            (plan.name, address): i.port
            for plan in plans.values()
            for i in plan.interfaces
            for address, _ in i.addresses
        }

    def run(self) -> Rebuilt:
        """Do it."""
        done: set[tuple[str, Connection]] = set()
        lost = []
        for name, connection in self._openers():
            if (name, connection) in done:
                continue  # nothing waits on either port any more, and the other one was found to have opened it
            answering = self._open(name, connection)
            if answering is None:
                lost.append((name, connection))
            else:
                done |= {(name, connection), answering}
        left = [connection for name, connection in lost if (name, connection) not in done]
        return Rebuilt(count=len(done) // 2, lost=tuple(left))

    def _openers(self) -> Iterator[tuple[str, Connection]]:
        for name, found in self._sockets.items():
            for connection in sorted(found.connections, key=str):
                if found.opened_here(connection) and (name, connection.local) in self._ports:
                    yield name, connection

    def _open(self, name: str, connection: Connection) -> tuple[str, Connection] | None:
        """Send the handshake; who answers, and the connection as that one sees it. None: it does not get there."""
        port = self._ports[name, connection.local]
        opening = Probe(
            source=connection.local,
            destination=connection.remote,
            protocol=TCP,
            source_port=connection.local_port,
            destination_port=connection.remote_port,
        )
        arrived = self._send(port, opening)
        if arrived is None:
            return None
        there, came = self._owner[arrived.port], read_probe(arrived.frame)
        seen = Connection(came.destination, came.destination_port, came.source, came.source_port)
        if there not in self._sockets or seen not in self._sockets[there].connections:
            return None
        back = self._send(arrived.port, came.answer())
        if back is None or back.port != port or self._send(port, replace(opening, tcp_flags=_ACK)) is None:
            return None
        return there, seen

    def _send(self, port: int, probe: Probe) -> Emission | None:
        """Where a packet arrives; None when it dies.

        Targets of load balancers give it back, and instances that it is not for send it on, out of their one interface.
        """
        frame = self._plane.frame(port, probe)
        for _ in range(_MOST_STOPS):
            [outcome], left = self._plane.process([frame], [port], self._now_ms, traced=True)
            arrived = next((each for each in left if each.parent == 0 and each.cause == Cause.FORWARDED), None)
            if arrived is None:
                return None
            port = arrived.port
            mac, owner = self._plane.interface(port).mac, self._owner[port]
            if is_tunnelled(outcome):
                frame = sent_back(arrived.frame, mac, self._plane.next_mac(port, ip_address(arrived.frame[26:30])))
                continue
            destination = read_probe(arrived.frame).destination
            if (owner, destination) in self._ports or len(self._plans[owner].interfaces) != 1:
                return arrived
            frame = forwarded(arrived.frame, mac, self._plane.next_mac(port, destination))
        return None

"""Probes: one real packet each, made by the kernel of the node that sends it.

TCP is a connect, ICMP an echo from a ping socket, UDP and other protocols a datagram. The source port is known before
anything is sent, so that the packet can be told from all others.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import struct
from collections.abc import Sequence

from dataplane.model.check import Resolved
from dataplane.probe import ECHO_REQUEST, ICMP, ICMPV6, TCP, UDP, checksum
from lab.enter import NodeView, SocketKind, open_sockets

PAYLOAD = b"vpclab check"
_WHOLE = {4: (socket.IPPROTO_IP, 10, 3), 6: (socket.IPPROTO_IPV6, 23, 3)}
"""IP_MTU_DISCOVER and IPV6_MTU_DISCOVER, to IP_PMTUDISC_PROBE (`linux/in.h`): whole, whatever is known of the way."""
_IN_PROGRESS = (0, errno.EINPROGRESS, errno.EAGAIN)


class Probe:
    """One probe, ready to be sent from inside its node."""

    def __init__(self, resolved: Resolved, made: socket.socket | OSError) -> None:
        self.resolved = resolved
        self.trouble = ""
        """What the kernel said when it did not send."""
        self.source_port = 0
        """Its port or echo identifier; 0 where the protocol has none."""
        self._socket: socket.socket | None = None
        if isinstance(made, OSError):
            self.trouble = made.strerror or str(made)
            return
        self._socket = made
        made.setblocking(False)
        try:
            if resolved.payload_bytes is not None:
                made.setsockopt(*_WHOLE[resolved.destination.version])
            made.bind((str(resolved.source), 0))
        except OSError as error:
            self.trouble = f"{resolved.source}: {error.strerror}"
            return
        if resolved.protocol in (TCP, UDP):
            self.source_port = made.getsockname()[1]
        elif resolved.protocol in (ICMP, ICMPV6):
            is_raw = made.type == socket.SOCK_RAW
            self.source_port = secrets.randbelow(0xFFFF) + 1 if is_raw else made.getsockname()[1]

    def send(self) -> None:
        """Let the kernel send it; what it refuses is `trouble`."""
        if self._socket is None or self.trouble:
            return
        r = self.resolved
        end = (str(r.destination), r.port)
        try:
            if r.protocol == TCP:
                failure = self._socket.connect_ex(end)
                self.trouble = "" if failure in _IN_PROGRESS else os.strerror(failure)
            elif r.protocol == UDP:
                self._socket.sendto(self._payload(), end)
            else:
                self._socket.sendto(self._message(), (end[0], 0))
        except OSError as error:
            self.trouble = error.strerror or str(error)

    def _message(self) -> bytes:
        """An echo request; the kernel fills in identifier and checksum where the socket is a ping socket."""
        r, payload = self.resolved, self._payload()
        if r.protocol not in (ICMP, ICMPV6):
            return payload
        head = struct.pack(">BBHHH", ECHO_REQUEST[r.destination.version], 0, 0, self.source_port, 1)
        return head[:2] + struct.pack(">H", checksum(head + payload)) + head[4:] + payload

    def _payload(self) -> bytes:
        size = self.resolved.payload_bytes
        return PAYLOAD if size is None else PAYLOAD.ljust(size, b".")

    @property
    def error(self) -> str:
        """What the kernel has learned since, e.g. that nobody has the address; an empty text for nothing."""
        if self._socket is None:
            return self.trouble
        failure = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return self.trouble or (os.strerror(failure) if failure else "")

    def close(self) -> None:
        """Hang up, as any program would: a reset would make servers at the other end complain in their logs."""
        if self._socket is not None:
            self._socket.close()


def kinds_of(resolved: Resolved) -> Sequence[SocketKind]:
    """The sockets that can send a probe, the best first."""
    family = socket.AF_INET if resolved.destination.version == 4 else socket.AF_INET6
    match resolved.protocol:
        case 6:
            return [(family, socket.SOCK_STREAM, 0)]
        case 17:
            return [(family, socket.SOCK_DGRAM, 0)]
        case 1 | 58:
            # A namespace that is not ours may have no ping sockets.
            return [(family, socket.SOCK_DGRAM, resolved.protocol), (family, socket.SOCK_RAW, resolved.protocol)]
        case _:
            return [(family, socket.SOCK_RAW, resolved.protocol)]


def prepare(resolved: Sequence[tuple[Resolved, NodeView | str]]) -> list[Probe]:
    """Make the sockets of probes, each in its node, or where there is no view of that, say why nothing can be sent."""
    made = iter(open_sockets([(view, kinds_of(each)) for each, view in resolved if isinstance(view, NodeView)]))
    return [Probe(each, next(made) if isinstance(view, NodeView) else OSError(0, view)) for each, view in resolved]

"""TCP connections as the kernels of nodes have them: /proc/net/tcp and tcp6 of a network namespace (proc(5))."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from lab.node_plan import Address

_LISTENING = 0x0A
_UNDER_WAY = frozenset({0x01, 0x04, 0x05, 0x08, 0x09, 0x0B})
"""ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING (`net/tcp_states.h`): both ends still speak."""


@dataclass(frozen=True, slots=True)
class Connection:
    """One end of a TCP connection, as the node sees it that has it."""

    local: Address
    local_port: int
    remote: Address
    remote_port: int

    def __str__(self) -> str:
        return f"{_shown(self.local)}:{self.local_port} > {_shown(self.remote)}:{self.remote_port}"


@dataclass(frozen=True, slots=True)
class Sockets:
    """The TCP sockets of a node."""

    connections: Mapping[Connection, int]
    """Each with the inode of its socket: those that were made later have higher ones, if on the same processor."""
    listening: frozenset[int]
    """Ports on which it waits for others, at any of its addresses."""


def read_sockets(tables: Iterable[str]) -> Sockets:
    """Read the content of such files."""
    connections: dict[Connection, int] = {}
    listening = set()
    for table in tables:
        for line in table.splitlines()[1:]:
            words = line.split(maxsplit=10)
            state = int(words[3], 16)
            if state != _LISTENING and state not in _UNDER_WAY:
                continue  # of these there may be many
            local, local_port = _end(words[1])
            if state == _LISTENING:
                listening.add(local_port)
            elif not local.is_loopback:
                connections[Connection(local, local_port, *_end(words[2]))] = int(words[9])
    return Sockets(connections, frozenset(listening))


def _end(text: str) -> tuple[Address, int]:
    digits, _, port = text.partition(":")
    # Words of 32 bits, as this machine keeps them in memory.
    words = (int(digits[at : at + 8], 16) for at in range(0, len(digits), 8))
    octets = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    if len(octets) == 4:
        return IPv4Address(octets), int(port, 16)
    address = IPv6Address(octets)
    return address.ipv4_mapped or address, int(port, 16)


def _shown(address: Address) -> str:
    return str(address) if address.version == 4 else f"[{address}]"

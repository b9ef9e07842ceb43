"""What a test saw of an interface: recorded while a block runs, kept as a pcapng file, read back as frames."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vpclab.node import Node

_PACKET_BLOCK = 6
_DATA = 28
"""Offset of the frame in an enhanced packet block."""
_ETHERNET_LENGTH = 14
_PATIENCE_S = 10.0


class Recording:
    """The packets of one interface, both directions; a context manager that records while its block runs.

    ``frames`` and ``packets`` are there after the block, and ``file`` for Wireshark.
    """

    def __init__(self, node: Node, file: Path, *, interface: str = "eth0") -> None:
        self.node, self.interface, self.file = node, interface, file
        self._trouble: list[BaseException] = []

    def __enter__(self) -> Recording:
        self._capture = self.node.open_capture(interface=self.interface)
        self._thread = threading.Thread(target=self._run, name=f"capture {self.node.name}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._capture.stop()
        self._thread.join(_PATIENCE_S)
        self._capture.close()
        if self._trouble and exception[0] is None:
            raise self._trouble[0]

    def _run(self) -> None:
        try:
            with open(self.file, "wb") as stream:
                self._capture.run(stream)
        except BaseException as error:
            self._trouble.append(error)

    @property
    def frames(self) -> list[bytes]:
        """The Ethernet frames, in order."""
        return list(_frames(self.file.read_bytes()))

    @property
    def packets(self) -> list[Any]:
        """The IP packets as scapy packets, in order; other frames are left out.

        Raises:
            ImportError: scapy is not installed: ``pip install scapy``.
        """
        from scapy.layers.inet import IP
        from scapy.layers.inet6 import IPv6

        kinds = {b"\x08\x00": IP, b"\x86\xdd": IPv6}
        return [kinds[each[12:14]](each[_ETHERNET_LENGTH:]) for each in self.frames if each[12:14] in kinds]


def _frames(octets: bytes) -> Iterator[bytes]:
    """The frames of a pcapng file that `lab.pcapng` wrote: in this machine's byte order."""
    position = 0
    while position + 12 <= len(octets):
        kind, size = struct.unpack_from("=II", octets, position)
        if kind == _PACKET_BLOCK:
            captured = struct.unpack_from("=I", octets, position + 20)[0]
            yield octets[position + _DATA : position + _DATA + captured]
        position += size

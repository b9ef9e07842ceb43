"""A packet socket of one interface, with a ring in memory that is shared with the kernel (TPACKET_V3).

The kernel writes frames to the ring, so bursts are not lost to small socket buffers, and hands it over in blocks: when
one is full, or after `BLOCK_TIME_MS`.

Frames are what the kernel gave its device, or got from it. With segmentation offload that means TCP segments up to
64 KiB, as a capture on a real instance shows them. Checksums that were left to the device are completed, so that
readers do not take every packet for damaged, and VLAN tags that the kernel keeps beside a frame are put back.
"""

from __future__ import annotations

import mmap
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

BLOCK_BYTES = 1 << 20
BLOCK_COUNT = 16
BLOCK_TIME_MS = 20
_FRAME_BYTES = 2048  # only a unit of the kernel's sanity check: frames of a block lie one behind the other

_SOL_PACKET, _RX_RING, _STATISTICS, _VERSION, _VNET_HDR = 263, 5, 6, 10, 15
_TPACKET_V3 = 2
_ETH_P_ALL = 3
_BLOCK_STATUS, _BLOCK_PACKETS = 8, 12  # offsets in struct tpacket_block_desc
_STATUS_USER, _STATUS_VLAN, _STATUS_TPID = 1, 1 << 4, 1 << 6
_FRAME = struct.Struct("=6I2H2IH")  # struct tpacket3_hdr up to tp_vlan_tpid
_PACKET_TYPE = 48 + 10  # sll_pkttype of the struct sockaddr_ll behind it
_PACKET_OUTGOING = 4
_VNET = struct.Struct("=BBHHHH")
_NEEDS_CHECKSUM = 1
_ETHERTYPE_VLAN = 0x8100


class Frame(NamedTuple):
    """A frame of the ring."""

    data: bytes
    time_ns: int
    """Since 1970."""
    length: int
    """Bytes it had; `data` may be cut short."""
    outgoing: bool


class PacketRing:
    """Collects the frames of an interface, both directions, from the moment it is made."""

    def __init__(self, packets: socket.socket, device: str, blocks: int = BLOCK_COUNT) -> None:
        """Take over a packet socket (AF_PACKET, SOCK_RAW, protocol 0) of the node. OSError without such a `device`."""
        self._socket, self._blocks = packets, blocks
        self._block = 0
        self._ring: mmap.mmap | None = None
        try:
            packets.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V3)
            packets.setsockopt(_SOL_PACKET, _VNET_HDR, 1)
            frames = BLOCK_BYTES // _FRAME_BYTES * blocks
            ring = struct.pack("7I", BLOCK_BYTES, blocks, _FRAME_BYTES, frames, BLOCK_TIME_MS, 0, 0)
            packets.setsockopt(_SOL_PACKET, _RX_RING, ring)
            self._ring = mmap.mmap(packets.fileno(), BLOCK_BYTES * blocks)
            packets.bind((device, _ETH_P_ALL))
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Polls readable when there are frames, and with an error when the interface has gone down."""
        return self._socket.fileno()

    def clear_error(self) -> None:
        """Take note that the interface has gone down."""
        self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def statistics(self) -> tuple[int, int]:
        """Frames seen, and those lost because nobody kept up, since this was asked last."""
        seen, dropped, _ = struct.unpack("3I", self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 12))
        return seen, dropped

    def close(self) -> None:
        """Give socket and ring back."""
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        self._socket.close()

    def frames(self) -> Iterator[Frame]:
        """Each frame of the blocks that are ours; the kernel gets every block back."""
        ring = self._ring
        assert ring is not None
        while True:
            base = self._block * BLOCK_BYTES
            status, packets, offset = struct.unpack_from("=III", ring, base + _BLOCK_STATUS)
            if not status & _STATUS_USER:
                return
            position = base + offset
            for _ in range(packets):
                following = struct.unpack_from("=I", ring, position)[0]
                yield _frame_at(ring, position)
                position += following
            struct.pack_into("=I", ring, base + _BLOCK_STATUS, 0)
            self._block = (self._block + 1) % self._blocks


def complete_checksum(frame: bytes, start: int, offset: int) -> bytes:
    """Fill in a partial checksum: over `frame[start:]`, whose checksum field `offset` bytes on has the pseudo header's.

    The ones' complement sum of 16-bit words is the number they form, modulo 65535: one division in place of a loop.
    """
    covered = frame[start:]
    if offset + 2 > len(covered):
        return frame
    total = int.from_bytes(covered + bytes(len(covered) % 2), "big") % 0xFFFF
    # 0 means "no checksum" to UDP, and its complement is equally right.
    checksum = (~total & 0xFFFF) or 0xFFFF
    field = start + offset
    return frame[:field] + checksum.to_bytes(2, "big") + frame[field + 2 :]


def _frame_at(ring: mmap.mmap, position: int) -> Frame:
    _, seconds, nanoseconds, captured, length, status, mac, _, _, tci, tpid = _FRAME.unpack_from(ring, position)
    begin = position + mac
    frame = ring[begin : begin + captured]
    flags, _, _, _, checksum_start, checksum_offset = _VNET.unpack_from(ring, begin - _VNET.size)
    if flags & _NEEDS_CHECKSUM and captured == length:
        frame = complete_checksum(frame, checksum_start, checksum_offset)
    if status & _STATUS_VLAN:
        tag = struct.pack("!HH", tpid if status & _STATUS_TPID else _ETHERTYPE_VLAN, tci)
        frame, length = frame[:12] + tag + frame[12:], length + len(tag)
    outgoing = ring[position + _PACKET_TYPE] == _PACKET_OUTGOING
    return Frame(frame, seconds * 1_000_000_000 + nanoseconds, length, outgoing)

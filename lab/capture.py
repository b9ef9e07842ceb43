"""Capturing the packets of one interface of a node, as pcapng, while they come.

    web eth0 ── AF_PACKET socket in web's network namespace ── ring shared with the kernel ── pcapng stream

The kernel writes frames to a ring in memory that is shared with us (TPACKET_V3), so bursts are not lost to small
socket buffers, and hands it over in blocks: when one is full, or after `BLOCK_TIME_MS`. Each block is written and
flushed at once, so that ``| wireshark -k -i -`` is live.

Frames are what the node's kernel gave its device, or got from it. With segmentation offload that means TCP segments
up to 64 KiB, as a capture on a real instance shows them. Checksums that were left to the device are completed, so
that readers do not take every packet for damaged, and VLAN tags that the kernel keeps beside a frame are put back.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from typing import BinaryIO, Self

from lab import pcapng
from lab.enter import NodeView, open_socket

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


class Capture:
    """A running capture of one interface: frames are collected from the moment it is made."""

    def __init__(self, packets: socket.socket, device: str, description: str, *, lab: int = -1) -> None:
        """Take over a packet socket of the node (AF_PACKET, SOCK_RAW, protocol 0). OSError when there is no `device`.

        `lab`, if given, is a descriptor that polls readable once the lab is over; it is taken over too.
        """
        self._socket, self._lab = packets, lab
        self._device, self._description = device, description
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._ring: mmap.mmap | None = None
        self._block = 0
        try:
            packets.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V3)
            packets.setsockopt(_SOL_PACKET, _VNET_HDR, 1)
            frames = BLOCK_BYTES // _FRAME_BYTES * BLOCK_COUNT
            ring = struct.pack("7I", BLOCK_BYTES, BLOCK_COUNT, _FRAME_BYTES, frames, BLOCK_TIME_MS, 0, 0)
            packets.setsockopt(_SOL_PACKET, _RX_RING, ring)
            self._ring = mmap.mmap(packets.fileno(), BLOCK_BYTES * BLOCK_COUNT)
            packets.bind((device, _ETH_P_ALL))
        except BaseException:
            self.close()
            raise
        self._start_ns = time.time_ns()

    def run(self, stream: BinaryIO, *, count: int = 0, seconds: float = 0.0) -> int:
        """Write a whole pcapng file to `stream`, flushed after each batch; returns the number of packets in it.

        Ends after `count` packets or `seconds` seconds (0: no limit), on `stop`, on KeyboardInterrupt, when the
        interface or the lab goes down, or when nobody reads the stream any more.
        """
        written = 0
        deadline = time.monotonic() + seconds if seconds else None
        with contextlib.suppress(BrokenPipeError):
            # Who sees the file begin may interrupt from then on: no moment between the head and the first wait.
            with contextlib.suppress(KeyboardInterrupt):
                stream.write(pcapng.section("vpclab"))
                stream.write(pcapng.interface(self._device, self._description, capture_length=0))
                stream.flush()
                while self._wait(deadline):
                    written += self._write(stream, count - written if count else 0)
                    if count and written >= count:
                        break
            if not count:
                # What came before the end may still lie in a block that the kernel has not handed over.
                self._wait(time.monotonic() + 3 * BLOCK_TIME_MS / 1000, last=True)
                written += self._write(stream, 0)
            seen, dropped, _ = struct.unpack("3I", self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 12))
            stream.write(
                pcapng.statistics(
                    start_ns=self._start_ns, end_ns=time.time_ns(), received=seen - dropped, dropped=dropped
                )
            )
            stream.flush()
        return written

    def stop(self) -> None:
        """Make `run` come to its end, from another thread or a signal handler."""
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Give socket and ring back; `run` must have returned."""
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        self._socket.close()
        for descriptor in (self._wake, self._lab):
            if descriptor >= 0:
                os.close(descriptor)
        self._wake = self._lab = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self, deadline: float | None, *, last: bool = False) -> bool:
        """Wait until there is a block to read (True), or for whatever ends the capture (False)."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        for descriptor in () if last else (self._wake, self._lab):
            if descriptor >= 0:
                poll.register(descriptor, select.POLLIN)
        left_ms = None if deadline is None else max(0, int((deadline - time.monotonic()) * 1000) + 1)
        found = poll.poll(left_ms)
        if any(events & select.POLLERR for _, events in found):
            self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # the interface went down; asking clears it
        return found == [(self._socket.fileno(), select.POLLIN)]

    def _write(self, stream: BinaryIO, most: int) -> int:
        """Write all frames the kernel has handed over (`most`, unless 0); returns how many."""
        blocks = []
        for block in self._frames():
            blocks.append(block)
            if len(blocks) == most:
                break
        if blocks:
            stream.write(b"".join(blocks))
            stream.flush()
        return len(blocks)

    def _frames(self) -> Iterator[bytes]:
        """Each frame of the blocks that are ours, as a pcapng block; the kernel gets every block back."""
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
                yield _enhanced_packet(ring, position)
                position += following
            struct.pack_into("=I", ring, base + _BLOCK_STATUS, 0)
            self._block = (self._block + 1) % BLOCK_COUNT


def open_capture(view: NodeView, device: str = "eth0") -> Capture:
    """Start to capture an interface of a node. OSError when the node has no such device."""
    lab = os.pidfd_open(view.spawner)
    try:
        packets = open_socket(view, socket.AF_PACKET, socket.SOCK_RAW, 0)
    except BaseException:
        os.close(lab)
        raise
    return Capture(packets, device, f"{view.node} {device}", lab=lab)


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


def _enhanced_packet(ring: mmap.mmap, position: int) -> bytes:
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
    return pcapng.packet(
        frame,
        time_ns=seconds * 1_000_000_000 + nanoseconds,
        length=length,
        direction=pcapng.OUTBOUND if outgoing else pcapng.INBOUND,
    )

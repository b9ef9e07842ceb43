"""Raw packets of a node: what `Node.send`, `Node.sniff` and `Node.sr1` do with bytes.

Frames go through an AF_PACKET socket opened inside the node's network namespace, so they leave and arrive by
the node's real interface. Two things the kernel does to such sockets are undone here, so that what a test
sees is what a wire would carry: a checksum left to "hardware" (a TAP device has none) is completed, and the
node's own outgoing packets are left out unless asked for.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol, runtime_checkable

from lab.checksums import complete_checksum

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD
_ETHERNET_LENGTH = 14
_TCP, _UDP, _ICMP, _ICMPV6 = 6, 17, 1, 58
_ICMP_ERRORS = frozenset({3, 4, 5, 11, 12})
_ICMPV6_ERRORS = frozenset({1, 2, 3, 4})
_ICMP_ANSWERS = {0: 8, 14: 13}
_ICMPV6_ANSWERS = {129: 128}
_ICMP_LENGTH = 8
"""Of a message without payload (RFC 792, RFC 4443)."""

# linux/if_packet.h, linux/if_ether.h and linux/virtio_net.h; the socket module has no names for these.
_SOL_PACKET, _PACKET_STATISTICS, _PACKET_VNET_HDR = 263, 6, 15
_STATISTICS = struct.Struct("=II")  # struct tpacket_stats: all that came, and those of them that were lost
_VNET = struct.Struct("=BBHHHH")
_NEEDS_CHECKSUM = 1
_ETH_P_ALL = 0x0003
_FRAME_LIMIT_BYTES = 1 << 17


@runtime_checkable
class SupportsBytes(Protocol):
    """Anything that `bytes()` turns into a packet: bytes, bytearray, scapy and dpkt packets."""

    def __bytes__(self) -> bytes:
        """The packet as it is on the wire."""


def is_ethernet(packet: object, raw: bytes) -> bool:
    """True when the packet starts with an Ethernet header.

    Packet objects of scapy say so by their name; plain bytes are an IP packet when they begin with version 4
    or 6, which no MAC address in a VPC does (they begin with 02).
    """
    name = getattr(packet, "name", None)
    if isinstance(name, str) and not isinstance(packet, (bytes, bytearray, memoryview)):
        return name.startswith(("Ethernet", "802.3"))
    return not raw or raw[0] >> 4 not in (4, 6)


def destination_of(packet: bytes) -> IPv4Address | IPv6Address:
    """Destination address of an IP packet.

    Raises:
        ValueError: too short to hold one; send it as a whole Ethernet frame instead.
    """
    if packet[:1] and packet[0] >> 4 == 4 and len(packet) >= 20:
        return IPv4Address(packet[16:20])
    if packet[:1] and packet[0] >> 4 == 6 and len(packet) >= 40:
        return IPv6Address(packet[24:40])
    raise ValueError("too short for an IP header: send such a packet as a whole Ethernet frame")


def ethernet(packet: bytes, *, source: bytes, destination: bytes) -> bytes:
    """Put an Ethernet header in front of an IP packet."""
    ethertype = ETHERTYPE_IPV4 if packet[0] >> 4 == 4 else ETHERTYPE_IPV6
    return destination + source + ethertype.to_bytes(2, "big") + packet


class Sniffer:
    """Frames seen by one interface from the moment this was made; use it as a context manager.

    Make it before the traffic starts, then read: nothing in between is lost, up to the socket's buffer.
    """

    def __init__(self, raw_socket: socket.socket, device: str, *, outgoing: bool) -> None:
        """Bind an AF_PACKET socket, made in the node's namespace, to `device`."""
        self._socket = raw_socket
        self._outgoing = outgoing
        self._queued = 0
        """Frames that are known to have come, less those read."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        self._socket.bind((device, _ETH_P_ALL))

    def __enter__(self) -> Sniffer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def send(self, frame: bytes) -> None:
        """Send one Ethernet frame as it is.

        Raises:
            OSError: the kernel refuses it, e.g. EMSGSIZE when it is larger than the interface's MTU.
        """
        self._socket.send(bytes(_VNET.size) + frame)

    def frames(
        self, count: int = 0, timeout_s: float = 2.0, *, where: Callable[[bytes], bool] | None = None
    ) -> Iterator[bytes]:
        """Yield Ethernet frames until `count` came (0: no limit) or `timeout_s` seconds are over.

        What came before the time was over is yielded, however late it is asked for. `where` keeps only the frames for
        which it is true. TCP segments of a sender that left segmentation to its device come in one piece of up to
        64 KiB.
        """
        found = 0
        for frame in self._until(time.monotonic() + timeout_s):
            if where is None or where(frame):
                yield frame
                found += 1
                if found == count:
                    return

    def _until(self, deadline: float) -> Iterator[bytes]:
        """Every frame that comes until the deadline."""
        over = False
        while not over or self._queued > 0:
            left = deadline - time.monotonic()
            if not over and left <= 0:
                # Who reads slowly, or got no processor for a while, still gets what lies there; and no more than that,
                # so that this ends where frames never stop coming.
                over = True
                self._queued += self._came()
                continue
            self._socket.settimeout(0 if over else left)
            try:
                octets, address = self._socket.recvfrom(_FRAME_LIMIT_BYTES)
            except (TimeoutError, BlockingIOError):
                return
            self._queued -= 1
            if address[2] == socket.PACKET_OUTGOING and not self._outgoing:
                continue
            flags, _, _, _, start, offset = _VNET.unpack_from(octets)
            frame = octets[_VNET.size :]
            yield complete_checksum(frame, start, offset) if flags & _NEEDS_CHECKSUM else frame

    def _came(self) -> int:
        """Frames put into the queue since this was asked last."""
        seen, lost = _STATISTICS.unpack(self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size))
        return int(seen) - int(lost)


def is_answer(frame: bytes, request: bytes) -> bool:
    """True when an Ethernet frame carries the answer to the IP packet `request`, or an ICMP error about it.

    An answer has the same protocol and the addresses swapped, and for TCP and UDP the ports too; an echo
    reply has the same identifier and sequence number. An ICMP error counts when it quotes the request's
    protocol, destination and the first 8 bytes after the header; the addresses outside may be anybody's.
    """
    packet = frame[_ETHERNET_LENGTH:]
    got, asked = _l4(packet), _l4(request)
    if got is None or asked is None:
        return False  # of two versions, no address is that of the other
    protocol, source, destination, start, _ = got
    asked_protocol, asked_source, asked_destination, asked_start, _ = asked
    body, asked_body = packet[start:], request[asked_start:]
    errors = {_ICMP: _ICMP_ERRORS, _ICMPV6: _ICMPV6_ERRORS}.get(protocol, frozenset())
    if body[:1] and body[0] in errors and destination == asked_source:
        quoted = _l4(body[8:])
        if quoted is None:
            return False
        same = (quoted[0], quoted[2]) == (asked_protocol, asked_destination)
        return same and _same_quote(asked_protocol, body[8 + quoted[3] :], asked_body)
    if protocol != asked_protocol or source != asked_destination or destination != asked_source:
        return False
    if protocol in (_TCP, _UDP):
        return body[0:2] == asked_body[2:4] and body[2:4] == asked_body[0:2]
    if protocol in (_ICMP, _ICMPV6):
        answers = _ICMP_ANSWERS if protocol == _ICMP else _ICMPV6_ANSWERS
        if min(len(body), len(asked_body)) < _ICMP_LENGTH:
            return False  # cut short, or only a header of IP: whose it is nobody can tell
        return answers.get(body[0]) == asked_body[0] and body[4:8] == asked_body[4:8]
    return True


def _same_quote(protocol: int, quote: bytes, asked: bytes) -> bool:
    """Compare what a translator on the way leaves alone: ports, or an echo's type and identifier."""
    if protocol in (_TCP, _UDP):
        return quote[0:4] == asked[0:4]
    if protocol in (_ICMP, _ICMPV6):
        return quote[0:2] == asked[0:2] and quote[4:8] == asked[4:8]
    return True


def _l4(packet: bytes) -> tuple[int, bytes, bytes, int, int] | None:
    """(protocol, source, destination, start and end of the part above IP) of an IP packet.

    None when it is not IP, too short, or a fragment other than the first. IPv6 extension headers that may
    come before the upper layer (hop-by-hop, routing, destination options) are skipped.
    """
    if not packet:
        return None
    if packet[0] >> 4 == 4:
        start = (packet[0] & 15) * 4
        if start < 20 or len(packet) < start or int.from_bytes(packet[6:8], "big") & 0x1FFF:
            return None
        end = min(int.from_bytes(packet[2:4], "big") or len(packet), len(packet))
        return packet[9], packet[12:16], packet[16:20], start, end
    if packet[0] >> 4 == 6 and len(packet) >= 40:
        end = min(40 + int.from_bytes(packet[4:6], "big"), len(packet)) if packet[4:6] != b"\0\0" else len(packet)
        protocol, start = packet[6], 40
        while protocol in (0, 43, 60) and start + 8 <= end:
            protocol, start = packet[start], start + (packet[start + 1] + 1) * 8
        return protocol, packet[8:24], packet[24:40], start, end
    return None


def parse_like(packet: object, raw: bytes) -> object:
    """Give an answer the type of the question: a scapy packet for a scapy packet, bytes for all else.

    `raw` is an Ethernet frame; for an IP packet the Ethernet header is left out.
    """
    framed = is_ethernet(packet, bytes(packet)) if isinstance(packet, SupportsBytes) else True
    octets = raw if framed else raw[_ETHERNET_LENGTH:]
    if not hasattr(packet, "haslayer"):
        return octets
    kind: Callable[[bytes], object] = type(packet)
    if not framed:
        from scapy.layers.inet import IP
        from scapy.layers.inet6 import IPv6

        kind = IP if octets[0] >> 4 == 4 else IPv6
    return kind(octets)


def address_family(address: str) -> socket.AddressFamily:
    """AF_INET or AF_INET6. Raises ValueError for what is not an address."""
    return socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6

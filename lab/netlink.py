"""Route netlink, as far as a node needs it: links, addresses, routes, rules, many changes in one system call.

A lab of hundreds of nodes sends some ten messages per node, and a general library spends more time on building
them than the kernel on carrying them out. These are built with `struct` and sent in one piece per namespace; the
kernel works through them in order and answers before the call returns.

A message is everything after the length and sequence number, which `Netlink.commit` fills in. Layouts: rtnetlink(7)
and the kernel's uapi headers ``if_link.h``, ``if_addr.h``, ``rtnetlink.h``, ``fib_rules.h``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import NamedTuple, Self

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

TABLE_MAIN = 254

_NEWLINK, _DELLINK, _GETLINK, _NEWADDR, _DELADDR, _NEWROUTE, _DELROUTE, _NEWRULE, _DELRULE = (
    *(16, 17, 18),
    *(20, 21),
    *(24, 25),
    *(32, 33),
)
_REQUEST, _ACK, _REPLACE, _EXCLUDE, _CREATE = 0x1, 0x4, 0x100, 0x200, 0x400
_ERROR = 2
_IFF_UP = 1
_IFA_F_NODAD, _IFA_F_PERMANENT = 0x02, 0x80
_RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK, _RTN_UNICAST, _RTNH_F_ONLINK = 4, 0, 253, 1, 4
_FR_ACT_TO_TBL = 1
_SIOCGIFINDEX = 0x8933
_HEADER = struct.Struct("=IHHII")


class Message(NamedTuple):
    """One change, to be committed."""

    kind: int
    flags: int
    body: bytes
    what: str
    """For the error message when the kernel refuses it."""


def set_link(
    index: int,
    *,
    mac: bytes | None = None,
    mtu: int | None = None,
    alias: str | None = None,
    up: bool | None = None,
) -> Message:
    """Change a link. `mtu` in bytes of IP packet."""
    attributes = b""
    if mac is not None:
        attributes += _attribute(1, mac)
    if mtu is not None:
        attributes += _attribute(4, struct.pack("=I", mtu))
    if alias is not None:
        attributes += _attribute(20, alias.encode())
    flags, change = (0, 0) if up is None else (_IFF_UP * up, _IFF_UP)
    body = struct.pack("=BxHiII", 0, 0, index, flags, change) + attributes
    return Message(_NEWLINK, 0, body, f"link {index}")


def delete_link(index: int) -> Message:
    """Remove a link."""
    return Message(_DELLINK, 0, struct.pack("=BxHiII", 0, 0, index, 0, 0), f"link {index}")


def address(index: int, value: Address, prefix_length: int, *, remove: bool = False) -> Message:
    """Add (or remove) an address of a link. IPv6 addresses are usable at once: no duplicate address detection."""
    flags = _IFA_F_PERMANENT | (_IFA_F_NODAD if value.version == 6 else 0)
    attributes = _attribute(1, value.packed) + _attribute(2, value.packed) + _attribute(8, struct.pack("=I", flags))
    if value.version == 4 and prefix_length < 31:
        broadcast = ip_network((value, prefix_length), strict=False).broadcast_address
        attributes += _attribute(4, broadcast.packed)
    body = struct.pack("=BBBBI", _family(value), prefix_length, 0, _RT_SCOPE_UNIVERSE, index) + attributes
    what = f"address {value}/{prefix_length}"
    return Message(_DELADDR, 0, body, what) if remove else Message(_NEWADDR, _CREATE | _REPLACE, body, what)


def route(
    destination: Network,
    index: int,
    *,
    gateway: Address | None = None,
    source: Address | None = None,
    table: int = TABLE_MAIN,
    replace: bool = True,
    remove: bool = False,
) -> Message:
    """Add or replace (or remove) a route. The gateway is taken to be on the link, whatever the addresses say.

    Without `replace`, a route to the same destination in the same table is in the way (EEXIST).
    """
    scope = _RT_SCOPE_LINK if gateway is None and destination.version == 4 else _RT_SCOPE_UNIVERSE
    attributes = _attribute(4, struct.pack("=i", index)) + _attribute(15, struct.pack("=I", table))
    if destination.prefixlen:
        attributes += _attribute(1, destination.network_address.packed)
    if gateway is not None:
        attributes += _attribute(5, gateway.packed)
    if source is not None:
        attributes += _attribute(7, source.packed)
    body = struct.pack(
        "=BBBBBBBBI",
        *(_family(destination.network_address), destination.prefixlen, 0, 0),
        *(table if table < 256 else 0, _RTPROT_STATIC, scope, _RTN_UNICAST),
        _RTNH_F_ONLINK if gateway is not None else 0,
    )
    what = f"route {destination} in table {table}"
    if remove:
        return Message(_DELROUTE, 0, body + attributes, what)
    return Message(_NEWROUTE, _CREATE | (_REPLACE if replace else _EXCLUDE), body + attributes, what)


def source_rule(source: Address, table: int, *, priority: int, remove: bool = False) -> Message:
    """Add (or remove) the rule that packets from this address use this table."""
    attributes = _attribute(2, source.packed)
    attributes += _attribute(6, struct.pack("=I", priority)) + _attribute(15, struct.pack("=I", table))
    table_byte = table if table < 256 else 0
    head = struct.pack("=BBBBBBBBI", _family(source), 0, source.max_prefixlen, 0, table_byte, 0, 0, _FR_ACT_TO_TBL, 0)
    what = f"rule from {source} to table {table}"
    if remove:
        return Message(_DELRULE, 0, head + attributes, what)
    return Message(_NEWRULE, _CREATE | _EXCLUDE, head + attributes, what)


class Netlink:
    """A netlink socket of the network namespace that this process is in when it is made."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)

    def index(self, device: str) -> int:
        """Interface index of a device. Raises OSError (ENODEV) when there is none."""
        request = fcntl.ioctl(self._socket, _SIOCGIFINDEX, struct.pack("16s24x", device.encode()))
        return int(struct.unpack_from("i", request, 16)[0])

    def alias(self, index: int) -> str:
        """Alias (`ip link set alias`) of a link; empty when it has none."""
        body = struct.pack("=BxHiII", 0, 0, index, 0, 0)
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), _GETLINK, _REQUEST, 0, 0) + body)
        answer = self._socket.recv(1 << 16)
        length, kind, *_ = _HEADER.unpack_from(answer)
        if kind != _NEWLINK:
            return ""
        offset = _HEADER.size + 16
        while offset + 4 <= length:
            size, attribute = struct.unpack_from("=HH", answer, offset)
            if attribute == 20:
                return answer[offset + 4 : offset + size].rstrip(b"\0").decode(errors="replace")
            offset += max(4, size + 3 & ~3)
        return ""

    def commit(self, messages: Sequence[Message], *, ignore: frozenset[int] = frozenset()) -> None:
        """Carry the changes out, in order, with one system call.

        Raises OSError for the first that the kernel refused for a reason not in `ignore` (errno values); the others
        are carried out.
        """
        if not messages:
            return
        last = len(messages) - 1
        parts: list[bytes] = []
        for number, message in enumerate(messages):
            flags = message.flags | _REQUEST | (_ACK if number == last else 0)
            parts += (_HEADER.pack(_HEADER.size + len(message.body), message.kind, flags, number, 0), message.body)
        self._socket.sendmsg(parts)
        refused: OSError | None = None
        while True:
            answers = self._socket.recv(1 << 16)
            offset = 0
            while offset < len(answers):
                length, kind, _, number, _ = _HEADER.unpack_from(answers, offset)
                if kind == _ERROR:
                    code = -struct.unpack_from("=i", answers, offset + _HEADER.size)[0]
                    if code and code not in ignore and refused is None:
                        refused = OSError(code, os.strerror(code), messages[number].what)
                    if number == last:
                        if refused is not None:
                            raise refused
                        return
                offset += max(_HEADER.size, length + 3 & ~3)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENODEV})
"""What the kernel says about removing something that is not there (any more)."""


def _family(value: Address) -> int:
    return socket.AF_INET if value.version == 4 else socket.AF_INET6


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", len(value) + 4, kind) + value + bytes(-len(value) % 4)

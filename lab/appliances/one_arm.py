"""A one-arm appliance behind a gateway load balancer: looks at what comes in GENEVE, drops or gives back.

    python3 one_arm.py --drop tcp:23 --drop cidr:198.51.100.0/24

Made to be copied: one file, nothing but the standard library. Needs the right to open raw sockets (root, also of a
lab without root). The environment variable VPCLAB_APPLIANCES names the folder that it is in, in every node of a lab.

What is given back goes to the balancer that sent it: addresses swapped, ports *not* swapped, GENEVE header and options
byte for byte (https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/introduction.html and RFC 8926). So

* a UDP socket at port 6081 receives. The kernel checks and reassembles, tells which of our addresses was meant, and,
  as somebody listens, sends no ICMP error to the balancer;
* a raw socket answers, because the source port is the flow's, of which no socket of ours is.

TCP port `--health-port` answers health checks over HTTP, and ``GET /counters`` with what was counted, as JSON. SIGUSR1
makes it answer 503 until the next SIGUSR1: that is how to watch a target fail without ending it. SIGTERM ends it.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple, Self

GENEVE_PORT = 6081
AMAZON = 0x0108
"""Option class (IANA, Geneve Option Class)."""
ENDPOINT_OPTION, COOKIE_OPTION = 1, 3
IPV4, IPV6 = 0x0800, 0x86DD
TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
PROTOCOLS = {"tcp": TCP, "udp": UDP, "icmp": ICMP, "icmpv6": ICMPV6}

_LARGEST_DATAGRAM = 65535
_BUFFER_BYTES = 16 << 20
BURST = 64
"""Packets between two looks at the other sockets."""
_FLOWS_KNOWN = 65536
_EXTENSIONS = (0, 43, 60)  # hop-by-hop options, routing, destination options (RFC 8200, 4)
_FRAGMENT = 44
_SO_RCVBUFFORCE, _SO_SNDBUFFORCE, _IP_PKTINFO = 33, 32, 8
_TTL = 64


class Header(NamedTuple):
    """A GENEVE header as a gateway load balancer writes it."""

    size: int
    """Bytes, options included: the inner packet begins there."""
    ethertype: int
    endpoint: int | None
    """The hexadecimal digits of the endpoint's id, ``vpce-...``."""
    cookie: int | None


def read_header(datagram: memoryview) -> Header | None:
    """The header of a GENEVE packet; None for what is none, or holds no IP packet (RFC 8926, 3.4)."""
    if len(datagram) < 8 or datagram[0] >> 6:
        return None
    size = 8 + (datagram[0] & 0x3F) * 4
    ethertype = datagram[2] << 8 | datagram[3]
    if size > len(datagram) or ethertype not in (IPV4, IPV6):
        return None
    found: dict[int, int] = {}
    at = 8
    while at < size:
        if at + 4 > size:
            return None
        option_class, kind, words = struct.unpack_from("!HBB", datagram, at)
        end = at + 4 + (words & 0x1F) * 4
        if end > size:
            return None
        if option_class == AMAZON:
            found[kind] = int.from_bytes(datagram[at + 4 : end], "big")
        at = end
    return Header(size, ethertype, found.get(ENDPOINT_OPTION), found.get(COOKIE_OPTION))


class Inner(NamedTuple):
    """Who talks to whom in the inner packet; ports are None where there are none (later fragments too)."""

    protocol: int
    source: IPv4Address | IPv6Address
    destination: IPv4Address | IPv6Address
    source_port: int | None = None
    destination_port: int | None = None

    def __str__(self) -> str:
        name = next((name for name, number in PROTOCOLS.items() if number == self.protocol), f"{self.protocol}")
        ends = ((self.source, self.source_port), (self.destination, self.destination_port))
        return f"{name} {' > '.join(_end(*end) for end in ends)}"


def read_inner(packet: memoryview) -> Inner | None:
    """Read an IP packet's addresses and ports; None when it is too short for that."""
    try:
        if packet[0] >> 4 == 4:
            at, protocol, later = (packet[0] & 15) * 4, packet[9], (packet[6] & 0x1F) << 8 | packet[7]
            source, destination = bytes(packet[12:16]), bytes(packet[16:20])
        else:
            at, protocol, later = 40, packet[6], 0
            source, destination = bytes(packet[8:24]), bytes(packet[24:40])
            while protocol in _EXTENSIONS or protocol == _FRAGMENT:
                if protocol == _FRAGMENT:
                    later |= struct.unpack_from("!H", packet, at + 2)[0] >> 3
                size = 8 if protocol == _FRAGMENT else 8 + packet[at + 1] * 8
                protocol, at = packet[at], at + size
        ports = struct.unpack_from("!HH", packet, at) if protocol in (TCP, UDP) and not later else ()
        return Inner(protocol, ip_address(source), ip_address(destination), *ports)
    except (IndexError, ValueError, struct.error):
        return None


@dataclass(frozen=True, slots=True)
class Rule:
    """What not to give back: ``tcp:23``, ``udp:5000-5999``, ``icmp``, ``cidr:198.51.100.0/24``; either direction."""

    text: str
    protocol: int | None = None
    ports: range | None = None
    network: IPv4Network | IPv6Network | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a rule. Raises ValueError."""
        word, _, rest = text.partition(":")
        if word == "cidr":
            return cls(text, network=ip_network(rest))
        if word not in PROTOCOLS or (rest and word not in ("tcp", "udp")):
            raise ValueError(f"{text!r} is no rule: write tcp:23, udp:5000-5999, icmp or cidr:198.51.100.0/24")
        first, _, last = rest.partition("-")
        if rest and not (first.isdecimal() and (last or first).isdecimal()):
            raise ValueError(f"{text!r} is no rule: ports are numbers, as in tcp:23 or udp:5000-5999")
        return cls(text, protocol=PROTOCOLS[word], ports=range(int(first), int(last or first) + 1) if rest else None)

    def matches(self, inner: Inner) -> bool:
        """Whether a packet is meant: a port or a network at either end, so that answers are too."""
        if self.network is not None:
            return inner.source in self.network or inner.destination in self.network
        if inner.protocol != self.protocol:
            return False
        return self.ports is None or inner.source_port in self.ports or inner.destination_port in self.ports


@dataclass(slots=True)
class Counters:
    """What became of the packets."""

    received: int = 0
    returned: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    """Packets by the rule that dropped them."""
    malformed: int = 0
    """Not GENEVE, or no IP packet in it."""
    failed: int = 0
    """The kernel would not send them: too large for the interface, or no route."""
    unknown: int = 0
    """Answers to no flow (two-arm appliances)."""
    clashing: int = 0
    """Dropped, because their addresses and ports are those of another endpoint's flow (two-arm appliances)."""
    flows: int = 0

    def to_json(self) -> dict[str, object]:
        """All counters, as JSON has them."""
        return {name: getattr(self, name) for name in self.__slots__}


class Tunnel:
    """The end of the balancer's tunnels: receives GENEVE packets, gives them back."""

    def __init__(self) -> None:
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        # IPPROTO_RAW: we write the IP header, and nothing is ever received here.
        self._raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        enlarge(self._udp, _SO_RCVBUFFORCE, socket.SO_RCVBUF)
        enlarge(self._raw, _SO_SNDBUFFORCE, socket.SO_SNDBUF)
        self._udp.setsockopt(socket.SOL_IP, _IP_PKTINFO, 1)
        self._udp.bind(("", GENEVE_PORT))
        self._udp.setblocking(False)
        self._buffer = bytearray(_LARGEST_DATAGRAM)

    def fileno(self) -> int:
        """Polls readable when a packet has come."""
        return self._udp.fileno()

    def receive(self) -> tuple[memoryview, Sender] | None:
        """The next packet, good until the next call, and who sent it; None when there is none now."""
        try:
            size, extra, _, (address, port) = self._udp.recvmsg_into([self._buffer], 64)
        except BlockingIOError:
            return None
        ours = bytes(4)
        for level, kind, data in extra:
            if (level, kind) == (socket.SOL_IP, _IP_PKTINFO):
                ours = data[8:12]  # struct in_pktinfo: where the packet was addressed to
        return memoryview(self._buffer)[:size], Sender(address, port, ours)

    def send(self, parts: Iterable[bytes | memoryview], to: Sender) -> None:
        """Send a GENEVE packet back to a balancer. Raises OSError (EMSGSIZE and the like)."""
        pieces = list(parts)
        size = 8 + sum(map(len, pieces))
        there = socket.inet_aton(to.address)
        # Zeros are for the kernel to fill in: total length, identification, header checksum.
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, _TTL, UDP, 0, to.ours, there)
        # No UDP checksum, which IPv4 (RFC 768) and GENEVE (RFC 8926, 3.3) allow: the inner packet has its own.
        udp = struct.pack("!HHHH", to.port, GENEVE_PORT, size, 0)
        # The header's source does not choose the route where there are several interfaces; this does.
        route = (socket.SOL_IP, _IP_PKTINFO, struct.pack("=i4s4s", 0, to.ours, bytes(4)))
        self._raw.sendmsg([head, udp, *pieces], [route], 0, (to.address, 0))


class Sender(NamedTuple):
    """A balancer, as one flow of it is seen."""

    address: str
    port: int
    """The flow's source port."""
    ours: bytes
    """The address of ours that it sent to."""


class HealthServer:
    """Answers health checks over HTTP, and tells the counters."""

    def __init__(self, port: int, counters: Counters, selector: selectors.BaseSelector) -> None:
        self.healthy = True
        self._counters, self._selector = counters, selector
        self._clients: dict[socket.socket, None] = {}
        self._listener = socket.create_server(("", port), backlog=64)
        self._listener.setblocking(False)
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE) and self._clients:
                self._forget(next(iter(self._clients)))  # who has been silent for longest makes room
            return
        client.setblocking(False)
        self._clients[client] = None
        asked = bytearray()
        self._selector.register(client, selectors.EVENT_READ, lambda: self._answer(client, asked))

    def _answer(self, client: socket.socket, asked: bytearray) -> None:
        try:
            piece = client.recv(4096)
            asked += piece
            if piece and b"\r\n\r\n" not in asked and len(asked) < 4096:
                return
            if b"\r\n\r\n" in asked:
                client.sendall(self._page(bytes(asked).split(b" ", 2)[1:2]))
        except OSError:
            pass
        self._forget(client)

    def _forget(self, client: socket.socket) -> None:
        if client in self._clients:
            del self._clients[client]
            self._selector.unregister(client)
            client.close()

    def _page(self, path: list[bytes]) -> bytes:
        if path == [b"/counters"]:
            status, body = "200 OK", json.dumps(self._counters.to_json())
        else:
            status, body = ("200 OK", "healthy") if self.healthy else ("503 Service Unavailable", "unhealthy")
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body) + 1}\r\nConnection: close\r\n\r\n"
        return f"{head}{body}\n".encode()


class OneArm:
    """The appliance."""

    def __init__(self, rules: list[Rule], tunnel: Tunnel, *, quiet: bool) -> None:
        self.counters = Counters()
        self._rules, self._tunnel, self._quiet = rules, tunnel, quiet
        self._known: dict[bytes, None] = {}

    def work(self) -> None:
        """Take in what has come."""
        for _ in range(BURST):
            found = self._tunnel.receive()
            if found is None:
                return
            self._pass(*found)

    def _pass(self, datagram: memoryview, sender: Sender) -> None:
        counters = self.counters
        counters.received += 1
        header = read_header(datagram)
        inner = None if header is None else read_inner(datagram[header.size :])
        if header is None or inner is None:
            counters.malformed += 1
            return
        for rule in self._rules:
            if rule.matches(inner):
                counters.dropped[rule.text] = counters.dropped.get(rule.text, 0) + 1
                self._note(datagram, header, inner, f"dropped by {rule.text}")
                return
        self._note(datagram, header, inner, "passed")
        try:
            self._tunnel.send([datagram], sender)
        except OSError as error:
            counters.failed += 1
            say(f"cannot send {inner}, {len(datagram)} bytes: {error.strerror}")
            return
        counters.returned += 1

    def _note(self, datagram: memoryview, header: Header, inner: Inner, what: str) -> None:
        """Log the first packet of each flow: all its packets have one header."""
        key = bytes(datagram[: header.size])
        if key in self._known:
            return
        self.counters.flows += 1
        if len(self._known) >= _FLOWS_KNOWN:
            self._known.clear()
        self._known[key] = None
        if not self._quiet:
            say(f"{what}: {inner} {describe(header)}")


def describe(header: Header) -> str:
    """Which flow of which endpoint."""
    endpoint = "no endpoint" if header.endpoint is None else f"vpce-{header.endpoint:016x}"
    return f"{endpoint} {'no cookie' if header.cookie is None else f'cookie {header.cookie:08x}'}"


def enlarge(line: socket.socket, force: int, ask: int) -> None:
    """Give a socket a large buffer: past the system's limit where we may, else up to it."""
    try:
        line.setsockopt(socket.SOL_SOCKET, force, _BUFFER_BYTES)
    except PermissionError:
        line.setsockopt(socket.SOL_SOCKET, ask, _BUFFER_BYTES)


def say(text: str) -> None:
    """Write to the log."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def watch_signals(selector: selectors.BaseSelector, health: HealthServer) -> list[int]:
    """Let signals wake the selector; returns where the number of the one that ends us is put."""
    ended: list[int] = []
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def turn(*_: object) -> None:
        health.healthy = not health.healthy
        say(f"health checks are answered with {'200' if health.healthy else '503'} from now on")

    signal.signal(signal.SIGUSR1, turn)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda which, _: ended.append(which))
    selector.register(reader, selectors.EVENT_READ, lambda: os.read(reader, 64))
    return ended


def serve(selector: selectors.BaseSelector, ended: list[int]) -> None:
    """Call whoever has something to read, until a signal ends it."""
    while not ended:
        for key, _ in selector.select():
            key.data()


def options(description: str) -> argparse.ArgumentParser:
    """What the command line may say."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--drop", action="append", default=[], type=_rule, metavar="RULE", help=Rule.__doc__)
    parser.add_argument("--health-port", type=int, default=80, metavar="PORT", help="where health checks are answered")
    parser.add_argument("--quiet", action="store_true", help="do not log flows")
    return parser


def _rule(text: str) -> Rule:
    try:
        return Rule.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None  # of a ValueError argparse does not show the text


def _end(address: IPv4Address | IPv6Address, port: int | None) -> str:
    if port is None:
        return str(address)
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    chosen = options("One-arm appliance behind a gateway load balancer.").parse_args()
    tunnel = Tunnel()
    appliance = OneArm(chosen.drop, tunnel, quiet=chosen.quiet)
    with selectors.DefaultSelector() as selector:
        health = HealthServer(chosen.health_port, appliance.counters, selector)
        ended = watch_signals(selector, health)
        selector.register(tunnel, selectors.EVENT_READ, appliance.work)
        say(f"GENEVE at UDP port {GENEVE_PORT}, health checks at TCP port {chosen.health_port}")
        serve(selector, ended)
    say(json.dumps(appliance.counters.to_json()))


if __name__ == "__main__":
    main()

"""A two-arm appliance behind a gateway load balancer: takes GENEVE off, sends what is inside out by another interface.

    python3 two_arm.py --out eth1 --drop tcp:23

    client -> endpoint -> load balancer ──GENEVE──> eth0 ── this program ──> tun device ── kernel: forwarding, source
           <-          <-               <─GENEVE──       ──              <──            ── NAT ──> eth1 -> the internet

Made to be copied, together with one_arm.py, whose parts it uses (adapt the import); needs root, iproute2 and nftables.
What comes in on the tun device is forwarded by the kernel of the instance and leaves by the second interface with *its*
address, so the instance needs an Elastic IP there (or a NAT gateway behind it), and no source/destination check.
Answers come to that address, the kernel translates them back and routes them to the tun device, and this program sends
them to the load balancer in the header of the flow that they answer, by whose endpoint and cookie it knows them. So go
the kernel's own ICMP errors. What answers no flow is dropped: an appliance cannot begin one.
https://aws.amazon.com/blogs/networking-and-content-delivery/integrate-your-custom-logic-or-appliance-with-aws-gateway-load-balancer/

Outside of GENEVE nothing says whose a packet is, not even to the kernel: with two tenants who use the same addresses
and ports at the same time, answers could go to the wrong one. Such a tuple is therefore its first endpoint's until it
has been silent for as long as a load balancer remembers flows. What others send with it is dropped and counted
(`clashing`).

It sets in its network namespace, and removes at its end: the tun device, policy rules. Forwarding stays switched on,
and that errors keep the mark of what they are about. The nftables table stays too, which the next run replaces: without
it the kernel would take answers that come meanwhile for its own, and reset the connections they belong to.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import struct
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator
from ipaddress import ip_interface
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":  # run as a file: the folder with `lab` in it need not be where Python looks
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lab.appliances.one_arm import (
    ICMP,
    ICMPV6,
    Counters,
    HealthServer,
    Inner,
    Rule,
    Sender,
    Tunnel,
    options,
    read_header,
    read_inner,
    say,
    serve,
    watch_signals,
)

DEVICE = "gwlb"
"""The tun device."""
TABLE = "vpclab_two_arm"
"""nftables table."""
MTU = 8500
"""Largest packet that an endpoint takes."""
ROUTES_OUT, ROUTES_BACK = 601, 602
"""Routing tables: for what comes from the tun device, and for answers to it."""
_RULE_PRIORITY = 500
_MARK = 601
"""Of what comes from the tun device, so that errors about it (fwmark_reflect) go back there."""
_RULESET = """\
table inet {table} {{}}
delete table inet {table}
table inet {table} {{
    chain mark_in {{ type filter hook prerouting priority mangle; iifname "{device}" meta mark set {mark}; }}
    chain nat_out {{ type nat hook postrouting priority srcnat; iifname "{device}" oifname "{out}" masquerade; }}
}}
"""
_BURST = 64
_FLOWS_KNOWN = 262144
_IDLE_S = 350.0
"""Default TCP idle timeout of a gateway load balancer."""
_FRAGMENTS_KNOWN = 4096
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_ERRORS4, _ERRORS6 = (3, 11, 12), (1, 2, 3, 4)
"""ICMP types that quote the packet they are about (RFC 792, RFC 4443)."""


class Way(NamedTuple):
    """How to send a packet back into its flow."""

    header: bytes
    """GENEVE, as it came."""
    sender: Sender
    endpoint: int | None
    used: float
    """When the flow was last heard of, in seconds."""


class TwoArm:
    """The appliance."""

    def __init__(self, rules: list[Rule], tunnel: Tunnel, tun: int, *, quiet: bool) -> None:
        self.counters = Counters()
        self._rules, self._tunnel, self._tun, self._quiet = rules, tunnel, tun, quiet
        self._ways: OrderedDict[Inner, Way] = OrderedDict()
        """By what an answer looks like; the flow that was used longest ago goes first."""
        self._fragments: OrderedDict[tuple[object, ...], Way] = OrderedDict()
        """Of answers in pieces: the first piece tells the way of the others."""

    def take(self) -> None:
        """Take in what load balancers have sent: GENEVE off, and to the kernel."""
        for _ in range(_BURST):
            found = self._tunnel.receive()
            if found is None:
                return
            self._pass(*found)

    def _pass(self, datagram: memoryview, sender: Sender) -> None:
        counters = self.counters
        counters.received += 1
        header = read_header(datagram)
        packet = b"" if header is None else bytes(datagram[header.size :])
        inner = read_inner(memoryview(packet))
        if header is None or inner is None:
            counters.malformed += 1
            return
        for rule in self._rules:
            if rule.matches(inner):
                counters.dropped[rule.text] = counters.dropped.get(rule.text, 0) + 1
                return
        if not later_fragment(packet):
            way = Way(bytes(datagram[: header.size]), sender, header.endpoint, time.monotonic())
            if not self._learn(answer_to(inner, packet), way, inner):
                counters.clashing += 1
                return
        try:
            os.write(self._tun, packet)
        except OSError as error:
            counters.failed += 1
            say(f"the kernel refuses {inner}, {len(packet)} bytes: {error.strerror}")

    def _learn(self, answer: Inner, way: Way, inner: Inner) -> bool:
        """Remember where an answer goes; not if it would go to another endpoint."""
        known = self._ways.get(answer)
        if known is not None and known.endpoint != way.endpoint and way.used - known.used < _IDLE_S:
            return False
        if known is None:
            self.counters.flows += 1
            if not self._quiet:
                say(f"out: {inner}")
            if len(self._ways) >= _FLOWS_KNOWN:
                self._ways.popitem(last=False)
        self._ways[answer] = way
        self._ways.move_to_end(answer)
        return True

    def give_back(self) -> None:
        """Send what the kernel routes to the tun device, answers, into the flows that they belong to."""
        for _ in range(_BURST):
            try:
                packet = os.read(self._tun, 65535)
            except BlockingIOError:
                return
            way = self._way_of(packet)
            if way is None:
                self.counters.unknown += 1
                continue
            try:
                self._tunnel.send([way.header[:2] + ethertype(packet) + way.header[4:], packet], way.sender)
            except OSError as error:
                self.counters.failed += 1
                say(f"cannot send {len(packet)} bytes back: {error.strerror}")
            else:
                self.counters.returned += 1

    def _way_of(self, packet: bytes) -> Way | None:
        piece = fragment_key(packet)
        if piece is not None and later_fragment(packet):
            return self._fragments.get(piece)
        inner = read_inner(memoryview(packet))
        if inner is None:
            return None
        quoted = quoted_packet(inner, packet)
        if quoted is not None:
            # About a packet of the client's, which went out as it is quoted: its answer is what we know.
            about = read_inner(memoryview(quoted))
            return None if about is None else self._ways.get(answer_to(about, quoted))
        answer = with_identifier(inner, packet)
        way = self._ways.get(answer)
        if way is not None:
            self._ways[answer] = way = way._replace(used=time.monotonic())
        if way is not None and piece is not None:
            self._fragments[piece] = way
            if len(self._fragments) > _FRAGMENTS_KNOWN:
                self._fragments.popitem(last=False)
        return way


def answer_to(inner: Inner, packet: bytes) -> Inner:
    """What the answer to a packet looks like."""
    known = with_identifier(inner, packet)
    return Inner(known.protocol, known.destination, known.source, known.destination_port, known.source_port)


def with_identifier(inner: Inner, packet: bytes) -> Inner:
    """The same, for ICMP echo with its identifier in place of both ports."""
    if inner.protocol not in (ICMP, ICMPV6):
        return inner
    at = (packet[0] & 15) * 4 if packet[0] >> 4 == 4 else 40
    identifier = int.from_bytes(packet[at + 4 : at + 6], "big")
    return inner._replace(source_port=identifier, destination_port=identifier)


def quoted_packet(inner: Inner, packet: bytes) -> bytes | None:
    """The packet that an ICMP error is about; None for what is no error."""
    at = (packet[0] & 15) * 4 if packet[0] >> 4 == 4 else 40
    errors = _ERRORS4 if inner.protocol == ICMP else _ERRORS6 if inner.protocol == ICMPV6 else ()
    return packet[at + 8 :] if len(packet) > at and packet[at] in errors else None


def later_fragment(packet: bytes) -> bool:
    """Whether a packet is a fragment, and not the first."""
    if packet[0] >> 4 == 4:
        return bool(int.from_bytes(packet[6:8], "big") & 0x1FFF)
    return packet[6] == 44 and bool(int.from_bytes(packet[42:44], "big") & 0xFFF8)


def fragment_key(packet: bytes) -> tuple[object, ...] | None:
    """What all fragments of one packet have in common; None for a whole packet."""
    if packet[0] >> 4 == 4:
        return (packet[12:20], packet[9], packet[4:6]) if int.from_bytes(packet[6:8], "big") & 0x3FFF else None
    return (packet[8:40], packet[44:48]) if packet[6] == 44 else None


def ethertype(packet: bytes) -> bytes:
    """The protocol type of an IP packet."""
    return b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"


def open_tun() -> int:
    """Make the tun device, which goes with its descriptor."""
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
    return tun


def run(*command: str, check: bool = True, input: str = "") -> str:
    """Run a command of the system's."""
    path = {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}
    done = subprocess.run(command, env=path, input=input, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def gateways(device: str) -> dict[str, str]:
    """The router of an interface's subnet, by family: of IPv4 the first address, as everywhere in AWS."""
    found: dict[str, str] = {}
    (link,) = json.loads(run("ip", "-j", "addr", "show", "dev", device))
    for each in link["addr_info"]:
        if each["family"] == "inet":
            subnet = ip_interface(f"{each['local']}/{each['prefixlen']}").network
            found.setdefault("-4", str(subnet[1]))
    for route in json.loads(run("ip", "-6", "-j", "route", "show", "default", "dev", device, "table", "all") or "[]"):
        if "gateway" in route:
            found.setdefault("-6", route["gateway"])
    return found


@contextlib.contextmanager
def network(out: str) -> Iterator[None]:
    """Set the kernel up: what comes from the tun device leaves by `out` with its address, and answers come back."""
    routers = gateways(out)
    run("ip", "link", "set", DEVICE, "mtu", str(MTU), "up")
    switches = ["ipv4/ip_forward", "ipv4/fwmark_reflect"]
    switches += ["ipv6/conf/all/forwarding", "ipv6/fwmark_reflect"] if "-6" in routers else []
    for name in switches:
        Path("/proc/sys/net", name).write_text("1")
    for family, router in routers.items():
        batch(family, *(f"rule del {rule}" for rule in _rules(out)), check=False)  # of a run that was killed
        batch(
            family,
            f"route replace default via {router} dev {out} table {ROUTES_OUT} onlink",
            f"route replace default dev {DEVICE} table {ROUTES_BACK}",
            *(f"rule add {rule}" for rule in _rules(out)),
        )
    run("nft", "-f", "-", input=_RULESET.format(table=TABLE, device=DEVICE, out=out, mark=_MARK))
    try:
        yield
    finally:
        for family in routers:
            tables = (f"route flush table {table}" for table in (ROUTES_OUT, ROUTES_BACK))
            batch(family, *(f"rule del {rule}" for rule in _rules(out)), *tables, check=False)


def batch(family: str, *lines: str, check: bool = True) -> None:
    """Run several commands of `ip` at once: this program should be back soon when it is started again."""
    run("ip", family, *([] if check else ["-force"]), "-batch", "-", check=check, input="\n".join(lines))


def _rules(out: str) -> list[str]:
    """Policy rules: what comes from the tun device, answers to it, and errors about it."""
    return [
        f"iif {DEVICE} table {ROUTES_OUT} priority {_RULE_PRIORITY}",
        f"iif {out} table {ROUTES_BACK} priority {_RULE_PRIORITY}",
        f"fwmark {_MARK} table {ROUTES_BACK} priority {_RULE_PRIORITY + 1}",
    ]


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    parser = options("Two-arm appliance behind a gateway load balancer.")
    parser.add_argument("--out", default="eth1", metavar="DEVICE", help="the interface that packets leave by")
    chosen = parser.parse_args()
    tunnel, tun = Tunnel(), open_tun()
    appliance = TwoArm(chosen.drop, tunnel, tun, quiet=chosen.quiet)
    with network(chosen.out), selectors.DefaultSelector() as selector:
        health = HealthServer(chosen.health_port, appliance.counters, selector)
        ended = watch_signals(selector, health)
        selector.register(tunnel, selectors.EVENT_READ, appliance.take)
        selector.register(tun, selectors.EVENT_READ, appliance.give_back)
        say(f"GENEVE in, {chosen.out} out, health checks at TCP port {chosen.health_port}")
        serve(selector, ended)
    say(json.dumps(appliance.counters.to_json()))


if __name__ == "__main__":
    main()

"""One node of a running lab: an instance or an internet host, where real programs run and packets come from."""

from __future__ import annotations

import os
import re
import socket as sockets
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, BinaryIO

from dataplane.errors import LabError
from lab.capture_stream import CaptureStream
from lab.enter import NodeView, open_socket, popen, run_inside
from vpclab import _frames

if TYPE_CHECKING:
    from vpclab.lab import Lab

_PING_COUNTS = re.compile(r"(\d+) packets transmitted, (\d+) received")
_BEGIN_S = 60.0
"""How long a program that ends by itself may take to begin, where many others do at the same time."""
_PING_TIMES = re.compile(r"rtt min/avg/max/mdev = [\d.]+/([\d.]+)/")


@dataclass(frozen=True, slots=True, kw_only=True)
class PingResult:
    """What the kernel's own ping said."""

    sent: int
    received: int
    average_ms: float | None
    """Mean round trip time in milliseconds; None when nothing came back."""
    output: str
    """Everything ping printed."""

    def __bool__(self) -> bool:
        """True when every request was answered."""
        return self.sent > 0 and self.received == self.sent

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON object."""
        return asdict(self)


class Node:
    """A node of a running lab, got by ``lab["web"]``.

    Everything here happens inside the node's own namespaces: its network, its ``/etc/hosts``, its hostname.
    The file system is otherwise this machine's.
    """

    def __init__(self, lab: Lab, entry: dict[str, Any]) -> None:
        self._lab = lab
        self._entry = entry
        self._view = view_of(entry)
        self._senders: dict[str, sockets.socket] = {}
        self._neighbours: dict[tuple[int, str], str] = {}

    def __repr__(self) -> str:
        return f"<Node {self.name} of lab {self._lab.name}: {', '.join(self.addresses)}>"

    @property
    def lab(self) -> Lab:
        """The lab it is in."""
        return self._lab

    @property
    def name(self) -> str:
        """Name in the lab file."""
        return str(self._entry["name"])

    @property
    def addresses(self) -> tuple[str, ...]:
        """All addresses its kernel has, first interface first, IPv4 before IPv6."""
        return tuple(address for interface in self._entry["interfaces"] for address in interface["addresses"])

    @property
    def address(self) -> str:
        """Its first address."""
        return self.addresses[0]

    @property
    def address4(self) -> str | None:
        """Its first IPv4 address, if it has one."""
        return next((address for address in self.addresses if ":" not in address), None)

    @property
    def address6(self) -> str | None:
        """Its first IPv6 address, if it has one."""
        return next((address for address in self.addresses if ":" in address), None)

    @property
    def mac(self) -> str:
        """MAC address of its first interface; frames with another source are dropped as spoofed."""
        return str(self._entry["interfaces"][0]["mac"])

    @property
    def public_addresses(self) -> tuple[str, ...]:
        """Public IPv4 addresses mapped to it; its own address if it is an internet host."""
        return tuple(address for interface in self._entry["interfaces"] for address in interface["public_addresses"])

    @property
    def attached(self) -> str | None:
        """What of the user's stands in for it: ``tap:NAME``, ``netns:PATH``; None for a namespace of vpclab's.

        Nothing can be run in a TAP device; its packets can be sent, seen and captured.
        """
        found: str | None = self._entry["attach"]
        return found

    # -- programs ------------------------------------------------------------------------------------------

    def popen(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a command inside; `options` are those of `subprocess.Popen` (no ``shell``).

        ``env`` is completed with the node's own variables. Programs still running when the lab goes down
        are ended with it.

        Raises:
            LabError: the node is a TAP device (see `attached`).
            OSError: it cannot be started (FileNotFoundError, PermissionError, ...).
        """
        self._need_namespace()
        return popen(self._view, command, **options)

    def run(
        self,
        command: Sequence[str],
        *,
        timeout_s: float | None = 60.0,
        check: bool = False,
        input: str | None = None,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside to its end; its output is captured as text.

        Args:
            command: program and arguments.
            timeout_s: seconds after which it is killed; None waits for ever.
            check: raise when its exit status is not 0.
            input: text for its standard input; otherwise that is empty.
            **options: others of `subprocess.Popen`.

        Raises:
            OSError: it cannot be started.
            subprocess.TimeoutExpired: it took longer than `timeout_s`.
            subprocess.CalledProcessError: with `check`, it failed.
        """
        options.setdefault("stdin", subprocess.DEVNULL if input is None else subprocess.PIPE)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        options.setdefault("text", True)
        with self.popen(command, **options) as child:
            try:
                stdout, stderr = child.communicate(input, timeout=timeout_s)
            except BaseException:
                child.kill()
                raise
        result = subprocess.CompletedProcess(list(command), child.returncode, stdout, stderr)
        if check:
            result.check_returncode()
        return result

    def run_here(self, command: Sequence[str]) -> int:
        """Run a command inside with this process's terminal, pipes and signals, as ``vpclab exec`` does.

        This process joins the node for good, so it is for programs that do nothing else afterwards, and have
        one thread.

        Returns:
            Its exit status; 128 plus the signal number when a signal ended it.

        Raises:
            LabError: the node is a TAP device (see `attached`).
            OSError: it cannot be started.
        """
        self._need_namespace()
        return run_inside(self._view, command, folder=os.getcwd())

    def ping(
        self,
        destination: Node | str,
        *,
        count: int = 1,
        timeout_s: float = 3.0,
        size_bytes: int = 56,
        dont_fragment: bool = False,
    ) -> PingResult:
        """Ping with the node's own kernel and the ``ping`` program.

        Args:
            destination: a node, its name, or an address.
            count: echo requests, 0.2 s apart.
            timeout_s: seconds to wait for an answer after the last request. Once there has been one, ``ping`` waits
                for the others twice the longest round trip only, at least 0.2 s.
            size_bytes: payload; the IPv4 packet is 28 bytes larger, the IPv6 packet 48.
            dont_fragment: set DF (``ping -M do``).

        Raises:
            LabError: ``ping`` is not installed, it could not even start to send, or it did not end.
        """
        address = self._lab.address_of(destination, source=self)
        command = ["ping", "-n", "-c", str(count), "-i", "0.2", "-W", f"{timeout_s:g}", "-s", str(size_bytes)]
        command += ["-M", "do"] if dont_fragment else []
        try:
            # It ends by itself; on a busy machine it takes its time to begin.
            limit_s = count * 0.2 + timeout_s + _BEGIN_S
            done = self.run([*command, address], timeout_s=limit_s)
        except FileNotFoundError:
            raise LabError("ping is not installed; run: sudo apt-get install -y iputils-ping") from None
        except subprocess.TimeoutExpired:
            raise LabError(f"ping in {self.name} did not end within {limit_s:g} s") from None
        counts = _PING_COUNTS.search(done.stdout)
        if counts is None:
            raise LabError(f"ping in {self.name}: {(done.stderr or done.stdout).strip() or 'no output'}")
        times = _PING_TIMES.search(done.stdout)
        return PingResult(
            sent=int(counts[1]),
            received=int(counts[2]),
            average_ms=float(times[1]) if times else None,
            output=done.stdout + done.stderr,
        )

    def restart(self, program: str | None = None) -> list[dict[str, Any]]:
        """End the programs of the node (or one), start them again and wait until they are ready.

        Returns:
            How they are then: ``name``, ``state``, ``pid``, ``restarts``, ``log``, ...

        Raises:
            RequestError: it has no programs, or none of that name.
            LabError: one does not get ready.
        """
        answer = self._lab.ask("restart", timeout_s=60.0, name=self.name, program=program)
        if answer["problem"]:
            raise LabError(answer["problem"])
        programs: list[dict[str, Any]] = answer["programs"]
        return programs

    # -- sockets -------------------------------------------------------------------------------------------

    def socket(
        self, family: int = sockets.AF_INET, kind: int = sockets.SOCK_STREAM, protocol: int = 0
    ) -> sockets.socket:
        """Make a socket inside the node and use it from here, as a client or a server.

        Raises:
            LabError: the node is a TAP device (see `attached`); packet sockets can be made all the same.
            OSError: the kernel refuses it.
        """
        if family != sockets.AF_PACKET:
            self._need_namespace()
        return open_socket(self._view, family, kind, protocol)

    def connect(self, destination: Node | str, port: int, *, timeout_s: float = 3.0) -> sockets.socket:
        """Make a real TCP connection from inside the node; returns the connected socket.

        Args:
            destination: a node, its name, or an address.
            port: destination port.
            timeout_s: seconds to wait; also the timeout of the socket returned.

        Raises:
            ConnectionRefusedError: the packet arrived and nobody listens.
            TimeoutError: no answer: something on the way dropped it (``lab.trace`` tells what).
            OSError: anything else the node's kernel says, such as "No route to host".
        """
        address = self._lab.address_of(destination, source=self)
        made = self.socket(_frames.address_family(address))
        try:
            made.settimeout(timeout_s)
            made.connect((address, port))
        except BaseException:
            made.close()
            raise
        return made

    # -- packets -------------------------------------------------------------------------------------------

    def send(self, packet: _frames.SupportsBytes, *, interface: str = "eth0", ethernet: bool | None = None) -> None:
        """Send one packet, byte for byte, from an interface of the node.

        Args:
            packet: anything `bytes()` turns into a packet (bytes, scapy, dpkt, ...). An IP packet gets an
                Ethernet header in front: from the interface's MAC to the neighbour's or the router's.
            interface: which interface.
            ethernet: True when the packet already starts with an Ethernet header. None: find out (scapy
                packets know; plain bytes are an IP packet when they begin with version 4 or 6).

        Raises:
            OSError: the kernel refuses it, e.g. EMSGSIZE when it is larger than the interface's MTU.
            ValueError: too short to hold an IP header.
        """
        frame = self._frame(packet, interface, ethernet)
        line = self._senders.get(interface)
        if line is None:
            device = self._interface(interface)["link"]
            self._senders[interface] = line = self.socket(sockets.AF_PACKET, sockets.SOCK_RAW, 0)
            # Protocol 0 receives nothing, so that no queue fills up behind a socket nobody reads.
            line.bind((device, 0))
        line.send(frame)

    def sniff(
        self,
        count: int = 1,
        timeout_s: float = 2.0,
        *,
        interface: str = "eth0",
        outgoing: bool = False,
        where: Callable[[bytes], bool] | None = None,
    ) -> list[bytes]:
        """Ethernet frames that arrive at an interface from now on.

        To send only after listening has begun, use `sniffer`.

        Args:
            count: return when this many came; 0 listens until the time is over.
            timeout_s: seconds after which it returns what it has.
            interface: which interface.
            outgoing: also those the node itself sends.
            where: keep only frames for which this is true.
        """
        with self.sniffer(interface=interface, outgoing=outgoing) as line:
            return list(line.frames(count, timeout_s, where=where))

    @contextmanager
    def sniffer(self, *, interface: str = "eth0", outgoing: bool = False) -> Iterator[_frames.Sniffer]:
        """Listen at an interface: ``with node.sniffer() as line: ...; frames = list(line.frames(count=1))``.

        Frames that arrive between the start of the ``with`` block and `frames` are kept.
        """
        device = self._interface(interface)["link"]
        raw = self.socket(sockets.AF_PACKET, sockets.SOCK_RAW, 0)
        with raw, _frames.Sniffer(raw, device, outgoing=outgoing) as line:
            yield line

    def sr1(
        self,
        packet: _frames.SupportsBytes,
        timeout_s: float = 2.0,
        *,
        interface: str = "eth0",
        ethernet: bool | None = None,
    ) -> Any:
        """Send one packet and return the answer to it, or an ICMP error about it; None when nothing came.

        The answer comes as the question did: bytes for bytes, a scapy packet for a scapy packet, with or
        without an Ethernet header. Arguments are those of `send`; `timeout_s` is in seconds.
        """
        frame = self._frame(packet, interface, ethernet)
        with self.sniffer(interface=interface) as line:
            line.send(frame)
            for answer in line.frames(1, timeout_s, where=lambda seen: _frames.is_answer(seen, frame[14:])):
                return _frames.parse_like(packet, answer)
        return None

    def capture(self, stream: BinaryIO, *, interface: str = "eth0", count: int = 0, seconds: float = 0.0) -> int:
        """Write the packets of one interface, both directions, to a binary stream as pcapng; returns how many.

        What packets say of themselves, and when it ends, are those of `Lab.capture`.
        """
        with self.open_capture(interface=interface) as running:
            return running.run(stream, count=count, seconds=seconds)

    def open_capture(self, *, interface: str = "eth0") -> CaptureStream:
        """A capture that has begun: `run` it in a thread of its own and `stop` it from another, then `close` it."""
        self._interface(interface)
        return self._lab.open_capture(f"{self.name}/{interface}")

    def close(self) -> None:
        """Give back the sockets held for `send`; the lab calls this when it goes down."""
        while self._senders:
            self._senders.popitem()[1].close()

    def _need_namespace(self) -> None:
        """Nothing of ours may run in the namespace that the lab was started from."""
        if self.attached is not None and self.attached.startswith("tap:"):
            raise LabError(
                f"{self.name} is {self.attached}, a device of this machine: what is behind it sends and receives"
            )

    def _interface(self, device: str) -> dict[str, Any]:
        for interface in self._entry["interfaces"]:
            if interface["device"] == device:
                return dict(interface)
        have = ", ".join(interface["device"] for interface in self._entry["interfaces"])
        raise LabError(f"node {self.name} has no interface {device!r}; it has {have}")

    def _frame(self, packet: _frames.SupportsBytes, device: str, ethernet: bool | None) -> bytes:
        raw = bytes(packet)
        if ethernet if ethernet is not None else _frames.is_ethernet(packet, raw):
            return raw
        interface = self._interface(device)
        key = (interface["port"], str(_frames.destination_of(raw)))
        if key not in self._neighbours:
            self._neighbours[key] = self._lab.ask("neighbour", port=key[0], destination=key[1])
        return _frames.ethernet(raw, source=_octets(interface["mac"]), destination=_octets(self._neighbours[key]))


def view_of(entry: Mapping[str, Any]) -> NodeView:
    """How to enter the node, out of what the daemon says about it."""
    facts: dict[str, Any] = {field.name: entry[field.name] for field in fields(NodeView)}
    for name, value in facts.items():
        facts[name] = tuple(value) if isinstance(value, list) else value
    return NodeView(**facts)


def _octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))

"""What a running lab tells of itself: counters, flows, logs, traces, captures, checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from dataplane.errors import LabError
from dataplane.trace import Trace
from lab.capture_stream import CaptureStream, StoryStream
from lab.control import ControlClient, NotRunningError, RequestError
from lab.state import LabState
from vpclab.declaration import declaration_text
from vpclab.node import Node

if TYPE_CHECKING:
    from dataplane.model.check import Check
    from dataplane.picture import Picture

CHANGE_LIMIT_S = 300.0
"""How long a change of the lab, or its checks, may take."""


class Observation:
    """What can be asked of a lab that runs, by its name; nothing of it changes the lab.

    All methods raise LabError when it is not running (any more).
    """

    def __init__(self, name: str) -> None:
        try:
            self._state = LabState(name)
        except LabError as error:
            raise RequestError(str(error)) from None

    @property
    def name(self) -> str:
        """Name of the running lab: what ``vpclab --lab`` takes."""
        return self._state.name

    def ask(self, verb: str, *, timeout_s: float = 30.0, **arguments: Any) -> Any:
        """Ask the lab's daemon; the verbs are those of `lab.verbs`.

        Raises:
            NotRunningError: the lab does not run (any more).
            LabError: no answer within `timeout_s` seconds.
            VpclabError: what the verb raises.
        """
        try:
            with ControlClient(self._state.path) as client:
                return client.call(verb, timeout_s=timeout_s, **arguments)
        except NotRunningError:
            if self._state.is_running():
                raise NotRunningError(f"lab {self.name} is just starting or going down; try again") from None
            raise

    def status(self) -> dict[str, Any]:
        """Nodes with addresses, programs and packet counts, and facts about the daemon; as `vpclab status`."""
        found: dict[str, Any] = self.ask("status")
        return found

    def limits(self) -> dict[str, Any]:
        """What packets can fill, as `vpclab status --limits`.

        ``limits`` are rows: ``what``, ``now``, ``most``, ``bytes`` of memory, and what happens when it is ``full``;
        ``bytes`` is their sum, and ``resident_bytes`` what the daemon takes now.

        The daemon never takes more than ``bytes`` on top of what it took before the first packet, unless it is asked
        for more, as by one more capture.
        """
        found: dict[str, Any] = self.ask("limits")
        return found

    def trace(
        self,
        source: Node | str,
        destination: Node | str,
        *,
        protocol: str | int = "tcp",
        port: int | None = None,
        source_port: int | None = None,
        size_bytes: int = 0,
    ) -> Trace:
        """Follow a packet and the answer to it through live state; nothing is sent, nothing changes.

        Instances on the way are taken to send on what is not their own (`Trace.assumed`); where nobody can tell by
        which interface they would, the packet has got only so far (`Walk.astray`).

        Args:
            source: a node, its name, an interface (``"fw/eth1"``) or an address of one. A node sends by the interface
                in whose subnet the destination is, else by its first one.
            destination: a node, its name, or an address.
            protocol: ``tcp``, ``udp``, ``icmp``, ``icmpv6`` or a number.
            port: destination port of TCP or UDP; 80 when not given.
            source_port: source port, or identifier of an echo request; 40000 when not given. If a connection from it is
                open, the packet is one of that connection.
            size_bytes: payload.

        Raises:
            RequestError: no such node, address or protocol.
        """
        answer = self.ask(
            "trace",
            source=source.name if isinstance(source, Node) else source,
            destination=destination.name if isinstance(destination, Node) else destination,
            protocol=str(protocol),
            port=port,
            source_port=source_port,
            size_bytes=size_bytes,
        )
        return Trace.from_json(answer)

    def routes(self, table: str | None = None) -> list[dict[str, Any]]:
        """Effective routes of all route tables, or of one (``"shop/public"``).

        Raises:
            RequestError: no such table.
        """
        found: list[dict[str, Any]] = self.ask("routes", table=table)
        return found

    def nat(self) -> dict[str, Any]:
        """``gateways``, ``mappings`` and ``translations``: as `vpclab nat` shows them.

        NAT gateways with their addresses and ``metrics`` (counters under CloudWatch's names), the 1:1 mappings of
        internet gateways, and the live connections through NAT gateways.
        """
        found: dict[str, Any] = self.ask("nat")
        return found

    def flows(self, *, limit: int = 1000) -> list[dict[str, Any]]:
        """Tracked flows, the latest first: tuples of both directions, state, times in seconds, rule."""
        found: list[dict[str, Any]] = self.ask("flows", limit=limit)
        return found

    def flow_logs(self, *, after: int = 0, unfinished: bool = False) -> list[dict[str, str]]:
        """Records of flow logs, the oldest first: field -> value, with ``log`` (``VPC/NAME``) and ``number``.

        Args:
            after: only those written since the one of this number (the last 100,000 are kept; files have them all).
            unfinished: those of intervals that are not over, as they would be written now; their number is 0.
        """
        found = self.ask("flow_logs", after=after, open=unfinished)
        fields: dict[str, list[str]] = found["fields"]
        return [
            {"log": each["log"], "number": str(each["number"])}
            | dict(zip(fields.get(each["log"], []), each["text"].split(" "), strict=False))
            for each in found["records"]
        ]

    def targets(self) -> list[dict[str, Any]]:
        """Targets of load balancers: ``state``, ``reason`` and ``description`` in AWS's words, and what they carry now.

        ``flows``, ``packets`` and ``bytes`` (both ways) are those of the flows that a target has now. Targets that were
        deregistered are listed while they are ``draining``, and as long as they have flows.
        """
        found: list[dict[str, Any]] = self.ask("targets")
        return found

    def capture(self, *points: str, stream: BinaryIO, where: str = "", count: int = 0, seconds: float = 0.0) -> int:
        """Write packets at points of the lab to a binary stream, as pcapng; returns how many.

        The file has an interface for each side of a point, and each packet a comment: verdict, reason, deciding rule.
        Packets that die are there too, where they last were. While anybody captures, every packet is walked through
        the tables as if it were the first of its flow; what becomes of it is the same. Who reads the stream too slowly
        loses records, which the file counts, but no packets.

        Args:
            points: ``web``, ``web/eth1``, ``nat:VPC/NAME``, ``igw:VPC``, ``eigw:VPC``, ``peering:NAME``,
                ``gwlb:VPC/NAME``, ``internet``; one side of it with ``/inside``, ``/outside``, ``/inner``, ``/outer``.
            stream: where to write.
            where: which packets, in tcpdump's syntax; all when empty.
            count: end after so many packets; 0: no limit.
            seconds: end after so many seconds; 0: no limit.

        It ends, too, on Ctrl-C, when the lab goes down, or when nobody reads the stream any more.

        Raises:
            RequestError: no such point, or libpcap refuses the filter.
            LimitError: there are 16 captures already.
            LabError: the lab died, so that the file has no end; what came is written.
        """
        with self.open_capture(*points, where=where) as running:
            return running.run(stream, count=count, seconds=seconds)

    def open_capture(self, *points: str, where: str = "", split: bool = False) -> CaptureStream:
        """A capture that has begun: `run` it in a thread of its own and `stop` it from another, then `close` it.

        `split`: the first word that names no point, and all behind it, are the filter, as on the command line.
        """
        return CaptureStream(self._state.path, points, where, split=split)

    def follow(self, where: str = "") -> StoryStream:
        """Follow real packets hop by hop, from now on: a context manager, and an iterator over `Followed`.

        A packet is told once it has been decided, with all it went through; the answer to it is a packet of its own.
        Those that go to a load balancer's target and come back from it are two.

        Args:
            where: which packets, as they came or as they left, in tcpdump's syntax; all when empty.

        Raises:
            RequestError: libpcap refuses the filter.
        """
        return StoryStream(self._state.path, where)

    def check(
        self,
        checks: Sequence[Mapping[str, Any] | Check] | None = None,
        *,
        patience_s: float = 3.0,
        apart: bool = False,
    ) -> list[dict[str, Any]]:
        """Prove who reaches whom with real packets: the ``checks:`` of the lab file, or these.

        While it lasts, every packet of the lab goes one by one, so that the engine can tell what becomes of it; nothing
        else can change the lab. Most checks take a few milliseconds; only what nobody decides takes longer.

        Args:
            checks: as they would stand in a lab file: ``[{"can": "app -> web", "port": 80}]``.
            patience_s: how long a packet that is on its way may show no sign of life, in seconds.
            apart: move the lab's clock on by days between packets of protocols without ports that go between the same
                two nodes, so that each is decided as if it were the first.

        Returns:
            For each check in turn: ``check``, ``holds``, ``why``, ``found``, ``dropped``, ``source_seen``, ``passed``
            and the ``legs`` of its way; the page of checks describes them.

        Raises:
            ConfigurationError: a check is wrong, or names what the lab has not.
        """
        text = None if checks is None else declaration_text(list(checks))
        found: list[dict[str, Any]] = self.ask(
            "check", timeout_s=CHANGE_LIMIT_S, checks=text, patience_s=float(patience_s), apart=apart
        )
        return found

    def picture(self) -> Picture:
        """What there is, what is inside of what, and which route leads where; `dataplane.picture` makes text of it."""
        from dataplane.picture import Picture

        return Picture.from_json(self.ask("picture"))

    def traffic(self, *, ways: bool = False) -> dict[str, Any]:
        """Counters of this moment; the differences of two, by their ``time_s``, are rates.

        ``interfaces`` (packets, bytes and drops of each, as seen by the node), ``drops`` by reason, ``gateways``
        (connections, and the ``ports`` that the destination uses which has the most), the latest ``flows``, and how
        many are ``remembered``, by kind.
        """
        found: dict[str, Any] = self.ask("traffic", ways=ways)
        return found

    def ports_of_interest(self) -> dict[str, tuple[int, ...]]:
        """TCP ports worth trying, by node: what its programs are ready on, and what its groups open one by one."""
        return {name: tuple(ports) for name, ports in self.ask("ports").items()}

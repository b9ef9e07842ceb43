"""What the daemon answers on its control socket: one method per verb, JSON in and out.

Values are plain: addresses and networks as text, times in seconds, rules as ``kind path``. Asking never changes
the lab; ``apply``, ``clock`` with an advance, ``restart`` and ``down`` do.
"""

from __future__ import annotations

import functools
import math
import os
import select
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from dataplane.analysis.told import row_of
from dataplane.analysis.wording import with_notes
from dataplane.errors import VpclabError
from dataplane.load.checks import read_checks
from dataplane.picture import draw
from dataplane.probe import protocol_number
from dataplane.trace import LARGEST_TRACED
from lab import bounds, sight, tables, targets, traffic
from lab.capture import Capture, Stories, split_words
from lab.checking import prove
from lab.control import RequestError, Stream, Verb
from lab.running import RunningLab
from lab.runtime import NoProgramError

_CLOCK_LIMIT_S = 10 * 366 * 86400.0
"""Longest single advance of the clock."""
_FLOWS_LIMIT = 1_000_000
_LEAST_PATIENCE_S, _MOST_PATIENCE_S = 0.05, 600.0
"""For how long a packet of a check may show no sign of life."""
T = TypeVar("T")


class Verbs:
    """The verbs of one lab."""

    def __init__(self, lab: RunningLab, end: Callable[[str], None]) -> None:
        """`end` is called, with the reason, when somebody wants the lab to go down."""
        self._lab = lab
        self._end = end

    def table(self) -> dict[str, Verb]:
        """Verb -> what answers it."""
        return {
            "apply": self.apply,
            "capture": self.capture,
            "check": self.check,
            "clock": self.clock,
            "down": self.down,
            "flow_logs": self.flow_logs,
            "flows": self.flows,
            "follow": self.follow,
            "limits": self.limits,
            "nat": self.nat,
            "node": self.node,
            "nodes": self.nodes,
            "neighbour": self.neighbour,
            "picture": self.picture,
            "ports": self.ports,
            "resolve": self.resolve,
            "restart": self.restart,
            "routes": self.routes,
            "status": self.status,
            "targets": self.targets,
            "trace": self.trace,
            "traffic": self.traffic,
        }

    # -- looking -------------------------------------------------------------------------------------------

    def status(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Facts about the daemon, and every node with interfaces, programs and packet counts."""
        lab = self._lab
        programs = lab.runtime.status()
        counters = lab.data_plane.engine.counters()
        nodes = []
        for name in lab.plans:
            entry = sight.node(lab, name)
            for interface in entry["interfaces"]:
                interface["counters"] = sight.counters(counters.get(interface["port"]))
            entry["netns"] = programs[name].netns if name in programs else None
            entry["programs"] = [asdict(program) for program in programs[name].programs] if name in programs else []
            nodes.append(entry)
        return {
            "name": lab.name,
            "file": lab.file,
            "pid": os.getpid(),
            "lab_id": lab.runtime.lab_id,
            "rootless": lab.runtime.rootless,
            "warnings": [*lab.runtime.warnings, *lab.survival.lost, *lab.flow_logs.complaints],
            "uptime_s": time.time() - lab.started,
            "start_s": lab.start_s,
            "clock_offset_s": lab.worker.clock_offset_ms / 1000,
            "engine": lab.data_plane.engine.statistics(),
            "nodes": nodes,
        }

    def limits(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What packets can fill, how much memory that takes at most, and how much the daemon takes now."""
        return bounds.limits(self._lab)

    def nodes(self, arguments: Mapping[str, Any]) -> list[str]:
        """Names of the nodes, in the order of the lab file."""
        return list(self._lab.plans)

    def node(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """One node, and how to enter it."""
        name = _argument(arguments, "name", str)
        entry = sight.node(self._lab, self._known(name))
        view = self._lab.runtime.view(name)
        return {**entry, **asdict(view)}

    def neighbour(self, arguments: Mapping[str, Any]) -> str:
        """The MAC that a node's kernel would send to for a destination, through one of its interfaces."""
        destination = sight.address(_argument(arguments, "destination", str))
        port = _argument(arguments, "port", int)
        try:
            return self._lab.data_plane.next_mac(port, destination).hex(":")
        except KeyError:
            raise RequestError(f"no port {port}") from None

    def ports(self, arguments: Mapping[str, Any]) -> dict[str, list[int]]:
        """TCP ports worth trying, by node: what its programs are ready on, and what its groups open one by one."""
        return {name: sight.tcp_ports(self._lab, name) for name in self._lab.plans}

    def resolve(self, arguments: Mapping[str, Any]) -> str:
        """The address by which one node knows another."""
        return sight.resolve(
            self._lab, self._known(_argument(arguments, "source", str)), _argument(arguments, "destination", str)
        )

    def trace(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Trace a packet and its answer."""
        lab = self._lab
        destination = _argument(arguments, "destination", str)
        interface, target = sight.ends_of_trace(lab, _argument(arguments, "source", str), destination)
        protocol = _argument(arguments, "protocol", str)
        try:
            protocol_number(protocol)
            found = lab.data_plane.trace(
                interface,
                target,
                protocol=protocol,
                port=_port(arguments, "port"),
                source_port=_port(arguments, "source_port"),
                now_ms=lab.now_ms(),
                size=_within(arguments, "size_bytes", 0, LARGEST_TRACED),
            )
        except VpclabError as error:
            raise RequestError(str(error)) from None
        found = with_notes(lab.topology, found)
        return {**found.to_json(), "source": arguments["source"], "destination": destination}

    def routes(self, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Effective routes of all tables, or of one."""
        return tables.routes(self._lab.topology, _optional(arguments, "table", str))

    def nat(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """NAT gateways with their counters, 1:1 mappings and live translations."""
        lab = self._lab
        return {
            "gateways": tables.gateways(lab.data_plane, lab.topology),
            "mappings": tables.mappings(lab.topology),
            "translations": tables.translations(lab.data_plane, lab.topology),
        }

    def picture(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What there is, what is inside of what, and which route leads where."""
        return draw(self._lab.topology, name=self._lab.name).to_json()

    def traffic(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Counters of this moment: of interfaces, drops, NAT gateways and flows, and these by links of a picture."""
        return traffic.sample(self._lab, ways=_argument(arguments, "ways", bool))

    def flows(self, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Tracked flows, the latest first."""
        return tables.flows(self._lab.data_plane, limit=_within(arguments, "limit", 1, _FLOWS_LIMIT))

    def flow_logs(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of each flow log, and records: those written after one, or those of intervals that are still open."""
        lab = self._lab
        after, is_open = _within(arguments, "after", 0, 1 << 62), _argument(arguments, "open", bool)
        found = lab.flow_logs.open() if is_open else lab.flow_logs.written(after)
        return {
            "fields": {
                f"{vpc}/{name}": list(declared.fields)
                for vpc, each in lab.topology.lab.vpcs.items()
                for name, declared in each.flow_logs.items()
            },
            "records": [each._asdict() for each in found],
        }

    def targets(self, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Targets of load balancers: how they are, and what they carry."""
        return targets.targets(self._lab.data_plane)

    def capture(self, arguments: Mapping[str, Any]) -> Stream:
        """Packets at points of the lab: the names of its sides, then a pcapng file while they come."""
        words = _argument(arguments, "points", list)
        if not all(isinstance(word, str) for word in words):
            raise RequestError("points are texts")
        where, no_point = _argument(arguments, "filter", str), ""
        if _argument(arguments, "split", bool):
            words, where, no_point = split_words(self._lab.topology, words)
        try:
            made = Capture(self._lab.data_plane, words, where)
        except RequestError as error:
            raise RequestError(f"{error}; or is it a point? {no_point}" if no_point else str(error)) from None
        return _streamed({"sides": [side.name for side in made.sides]}, made)

    def follow(self, arguments: Mapping[str, Any]) -> Stream:
        """What real packets go through, a line of JSON for each."""
        return _streamed(None, Stories(self._lab.data_plane, _argument(arguments, "filter", str)))

    def check(self, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Prove checks with packets: those of the lab's own file, or those given as the text of a list."""
        text = _optional(arguments, "checks", str)
        patience_s = _argument(arguments, "patience_s", float)
        if not _LEAST_PATIENCE_S <= patience_s <= _MOST_PATIENCE_S:  # nor is what is no number
            raise RequestError(f"patience is {_LEAST_PATIENCE_S} to {_MOST_PATIENCE_S} seconds, not {patience_s}")
        checks = self._lab.checks if text is None else read_checks(text, self._lab.topology)
        apart = _argument(arguments, "apart", bool)
        return [row_of(each) for each in prove(self._lab, checks, patience_s=patience_s, apart=apart)]

    # -- changing ------------------------------------------------------------------------------------------

    def apply(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Change over to another lab file, or only say what would change."""
        found, problem = self._lab.apply(
            _argument(arguments, "text", str),
            _argument(arguments, "file", str),
            dry_run=_argument(arguments, "dry_run", bool),
            folder=_optional(arguments, "folder", str),
        )
        return {"changes": [asdict(change) for change in found], "problem": problem}

    def restart(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Start the programs of a node (or one) again: how they are then, and why one is not ready."""
        name, program = self._known(_argument(arguments, "name", str)), _optional(arguments, "program", str)
        try:
            problem = self._lab.restart(name, program)
        except NoProgramError as error:
            raise RequestError(str(error)) from None
        programs = [asdict(each) for each in self._lab.runtime.status()[name].programs]
        return {"programs": [each for each in programs if program in (None, each["name"])], "problem": problem}

    def clock(self, arguments: Mapping[str, Any]) -> float:
        """How far the clock is ahead in seconds, after moving it forward if asked to."""
        advance_s = arguments.get("advance_s", 0)
        if not isinstance(advance_s, (int, float)) or not math.isfinite(advance_s):
            raise RequestError(f"{advance_s!r} is not a number of seconds")
        if not 0 <= advance_s <= _CLOCK_LIMIT_S:
            raise RequestError("the clock moves forward only, and at most ten years at a time")
        return self._lab.advance_clock(round(advance_s * 1000)) / 1000

    def down(self, arguments: Mapping[str, Any]) -> None:
        """Begin to go down; the lab is gone when its lock is."""
        self._end("vpclab down")

    def _known(self, name: str) -> str:
        if name not in self._lab.plans:
            raise RequestError(sight.no_such_node(self._lab, name))
        return name


def _streamed(first: Any, made: Capture | Stories) -> Stream:
    """What is recorded, sent to the client as it comes."""
    return Stream(first, lambda client: made.run(client.sendall, functools.partial(_has_ended, client)), made.close)


def _has_ended(client: socket.socket, seconds: float) -> bool:
    """Whether a client wants the end of its stream, or is gone; waits at most so long."""
    poller = select.poll()  # knows any number of descriptors: a large lab has more than select(2) takes
    poller.register(client, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


def _argument(arguments: Mapping[str, Any], name: str, kind: type[T]) -> T:
    value = arguments.get(name)
    if not isinstance(value, kind):
        raise RequestError(f"argument {name!r} must be {kind.__name__}, not {value!r}")
    return value


def _optional(arguments: Mapping[str, Any], name: str, kind: type[T]) -> T | None:
    return None if arguments.get(name) is None else _argument(arguments, name, kind)


def _within(arguments: Mapping[str, Any], name: str, lowest: int, highest: int) -> int:
    value = _argument(arguments, name, int)
    if not lowest <= value <= highest:
        raise RequestError(f"argument {name!r} must be from {lowest} to {highest}, not {value}")
    return value


def _port(arguments: Mapping[str, Any], name: str) -> int | None:
    return None if arguments.get(name) is None else _within(arguments, name, 0, 65535)

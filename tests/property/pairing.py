"""Both engines side by side: they get the same frames at the same times, and everything they say is compared.

The fast engine runs in three forms at once: with its memo, without it, and with it emptied at random. All three must
say the same to the bit, traced or not, and so must the reference engine in what AWS decides. Where AWS leaves a choice
open (the port of a NAT gateway) the fast engine proposes; the reference engine checks that the choice is admissible,
and adopts it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence, Set
from typing import Any

from dataplane.engine import DataPlane
from dataplane.names import Names
from dataplane.observe.records import Window
from dataplane.program import Direction
from dataplane.reference import InadmissibleChoiceError, ReferencePlane
from dataplane.reference.flow import Flow
from dataplane.reference.packets import Packet, read
from dataplane.reference.proposals import FULL, OWN_FULL
from dataplane.reference.room import RoomError
from dataplane.topology import Topology
from dataplane.verdict import Cause, Reason, Verdict
from fastpath.tracer import Overlay
from tests.property import script
from tests.property.disagreements import VERSIONS, Difference, IncomparableError, tolerate
from tests.property.exercised import Seen

KEEP = 2**64 - 1
"""Flow entries kept by `Engine.forget`: all of them."""
NO_QUERY = 256
"""From here on the reference engine counts types of ICMP that are no query (`Flow.query`)."""
REMEMBERED = 64
"""Emitted frames that can be answered later."""
STAGES = {"replied": "single"}
"""The fast engine tells two stages of UDP apart that the reference engine holds as one."""
ADOPTED = (Cause.FORWARDED, Cause.FRAGMENT, Cause.RELEASED, Cause.ERROR, Cause.RESET)
"""Of frames that show choices: errors and resets may go to a target too."""
ROUNDS = 8
"""So often a packet that comes out of its circle in the end may have passed one place."""
NOBODY = 0
"""The port of what is compared without a packet."""
CUT_OFF = (Reason.LOOP, Reason.PLAN_LIMIT)
"""What a packet in circles dies of."""
FORMS = ("plain", "memo", "emptied")
GENEVE = 6081
"""The port of what travels between an endpoint and its targets."""


class InCirclesError(IncomparableError):
    """A packet went in circles."""


class Pair:
    """The engines, and what is remembered of what they did.

    Args:
        topology: what all of them run.
        seed: of the fast engine's choices.
        now_ms: when it begins.
        sessions: how many there is room for.
        errors: how many ICMP errors may be sent at once about packets of one port.
    """

    def __init__(
        self,
        topology: Topology,
        *,
        seed: int = 0,
        now_ms: int = 1_000,
        sessions: int = script.SESSIONS,
        errors: int = script.ERRORS,
    ) -> None:
        self.names = Names()
        sizes = {"sessions": sessions, "errors": errors}
        self.planes = {
            form: DataPlane(topology, names=self.names, seed=seed, memo=form != "plain", flows=256, **sizes)
            for form in FORMS
        }
        self.reference = ReferencePlane(topology, names=self.names, **sizes)
        self.now = now_ms
        self.emitted: deque[tuple[int, bytes]] = deque(maxlen=REMEMBERED)
        self.news: list[tuple[int, bytes]] = []
        """What left last: port and frame."""
        self.translated: set[int] = set()
        """Addresses of NAT gateways, now or before, inside and outside."""
        self.targets: list[tuple[int, Flow, int]] = []
        """Endpoint, flow and target of what goes to targets, as both engines had it when they were compared last."""
        self.seen = Seen(self.names)
        self.windows: dict[str, dict[int, Window]] = {form: {} for form in FORMS}
        """What flow logs have seen, by form and number of the window."""
        for plane in self.planes.values():
            plane.record_flows(flows=4096)
        self._learn_gateways()

    @property
    def fast(self) -> DataPlane:
        """The fast engine without its memo."""
        return self.planes["plain"]

    def apply(self, topology: Topology) -> None:
        """Change over to another topology."""
        for plane in self.planes.values():
            plane.apply(topology)
        self.reference.apply(topology)
        self._learn_gateways()

    def send(self, port: int, frames: Sequence[bytes], *, keep: int = 0, traced: bool = True) -> None:
        """Have everybody receive frames.

        Args:
            port: through which port.
            frames: Ethernet frames, back to back.
            keep: which flow entries survive where they are emptied at random.
            traced: whether the forms with a memo trace too (where they do, they may not use it).

        Raises:
            AssertionError: they disagree.
            IncomparableError: from here on they cannot be compared.
        """
        script.sent(self.names[port].path, frames, keep, traced)
        self.planes["emptied"].engine.forget(keep)
        planned, refused = self._plan(port, frames[0]), self._refused(port)
        outcomes, emissions = self._process(port, frames, traced)
        proposals = [[e.frame for e in emissions if e.parent == n and e.cause in ADOPTED] for n in range(len(frames))]
        tales = [(*outcome.trace, *self._told_of_room(outcome)) for outcome in outcomes]
        tales[0] += self._told_of_error(planned)
        for n in {*range(1, len(frames))} - {emission.parent for emission in emissions}:
            if outcomes[n].verdict is Verdict.DROP:  # and what was to be said of it may have died too
                tales[n] += self._told_of_error(self._plan(port, frames[n]))
        own = sum(action == OWN_FULL for tale in tales for _, action, _ in tale)
        if self._refused(port) - refused != own + sum(outcome.reason is Reason.SESSION_LIMIT for outcome in outcomes):
            raise IncomparableError  # an error, or a piece that had waited, met the end of it and nobody tells where
        ports = [port] * len(frames)
        try:
            told, left = self.reference.process(frames, ports, self.now, proposals, told=tales, traced=True)
        except InadmissibleChoiceError as error:
            tolerate(Difference(self, port, frames[0], None, error))
            raise
        except RoomError:
            if {*CUT_OFF} & {outcome.reason for outcome in outcomes}:
                raise InCirclesError from None  # the reference engine goes round more often, and opens more
            raise
        if {*CUT_OFF} & {*(o.reason for o in outcomes), *(o.reason for o in told)}:
            # Where a packet in circles is cut off, and what it leaves behind, is each engine's own affair.
            for ended, expected in zip(outcomes, told, strict=True):
                both = (ended, expected)
                assert ended.verdict == expected.verdict or max(map(rounds, both)) >= ROUNDS, both
            self.seen.processed(frames, outcomes, emissions, planned["hops"])
            raise InCirclesError
        ours, theirs = [self.outcome(o) for o in outcomes], [self.outcome(o) for o in told]
        for frame, one, other in zip(frames, ours, theirs, strict=True):
            if one != other:
                tolerate(Difference(self, port, frame, one, other))
        compare(ours, theirs)
        if planned.get("error", {"reason": 0})["reason"] in CUT_OFF:
            raise InCirclesError  # what is told of a packet that had gone round has to unwind all of it
        sent, built = [self.emission(e) for e in emissions], [self.emission(e) for e in left]
        if sent != built:
            tolerate(Difference(self, port, frames[0], sent, built))
        compare(sent, built)
        if not is_fragment(frames[0]):
            self._compare_plan(planned, outcomes[0])
        self.seen.processed(frames, outcomes, emissions, planned["hops"])
        if planned["hops"] and frames[0][:6] != self.reference.interface(port).router_mac:
            self.seen.bridged()
        self.news = [(e.port, e.frame) for e in emissions]
        self.emitted.extend(self.news)
        self.compare_memories()

    def advance(self, wait_ms: int) -> None:
        """Let time pass: the same must die of it, and the meters of NAT gateways show the same."""
        script.advanced(wait_ms)
        self.now += wait_ms
        results = {form: plane.advance(self.now) for form, plane in self.planes.items()}
        for form in FORMS[1:]:
            assert results[form] == results["plain"], form
        outcomes, emissions = results["plain"]
        told, left = self.reference.advance(self.now)
        self.compare_drops()
        compare([self.outcome(o) for o in outcomes], [self.outcome(o) for o in told])
        assert not [*emissions, *left], "nothing is sent because of time alone"
        self.seen.died(outcomes)
        self.news = []
        waiting = {form: plane.engine.statistics()["fragments_waiting"] for form, plane in self.planes.items()}
        assert waiting == dict.fromkeys(FORMS, self.reference.fragments_waiting)
        meters = self.reference.nat_metrics()
        for form, plane in self.planes.items():
            shown = plane.nat_metrics()  # of gateways that are gone too
            compare([(name, shown[name]) for name in meters], list(meters.items()), form)
        self.compare_memories()

    def compare_memories(self) -> None:
        """Sessions are the same, counters of all forms too, and tables are sound."""
        rows = {form: plane.engine.sessions() for form, plane in self.planes.items()}
        counters = {form: plane.engine.counters() for form, plane in self.planes.items()}
        plain = sorted(map(repr, rows["plain"]))
        for form, plane in self.planes.items():
            plane.engine.selfcheck()
            if form != "plain":
                assert sorted(map(repr, rows[form])) == plain, form
                assert counters[form] == counters["plain"], form
        withheld = {p: row["errors_withheld"] for p, row in counters["plain"].items() if row["errors_withheld"]}
        assert withheld == dict(self.reference.router.errors.withheld), "errors that were too many"
        if withheld:
            self.seen.note("feature ICMP error withheld")
        ours, theirs = Counter(map(self._session, rows["plain"])), Counter(self._remembered())
        if ours != theirs:
            tolerate(Difference(self, NOBODY, b"", ours, theirs))
        assert ours == theirs, f"sessions only of fast: {[*(ours - theirs)]}\nonly of reference: {[*(theirs - ours)]}"
        self._compare_balanced(rows["plain"])
        balanced = self.reference.router.balancers.all(self.now)
        self.targets = [(endpoint, each.flow, each.target) for endpoint, each in balanced]
        self.compare_records()

    def compare_records(self) -> None:
        """What flow logs see is the same: every form of the fast engine to the bit, and the reference engine."""
        for form, plane in self.planes.items():
            for number, window in plane.take_flow_records(unfinished=True)[1].items():
                self.windows[form].setdefault(number, Window()).add(window)
        for form in FORMS[1:]:
            assert self.windows[form] == self.windows["plain"], form
        assert not any(window.lost or window.lost_anywhere for window in self.windows["plain"].values())
        ours, theirs = Counter[Any](), Counter[Any]()
        for number, window in self.windows["plain"].items():
            for flow, count in window.flows.items():
                ends = flow.source, flow.destination, flow.source_port, flow.destination_port
                key = number, flow.interface, flow.direction is Direction.EGRESS, flow.refused, flow.protocol, flow.path
                self._add(ours, key, ends, count)
        for record, seen in self.reference.router.records.found.items():
            ends = record.source, record.destination, record.source_port, record.destination_port
            at = record.window, record.interface, record.leaves, record.refused, record.protocol, record.path
            self._add(theirs, at, ends, seen)
        if theirs:
            self.seen.note("construct flow_log", "operation point")
        assert ours == theirs, f"records only of fast: {[*(ours - theirs)]}\nonly of reference: {[*(theirs - ours)]}"

    def _add(self, counted: Counter[Any], key: tuple[Any, ...], ends: tuple[Any, ...], count: Any) -> None:
        """Count packets, bytes and flags of a record, without ports that a NAT gateway or an endpoint chose."""
        source, destination, source_port, destination_port = ends
        is_chosen = bool({int(source), int(destination)} & self.translated)
        if destination_port == GENEVE:
            source_port, is_chosen = 0, True
        key = (*key, *self._end(int(source), source_port), *self._end(int(destination), destination_port))
        counted[*key, "packets"] += count.packets
        counted[*key, "bytes"] += count.bytes
        if not is_chosen:
            counted[*key, "times", count.first_ms, count.last_ms, count.tcp_flags] += 1

    def _compare_balanced(self, rows: Sequence[dict[str, Any]]) -> None:
        """Flows that were seen have the same target and cookie; at one endpoint no two living flows share a cookie."""
        ours = [row for row in rows if row["kind"] == "balancer"]
        cookies = [(row["owner"], row["cookie"]) for row in ours]
        assert len(set(cookies)) == len(cookies), f"cookies that are not unique: {cookies}"
        chosen = {(row["owner"], row["cookie"]): row["target"] for row in ours}
        for owner, flow in self.reference.router.balancers.all(self.now):
            if flow.is_seen:
                target = chosen.get((owner, flow.cookie))
                assert target is not None, f"only of reference: cookie {flow.cookie:#x} of {flow.flow}"
                assert not flow.is_target_seen or flow.target == target, (
                    f"targets of {flow.flow}: fast {self.names[target]}, reference {self.names[flow.target]}"
                )

    def compare_drops(self) -> None:
        """The same died at each port, once time has passed for both: waiting fragments die of it, sooner or later."""
        drops, known = self._drops()
        assert drops == known, f"drops counted: fast {drops}, reference {known}"

    def _drops(self) -> tuple[dict[int, dict[Reason, int]], dict[int, dict[Reason, int]]]:
        """What died at each port, of the fast engine and of the reference engine."""
        drops = {
            port: {Reason(reason): count for reason, count in row["reasons"].items()}
            for port, row in self.fast.engine.counters().items()
            if row["reasons"]
        }
        # What came in where no interface is has no port to be counted at.
        return drops, {port: dict(found) for port, found in self.reference.drops.items() if found}

    # -- one by one

    def _process(self, port: int, frames: Sequence[bytes], traced: bool) -> tuple[list[Any], list[Any]]:
        results = {}
        for form, plane in self.planes.items():
            tells = form == "plain" or traced
            results[form] = plane.process(frames, [port] * len(frames), self.now, traced=tells)
        outcomes, emissions = results["plain"]
        for form in FORMS[1:]:
            others, left = results[form]
            if traced:
                compare([self.outcome(o) for o in others], [self.outcome(o) for o in outcomes], form, "plain")
            else:
                compare([self.outcome(o)[:4] for o in others], [self.outcome(o)[:4] for o in outcomes], form, "plain")
            assert left == emissions, form
        return outcomes, emissions

    @staticmethod
    def _told_of_error(planned: dict[str, Any]) -> tuple[tuple[int, str, int], ...]:
        """Targets that what the network has to say of a packet would go to, and where there is no room for its
        connection, as a trace tells them."""
        if (error := planned.get("error")) is None:
            return ()
        full = ((error["object"], OWN_FULL, 0),) if error["reason"] == Reason.SESSION_LIMIT else ()
        hops = [hop for hop in error["hops"] if hop["detail"] == "encapsulated"]
        return (*full, *((hop["object"], "encapsulate", hop["rule"]) for hop in hops))

    @staticmethod
    def _told_of_room(outcome: Any) -> tuple[tuple[int, str, int], ...]:
        """Where there was no room for its connection."""
        if outcome.reason is not Reason.SESSION_LIMIT:
            return ()
        before = sum(object_ == outcome.object and action != "drop" for object_, action, _ in outcome.trace)
        return ((outcome.object, FULL, before),)

    def _refused(self, port: int) -> int:
        """How many packets of a port, or about its packets, have found no room for their connection."""
        row = self.fast.engine.counters().get(port, {"reasons": {}})
        found: int = row["reasons"].get(Reason.SESSION_LIMIT, 0)
        return found

    def _plan(self, port: int, frame: bytes) -> dict[str, Any]:
        """What `vpclab trace` would say of a frame, before it is sent."""
        return self.fast.engine.trace(frame, port, Overlay(), self.now)

    def _compare_plan(self, planned: dict[str, Any], outcome: Any) -> None:
        """What was planned is what became of it."""
        found: tuple[int, ...] = (outcome.verdict, outcome.reason, outcome.object, outcome.rule)
        if outcome.verdict is not Verdict.DROP or not planned["hops"]:
            found = found[:2]
        promised = tuple(planned[each] for each in ("verdict", "reason", "object", "rule")[: len(found)])
        assert found == promised, f"processed: {found}, planned: {promised}"

    def outcome(self, outcome: Any) -> tuple[Any, ...]:
        """An outcome in words: verdict, reason, who decided, by what rule, and the trace."""
        trace = [(str(self.names[o]), action, str(self.names[r])) for o, action, r in outcome.trace]
        object_, rule = str(self.names[outcome.object]), str(self.names[outcome.rule])
        return outcome.verdict.name, outcome.reason.name, object_, rule, tuple(trace)

    def emission(self, emission: Any) -> tuple[str, str, int, str]:
        """An emission in words: who gets it, why, because of which frame, and its bytes."""
        return str(self.names[emission.port]), emission.cause.name, emission.parent, emission.frame.hex()

    def _learn_gateways(self) -> None:
        for gateway in self.reference.router.inventory.nat_gateways.values():
            self.translated.update(map(int, gateway.known_as))

    def _end(self, address: int, port: int) -> tuple[int, int]:
        """One end of a flow; without what a NAT gateway chose, which may never have been seen outside."""
        return (0, 0) if address in self.translated else (address, port)

    def remembered_but_for_stand_ins(self) -> Counter[Any]:
        """Sessions of the reference engine, without those in which nobody's port stands in for one of a NAT gateway.

        The port that it had chosen for a packet that died has become another, which a later one has shown.
        """
        fast, reference = self.chosen_ports()
        held = {(int(each.address), each.port) for _, each in self.reference.router.nat.all(self.now)}
        return Counter(self._remembered(but=reference - fast - held))

    def chosen_ports(self) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
        """Addresses of NAT gateways with the ports chosen there: of the fast engine, and of the reference engine."""
        outside = {"nat": "reply", "flow": "forward", "balancer": "forward"}
        rows = [row[outside[row["kind"]]] for row in self.fast.engine.sessions() if row["kind"] in outside]
        router = self.reference.router
        memories = (router.sent_by_nat, router.to_services)
        flows = [flow for memory in memories for _, flow, _ in memory.live(self.now)]
        flows += [connection.outside for _, connection in router.nat.all(self.now)]
        flows += [each.flow for _, each in router.balancers.all(self.now)]
        ours = {end for _, source, to, _, port, to_port in rows for end in ((source, port), (to, to_port))}
        theirs = {(int(f.source), f.source_port) for f in flows} | {
            (int(f.destination), f.destination_port) for f in flows
        }
        return self._of_gateways(ours), self._of_gateways(theirs)

    def _of_gateways(self, ends: set[tuple[int, int]]) -> set[tuple[int, int]]:
        return {end for end in ends if end[0] in self.translated}

    def _session(self, row: dict[str, Any]) -> tuple[Any, ...]:
        _, source, destination, protocol, source_port, destination_port = row["forward"]
        if protocol in (1, 58):  # the identifier is where the request's is
            source_port, destination_port = max(source_port, destination_port), 0
        ends = *self._end(source, source_port), *self._end(destination, destination_port)
        return row["kind"], str(self.names[row["owner"]]), protocol, *ends, STAGES.get(row["state"], row["state"])

    def _remembered(self, but: Set[tuple[int, int]] = frozenset()) -> Iterable[tuple[Any, ...]]:
        for each in self.reference.sessions():
            flow = each.flow
            if {(int(flow.source), flow.source_port), (int(flow.destination), flow.destination_port)} & but:
                continue
            port, far_port = flow.source_port, 0 if flow.protocol in (1, 58) else flow.destination_port
            if flow.query >= NO_QUERY:  # the fast engine has the type in the place of an identifier
                port = flow.query - NO_QUERY
            ends = *self._end(int(flow.source), port), *self._end(int(flow.destination), far_port)
            yield each.kind, str(self.names[each.owner]), flow.protocol, *ends, each.stage.value


def compare(fast: list[Any], reference: list[Any], one: str = "fast", other: str = "reference") -> None:
    """Two lists are the same, or both are shown."""
    assert fast == reference, "\n".join(["", f"{one}:", *map(str, fast), f"{other}:", *map(str, reference)])


def rounds(outcome: Any) -> int:
    """How often a packet has passed the place that it passed most often."""
    return max(Counter((object_, action) for object_, action, _ in outcome.trace).values(), default=0)


def is_fragment(frame: bytes) -> bool:
    """Whether there is a piece of a datagram in a frame: what becomes of it depends on the others."""
    version = VERSIONS.get(frame[12:14])
    packet = read(version, frame[14:]) if version else None
    return isinstance(packet, Packet) and packet.fragment is not None

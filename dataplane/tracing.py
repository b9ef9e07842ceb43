"""From the fast path's trace rows (numbers) to `dataplane.trace` values (names)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from dataplane.names import Name, Names
from dataplane.probe import UDP, Probe, as_packet
from dataplane.trace import QUIET, TOLD, Action, Packet, Step, Walk, hops_of
from dataplane.verdict import Reason, Verdict

# (operation, what it did) -> action; a pair not listed falls back to the operation's own entry.
_ACTIONS: dict[tuple[str, str], Action] = {
    ("group-session", "new"): Action.TRACK,
    ("group-session", "untracked"): Action.PERMIT,
    ("group-session", "passed"): Action.PERMIT,
    ("group-session", "known"): Action.MATCH,
    ("group-session", "related"): Action.MATCH,
    ("filter", "passed"): Action.PERMIT,
    ("filter", "skipped"): Action.SKIP,
    ("nat-session", "new"): Action.TRANSLATE,
    ("nat-session", "known"): Action.TRANSLATE,
    ("nat-session", "inbound"): Action.TRANSLATE,
    ("nat-session", "fragments"): Action.FRAGMENT,
    ("lookup", "passed"): Action.ROUTE,
    ("rewrite", "passed"): Action.TRANSLATE,
    ("rewrite", "skipped"): Action.SKIP,
    ("hop", "passed"): Action.HOP,
    ("hop", "fragments"): Action.FRAGMENT,
    ("enter", "passed"): Action.CROSS,
    ("emit", "passed"): Action.DELIVER,
    ("serve", "passed"): Action.ANSWER,
    ("guard", "passed"): Action.CHECK,
    ("encapsulate", "encapsulated"): Action.ENCAPSULATE,
    ("decapsulate", "decapsulated"): Action.DECAPSULATE,
    ("return", "passed"): Action.RETURN,
    ("send-on", "passed"): Action.SEND_ON,
    ("flow-gate", "new"): Action.OPEN,
    ("flow-gate", "known"): Action.KNOWN,
    ("flow-gate", "related"): Action.KNOWN,
}
_NOTES: dict[tuple[str, str], str] = {
    ("group-session", "untracked"): "not tracked",
    ("group-session", "related"): "an ICMP error about it",
    ("nat-session", "new"): "new connection",
    ("nat-session", "known"): "known connection",
    ("nat-session", "inbound"): "reply of a known connection",
    ("flow-gate", "related"): "an ICMP error about it",
}
_TRACKED_BY = ("nat-gateway", "egress-only-internet-gateway")
"""Kinds of the gateways by which groups track every flow, whatever their rules say."""
_TRACKED_SERVICE = Name("aws-service", "dynamodb")
"""The service of which the same holds for gateway endpoints."""

OUTER_TTL, OUTER_BYTES, UDP_HEADERS = 255, 68, 28
"""Of the packet that a load balancer puts around another."""

TraceStep = tuple[int, str, int]
"""(object, action, rule): what decided in one step, as numbers of `Names`; actions are `dataplane.trace.Action`."""

_TOLD = frozenset(Action) - QUIET - {Action.SEND, Action.CROSS}


def steps_of(
    story: Iterable[tuple[str, str, int, int]], verdict: Verdict, object_: int, rule: int
) -> tuple[TraceStep, ...]:
    """The steps of one processed packet that decided something, from the rows of `Engine.process`.

    A packet that was dropped or answered before it came to any node has that one step.
    """
    steps: list[TraceStep] = []
    for operation, detail, at, by in story:
        action = Action.DROP if detail == "dropped" else _ACTIONS[operation, detail]
        if action in _TOLD:
            steps.append((at, action.value, by))
    ends = {Verdict.DROP: Action.DROP, Verdict.SERVE: Action.ANSWER}
    if verdict in ends and (not steps or steps[-1][1] != ends[verdict]):
        steps.append((object_, ends[verdict].value, rule))
    return tuple(steps)


def walk_of(answer: Mapping[str, Any], probe: Probe, start: Name, names: Names, inside: Probe | None = None) -> Walk:
    """The walk that `Engine.trace` answered for `probe`, which was sent by the interface named `start`.

    `inside`: what is in it, if it was sent as the packet around another one.
    """
    rows = list(_steps(answer, probe, start, names, inside))
    rule = names[answer["rule"]] if answer["rule"] else None
    verdict = Verdict(answer["verdict"])
    return Walk(
        hops=hops_of(rows),
        verdict=verdict,
        reason=Reason(answer["reason"]),
        object=names[answer["object"]] if answer["object"] else None,
        rule=rule if verdict is Verdict.DROP else None,
        assumed=answer.get("assumed", ()),
        astray=answer.get("astray", ""),
    )


def _steps(
    answer: Mapping[str, Any], probe: Probe, start: Name, names: Names, inside: Probe | None
) -> Iterator[tuple[Name, Step]]:
    ports = (probe.source_port, probe.destination_port)
    yield start, Step(action=Action.SEND, packet=as_packet(probe, probe.source, probe.destination, ports))
    is_inside = False
    ttls = _ttls(answer["hops"], probe, inside)
    for number, row in enumerate(answer["hops"]):
        key = (row["op"], row["detail"])
        if row["detail"] == "decapsulated" and not is_inside and inside is not None:
            probe = inside
        is_inside = row["detail"] == "encapsulated" or (is_inside and row["detail"] != "decapsulated")
        packet = _packet_at(row, probe, ttls[number], is_inside=is_inside)
        action = Action.DROP if row["detail"] == "dropped" else _ACTIONS[key]
        note = _NOTES.get(key, "")
        if key == ("group-session", "untracked"):
            gateway = _tracker(answer["hops"], number, names)
            note = note if gateway is None else f"tracked, as it goes by {gateway}"
        if (action, row["op"], names[row["object"]].kind) == (Action.DROP, "filter", "network-acl") and not row["rule"]:
            note = "implicit deny: rule *"
        if row["cookie"]:
            note = f"flow cookie 0x{row['cookie']:08x}"
        yield (
            names[row["object"]],
            Step(action=action, rule=names[row["rule"]] if row["rule"] else None, packet=packet, note=note),
        )
    error = answer.get("error")
    if error:
        what = TOLD if error["verdict"] == Verdict.FORWARD else "an ICMP error was due, but did not get through"
        last = answer["hops"][-1]
        packet = _packet_at(last, probe, ttls[-1], is_inside=is_inside)
        yield names[last["object"]], Step(action=Action.ANSWER, packet=packet, note=what)


def _tracker(rows: Sequence[Mapping[str, Any]], at: int, names: Names) -> Name | None:
    """The gateway by which groups track what passed them at the row `at`, whatever their rules say.

    Only what one packet passes counts: inside another one, or sent by another instance, it is another one.
    """
    begins = (n + 1 for n in reversed(range(at)) if _ends_leg(rows[n]))
    ends = (n for n in range(at, len(rows)) if _ends_leg(rows[n]))
    leg = rows[next(begins, 0) : next(ends, len(rows))]
    passed = [names[row["object"]] for row in leg if row["detail"] != "dropped"]
    kinds = (*_TRACKED_BY, "vpc-endpoint") if _TRACKED_SERVICE in passed else _TRACKED_BY
    return next((name for name in passed if name.kind in kinds), None)


def _ends_leg(row: Mapping[str, Any]) -> bool:
    return row["op"] in ("encapsulate", "decapsulate", "return", "send-on")


def _ttls(rows: Sequence[Mapping[str, Any]], probe: Probe, inside: Probe | None) -> list[int]:
    """The TTL at each row. Rows tell what was taken off the packet since it was sent, or made of another one."""
    told: list[int] = []
    ttl, within, family = probe.ttl, probe.ttl if inside is None else inside.ttl, 0
    for row in rows:
        so_far = told[-1] if told else ttl
        if row["detail"] == "encapsulated":
            ttl, within = OUTER_TTL, so_far
        elif row["detail"] == "decapsulated":
            ttl = within
        elif row["op"] == "send-on":
            ttl = so_far - 1
        elif row["op"] == "return" or row["family"] != family:
            ttl = so_far
        family = row["family"]
        told.append(ttl - row["ttl_spent"])
    return told


def _packet_at(row: Mapping[str, Any], probe: Probe, ttl: int, *, is_inside: bool) -> Packet:
    """`probe`, or the GENEVE packet that it is inside, as it was at the hop that `row` is about."""
    address = IPv4Address if row["family"] == 4 else IPv6Address
    ports = (row["source_port"], row["destination_port"])
    source, destination = address(row["source"]), address(row["destination"])
    if is_inside:
        # 68 bytes in front of it (RFC 8926, and the options of a gateway load balancer)
        length = as_packet(probe, probe.source, probe.destination, ports).length_bytes
        probe = Probe(
            source=source,
            destination=destination,
            protocol=UDP,
            source_port=ports[0],
            destination_port=ports[1],
            payload=bytes(length + OUTER_BYTES - UDP_HEADERS),
        )
    return replace(as_packet(probe, source, destination, ports), ttl=ttl)

"""Whether a check holds, by the course of its probe, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dataplane.analysis.course import Course, Found, Leg
from dataplane.analysis.wording import groups_asked, with_note
from dataplane.model.check import Check, Resolved
from dataplane.trace import Walk
from dataplane.trace_text import provided, render_verdict
from dataplane.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one check."""

    check: Check
    number: int
    """Its place in the list, from 1."""
    resolved: Resolved
    holds: bool
    found: Found
    why: str
    """One line: what decided, or what is missing."""
    passed: tuple[str, ...]
    """What the probe passed on its way there, in order, as checks spell it."""
    source_seen: str
    source_port: int
    """Of the probe; 0 where the protocol has none."""
    assumed: tuple[str, ...]
    legs: tuple[Leg, ...]
    blocked_by: Leg | None = None
    """The leg that the network ended, when it was `Found.BLOCKED`."""
    refused: bool = False
    """The answer was a TCP reset: the way is open, and nobody listens."""
    groups: tuple[str, ...] = ()
    """The security groups none of whose rules allowed it, as ``VPC/NAME``; when it was dropped by no rule of them."""


def judge(number: int, course: Course) -> Result:
    """Judge the check that a finished course is of."""
    check, found = course.resolved.check, course.found
    passed = tuple(_passed(course))
    if check.can is not None:
        holds, why = _judge_can(check, course, passed)
    else:
        holds, why = found is Found.BLOCKED, what_became(course)
        if found in (Found.ARRIVED, Found.LOST, Found.UNSENT):
            why = f"not proven: {why}"
    blocked = course.blocked_by if found is Found.BLOCKED else None
    return Result(
        check=check,
        number=number,
        resolved=course.resolved,
        holds=holds,
        found=found,
        why=why,
        passed=passed,
        source_seen=course.source_seen,
        source_port=course.source_port,
        assumed=tuple(course.assumed),
        legs=tuple(course.legs),
        blocked_by=blocked,
        refused=found is Found.ANSWERED and course.refused,
        groups=()
        if blocked is None or blocked.object is None
        else groups_asked(course.topology, blocked.reason, blocked.object),
    )


def _judge_can(check: Check, course: Course, passed: tuple[str, ...]) -> tuple[bool, str]:
    why = what_became(course)
    if course.found is not Found.ANSWERED:
        return False, why
    missing = _missing(check, passed)
    if missing:
        by = f"it passed {', '.join(passed)}" if passed else "it passed none of these"
        return False, f"it arrived, but not via {missing}: {by}"
    if check.source_seen is not None and str(check.source_seen) != course.source_seen:
        seen = f"seen as {course.source_seen}" if course.source_seen else "a router answered, and no node has seen it"
        return False, f"it arrived, but {seen}"
    return True, why


def _missing(check: Check, passed: tuple[str, ...]) -> str:
    """The first waypoint that was not passed in its turn, or an empty text."""
    rest = iter(passed)
    return next((str(each) for each in check.waypoints if str(each) not in rest), "")


def what_became(course: Course) -> str:
    """One line: how far the probe came, and what decided."""
    match course.found:
        case Found.ANSWERED:
            parts = ["answered, by a reset: nobody listens" if course.refused else "answered"]
            if course.stand_in:
                parts.append("in place of a program that did not")
            if course.source_seen and course.source_seen != str(course.resolved.source):
                parts.append(f"seen as {course.source_seen}")
            return ", ".join([*parts, *_assumptions(course)])
        case Found.BLOCKED:
            leg = course.blocked_by
            assert leg is not None
            return ", ".join(
                [("the answer is " if leg.is_answer else "") + verdict_of(course, leg), *_assumptions(course)]
            )
        case Found.ARRIVED:
            return f"it arrived at {course.legs[-1].receiver}, and no answer came{_trouble(course)}"
        case Found.LOST if course.answered_instead is not None:
            return f"it never arrived: {course.answered_instead} answered in its place{_trouble(course)}"
        case Found.LOST:
            last = course.legs[-1]
            what = "the answer" if last.is_answer else "it"
            return f"{what} arrived at {last.receiver or last.sender}, which did not send it on{_trouble(course)}"
        case Found.UNSENT:
            return f"it was never sent{_trouble(course)}"


def _assumptions(course: Course) -> Iterator[str]:
    if course.assumed:
        yield provided(course.assumed)


def _trouble(course: Course) -> str:
    return f" ({course.trouble})" if course.trouble else ""


def verdict_of(course: Course, leg: Leg) -> str:
    """What became of one frame, in the words of traces."""
    walk = Walk(hops=(), verdict=leg.verdict, reason=leg.reason, object=leg.object, rule=leg.rule)
    return render_verdict(with_note(course.topology, walk)) if leg.verdict is Verdict.DROP else render_verdict(walk)


def _passed(course: Course) -> Iterator[str]:
    """What the probe passed, as `Waypoint` spells it; the same thing twice in a row is told once."""
    last = ""
    for each in _ways(course):
        if each != last:
            yield each
        last = each


def _ways(course: Course) -> Iterator[str]:
    there = [leg for leg in course.legs if not leg.is_answer]
    for index, leg in enumerate(there):
        # what the sender sends once more is no instance that it passes
        if index and leg.sender.kind == "interface" and leg.sender.path != course.resolved.sender.path:
            yield f"instance:{leg.sender.path.partition('/')[0]}"
        for step in leg.steps:
            if step.rule is not None and step.rule.kind == "route":
                yield from _by_route(step.rule.path)
            elif step.object.kind in ("nat-gateway", "vpc-endpoint"):
                yield str(step.object).replace(" ", ":", 1)


def _by_route(path: str) -> Iterator[str]:
    """What a route such as ``shop/public 0.0.0.0/0 -> nat-gateway:nat`` leads to."""
    vpc = path.partition(" ")[0].partition("/")[0]
    kind, colon, name = path.rpartition(" -> ")[2].partition(":")
    match kind:
        case "internet-gateway":
            yield f"{kind}:{name if colon else vpc}"
        case "egress-only-internet-gateway":
            yield f"{kind}:{vpc}"
        case "nat-gateway" | "vpc-endpoint":
            yield f"{kind}:{vpc}/{name}"
        case "peering":
            yield f"{kind}:{name}"

"""Results of checks as text, JUnit XML and JSON."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from typing import Any

from dataplane.analysis.course import Leg
from dataplane.analysis.judge import Result
from dataplane.names import Name
from dataplane.trace import Action
from dataplane.trace_text import ACTION_TEXT, object_text, rule_text
from dataplane.verdict import REASON_TEXT, Verdict

JSON_VERSION = 1
_UNWRITABLE = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def story(result: Result) -> Iterator[str]:
    """Yield the lines that tell how far the packet came: each frame, what decided on its way, what became of it."""
    for leg in result.legs:
        what = "answers" if leg.is_answer else "sends"
        yield f"{leg.sender.path} {what} {leg.packet}"
        names = [object_text(step.object) for step in leg.steps]
        width = max(map(len, names), default=0)
        for name, step in zip(names, leg.steps, strict=True):
            if step.action != Action.DROP:
                by = f" ({rule_text(step.rule, step.object)})" if step.rule else ""
                yield f"    {name:<{width}}  {ACTION_TEXT[Action(step.action)]}{by}"
        if leg.verdict is not Verdict.DROP:
            after = f" as {leg.received}" if leg.received not in ("", leg.packet) else ""
            yield f"  => arrives at {leg.receiver}{after}" if leg.receiver else "  => answered by the router"
    yield f"  => {result.why}"


def as_json(results: Sequence[Result], *, file: str, how: str) -> dict[str, Any]:
    """Return the results as a JSON object; keys are only ever added.

    `how` is ``packets`` or ``static``.
    """
    return {
        "version": JSON_VERSION,
        "file": file,
        "decided_by": how,
        "holds": all(each.holds for each in results),
        "checks": [_result(each) for each in results],
    }


def _result(result: Result) -> dict[str, Any]:
    check, leg = result.check, result.blocked_by
    return {
        "number": result.number,
        "check": str(check),
        "claim": check.claim,
        "from": check.ends.source,
        "to": check.ends.destination,
        "source": str(result.resolved.source),
        "destination": str(result.resolved.destination),
        "protocol": result.resolved.protocol,
        "port": check.port,
        "because": check.because,
        "holds": result.holds,
        "found": result.found.value,
        "why": result.why,
        "source_seen": result.source_seen or None,
        "passed": list(result.passed),
        "assumed": list(result.assumed),
        "dropped": None
        if leg is None
        else {
            "answer": leg.is_answer,
            "object": _name(leg.object),
            "rule": _name(leg.rule),
            "reason": leg.reason.name,
            "text": REASON_TEXT[leg.reason].text,
            "aws_code": REASON_TEXT[leg.reason].aws_code,
        },
        "legs": [_leg(each) for each in result.legs],
    }


def _leg(leg: Leg) -> dict[str, Any]:
    return {
        "answer": leg.is_answer,
        "sender": _name(leg.sender),
        "packet": leg.packet,
        "verdict": leg.verdict.name,
        "reason": leg.reason.name,
        "receiver": _name(leg.receiver),
        "received": leg.received or None,
        "steps": [
            {"object": _name(step.object), "action": step.action, "rule": _name(step.rule)} for step in leg.steps
        ],
    }


def _name(name: Name | None) -> dict[str, str] | None:
    return None if name is None else {"kind": name.kind, "path": name.path}


def as_junit(results: Sequence[Result], *, name: str, file: str, seconds: float) -> str:
    """Return the results as JUnit XML, as CI systems read it: one test case for each check.

    `name` is the lab's; the whole took `seconds`.
    """
    failures = sum(not each.holds for each in results)
    counts = {"tests": str(len(results)), "failures": str(failures), "errors": "0", "time": f"{seconds:.3f}"}
    root = ET.Element("testsuites", {"name": "vpclab check", **counts})
    suite = ET.SubElement(root, "testsuite", {"name": name, "file": file, "skipped": "0", **counts})
    for each in results:
        case = ET.SubElement(
            suite, "testcase", {"classname": f"vpclab.{name}", "name": f"{each.number}. {each.check}", "file": file}
        )
        if not each.holds:
            failure = ET.SubElement(case, "failure", {"message": _clean(each.why), "type": each.found.value})
            because = [f"because {each.check.because}"] if each.check.because else []
            failure.text = _clean("\n".join(["", *because, *story(each), ""]))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _clean(text: str) -> str:
    """Without what XML 1.0 has no notation for; a lab file may hold it in ``because``."""
    return _UNWRITABLE.sub("?", text)

"""Results of checks as plain values, and these as text, JUnit XML and one JSON document."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dataplane.analysis.course import Leg
from dataplane.analysis.judge import Result
from dataplane.names import Name
from dataplane.trace import Action
from dataplane.trace_text import ACTION_TEXT, object_text, rule_text
from dataplane.verdict import REASON_TEXT, Verdict, aws_code

JSON_VERSION = 1
_UNWRITABLE = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Row = Mapping[str, Any]
"""A result as `row_of` gives it."""


def row_of(result: Result) -> dict[str, Any]:
    """Return a result as a JSON object; keys are only ever added."""
    check, leg = result.check, result.blocked_by
    ends = str(result.resolved.source), str(result.resolved.destination)
    return {
        "number": result.number,
        "check": str(check),
        "claim": check.claim,
        "from": check.ends.source,
        "to": check.ends.destination,
        "source": ends[0],
        "destination": ends[1],
        "protocol": result.resolved.protocol,
        "port": check.port,
        "source_port": result.source_port,
        "packet_size": check.packet_size,
        "because": check.because,
        "holds": result.holds,
        "found": result.found.value,
        "refused": result.refused,
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
            "groups": list(result.groups),
            "reason": leg.reason.name,
            "text": REASON_TEXT[leg.reason].text,
            "aws_code": aws_code(leg.reason, *(reversed(ends) if leg.is_answer else ends)),
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


def document(rows: Sequence[Row], *, file: str, how: str) -> dict[str, Any]:
    """Return all results as one JSON object. `how` is ``packets`` or ``static``."""
    return {
        "version": JSON_VERSION,
        "file": file,
        "decided_by": how,
        "holds": all(row["holds"] for row in rows),
        "checks": list(rows),
    }


def story(row: Row) -> Iterator[str]:
    """Yield the lines that tell how far the packet came: each frame, what decided on its way, what became of it."""
    for leg in row["legs"]:
        what = "answers" if leg["answer"] else "sends"
        yield f"{leg['sender']['path']} {what} {leg['packet']}"
        steps = [(Name(**step["object"]), step["action"], step["rule"]) for step in leg["steps"]]
        width = max((len(object_text(name)) for name, _, _ in steps), default=0)
        for name, action, rule in steps:
            if action != Action.DROP:
                by = f" ({rule_text(Name(**rule), name)})" if rule else ""
                yield f"    {object_text(name):<{width}}  {ACTION_TEXT[Action(action)]}{by}"
        if leg["verdict"] != Verdict.DROP.name:
            yield f"  => {_end(leg)}"
    yield f"  => {row['why']}"


def _end(leg: Row) -> str:
    if leg["receiver"] is None:
        return "answered by the router"
    after = f" as {leg['received']}" if leg["received"] not in (None, leg["packet"]) else ""
    return f"arrives at {Name(**leg['receiver'])}{after}"


def as_junit(rows: Sequence[Row], *, name: str, file: str, seconds: float) -> str:
    """Return the results as JUnit XML, as CI systems read it: one test case for each check.

    `name` is the lab's; the whole took `seconds`.
    """
    failures = sum(not row["holds"] for row in rows)
    counts = {"tests": str(len(rows)), "failures": str(failures), "errors": "0", "time": f"{seconds:.3f}"}
    root = ET.Element("testsuites", {"name": "vpclab check", **counts})
    suite = ET.SubElement(root, "testsuite", {"name": name, "file": file, "skipped": "0", **counts})
    for row in rows:
        case = ET.SubElement(
            suite, "testcase", {"classname": f"vpclab.{name}", "name": f"{row['number']}. {row['check']}", "file": file}
        )
        if not row["holds"]:
            failure = ET.SubElement(case, "failure", {"message": _clean(row["why"]), "type": row["found"]})
            because = [f"because {row['because']}"] if row["because"] else []
            failure.text = _clean("\n".join(["", *because, *story(row), ""]))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _clean(text: str) -> str:
    """Without what XML 1.0 has no notation for; a lab file may hold it in ``because``."""
    return _UNWRITABLE.sub("?", text)

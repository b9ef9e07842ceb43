"""Traces as people read them: hops under each other, and one line that says what decided."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from dataplane.names import Name
from dataplane.trace import QUIET, Action, Hop, Step, Trace, Walk
from dataplane.verdict import REASON_TEXT, Reason, Verdict

ACTION_TEXT = {
    Action.SEND: "sends",
    Action.CHECK: "check passed",
    Action.SKIP: "not crossed",
    Action.PERMIT: "permits",
    Action.TRACK: "new flow",
    Action.MATCH: "known flow",
    Action.OPEN: "remembers the flow",
    Action.KNOWN: "knows the flow",
    Action.ENCAPSULATE: "sends to target",
    Action.DECAPSULATE: "takes back from target",
    Action.RETURN: "is taken to send it back",
    Action.SEND_ON: "is taken to send it on",
    Action.ROUTE: "routes",
    Action.TRANSLATE: "translates",
    Action.CROSS: "crosses",
    Action.HOP: "hop",
    Action.FRAGMENT: "fragments",
    Action.DELIVER: "receives",
    Action.ANSWER: "answers",
    Action.HOLD: "holds the fragment",
    Action.DROP: "drops",
}
"""What an object does with a packet, in words that follow its name."""


def render(trace: Trace, *, width: int = 100, everything: bool = False) -> str:
    """Draw both directions for a terminal of `width` columns (at least 60).

    One line per hop, ``n  object  what happened (rule)  packet as it left``; long texts wrap within their own
    column. `everything` also shows the checks that merely passed.
    """
    width = max(width, 60)
    lines = _wrap(f"{trace.source} -> {trace.destination}   {_first_packet(trace.forward)}", width)
    lines += _walk_lines(trace.forward, width, everything)
    if trace.reply is not None:
        title = f"{trace.destination} -> {trace.source}   the answer: {_first_packet(trace.reply)}"
        lines += ["", *_wrap(title, width), *_walk_lines(trace.reply, width, everything)]
    return "\n".join(lines)


def render_verdict(walk: Walk) -> str:
    """One line: what became of the packet, and which rule or object decided, provided what."""
    return _verdict(walk) + (f", {provided(walk.assumed)}" if walk.assumed else "")


def provided(assumed: Sequence[str]) -> str:
    """In words: what was taken for granted of instances on the way."""
    return f"provided that {' and '.join(assumed)} sends it on"


def _verdict(walk: Walk) -> str:
    where = f" by {object_text(walk.object)}" if walk.object else ""
    if walk.astray:
        return f"GOT AS FAR AS {walk.astray}"
    if walk.verdict is Verdict.FORWARD:
        return f"DELIVERED to {object_text(walk.object)}" if walk.object else "DELIVERED"
    if walk.verdict is Verdict.SERVE:
        return f"ANSWERED{where}"
    if walk.verdict is Verdict.HOLD:
        return f"HELD{where} until the first fragment comes"
    text = REASON_TEXT[walk.reason]
    rule = f": {walk.rule}" if walk.rule else ""
    note = f" ({walk.note})" if walk.note else ""
    code = f" [{walk.aws_code}]" if walk.aws_code else ""
    return f"DROPPED{where}{rule}{note}: {text.text}{code}"


def _first_packet(walk: Walk) -> str:
    return walk.hops[0].steps[0].packet.describe() if walk.hops else ""


def _walk_lines(walk: Walk, width: int, everything: bool) -> Iterator[str]:
    told = [(hop, _story(hop, everything)) for hop in walk.hops]
    rows = [(object_text(hop.object), story, str(hop.packet)) for hop, story in told if story]
    name_width = min(max((len(name) for name, _, _ in rows), default=0), width * 3 // 10)
    packet_width = min(max((len(packet) for _, _, packet in rows), default=0), width * 4 // 10)
    story_width = width - 4 - name_width - 2 - packet_width - 2
    for number, (name, story, packet) in enumerate(rows, start=1):
        columns = ([str(number)], _wrap(name, name_width), _wrap(story, story_width), _wrap(packet, packet_width))
        for cells in zip_longest(*columns, fillvalue=""):
            yield f"{cells[0]:>2}  {cells[1]:<{name_width}}  {cells[2]:<{story_width}}  {cells[3]}".rstrip()
    prefix = " => "
    for line in _wrap(render_verdict(walk), width - len(prefix)):
        yield prefix + line
        prefix = " " * len(prefix)


def _story(hop: Hop, everything: bool) -> str:
    """What happened at one hop, in one sentence; empty when there is nothing to tell."""
    return "; ".join(_what(step, hop.object) for step in hop.steps if everything or step.action not in QUIET)


def _what(step: Step, owner: Name) -> str:
    words = [ACTION_TEXT[step.action]]
    if step.rule is not None:
        if step.action is Action.ROUTE and step.rule.kind != "route":
            words = [f"hands to {object_text(step.rule)}"]
        else:
            words.append(f"({rule_text(step.rule, owner)})")
    if step.note:
        words.append(f"({step.note})" if step.rule is None else f"- {step.note}")
    return " ".join(words)


def object_text(name: Name) -> str:
    """An object as people read it, e.g. ``network-acl shop/edge``."""
    return name.kind if name.kind == name.path else str(name)


def rule_text(rule: Name, owner: Name | None) -> str:
    """A rule as people read it, without what the line already says of its owner."""
    if owner is not None and rule.path.startswith(f"{owner.path} "):
        return rule.path[len(owner.path) + 1 :]
    return f"group {rule.path}" if rule.kind == "security-group-rule" else str(rule)


def path_text(trace: Trace) -> str:
    """The routes that the packet took, in order: what says most about its path in the fewest words.

    Empty when it died before it came to any; provided what, when it got there and the answer back.
    """
    way = _way(trace)
    return f"{way}, {provided(trace.assumed)}" if trace.reachable and trace.assumed else way


def _way(trace: Trace) -> str:
    steps = [step for hop in trace.forward.hops for step in hop.steps]
    taken = [
        step.rule.path for step in steps if step.action is Action.ROUTE and step.rule and step.rule.kind == "route"
    ]
    if taken:
        return ", then ".join(dict.fromkeys(taken))
    if not trace.reachable:
        return ""
    return (
        "across the internet" if any(hop.object.kind == "internet" for hop in trace.forward.hops) else "in one subnet"
    )


_SHORT = {
    Reason.GROUP_EGRESS: "no outbound rule of {note} allows it",
    Reason.GROUP_INGRESS: "no inbound rule of {note} allows it",
    Reason.ACL_EGRESS: "{where} {entry}",
    Reason.ACL_INGRESS: "{where} {entry}",
    Reason.NO_ROUTE: "{where} has no route to {destination}",
    Reason.BLACKHOLE: "{where}: {rule} is a blackhole",
    Reason.OUTSIDE_NO_ROUTE: "nobody on the internet has {destination}",
}
"""The commonest reasons in fewer words than `REASON_TEXT` has: tables are narrow."""


def why_text(trace: Trace) -> str:
    """What stopped the packet or its answer: the rule that decided, where, and the reason; empty if nothing did.

    Provided what, where it would not have come there otherwise.
    """
    if trace.reachable:
        return ""
    return _why(trace) + (f", {provided(trace.assumed)}" if trace.assumed else "")


def _why(trace: Trace) -> str:
    walk = trace.deciding_walk
    which = "" if walk is trace.forward else "the answer: "
    if walk.astray:
        return f"{which}got as far as {walk.astray}"
    packet = walk.hops[-1].packet if walk.hops else None
    direction = "egress" if walk.reason is Reason.ACL_EGRESS else "ingress"
    words = {
        "where": object_text(walk.object) if walk.object else "",
        "rule": rule_text(walk.rule, walk.object) if walk.rule else walk.note,
        "entry": rule_text(walk.rule, walk.object) if walk.rule else f"{direction}, {walk.note}",
        "note": walk.note,
        "destination": packet.destination if packet else "",
    }
    if walk.reason in _SHORT:
        return which + _SHORT[walk.reason].format(**words)
    decided = walk.decided_by
    text = REASON_TEXT[walk.reason].text
    return f"{which}{object_text(decided)}: {text}" if decided else which + text


def _wrap(text: str, width: int) -> list[str]:
    """Break at spaces, and inside words only where a word alone is too long; at least one line."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        while len(word) > width:
            room = width - len(line) - 1 if line else width
            if room < width // 2:
                lines.append(line)
                line, room = "", width
            lines.append(f"{line} {word[:room]}" if line else word[:room])
            line, word = "", word[room:]
        if not line:
            line = word
        elif len(line) + 1 + len(word) <= width:
            line = f"{line} {word}"
        else:
            lines.append(line)
            line = word
    lines.append(line)
    return lines

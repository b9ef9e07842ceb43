"""Which rules were looked at in vain, where it was the lack of a rule that stopped a packet."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dataplane.trace import Trace, Walk
from dataplane.verdict import Reason

if TYPE_CHECKING:
    from dataplane.topology import Topology


def with_notes(topology: Topology, trace: Trace) -> Trace:
    """The trace, saying whose rules were looked at in vain where it was the lack of a rule that stopped a packet."""
    reply = None if trace.reply is None else with_note(topology, trace.reply)
    return replace(trace, forward=with_note(topology, trace.forward), reply=reply)


def with_note(topology: Topology, walk: Walk) -> Walk:
    """The same of one direction."""
    if walk.rule is not None or walk.object is None:
        return walk
    if walk.reason in (Reason.ACL_EGRESS, Reason.ACL_INGRESS):
        return replace(walk, note="rule *, as no other matches")
    if walk.reason in (Reason.GROUP_EGRESS, Reason.GROUP_INGRESS):
        for interface in topology.interfaces:
            if interface.path == walk.object.path:
                names = [f"{interface.subnet.vpc}/{group}" for group in interface.groups]
                return replace(walk, note=f"security group{'s' if len(names) > 1 else ''} {', '.join(names)}")
    return walk

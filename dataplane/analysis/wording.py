"""Which rules were looked at in vain, where it was the lack of a rule that stopped a packet."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dataplane.trace import Trace, Walk
from dataplane.verdict import Reason

if TYPE_CHECKING:
    from dataplane.names import Name
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
    names = groups_asked(topology, walk.reason, walk.object)
    if names:
        return replace(walk, note=f"security group{'s' if len(names) > 1 else ''} {', '.join(names)}")
    return walk


def groups_asked(topology: Topology, reason: Reason, interface: Name) -> tuple[str, ...]:
    """The security groups, as ``VPC/NAME``, none of whose rules allowed what was dropped at an interface."""
    if reason not in (Reason.GROUP_EGRESS, Reason.GROUP_INGRESS):
        return ()
    found = (each for each in topology.interfaces if each.path == interface.path)
    return tuple(f"{each.subnet.vpc}/{group}" for each in found for group in each.groups)

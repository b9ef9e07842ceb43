"""Nodes as rows of a Snapshot."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dataplane.compile.indexes import Indexes
from dataplane.compile.intervals import CompileError
from dataplane.program import (
    Bridge,
    Decapsulate,
    Drop,
    Emit,
    Encapsulate,
    Enter,
    Filter,
    FlowGate,
    GroupSession,
    Guard,
    Hop,
    Lookup,
    NatSession,
    Node,
    Point,
    Rewrite,
    Serve,
    Test,
)

SMALLEST_MTU = 576  # what every IPv4 host must take (RFC 791)
# node_op of fastpath/snapshot.pxd
DROP, GUARD, BRIDGE, FILTER, GROUP_SESSION, NAT_SESSION, LOOKUP, REWRITE, HOP, ENTER, EMIT, SERVE, FLOW_GATE = range(13)
ENCAPSULATE, DECAPSULATE, POINT = 13, 14, 15
# node_flag
ANSWERS_MTU, DROPS_LARGE, CLAMPS_MSS = 1, 2, 4
RECORDED = 1

Fields = tuple[int, Mapping[str, int]]
"""A node's operation, and those of its fields that are not 0."""


def node_row(node: Node, at: Indexes) -> tuple[int, ...]:
    """The row of a node."""
    pack = _NODES.get(type(node))
    if pack is None:
        raise CompileError(f"no node is packed from {type(node).__name__}")
    fields = {"mode": 0, "family": 0, "flags": 0, "reason": 0, "mtu": 0, "next": 0, "other": 0}
    fields |= {"table": 0, "value": 0, "extra": 0, "via": 0}
    following = getattr(node, "next", "")
    if following:
        fields["next"] = at.nodes[following]
    op, own = pack(node, at)
    fields |= own
    return (op, *fields.values(), node.object)


def _guard(n: Guard, at: Indexes) -> Fields:
    table = at.sets[n.table] if n.test in (Test.SOURCE_IN, Test.DESTINATION_IN) else 0
    other = at.nodes[n.otherwise] if n.otherwise else 0
    return GUARD, {
        "mode": n.test,
        "family": n.family,
        "flags": int(n.negate),
        "reason": n.reason,
        "other": other,
        "table": table,
        "value": at.numbers(n.subnets) if n.test is Test.FROM_SUBNET else n.via,
    }


def _bridge(n: Bridge, at: Indexes) -> Fields:
    return BRIDGE, {"table": at.bridges[n.table]}


def _filter(n: Filter, at: Indexes) -> Fields:
    return FILTER, {"mode": n.remote, "reason": n.reason, "table": at.filters[n.table], "value": n.skip_subnet}


def _group_session(n: GroupSession, at: Indexes) -> Fields:
    return GROUP_SESSION, {"mode": n.direction, "table": at.group_policies[n.policy]}


def _nat_session(n: NatSession, at: Indexes) -> Fields:
    return NAT_SESSION, {
        "flags": ANSWERS_MTU,
        "mtu": _mtu(n.mtu),
        "table": at.nat_policies[n.policy],
        "extra": at.interfaces[n.answer_as] + 1,
    }


def _flow_gate(n: FlowGate, at: Indexes) -> Fields:
    return FLOW_GATE, {
        "mode": n.mode,
        "flags": int(n.tracks),
        "reason": n.reason,
        "other": at.nodes[n.otherwise] if n.otherwise else 0,
        "table": at.flow_policies[n.policy],
        "value": n.direction,
    }


def _lookup(n: Lookup, at: Indexes) -> Fields:
    return LOOKUP, {"mode": n.side, "flags": int(n.quiet), "table": at.fibs[n.fib], "reason": n.reason}


def _rewrite(n: Rewrite, at: Indexes) -> Fields:
    return REWRITE, {"mode": n.side, "table": at.maps[n.map], "reason": n.reason}


def _hop(n: Hop, at: Indexes) -> Fields:
    extra = at.interfaces[n.answer_as] + 1 if n.answer_as else 0
    flags = n.answers_mtu * ANSWERS_MTU | (not n.fragments) * DROPS_LARGE | n.clamps_mss * CLAMPS_MSS
    return HOP, {"mode": n.ttl, "flags": flags, "mtu": _mtu(n.mtu), "extra": extra}


def _mtu(mtu: int) -> int:
    if mtu and not SMALLEST_MTU <= mtu <= 65535:
        raise CompileError(f"a hop's MTU is 0 or from {SMALLEST_MTU} to 65535, not {mtu}")
    return mtu


def _encapsulate(n: Encapsulate, at: Indexes) -> Fields:
    return ENCAPSULATE, {"table": at.tunnels[n.tunnel]}


def _decapsulate(n: Decapsulate, at: Indexes) -> Fields:
    return DECAPSULATE, {"value": n.owner, "other": at.nodes[n.otherwise]}


def _enter(n: Enter, at: Indexes) -> Fields:
    extra = at.interfaces[n.interface] + 1 if n.interface else 0
    return ENTER, {
        "mode": n.path,
        "flags": int(n.keep_groups),
        "table": n.subnet,
        "value": n.realm,
        "extra": extra,
        "via": n.via,
    }


def _point(n: Point, at: Indexes) -> Fields:
    return POINT, {"mode": n.direction, "flags": RECORDED, "table": at.sets[n.unseen]}


def _emit(n: Emit, at: Indexes) -> Fields:
    return EMIT, {"extra": at.interfaces[n.interface] + 1}


def _serve(n: Serve, at: Indexes) -> Fields:
    return SERVE, {}


def _drop(n: Drop, at: Indexes) -> Fields:
    return DROP, {"reason": n.reason}


_NODES: dict[type[Node], Callable[..., Fields]] = {
    Guard: _guard,
    Bridge: _bridge,
    Filter: _filter,
    GroupSession: _group_session,
    NatSession: _nat_session,
    FlowGate: _flow_gate,
    Lookup: _lookup,
    Rewrite: _rewrite,
    Hop: _hop,
    Encapsulate: _encapsulate,
    Decapsulate: _decapsulate,
    Enter: _enter,
    Point: _point,
    Emit: _emit,
    Serve: _serve,
    Drop: _drop,
}

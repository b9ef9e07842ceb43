"""The neutral program: a graph of nodes over tables, the form between Topology and Snapshot.

Constructs lower themselves into a `Program` in neutral words; `dataplane.compile` packs it into the C tables
of a Snapshot. Nodes and tables are named by *labels* (strings private to one Program, e.g. ``"eni:web/in"``)
and refer to each other by label, so a construct never needs to know in which order things are lowered.
Everything a user should read is a number from `Names`.

A packet enters at a `Context` and walks from node to node until one ends it (Emit, Serve, Drop, or a node
whose test fails). With it travels its metadata: realm (whose addresses these are), subnet, availability
zone, the interface it came from with that interface's groups, and the *via* bits below.
"""

from __future__ import annotations

from dataplane.program.entries import Route, Rule, Translation
from dataplane.program.graph import Program
from dataplane.program.interfaces import Context, Interface
from dataplane.program.nodes import (
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
)
from dataplane.program.policies import FlowPolicy, GroupPolicy, NatPolicy, Timeouts
from dataplane.program.spreads import Member, Spread, Stickiness, Tunnel
from dataplane.program.words import Address, Direction, GateMode, Path, Prefix, Side, Test, TtlAction, Via

__all__ = [
    "Address",
    "Bridge",
    "Context",
    "Decapsulate",
    "Direction",
    "Drop",
    "Emit",
    "Encapsulate",
    "Enter",
    "Filter",
    "FlowGate",
    "FlowPolicy",
    "GateMode",
    "GroupPolicy",
    "GroupSession",
    "Guard",
    "Hop",
    "Interface",
    "Lookup",
    "Member",
    "NatPolicy",
    "NatSession",
    "Node",
    "Path",
    "Point",
    "Prefix",
    "Program",
    "Rewrite",
    "Route",
    "Rule",
    "Serve",
    "Side",
    "Spread",
    "Stickiness",
    "Test",
    "Timeouts",
    "Translation",
    "TtlAction",
    "Tunnel",
    "Via",
]

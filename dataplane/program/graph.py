"""The whole program."""

from __future__ import annotations

from dataclasses import dataclass, field

from dataplane.names import Names
from dataplane.program.entries import Route, Rule, Translation
from dataplane.program.interfaces import Context, Interface
from dataplane.program.nodes import Node
from dataplane.program.policies import FlowPolicy, GroupPolicy, NatPolicy
from dataplane.program.spreads import Spread, Tunnel
from dataplane.program.words import Prefix


@dataclass(slots=True)
class Program:
    """Everything a Snapshot is packed from. Labels are the keys."""

    names: Names
    nodes: dict[str, Node] = field(default_factory=dict)
    interfaces: dict[str, Interface] = field(default_factory=dict)
    contexts: list[Context] = field(default_factory=list)
    fibs: dict[str, list[Route]] = field(default_factory=dict)
    sets: dict[str, list[Prefix]] = field(default_factory=dict)
    filters: dict[str, list[Rule]] = field(default_factory=dict)
    """Lists of rules, of filters and of group policies."""
    group_policies: dict[str, GroupPolicy] = field(default_factory=dict)
    nat_policies: dict[str, NatPolicy] = field(default_factory=dict)
    flow_policies: dict[str, FlowPolicy] = field(default_factory=dict)
    spreads: dict[str, Spread] = field(default_factory=dict)
    tunnels: dict[str, Tunnel] = field(default_factory=dict)
    maps: dict[str, list[Translation]] = field(default_factory=dict)
    """1:1 translations."""
    bridges: dict[str, list[tuple[bytes, str]]] = field(default_factory=dict)
    """Per subnet: (MAC, node) of each interface in it."""
    neighbours: dict[str, list[tuple[Prefix, bytes | None]]] = field(default_factory=dict)
    """Per subnet: who answers for which addresses (longest match); None: nobody."""
    fragment_timeout: int = 30_000
    """Milliseconds that fragments of one datagram are kept together."""

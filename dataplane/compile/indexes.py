"""Where each label of a program stands in the tables of a Snapshot."""

from __future__ import annotations

from collections.abc import Iterable

from dataplane.compile.intervals import CompileError
from dataplane.program import Program


class Index:
    """Label -> position, in the order of the Program's dict."""

    def __init__(self, what: str, labels: Iterable[str], first: int = 0) -> None:
        self._what = what
        self._at = {label: number for number, label in enumerate(labels, first)}

    def __getitem__(self, label: str) -> int:
        try:
            return self._at[label]
        except KeyError:
            raise CompileError(f"no {self._what} is called {label!r}") from None


class Indexes:
    """Labels of a program -> indexes. Programs with the same labels, in the same order, have the same."""

    def __init__(self, program: Program) -> None:
        self.nodes = Index("node", program.nodes, first=1)  # node 0 drops
        self.interfaces = Index("interface", program.interfaces)
        self.filters = Index("filter", program.filters)
        self.group_policies = Index("group policy", program.group_policies)
        self.nat_policies = Index("NAT policy", program.nat_policies)
        self.flow_policies = Index("flow policy", program.flow_policies)
        self.fibs = Index("fib", program.fibs)
        self.maps = Index("map", program.maps)
        self.spreads = Index("spread", program.spreads)
        self.tunnel_order = sorted(program.tunnels, key=lambda label: program.tunnels[label].owner)
        self.tunnels = Index("tunnel", self.tunnel_order)
        self.bridges = Index("bridge", program.bridges)
        # interval tables: sets, fibs, neighbours, and two of each map
        self.sets = Index("address set", program.sets)
        first = len(program.sets)
        self.fib_tables = Index("fib", program.fibs, first)
        first += len(program.fibs)
        self.neighbours = Index("link", program.neighbours, first)
        self.map_tables = first + len(program.neighbours)
        self.number_sets: dict[tuple[int, ...], int] = {}
        self.before_bridges: set[str] = set()
        """Nodes that frames pass before they come to a bridge, if they come to one."""

    def numbers(self, numbers: tuple[int, ...]) -> int:
        """Index + 1 of the set of these numbers (groups, subnets); 0 when there are none."""
        return self.number_sets.setdefault(tuple(sorted(numbers)), len(self.number_sets)) + 1 if numbers else 0

"""How often drawn packets really met each construct, operation and drop reason: counted per example.

A comparison of two engines proves nothing about what no packet met. Each example notes what its packets did meet, from
the fast engine's own trace of them; `Tally` counts the examples in which each thing occurred. `REQUIRED` are the things
that must occur: in the quick profile at all, in the thorough one in `THOROUGH` examples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, Final

from dataplane.names import Name, Names
from dataplane.verdict import Cause, Reason
from fastpath.engine import HOP_OPS

THOROUGH: Final = 200
"""Examples in which each required thing occurs, in the thorough profile."""

KINDS: Final = {
    "interface": "instance",
    "network-interface": "network_interface",
    "internet-gateway": "internet_gateway",
    "egress-only-internet-gateway": "egress_only_internet_gateway",
    "nat-gateway": "nat_gateway",
    "network-acl": "network_acl",
    "acl-rule": "network_acl",
    "route-table": "route_table",
    "security-group": "security_group",
    "security-group-rule": "security_group",
    "subnet": "subnet",
    "vpc": "vpc",
    "vpc-peering": "vpc_peering",
}
"""Kind of a named thing -> the construct it is of (a module of `dataplane.model`)."""
ASSIGNED: Final = ip_network("203.0.113.128/25")
"""Public addresses that are assigned, not Elastic."""
HOSTS: Final = ("example", "visitor")
"""Nodes that are internet hosts, in every lab of these tests."""

CONSTRUCTS: Final = (
    *dict.fromkeys(KINDS.values()),
    "elastic_ip",
    "internet_host",
    "prefix_list",
    "region",
)
"""What can be declared and meets packets."""


def required() -> list[str]:
    """Everything that must occur, as it is counted."""
    return [f"construct {name}" for name in CONSTRUCTS] + [f"operation {name}" for name in HOP_OPS]


class Seen:
    """What the packets of one example met."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.items: set[str] = set()
        self.traits: set[str] = set()
        """What holds of the lab as a whole, such as ``inter-region``."""

    def note(self, *items: str) -> None:
        """These occurred."""
        self.items.update(items)

    def reason(self, reason: Reason) -> None:
        """A packet died of this."""
        self.note(f"reason {reason.name}")

    def died(self, outcomes: Iterable[Any]) -> None:
        """What died of time."""
        for outcome in outcomes:
            self.reason(outcome.reason)

    def processed(
        self, frames: Sequence[bytes], outcomes: Sequence[Any], emissions: Iterable[Any], hops: Iterable[dict[str, Any]]
    ) -> None:
        """One burst: outcomes, emissions, and the hops planned for its first frame."""
        for outcome in outcomes:
            self.note(f"verdict {outcome.verdict.name}")
            if outcome.reason is not Reason.NONE:
                self.reason(outcome.reason)
            for object_, action, rule in getattr(outcome, "trace", ()):
                self.note(f"action {action}")
                self._thing(self.names[object_])
                self._rule(self.names[rule])
                if action in ("open", "known"):
                    self.note(f"memory {self.names[object_].kind} {action}")
            self._thing(self.names[outcome.object])
            self._rule(self.names[outcome.rule])
        for emission in emissions:
            self.note(f"cause {Cause(emission.cause).name}")
        before: tuple[int, int] | None = None
        for hop in hops:
            self._hop(hop, before)
            before = hop["source"], hop["destination"]
        if frames and frames[0][12:14] == b"\x86\xdd":
            self.note("family IPv6")

    def _hop(self, hop: Mapping[str, Any], before: tuple[int, int] | None) -> None:
        self.note(f"operation {hop['op']}", f"detail {hop['op']} {hop['detail']}")
        self._thing(self.names[hop["object"]])
        self._rule(self.names[hop["rule"]])
        if hop["op"] == "rewrite" and before is not None and before != (hop["source"], hop["destination"]):
            changed = {hop["source"], hop["destination"]} ^ set(before)
            public = {n for n in changed if n < 1 << 32 and ip_address(n) in ASSIGNED}
            self.note("assigned public address" if public else "construct elastic_ip")

    def _thing(self, name: Name) -> None:
        if name.kind == "interface" and name.path.split("/")[0] in HOSTS:
            self.note("construct internet_host")
        elif name.kind in KINDS:
            self.note(f"construct {KINDS[name.kind]}")
        if name.kind == "vpc-peering" and "inter-region" in self.traits:
            self.note("construct region")

    def _rule(self, name: Name) -> None:
        if name.kind in KINDS:
            self.note(f"construct {KINDS[name.kind]}")
        if "prefix-list:" in name.path:
            self.note("construct prefix_list")
        words = name.path.split()
        if name.kind == "route":
            self.note("construct route_table", f"route to {words[-1].partition(':')[0]}")
        elif name.kind == "security-group-rule":
            self.note(f"group rule {words[1]} {_peer(words[-1])}")
        elif name.kind == "acl-rule":
            self.note(f"acl rule {words[1]} {words[3]}")


def _peer(word: str) -> str:
    kind, colon, rest = word.partition(":")
    if kind == "group":
        return "group of a peer" if "/" in rest else "group"
    if kind == "self" or (kind == "prefix-list" and colon):
        return kind
    return "IPv6" if colon else "IPv4"


class Tally:
    """In how many examples each thing occurred."""

    def __init__(self) -> None:
        self.examples = 0
        self.counts: Counter[str] = Counter()

    def add(self, seen: Seen) -> None:
        """An example has ended."""
        self.examples += 1
        self.counts.update(seen.items)

    def lacking(self, least: int, wanted: Iterable[str]) -> dict[str, int]:
        """Which of the things wanted occurred in fewer than `least` examples."""
        return {item: self.counts[item] for item in wanted if self.counts[item] < least}

    def lines(self) -> list[str]:
        """A report: one line for each kind of thing."""
        kinds: dict[str, list[str]] = {}
        for item, count in sorted(self.counts.items()):
            kind, _, rest = item.partition(" ")
            kinds.setdefault(kind, []).append(f"{rest} {count}")
        return [f"{kind}: {', '.join(found)}" for kind, found in kinds.items()]


TALLY = Tally()
"""Of all examples in this process."""

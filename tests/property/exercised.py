"""How often drawn packets really met each construct, operation and drop reason: counted per example.

A comparison of two engines proves nothing about what no packet met. Each example notes what its packets did meet, from
the fast engine's own trace of them; `Tally` counts the examples in which each thing occurred. `required` are the things
that must occur: in the quick profile at all, in the thorough one in `THOROUGH` examples, with every drop reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, Final

from dataplane.names import Name, Names
from dataplane.program import GateMode
from dataplane.verdict import Cause, Reason
from fastpath.shown import HOP_OPS

THOROUGH: Final = 200
"""Examples in which each required thing occurs, in the thorough profile."""

KINDS: Final = {
    "interface": "instance",
    "network-interface": "network_interface",
    "internet-gateway": "internet_gateway",
    "aws-service": "aws_service",
    "egress-only-internet-gateway": "egress_only_internet_gateway",
    "gateway-load-balancer": "gateway_load_balancer",
    "gateway-load-balancer-node": "gateway_load_balancer",
    "nat-gateway": "nat_gateway",
    "network-acl": "network_acl",
    "acl-rule": "network_acl",
    "route-table": "route_table",
    "security-group": "security_group",
    "security-group-rule": "security_group",
    "subnet": "subnet",
    "target": "target_group",
    "vpc": "vpc",
    "vpc-peering": "vpc_peering",
}
"""Kind of a named thing -> the construct it is of (a module of `dataplane.model`)."""
CONSTRUCTS: Final = (
    *dict.fromkeys(KINDS.values()),
    "connection_tracking",
    "endpoint_service",
    "gateway_endpoint",
    "gateway_load_balancer_endpoint",
    "elastic_ip",
    "flow_log",
    "internet_host",
    "prefix_list",
    "region",
    "settings",
)
"""What can be declared and meets packets: every construct of `dataplane.model`."""
FEATURES: Final = (
    "NAT64 out",
    "NAT64 back",
    "private NAT gateway",
    "secondary address of a NAT gateway",
    "gateway route table",
    "propagated route",
    "return to sender",
    "assigned public address",
    "group rule by group",
    "group rule by self",
    "group rule by group of a peer",
    "group rule by prefix-list",
    "group rule by AWS-managed prefix list",
    "GENEVE bounced IPv4",
    "GENEVE bounced IPv6",
    "GENEVE from one endpoint into the next",
    "GENEVE behind a NAT gateway",
    "GENEVE over a peering",
    "spread by 5_tuple",
    "spread by source_ip_dest_ip_proto",
    "spread by source_ip_dest_ip",
    "flow moved to another target",
    "answer through a gateway endpoint",
    "ICMP error withheld",
)
"""Parts of constructs that have ways of their own."""
ACTIONS: Final = (
    "permit", "track", "match", "route", "translate", "fragment", "deliver", "answer", "drop", "open", "known",
    "encapsulate", "decapsulate",
)  # fmt: skip
"""What a trace tells."""
UNREACHED: Final = {
    Reason.PRIVATE_SOURCE: (
        "hosts have public addresses only, and gateways translate", "tests/unit/model/test_internet_gateway.py"
    ),
    Reason.EDGE_TO_EDGE: (
        "what came by a gateway or peering is delivered by address: no route leads it on",
        "tests/unit/model/test_vpc_peering.py",
    ),
    Reason.PORT_QUEUE_FULL: ("of devices, which these tests have none of", "tests/unit/fastpath/test_worker.py"),
}  # fmt: skip
"""Reasons that no drawn packet can die of: why, and where they are tested."""
ASSIGNED: Final = ip_network("203.0.113.128/25")
"""Public addresses that are assigned, not Elastic."""
SECONDARY: Final = {int(ip_address(each)) for each in ("10.0.1.6", "10.0.3.6", "10.0.3.7")}
"""Secondary addresses of NAT gateways in `wide_labs`."""
PRIVATE_GATEWAYS: Final = ("shop/inner", "store/back")
HOSTS: Final = ("example", "visitor")
"""Nodes that are internet hosts, in every lab of these tests."""
SERVED: Final = ("objects", "tables")
"""What gateway endpoints are called."""
IPV4: Final = 1 << 32


def required() -> list[str]:
    """Everything that must occur in any profile, as it is counted."""
    return [
        *(f"construct {name}" for name in CONSTRUCTS),
        *(f"operation {name}" for name in HOP_OPS),
        *(f"action {name}" for name in ACTIONS),
        *(f"cause {cause.name}" for cause in Cause),
    ]


def required_thoroughly() -> list[str]:
    """Everything that must occur often in the thorough profile."""
    reasons = [reason for reason in Reason if reason is not Reason.NONE and reason not in UNREACHED]
    return [*required(), *(f"feature {name}" for name in FEATURES), *(f"reason {reason.name}" for reason in reasons)]


class Seen:
    """What the packets of one example met."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.items: set[str] = set()
        self.is_inter_region = False
        """Whether the lab's peering is between Regions."""
        self.stickiness: Mapping[int, str] = {}
        """What decides about targets, by the number of an endpoint."""
        self._targets: dict[int, int] = {}
        """The present target of each flow, by its cookie."""

    def note(self, *items: str) -> None:
        """These occurred."""
        self.items.update(items)

    def reason(self, reason: Reason) -> None:
        """A packet died of this."""
        self.note(f"reason {reason.name}")
        if reason is Reason.ENDPOINT_UNAVAILABLE:
            self.note("construct endpoint_service")

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
            for object_, action, rule in outcome.trace:
                self.note(f"action {action}")
                self._thing(self.names[object_])
                self._rule(self.names[rule])
            self._thing(self.names[outcome.object])
            self._rule(self.names[outcome.rule])
        for emission in emissions:
            self.note(f"cause {Cause(emission.cause).name}")
        before: tuple[int, int] | None = None
        done: list[tuple[str, str]] = []
        for hop in hops:
            self._hop(hop, before)
            self._tunnel(hop, done)
            before = hop["source"], hop["destination"]
            done.append((hop["op"], hop["detail"]))
        if frames and frames[0][12:14] == b"\x86\xdd":
            self.note("family IPv6")

    def bridged(self) -> None:
        """A frame went to a neighbour's MAC: the fast engine does not tell, as nothing is decided by it."""
        self.note("operation bridge")

    def _hop(self, hop: Mapping[str, Any], before: tuple[int, int] | None) -> None:
        operation, detail = hop["op"], hop["detail"]
        self.note(f"operation {operation}", f"detail {operation} {detail}")
        thing = self.names[hop["object"]]
        self._thing(thing)
        self._rule(self.names[hop["rule"]])
        if operation == "flow-gate" and hop["mode"] == GateMode.RESUME and detail in ("known", "related"):
            is_service = thing.kind == "vpc-endpoint"
            self.note("feature answer through a gateway endpoint" if is_service else "feature return to sender")
        after = hop["source"], hop["destination"]
        if before is None or detail == "dropped":
            return
        if operation == "rewrite" and before != after:
            public = {number for number in {*before} ^ {*after} if number < IPV4 and ip_address(number) in ASSIGNED}
            self.note("feature assigned public address" if public else "construct elastic_ip")
        elif operation == "nat-session":
            if (before[0] < IPV4) != (after[0] < IPV4):
                self.note("feature NAT64 out" if after[0] < IPV4 else "feature NAT64 back")
            if thing.path in PRIVATE_GATEWAYS:
                self.note("feature private NAT gateway")
            if {*before, *after} & SECONDARY:
                self.note("feature secondary address of a NAT gateway")

    def _tunnel(self, hop: Mapping[str, Any], done: Sequence[tuple[str, str]]) -> None:
        if hop["detail"] == "decapsulated":
            self.note(f"feature GENEVE bounced IPv{hop['family']}")
        elif hop["detail"] == "encapsulated":
            self.note(f"feature spread by {self.stickiness.get(hop['object'], '')}")
            if ("decapsulate", "decapsulated") in done:
                self.note("feature GENEVE from one endpoint into the next")
            if any(operation == "nat-session" for operation, _ in done):
                self.note("feature GENEVE behind a NAT gateway")
            if self._targets.setdefault(hop["cookie"], hop["rule"]) != hop["rule"]:
                self._targets[hop["cookie"]] = hop["rule"]
                self.note("feature flow moved to another target")
        elif self.names[hop["object"]].kind == "vpc-peering" and ("encapsulate", "encapsulated") in done:
            self.note("feature GENEVE over a peering")

    def _thing(self, name: Name) -> None:
        if name.kind == "interface" and name.path.split("/")[0] in HOSTS:
            self.note("construct internet_host")
        elif name.kind in KINDS:
            self.note(f"construct {KINDS[name.kind]}")
        if name.kind == "vpc-endpoint":
            is_gateway = name.path.partition("/")[2] in SERVED
            self.note(f"construct {'gateway_endpoint' if is_gateway else 'gateway_load_balancer_endpoint'}")
        if name.kind == "vpc-peering" and self.is_inter_region:
            self.note("construct region")

    def _rule(self, name: Name) -> None:
        if name.kind in KINDS:
            self.note(f"construct {KINDS[name.kind]}")
        if "prefix-list:" in name.path:
            self.note("construct prefix_list")
        words = name.path.split()
        if name.kind == "route":
            self.note("construct route_table", f"route to {words[-1].partition(':')[0]}")
            if words[0] == "shop/edge":
                self.note("feature gateway route table")
            if "(propagated)" in words:
                self.note("feature propagated route")
        elif name.kind == "security-group-rule":
            peer = _peer(words[-1])
            if peer == "prefix-list" and "com.amazonaws." in words[-1]:
                self.note("feature group rule by AWS-managed prefix list")
            self.note(f"rule {words[1]} {peer}", f"feature group rule by {peer}")
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

    def __init__(self, counts: Mapping[str, int] | None = None, examples: int = 0, steps: int = 0) -> None:
        self.examples = examples
        self.steps = steps
        self.counts: Counter[str] = Counter(counts or {})

    def add(self, seen: Seen, steps: int = 0) -> None:
        """An example has ended."""
        self.examples += 1
        self.steps += steps
        self.counts.update(seen.items)

    def document(self) -> dict[str, Any]:
        """As plain data, for other processes and files."""
        return {"examples": self.examples, "steps": self.steps, "counts": dict(sorted(self.counts.items()))}

    def merge(self, document: Mapping[str, Any]) -> None:
        """Add what another process counted, as `document` tells it."""
        self.examples += document["examples"]
        self.steps += document["steps"]
        self.counts.update(document["counts"])

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

"""Laws that need no oracle: what is written otherwise but means the same, does the same.

Each law plays one drawn history on two networks and compares everything that is seen of them. Each also counts the
cases that it is about, and fails when they did not come up.
"""

from __future__ import annotations

import copy
import json
import re
import sys
from collections import Counter
from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP

from dataplane.errors import ConfigurationError
from dataplane.load import load_topology
from tests.property.fresh import part
from tests.property.histories import Case, Network, Step, cases, plays
from tests.property.lab_changes import changed
from tests.property.quick_load import topology_of
from tests.property.strategies import HOSTS, PORTS
from tests.property.test_memo import TYPES

ANYWHERE = ("0.0.0.0/0", "::/0")


ENOUGH = 50
"""Of so many examples, and of more, each kind of thing that a law is about is one at least."""


def came_up(seen: Counter[str], *wanted: str) -> None:
    """Everything a law is about has happened; a run of few examples (sanitizers, mutants) does not ask that."""
    missing = [name for name in wanted if not seen[name]] if settings().max_examples >= ENOUGH else []
    assert not missing, f"never seen: {missing} in {dict(seen)}"


@pytest.mark.parametrize(("examples", "is_asked"), [(ENOUGH - 1, False), (ENOUGH, True)])
def test_what_never_came_up_fails_where_there_were_many_examples(
    monkeypatch: pytest.MonkeyPatch, examples: int, is_asked: bool
) -> None:
    profile = settings(max_examples=examples)
    monkeypatch.setattr(sys.modules[__name__], "settings", lambda: profile)
    with pytest.raises(AssertionError, match="never seen") if is_asked else nullcontext():
        came_up(Counter(), "anything")


@given(case=cases)
def test_a_lab_is_the_same_however_it_is_read(case: Case) -> None:
    """The laws read labs without writing them down first."""
    declared = {key: value for key, value in case.lab.items() if key != "runtime"}
    assert topology_of(case.lab).lab == load_topology(json.dumps(declared), file_name="drawn.yaml").lab


# -- order


def shuffled(draw: st.DrawFn, lab: dict[str, Any]) -> dict[str, Any]:
    """The same lab with everything that has no order in another order."""
    other = copy.deepcopy(lab)

    def mix(holder: dict[str, Any], key: str) -> None:
        if holder.get(key):
            holder[key] = draw(st.permutations(holder[key]))

    for vpc in other["vpcs"].values():
        for group in vpc.get("security_groups", {}).values():
            mix(group, "ingress")
            mix(group, "egress")
        for acl in vpc.get("network_acls", {}).values():
            mix(acl, "ingress")
            mix(acl, "egress")
        for interface in vpc.get("network_interfaces", {}).values():
            mix(interface, "security_groups")
    for prefix_list in other.get("prefix_lists", {}).values():
        mix(prefix_list, "entries")
    for instance in other["instances"].values():
        mix(instance, "security_groups")
    return other


def test_the_order_in_which_rules_are_written_changes_nothing() -> None:
    """Rules and groups are a union without order, network ACL rules have numbers, prefix lists are sets."""
    seen: Counter[str] = Counter()

    @settings(max_examples=part(2))
    @given(case=cases, data=st.data())
    def law(case: Case, data: st.DataObject) -> None:
        other = data.draw(st.composite(shuffled)(case.lab))
        here = Network(case.lab)
        there = Network(other, names=here.plane.names)
        for step in data.draw(plays(case, here.plane.topology)):
            assert here.play(step) == there.play(step)
            assert here.sessions() == there.sessions()
        seen.update(here.seen)
        seen["order changed"] += other != case.lab
        seen["remembered"] += bool(here.sessions())

    law()
    came_up(seen, "order changed", "remembered", "NONE", "GROUP_INGRESS")


# -- what is unrelated


def with_alien(lab: dict[str, Any], *, first: bool) -> dict[str, Any]:
    """The lab with one more VPC that has the addresses of shop, gateways of its own, and nothing to do with it."""
    other = copy.deepcopy(lab)
    anywhere = [{"protocol": "all", "source": block} for block in ANYWHERE]
    vpc = {
        "cidr": "10.0.0.0/16",
        "internet_gateway": {},
        "subnets": {"public": {"cidr": "10.0.1.0/24", "route_table": "public"}},
        "route_tables": {"public": {"routes": [{"destination": "0.0.0.0/0", "target": "internet-gateway"}]}},
        "security_groups": {"one": {"description": "one", "ingress": anywhere}},
        "nat_gateways": {"nat": {"subnet": "public", "elastic_ip": "203.0.113.98", "private_ip": "10.0.1.5"}},
    }
    instance = {
        "vpc": "alien",
        "subnet": "public",
        "private_ip": "10.0.1.10",
        "elastic_ip": "203.0.113.99",
        "security_groups": ["one"],
    }
    if first:
        other["vpcs"] = {"alien": vpc, **other["vpcs"]}
        other["instances"] = {"alien": instance, **other["instances"]}
    else:
        other["vpcs"]["alien"] = vpc
        other["instances"]["alien"] = instance
    return other


def test_an_unrelated_vpc_changes_nothing() -> None:
    """It comes and goes, has the same addresses, and sends packets that an instance of ours may send too."""
    seen: Counter[str] = Counter()

    @settings(max_examples=part(2))
    @given(case=cases, first=st.booleans(), data=st.data())
    def law(case: Case, first: bool, data: st.DataObject) -> None:
        alone = Network(case.lab)
        crowded = Network(case.lab, names=alone.plane.names)
        here = False
        for step in data.draw(plays(case, alone.plane.topology)):
            if data.draw(st.integers(0, 2), label="change") == 0:
                here = not here
                crowded.apply(with_alien(case.lab, first=first) if here else case.lab)
            if here:
                before = list(crowded.emitted)
                ports = {"sport": data.draw(st.sampled_from(PORTS)), "dport": data.draw(st.sampled_from(PORTS))}
                packet = IP(src="10.0.1.10", dst=HOSTS["example"][0]) / UDP(**ports)
                outcomes, _ = crowded.send("alien/eth0", TYPES[4] + bytes(packet))
                seen["alien passed"] += outcomes[0][0] == "FORWARD"
                crowded.emitted = before
            assert alone.play(step) == crowded.play(step)
            assert alone.sessions() == [s for s in crowded.sessions() if "alien" not in s[1]]
        seen.update(alone.seen)

    law()
    came_up(seen, "alien passed", "NONE")


# -- names

FIXED = {"main", "default"}
"""Names that mean something."""
RENAMED = re.compile(r"[a-z]\d+qq-")


def renamed(draw: st.DrawFn, lab: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The lab with a new name for everything, in another alphabetical order; and old -> new."""
    new: dict[str, str] = {}

    def name(old: str) -> str:
        if old in FIXED:
            return old
        if old not in new:
            new[old] = f"{draw(st.sampled_from('azkm'))}{len(new)}qq-{old}"
        return new[old]

    def keys(things: dict[str, Any]) -> dict[str, Any]:
        return {name(key): value for key, value in things.items()}

    def reference(text: str) -> str:
        word, colon, rest = text.partition(":")
        if not colon or word not in ("group", "prefix-list", "instance", "network-interface", "nat-gateway", "peering"):
            return text
        if word == "network-interface" and re.search(r"/eth\d", rest):
            return f"{word}:{name(rest.partition('/')[0])}/{rest.partition('/')[2]}"
        return f"{word}:" + "/".join(name(part) for part in rest.split("/"))

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            found = {}
            for key, item in value.items():
                if key in ("subnets", "route_tables", "network_acls", "security_groups", "nat_gateways") or key in (
                    "network_interfaces", "vpcs", "instances", "peerings", "prefix_lists", "hosts"
                ):  # fmt: skip
                    found[key] = [name(each) for each in item] if isinstance(item, list) else walk(keys(item))
                elif key in ("vpc", "subnet", "instance", "route_table", "network_acl", "requester", "accepter"):
                    found[key] = name(item)
                elif key in ("source", "destination", "target"):
                    found[key] = reference(item)
                elif key == "network_interface":
                    owner, slash, device = item.partition("/")
                    found[key] = reference(item) if ":" in item else name(owner) + slash + device
                else:
                    found[key] = walk(item)
            return found
        return [walk(each) for each in value] if isinstance(value, list) else value

    return walk(lab), new


def without_names(told: tuple[list[Any], list[Any]], gateways: set[bytes]) -> tuple[list[Any], list[Any]]:
    """The same with old names, without MACs (they are made of names) and without ports that a NAT gateway chose."""
    outcomes = [tuple(RENAMED.sub("", text) for text in outcome) for outcome in told[0]]
    emissions = [
        (RENAMED.sub("", port), cause, parent, without_port(frame[12:], gateways))
        for port, cause, parent, frame in told[1]
    ]
    return outcomes, emissions


def without_port(packet: bytes, gateways: set[bytes]) -> bytes:
    at = 2 + 4 * (packet[2] & 15)
    if packet[:2] != TYPES[4] or packet[14:18] not in gateways or int.from_bytes(packet[8:10], "big") & 0x1FFF:
        return packet
    raw = bytearray(packet)
    sum_at = {6: 16, 17: 6, 1: 2}[packet[11]]
    port_at = 4 if packet[11] == 1 else 0
    if packet[11] != 1 or packet[at] in (0, 8):
        raw[at + sum_at : at + sum_at + 2] = raw[at + port_at : at + port_at + 2] = b"\0\0"
    return bytes(raw)


def test_renaming_everything_changes_nothing() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=part(2))
    @given(case=cases, data=st.data())
    def law(case: Case, data: st.DataObject) -> None:
        # Which target a flow gets is by numbers, which go by names; and what AWS manages has the name it has.
        assume("runtime" not in case.lab and "com.amazonaws" not in json.dumps(case.lab))
        other, new = data.draw(st.composite(renamed)(case.lab))
        here, there = Network(case.lab), Network(other)
        nats = [each for each in here.plane.topology.interfaces if each.kind == "nat-gateway"]
        public = here.plane.topology.public_addresses_of
        gateways = {a.packed for each in nats for a in (*each.addresses4, *public(each).values())}
        for step in data.draw(plays(case, here.plane.topology)):
            owner, _, device = step.node.partition("/")
            moved = Step(step.what, f"{new.get(owner, owner)}/{device}", step.version, step.packet, step.which,
                         step.code, step.wait_ms)  # fmt: skip
            told = here.play(step)
            assert without_names(told, gateways) == without_names(there.play(moved), gateways)
            seen["through NAT"] += any(frame[26:30] in gateways for _, _, _, frame in told[1])

        def shown(network: Network) -> list[Any]:
            """Kind, owner, state, ages and counts of each session."""
            return sorted((s[0], RENAMED.sub("", s[1]), s[2], *s[5:]) for s in network.sessions())

        assert shown(here) == shown(there)
        seen["renamed"] += len(new) > 10
        seen["remembered"] += bool(here.sessions())
        seen.update(here.seen)

    law()
    came_up(seen, "renamed", "remembered", "through NAT", "NONE", "GROUP_INGRESS")


# -- changes that come to nothing


def taken_away(draw: st.DrawFn, lab: dict[str, Any]) -> dict[str, Any]:
    """The lab without one of its things: an instance, a rule, a route, a gateway's address, a whole peering."""
    is_wide = "prefix_lists" in lab
    return changed(draw, lab)[1] if is_wide and draw(st.booleans()) else without_one(draw, lab)


def without_one(draw: st.DrawFn, lab: dict[str, Any]) -> dict[str, Any]:
    other = copy.deepcopy(lab)
    shop = other["vpcs"]["shop"]
    kind = draw(st.sampled_from(["instance", "rules", "routes", "public", "peering", "acl"]))
    if kind == "instance":
        other["instances"].pop(draw(st.sampled_from("ce")), None)
    elif kind == "rules":
        for group in shop["security_groups"].values():
            group["ingress"] = []
    elif kind == "routes":
        shop["route_tables"]["private"]["routes"] = []
    elif kind == "public":
        other["instances"]["a"].pop("elastic_ip", None)
    elif kind == "peering":
        for peering in other["peerings"].values():
            peering["status"] = "deleted"
    else:
        for subnet in shop["subnets"].values():
            subnet.pop("network_acl", None)
    return other


def test_what_is_removed_and_put_back_is_as_if_it_had_never_been_gone() -> None:
    """For new flows; what the network remembers of old ones has died of silence."""
    seen: Counter[str] = Counter()

    @settings(max_examples=part(2))
    @given(case=cases, data=st.data())
    def law(case: Case, data: st.DataObject) -> None:
        assume("runtime" not in case.lab)  # cookies of load balancers go by what was there before
        changed_once = Network(case.lab)
        other = data.draw(st.composite(taken_away)(case.lab), label="in between")
        try:
            topology_of(other)
        except ConfigurationError:
            seen["refused"] += 1
            return
        before = data.draw(plays(case, changed_once.plane.topology, most=3), label="before")
        for step in before:
            changed_once.play(step)
        seen["remembered"] += bool(changed_once.sessions())
        changed_once.apply(other)
        for step in before:
            changed_once.play(step)
        changed_once.apply(case.lab)
        changed_once.forget()
        changed_once.emitted.clear()
        never = Network(case.lab, names=changed_once.plane.names)
        never.now = changed_once.now
        for step in data.draw(plays(case, never.plane.topology), label="after"):
            assert never.play(step) == changed_once.play(step)
            assert never.sessions() == changed_once.sessions()
        without = Network(other, names=changed_once.plane.names)
        seen["it mattered"] += any(without.play(step) != changed_once.play(step) for step in before)
        seen.update(never.seen)

    law()
    came_up(seen, "remembered", "it mattered", "NONE")


def test_swapping_in_an_equal_snapshot_changes_nothing() -> None:
    """Not even to what flow entries remember; they are used, and made again."""
    seen: Counter[str] = Counter()

    @settings(max_examples=part(2))
    @given(case=cases, data=st.data())
    def law(case: Case, data: st.DataObject) -> None:
        still = Network(case.lab)
        swapped = Network(case.lab, names=still.plane.names)
        for step in data.draw(plays(case, still.plane.topology)):
            swaps = data.draw(st.integers(0, 2), label="swaps")
            for _ in range(swaps):
                swapped.apply(case.lab)
            for _ in range(3 if step.what == "packet" else 1):  # from the second time on it is remembered
                assert still.play(step) == swapped.play(step)
            assert still.plane.engine.sessions() == swapped.plane.engine.sessions()
            assert still.plane.engine.counters() == swapped.plane.engine.counters()
            seen["swapped"] += swaps > 0 and bool(still.sessions())
        seen["memo hit"] += swapped.plane.engine.statistics()["flow_hits"] > 0
        seen.update(still.seen)

    law()
    came_up(seen, "swapped", "memo hit", "NONE", "GROUP_INGRESS")


def test_the_memo_changes_nothing_when_the_lab_changes() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=part(2))
    @given(case=cases, data=st.data())
    def law(case: Case, data: st.DataObject) -> None:
        walked = Network(case.lab, memo=False)
        remembered = Network(case.lab, names=walked.plane.names)
        lab = case.lab
        for step in data.draw(plays(case, walked.plane.topology)):
            if data.draw(st.integers(0, 2), label="change") == 0:
                other = data.draw(st.composite(taken_away)(lab))
                try:
                    topology_of(other)
                except ConfigurationError:
                    continue
                lab = other
                walked.apply(lab)
                remembered.apply(lab)
                seen["changed"] += 1
            for _ in range(3):
                assert walked.play(step) == remembered.play(step)
            assert walked.plane.engine.sessions() == remembered.plane.engine.sessions()
        seen["memo hit"] += remembered.plane.engine.statistics()["flow_hits"] > 0
        seen.update(walked.seen)

    law()
    came_up(seen, "changed", "memo hit", "NONE")

"""Laws of the filters at interfaces: two gates, group references, tracked flows, and what a dropped packet leaves."""

from __future__ import annotations

import copy
from collections import Counter
from ipaddress import ip_network
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP

from dataplane.topology import Topology
from dataplane.verdict import Reason
from fastpath.tracer import Overlay
from tests.property.fresh import FRESH, PHASES, part
from tests.property.histories import Case, Network, Step, aimed, cases, dense_cases, own_addresses, packets_of
from tests.property.strategies import PORTS
from tests.property.test_laws import ANYWHERE, came_up
from tests.property.test_memo import TYPES

GATES = ("GROUP_EGRESS", "GROUP_INGRESS")


# -- two gates


def wide_open(lab: dict[str, Any], direction: str) -> dict[str, Any]:
    """The lab with every group admitting everything one way. Who carries which groups stays as it is."""
    other = copy.deepcopy(lab)
    end = "source" if direction == "ingress" else "destination"
    everything = [{"protocol": "all", end: block} for block in ANYWHERE]
    for vpc in other["vpcs"].values():
        itself = [{"protocol": "all", "source": "self"}]
        groups = vpc.setdefault("security_groups", {})
        groups.setdefault("default", {"description": "what is not declared", "ingress": itself})
        for group in groups.values():
            group[direction] = everything
    return other


def some_egress(draw: st.DrawFn, lab: dict[str, Any]) -> dict[str, Any]:
    """The lab, with groups that do not let everything out."""
    other = copy.deepcopy(lab)
    for vpc in other["vpcs"].values():
        for group in vpc.get("security_groups", {}).values():
            ports = {"protocol": "tcp", "ports": f"0-{draw(st.sampled_from([22, 80, 1024]))}"}
            if draw(st.booleans()):
                group["egress"] = [{**ports, "destination": draw(st.sampled_from(["10.0.0.0/16", "198.51.100.0/24"]))}]
    return other


def test_sender_egress_and_receiver_ingress_are_separate_gates() -> None:
    """A first packet passes if the sender's side alone lets it out and the receiver's side alone lets it in."""
    seen: Counter[str] = Counter()

    @settings(max_examples=part(2), backend=FRESH, phases=PHASES)
    @given(case=cases, data=st.data())
    def law(case: Case, data: st.DataObject) -> None:
        lab = data.draw(st.composite(some_egress)(case.lab))
        both = Network(lab)
        sender = Network(wide_open(lab, "ingress"))
        receiver = Network(wide_open(lab, "egress"))
        for _ in range(6):
            node, version, packet = data.draw(packets_of(case, both.plane.topology))
            told, out, into = (n.send(node, TYPES[version] + packet) for n in (both, sender, receiver))
            for network in (both, sender, receiver):
                network.forget()
            if not told[0] or told[0][0][0] == "HOLD":
                continue
            passes = [each[0][0][0] == "FORWARD" for each in (told, out, into)]
            assert passes[0] == (passes[1] and passes[2])
            refused = out[0][0][1] == "GROUP_EGRESS"
            assert told[0] == (out if refused else into)[0]
            if passes[0]:
                assert told[1] == out[1] == into[1]
            seen[f"{'out' if passes[1] else '-'} {'in' if passes[2] else '-'}"] += 1

    law()
    came_up(seen, "out in", "out -", "- in", "- -")


# -- references


def members(lab: dict[str, Any], vpc: str, group: str) -> list[str]:
    """Private addresses of the interfaces that carry a group, read from the lab file."""
    found: list[str] = []
    for instance in lab["instances"].values():
        if instance["vpc"] == vpc and group in instance.get("security_groups", ["default"]):
            found += [instance["private_ip"], *instance.get("secondary_private_ips", [])]
            found += [instance["ipv6_address"]] if "ipv6_address" in instance else []
    for interface in lab["vpcs"][vpc].get("network_interfaces", {}).values():
        if group in interface.get("security_groups", ["default"]):
            found += [*interface["private_ips"], *interface.get("ipv6_addresses", [])]
    return found


def by_address(lab: dict[str, Any], *, none: bool = False) -> dict[str, Any]:
    """The lab with one rule per member's address for each reference to a group of the same VPC (or without them)."""
    other = copy.deepcopy(lab)
    for vpc, declared in other["vpcs"].items():
        for name, group in declared.get("security_groups", {}).items():
            for direction, end in (("ingress", "source"), ("egress", "destination")):
                if not group.get(direction):
                    continue
                rules: list[dict[str, Any]] = []
                for rule in group[direction]:
                    word, _, peer = rule[end].partition(":")
                    if rule[end] != "self" and (word != "group" or "/" in peer):
                        expanded = [rule]
                    else:
                        blocks = [ip_network(a) for a in members(lab, vpc, name if rule[end] == "self" else peer)]
                        wrong = {"icmp": 6, "icmpv6": 4}.get(rule["protocol"])  # ICMP has a protocol per family
                        expanded = [{**rule, end: str(b)} for b in blocks if b.version != wrong and not none]
                    rules += [each for each in expanded if each not in rules]
                group[direction] = rules
    return other


def referring(draw: st.DrawFn, lab: dict[str, Any]) -> dict[str, Any]:
    """The lab with nobody in its open group, and more rules that refer to groups."""
    other = copy.deepcopy(lab)
    for instance in other["instances"].values():
        groups = [name for name in instance["security_groups"] if name != "open"]
        instance["security_groups"] = groups or [draw(st.sampled_from(["one", "two"]))]
    for name, group in other["vpcs"]["shop"]["security_groups"].items():
        rule = {"protocol": draw(st.sampled_from(["all", "tcp", "udp"])), "ports": "0-1023"}
        if rule["protocol"] == "all":
            del rule["ports"]
        rule["source"] = draw(st.sampled_from(["group:one", "group:two", "self"]))
        if rule["source"] == f"group:{name}":
            rule["source"] = "self"
        group["ingress"] = [*group["ingress"], *([] if rule in group["ingress"] else [rule])]
        if draw(st.booleans()):
            group["egress"] = [{"protocol": "all", "destination": draw(st.sampled_from(["group:one", "group:two"]))}]
    return other


def between_checked(draw: st.DrawFn, topology: Topology, vpc: str) -> Step:
    """A packet from one interface of a VPC to a private address of another; both check source and destination."""
    own = own_addresses(topology)
    checked = [i for i in topology.interfaces_of_vpc(vpc) if i.path in own and i.source_dest_check]
    pairs = [
        (a.path, x, y)
        for a in checked
        for b in checked
        if a is not b
        for x in own[a.path]
        for y in own[b.path]
        if ":" not in x and ":" not in y
    ]
    if not pairs:
        return Step("wait", wait_ms=1)
    node, source, destination = draw(st.sampled_from(pairs))
    ports = {"sport": draw(st.sampled_from(PORTS)), "dport": draw(st.sampled_from(PORTS))}
    upper: Any = draw(st.sampled_from([UDP(**ports), TCP(**ports, flags="S"), TCP(**ports, flags="A"), ICMP(id=1)]))
    return Step("packet", node, 4, bytes(IP(src=source, dst=destination) / upper))


def test_a_group_reference_is_the_set_of_its_members_addresses() -> None:
    """Between interfaces that packets reach directly; translation and appliances are where the two differ."""
    seen: Counter[str] = Counter()

    @settings(max_examples=part(2), backend=FRESH, phases=PHASES)
    @given(case=dense_cases, data=st.data())
    def law(case: Case, data: st.DataObject) -> None:
        lab = data.draw(st.composite(referring)(case.lab))
        named = Network(lab)
        listed = Network(by_address(lab), names=named.plane.names)
        without = Network(by_address(lab, none=True))
        for _ in range(8):
            what = data.draw(st.sampled_from(["packet", "packet", "answer", "error", "wait"]))
            step = Step(what, which=data.draw(st.integers(0, 9)), wait_ms=29_999)
            if what == "packet":
                step = data.draw(st.composite(between_checked)(named.plane.topology, "shop"))
            told = named.play(step)
            assert told == listed.play(step)
            assert named.sessions() == listed.sessions()
            seen["a reference decided"] += told != without.play(step)
        seen.update(named.seen)

    law()
    came_up(seen, "a reference decided", "NONE", "GROUP_INGRESS", "GROUP_EGRESS")


# -- tracked flows


def closed(lab: dict[str, Any]) -> dict[str, Any]:
    """The lab with no group admitting anything."""
    other = copy.deepcopy(lab)
    for vpc in other["vpcs"].values():
        for group in vpc["security_groups"].values():
            group["ingress"] = group["egress"] = []
    return other


def test_tracked_flows_go_on_both_ways_whatever_the_rules_say_now() -> None:
    """Untracked ones do not (EC2 User Guide, "Security group connection tracking")."""
    seen: Counter[str] = Counter()

    @settings(max_examples=part(2))
    @given(case=dense_cases, data=st.data())
    def law(case: Case, data: st.DataObject) -> None:
        network = Network(case.lab)
        guarded = {f"interface {each.path}" for each in network.plane.topology.interfaces}
        for _ in range(4):
            node, version, packet = data.draw(st.composite(aimed)(network.plane.topology))
            outcomes, emissions = network.send(node, TYPES[version] + packet)
            gone = [e for e in emissions if e[1] == "FORWARDED"]
            if outcomes[0][0] == "FORWARD" and len(gone) == 1:
                sender, receiver = f"interface {node}", gone[0][0]
                owners = [s[1] for s in network.sessions() if s[0] == "group"]
                kept = {end: end not in guarded or end in owners for end in (sender, receiver)}
                network.apply(closed(case.lab))
                network.emitted = [(receiver.partition(" ")[2], gone[0][3])]
                answers, told = network.play(Step("answer"))
                answer, is_reset = answers[0][1], any(each[1] == "RESET" for each in told)
                again = network.send(node, TYPES[version] + packet)[0][0][1]
                if all(kept.values()):
                    assert answer not in GATES
                    # A NAT gateway that knows nothing of the answer, which took another way, has reset the connection:
                    # a packet that opens one is of a new one then.
                    assert again not in GATES or is_reset
                    seen["tracked answer passed"] += answer == "NONE"
                    seen["tracked packet passed"] += again == "NONE"
                if not kept[sender]:
                    assert again in ("GROUP_EGRESS", "SOURCE_CHECK")
                if not kept[receiver]:
                    assert answer in ("GROUP_EGRESS", "SOURCE_CHECK")
                seen["untracked"] += not all(kept.values())
                network.apply(case.lab)
            network.forget()

    law()
    came_up(seen, "tracked answer passed", "tracked packet passed", "untracked")


# -- what a dropped packet leaves behind


def opened_by(hops: list[dict[str, Any]]) -> list[Any]:
    """The sessions that a packet opens which passes these hops: kind, owner, and the ends as they are there."""
    found: list[Any] = []
    through_nat = [n for n, hop in enumerate(hops) if hop["op"] == "nat-session" and hop["detail"] != "dropped"]
    for n, hop in enumerate(hops):
        ends = (hop["source"], hop["destination"], hop["source_port"], hop["destination_port"])
        # What need not be tracked is, once it has come through a NAT gateway.
        tracked = hop["detail"] == "new" or (hop["detail"] == "untracked" and n < max(through_nat, default=-1))
        if hop["op"] == "group-session" and tracked:
            found.append(("group", hop["object"], ends))
        elif hop["op"] == "nat-session" and hop["detail"] == "new":
            found.append(("nat", hop["object"], (0, ends[1], 0, 0)))
        elif hop["op"] == "flow-gate" and hop["detail"] == "new":
            found.append(("flow", 0, (0, ends[1], 0, 0)))  # a peering remembers under a name for each of its ends
    return found


def test_a_dropped_packet_leaves_the_effects_of_the_hops_it_passed_and_no_others() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=part(2), backend=FRESH, phases=PHASES)
    @given(case=dense_cases, data=st.data())
    def law(case: Case, data: st.DataObject) -> None:
        network = Network(case.lab)
        plane = network.plane
        for _ in range(6):
            node, version, packet = data.draw(packets_of(case, plane.topology))
            other = data.draw(st.integers(0, 5))
            if other == 0:  # to nobody, through the NAT gateway where there is a route to it
                nowhere = IP(src="10.0.2.10", dst="198.51.100.99") / UDP(sport=data.draw(st.sampled_from(PORTS)))
                node, version, packet = "c/eth0", 4, bytes(nowhere)
            elif other == 1:  # to somebody whose groups may not want it, and tracked, as all ICMP is
                to = data.draw(st.sampled_from(["10.0.1.10", "10.0.1.11", "10.0.2.11"]))
                node, version, packet = "c/eth0", 4, bytes(IP(src="10.0.2.10", dst=to) / ICMP())
            port = plane.port(node)
            interface = plane.interface(port)
            frame = interface.router_mac + interface.mac + TYPES[version] + packet
            trace = plane.engine.trace(frame, port, Overlay(), network.now)
            counted = Counter(plane.engine.counters().get(port, {}).get("reasons", {}))
            [(verdict, reason, _, _)], emissions = network.send(node, TYPES[version] + packet)
            told = trace.get("error", {"hops": [], "reason": 0})  # has a way of its own, and may die on it
            answer = told["hops"]  # a reset opens what it opens
            expected = [*opened_by(trace["hops"]), *opened_by(answer)]
            found = [(s["kind"], s["owner"], s["forward"]) for s in plane.engine.sessions()]
            shown = [
                (kind, owner if kind != "flow" else 0, (f[1], f[2], f[4], f[5]) if kind == "group" else (0, f[2], 0, 0))
                for kind, owner, f in found
            ]
            if verdict == "DROP":
                assert sorted(shown) == sorted(expected)
                counted += Counter(each for each in (Reason[reason], Reason(told["reason"])) if each)
                assert not [e for e in emissions if e[1] in ("FORWARDED", "FRAGMENT")]
                seen["dropped at once"] += not shown
                seen["dropped later"] += bool(shown)
                seen["dropped at the receiver"] += reason == "GROUP_INGRESS" and bool(shown)
                seen["dropped after NAT"] += any(kind == "nat" for kind, _, _ in found)
                assert plane.engine.counters()[port]["reasons"] == counted
            network.forget()

    law()
    came_up(seen, "dropped at once", "dropped later", "dropped at the receiver", "dropped after NAT")

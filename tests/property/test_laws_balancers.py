"""Laws of gateway load balancers: what passes an untouching appliance is as if it were not there; flows stay whole."""

from __future__ import annotations

import copy
import json
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

from dataplane.names import Names
from tests.property.balanced_labs import STICKINESS, few
from tests.property.fresh import FRESH, PHASES, part
from tests.property.geneve_frames import as_received, bounce, is_geneve, options_of
from tests.property.histories import Case, Network, Step, plays, wide_cases
from tests.property.test_laws import came_up
from tests.property.test_memo import TYPES, swap_ends
from tests.scenario.gwlb import APP, APP6, DB, DB6, FAR, FAR6, LAB

INSPECTED: dict[str, Any] = json.loads(json.dumps(YAML(typ="safe").load(LAB)))
for table, subnet in (("apps", 3), ("data", 2)):
    more = {"destination": f"2001:db8:10:{subnet}::/64", "target": "vpc-endpoint:inspect"}
    INSPECTED["vpcs"]["shop"]["route_tables"][table]["routes"].append(more)
MTU, HOPS = 8500, 2
"""Of an endpoint; and what the TTL loses there."""
SIZES = (0, 1, 500, 1453, 1473, 3000, 8440, 8460)
SEGMENTS = (536, 8440, 8441, 8460, 8461, 8961, 65535)


def untouched(lab: dict[str, Any]) -> dict[str, Any]:
    """The lab with everything going where it would go without endpoints."""
    other = copy.deepcopy(lab)
    shop = other["vpcs"]["shop"]
    for table in shop["route_tables"].values():
        for route in table["routes"]:
            if route["target"] == "vpc-endpoint:inspect":
                route["target"] = "internet-gateway"
        if table is shop["route_tables"]["ingress"]:
            table["routes"] = []
        else:
            table["routes"] = [route for route in table["routes"] if route["destination"] in ("0.0.0.0/0", "::/0")]
    return other


@st.composite
def flows(draw: st.DrawFn) -> tuple[str, int, Any]:
    """Who sends, the version, and a packet that begins a flow."""
    node, four, six, to4, to6 = draw(
        st.sampled_from([("app", APP, APP6, DB, DB6), ("app", APP, APP6, FAR, FAR6), ("db", DB, DB6, APP, APP6)])
    )
    version, ttl = draw(st.sampled_from([4, 4, 6])), draw(st.sampled_from([8, 64, 255]))
    body = bytes(draw(st.sampled_from(SIZES)))
    if to4 == FAR and version == 6:
        body = body[:1400]
    ports = {"sport": draw(st.integers(1024, 65535)), "dport": draw(st.sampled_from([53, 80, 6081]))}
    kind = draw(st.sampled_from(["tcp", "tcp", "udp", "echo", "gre"]))
    head: Any = IP(src=four, dst=to4, ttl=ttl, id=draw(st.integers(1, 9)), tos=draw(st.sampled_from([0, 0xB8])))
    if version == 6:
        head = IPv6(src=six, dst=to6, hlim=ttl, fl=draw(st.sampled_from([0, 7])))
    if kind == "tcp":
        options = [("MSS", draw(st.sampled_from(SEGMENTS))), ("WScale", 7)]
        return node, version, head / TCP(**ports, flags="S", options=options) / body
    if kind == "udp":
        sums = draw(st.sampled_from([{}, {"chksum": 0}])) if version == 4 else {}
        return node, version, head / UDP(**ports, **sums) / body
    if kind == "echo":
        return (
            node,
            version,
            head
            / (ICMP(id=7) if version == 4 else ICMPv6EchoRequest(id=7, data=body))
            / (body if version == 4 else b""),
        )
    if version == 4:
        head.proto = 47
    else:
        head.nh = 47
    return node, version, head / (bytes(4) + body)


def inspected(network: Network, node: str, packet: bytes) -> tuple[list[tuple[str, bytes]], list[bytes]]:
    """What leaves in the end when every appliance sends back what it gets: receivers and frames; the GENEVE packets."""
    seen, sent = [], network.send(f"{node}/eth0", packet)[1]
    for _ in range(8):
        if not sent or not is_geneve(sent[0][3]) or not sent[0][0].startswith("interface fw"):
            break
        more = []
        for receiver, _, _, frame in sent:
            seen.append(frame)
            more += network.send(receiver.removeprefix("interface "), bounce(frame))[1]
        sent = more
    return [(receiver, frame) for receiver, _, _, frame in sent], seen


def compensated(frame: bytes) -> Any:
    """The packet of a frame, its TTL and the segment size it asks for as they would be without an endpoint."""
    packet: Any = (IP if frame[12:14] == TYPES[4] else IPv6)(frame[14:])
    if frame[12:14] == TYPES[4]:
        packet.ttl += HOPS
        packet.chksum = None
    else:
        packet.hlim += HOPS
    return packet


def test_what_passes_an_appliance_untouched_arrives_as_if_it_had_not_been_there() -> None:
    """But for the TTL and the segment size that TCP asks for."""
    seen: Counter[str] = Counter()

    @given(drawn=st.lists(flows(), min_size=1, max_size=6))
    def law(drawn: list[tuple[str, int, Any]]) -> None:
        here, there = Network(INSPECTED), Network(untouched(INSPECTED))
        for node, version, packet in drawn:
            raw = bytes(packet)
            ended, tunnelled = inspected(here, node, TYPES[version] + raw)
            outcomes, plain = there.send(f"{node}/eth0", TYPES[version] + raw)
            if len(raw) > MTU:
                assert (ended, tunnelled) == ([], [])
                seen["too large"] += 1
                continue
            assert outcomes[0][0] == "FORWARD", outcomes
            assert tunnelled
            assert [receiver for receiver, _ in ended] == [receiver for receiver, _, _, _ in plain]
            for (_, frame), (_, _, _, expected) in zip(ended, plain, strict=True):
                got, wanted = compensated(frame), bytes(expected[14:])
                most = MTU - (40 if version == 4 else 60)
                if TCP in got and TCP in packet and dict(packet[TCP].options)["MSS"] > most:
                    assert dict(got[TCP].options)["MSS"] == most
                    wanted = bytes(got.__class__(wanted))[: -len(bytes(got[TCP]))] + bytes(got[TCP])
                    seen["clamped"] += 1  # and the checksum is another, which `Network` of scenarios checks
                assert bytes(got) == wanted, (got, expected)
            seen[f"IPv{version}"] += 1
            seen["fragments"] += len(ended) > 1

    law()
    came_up(seen, "IPv4", "IPv6", "clamped", "too large", "fragments")


def label(frame: bytes) -> tuple[bytes, bytes, bytes]:
    """Target, outer source port and options of a frame in GENEVE."""
    return frame[30:34], frame[34:36], b"".join(options_of(frame[42:]))


@settings(max_examples=part(2))
@given(
    stickiness=st.sampled_from(STICKINESS),
    cross_zone=st.booleans(),
    drawn=st.lists(flows(), min_size=2, max_size=8),
    data=st.data(),
)
def test_both_directions_of_a_flow_are_one(
    stickiness: str, cross_zone: bool, drawn: list[Any], data: st.DataObject
) -> None:
    """They have the same target, cookie and port; flows between two ends share the target if that is how it sticks."""
    lab = copy.deepcopy(INSPECTED)
    lab["vpcs"]["security"]["target_groups"]["fleet"]["stickiness"] = stickiness
    lab["vpcs"]["security"]["gateway_load_balancers"]["inspection"]["cross_zone"] = cross_zone
    network, cookies, targets = Network(lab), dict[bytes, tuple[Any, ...]](), dict[Any, bytes]()
    for node, version, packet in drawn:
        if len(bytes(packet)) > MTU:
            continue
        ended, tunnelled = inspected(network, node, TYPES[version] + bytes(packet))
        labels = {label(frame) for frame in tunnelled}
        if len(ended) == 1:
            receiver, frame = ended[0]
            _, answered = inspected(
                network, receiver.removeprefix("interface ").removesuffix("/eth0"), swap_ends(frame)
            )
            labels |= {label(frame) for frame in answered}
            assert answered
        assert len(labels) == 1, labels
        [(target, port, options)] = labels
        inner = (IP if version == 4 else IPv6)(as_received(tunnelled[0])[14:])
        proto = inner.proto if version == 4 else inner.nh
        ends = frozenset((inner.src, inner.dst))
        ports = frozenset((inner.sport, inner.dport)) if proto in (6, 17) else None
        flow = (ends, proto, ports)
        assert cookies.setdefault(options, (flow, port)) == (flow, port), "two flows have one cookie"
        sticky = {STICKINESS[0]: flow, STICKINESS[1]: (ends, proto), STICKINESS[2]: ends}[stickiness]
        assert targets.setdefault(sticky, target) == target


def test_members_that_come_or_go_move_no_other_members_flows() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=part(2))
    @given(data=st.data())
    def law(data: st.DataObject) -> None:
        names = Names()
        fleet = ["fw1", "fw2", "fw3"]
        gone = data.draw(st.sampled_from(fleet))
        first = data.draw(st.integers(1024, 60000))
        chosen = []
        for targets in (fleet, [name for name in fleet if name != gone], list(reversed(fleet))):
            lab = copy.deepcopy(INSPECTED)
            lab["vpcs"]["security"]["target_groups"]["fleet"]["targets"] = targets
            lab["vpcs"]["security"]["gateway_load_balancers"]["inspection"]["cross_zone"] = True
            network, found = Network(lab, names=names), []
            for port in range(first, first + 24):
                packet = bytes(IP(src=APP, dst=DB) / UDP(sport=port, dport=53))
                [(receiver, _, _, _)] = network.send("app/eth0", TYPES[4] + packet)[1]
                found.append(receiver.removeprefix("interface ").removesuffix("/eth0"))
            chosen.append(found)
        before, without, turned = chosen
        assert before == turned
        for one, other in zip(before, without, strict=True):
            assert one in (other, gone)
            seen["moved"] += one == gone
            seen["stayed"] += one == other
        seen.update(before)

    law()
    came_up(seen, "moved", "stayed", "fw1", "fw2", "fw3")


def with_another(lab: dict[str, Any]) -> dict[str, Any]:
    """The lab, and a VPC with shop's addresses, with a balancer, an appliance and an endpoint of its own."""
    other = copy.deepcopy(lab)
    other["vpcs"]["alien"] = {
        "cidr": "10.0.0.0/16",
        "subnets": {
            "public": {"cidr": "10.0.1.0/24", "route_table": "out"},
            "private": {"cidr": "10.0.2.0/24", "route_table": "out"},
            "gwlbe": {"cidr": "10.0.7.0/24"},
        },
        "route_tables": {"out": {"routes": [{"destination": "10.0.2.0/24", "target": "vpc-endpoint:inspect"}]}},
        "gateway_load_balancers": {"first": {"subnets": ["public"], "target_group": "fleet"}},
        "target_groups": {"fleet": {"targets": ["fw9"]}},
        "endpoint_services": {"inspection": {"gateway_load_balancer": "first", "acceptance_required": False}},
        "gateway_load_balancer_endpoints": {"inspect": {"service": "alien/inspection", "subnet": "gwlbe"}},
    }
    other["instances"]["fw9"] = {"vpc": "alien", "subnet": "public", "private_ip": "10.0.1.10"}
    other["instances"]["client9"] = {"vpc": "alien", "subnet": "public", "private_ip": "10.0.1.11"}
    return other


def test_an_unrelated_balancer_changes_nothing() -> None:
    """Not a byte: neither targets, nor cookies, nor ports of others; also while it has flows of its own."""
    seen: Counter[str] = Counter()

    @settings(backend=FRESH, phases=PHASES)
    @given(case=st.one_of(wide_cases, st.just(Case(INSPECTED))), data=st.data())
    def law(case: Case, data: st.DataObject) -> None:
        names = Names()
        here = Network(case.lab, names=names)
        there = Network(with_another(case.lab), names=names)
        alien = bytes(IP(src="10.0.1.11", dst="10.0.2.10") / UDP(sport=1, dport=2))
        for step in data.draw(plays(case, here.plane.topology)):
            if few(data.draw, 3):
                there.play(Step("packet", "client9/eth0", 4, alien))
                there.told.pop()
                there.emitted = list(here.emitted)
            assert here.play(step) == there.play(step)
            assert here.sessions() == [row for row in there.sessions() if "alien" not in row[1] and "9" not in row[1]]
        seen.update(here.seen)
        seen["GENEVE"] += any(is_geneve(frame) for _, frame in here.emitted)

    law()
    came_up(seen, "NONE", "GENEVE")

"""Traces as values, JSON and text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.capture import Record, comment_of
from dataplane.names import Name, Names
from dataplane.trace import Action, Packet, Step, Trace, Walk, hops_of
from dataplane.trace_text import ACTION_TEXT, path_text, render, render_verdict, why_text
from dataplane.verdict import Reason, Verdict, aws_code
from tests.scenario.labs import SHOP
from tests.scenario.network import Network

APP = Name("interface", "app/eth0")
EXAMPLE = Name("interface", "example/eth0")
ACL = Name("network-acl", "shop/default")
TABLE = Name("route-table", "shop/private")
VPC = Name("vpc", "shop")
NAT = Name("nat-gateway", "shop/nat")
EGRESS = Name("security-group-rule", "shop/app egress all to 0.0.0.0/0")
PERMIT = Name("acl-rule", "shop/default egress 100 allow all to 0.0.0.0/0")
ROUTE = Name("route", "shop/private 0.0.0.0/0 -> nat-gateway:nat")

INSIDE = Packet(
    protocol=6, source="10.0.2.10", destination="198.51.100.10", source_port=40000, destination_port=80, ttl=64
)
OUTSIDE = Packet(
    protocol=6, source="203.0.113.10", destination="198.51.100.10", source_port=1024, destination_port=80, ttl=63
)
STEPS = (
    (APP, Step(action=Action.SEND, packet=INSIDE)),
    (APP, Step(action=Action.CHECK, packet=INSIDE, note="source check")),
    (APP, Step(action=Action.TRACK, rule=EGRESS, packet=INSIDE)),
    (ACL, Step(action=Action.PERMIT, rule=PERMIT, packet=INSIDE)),
    (TABLE, Step(action=Action.ROUTE, rule=ROUTE, packet=INSIDE)),
    (NAT, Step(action=Action.TRANSLATE, packet=OUTSIDE)),
    (NAT, Step(action=Action.HOP, packet=OUTSIDE, note="MTU 8500")),
)
DELIVERED = Walk(
    hops=hops_of(
        (
            *STEPS,
            (VPC, Step(action=Action.ROUTE, rule=EXAMPLE, packet=OUTSIDE)),
            (EXAMPLE, Step(action=Action.DELIVER, packet=OUTSIDE)),
        )
    ),
    verdict=Verdict.FORWARD,
    object=EXAMPLE,
)
DROPPED = Walk(hops=hops_of(STEPS[:4]), verdict=Verdict.DROP, reason=Reason.NO_ROUTE, object=TABLE)
BACK = Packet(
    protocol=6, source="198.51.100.10", destination="203.0.113.10", source_port=80, destination_port=1024, ttl=64
)
REPLY = Walk(
    hops=hops_of([(EXAMPLE, Step(action=Action.SEND, packet=BACK))]),
    verdict=Verdict.DROP,
    reason=Reason.ACL_INGRESS,
    object=ACL,
    rule=Name("acl-rule", "shop/default ingress * deny all"),
)


def make(forward: Walk, reply: Walk | None = None) -> Trace:
    return Trace(source="app", destination="example", forward=forward, reply=reply)


def test_consecutive_steps_at_one_object_are_one_hop() -> None:
    assert [hop.object for hop in DELIVERED.hops] == [APP, ACL, TABLE, NAT, VPC, EXAMPLE]
    assert [step.action for step in DELIVERED.hops[0].steps] == [Action.SEND, Action.CHECK, Action.TRACK]
    assert DELIVERED.hops[3].packet == OUTSIDE


def test_reachable_needs_both_directions() -> None:
    assert not make(DROPPED).reachable
    assert not make(DELIVERED).reachable
    assert not make(DELIVERED, REPLY).reachable
    assert make(DELIVERED, DELIVERED).reachable


def test_what_waits_for_its_first_fragment_has_not_arrived() -> None:
    waits = Walk(hops=(), verdict=Verdict.HOLD, object=NAT)
    assert not waits.delivered
    assert not make(waits, DELIVERED).reachable


def test_an_answer_of_the_router_itself_needs_no_reply_walk() -> None:
    served = Walk(hops=(), verdict=Verdict.SERVE, object=Name("subnet", "shop/public"))
    assert make(served).reachable


def test_the_deciding_walk_is_the_one_that_failed() -> None:
    assert make(DROPPED).deciding_walk is DROPPED
    assert make(DELIVERED, REPLY).deciding_walk is REPLY
    assert make(DELIVERED, DELIVERED).deciding_walk is DELIVERED
    assert REPLY.decided_by == REPLY.rule
    assert DROPPED.decided_by == TABLE


@pytest.mark.parametrize("trace", [make(DROPPED), make(DELIVERED, REPLY), make(DELIVERED, DELIVERED)])
def test_json_round_trip(trace: Trace) -> None:
    assert Trace.from_json(json.loads(json.dumps(trace.to_json()))) == trace


def test_json_form_is_pinned() -> None:
    found = make(DROPPED).to_json()
    assert list(found) == ["version", "source", "destination", "reachable", "forward", "reply", "story"]
    assert {key: found["forward"][key] for key in ("verdict", "reason", "text", "aws_code", "object", "rule")} == {
        "verdict": "DROP",
        "reason": "NO_ROUTE",
        "text": "the route table has no route to the destination",
        "aws_code": "NO_ROUTE_TO_DESTINATION",
        "object": {"kind": "route-table", "path": "shop/private"},
        "rule": None,
    }
    assert found["forward"]["hops"][1] == {
        "object": {"kind": "network-acl", "path": "shop/default"},
        "steps": [
            {
                "action": "permit",
                "rule": {"kind": "acl-rule", "path": "shop/default egress 100 allow all to 0.0.0.0/0"},
                "packet": {
                    "protocol": 6,
                    "source": "10.0.2.10",
                    "destination": "198.51.100.10",
                    "source_port": 40000,
                    "destination_port": 80,
                    "icmp": None,
                    "ttl": 64,
                    "length_bytes": 0,
                },
                "note": "",
            }
        ],
    }


@pytest.mark.parametrize("wrong", [{}, {"version": 2}, {"version": 1}, {"version": 1, "source": "a", "forward": 3}])
def test_what_is_not_a_trace_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="trace"):
        Trace.from_json(wrong)


def test_text_of_a_delivered_packet() -> None:
    assert render(make(DELIVERED)) == "\n".join(
        [
            "app -> example   tcp 10.0.2.10:40000 > 198.51.100.10:80",
            " 1  interface app/eth0        sends; new flow (group shop/app   10.0.2.10:40000 > 198.51.100.10:80",
            "                              egress all to 0.0.0.0/0)",
            " 2  network-acl shop/default  permits (egress 100 allow all to  10.0.2.10:40000 > 198.51.100.10:80",
            "                              0.0.0.0/0)",
            " 3  route-table shop/private  routes (0.0.0.0/0 ->              10.0.2.10:40000 > 198.51.100.10:80",
            "                              nat-gateway:nat)",
            " 4  nat-gateway shop/nat      translates                        203.0.113.10:1024 > 198.51.100.10:80",
            " 5  vpc shop                  hands to interface example/eth0   203.0.113.10:1024 > 198.51.100.10:80",
            " 6  interface example/eth0    receives                          203.0.113.10:1024 > 198.51.100.10:80",
            " => DELIVERED to interface example/eth0",
        ]
    )


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    far = Packet(
        protocol=17,
        source="2001:db8:1111:2222:3333:4444:5555:6666",
        destination="2001:db8:1111:2222:3333:4444:5555:7777",
        source_port=65535,
        destination_port=65535,
    )
    long = Walk(
        hops=hops_of([(Name("interface", "x" * 90), Step(action=Action.SEND, rule=EGRESS, packet=far))]),
        verdict=Verdict.DROP,
        reason=Reason.EDGE_TO_EDGE,
        object=Name("peering", "y" * 150),
    )
    lines = render(make(long, DELIVERED), width=width).splitlines()
    assert max(len(line) for line in lines) <= width


def test_an_object_where_checks_merely_passed_has_no_line_and_no_number() -> None:
    quiet = (Name("internet-gateway", "shop"), Step(action=Action.HOP, packet=OUTSIDE))
    walk = Walk(
        hops=hops_of([STEPS[0], quiet, (EXAMPLE, Step(action=Action.DELIVER, packet=OUTSIDE))]), verdict=Verdict.FORWARD
    )
    assert [line.split()[:3] for line in render(make(walk)).splitlines()[1:3]] == [
        ["1", "interface", "app/eth0"],
        ["2", "interface", "example/eth0"],
    ]
    assert "internet-gateway shop" in render(make(walk), everything=True)


@given(st.lists(st.text("abc:.", min_size=1, max_size=90), min_size=1, max_size=12), st.integers(60, 120))
def test_whatever_is_broken_to_fit_is_told_whole(words: list[str], width: int) -> None:
    """Names in the objects' column, notes in the middle one: columns side by side have all of their words, in order."""
    note, name = " ".join(words), "".join(words)[:200]
    hop = (Name("interface", name), Step(action=Action.SEND, packet=INSIDE, note=note))
    walk = Walk(hops=hops_of([hop]), verdict=Verdict.FORWARD)
    title, *rows, _ = render(make(walk), width=width).splitlines()
    assert max(map(len, [title, *rows])) <= width
    told = "".join(rows).replace(" ", "")
    for text in (name, note, str(INSIDE)):
        letters = iter(told)
        assert all(letter in letters for letter in text.replace(" ", ""))
    everything = "1interface" + name + f"sends({note})".replace(" ", "") + str(INSIDE).replace(" ", "")
    assert sorted(told) == sorted(everything)


def test_everything_that_can_happen_has_words_of_its_own() -> None:
    assert set(ACTION_TEXT) == set(Action)
    assert len(set(ACTION_TEXT.values())) == len(Action)
    assert all(ACTION_TEXT.values())


def test_checks_that_merely_passed_are_shown_on_request_only() -> None:
    assert "source check" not in render(make(DELIVERED))
    assert "check passed (source check)" in render(make(DELIVERED), width=160, everything=True)
    assert "MTU 8500" in render(make(DELIVERED), width=160, everything=True)


def test_both_directions_are_drawn() -> None:
    text = render(make(DELIVERED, REPLY))
    assert "\n\nexample -> app   the answer: tcp 198.51.100.10:80 > 203.0.113.10:1024\n" in text
    assert text.splitlines()[-2:] == [
        " => DROPPED by network-acl shop/default: acl-rule shop/default ingress * deny all: denied by the",
        "    network ACL on the way into the subnet [SUBNET_ACL_RESTRICTION]",
    ]


@pytest.mark.parametrize(
    ("walk", "text"),
    [
        (DELIVERED, "DELIVERED to interface example/eth0"),
        (Walk(hops=(), verdict=Verdict.FORWARD), "DELIVERED"),
        (Walk(hops=(), verdict=Verdict.SERVE, object=ACL), "ANSWERED by network-acl shop/default"),
        (
            Walk(hops=(), verdict=Verdict.HOLD, object=NAT),
            "HELD by nat-gateway shop/nat until the first fragment comes",
        ),
        (
            DROPPED,
            (
                "DROPPED by route-table shop/private: the route table has no route to the destination "
                "[NO_ROUTE_TO_DESTINATION]"
            ),
        ),
        (Walk(hops=(), verdict=Verdict.DROP, reason=Reason.LOOP), "DROPPED: routing loop"),
        (
            Walk(
                hops=(), verdict=Verdict.DROP, reason=Reason.GROUP_INGRESS, object=APP, note="security group shop/app"
            ),
            (
                "DROPPED by interface app/eth0 (security group shop/app): no inbound security group rule allows it "
                "[ENI_SG_RULES_MISMATCH]"
            ),
        ),
        (
            Walk(hops=(), verdict=Verdict.DROP, reason=Reason.OUTSIDE_NO_ROUTE, object=Name("internet", "internet")),
            "DROPPED by internet: nobody on the internet has the destination address",
        ),
    ],
)
def test_verdict_in_one_line(walk: Walk, text: str) -> None:
    assert render_verdict(walk) == text


@pytest.mark.parametrize(
    ("walk", "why"),
    [
        (DROPPED, "route-table shop/private has no route to 198.51.100.10"),
        (
            Walk(hops=DROPPED.hops, verdict=Verdict.DROP, reason=Reason.BLACKHOLE, object=TABLE, rule=ROUTE),
            "route-table shop/private: 0.0.0.0/0 -> nat-gateway:nat is a blackhole",
        ),
        (
            Walk(hops=(), verdict=Verdict.DROP, reason=Reason.GROUP_EGRESS, object=APP, note="security group shop/app"),
            "no outbound rule of security group shop/app allows it",
        ),
        (
            Walk(
                hops=(), verdict=Verdict.DROP, reason=Reason.GROUP_INGRESS, object=APP, note="security group shop/app"
            ),
            "no inbound rule of security group shop/app allows it",
        ),
        (
            Walk(
                hops=(), verdict=Verdict.DROP, reason=Reason.ACL_EGRESS, object=ACL, note="rule *, as no other matches"
            ),
            "network-acl shop/default egress, rule *, as no other matches",
        ),
        (
            Walk(
                hops=(), verdict=Verdict.DROP, reason=Reason.ACL_INGRESS, object=ACL, note="rule *, as no other matches"
            ),
            "network-acl shop/default ingress, rule *, as no other matches",
        ),
        (
            Walk(
                hops=DROPPED.hops,
                verdict=Verdict.DROP,
                reason=Reason.OUTSIDE_NO_ROUTE,
                object=Name("internet", "internet"),
            ),
            "nobody on the internet has 198.51.100.10",
        ),
        (
            Walk(hops=(), verdict=Verdict.DROP, reason=Reason.TTL_EXCEEDED, object=NAT),
            "nat-gateway shop/nat: TTL ran out",
        ),
        (Walk(hops=(), verdict=Verdict.DROP, reason=Reason.LOOP), "routing loop"),
    ],
    ids=lambda each: each.reason.name if isinstance(each, Walk) else "",
)
def test_why_in_few_words(walk: Walk, why: str) -> None:
    assert why_text(make(walk)) == why
    assert why_text(make(DELIVERED, walk)) == f"the answer: {why}"


def test_why_names_the_rule_that_decided_by_what_its_owner_does_not_say_already() -> None:
    denied = Walk(hops=(), verdict=Verdict.DROP, reason=Reason.ACL_EGRESS, object=ACL, rule=PERMIT)
    text = why_text(make(denied))
    assert text == "network-acl shop/default egress 100 allow all to 0.0.0.0/0"
    ruled = Walk(hops=(), verdict=Verdict.DROP, reason=Reason.TTL_EXCEEDED, object=APP, rule=EGRESS)
    assert why_text(make(ruled)).startswith("security-group-rule shop/app egress all to 0.0.0.0/0: ")
    assert why_text(make(DELIVERED, DELIVERED)) == ""


def test_a_path_in_few_words_is_its_routes() -> None:
    again = Name("route", "shop/public 0.0.0.0/0 -> internet-gateway")
    routed = [(TABLE, Step(action=Action.ROUTE, rule=rule, packet=INSIDE)) for rule in (ROUTE, again, ROUTE)]
    delivered = Walk(hops=hops_of(routed), verdict=Verdict.FORWARD)
    assert path_text(make(delivered)) == (
        "shop/private 0.0.0.0/0 -> nat-gateway:nat, then shop/public 0.0.0.0/0 -> internet-gateway"
    )
    shut = (TABLE, Step(action=Action.DROP, rule=again, packet=INSIDE))
    died = Walk(hops=hops_of([routed[0], shut]), verdict=Verdict.DROP, reason=Reason.BLACKHOLE)
    assert path_text(make(died)) == "shop/private 0.0.0.0/0 -> nat-gateway:nat", "what it died of it did not take"
    near = Walk(hops=hops_of([(VPC, Step(action=Action.ROUTE, rule=APP, packet=INSIDE))]), verdict=Verdict.FORWARD)
    assert path_text(make(near, near)) == "in one subnet"
    refused = Walk(hops=hops_of(STEPS[:2]), verdict=Verdict.DROP, reason=Reason.GROUP_EGRESS, object=APP)
    assert path_text(make(refused)) == "", "it came to no route"
    out = (Name("internet", "internet"), Step(action=Action.ROUTE, rule=EXAMPLE, packet=INSIDE))
    outside = Walk(hops=hops_of([out]), verdict=Verdict.FORWARD)
    assert path_text(make(outside, outside)) == "across the internet"


def test_ipv6_endpoints_have_brackets_and_icmp_its_type() -> None:
    packet = Packet(protocol=6, source="2001:db8::1", destination="2001:db8::2", source_port=1, destination_port=2)
    assert packet.describe() == "tcp [2001:db8::1]:1 > [2001:db8::2]:2"
    echo = Packet(protocol=1, source="10.0.0.1", destination="10.0.0.2", icmp=(8, 0))
    assert echo.describe() == "icmp 10.0.0.1 > 10.0.0.2 (type 8, code 0)"
    assert Packet(protocol=47, source="a", destination="b").describe() == "protocol 47 a > b"


def test_the_path_leaves_out_objects_that_only_checked() -> None:
    quiet = (Name("internet-gateway", "shop"), Step(action=Action.HOP, packet=OUTSIDE))
    walk = Walk(hops=hops_of([*STEPS, quiet]), verdict=Verdict.FORWARD)
    assert walk.path() == (
        "interface app/eth0",
        "network-acl shop/default",
        "route-table shop/private",
        "nat-gateway shop/nat",
    )


@pytest.mark.parametrize(
    ("destination", "code"),
    [
        ("172.20.0.1", "IGW_DESTINATION_ADDRESS_NOT_IN_RFC1918_EGRESS"),
        ("100.64.0.0", "IGW_DESTINATION_ADDRESS_NOT_IN_RFC6598_EGRESS"),
        ("100.127.255.255", "IGW_DESTINATION_ADDRESS_NOT_IN_RFC6598_EGRESS"),
        ("10.0.9.9", "NO_POSSIBLE_DESTINATION"),
    ],
)
def test_codes_of_aws_depend_on_the_address(destination: str, code: str) -> None:
    walk = Network(SHOP).trace("web", destination).forward
    assert walk.aws_code == code
    assert render_verdict(walk).endswith(f"[{code}]")


def test_codes_of_private_sources() -> None:
    assert aws_code(Reason.PRIVATE_SOURCE, "10.0.0.1", "100.64.0.1") == "IGW_SOURCE_ADDRESS_NOT_IN_RFC1918_INGRESS"
    assert aws_code(Reason.PRIVATE_SOURCE, "100.127.255.255", "::1") == "IGW_SOURCE_ADDRESS_NOT_IN_RFC6598_INGRESS"
    assert aws_code(Reason.NO_ROUTE, "100.64.0.1", "100.64.0.1") == "NO_ROUTE_TO_DESTINATION"


def test_codes_of_aws_in_captures() -> None:
    names = Names()
    gateway = names.intern("internet-gateway", "shop")
    ends = {"source": 0x0A000102, "destination": 0x64400001}
    fate = (int(Verdict.DROP), int(Reason.PRIVATE_DESTINATION), gateway, 0, 0, True, 0, 0, 0)
    comments = [comment_of(Record(0, 0, b"", *fate, hops), names) for hops in ([ends], [])]
    assert ["NOT_IN_RFC6598_EGRESS" in each for each in comments] == [True, False]

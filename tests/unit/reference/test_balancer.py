"""What may be proposed to the reference engine for a balanced flow: target, cookie, outer source port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Raw

from dataplane.reference import InadmissibleChoiceError, ReferencePlane
from dataplane.verdict import Reason
from tests.scenario.gwlb import APP, DB, FAR, LAB, NODE_A, Delivery, answer, balancer, group, set_state
from tests.scenario.network import Network
from tests.scenario.test_gwlb_routes import NAT

QUERY = IP(src=APP, dst=DB) / UDP(sport=5000, dport=53)
OTHER = IP(src=APP, dst=DB) / UDP(sport=5001, dport=53)
FW1, FW2, FW3 = "10.9.1.21", "10.9.1.22", "10.9.2.23"


def geneve(target: str = FW2, cookie: int = 0xABCDEF, port: int = 50000, inside: Any = QUERY, **ip: Any) -> bytes:
    """The frame that another engine says it has sent to a target."""
    header = bytes.fromhex("0800080000000000 01080102f583215d2e66b39c 010802020000000000000000 01080301")
    udp = UDP(sport=port, dport=6081) / Raw(header + cookie.to_bytes(4) + bytes(inside))
    return bytes(12) + b"\x08\x00" + bytes(IP(src=ip.get("src", NODE_A), dst=target, id=0) / udp)


def network(text: str = LAB) -> Network:
    return Network(text, engine="reference")


def put(
    net: Network, packet: Any, proposals: Sequence[bytes] | None = (), *, node: str = "app", told: Any = None
) -> tuple[Reason, list[Delivery]]:
    """A packet that another engine has made `proposals` of: its fate, and what targets got."""
    plane: ReferencePlane = net.plane
    frames = None if proposals is None else [list(proposals)]
    [outcome], emissions = plane.process([net.frame(node, packet)], [net.port(node)], net.now, frames, told=told)
    names = plane.names
    return outcome.reason, [Delivery(names[e.port].path.split("/")[0], e.frame[14:]) for e in emissions]


def test_proposal_is_adopted() -> None:
    net = network()
    _, [got] = put(net, QUERY, [geneve()])
    assert (got.target, got.cookie.hex(), got.source_port) == ("fw2", "00abcdef", 50000)
    assert net.send("fw2", answer(got)).to == "db"
    _, [again] = put(net, QUERY, [])
    assert (again.target, again.identity) == (got.target, got.identity)


@pytest.mark.parametrize("port", [49152, 65535])
def test_ports_that_may_be(port: int) -> None:
    assert put(network(), QUERY, [geneve(port=port)])[1][0].source_port == port


@pytest.mark.parametrize("port", [0, 6081, 49151])
def test_ports_that_may_not(port: int) -> None:
    with pytest.raises(InadmissibleChoiceError):
        put(network(), QUERY, [geneve(port=port)])


@pytest.mark.parametrize("target", [FW3, "10.9.1.99"])
def test_target_of_another_zone_or_of_nobody(target: str) -> None:
    with pytest.raises(InadmissibleChoiceError):
        put(network(), QUERY, [geneve(target)])


def test_target_of_another_zone_with_cross_zone() -> None:
    assert put(network(balancer(cross_zone="true")), QUERY, [geneve(FW3)])[1][0].target == "fw3"


def test_target_that_takes_nothing() -> None:
    net = network()
    set_state(net, {"fw2": "unhealthy"})
    with pytest.raises(InadmissibleChoiceError):
        put(net, QUERY, [geneve(FW2)])
    assert put(net, OTHER, [geneve(FW1)])[1][0].target == "fw1"


def test_stickiness_is_respected() -> None:
    net = network(group(stickiness="source_ip_dest_ip"))
    assert put(net, QUERY, [geneve(FW2, 1)])[1][0].target == "fw2"
    with pytest.raises(InadmissibleChoiceError):
        put(net, OTHER, [geneve(FW1, 2)])


def test_cookie_that_another_flow_of_the_endpoint_has() -> None:
    net = network()
    put(net, QUERY, [geneve(cookie=7)])
    with pytest.raises(InadmissibleChoiceError):
        put(net, OTHER, [geneve(cookie=7)])


def test_cookie_of_a_flow_that_has_died_is_free() -> None:
    net = network()
    put(net, QUERY, [geneve(cookie=7)])
    net.now += 120_000
    assert put(net, OTHER, [geneve(cookie=7)])[1][0].cookie == (7).to_bytes(4)


def test_another_endpoint_may_have_the_same() -> None:
    net = network()
    put(net, QUERY, [geneve(cookie=7)])
    theirs = geneve(cookie=7).replace(bytes.fromhex("f583215d2e66b39c"), (1).to_bytes(8))
    assert put(net, QUERY, [theirs], node="app2")[1][0].cookie == (7).to_bytes(4)


def test_what_nobody_has_seen_may_still_be_chosen() -> None:
    net = network()
    _, [stand_in] = put(net, QUERY)
    assert net.send(stand_in.target, answer(stand_in)).reason is Reason.GENEVE_COOKIE_UNKNOWN
    for target, name in ((FW1, "fw1"), (FW2, "fw2")):
        flow = OTHER.copy()
        flow[UDP].sport += len(name + target) + int(target[-1])
        put(net, flow)
        assert put(net, flow, [geneve(target, int(target[-1]))])[1][0].target == name


def test_target_that_is_only_told() -> None:
    """Of a packet that died on its way to the target no frame tells."""
    for name in ("fw1", "fw2"):
        net = network()
        number = net.plane.names.find("target", f"security/fleet/{name}")
        assert put(net, QUERY, told=[[(1, "encapsulate", number)]])[1][0].target == name


def test_moving_away_is_a_choice_too() -> None:
    net = network(group(on_deregistration="rebalance", on_unhealthy="rebalance"))
    put(net, QUERY, [geneve(FW2)])
    set_state(net, {"fw2": "unhealthy"})
    with pytest.raises(InadmissibleChoiceError):
        put(net, QUERY, [geneve(FW2)])
    assert put(net, QUERY, [geneve(FW1)])[1][0].target == "fw1"


def test_port_of_a_nat_gateway_is_read_from_inside() -> None:
    net = network(NAT)
    inside = IP(src="10.0.5.5", dst=FAR, ttl=62) / UDP(sport=33333, dport=53)
    _, [got] = put(net, IP(src="10.0.3.10", dst=FAR) / UDP(sport=5000, dport=53), [geneve(inside=inside)], node="db")
    assert (got.packet[UDP].sport, got.target) == (33333, "fw2")


def test_and_put_together_where_a_peering_has_cut_it() -> None:
    net = network(NAT)
    inside = IP(src="10.0.5.5", dst=FAR, ttl=62) / UDP(sport=33333, dport=53) / Raw(bytes(8400))
    whole = geneve(inside=inside)[14:]
    first = bytearray(whole[:8020])
    first[2:4], first[6:8], first[10:12] = (8020).to_bytes(2), b"\x20\0", b"\0\0"
    second = bytearray(whole[:20] + whole[8020:])
    second[2:4], second[6:8], second[10:12] = len(second).to_bytes(2), (1000).to_bytes(2), b"\0\0"
    frames = []
    for piece in (first, second):
        layer = IP(bytes(piece))
        del layer.chksum
        frames.append(bytes(12) + b"\x08\x00" + bytes(layer))
    packet = IP(src="10.0.3.10", dst=FAR) / UDP(sport=5000, dport=53) / Raw(bytes(8400))
    _, [got] = put(net, packet, frames, node="db")
    assert (got.packet[UDP].sport, got.cookie.hex()) == (33333, "00abcdef")


def test_without_another_engine_the_lowest_target_is_taken() -> None:
    net = network()
    _, [got] = put(net, QUERY, None)
    assert (got.target, got.cookie) == ("fw1", (1).to_bytes(4))


def test_trace_names_the_endpoint_and_the_target() -> None:
    net = network()
    names = net.plane.names
    [outcome], [emission] = net.plane.process([net.frame("app", QUERY)], [net.port("app")], net.now, traced=True)
    steps = [(str(names[o]), action, str(names[rule]) if rule else "") for o, action, rule in outcome.trace]
    endpoint, target = "vpc-endpoint shop/inspect", "target security/fleet/fw1"
    acl = "network-acl shop/default", "permit", "acl-rule shop/default egress 100 allow all to 0.0.0.0/0"
    route = "route shop/apps 10.0.3.0/24 -> vpc-endpoint:inspect"
    assert steps[1:5] == [
        acl,
        ("route-table shop/apps", "route", route),
        (acl[0], "permit", "acl-rule shop/default ingress 100 allow all from 0.0.0.0/0"),
        (endpoint, "encapsulate", target),
    ]
    assert [action for _, action, _ in steps[5:]] == ["route", "track", "deliver"]
    back = net.frame("fw1", answer(Delivery("fw1", emission.frame[14:])))
    [outcome], _ = net.plane.process([back], [net.port("fw1")], net.now, traced=True)
    steps = [(str(names[o]), action, str(names[rule]) if rule else "") for o, action, rule in outcome.trace]
    assert (endpoint, "decapsulate", target) in steps
    assert [action for _, action, _ in steps] == [
        "track", "decapsulate", "permit", "route", "route", "permit", "permit", "deliver"
    ]  # fmt: skip


def test_ping_of_a_segment_is_not_geneve() -> None:
    """Proposals that have nothing to do with it are left alone."""
    net = network()
    noise = [bytes(14), bytes(12) + b"\x08\x00" + bytes(QUERY), geneve()[:-20]]
    noise.append(bytes(12) + b"\x08\x00" + bytes(IP(src=APP, dst=DB) / ICMP()))
    noise.append(bytes(12) + b"\x08\x00" + bytes(IP(src=APP, dst=DB) / TCP(dport=6081)))
    noise.append(bytes(12) + b"\x08\x00" + bytes(IP(src=APP, dst=DB) / UDP(dport=6081)))
    assert len(put(net, QUERY, noise)[1]) == 1

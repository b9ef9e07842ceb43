"""A trace goes on from an instance on the way as if that sent on what is not its own, and says so."""

from __future__ import annotations

import pytest

from dataplane.analysis.oracle import Oracle
from dataplane.analysis.wording import with_notes
from dataplane.engine import DataPlane
from dataplane.load import load_topology
from dataplane.model._probe_ends import Ends
from dataplane.model.check import Check
from dataplane.trace import Action, Trace
from dataplane.trace_text import path_text, render, render_verdict, why_text
from dataplane.verdict import Reason, Verdict

LAB = """
version: 1
name: l
vpcs:
  shop:
    cidr: 10.0.0.0/16
    internet_gateway: {}
    subnets:
      a: {cidr: 10.0.1.0/24, route_table: a}
      b: {cidr: 10.0.2.0/24, route_table: b}
      f: {cidr: 10.0.3.0/24, route_table: f}
      g: {cidr: 10.0.4.0/24}
    route_tables:
      a: {routes: [{destination: 10.0.2.0/24, target: "instance:fw"}]}
      b: {routes: [{destination: 10.0.1.0/24, target: "instance:fw"}]}
      f: {routes: []}
    security_groups:
      open: {ingress: [{protocol: all, source: 0.0.0.0/0}]}
      shut: {ingress: []}
instances:
  app: {vpc: shop, subnet: a, private_ip: 10.0.1.10, security_groups: [open]}
  db: {vpc: shop, subnet: b, private_ip: 10.0.2.10, security_groups: [open]}
  fw: {vpc: shop, subnet: f, private_ip: 10.0.3.10, security_groups: [open], source_dest_check: false}
"""
SHUT = LAB.replace("10.0.2.10, security_groups: [open]", "10.0.2.10, security_groups: [shut]")
TWO_ARMS = LAB.replace(
    "    security_groups:\n      open",
    "    network_interfaces: {second: {subnet: g, private_ips: [10.0.4.20], security_groups: [open], "
    "attachment: {instance: fw, device_index: 1}}}\n    security_groups:\n      open",
    1,
).replace("instance:fw", "network-interface:fw/eth0")
ROUND = LAB.replace("f: {routes: []}", 'f: {routes: [{destination: 10.0.2.0/24, target: "instance:fw"}]}')


def traced(text: str) -> Trace:
    topology = load_topology(text, file_name="lab.yaml")
    trace = with_notes(topology, DataPlane(topology).trace("app", "10.0.2.10", port=80))
    course = Oracle(topology).follow(Check(can=Ends("app", "10.0.2.10"), port=80).resolve(topology))
    assert trace.reachable is (course.found.value == "answered"), "the check says the same"
    assert Trace.from_json(trace.to_json()) == trace
    return trace


def test_what_an_instance_sends_on_is_followed_there_and_back() -> None:
    trace = traced(LAB)
    assert (trace.assumed, trace.is_certain) == (("fw",), False)
    assert trace.reply is not None
    for walk, end in ((trace.forward, "db"), (trace.reply, "app")):
        assert render_verdict(walk) == f"DELIVERED to interface {end}/eth0, provided that fw sends it on"
        [passing] = [hop for hop in walk.hops for step in hop.steps if step.action is Action.SEND_ON]
        assert str(passing.object) == "interface fw/eth0"
    assert path_text(trace).endswith(", provided that fw sends it on")
    assert "is taken to send it on" in " ".join(render(trace, width=400).split())


def test_a_group_behind_the_appliance_is_asked() -> None:
    trace = traced(SHUT)
    assert (trace.forward.reason, str(trace.forward.object)) == (Reason.GROUP_INGRESS, "interface db/eth0")
    assert trace.reply is None
    assert render_verdict(trace.forward).endswith("[ENI_SG_RULES_MISMATCH], provided that fw sends it on")
    assert "provided" not in path_text(trace)
    assert why_text(trace) == "no inbound rule of security group shop/shut allows it, provided that fw sends it on"


def test_nobody_can_tell_by_which_of_two_interfaces_it_goes_on() -> None:
    trace = traced(TWO_ARMS)
    assert trace.forward.verdict is Verdict.FORWARD
    assert (trace.forward.delivered, trace.reply, trace.assumed) == (False, None, ())
    assert not trace.is_certain
    assert why_text(trace) == "got as far as interface fw/eth0, which does not have 10.0.2.10"
    assert render_verdict(trace.forward) == "GOT AS FAR AS interface fw/eth0, which does not have 10.0.2.10"


THERE_AND_OUT = """
version: 1
vpcs:
  v:
    cidr: 10.0.0.0/16
    internet_gateway: {route_table: edge}
    subnets:
      a: {cidr: 10.0.1.0/24, route_table: a}
      f: {cidr: 10.0.2.0/24, route_table: f}
      n: {cidr: 10.0.3.0/24, route_table: n}
    route_tables:
      a: {routes: [{destination: 0.0.0.0/0, target: "nat-gateway:nat"}]}
      f: {routes: [{destination: 0.0.0.0/0, target: internet-gateway}]}
      n: {routes: [{destination: 0.0.0.0/0, target: "instance:fw"}, {destination: 10.0.1.0/24, target: "instance:fw"}]}
      edge: {routes: [{destination: 10.0.3.0/24, target: "instance:fw"}]}
    nat_gateways: {nat: {subnet: n, elastic_ip: 203.0.113.10}}
    security_groups: {open: {ingress: [{protocol: all, source: 0.0.0.0/0}]}}
instances:
  app: {vpc: v, subnet: a, private_ip: 10.0.1.10}
  fw: {vpc: v, subnet: f, private_ip: 10.0.2.10, elastic_ip: 203.0.113.20, security_groups: [open],
       source_dest_check: false}
internet: {hosts: {far: {address: 198.51.100.10}}}
"""


def test_an_instance_that_sends_on_twice_is_told_once() -> None:
    """The answer comes by it before the NAT gateway and after: it is another packet by then, so this is no circle."""
    trace = DataPlane(load_topology(THERE_AND_OUT, file_name="lab.yaml")).trace("app", "198.51.100.10")
    assert trace.reachable
    assert trace.reply is not None
    passed = [hop for hop in trace.reply.hops for step in hop.steps if step.action is Action.SEND_ON]
    assert [str(hop.object) for hop in passed] == ["interface fw/eth0"] * 2
    assert (trace.forward.assumed, trace.reply.assumed, trace.assumed) == (("fw",), ("fw",), ("fw",))
    assert render_verdict(trace.reply) == "DELIVERED to interface app/eth0, provided that fw sends it on"


def test_a_packet_that_comes_by_again_and_again_arrives_nowhere() -> None:
    trace = traced(ROUND)
    assert why_text(trace) == "got as far as interface fw/eth0, where it comes by again, provided that fw sends it on"
    assert len([hop for hop in trace.forward.hops if str(hop.object) == "interface fw/eth0"]) == 2, "told once"


@pytest.mark.parametrize("peer", ["b", "c"])
def test_an_answer_to_another_of_the_same_address_is_none(peer: str) -> None:
    """Two VPCs of one address block: the answer goes by the peering that the route table of the answerer names."""
    block = "cidr: 10.1.0.0/16, security_groups: {open: {ingress: [{protocol: all, source: 0.0.0.0/0}]}}"
    text = f"""
version: 1
name: l
vpcs:
  a:
    cidr: 10.0.0.0/16
    subnets: {{s: {{cidr: 10.0.1.0/24, route_table: t}}}}
    route_tables: {{t: {{routes: [{{destination: 10.1.0.0/16, target: "peering:a-{peer}"}}]}}}}
    security_groups: {{open: {{ingress: [{{protocol: all, source: 0.0.0.0/0}}]}}}}
""" + "".join(
        f"""  {name}:
    {{{block}, subnets: {{s: {{cidr: 10.1.1.0/24, route_table: t}}}},
     route_tables: {{t: {{routes: [{{destination: 10.0.0.0/16, target: "peering:a-{name}"}}]}}}}}}
"""
        for name in ("b", "c")
    )
    text += "peerings: {a-b: {requester: a, accepter: b}, a-c: {requester: a, accepter: c}}\ninstances:\n"
    for name, address in (("a", "10.0.1.10"), ("b", "10.1.1.10"), ("c", "10.1.1.10")):
        text += f"  {name}1: {{vpc: {name}, subnet: s, private_ip: {address}, security_groups: [open]}}\n"
    trace = DataPlane(load_topology(text, file_name="lab.yaml")).trace("b1", "10.0.1.10", protocol="icmp")
    assert trace.forward.delivered
    assert trace.reachable is (peer == "b")
    if peer == "c":
        assert why_text(trace) == "the answer: got as far as interface c1/eth0, which is not b1's"

"""What of a lab is lowered and compiled again when something of it changes, and what is not."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest

from dataplane.compile import CompileError, Compiler, compile_program
from dataplane.engine import DataPlane
from dataplane.names import Names
from dataplane.program import Program, Route
from dataplane.topology import Topology
from dataplane.topology.lowering import lower_whole
from dataplane.topology.runtime_state import RuntimeState, TargetHealth
from dataplane.verdict import Reason
from tests.unit.fastpath.two_hosts import TwoHosts
from tests.unit.model.building import topology

Sections = dict[str, Any]


def sections() -> Sections:
    """Two VPCs, one with a load balancer that inspects what the other sends."""
    block = {"protocol": "tcp", "ports": "80", "source": "10.0.0.0/8"}
    rules = [{**block, "ports": str(port)} for port in range(80, 100)]
    acl = [{"rule": 100, "protocol": "all", "cidr": "0.0.0.0/0", "action": "allow"}]
    return {
        "prefix_lists": {"partners": {"max_entries": 9, "entries": [{"cidr": "198.51.100.0/25"}]}},
        "vpcs": {
            "sec": {
                "cidr": "10.9.0.0/16",
                "subnets": {"fw": {"cidr": "10.9.1.0/24"}},
                "gateway_load_balancers": {"gw": {"subnets": ["fw"], "target_group": "fleet"}},
                "target_groups": {"fleet": {"targets": ["fw-1", "fw-2"]}},
                "endpoint_services": {"inspect": {"gateway_load_balancer": "gw", "acceptance_required": False}},
            },
            "app": {
                "cidr": "10.0.0.0/16",
                "internet_gateway": {"route_table": "edge"},
                "subnets": {
                    "web": {"cidr": "10.0.1.0/24", "route_table": "web", "network_acl": "edge"},
                    "ends": {"cidr": "10.0.2.0/24"},
                    "spare": {"cidr": "10.0.3.0/24"},
                },
                "route_tables": {
                    "edge": {"routes": [{"destination": "10.0.1.0/24", "target": "vpc-endpoint:ep"}]},
                    "web": {"routes": [{"destination": "0.0.0.0/0", "target": "vpc-endpoint:ep"}]},
                    "other": {"routes": [{"destination": "0.0.0.0/0", "target": "internet-gateway"}]},
                },
                "network_acls": {"edge": {"ingress": acl, "egress": acl}},
                "security_groups": {
                    "web": {"ingress": [*rules, {**block, "source": "prefix-list:partners"}]},
                    "ops": {"ingress": [{**block, "source": "group:web"}], "egress": [{**_to("10.0.0.0/8")}]},
                },
                "gateway_load_balancer_endpoints": {"ep": {"service": "sec/inspect", "subnet": "ends"}},
            },
        },
        "instances": {
            "fw-1": {"vpc": "sec", "subnet": "fw", "private_ip": "10.9.1.21"},
            "fw-2": {"vpc": "sec", "subnet": "fw", "private_ip": "10.9.1.22"},
            "a": {"vpc": "app", "subnet": "web", "security_groups": ["web"]},
            "b": {"vpc": "app", "subnet": "web", "security_groups": ["ops", "web"]},
        },
        "internet": {"hosts": {"site": {"address": "198.51.100.10"}}},
    }


def _to(destination: str) -> dict[str, str]:
    return {"protocol": "all", "destination": destination}


def _group(lab: Sections, name: str = "web") -> dict[str, Any]:
    found: dict[str, Any] = lab["vpcs"]["app"]["security_groups"][name]
    return found


def _shift_rules(lab: Sections) -> None:
    _group(lab)["ingress"].insert(0, {"protocol": "udp", "ports": "53", "source": "0.0.0.0/0"})


def _change_rules(lab: Sections) -> None:
    rules = _group(lab)["ingress"]
    rules[3], rules[17] = {**rules[3], "ports": "1"}, {**rules[17], "ports": "2"}


def _shorten(lab: Sections) -> None:
    del _group(lab)["ingress"][2:]


def _outbound(lab: Sections) -> None:
    _group(lab, "ops")["egress"].append(_to("192.0.2.0/24"))


def _to_group(lab: Sections) -> None:
    _group(lab, "ops")["egress"].append(_to("group:web"))


def _acl(lab: Sections) -> None:
    rule = {"rule": 90, "protocol": "tcp", "ports": "22", "cidr": "0.0.0.0/0", "action": "deny"}
    lab["vpcs"]["app"]["network_acls"]["edge"]["ingress"].append(rule)


def _partners(lab: Sections) -> None:
    lab["prefix_lists"]["partners"]["entries"].append({"cidr": "203.0.113.0/24"})


def _route(lab: Sections) -> None:
    routes = lab["vpcs"]["app"]["route_tables"]["other"]["routes"]
    routes.append({"destination": "192.0.2.0/24", "target": "blackhole"})


def _table(lab: Sections) -> None:
    lab["vpcs"]["app"]["subnets"]["web"]["route_table"] = "other"


def _stickiness(lab: Sections) -> None:
    lab["vpcs"]["sec"]["target_groups"]["fleet"]["stickiness"] = "source_ip_dest_ip"


def _nothing(lab: Sections) -> None:
    lab["instances"]["a"]["programs"] = {}


def _instance(lab: Sections) -> None:
    lab["instances"]["c"] = {"vpc": "app", "subnet": "web", "security_groups": ["web"]}


def _gone(lab: Sections) -> None:
    del lab["instances"]["b"]


def _membership(lab: Sections) -> None:
    lab["instances"]["a"]["security_groups"] = ["ops"]


def _check(lab: Sections) -> None:
    lab["instances"]["a"]["source_dest_check"] = False


def _redirect(lab: Sections) -> None:
    lab["vpcs"]["app"]["route_tables"]["edge"]["routes"][0]["destination"] = "10.0.3.0/24"


def _host(lab: Sections) -> None:
    lab["internet"]["hosts"]["other"] = {"address": "198.51.100.11"}


def _fragments(lab: Sections) -> None:
    lab["settings"] = {"fragment_timeout": 31}


def _interface_timer(lab: Sections) -> None:
    lab["settings"] = {"icmp_timeout": 31}


def _gateway_timer(lab: Sections) -> None:
    lab["settings"] = {"balancer_closing_timeout": 61}


IN_PARTS = [
    *(_shift_rules, _change_rules, _shorten, _outbound, _acl, _partners, _route, _table, _stickiness, _nothing),
    *(_interface_timer, _gateway_timer),
]
AS_A_WHOLE = [_to_group, _instance, _gone, _membership, _check, _redirect, _host, _fragments]


def compared(plane: DataPlane, names: Names) -> None:
    """The plane has what lowering and compiling everything gives."""
    program = Program(names=names)
    lower_whole(plane.topology, program)
    mine, theirs = plane.snapshot.parts(), compile_program(program, generation=1).parts()
    assert {table for table in theirs if mine[table] != theirs[table]} == set()
    assert [str(plane.names[n]) for n in range(len(plane.names))] == [str(names[n]) for n in range(len(names))]


@pytest.mark.parametrize("change", [*IN_PARTS, *AS_A_WHOLE])
def test_a_change_and_back(change: Callable[[Sections], None]) -> None:
    first, other = sections(), sections()
    change(other)
    plane = DataPlane(topology(**first))
    for way, lab in enumerate((other, first, other), 1):
        names = copy.deepcopy(plane.names)
        plane.apply(topology(**lab))
        compared(plane, names)
        assert plane.compiler.in_parts == (way if change in IN_PARTS else 0), plane.compiler.as_a_whole


def _logged(lab: Sections) -> None:
    lab["vpcs"]["app"] |= {"secondary_cidrs": ["10.2.0.0/16"], "flow_logs": {"all": {}}}


def _primary_block(lab: Sections) -> None:
    """Amazon's DNS, whose traffic flow logs leave out, is at the third address of the primary block."""
    lab["vpcs"]["app"] |= {"cidr": "10.2.0.0/16", "secondary_cidrs": ["10.0.0.0/16"]}


@pytest.mark.parametrize(("prepare", "change"), [(_to_group, _membership), (_logged, _primary_block)])
def test_what_follows_from_others_is_lowered_again(
    prepare: Callable[[Sections], None], change: Callable[[Sections], None]
) -> None:
    """Addresses that carry a group, whose rules stay as they are; what a log leaves out, at interfaces that stay."""
    first, other = sections(), sections()
    prepare(first)
    prepare(other)
    change(other)
    plane = DataPlane(topology(**first))
    for lab in (other, first):
        names = copy.deepcopy(plane.names)
        plane.apply(topology(**lab))
        compared(plane, names)


def test_lists_get_classes_and_lose_them_while_rules_about_sets_stay() -> None:
    """A list gets classes at its eighth rule: all of its rules are classified then, also those that were there."""
    names = Names()

    def lab(count: int) -> Any:
        declared = sections()
        _group(declared)["ingress"] = _group(declared)["ingress"][-1 - count :]  # the last one names the prefix list
        _group(declared, "ops")["egress"] += [
            {"protocol": "tcp", "ports": "5432", "destination": "group:web"},
            *({"protocol": "tcp", "ports": str(port), "destination": "10.0.0.0/8"} for port in range(count)),
        ]
        return topology(**declared)

    plane = DataPlane(lab(4), names=names)
    for count in (5, 6, 7, 8, 7, 6, 7, 12, 3, 20):
        plane.apply(lab(count))
        compared(plane, names)
    assert plane.compiler.as_a_whole == ["the first"]


def test_a_trace_meets_one_topology_or_the_other() -> None:
    """Never tables of one and interfaces of the other, while another thread changes over."""
    declared = sections()
    _instance(declared)
    one, two = topology(**sections()), topology(**declared)
    plane, verdicts = DataPlane(one), set()
    address = str(next(each for each in two.interfaces if each.path == "c/eth0").addresses4[0])
    is_over = threading.Event()

    def change_over() -> None:
        for _ in range(40):
            plane.apply(two)
            plane.apply(one)
        is_over.set()

    changing = threading.Thread(target=change_over)
    changing.start()
    while not is_over.is_set():
        verdicts.add(plane.trace("a", address, port=80).forward.reason)
    changing.join()
    assert verdicts <= {plane.trace("a", address, port=80).forward.reason, _reason(two, address)}


def _reason(there: Topology, address: str) -> Reason:
    return DataPlane(there).trace("a", address, port=80).forward.reason


def test_health_changes_in_parts() -> None:
    plane = DataPlane(topology(**sections()))
    for state in ("unhealthy", "healthy", "draining"):
        names = copy.deepcopy(plane.names)
        plane.set_runtime(RuntimeState(health={("sec", "fleet", "fw-1"): TargetHealth(state=state)}))
        compared(plane, names)
    assert plane.compiler.in_parts == 3


def test_what_did_not_change_is_shared() -> None:
    first, other = sections(), sections()
    _change_rules(other)
    plane = DataPlane(topology(**first))
    program = plane.program
    plane.apply(topology(**other))
    for table in ("nodes", "interfaces", "group_policies", "sets", "fibs", "neighbours", "contexts"):
        assert getattr(plane.program, table) is getattr(program, table), table
    assert plane.snapshot.classifiers_made == 2, "of web, and of ops with web"


def test_a_program_that_does_not_fit_changes_nothing() -> None:
    lab = TwoHosts()
    compiler = Compiler()
    packed = compiler.compile(lab.program, generation=2)
    fibs = {
        **lab.program.fibs,
        "hosts": [Route(prefix=r.prefix, node="nowhere", rule=1) for r in lab.program.fibs["hosts"]],
    }
    broken = Program(**{**{name: getattr(lab.program, name) for name in Program.__slots__}, "fibs": fibs})
    with pytest.raises(CompileError, match="no node is called 'nowhere'"):
        compiler.compile(broken, generation=3, before=packed)
    again = compiler.compile(lab.program, generation=3, before=packed)
    assert again.snapshot.parts() == packed.snapshot.parts()

"""Short ways to declare, check and lower labs in tests. What is declared is written as a lab file would have it."""

from __future__ import annotations

import json
from typing import Any

from dataplane.errors import ConfigurationError, Problem
from dataplane.load import load
from dataplane.model._route_target import RouteTarget
from dataplane.model.lab_file import LabFile
from dataplane.model.route_table import Route, RouteDestination
from dataplane.program import Node, Program
from dataplane.topology import Topology, build
from tests.unit.model.program_check import lowered

ANYWHERE = "0.0.0.0/0"


def route(destination: str, target: str) -> Route:
    return Route(destination=RouteDestination.parse(destination), target=RouteTarget.parse(target))


def vpc(cidr: str = "10.0.0.0/16", **fields: Any) -> dict[str, Any]:
    """A VPC with a subnet called one (x.x.1.0/24), unless said otherwise."""
    first = cidr.rsplit(".", 2)[0]
    return {"cidr": cidr, "subnets": {"one": {"cidr": f"{first}.1.0/24"}}, **fields}


def peered(**shop: Any) -> dict[str, Any]:
    """Sections of a lab: VPCs shop (10.0.0.0/16) and store (10.1.0.0/16) with an active peering called link."""
    return {
        "vpcs": {"shop": vpc(**shop), "store": vpc("10.1.0.0/16", security_groups={"db": {}})},
        "peerings": {"link": {"requester": "shop", "accepter": "store"}},
    }


def instance(subnet: str = "one", **fields: Any) -> dict[str, Any]:
    return {"vpc": "shop", "subnet": subnet, **fields}


def lab(**sections: Any) -> LabFile:
    return load(json.dumps({"version": 1, **sections}), file_name="lab").lab_file


def shop(**fields: Any) -> LabFile:
    """A lab of nothing but a VPC called shop."""
    return lab(vpcs={"shop": vpc(**fields)})


def topology(**sections: Any) -> Topology:
    return build(lab(**sections))


def program(**sections: Any) -> Program:
    """Lower a lab; unsound programs fail here."""
    return lowered(topology(**sections))


def problems(declared: LabFile) -> list[Problem]:
    """Everything that is wrong with a lab."""
    try:
        build(declared)
    except ConfigurationError as error:
        return list(error.problems)
    return []


def the_problem(declared: LabFile) -> Problem:
    """The one thing that is wrong with a lab."""
    found = problems(declared)
    assert len(found) == 1, "\n".join(map(str, found)) or "nothing is wrong"
    return found[0]


def expect(declared: LabFile, path: str, code: str, words: str) -> None:
    """Exactly one thing is wrong: there, with that code, and message or hint hold the words."""
    found = the_problem(declared)
    assert (found.path, found.code) == (path, code), str(found)
    assert words in f"{found.message}; {found.hint}"


def chain(lowered_program: Program, label: str) -> list[Node]:
    """The nodes from `label` on, as far as `next` leads."""
    nodes = []
    while label:
        node = lowered_program.nodes[label]
        assert node not in nodes, f"a circle at {label}"
        nodes.append(node)
        label = getattr(node, "next", "")
    return nodes


def shape(lowered_program: Program, label: str) -> list[str]:
    """The kinds of nodes from `label` on, each with its drop reason where it has one."""
    names = []
    for node in chain(lowered_program, label):
        reason = getattr(node, "reason", None)
        names.append(type(node).__name__ + (f" {reason.name}" if reason else ""))
    return names


def routes(lowered_program: Program, fib: str) -> dict[str, str]:
    """A fib as text: prefix -> node."""
    return {str(each.prefix): each.node for each in lowered_program.fibs[fib]}

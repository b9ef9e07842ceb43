"""Drawn labs without the way through text: reading YAML takes longer than all that a property does with the lab.

Topologies are kept for a while: histories come back to labs that were, and laws load one lab several times.
"""

from __future__ import annotations

import json
from functools import lru_cache
from ipaddress import IPv4Address
from typing import Any

from dataplane.errors import ConfigurationError
from dataplane.load.file import read_lab_file
from dataplane.load.nodes import Entry, Mapping, Node, Scalar, Sequence
from dataplane.topology import Topology, build
from dataplane.topology.runtime_state import FormerTarget, RuntimeState, TargetHealth


def node_of(value: Any) -> Node:
    """The tree that the lab file's text would be read as, all of it at line 1."""
    if isinstance(value, dict):
        return Mapping(1, 1, {key: Entry(Scalar(key, True, 1, 1), node_of(item)) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return Sequence(1, 1, [node_of(item) for item in value])
    if isinstance(value, str):
        return Scalar(value, False, 1, 1)
    words = {True: "true", False: "false", None: "null"}
    return Scalar(str(value) if type(value) is int else words[value], True, 1, 1)


def topology_of(lab: dict[str, Any]) -> Topology:
    """The checked topology of a lab file given as a plain structure; what its key ``runtime`` says is its state.

    Raises:
        ConfigurationError: what is wrong with it.
    """
    found = _build(json.dumps({key: value for key, value in lab.items() if key != "runtime"}))
    if isinstance(found, ConfigurationError):
        raise found
    return found.with_runtime(runtime_of(lab["runtime"])) if "runtime" in lab else found


def runtime_of(stored: dict[str, Any]) -> RuntimeState:
    """The state that a plain structure tells of."""
    former: dict[tuple[str, str], tuple[FormerTarget, ...]] = {}
    for vpc, group, name, address, zone, drained, until in stored["former"]:
        left = FormerTarget(name=name, address=IPv4Address(address), zone=zone, drained=drained, until_ms=until)
        former[vpc, group] = (*former.get((vpc, group), ()), left)
    health = {(vpc, group, name): TargetHealth(state=state) for vpc, group, name, state in stored["health"]}
    return RuntimeState(health=health, former=former)


def stored(state: RuntimeState) -> dict[str, Any]:
    """A state as the plain structure that `runtime_of` reads."""
    return {
        "health": [[*key, health.state] for key, health in state.health.items()],
        "former": [
            [*group, each.name, str(each.address), each.zone, each.drained, each.until_ms]
            for group, those in state.former.items()
            for each in those
        ],
    }


@lru_cache(maxsize=64)
def _build(text: str) -> Topology | ConfigurationError:
    lab_file, problems = read_lab_file(node_of(json.loads(text)), "drawn.yaml")
    if lab_file is None:
        return ConfigurationError(problems)
    try:
        return build(lab_file)
    except ConfigurationError as error:
        return error

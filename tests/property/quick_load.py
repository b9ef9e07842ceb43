"""Drawn labs without the way through text: reading YAML takes longer than all that a property does with the lab.

Topologies are kept for a while: histories come back to labs that were, and laws load one lab several times.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from dataplane.errors import ConfigurationError
from dataplane.load.file import read_lab_file
from dataplane.load.nodes import Entry, Mapping, Node, Scalar, Sequence
from dataplane.topology import Topology, build


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
    """The checked topology of a lab file given as a plain structure.

    Raises:
        ConfigurationError: what is wrong with it.
    """
    found = _build(json.dumps(lab))
    if isinstance(found, ConfigurationError):
        raise found
    return found


@lru_cache(maxsize=64)
def _build(text: str) -> Topology | ConfigurationError:
    lab_file, problems = read_lab_file(node_of(json.loads(text)), "drawn.yaml")
    if lab_file is None:
        return ConfigurationError(problems)
    try:
        return build(lab_file)
    except ConfigurationError as error:
        return error

"""From a drawn lab to a topology without the detour over text: scanning YAML would take most of the time.

Reading, checks and everything behind them are those of a lab file. The same lab is built once.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from dataplane.errors import ConfigurationError
from dataplane.load.file import read_lab_file
from dataplane.load.nodes import Entry, Mapping, Node, Scalar, Sequence
from dataplane.topology import Topology, build


def topology_of(lab: dict[str, Any]) -> Topology:
    """The checked topology of a lab.

    Raises:
        ConfigurationError: AWS would refuse it.
    """
    found = _build(json.dumps(lab))
    if isinstance(found, ConfigurationError):
        raise found
    return found


@lru_cache(maxsize=64)
def _build(text: str) -> Topology | ConfigurationError:
    lab_file, problems = read_lab_file(tree(json.loads(text)), "wide.yaml")
    if lab_file is None:
        return ConfigurationError(problems)
    try:
        return build(lab_file)
    except ConfigurationError as error:
        return error


def tree(value: Any) -> Node:
    """The tree of nodes that YAML with this value would be composed to; all on line 1."""
    if isinstance(value, dict):
        entries = {key: Entry(Scalar(key, False, 1, 1), tree(each)) for key, each in value.items()}
        return Mapping(1, 1, entries)
    if isinstance(value, list):
        return Sequence(1, 1, [tree(each) for each in value])
    return Scalar(value if isinstance(value, str) else json.dumps(value), not isinstance(value, str), 1, 1)

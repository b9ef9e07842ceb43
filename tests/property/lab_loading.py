"""Drawn labs whose topologies are built once: histories come back to labs that were."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from dataplane.errors import ConfigurationError
from dataplane.topology import Topology
from tests.property import quick_load


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
    try:
        return quick_load.topology_of(json.loads(text))
    except ConfigurationError as error:
        return error

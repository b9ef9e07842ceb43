"""From a lab file to a topology, or to everything that is wrong with it."""

from __future__ import annotations

from dataplane.errors import ConfigurationError
from dataplane.model.lab_file import LabFile
from dataplane.topology.resolved import Topology


def build(lab: LabFile) -> Topology:
    """Resolve and check a lab file.

    Raises:
        ConfigurationError: everything that is wrong with it.
    """
    topology = Topology(lab)
    problems = list(dict.fromkeys(lab.check(topology)))
    if problems:
        raise ConfigurationError(problems)
    return topology

"""From a lab file to a topology, or to what is wrong with it."""

from __future__ import annotations

from dataplane.errors import ConfigurationError
from dataplane.model.lab_file import LabFile
from dataplane.topology.resolved import Topology


def build(lab: LabFile) -> Topology:
    """Resolve and check a lab file.

    Raises:
        ConfigurationError: what is wrong with it. While anything else is, of what captures and checks say only names
            that nobody has are told; they are then `unjudged`.
    """
    topology = Topology(lab)
    problems = list(dict.fromkeys(lab.check(topology)))
    if problems:
        claims = [key for key in ("captures", "checks") if getattr(lab, key)]
        raise ConfigurationError([*problems, *lab.check_nodes_of_claims()], unjudged=claims)
    problems = list(lab.check_claims(topology))
    if problems:
        raise ConfigurationError(problems)
    return topology

"""How everything that belongs to a lab can be told from everything that does not.

The lab id is ``NAME-16 hex digits``, new for each start. It is carried by

* every process: the environment variable `LAB_VARIABLE`, of the spawner and all that descends from it;
* every network namespace: the alias of its loopback device (``ip -d link show lo``), which stays readable when
  the state folder is lost and cannot be deleted with the device;
* every mount, by its network namespace: the names under /run/netns are the only mounts that outlive processes;
* every file: all lie in the state folder of the lab.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

LAB_VARIABLE = "VPCLAB_LAB"
NODE_VARIABLE = "VPCLAB_NODE"
APPLIANCES_VARIABLE = "VPCLAB_APPLIANCES"
"""Tells programs where the examples of `lab.appliances` are."""
_ALIAS = "vpclab"


class Marker(NamedTuple):
    """What a namespace says it is."""

    lab_id: str
    node: str

    @property
    def lab(self) -> str:
        """Name of the lab."""
        return self.lab_id.rpartition("-")[0]


def new_lab_id(lab: str) -> str:
    """An id for one run of a lab."""
    return f"{lab}-{os.urandom(8).hex()}"


def variables(lab_id: str, node: str) -> dict[str, str]:
    """The environment variables that everything run in a node has, whatever its lab file says."""
    folder = str(Path(__file__).resolve().parent / "appliances")
    return {LAB_VARIABLE: lab_id, NODE_VARIABLE: node, APPLIANCES_VARIABLE: folder}


def alias_of(lab_id: str, node: str) -> str:
    """The loopback alias that marks a namespace."""
    return f"{_ALIAS} {lab_id} {node}"


def parse_alias(alias: str) -> Marker | None:
    """What a loopback alias says; None when it is not one of ours."""
    words = alias.split(" ")
    return Marker(words[1], words[2]) if len(words) == 3 and words[0] == _ALIAS else None

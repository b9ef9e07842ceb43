"""Checks that come without a lab file, for a lab that is there already."""

from __future__ import annotations

from dataplane.errors import ConfigurationError, Problem
from dataplane.load.file import load
from dataplane.model._fields import within
from dataplane.model.check import Check
from dataplane.topology import Topology


def read_checks(text: str, topology: Topology, *, file_name: str = "") -> tuple[Check, ...]:
    """Read a list of checks, as it would stand under ``checks:``, about a topology.

    Raises:
        ConfigurationError: everything that is wrong with them.
    """
    indented = "\n".join(f"  {line}" for line in text.splitlines())
    checks = load(f"version: 1\nchecks:\n{indented}\n", file_name=file_name).lab_file.checks
    problems: list[Problem] = []
    for index, check in enumerate(checks):
        found = list(check.check_shape()) or list(check.check_names(topology))
        problems += within(f"checks[{index}]", found)
    if problems:
        raise ConfigurationError(problems)
    return checks

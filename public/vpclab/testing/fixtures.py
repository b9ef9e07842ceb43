"""Fixtures that start a lab for tests, and take it down after the last one that uses it."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from dataplane.errors import ConfigurationError, LabError
from lab import preflight
from vpclab.lab import Lab

if TYPE_CHECKING:
    from dataplane.model.lab_file import LabFile

Scope = Literal["session", "package", "module", "class", "function"]
REQUIRED = "require_labs"
"""Name of the option, and of the setting, by which a machine without labs fails tests."""


def lab_fixture(
    source: str | os.PathLike[str] | Mapping[str, Any] | LabFile, *, scope: Scope = "module", name: str | None = None
) -> Callable[..., Any]:
    """A fixture: the lab of a lab file, or one declared in code, up and with its programs ready.

    In a ``conftest.py`` or a test module::

        lab = lab_fixture("network.yaml", scope="session")

    Args:
        source: a lab file (beside the Python file that calls this), or what one would hold (see `Lab.from_dict`).
        scope: for how long one lab is used: one per ``function``, ``class``, ``module``, ``package`` or ``session``.
            Each process of pytest-xdist has labs of its own.
        name: name of the fixture, if not that of the variable.

    The lab's clock, flows and whatever tests changed stay as they are until the scope ends. Where the machine cannot
    run labs, tests that use it are skipped and say why; with ``--require-labs`` they fail.
    """
    declared: Path | Mapping[str, Any] | LabFile
    if isinstance(source, (str, os.PathLike)):
        declared = Path(sys._getframe(1).f_globals.get("__file__", "")).parent / source
    else:
        declared = source

    @pytest.fixture(scope=scope, name=name)
    def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
        """A running lab: ``lab["web"].run(...)``, ``.ping``, ``.connect``, ``.send``, ``.sniff``."""
        yield from running(declared, request.config)

    return lab


def running(source: Path | Mapping[str, Any] | LabFile, config: pytest.Config) -> Iterator[Lab]:
    """Start a lab, yield it, take it down; skip, or fail, where none can run."""
    obstacle = _obstacle()
    if obstacle:
        why = f"no lab can run here: {obstacle}"
        if config.getoption(REQUIRED) or config.getini(REQUIRED):
            pytest.fail(why, pytrace=False)
        pytest.skip(why)
    wrong = ""
    try:
        # Its name has the number of this process in it: workers of pytest-xdist do not get into each other's way.
        made = Lab.load(source) if isinstance(source, Path) else Lab.from_dict(source)
        made.up()
    except (ConfigurationError, LabError) as error:
        wrong = str(error)
    if wrong:  # not while the error is being handled: it would be told twice
        pytest.fail(wrong, pytrace=False)
    try:
        yield made
    finally:
        made.down()


@functools.cache
def _obstacle() -> str:
    """Why this machine cannot run labs, and what to do about it; empty when it can."""
    return next((str(each) for each in preflight.check_lab()), "")

"""One fault: built, tested, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.mutants.faults import Fault, states_of
from tools.mutants.knowledge import UnsoundError
from tools.mutants.order import PROPERTIES, Order
from tools.mutants.trees import BASE, BuildError, Place, with_fault
from tools.mutants.trial import Told, ask

PASSED = Told("passed")
PROCESSES = 2
"""That build one tree: more than its share of a machine, as most faults are in one module."""
DEAD = (
    Fault(
        file="dataplane/reference/acl.py",
        line="return False, 0",
        becomes="return True, 0",
        means="no ACL denies the rest",
    ),
    Fault(
        file="fastpath/geneve.pyx",
        line="OPTION_COOKIE = 3",
        becomes="OPTION_COOKIE = 4",
        means="no flow is known again",
    ),
)
"""Faults that tests must notice, or they notice nothing."""


def judge(fault: Fault, order: Order, place: Place, *, seeds: int, before: str = "") -> dict[str, Any]:
    """Build and test one fault, at a place.

    `seeds`: with so many seeds of Hypothesis property tests are asked about what everything else let pass. `before`:
    the test that noticed the fault the last time, which is asked first.
    """
    begun = time.monotonic()
    try:
        tree = with_fault(fault, place, processes=PROCESSES)
    except BuildError as error:
        return _result(fault, Told("unbuildable", how=str(error).strip().splitlines()[-1] if str(error) else ""), begun)
    near, rest = order.of(fault)
    told = PASSED
    if before.startswith(PROPERTIES) and (BASE / before.split("::")[0]).exists():
        told = _asked_with_seeds(place, tree, [before], seeds)
    if told == PASSED:
        told = ask(place, tree, list(dict.fromkeys([*([before] if before in order.seconds else []), *near])))
    if told == PASSED and rest:
        told = ask(place, tree, rest)
    if told == PASSED:
        told = _asked_with_seeds(place, tree, [], seeds)
    return _result(fault, Told("survived", how=f"{seeds} seeds") if told == PASSED else told, begun)


def _asked_with_seeds(place: Place, tree: Path, tests: Sequence[str], seeds: int) -> Told:
    """Ask property tests, all or these, with one seed after the other."""
    for seed in range(1, seeds + 1):
        told = ask(place, tree, tests, paths=[PROPERTIES], seed=seed)
        if told != PASSED:
            return told
    return PASSED


def prove(order: Order, place: Place, *, seeds: int) -> None:
    """Show that the sound tree passes all that is asked, and that what must be noticed is.

    Raises:
        UnsoundError: not so.
    """
    told = _asked_with_seeds(place, BASE, (), seeds)
    if told != PASSED:
        raise UnsoundError(f"without any fault, {told.test} is {told.verdict} ({told.how})")
    for fault in DEAD:
        if (found := judge(fault, order, place, seeds=seeds))["verdict"] != "killed":
            raise UnsoundError(f"{fault.file}: {fault.means}, and that is {found['verdict']}")


def _result(fault: Fault, told: Told, begun: float) -> dict[str, Any]:
    return {
        "key": fault.key,
        "origin": fault.origin,
        "file": fault.file,
        "number": fault.number(BASE),
        "line": fault.line,
        "nth": fault.nth,
        "becomes": fault.becomes,
        "means": fault.means,
        "verdict": told.verdict,
        "test": told.test,
        "how": told.how,
        "seconds": round(time.monotonic() - begun, 1),
        "tree": states_of([fault.file], BASE)[fault.file],
    }

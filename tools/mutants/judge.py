"""One fault: built, tested, and what became of it."""

from __future__ import annotations

import time
from typing import Any

from tools.mutants.faults import Fault, digest_of_deciding
from tools.mutants.knowledge import UnsoundError
from tools.mutants.order import PROPERTIES, Order
from tools.mutants.trees import BASE, BuildError, with_fault
from tools.mutants.trial import Told, ask

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


def judge(fault: Fault, order: Order, *, seeds: int, before: str = "") -> dict[str, Any]:
    """Build and test one fault.

    `seeds`: with so many seeds of Hypothesis property tests are asked about what everything else let pass. `before`:
    the test that noticed the fault the last time, which is asked first.
    """
    begun = time.monotonic()
    try:
        tree = with_fault(fault)
    except BuildError as error:
        return _result(fault, Told("unbuildable", how=str(error).strip().splitlines()[-1] if str(error) else ""), begun)
    near, rest = order.of(fault)
    told = ask(tree, list(dict.fromkeys([*([before] if before in order.seconds else []), *near])))
    if told.verdict == "passed" and rest:
        told = ask(tree, rest)
    for seed in range(1, seeds + 1):
        if told.verdict == "passed":
            told = ask(tree, (), paths=[PROPERTIES], seed=seed)
    return _result(fault, Told("survived", how=f"{seeds} seeds") if told.verdict == "passed" else told, begun)


def prove(order: Order, *, seeds: int) -> None:
    """Show that the sound tree passes all that is asked, and that what must be noticed is.

    Raises:
        UnsoundError: not so.
    """
    for seed in range(1, seeds + 1):
        told = ask(BASE, (), paths=[PROPERTIES], seed=seed)
        if told.verdict != "passed":
            raise UnsoundError(f"without any fault, {told.test} is {told.verdict} with seed {seed} ({told.how})")
    for fault in DEAD:
        if (found := judge(fault, order, seeds=seeds))["verdict"] != "killed":
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
        "tree": digest_of_deciding(BASE),
    }

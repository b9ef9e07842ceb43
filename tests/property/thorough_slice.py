"""One slice of the long run, in a process of its own: a property, a seed, so many seconds.

    python -m tests.property.thorough_slice PROPERTY SEED SECONDS OUT.json

Exit status 0: nothing found. 1: a divergence; its smallest example is in OUT.json and on standard error.
"""

from __future__ import annotations

import inspect
import json
import random
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from tests.property import script, test_differential, test_limits
from tests.property.exercised import TALLY
from tests.property.fresh import FRESH, PHASES
from tests.property.strategies import labs
from tests.property.test_histories import Histories
from tests.property.wide_labs import wide_labs

BATCH = 60
"""Examples between two looks at the clock; each batch has a seed of its own, so examples are fresh."""


def _settings(**more: Any) -> settings:
    return settings(
        max_examples=BATCH, deadline=None, database=None, print_blob=True, derandomize=False,
        suppress_health_check=list(HealthCheck), phases=PHASES, backend=FRESH, **more,
    )  # fmt: skip


def _given(test: Any, **strategies: st.SearchStrategy[Any]) -> Callable[[int], None]:
    """The property of a test, with settings and a seed of our own each time.

    Raises:
        TypeError: the test draws something else.
    """
    inspect.signature(test.hypothesis.inner_test).bind(data=None, **strategies)

    def run(number: int) -> None:
        def example(**drawn: Any) -> None:
            test.hypothesis.inner_test(**drawn)

        seed(number)(_settings()(given(data=st.data(), **strategies)(example)))()

    return run


def _histories(number: int) -> None:
    class Fresh(Histories):
        pass

    run_state_machine_as_test(seed(number)(Fresh), settings=_settings(stateful_step_count=60))


PROPERTIES: dict[str, Callable[[int], None]] = {
    "histories": _histories,
    "differential": _given(
        test_differential.test_both_engines_agree_on_every_construct,
        lab=wide_labs(),
        sessions=test_differential.ROOMS,
        errors=test_differential.FEW_ERRORS,
    ),
    "dense": _given(test_differential.test_both_engines_agree, lab=labs()),
    "forms": _given(test_limits.test_what_does_not_fit_dies_the_same_in_every_form, sessions=test_limits.SIZES),
    "crowded": _given(test_limits.test_both_engines_agree_on_a_nat_gateway_without_free_ports),
}


def main(name: str, number: int, seconds: float, out: Path) -> int:
    """Run batches until the time is over."""
    until, numbers = time.monotonic() + seconds, random.Random(number)
    failure: dict[str, Any] = {}
    while not failure and time.monotonic() < until:
        batch = numbers.getrandbits(64)
        try:
            PROPERTIES[name](batch)
        except BaseException as error:  # groups too: several different ones were found
            shown = "".join(traceback.format_exception(error))
            failure = {"batch_seed": batch, "error": shown, "script": script.shrunk(list(script.LAST))}
            traceback.print_exception(error)
    out.write_text(json.dumps({**TALLY.document(), "failure": failure}))
    if failure:
        print("\n".join(script.told(failure["script"])), script.fails(failure["script"]), sep="\n", file=sys.stderr)
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4])))

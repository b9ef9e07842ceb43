"""Put small faults into the code, one at a time, and say which test notices each.

    python -P -m tools.mutants [--seed N] [--drawn N] [--seeds N] [--limit N] [--only WORD] [--jobs N] [--prove]
    python -P -m tools.mutants --write | --check

What has been judged on this tree is not judged again; interrupt it whenever you like: what it is at is finished. It
exits 1 when a fault survives of which nobody has said why it changes nothing (tools/mutants/equivalent.toml). `--write`
writes docs/mutants.md from the results, `--check` says whether that was done.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tools.mutants import page, results
from tools.mutants.drawn import drawn
from tools.mutants.faults import Fault, NoSuchLineError, chosen, states_of
from tools.mutants.work import Work

if TYPE_CHECKING:
    from tools.mutants.trees import Place

SPARE = 2
"""So many times as many are drawn as are wanted: some do not build."""


def main(arguments: Sequence[str]) -> int:
    """Judge what is left to judge."""
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="which faults are drawn")
    parser.add_argument("--drawn", type=int, default=100, help="how many of them are to be judged")
    parser.add_argument("--seeds", type=int, default=3, help="of Hypothesis, for what other tests let pass")
    parser.add_argument("--limit", type=int, help="judge so many at most in this run")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="faults judged at a time")
    parser.add_argument("--only", default="", help="those whose origin, file or key begins with this")
    parser.add_argument(
        "--prove", action="store_true", help="show first that sound code passes and known faults are noticed"
    )
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args(arguments)
    if asked.write or asked.check:
        return page.main(write=asked.write)
    try:
        faults = [*chosen(), *drawn(asked.seed, asked.drawn * SPARE)]
    except NoSuchLineError as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2
    try:
        return _judge(faults, asked)
    except ModuleNotFoundError as error:
        print(f"mutants: no {error.name}: run: make mutants", file=sys.stderr)
        return 3


def _judge(faults: list[Fault], asked: argparse.Namespace) -> int:
    from tools.mutants.judge import judge, prove
    from tools.mutants.knowledge import find_out
    from tools.mutants.order import Order
    from tools.mutants.trees import places, prepare

    crew = places(asked.jobs)
    prepare()
    find_out(crew[0])
    if asked.prove:
        prove(Order(), crew[0], seeds=asked.seeds)
        print("== without a fault all tests pass; known faults are noticed", flush=True)
    kept, why = {fault.key for fault in faults}, results.reasons()
    found = {key: row for key, row in results.load().items() if key in kept or row["origin"] == "drawn"}

    def tell(fault: Fault, row: Mapping[str, Any]) -> None:
        results.save(found)
        print(f"{row['verdict']:11} {row['seconds']:6.1f} s  {fault.file}:{row['number']}  {fault.means}")
        print(f"    - {fault.line}\n    + {fault.becomes}\n    {row['test']} {row['how']}", flush=True)

    work = Work(
        faults, found, states=states_of(fault.file for fault in faults), why=why, count=asked.drawn,
        limit=asked.limit, only=asked.only, tell=tell,
    )  # fmt: skip

    def at(place: Place) -> Callable[[Fault], dict[str, Any]]:
        return lambda fault: judge(fault, Order(work.killers()), place, seeds=asked.seeds, before=work.before(fault))

    work.each([at(place) for place in crew])
    return 1 if any(row["verdict"] == "survived" and key not in why for key, row in found.items()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

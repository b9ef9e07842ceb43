"""Put small faults into the code, one at a time, and say which test notices each.

    python -P -m tools.mutants [--seed N] [--drawn N] [--seeds N] [--limit N] [--only WORD] [--prove]
    python -P -m tools.mutants --write | --check

What has been judged on this tree is not judged again; interrupt it whenever you like. Exits 1 when a fault survives of
which nobody has said why it changes nothing (tools/mutants/equivalent.toml). `--write` writes docs/mutants.md from the
results, `--check` says whether that was done.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tools.mutants import page, results
from tools.mutants.drawn import drawn
from tools.mutants.faults import Fault, NoSuchLineError, chosen, digest_of_deciding

SPARE = 2
"""So many times as many are drawn as are wanted: some do not build."""


def main(arguments: Sequence[str]) -> int:
    """Judge what is left to judge."""
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="which faults are drawn")
    parser.add_argument("--drawn", type=int, default=100, help="how many of them are to be judged")
    parser.add_argument("--seeds", type=int, default=3, help="of Hypothesis, for what other tests let pass")
    parser.add_argument("--limit", type=int, help="judge so many at most in this run")
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
    from tools.mutants.trees import prepare

    prepare()
    find_out()
    found, why, tree = results.load(), results.reasons(), digest_of_deciding()
    if asked.prove:
        prove(Order(), seeds=asked.seeds)
        print("== without a fault all tests pass; known faults are noticed", flush=True)
    kept = {fault.key for fault in faults}
    found = {key: row for key, row in found.items() if key in kept or row["origin"] == "drawn"}
    judged = counted = 0
    for fault in faults:
        row = found.get(fault.key)
        if fault.origin == "drawn" and counted == asked.drawn:
            break
        words = (fault.origin, fault.file, fault.key)
        if not results.is_settled(row, tree, why) and any(word.startswith(asked.only) for word in words):
            if judged == asked.limit:
                break
            order = Order((each["file"], each["test"]) for each in found.values() if each["verdict"] in results.NOTICED)
            row = judge(fault, order, seeds=asked.seeds, before=row["test"] if row is not None else "")
            judged += 1
            found[fault.key] = row
            results.save(found)
            print(
                f"{row['verdict']:11} {row['seconds']:6.1f} s  {fault.file}:{row['number']}  {fault.means}", flush=True
            )
            print(f"    - {fault.line}\n    + {fault.becomes}\n    {row['test']} {row['how']}", flush=True)
        counted += fault.origin == "drawn" and row is not None and row["verdict"] != "unbuildable"
    return 1 if any(row["verdict"] == "survived" and key not in why for key, row in found.items()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

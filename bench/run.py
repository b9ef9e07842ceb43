"""Measure us and the peers side by side, and print ratios: above 1 we are ahead.

    bench/run.py [--only tables,python,flow,wire,labs,checks] [--rounds 5] [--out FILE] [--quick] [--seed 1]

A part of an area alone: --only tables:rules.

In an area everybody is run once a round, in turns; medians are compared. Exit status 0 when every "at least" holds;
1 when one does not, or a peer was not run; 3 when it could not be measured at all.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "public")]

from bench import measure  # noqa: E402

AREAS = {"tables": "tables", "python": "python_api", "flow": "flow", "wire": "wire", "labs": "labs", "checks": "checks"}


def main() -> int:
    """Measure, write, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"areas: {','.join(AREAS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true", help="smaller, for trying it out: no figure to quote")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    present = [name for name, module in AREAS.items() if (ROOT / "bench" / "areas" / f"{module}.py").exists()]
    chosen = options.only.split(",") if options.only else present
    if unknown := [name for name in chosen if name.partition(":")[0] not in present]:
        parser.error(f"no such area: {', '.join(unknown)}")
    how = measure.Options(rounds=options.rounds, quick=options.quick, seed=options.seed)
    began, measured = time.monotonic(), measure.commit()
    rows: list[measure.Row] = []
    targets: list[measure.Target] = []
    for name in chosen:
        area, _, part = name.partition(":")
        module: Any = importlib.import_module(f"bench.areas.{AREAS[area]}")
        if part and part not in getattr(module, "PARTS", ()):
            parser.error(f"no such part: {name}")
        targets += module.PARTS[part].TARGETS if part else module.TARGETS
        try:
            for row in module.rows(replace(how, part=part)):
                rows.append(row)
                print(line(row), flush=True)
        except measure.CannotRunError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 3
    verdicts = measure.judge(rows, targets)
    result = {
        **measured,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": measure.machine(),
        "repeats": how.rounds,
        "quick": how.quick,
        "seed": how.seed,
        "areas": chosen,
        "seconds": round(time.monotonic() - began),
        "rows": [measure.as_json(row) for row in rows],
        "targets": [measure.verdict_json(verdict) for verdict in verdicts],
    }
    out = options.out or _default_out(result, chosen, quick=how.quick)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print()
    for verdict in verdicts:
        print(judged(verdict))
    not_run = sorted({s.text for row in rows for s in row.peers.values() if isinstance(s, measure.NotRun)})
    print(*not_run, f"{len(rows)} rows in {result['seconds']} s: {out}", sep="\n")
    return 1 if not_run or not all(verdict.holds for verdict in verdicts) else 0


def _default_out(result: dict[str, Any], chosen: list[str], *, quick: bool) -> Path:
    what = "-".join(chosen).replace(":", "-")
    if quick:
        return ROOT / "build" / "bench" / f"quick-{what}.json"
    return ROOT / "bench" / "results" / f"{result['date'][:10]}-{result['commit'][:8]}-{what}.json"


def line(row: measure.Row) -> str:
    """A row as it is printed while measuring."""
    sides = [f"ours {figure(row.ours)}"]
    for name, side in row.peers.items():
        ratio = row.ratio(name)
        sides.append(f"{name} {figure(side)}" + ("" if ratio is None else f" ({ratio:.2f}x)"))
    return f"{row.area:7} {row.measure}, {row.case} [{row.unit}]: {'; '.join(sides)}"


def figure(side: measure.Sample | measure.NotRun | measure.Limit) -> str:
    """A median with its spread, or why there is none."""
    if not isinstance(side, measure.Sample):
        return side.text
    spread = f" ±{side.spread / 2:.0%}" if len(side.values) > 1 else ""
    return f"{side.median:.4g}{spread}"


def judged(verdict: measure.Verdict) -> str:
    """A target and whether it holds."""
    t = verdict.target
    state = "holds" if verdict.holds else "FAILS"
    if t.at_least is None:
        state = "told"
    ratio = "not measured" if verdict.ratio is None else f"{verdict.ratio:.2f}x"
    wanted = "" if t.at_least is None else f"at least {t.at_least:.2f}x, "
    return f"{state:5} {t.measure}, {t.case} against {t.peer}: {ratio} ({wanted}aim {t.aim:.2f}x)"


if __name__ == "__main__":
    sys.exit(main())

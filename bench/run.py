"""Measure us and the peers side by side, and print ratios: above 1 we are ahead.

    bench/run.py [--only tables,python,flow,wire,labs,checks] [--rounds 5] [--out FILE] [--quick] [--seed 1]
    bench/run.py --only wire --ports 2 --rounds 1 --onto FILE    one more round of a run, while the machine is quiet

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
    parser.add_argument("--onto", type=Path, help="go on with the run in this file: same commit, same machine")
    parser.add_argument("--ports", default="", help="of the wire: 2,256")
    options = parser.parse_args()
    present = [name for name, module in AREAS.items() if (ROOT / "bench" / "areas" / f"{module}.py").exists()]
    chosen = options.only.split(",") if options.only else present
    if unknown := [name for name in chosen if name.partition(":")[0] not in present]:
        parser.error(f"no such area: {', '.join(unknown)}")
    for name in chosen:
        if (part := name.partition(":")[2]) and part not in getattr(_area(name), "PARTS", ()):
            parser.error(f"no such part: {name}")
    began, measured = time.monotonic(), measure.commit()
    before = _before(options.onto, measured, quick=options.quick)
    how = measure.Options(
        rounds=options.rounds,
        quick=options.quick,
        seed=options.seed,
        first=before["repeats"],
        ports=tuple(map(int, filter(None, options.ports.split(",")))),
    )
    rows: list[measure.Row] = []
    for name in chosen:
        try:
            for row in _area(name).rows(replace(how, part=name.partition(":")[2])):
                rows.append(row)
                print(line(row), flush=True)
        except measure.CannotRunError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 3
    rows = measure.joined([measure.from_json(row) for row in before["rows"]], rows)
    chosen = list(dict.fromkeys([*before["areas"], *chosen]))
    verdicts = measure.judge(rows, [target for name in chosen for target in _targets(name)])
    result = {
        **measured,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": measure.machine(),
        "repeats": min((len(row.ours.values) for row in rows if isinstance(row.ours, measure.Sample)), default=0),
        "quick": how.quick,
        "seed": how.seed,
        "areas": chosen,
        "seconds": before["seconds"] + round(time.monotonic() - began),
        "rows": [measure.as_json(row) for row in rows],
        "targets": [measure.verdict_json(verdict) for verdict in verdicts],
    }
    out = options.out or options.onto or _default_out(result, chosen, quick=how.quick)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print()
    for verdict in verdicts:
        print(judged(verdict))
    not_run = sorted({s.text for row in rows for s in row.peers.values() if isinstance(s, measure.NotRun)})
    print(*not_run, f"{len(rows)} rows in {result['seconds']} s: {out}", sep="\n")
    return 1 if not_run or not all(verdict.holds for verdict in verdicts) else 0


def _area(name: str) -> Any:
    """The module of an area; of ``AREA:PART``, too, whose targets are those of the part."""
    return importlib.import_module(f"bench.areas.{AREAS[name.partition(':')[0]]}")


def _targets(name: str) -> list[measure.Target]:
    part, module = name.partition(":")[2], _area(name)
    targets: list[measure.Target] = module.PARTS[part].TARGETS if part else module.TARGETS
    return targets


def _before(path: Path | None, measured: dict[str, Any], *, quick: bool) -> dict[str, Any]:
    """The run to go on with; one of nothing when there is none."""
    if path is None or not path.exists():
        return {"repeats": 0, "rows": [], "areas": [], "seconds": 0}
    before: dict[str, Any] = json.loads(path.read_text())
    now = {**measured, "machine": measure.machine(), "quick": quick}
    if other := [name for name in now if before[name] != now[name]]:
        raise SystemExit(f"bench: {path} is of another {' and '.join(other)}: begin a new file")
    return before


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

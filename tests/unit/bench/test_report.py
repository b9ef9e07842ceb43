"""The page of results shows the newest of each row, with its ratio."""

from __future__ import annotations

from typing import Any

from bench.measure import Limit, NotRun, Row, Sample, Target, as_json, judge, verdict_json
from bench.report import page


def run(date: str, rows: list[Row], targets: list[Target]) -> dict[str, Any]:
    machine = {"cpu": "Some CPU", "cores": 2, "kernel": "6.1", "governor": "unknown", "python": "3.11"}
    return {
        "date": date,
        "commit": "0123456789abcdef",
        "dirty": False,
        "areas": ["tables"],
        "repeats": 5,
        "machine": machine,
        "rows": [as_json(row) for row in rows],
        "targets": [verdict_json(verdict) for verdict in judge(rows, targets)],
    }


def test_shows_the_newest_and_what_must_hold() -> None:
    def rows(ours: Sample | Limit) -> list[Row]:
        return [
            Row(
                "tables", "lookup", "50 routes", "ns", ours, {"rte_fib": Sample([4.0]), "other": NotRun("x")}, note="so"
            ),
            Row("tables", "bytes", "50 routes", "B", Sample([1.0]), {}),
            Row("tables", "growth: lookup", "1 route", "ns", ours, {"rte_fib": Sample([8.0])}),
        ]

    targets = [Target("lookup", "50 routes", "rte_fib", 1.5, 3)]
    text = page([run("2025-01-01", rows(Sample([9.0])), targets), run("2025-01-02", rows(Sample([2.0, 2.2])), targets)])
    assert "| 50 routes [1] | 2.1 ±5% | 4 | 1.9x | not run: apt install x |  |" in text
    assert "[1] so." in text
    assert "| lookup, 50 routes | rte_fib | 1.9x | 1.50x | 3.00x | holds |" in text
    assert text.index("### Lookup (ns)") < text.index("### As it grows: lookup (ns)")
    assert " 9 |" not in text
    assert "| 2025-01-02 | 0123456789 | tables | 2 | Some CPU," in text
    assert "limit: no" in page([run("2025-01-03", rows(Limit("no")), targets)])

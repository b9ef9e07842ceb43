"""What a ratio means, and when a target holds."""

from __future__ import annotations

import pytest

from bench.measure import (
    Limit,
    NotRun,
    Row,
    Sample,
    Target,
    alternate,
    as_json,
    from_json,
    geometric_mean,
    joined,
    judge,
)


def row(ours: Sample | Limit, peer: Sample | NotRun, **named: object) -> Row:
    return Row("tables", "lookup", "50 routes", "ns", ours, {"rte_fib": peer}, **named)  # type: ignore[arg-type]


def test_a_ratio_above_one_means_that_ours_is_ahead() -> None:
    assert row(Sample([2.0, 1.0, 9.0]), Sample([4.0])).ratio("rte_fib") == 2
    assert row(Sample([2.0]), Sample([4.0]), better="higher").ratio("rte_fib") == 0.5


def test_there_is_no_ratio_to_what_was_not_measured() -> None:
    missing = NotRun("libdpdk-dev")
    assert missing.text == "not run: apt install libdpdk-dev"
    assert NotRun("pip install pytricia").text == "not run: pip install pytricia"
    assert row(Sample([2.0]), missing).ratio("rte_fib") is None
    assert row(Limit("no room"), Sample([2.0])).ratio("rte_fib") is None
    assert row(Sample([2.0]), Sample([1.0])).ratio("nobody") is None


@pytest.mark.parametrize(("at_least", "holds"), [(None, True), (1.5, True), (2.5, False)])
def test_a_target_holds_from_its_least_on(at_least: float | None, holds: bool) -> None:
    rows = [row(Sample([2.0]), Sample([4.0]))]
    targets = [Target("lookup", "50 routes", "rte_fib", at_least, 3), Target("lookup", "other", "rte_fib", 1, 2)]
    (verdict,) = judge(rows, targets)
    assert verdict.holds == holds
    assert not verdict.reaches_aim


def test_a_target_does_not_hold_of_what_was_not_measured() -> None:
    (verdict,) = judge([row(Sample([2.0]), NotRun("x"))], [Target("lookup", "50 routes", "rte_fib", 1, 3)])
    assert not verdict.holds


def test_of_a_peer_with_modes_the_better_one_counts_over_all_rounds() -> None:
    """Not the better one of each round: of two that differ by noise alone, that would be better than either."""

    def rounds(*values: tuple[float, float, float]) -> list[Row]:
        found: list[Row] = []
        for ours, slow, quick in values:
            sides: dict[str, Sample | NotRun | Limit] = {
                "slow": Sample([slow]),
                "quick": Sample([quick]),
                "away": NotRun("x"),
            }
            found = joined(found, [Row("wire", "ping", "two", "us", Sample([ours]), sides)])
        return found

    target = Target("ping", "two", "it", 1, 2, modes=("slow", "quick", "away"))
    (verdict,) = judge(rounds((2.0, 9.0, 1.0), (2.0, 1.0, 9.0), (2.0, 8.0, 6.0)), [target])
    assert verdict.ratio == 3
    away = Target("ping", "two", "it", 1, 2, modes=("away",))
    assert judge(rounds((2.0, 9.0, 1.0)), [away])[0].ratio is None


def test_everybody_is_measured_once_a_round_in_turns() -> None:
    order: list[str] = []

    def measured(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = alternate(2, {"a": lambda: measured("a"), "b": lambda: measured("b")})
    assert order == ["a", "b", "b", "a"]
    assert found["a"].values == [1, 4]
    assert found["a"].median == 2.5
    assert found["a"].spread == pytest.approx(3 / 2.5)


def test_the_mean_of_traces_is_geometric_and_by_round() -> None:
    assert geometric_mean([Sample([1.0, 4.0]), Sample([4.0, 9.0])]).values == pytest.approx([2, 6])


def test_a_row_is_kept_with_its_ratios() -> None:
    kept = as_json(row(Sample([2.0]), NotRun("x")))
    assert kept["ours"] == {"median": 2, "spread": 0, "values": [2]}
    assert kept["peers"] == {"rte_fib": {"not_run": "not run: apt install x", "ratio": None}}


@pytest.mark.parametrize("peer", [Sample([4.0, 5.0]), NotRun("libdpdk-dev"), NotRun("pip install x"), Limit("no room")])
def test_a_row_is_read_from_a_file_as_it_was_written(peer: Sample | NotRun | Limit) -> None:
    kept = row(Sample([2.0, 1.0]), peer, better="higher", note="n")  # type: ignore[arg-type]
    assert from_json(as_json(kept)) == kept


def test_a_run_that_goes_on_has_the_samples_of_both() -> None:
    other = Row("wire", "TCP", "2 ports", "Gbit/s", Sample([1.0]))
    before = [row(Sample([1.0, 2.0]), Sample([3.0])), other]
    now = [row(Sample([4.0]), Sample([5.0, 6.0])), Row("wire", "TCP", "256 ports", "Gbit/s", Sample([7.0]))]
    assert joined(before, now) == [row(Sample([1.0, 2.0, 4.0]), Sample([3.0, 5.0, 6.0])), other, now[1]]


def test_what_was_not_run_before_counts_from_when_it_is() -> None:
    assert joined([row(Limit("no room"), NotRun("x"))], [row(Sample([1.0]), Sample([2.0]))]) == [
        row(Sample([1.0]), Sample([2.0]))
    ]

"""What packets can make a lab take is what `lab.bounds` says of it, weighed in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.floods import weighed

BESIDES = 2 << 20
"""Bytes an interpreter may map meanwhile: an arena of CPython's objects is 1 MiB, a step of malloc's heap 132 KiB."""


def weigh(what: str) -> dict[str, int]:
    command = [sys.executable, "-P", "-m", weighed.__name__, what]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=weighed.environment())
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


def test_tables_reserve_what_is_said_of_them() -> None:
    found = weigh("reserved")
    assert found["sessions"] == pytest.approx(found["sessions_said"], abs=BESIDES)
    # Buckets of flow entries are not reserved, but grow with these.
    assert 0.95 * found["flows_said"] < found["flows"] <= found["flows_said"]


def test_full_tables_take_no_more_than_is_said_and_lose_nothing_that_is_established() -> None:
    found = weigh("engine")
    assert found["sessions"] >= 196_000  # half of it by the first who floods, and half of the rest by the second
    assert found["flows"] > 65_000
    assert found["fragments_waiting"] == 2_048
    assert found["lost"] == 0
    assert 0.5 * found["bound"] < found["grown"] <= found["bound"]


def test_full_flow_logs_take_no_more_than_is_said() -> None:
    found = weigh("logs")
    assert found["held"] == weighed.RECORDS
    assert found["lines"] == weighed.RECORDS
    assert 0.4 * found["bound"] < found["grown"] <= found["bound"]

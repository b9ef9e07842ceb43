"""What has become of each fault so far, kept in a file that a later run goes on from."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.mutants.faults import Fault

HERE = Path(__file__).parent
RESULTS, EQUIVALENT = HERE / "results.json", HERE / "equivalent.toml"
NOTICED = ("killed", "crashed", "hung")


def load() -> dict[str, dict[str, Any]]:
    """Results by the key of their fault."""
    return {row["key"]: row for row in json.loads(RESULTS.read_text())} if RESULTS.exists() else {}


def save(results: Mapping[str, dict[str, Any]]) -> None:
    """Write them all; chosen ones first, then by file and line."""
    rows = sorted(results.values(), key=lambda row: (row["origin"], row["file"], row["number"], row["becomes"]))
    fresh = RESULTS.with_suffix(".new")
    fresh.write_text(json.dumps(rows, indent=1) + "\n")
    fresh.replace(RESULTS)


def reasons() -> dict[str, str]:
    """Why faults that no test notices change nothing, by key."""
    rows = tomllib.loads(EQUIVALENT.read_text()).get("equivalent", []) if EQUIVALENT.exists() else []
    return {Fault(**{name: row[name] for name in row if name != "why"}, means="").key: row["why"] for row in rows}


def is_settled(row: Mapping[str, Any] | None, tree: str, why: Mapping[str, str]) -> bool:
    """Whether a fault need not be judged again: it was on this tree, and a test noticed it or nothing can."""
    if row is None or row["tree"] != tree:
        return False
    return row["verdict"] != "survived" or row["key"] in why

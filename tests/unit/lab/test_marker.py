from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lab import marker

DIES = """
import json, os, pathlib, signal, sys
tries = pathlib.Path(sys.argv[1])
tries.write_text(tries.read_text() + "x")
if len(tries.read_text()) < int(sys.argv[2]):
    os.kill(os.getpid(), signal.SIGKILL)
json.dump(dict.fromkeys(json.load(sys.stdin), ""), sys.stdout)
"""


@pytest.fixture
def tries(tmp_path: Path) -> Path:
    path = tmp_path / "tries"
    path.write_text("")
    return path


def test_a_reader_killed_with_the_lab_it_looked_at_reads_again(tries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that collect garbage: one kills all that is in a dead lab's namespaces, the other's reader too."""
    monkeypatch.setattr(marker, "command", lambda module: [sys.executable, "-c", DIES, str(tries), "3"])
    assert marker.read_markers({"a": ["/proc/self/ns/net"]}) == {}
    assert tries.read_text() == "xxx"


def test_one_that_is_killed_again_and_again_is_told_of(tries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marker, "command", lambda module: [sys.executable, "-c", DIES, str(tries), "1000"])
    with pytest.raises(subprocess.CalledProcessError, match="SIGKILL"):
        marker.read_markers({"a": ["/proc/self/ns/net"]})

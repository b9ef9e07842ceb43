"""What a process of a test run leaves behind fails the run, also where several run side by side."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import conftest

ROOT = Path(__file__).parents[2]
FORGETS = """
import os
from pathlib import Path

def test_that_forgets_a_lab():
    (Path(os.environ["XDG_STATE_HOME"]) / "vpclab" / "forgotten").mkdir(parents=True)
"""


def run(folder: Path, source: str, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(source)
    return subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-p", "tests.conftest", "-q", "--fail-on-leftovers", *words, folder],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "XDG_STATE_HOME": str(folder / "states"),
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("words", [(), ("-n", "1")], ids=["alone", "side by side"])
def test_a_forgotten_lab_fails_the_run(tmp_path: Path, words: tuple[str, ...]) -> None:
    ended = run(tmp_path, FORGETS, *words)
    assert "failed: left behind: state of lab forgotten" in ended.stdout
    assert "1 passed" in ended.stdout
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED


def test_each_process_has_states_of_its_own(tmp_path: Path) -> None:
    run(tmp_path, FORGETS, "-n", "1")
    assert not (tmp_path / "states").exists()


def test_what_was_there_before_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user's processes see root's names: those of a measurement that was killed an hour ago, say."""
    seen = {"namespace of-root"}
    monkeypatch.setattr(conftest, "stand_apart", lambda: tmp_path / "states")
    monkeypatch.setattr(conftest, "names_and_states", lambda: set(seen))
    apart = conftest.Apart()
    seen |= {"namespace of-a-test", "state of lab forgotten"}
    session = SimpleNamespace(config=SimpleNamespace(workeroutput={}))
    apart.pytest_sessionfinish(session)  # type: ignore[arg-type]
    assert session.config.workeroutput["left"] == ["namespace of-a-test", "state of lab forgotten"]

"""What a daemon that takes a lab over knows of it, and where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataplane.errors import LabError
from dataplane.names import Names
from lab.daemon import _before
from lab.journal import Journal, JournalFile
from lab.state import LabState


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabState:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # and back afterwards
    made = LabState("shop")
    made.path.mkdir(parents=True)
    return made


def written(state: LabState, folder: Path) -> None:
    journal = Journal(text="", file="lab.yaml", folder=str(folder), clock_offset_ms=0, names=Names())
    JournalFile(state).write(journal)


def test_it_stands_where_the_daemon_before_stood(state: LabState, tmp_path: Path) -> None:
    (tmp_path / "started").mkdir()
    written(state, tmp_path / "started")
    found, problem = _before(state)
    assert (found.file, problem) == ("lab.yaml", "")
    assert Path.cwd() == tmp_path / "started"


def test_a_folder_that_has_gone_is_told_and_does_not_keep_the_lab_from_coming_back(
    state: LabState, tmp_path: Path
) -> None:
    written(state, tmp_path / "gone")
    found, problem = _before(state)
    assert found.file == "lab.yaml"
    assert problem == f"{tmp_path}/gone, where lab shop was started, cannot be entered: No such file or directory"
    assert Path.cwd() == state.path


def test_what_was_never_up_does_not_come_back(state: LabState) -> None:
    with pytest.raises(LabError, match="lab shop was not up when its daemon ended"):
        _before(state)

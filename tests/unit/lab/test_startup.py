"""Starting a daemon, from the starter's side: whatever the daemon does, one clear answer and nothing left over.

The daemon is played by bash scripts; they get what the real one gets: ``-S -P -c CODE ROOT NAME READY_FD [TIE_FD]``.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dataplane.errors import ConfigurationError, LabError
from lab.startup import Start, launch

START = Start(name="x", text="version: 1\n", file="lab.yaml", strict=True)


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "daemon"
    monkeypatch.setattr("lab.startup.sys.executable", str(script))
    return script


def play(script: Path, body: str) -> None:
    script.write_text(f"#!/bin/bash\n{body}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_daemon_that_gets_ready(daemon: Path, tmp_path: Path) -> None:
    play(daemon, f'cat > {tmp_path}/start; echo \'{{"problem": "slow"}}\' >&$7; read end <&$8')
    started = launch(START, tied=True, limit_s=10)
    assert started.problem == "slow"
    told = json.loads((tmp_path / "start").read_text())
    assert set(told.pop("packages")) == {os.path.abspath(folder) for folder in sys.path if folder}
    assert told == {
        "name": "x",
        "text": "version: 1\n",
        "file": "lab.yaml",
        "strict": True,
        "resume": False,
    }
    assert is_alive(started.pid)
    assert started.tie is not None
    started.tie.close()
    assert started.process.wait(5) == 1, "the end of the pipe is the end of the lab"


def test_a_daemon_that_is_not_tied_gets_no_pipe(daemon: Path) -> None:
    play(daemon, 'cat >/dev/null; echo "{\\"problem\\": \\"$#\\"}" >&$7')
    started = launch(START, tied=False, limit_s=10)
    assert (started.problem, started.tie) == ("7", None)
    started.process.wait(5)


def test_errors_of_the_daemon_arrive_as_they_are(daemon: Path) -> None:
    problem = {"path": "a", "message": "b", "code": "", "hint": "", "file": "f", "line": 1, "column": 2}
    error = {"error": {"kind": "configuration", "message": "", "problems": [problem]}}
    play(daemon, f"cat >/dev/null; echo '{json.dumps(error)}' >&$7")
    with pytest.raises(ConfigurationError, match="f:1:2: a: b"):
        launch(START, tied=True, limit_s=10)


def test_the_last_words_of_a_daemon_that_ends(daemon: Path) -> None:
    play(daemon, "echo first >&2; echo 'ImportError: no engine' >&2; exit 1")
    with pytest.raises(LabError, match="lab x did not start: its daemon ended: ImportError: no engine"):
        launch(START, tied=True, limit_s=10)


def test_a_daemon_that_takes_too_long_is_ended(daemon: Path, tmp_path: Path) -> None:
    play(daemon, f"echo $$ > {tmp_path}/pid; exec sleep 60")
    began = time.monotonic()
    with pytest.raises(LabError, match=r"not ready within 4 s"):
        launch(START, tied=False, limit_s=4)
    assert time.monotonic() - began < 30
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_nothing_is_left_of_a_daemon_that_does_not_end(
    daemon: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed; its nodes would wait for another one."""
    alive: list[tuple[str, bool]] = []
    pid = tmp_path / "pid"
    monkeypatch.setattr("lab.startup._ENDING_S", 0.1)
    monkeypatch.setattr("lab.startup.gc.collect", lambda name: alive.append((name, is_alive(int(pid.read_text())))))
    play(daemon, f"trap '' TERM; echo $$ > {pid}; exec sleep 60")
    with pytest.raises(LabError, match=r"not ready within 4 s"):
        launch(START, tied=False, limit_s=4)
    assert alive == [("x", False)]


def test_a_daemon_that_takes_over_is_let_go_and_not_stopped(daemon: Path, tmp_path: Path) -> None:
    """It ends when nobody waits for it any more; a signal might come when it is up, and end what it has rescued."""
    until_unheard = "while echo nonsense >&$7; do sleep 0.01; done 2>/dev/null"
    play(
        daemon,
        f"trap 'echo stopped >> {tmp_path}/ends' TERM; trap '' PIPE; {until_unheard}; echo let go >> {tmp_path}/ends",
    )
    with pytest.raises(json.JSONDecodeError):
        launch(replace(START, resume=True), tied=False, limit_s=10)
    assert (tmp_path / "ends").read_text() == "let go\n"


def test_no_descriptor_is_left_open(daemon: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for tied in (True, False):
        with pytest.raises(FileNotFoundError):
            launch(START, tied=tied, limit_s=10)
        play(daemon, "exit 1")
        with pytest.raises(LabError):
            launch(START, tied=tied, limit_s=10)
        daemon.unlink()
    assert len(os.listdir("/proc/self/fd")) == before

"""The command `vpclab` as a user types it: one process per call."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

_LIMIT_S = 120.0


class Command:
    """Runs `vpclab`, with a state folder of its own if one is named."""

    def __init__(self, state: Path | None = None) -> None:
        self._state = {} if state is None else {"XDG_STATE_HOME": str(state)}

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "COLUMNS": "100", **self._state}

    @property
    def state(self) -> Path:
        """Where state folders of labs are."""
        return Path(self.environment["XDG_STATE_HOME"], "vpclab")

    def line(self, *words: str) -> list[str]:
        return [sys.executable, "-P", "-m", "vpclab", *words]

    def run(self, *words: str, status: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run it; it must end with this status."""
        line = self.line(*words)
        done = subprocess.run(
            line, env=self.environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False, **options
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    def said(self, *words: str, status: int = 0) -> str:
        """All that it says, to whomever."""
        done = self.run(*words, status=status)
        return done.stdout + done.stderr

    def json(self, *words: str, status: int = 0) -> Any:
        return json.loads(self.run(*words, "--format", "json", status=status).stdout)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Let it begin; all that it says comes by its standard output."""
        line = self.line(*words)
        return subprocess.Popen(line, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def kill_daemon(self, lab: str) -> None:
        """With SIGKILL, and wait until it is gone, and has let go of what it held: it runs no more code before that."""
        descriptor = os.pidfd_open(self.json("--lab", lab, "status")["pid"])
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            assert select.select([descriptor], [], [], _LIMIT_S)[0]
        finally:
            os.close(descriptor)


def rest_of(command: subprocess.Popen[str]) -> str:
    """What a command that was started still says, to its end."""
    said, _ = command.communicate(timeout=_LIMIT_S)
    return said

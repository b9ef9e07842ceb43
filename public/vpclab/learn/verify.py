"""Whether a changed lab file solves a lesson: its checks, whatever the file itself says of checks, and its task."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vpclab.lab import Lab
from vpclab.learn.lesson import Lesson, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What came of it."""

    rows: list[dict[str, Any]]
    """Results of the checks, as `Lab.check` returns them."""
    task: str = ""
    """Why the task failed; an empty text when it did not, or there is none."""

    @property
    def solved(self) -> bool:
        """Whether everything holds."""
        return not self.task and all(row["holds"] for row in self.rows)


def prove(lesson: Lesson, file: str | os.PathLike[str]) -> Found:
    """Prove it with real packets, in a lab of the file that is gone afterwards.

    Raises:
        ConfigurationError: the file is wrong, or lacks what the checks are about.
        LabError: the lab cannot be started.
    """
    with Lab.load(file) as lab:
        return Found(rows=lab.check(lesson.checks), task="" if lesson.task is None else attempt(lab, lesson.task))


def decide(lesson: Lesson, file: str | os.PathLike[str]) -> Found:
    """Decide the checks by the rules of the file alone; a task needs real programs, and is left out.

    Raises:
        ConfigurationError: the file is wrong, or lacks what the checks are about.
    """
    from dataplane.load import load_topology
    from dataplane.load.checks import read_checks
    from vpclab.cli.questions import decided

    topology = load_topology(Path(file))
    checks = read_checks(lesson.checks_text, topology, file_name=f"{lesson.name}'s checks")
    return Found(rows=decided(topology, checks))


def attempt(lab: Lab, task: Task) -> str:
    """Have it done in a running lab; why it failed, or an empty text.

    Raises:
        LabError: the lab has no node of that name, or does not run.
    """
    try:
        done = lab[task.node].run(task.command, timeout_s=task.limit_s)
    except subprocess.TimeoutExpired:
        return f"not done after {task.limit_s:g} s"
    except OSError as error:
        return f"{task.command[0]}: {error.strerror}"
    said = done.stderr.strip().splitlines()
    return "" if done.returncode == 0 else (said[-1] if said else f"exit status {done.returncode}")

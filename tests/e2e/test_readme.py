"""What the README promises works as written there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def blocks(language: str) -> list[str]:
    """The code blocks of this language."""
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return found


def test_the_lab_file_and_the_python_of_the_readme_work(tmp_path: Path) -> None:
    [lab_file, _] = blocks("yaml")
    [_, script] = blocks("python")
    (tmp_path / "hello.yaml").write_text(lab_file)
    (tmp_path / "hello.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "-P", "hello.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "visitor -> 203.0.113.20" in done.stdout
    assert "security group" in done.stdout


def test_the_test_of_the_readme_passes(tmp_path: Path) -> None:
    [lab_file, _] = blocks("yaml")
    [test, _] = blocks("python")
    (tmp_path / "lab.yaml").write_text(lab_file)
    (tmp_path / "test_hello.py").write_text(test)
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_the_checks_of_the_readme_hold_and_are_told_as_shown(tmp_path: Path) -> None:
    (tmp_path / "hello.yaml").write_text("".join(blocks("yaml")))
    command = [sys.executable, "-P", "-m", "vpclab", "check", "hello.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [shown] = [block for block in blocks("console") if "vpclab check hello.yaml" in block]
    assert [line.split() for line in done.stdout.splitlines()] == [line.split() for line in shown.splitlines()[1:]]

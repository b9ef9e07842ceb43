"""What the README promises works as written there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def block(language: str) -> str:
    """The one code block of this language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return str(found)


def test_the_lab_file_and_the_python_of_the_readme_work(tmp_path: Path) -> None:
    (tmp_path / "hello.yaml").write_text(block("yaml"))
    (tmp_path / "hello.py").write_text(block("python"))
    done = subprocess.run(
        [sys.executable, "-P", "hello.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "visitor -> 203.0.113.20" in done.stdout
    assert "security group" in done.stdout

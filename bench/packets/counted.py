"""Instructions per packet, counted by valgrind (callgrind): they do not depend on what else the machine does.

What is to be counted is prepared here and handed over as rows and frames; a process under valgrind makes an engine of
them, lets the warming frames in, and counts while the others go through, nothing before and nothing after.

    bench/packets/counted.py FILE      (what valgrind runs)
"""

from __future__ import annotations

import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "public")]

INSTALL = "apt install valgrind"


@dataclass(frozen=True)
class Case:
    """One thing to count: `frames` go through `warm` times, and then once more, which is counted."""

    name: str
    rows: dict[str, Any]
    frames: array[int]
    length: int
    ports: array[int]
    warm: int = 2
    memo: bool = True
    opening: tuple[tuple[bytes, int], ...] = ()
    """Other frames with their ports, let in one by one before all that."""
    logged: bool = False
    """Whether flows are recorded, of interfaces that the rows watch."""


def topology_rows(topology: Any) -> dict[str, Any]:
    """What the compiler makes of a topology, before it is packed."""
    from dataplane.compile import rows_of
    from dataplane.names import Names

    return rows_of(topology.lower(Names()))


def count(cases: list[Case]) -> dict[str, float] | None:
    """Instructions per packet of each; of those with one name, the least. None: there is no valgrind."""
    if shutil.which("valgrind") is None:
        return None
    from bench.native import build

    build.kernels()
    with tempfile.TemporaryDirectory() as folder:
        work, out = Path(folder) / "cases", Path(folder) / "out"
        work.write_bytes(pickle.dumps([vars(case) for case in cases]))
        command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
        command += [sys.executable, "-P", __file__, str(work)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONHASHSEED": "0"}
        )
        counts = [int(each) for n in range(1, len(cases) + 1) for each in _totals(out.with_name(f"out.{n}"))]
        if done.returncode or len(counts) != len(cases):
            raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr[-3000:]}")
    least: dict[str, float] = {}
    for case, total in zip(cases, counts, strict=True):
        each = total / len(case.ports)
        least[case.name] = min(each, least.get(case.name, each))
    return least


def _totals(path: Path) -> list[str]:
    return re.findall(r"^(?:totals|summary): (\d+)", path.read_text(), re.MULTILINE)[:1] if path.exists() else []


def main() -> int:
    """Run the cases of a file, in order."""
    from bench.native import build
    from fastpath.engine import Engine
    from fastpath.snapshot import Snapshot

    for case in pickle.loads(Path(sys.argv[1]).read_bytes()):
        engine = Engine(sessions=1 << 14, flows=1 << 14, memo=case["memo"])
        engine.swap(Snapshot(case["rows"], generation=1))
        if case["logged"]:
            engine.open_records(capacity=1 << 14)
        replay = build.kernels().Replay(engine)
        for frame, port in case["opening"]:
            engine.process([frame], [port], 1000)
        frames, ports, length = case["frames"], case["ports"], case["length"]
        for run in range(case["warm"] + 1):
            at = frames.buffer_info()[0], length, length, len(ports), ports.buffer_info()[0]
            left = replay.run(*at, 1000, 0, run == case["warm"])
            assert left == len(ports), (case["name"], run, left, len(ports))
    return 0


if __name__ == "__main__":
    sys.exit(main())

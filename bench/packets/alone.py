"""What a process of its own tells about packets: how often it allocates, and what the worker asks the kernel.

bench/packets/alone.py allocations           (with native/counter.c preloaded)
bench/packets/alone.py calls INWARD OUTWARD COUNT   (under strace; two descriptors that stand for ports)
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.packets.labs import Traffic
    from dataplane.engine import DataPlane

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "public")]

INSTALL = "apt install strace"
OFFLOAD = bytes(12)
TRIES = 3
FEW, MANY = 64, 128
PACKETS = 1024


def allocations_per_packet() -> dict[str, float]:
    """Of each way that packets go."""
    from bench.native import build

    build.kernels()
    build.loop()
    done = subprocess.run(
        [sys.executable, "-P", __file__, "allocations"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LD_PRELOAD": str(build.counter())},
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return {name: float(n) / PACKETS for name, n in (line.split(": ") for line in done.stdout.splitlines())}


def _allocations() -> None:
    from bench.packets.labs import NatLab

    counter = ctypes.CDLL(None).allocations
    counter.restype = ctypes.c_uint64
    lab = NatLab(1 << 14, 1 << 14)
    nothing, packets = lab.traffic(0, 0), lab.traffic(0, PACKETS)

    def spent(run: object) -> int:
        before = counter()
        run.run(lab.replay)  # type: ignore[attr-defined]
        return int(counter() - before)

    spent(nothing)
    idle = spent(nothing)
    print(f"first packet: {spent(packets) - idle}")
    packets.run(lab.replay)
    print(f"hit: {spent(packets) - idle}")
    lab.plane.engine.memo = False
    print(f"walked: {spent(packets) - idle}")


def calls_per_packet() -> float | None:
    """System calls of the worker for each packet of a full queue; None: there is no strace.

    Of some tries the fewest: where others want the processor, the worker looks at its ports in vain more often.
    """
    if shutil.which("strace") is None:
        return None
    few, many = (min(_calls(count) for _ in range(TRIES)) for count in (FEW, MANY))
    return (many - few) / (MANY - FEW)


def _calls(count: int) -> int:
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "calls"
        frame = _lab()[2]
        for _ in range(count):
            pairs[0][0].send(OFFLOAD + frame)
        ports = [pair[1].fileno() for pair in pairs]
        command = ["strace", "-f", "-qq", "-o", str(told), sys.executable, "-P", __file__, "calls"]
        done = subprocess.run(
            [*command, *map(str, ports), str(count)], pass_fds=ports, capture_output=True, text=True, check=False
        )
        for pair in pairs:
            for end in pair:
                end.close()
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        return len(re.findall(rf"^{int(done.stdout)} +\w+\(", told.read_text(), re.MULTILINE))


def _lab() -> tuple[DataPlane, Traffic, bytes]:
    from bench.packets.labs import between, neighbours
    from dataplane.engine import DataPlane

    plane = DataPlane(neighbours(2))
    traffic = between(plane, 2, 1)
    return plane, traffic, bytes(traffic.frames)


def _worker(inward: int, outward: int, count: int) -> None:
    from fastpath.worker import Worker

    plane, traffic, frame = _lab()
    (here,) = traffic.ports
    for _ in range(3):
        plane.process([frame], [here], 0)
    worker = Worker(plane.engine)
    for port, descriptor in ((here, inward), (plane.port("i1/eth0"), outward)):
        os.set_blocking(descriptor, False)
        worker.attach(port, descriptor)
    worker.start()
    end = time.monotonic() + 20
    while worker.statistics()["writes"] < count and time.monotonic() < end:
        time.sleep(0.05)
    number, told = worker.thread_id, worker.statistics()
    worker.stop()
    assert told["writes"] == told["frames"] == count, told
    print(number)


if __name__ == "__main__":
    if sys.argv[1] == "allocations":
        _allocations()
    else:
        _worker(*map(int, sys.argv[2:]))

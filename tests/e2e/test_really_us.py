"""It must really be us: every packet between nodes goes through the worker, and through nothing else."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from lab.running import RunningLab
from lab.state import LabState
from tests.e2e.lab.stage import eventually
from vpclab import Lab

EXAMPLES = Path(__file__).parents[2] / "examples"


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_with_the_worker_stopped_every_path_stops(quickstart: Lab) -> None:
    pairs = [("app", "10.0.1.10"), ("db", "10.0.1.10"), ("app", "198.51.100.10"), ("app", "10.0.2.1")]
    assert all(quickstart[source].ping(target) for source, target in pairs)
    pid = quickstart.status()["pid"]
    with stopped(pid):
        answers = {(source, target): quickstart[source].ping(target, timeout_s=1).received for source, target in pairs}
    assert not any(answers.values()), answers
    assert all(quickstart[source].ping(target) for source, target in pairs)


def test_no_namespace_forwards_or_filters(quickstart: Lab) -> None:
    for node in quickstart:
        forwarding = node.run(
            ["cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/conf/eth0/forwarding"]
        ).stdout.split()
        assert forwarding == ["0", "0"], node.name
        rules = node.run(["nft", "list", "ruleset"])
        assert (rules.returncode, rules.stdout.strip()) == (0, ""), rules


def test_counters_equal_what_the_guests_sent_and_received(quickstart: Lab) -> None:
    def counts(name: str) -> tuple[int, int, int, int]:
        node = next(n for n in quickstart.status()["nodes"] if n["name"] == name)
        ours = node["interfaces"][0]["counters"]
        guest = {
            key: int(quickstart[name].run(["cat", f"/sys/class/net/eth0/statistics/{key}"]).stdout)
            for key in ("tx_packets", "rx_packets")
        }
        return ours["sent_frames"], ours["received_frames"], guest["tx_packets"], guest["rx_packets"]

    names = ("app", "web", "db", "example")
    before = {name: counts(name) for name in names}
    assert all(quickstart["app"].ping("10.0.1.10") for _ in range(5))
    quickstart["db"].ping("198.51.100.10", count=2, timeout_s=1)
    quickstart["app"].run(["curl", "-sS", "http://198.51.100.10/"], check=True)
    deadline = time.monotonic() + 20
    while True:
        after = {name: counts(name) for name in names}
        delta = {name: [a - b for a, b in zip(after[name], before[name], strict=True)] for name in names}
        if all(d[0] == d[2] and d[1] == d[3] for d in delta.values()):
            break
        assert time.monotonic() < deadline, delta
    assert all(sum(d) for name, d in delta.items() if name != "db")
    assert delta["app"][0] >= 10


@pytest.fixture(scope="module")
def running() -> Iterator[RunningLab]:
    """The quickstart lab with its worker in this very process."""
    file = EXAMPLES / "quickstart.yaml"
    state = LabState(f"in-process-{os.getpid()}")
    state.acquire()
    try:
        with RunningLab(state, file.read_text(), str(file)) as lab:
            yield lab
    finally:
        state.remove()
        state.release()


def test_a_python_thread_that_holds_the_gil_delays_no_ping(running: RunningLab) -> None:
    ping = running.runtime.popen(
        "app", ["ping", "-n", "-D", "-i", "0.01", "-c", "301", "10.0.1.10"], stdout=-1, text=True
    )
    assert ping.stdout is not None
    ping.stdout.readline()
    ping.stdout.readline()  # the first answer: it runs
    began = time.time()
    ctypes.PyDLL(None).usleep(1_000_000)  # a PyDLL call keeps the GIL
    ended = time.time()
    output = ping.communicate(timeout=60)[0]
    stamped = [
        (float(at), float(ms)) for at, ms in re.findall(r"^\[([\d.]+)\].*time=([\d.]+) ms", output, re.MULTILINE)
    ]
    during = [ms for at, ms in stamped if began < at < ended]
    assert ended - began >= 0.99
    # What needs the GIL would have been answered once it was free: nothing in the meantime.
    assert len(during) > 10, "the pings must have gone on while the GIL was held"
    assert statistics.median(during) < 250, during
    # it does not wait long for the answer to the last
    assert re.search(r" 30[01] received", output), output


def test_no_python_runs_per_packet(running: RunningLab) -> None:
    """The worker's only Python frame stays at one and the same instruction while packets flow."""
    [thread] = [t for t in threading.enumerate() if t.name == "vpclab-worker"]
    assert thread.ident is not None
    before = running.worker.statistics()["frames"]
    places = set()
    ping = running.runtime.popen(
        "app", ["ping", "-n", "-q", "-i", "0.002", "-c", "200", "10.0.1.10"], stdout=-1, text=True
    )
    while ping.poll() is None:
        frame: FrameType | None = sys._current_frames()[thread.ident]
        names = []
        while frame is not None:
            names.append((frame.f_code.co_name, frame.f_lasti))
            frame = frame.f_back
        places.add(tuple(names))
    ping.communicate()
    eventually(lambda: running.worker.statistics()["frames"] - before >= 400, "requests and answers")
    assert len(places) == 1, places

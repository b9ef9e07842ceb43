"""What is measured on the wire, the same way whatever is between the two namespaces."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from bench.areas.wire_peers import CannotRun, Way, command, run, tied

_ROOT = Path(__file__).resolve().parents[2]
_NATIVE, _OUT = _ROOT / "bench" / "native", _ROOT / "build" / "bench"
_TOOLS = (
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
    ("ethtool", "ethtool"),
    ("nft", "nftables"),
    ("iperf3", "iperf3"),
    ("cc", "gcc"),
)
_DROP = """
table netdev bench {
  chain ingress {
    type filter hook ingress device "eth0" priority 0;
    udp dport 5009 udp length 26 drop
  }
}
"""


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing that is measured."""

    name: str
    unit: str
    better: Literal["lower", "higher"]


TCP_1 = Measure("TCP, one stream", "Gbit/s", "higher")
TCP_4 = Measure("TCP, four streams", "Gbit/s", "higher")
UDP_64 = Measure("64-byte UDP", "packets/s", "higher")
UDP_SOCKETS = Measure("64-byte UDP between sockets, at most 1 % lost", "packets/s", "higher")
CONNECT = Measure("connect and close", "connections/s", "higher")
CONNECT_HELD = Measure("connect and close, each end held on a CPU", "connections/s", "higher")
CPUS = {"one CPU": ("0", "0"), "two CPUs": ("0", "1")}
ANYWHERE = ("-1", "-1")
"""Where the scheduler puts them."""
LOADS = ("", ", beside a bulk stream")


def ping_pong(part: str, cpus: str, load: str) -> Measure:
    """`part` is p50 or p99."""
    return Measure(f"ping-pong {part}, {cpus}{load}", "us", "lower")


MEASURES = (
    TCP_1,
    TCP_4,
    UDP_64,
    UDP_SOCKETS,
    CONNECT,
    CONNECT_HELD,
    *(ping_pong(part, cpus, load) for load in LOADS for cpus in CPUS for part in ("p50", "p99")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long each takes."""

    tcp_s: int
    """Whole seconds: iperf3 rounds down, and 0 is for ever."""
    udp_s: float
    udp_steps: int
    ping_s: float
    connect_s: float


FULL = Times(tcp_s=2, udp_s=0.3, udp_steps=6, ping_s=0.5, connect_s=1)
QUICK = Times(tcp_s=1, udp_s=0.1, udp_steps=3, ping_s=0.15, connect_s=0.4)


def missing() -> str:
    """The package that everything here needs and that is missing, or nothing."""
    return next((package for program, package in _TOOLS if shutil.which(program) is None), "")


def measure(way: Way, times: Times) -> dict[str, float]:
    """Everything, once; by the names of MEASURES."""
    found = {TCP_1.name: gigabits(way, 1, times.tcp_s), TCP_4.name: gigabits(way, 4, times.tcp_s)}
    run("nsenter", f"--net={way.client}", "ethtool", "-K", "eth0", "tx-udp-segmentation", "off")
    found[UDP_SOCKETS.name] = max(udp(way, times, "socket")["lossless"], 1.0)  # a ratio to nothing says nothing
    with _dropping(way.server):
        found[UDP_64.name] = udp(way, times, "device")["delivered"]
    found[CONNECT.name] = connects(way, times.connect_s, ANYWHERE)
    found[CONNECT_HELD.name] = connects(way, times.connect_s, CPUS["two CPUs"])
    for load in LOADS:
        for cpus, (client, server) in CPUS.items():
            with _stream(way) if load else contextlib.nullcontext():
                trips = _tool("ping_pong", way.client, way.server, way.address, str(times.ping_s), client, server)
            for part in ("p50", "p99"):
                found[ping_pong(part, cpus, load).name] = float(trips[part])
    return found


def gigabits(way: Way, streams: int, seconds: int) -> float:
    """TCP from client to server: Gbit/s received, by iperf3."""
    with _iperf_server(way):
        report = _iperf(way, "-P", str(streams), "-t", str(seconds), "-J")
    return float(report["end"]["sum_received"]["bits_per_second"]) / 1e9


def udp(way: Way, times: Times, count: str) -> dict[str, float]:
    """Packets per second: see native/udp_rate.c."""
    words = (way.client, way.server, way.address, str(times.udp_s), str(times.udp_steps), count)
    return _tool("udp_rate", *words)


def connects(way: Way, seconds: float, cpus: tuple[str, str]) -> float:
    """Connections per second, from the address they must come from."""
    found = _tool("connect_rate", way.client, way.server, way.address, str(seconds), *cpus)
    if found["seen"] != way.seen_as:
        raise CannotRun(f"the server sees {found['seen']}, not {way.seen_as}: there is no NAT")
    return float(found["rate"])


def _tool(name: str, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*tied(str(_built(name)), *words)))
    return found


@cache
def _built(name: str) -> Path:
    source, target = _NATIVE / f"{name}.c", _OUT / name
    newest = max(each.stat().st_mtime for each in (source, _NATIVE / "wire.h"))
    if not target.exists() or target.stat().st_mtime < newest:
        _OUT.mkdir(parents=True, exist_ok=True)
        run("cc", "-O3", "-Wall", "-Wextra", "-pthread", "-o", str(target), str(source))
    return target


@contextmanager
def _dropping(server: str) -> Iterator[None]:
    """The server's eth0 drops what udp_rate sends to be counted there, before its kernel spends anything on it."""
    enter = ("nsenter", f"--net={server}", "nft")
    run(*enter, "-f", "-", text=_DROP)
    try:
        yield
    finally:
        run(*enter, "delete", "table", "netdev", "bench")


@contextmanager
def _iperf_server(way: Way) -> Iterator[None]:
    child = subprocess.Popen(
        tied("nsenter", f"--net={way.server}", "iperf3", "-s", "-1"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        child.terminate()
        child.wait(10)


def _iperf(way: Way, *words: str) -> dict[str, Any]:
    """Run the client; it tries again while the server is not there yet."""
    end = time.monotonic() + 10
    while True:
        done = command(*tied("nsenter", f"--net={way.client}", "iperf3", "-c", way.address, *words))
        report: dict[str, Any] = json.loads(done.stdout)
        if "error" not in report:
            return report
        if "refused" not in report["error"] or time.monotonic() > end:
            raise CannotRun(f"iperf3: {report['error']}")
        time.sleep(0.01)


@contextmanager
def _stream(way: Way) -> Iterator[None]:
    """One TCP stream from client to server, already at full speed, until the block ends."""
    with _iperf_server(way):
        _wait_listening(way)
        child = subprocess.Popen(
            tied("nsenter", f"--net={way.client}", "iperf3", "-c", way.address, "-t", "60"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            time.sleep(0.3)
            if child.poll() is not None:
                raise CannotRun(f"iperf3 ended with {child.returncode}")
            yield
            if child.poll() is not None:
                raise CannotRun(f"iperf3 ended with {child.returncode} too early")
        finally:
            child.terminate()
            child.wait(10)


def _wait_listening(way: Way) -> None:
    end = time.monotonic() + 10
    while ":1451 " not in run("nsenter", f"--net={way.server}", "cat", "/proc/net/tcp", "/proc/net/tcp6"):
        if time.monotonic() > end:
            raise CannotRun("iperf3 does not listen")
        time.sleep(0.01)

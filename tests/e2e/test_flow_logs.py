"""Flow logs of real programs: what they count is what a capture of the same interface shows, and a crash is told of."""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from scapy.error import Scapy_Exception
from scapy.layers.inet import IP, TCP
from scapy.utils import PcapReader

from vpclab import Lab

ANY = {"protocol": "all", "source": "0.0.0.0/0"}
FORMAT = " ".join(
    f"${{{name}}}"
    for name in ("interface-id", "pkt-srcaddr", "pkt-dstaddr", "srcport", "dstport", "packets", "bytes", "tcp-flags")
)
LAB: dict[str, Any] = {
    "version": 1,
    "name": "logged",
    "vpcs": {
        "v": {
            "cidr": "10.0.0.0/16",
            "subnets": {"one": {"cidr": "10.0.1.0/24"}, "two": {"cidr": "10.0.2.0/24"}},
            "security_groups": {"open": {"description": "everything", "ingress": [ANY]}},
            "flow_logs": {
                "client": {
                    "network_interface": "client/eth0",
                    "max_aggregation_interval": 60,
                    "log_format": FORMAT,
                }
            },
        }
    },
    "instances": {
        "client": {"vpc": "v", "subnet": "one", "private_ip": "10.0.1.10", "security_groups": ["open"]},
        "server": {"vpc": "v", "subnet": "two", "private_ip": "10.0.2.10", "security_groups": ["open"]},
    },
}
PIECES, PIECE = 40, 30_000
MARK = 4001
"""A port that nobody listens on."""
Ends = tuple[str, str, str, str]


def transfer(lab: Lab) -> None:
    """A connection that carries some hundred thousand bytes, from its opening to its end."""
    ours, theirs = lab["client"], lab["server"]
    listener = theirs.socket(socket.AF_INET)
    with listener:
        listener.bind(("10.0.2.10", 4000))
        listener.listen()
        line = ours.connect("10.0.2.10", 4000)
        taken, _ = listener.accept()
        with line, taken:
            sender = threading.Thread(target=_send, args=(line,))
            sender.start()
            while taken.recv(1 << 16):
                pass
            sender.join()


def _send(line: socket.socket) -> None:
    for _ in range(PIECES):
        line.sendall(bytes(PIECE))
    line.shutdown(socket.SHUT_WR)


@contextmanager
def tcpdump(lab: Lab) -> Iterator[Callable[[], bytes]]:
    """What tcpdump sees at the client's interface meanwhile: a function that ends it and returns its file."""
    if shutil.which("tcpdump") is None:
        pytest.skip("needs tcpdump: apt install tcpdump")
    command = ["tcpdump", "-i", "eth0", "-n", "-U", "--immediate-mode", "-s", "128", "-Z", "root", "-w", "-", "tcp"]
    running = lab["client"].popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    try:
        assert running.stdout is not None
        assert running.stderr is not None
        output = running.stdout
        said = b""
        while b"listening on eth0" not in said:
            said += running.stderr.read(1)
            assert running.poll() is None, said
        found: list[bytes] = []
        reader = threading.Thread(target=lambda: found.extend(iter(lambda: output.read(1 << 16), b"")))
        reader.start()

        def stop() -> bytes:
            # Packets come in order: once it shows what is sent now, it has shown all before.
            with pytest.raises(ConnectionRefusedError):
                lab["client"].connect("10.0.2.10", MARK)
            deadline = time.monotonic() + 30
            while not _shows_mark(b"".join(found)):
                assert time.monotonic() < deadline, "tcpdump does not show what was sent last"
                time.sleep(0.05)
            running.terminate()
            reader.join(30)
            return b"".join(found)

        yield stop
    finally:
        running.kill()
        with running:  # and wait for it, and close its pipes
            pass


def _shows_mark(stream: bytes) -> bool:
    """Whether the refusal of the last connection is in a file that may end in the middle of a packet."""
    try:
        return any(TCP in frame and frame[TCP].sport == MARK for frame in PcapReader(io.BytesIO(stream)))
    except (EOFError, Scapy_Exception):
        return False


def test_packets_and_bytes_are_those_of_a_capture() -> None:
    with Lab.from_dict(LAB) as lab:
        for name in ("client", "server"):
            lab[name].run(["ethtool", "-K", "eth0", "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off"])
        # to the beginning of a minute: what is in an interval that ends meanwhile is written, and no longer unfinished
        lab.clock.advance(60.5 - (time.time() + lab.clock.offset_s) % 60)
        with tcpdump(lab) as stop:
            transfer(lab)
            _settled(lab)
            stream = stop()
        seen: Counter[tuple[Ends, str]] = Counter()
        for frame in PcapReader(io.BytesIO(stream)):
            if TCP in frame and MARK not in (frame[TCP].sport, frame[TCP].dport):
                packet = frame[IP]
                ends = packet.src, packet.dst, str(packet.sport), str(packet.dport)
                seen[ends, "packets"] += 1
                seen[ends, "bytes"] += packet.len
        logged = {
            ((row["pkt-srcaddr"], row["pkt-dstaddr"], row["srcport"], row["dstport"]), what): int(row[what])
            for row in lab.flow_logs(unfinished=True)
            if str(MARK) not in (row["srcport"], row["dstport"])
            for what in ("packets", "bytes")
        }
        assert logged == dict(seen)
        assert sum(count for (ends, what), count in seen.items() if what == "bytes") > PIECES * PIECE


def _settled(lab: Lab) -> None:
    """Wait until the connection is over on both sides: nothing of it is on its way any more."""
    deadline = time.monotonic() + 30
    before: list[dict[str, str]] = []
    while time.monotonic() < deadline:
        now = lab.flow_logs(unfinished=True)
        flags = {int(row["tcp-flags"]) for row in now}
        if flags == {3, 19} and now == before and all(_has_ended(lab, name) for name in ("client", "server")):
            return
        before = now
        time.sleep(0.1)
    pytest.fail(f"the connection does not end: {before}")


def _has_ended(lab: Lab, node: str) -> bool:
    """Whether its kernel repeats nothing of a connection any more: none is there but such as wait (6, TIME_WAIT)."""
    rows = lab[node].run(["cat", "/proc/self/net/tcp"]).stdout.splitlines()[1:]
    return all(row.split()[3] == "06" for row in rows)


def test_records_are_written_once_the_lab_has_come_to_the_end_of_their_minute() -> None:
    with Lab.from_dict(LAB) as lab:
        assert lab["client"].ping("server").received
        lab.clock.advance(60)
        rows = [row for row in lab.flow_logs() if row["packets"] != "-"]
        assert {(row["pkt-srcaddr"], row["pkt-dstaddr"]) for row in rows} == {
            ("10.0.1.10", "10.0.2.10"),
            ("10.0.2.10", "10.0.1.10"),
        }
        assert list(lab.folder.glob("flow-logs/AWSLogs/123456789012/vpcflowlogs/us-east-1/**/*.log.gz"))


def test_a_lab_that_was_killed_says_what_it_lost() -> None:
    killed = Lab.from_dict(LAB)
    killed.up(detached=True)
    again = Lab.from_dict(LAB, name=killed.name)
    try:
        os.kill(killed.status()["pid"], signal.SIGKILL)
        deadline = time.monotonic() + 30
        while killed.name in Lab.running():
            assert time.monotonic() < deadline, "it lives on"
            time.sleep(0.05)
        again.up(detached=True)
        [warning] = [each for each in again.status()["warnings"] if "flow log" in each]
        assert "v/client from" in warning
    finally:
        again.down()
        killed.down()

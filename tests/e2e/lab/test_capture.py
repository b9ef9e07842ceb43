"""Captures of real interfaces, read back with other tools."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import struct
import subprocess
import threading
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.utils import RawPcapNgReader

from lab.capture import Capture, open_capture
from lab.enter import open_socket
from lab.runtime import Runtime
from tests.e2e.lab.stage import DEADLINE_S, VNET_HEADER_BYTES, need, next_frame, output, plan

pytestmark = pytest.mark.e2e

PEER_MAC = b"\x02\xff\xff\xff\xff\x01"


@pytest.fixture
def tap(runtime: Runtime) -> int:
    (tap,) = runtime.add_nodes([plan()]).values()
    output(runtime, "web", "ip", "neigh", "add", "10.0.1.1", "lladdr", "02:ff:ff:ff:ff:01", "dev", "eth0")
    return tap


def datagram(runtime: Runtime, size: int = 20) -> None:
    """Let the node send a UDP datagram to nobody."""
    with open_socket(runtime.view("web"), socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x" * size, ("192.0.2.1", 9))


def read(file: bytes) -> list[tuple[bytes, Any]]:
    return list(RawPcapNgReader(io.BytesIO(file)))


class Recording:
    """A capture that runs in a thread until `end`."""

    def __init__(self, capture: Capture, **options: Any) -> None:
        self.capture, self.stream, self.count = capture, io.BytesIO(), -1
        self._options = options
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.count = self.capture.run(self.stream, **self._options)

    def end(self) -> list[tuple[bytes, Any]]:
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "the capture did not end"
        self.capture.close()
        packets = read(self.stream.getvalue())
        assert len(packets) == self.count
        return packets


def test_both_directions_with_nanoseconds(runtime: Runtime, tap: int) -> None:
    recording = Recording(open_capture(runtime.view("web")))
    datagram(runtime)
    arp = bytes(PEER_MAC) * 2 + b"\x08\x06" + bytes(28)
    os.write(tap, bytes(12) + arp)
    recording.capture.stop()
    sent, received = recording.end()
    assert sent[0][12:14] == b"\x08\x00"
    assert received[0] == arp
    times = [(meta.tshigh << 32) + meta.tslow for _, meta in (sent, received)]
    assert times[0] < times[1] < times[0] + 60 * 10**9
    assert any(time % 1000 for time in times)
    # Direction: 1 is inbound, 2 is outbound, in the low bits of the flags of each enhanced packet block.
    assert flags_of_packets(recording.stream.getvalue()) == [2, 1]


def test_checksums_left_to_the_device_are_complete(runtime: Runtime, tap: int) -> None:
    recording = Recording(open_capture(runtime.view("web")), count=1)
    datagram(runtime, 33)
    ((frame, _),) = recording.end()
    packet = Ether(frame)
    given = packet["UDP"].chksum
    del packet["UDP"].chksum
    assert given == Ether(bytes(packet))["UDP"].chksum
    assert struct.unpack("=H", os.read(tap, 4096)[12 + 40 : 12 + 42]) != struct.unpack("=H", frame[40:42])


def test_offloaded_segments_are_captured_whole(runtime: Runtime, tap: int) -> None:
    """A large write leaves the node as one segment larger than the MTU, with checksum and length of the whole."""
    recording = Recording(open_capture(runtime.view("web")))
    with open_socket(runtime.view("web"), socket.AF_INET, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        client.connect_ex(("192.0.2.1", 80))
        shake_hands(tap)
        client.setblocking(True)
        client.send(b"y" * 60_000)
        while len(next_frame(tap)) < 9100:
            pass
        recording.capture.stop()
        packets = recording.end()
    largest = max((frame for frame, _ in packets), key=len)
    assert len(largest) > 9001 + 14
    packet = Ether(largest)
    assert packet["IP"].len == len(largest) - 14
    given = packet["TCP"].chksum
    del packet["TCP"].chksum
    assert given == Ether(bytes(packet))["TCP"].chksum


def shake_hands(tap: int) -> None:
    """Answer a SYN with a SYN-ACK whose window is large."""
    while True:
        packet = Ether(next_frame(tap)[VNET_HEADER_BYTES:])
        if "TCP" in packet and packet["TCP"].flags == "S":
            break
    answer = (
        Ether(src=packet.dst, dst=packet.src)
        / IP(src=packet["IP"].dst, dst=packet["IP"].src)
        / TCP(
            sport=packet["TCP"].dport,
            dport=packet["TCP"].sport,
            flags="SA",
            seq=1000,
            ack=packet["TCP"].seq + 1,
            window=65535,
            options=[("MSS", 8961), ("WScale", 10)],
        )
    )
    os.write(tap, bytes(12) + bytes(answer))


def test_vlan_tags_are_put_back(runtime: Runtime, tap: int) -> None:
    recording = Recording(open_capture(runtime.view("web")))
    tagged = PEER_MAC * 2 + bytes.fromhex("81006007") + b"\x08\x06" + bytes(range(46))
    os.write(tap, bytes(12) + tagged)
    recording.capture.stop()
    ((frame, meta),) = recording.end()
    assert (frame, meta.wirelen) == (tagged, len(tagged))


def test_a_burst_is_not_lost(runtime: Runtime, tap: int) -> None:
    recording = Recording(open_capture(runtime.view("web")))
    burst = 5000
    with open_socket(runtime.view("web"), socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(burst):
            sender.sendto(number.to_bytes(4, "big"), ("192.0.2.1", 9))
            if number % 500 == 499:
                drain(tap)
    recording.capture.stop()
    numbers = [int.from_bytes(frame[42:46], "big") for frame, _ in recording.end() if frame[23] == 17]
    assert numbers == list(range(burst))


def drain(tap: int) -> None:
    try:
        while os.read(tap, 4096):
            pass
    except BlockingIOError:
        pass


def test_packets_are_written_while_they_come(runtime: Runtime, tap: int) -> None:
    """As `| wireshark -k -i -` needs it; and when nobody reads any more, the capture ends by itself."""
    reader, writer = os.pipe()
    capture = open_capture(runtime.view("web"))
    with os.fdopen(reader, "rb") as ours, os.fdopen(writer, "wb") as theirs:
        thread = threading.Thread(target=capture.run, args=(theirs,))
        thread.start()
        live = RawPcapNgReader(ours)
        datagram(runtime)
        assert next(live)[0][12:14] == b"\x08\x00"
        datagram(runtime)
        assert next(live)[0][12:14] == b"\x08\x00"
        ours.close()
        datagram(runtime)
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
        with contextlib.suppress(BrokenPipeError):
            theirs.close()
    capture.close()


def test_limits_of_count_and_time(runtime: Runtime, tap: int) -> None:
    with open_capture(runtime.view("web")) as capture:
        for _ in range(3):
            datagram(runtime)
        assert capture.run(io.BytesIO(), count=2) == 2
    with open_capture(runtime.view("web")) as capture:
        datagram(runtime)
        assert capture.run(io.BytesIO(), seconds=0.05) == 1


def test_a_capture_ends_with_its_node_and_with_its_lab(runtime: Runtime, tap: int) -> None:
    recording = Recording(open_capture(runtime.view("web")))
    datagram(runtime)
    runtime.remove_nodes(["web"])
    assert len(recording.end()) == 1
    runtime.add_nodes([plan()])
    recording = Recording(open_capture(runtime.view("web")))
    runtime.close()
    recording.end()


def test_an_unknown_interface_is_refused(runtime: Runtime, tap: int) -> None:
    with pytest.raises(OSError, match="No such device"):
        open_capture(runtime.view("web"), "eth7")


def test_tshark_reads_it(runtime: Runtime, tap: int) -> None:
    tshark = need("tshark")
    recording = Recording(open_capture(runtime.view("web")), count=1)
    datagram(runtime)
    recording.end()
    shown = ("ip.dst", "udp.dstport", "udp.checksum.status", "frame.interface_name")
    fields = [word for name in shown for word in ("-e", name)]
    done = subprocess.run(
        [tshark, "-r", "-", "-o", "udp.check_checksum:TRUE", "-T", "fields", *fields],
        input=recording.stream.getvalue(),
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().split() == ["192.0.2.1", "9", "1", "eth0"]


def flags_of_packets(file: bytes) -> list[int]:
    """``epb_flags`` of each enhanced packet block."""
    found, offset = [], 0
    while offset < len(file):
        kind, size = struct.unpack_from("=II", file, offset)
        if kind == 6:
            captured = struct.unpack_from("=I", file, offset + 20)[0]
            code, length, flags = struct.unpack_from("=HHI", file, offset + 28 + captured + -captured % 4)
            assert (code, length) == (2, 4)
            found.append(flags)
        offset += size
    return found

"""Which probes are on their way together, and what a kernel that refuses says."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

import pytest

from dataplane.errors import LabError
from dataplane.model.check import Resolved
from dataplane.topology import Topology
from lab import checking, running
from lab.checking import TOGETHER, _turns, prove
from lab.probing import Probe, kinds_of
from lab.running import RunningLab
from tests.unit.lab.fakes import FakeRuntime, FakeState, FakeWorker, lab_text
from tests.unit.model.building import instance, topology, vpc

SHOP: dict[str, Any] = {
    "vpcs": {"shop": vpc()},
    "instances": {name: instance(private_ip=f"10.0.1.{n}") for n, name in enumerate("abcd", start=10)},
}
SHOP["vpcs"]["shop"]["ipv6_cidrs"] = ["2001:db8::/56"]
SHOP["vpcs"]["shop"]["subnets"]["one"]["ipv6_cidr"] = "2001:db8::/64"
for number, each in enumerate(SHOP["instances"].values(), start=10):
    each["ipv6_address"] = f"2001:db8::{number}"


def resolved(*checks: dict[str, Any]) -> tuple[Topology, list[Resolved]]:
    declared = topology(**SHOP, checks=list(checks))
    return declared, [each.resolve(declared) for each in declared.lab.checks]


def claim(ends: str, protocol: Any = 50, **fields: Any) -> dict[str, Any]:
    return {"can": ends, "protocol": protocol, **fields}


def test_what_has_ports_goes_together_and_not_too_many_at_once() -> None:
    declared, probes = resolved(*[claim("a -> b", "tcp", port=80)] * (TOGETHER + 1), claim("b -> a", "icmp"))
    assert [len(turn) for turn in _turns(declared, probes, apart=False)] == [TOGETHER, 2]
    assert [len(turn) for turn in _turns(declared, probes, apart=True)] == [TOGETHER, 2]


def test_echo_has_identifiers_in_either_family() -> None:
    """RFC 792 and RFC 4443: by them a request is told from another, so they may go together."""
    declared, probes = resolved(claim("a -> b", "icmp"), claim("b -> a", "icmpv6"), claim("a -> b", "icmpv6"))
    assert [each.protocol for each in probes] == [1, 58, 58]
    assert _turns(declared, probes, apart=True) == [[0, 1, 2]]


def test_what_has_no_ports_and_may_open_the_way_goes_last() -> None:
    declared, probes = resolved(claim("a -> b"), {"cannot": "b -> a", "protocol": 50}, claim("a -> b", "icmp"))
    assert _turns(declared, probes, apart=False) == [[1, 2], [0]]


def test_apart_no_node_has_two_of_a_protocol_without_ports_at_once() -> None:
    declared, probes = resolved(
        claim("a -> b"), claim("b -> a"), claim("c -> d"), claim("d -> a"), claim("a -> b", 47), claim("a -> b", "icmp")
    )
    assert _turns(declared, probes, apart=True) == [[5], [0, 2, 4], [1], [3]]


def test_what_the_kernel_does_not_make_or_send_is_said() -> None:
    _, [tcp, *_] = resolved(claim("a -> b", "tcp", port=80))
    refused = Probe(tcp, PermissionError(1, "Operation not permitted"))
    refused.send()
    assert (refused.error, refused.source_port) == ("Operation not permitted", 0)
    refused.close()
    elsewhere = Probe(tcp, socket.socket())  # 10.0.1.10 is not of this machine
    elsewhere.send()
    assert elsewhere.error == "10.0.1.10: Cannot assign requested address"
    elsewhere.close()


def test_sockets_that_can_send_it() -> None:
    _, probes = resolved(
        claim("a -> b", "tcp", port=1), claim("a -> b", "udp", port=1), claim("a -> b", "icmp"), claim("a -> b", 50)
    )
    assert [[kind[1:] for kind in kinds_of(each)] for each in probes] == [
        [(socket.SOCK_STREAM, 0)],
        [(socket.SOCK_DGRAM, 0)],
        [(socket.SOCK_DGRAM, 1), (socket.SOCK_RAW, 1)],
        [(socket.SOCK_RAW, 50)],
    ]


def test_sockets_are_of_the_family_of_the_destination() -> None:
    _, [four, six, echo] = resolved(
        claim("a -> b", "udp", port=1), claim("a -> 2001:db8::11", "udp", port=1), claim("a -> b", "icmpv6")
    )
    assert kinds_of(four) == [(socket.AF_INET, socket.SOCK_DGRAM, 0)]
    assert kinds_of(six) == [(socket.AF_INET6, socket.SOCK_DGRAM, 0)]
    assert kinds_of(echo) == [
        (socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6),
        (socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
    ]


class Recorded:
    """A socket that sends nothing, and remembers what it was told."""

    def __init__(self, kind: int = socket.SOCK_DGRAM, connects: int = 0) -> None:
        self.type, self.connects = kind, connects
        self.bound: Any = None
        self.options: list[tuple[int, int, int]] = []
        self.sent: list[tuple[bytes, Any]] = []
        self.blocking = True

    def setblocking(self, blocking: bool) -> None:
        self.blocking = blocking

    def setsockopt(self, *option: int) -> None:
        self.options.append(option)  # type: ignore[arg-type]

    def bind(self, end: Any) -> None:
        self.bound = end

    def getsockname(self) -> tuple[str, int]:
        return "", 4711

    def connect_ex(self, end: Any) -> int:
        assert not self.blocking, "a connection that nobody answers takes minutes"
        self.sent.append((b"", end))
        return self.connects

    def sendto(self, data: bytes, end: Any) -> None:
        self.sent.append((data, end))

    def getsockopt(self, level: int, option: int) -> int:
        return 0


def sent(check: dict[str, Any], line: Recorded) -> Probe:
    _, [probe] = resolved(check)
    made = Probe(probe, line)  # type: ignore[arg-type]
    made.send()
    return made


def test_a_datagram_has_the_size_that_is_asked_for_and_goes_whole() -> None:
    """Headers of 20 or 40 bytes and of 8; IP_MTU_DISCOVER is 10, IPV6_MTU_DISCOVER 23, IP_PMTUDISC_PROBE 3 (in.h)."""
    for end, size, payload, option in (
        ("b", 100, 72, (socket.IPPROTO_IP, 10, 3)),
        ("2001:db8::11", 100, 52, (socket.IPPROTO_IPV6, 23, 3)),
        ("b", 68, 40, (socket.IPPROTO_IP, 10, 3)),
    ):
        line = Recorded()
        made = sent(claim(f"a -> {end}", "udp", port=53, packet_size=size), line)
        [(data, (_, port))] = line.sent
        assert (len(data), port, line.options, made.source_port) == (payload, 53, [option], 4711)
    line = Recorded()
    sent(claim("a -> b", 50, packet_size=70), line)
    assert [(len(data), end) for data, end in line.sent] == [(50, ("10.0.1.11", 0))]
    line = Recorded()
    sent(claim("a -> b", "udp", port=53), line)
    assert line.options == []


@pytest.mark.parametrize(("protocol", "kind"), [("icmp", 8), ("icmpv6", 128)])
def test_an_echo_request_is_whole_where_no_kernel_makes_it_so(protocol: str, kind: int) -> None:
    """RFC 792, RFC 4443: type, code 0, and an identifier; with its checksum all words of an IPv4 one add up to ~0."""
    line = Recorded(socket.SOCK_RAW)
    made = sent(claim("a -> b", protocol, packet_size=101), line)
    [(data, (_, port))] = line.sent
    assert (data[0], data[1], port) == (kind, 0, 0)
    assert len(data) == 101 - (20 if kind == 8 else 40)
    assert int.from_bytes(data[4:6], "big") == made.source_port != 0
    total = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF
    line = Recorded()
    assert sent(claim("a -> b", protocol), line).source_port == 4711, "that of a ping socket"


@pytest.mark.parametrize(
    ("failure", "trouble"),
    [(0, ""), (errno.EINPROGRESS, ""), (errno.ENETUNREACH, "Network is unreachable")],
)
def test_a_connection_is_waited_for_by_nobody(failure: int, trouble: str) -> None:
    line = Recorded(socket.SOCK_STREAM, failure)
    made = sent(claim("a -> b", "tcp", port=443), line)
    assert (made.trouble, line.sent, line.bound) == (trouble, [(b"", ("10.0.1.11", 443))], ("10.0.1.10", 0))


class Silent:
    """A probe that is refused before it is sent."""

    trouble = error = "refused"
    source_port = 0
    open = 0

    def __init__(self, resolved: Resolved) -> None:
        self.resolved = resolved
        Silent.open += 1

    def send(self) -> None:
        if self.resolved.check.port == 666:
            raise LabError("what is that")

    def close(self) -> None:
        Silent.open -= 1


TAPS = lab_text(**{name: f'10.0.1.1{n}, attach: "tap:t{n}"' for n, name in enumerate("ab")})


def tapped(monkeypatch: pytest.MonkeyPatch, checks: str = "") -> RunningLab:
    monkeypatch.setattr(running, "Runtime", FakeRuntime)
    monkeypatch.setattr(running, "Worker", FakeWorker)
    return RunningLab(FakeState(), f"{TAPS}checks: [{checks}]\n", "lab.yaml")  # type: ignore[arg-type]


def test_from_a_tap_device_nothing_can_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with tapped(monkeypatch, "{can: a -> b, port: 80}, {cannot: b -> a, port: 80}") as lab:
        found = prove(lab, lab.checks)
    why = "a TAP device: what is behind it sends, not we"
    assert [(each.holds, why in each.why) for each in found] == [(False, True), (False, True)]


@pytest.mark.parametrize("apart", [True, False])
def test_apart_days_lie_between_two_turns_and_results_have_the_order_of_their_checks(
    monkeypatch: pytest.MonkeyPatch, apart: bool
) -> None:
    """No connection is remembered longer than 432,000 s, unless a security group says so (AWS: connection tracking)."""
    checks = "{can: a -> b, protocol: 50}, {cannot: b -> a, protocol: 50}, {can: a -> b, port: 80}"
    with tapped(monkeypatch, checks) as lab:
        found = prove(lab, lab.checks, apart=apart)
        assert [each.check for each in found] == list(lab.checks)
        assert [each.number for each in found] == [1, 2, 3]
        days = lab.worker.clock_offset_ms / 86_400_000
    turns = 3 if apart else 1
    assert 5 * (turns - 1) < days <= 10 * (turns - 1) if apart else days == 0


def test_probes_are_closed_whatever_becomes_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "prepare", lambda those: [Silent(each) for each, _ in those])
    with tapped(monkeypatch, "{can: a -> b, port: 80}, {can: a -> b, port: 666}") as lab:
        prove(lab, lab.checks[:1])
        assert Silent.open == 0
        with pytest.raises(LabError, match="what is that"):
            prove(lab, lab.checks)
        assert Silent.open == 0
        assert lab.worker.running


def test_a_lab_that_goes_down_proves_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    with tapped(monkeypatch, "{can: a -> b, port: 80}") as lab:
        lab.survival.stop_lingering()
        with pytest.raises(LabError, match="lab fake is going down"):
            prove(lab, lab.checks)

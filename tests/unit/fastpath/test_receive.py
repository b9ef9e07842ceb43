"""Any bytes on any port give a verdict and a counted reason."""

from __future__ import annotations

import contextlib
import gc
import struct
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    ICMPv6Unknown,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Ether

from dataplane.compile import compile_program
from dataplane.verdict import Cause, Reason, Verdict
from fastpath.engine import Engine
from fastpath.snapshot import Snapshot
from fastpath.tracer import Overlay
from tests.unit.fastpath.two_hosts import TwoHosts

IPV4, IPV6_TYPE = b"\x08\x00", b"\x86\xdd"
V4 = {"src": "10.0.1.10", "dst": "10.0.2.10"}
V6 = {"src": "2001:db8:1::10", "dst": "2001:db8:2::10"}


def patched(packet: object, at: int, value: bytes) -> bytes:
    raw = bytearray(bytes(packet))  # type: ignore[call-overload]
    raw[at : at + len(value)] = value
    return bytes(raw)


def resummed(packet: bytes) -> bytes:
    """The same IPv4 packet with its header checksum made right, by an independent sum."""
    size = (packet[0] & 15) * 4
    head = packet[:10] + b"\0\0" + packet[12:size]
    total = sum(struct.unpack(f">{size // 2}H", head))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack(">H", ~total & 0xFFFF) + packet[12:]


ping = IP(**V4) / ICMP() / b"payload"
udp = IP(**V4) / UDP(sport=1, dport=2) / b"payload"

IPV4_CASES = {
    "header cut short": (bytes(ping)[:19], Reason.IP_TRUNCATED),
    "version 6 in an IPv4 frame": (patched(ping, 0, b"\x65"), Reason.IP_VERSION),
    "header length 4": (patched(ping, 0, b"\x44"), Reason.IP_HEADER_LENGTH),
    "header longer than the frame": (patched(ping, 0, b"\x4f"), Reason.IP_HEADER_LENGTH),
    "total length past the end": (bytes(IP(**V4, len=200) / ICMP()), Reason.IP_TOTAL_LENGTH),
    "total length inside the header": (bytes(IP(**V4, len=19) / ICMP()), Reason.IP_TOTAL_LENGTH),
    "wrong header checksum": (bytes(IP(**V4, chksum=0x1234) / ICMP()), Reason.IP_CHECKSUM),
    "truncated option": (
        resummed(patched(bytes(IP(**V4, options=[IPOption(b"\x94\x04\0\0")]) / ICMP()), 20, b"\x94\x09")),
        Reason.IP_OPTIONS,
    ),
    "option of length 1": (
        resummed(patched(bytes(IP(**V4, options=[IPOption(b"\x94\x04\0\0")]) / ICMP()), 20, b"\x94\x01")),
        Reason.IP_OPTIONS,
    ),
    "loose source route": (
        bytes(IP(**V4, options=[IPOption(b"\x83\x07\x04\x0a\0\x02\x01")]) / ICMP()),
        Reason.IP_OPTIONS,
    ),
    "strict source route": (
        bytes(IP(**V4, options=[IPOption(b"\x89\x07\x04\x0a\0\x02\x01")]) / ICMP()),
        Reason.IP_OPTIONS,
    ),
    "TTL 0": (bytes(IP(**V4, ttl=0) / ICMP()), Reason.TTL_ZERO),
    "land": (bytes(IP(src="10.0.1.10", dst="10.0.1.10") / TCP()), Reason.LAND),
    "spoofed source": (bytes(IP(src="10.0.1.11", dst="10.0.2.10") / TCP()), Reason.SOURCE_CHECK),
    "loopback source": (bytes(IP(src="127.0.0.1", dst="10.0.2.10") / TCP()), Reason.SOURCE_MARTIAN),
    "multicast source": (bytes(IP(src="224.0.0.1", dst="10.0.2.10") / TCP()), Reason.SOURCE_MARTIAN),
    "zero source": (bytes(IP(src="0.0.0.0", dst="10.0.2.10") / UDP()), Reason.SOURCE_MARTIAN),
    "multicast destination": (bytes(IP(src="10.0.1.10", dst="224.0.0.5") / UDP()), Reason.DESTINATION_MARTIAN),
    "broadcast destination": (bytes(IP(src="10.0.1.10", dst="255.255.255.255") / UDP()), Reason.DESTINATION_MARTIAN),
    "link-local destination": (bytes(IP(src="10.0.1.10", dst="169.254.1.1") / UDP()), Reason.DESTINATION_MARTIAN),
    "TCP header cut short": (bytes(IP(**V4, proto=6) / b"1234567890"), Reason.L4_TRUNCATED),
    "TCP data offset 4": (bytes(IP(**V4) / TCP(dataofs=4)), Reason.L4_TRUNCATED),
    "TCP data offset past the end": (bytes(IP(**V4) / TCP(dataofs=15)), Reason.L4_TRUNCATED),
    "UDP header cut short": (bytes(IP(**V4, proto=17) / b"1234"), Reason.L4_TRUNCATED),
    "UDP length past the end": (bytes(IP(**V4) / UDP(len=99) / b"x"), Reason.L4_TRUNCATED),
    "UDP length 7": (bytes(IP(**V4) / UDP(len=7) / b"x"), Reason.L4_TRUNCATED),
    "ICMP header cut short": (bytes(IP(**V4, proto=1) / b"\x08\0"), Reason.L4_TRUNCATED),
    "first fragment without a TCP header": (bytes(IP(**V4, proto=6, flags="MF") / bytes(8)), Reason.FRAGMENT_MALFORMED),
    "middle fragment of odd length": (
        bytes(IP(**V4, proto=17, flags="MF", frag=2) / bytes(9)),
        Reason.FRAGMENT_MALFORMED,
    ),
    "fragment past 65535": (bytes(IP(**V4, proto=17, frag=8189) / bytes(64)), Reason.FRAGMENT_MALFORMED),
    "empty last fragment": (bytes(IP(**V4, proto=17, frag=8)), Reason.FRAGMENT_MALFORMED),
    "no route": (bytes(IP(src="10.0.1.10", dst="10.0.3.10") / UDP()), Reason.NO_ROUTE),
    "router asked for TCP": (bytes(IP(src="10.0.1.10", dst="10.0.1.1") / TCP()), Reason.NOT_SERVED),
}
nine_options = IPv6(**V6)
for _ in range(9):
    nine_options /= IPv6ExtHdrDestOpt()
nine_options /= ICMPv6EchoRequest()

IPV6_CASES = {
    "header cut short": (bytes(IPv6(**V6))[:39], Reason.IP_TRUNCATED),
    "version 4 in an IPv6 frame": (patched(IPv6(**V6) / ICMPv6EchoRequest(), 0, b"\x45"), Reason.IP_VERSION),
    "payload length past the end": (bytes(IPv6(**V6, plen=100) / ICMPv6EchoRequest()), Reason.IP_TOTAL_LENGTH),
    "hop limit 0": (bytes(IPv6(**V6, hlim=0) / ICMPv6EchoRequest()), Reason.TTL_ZERO),
    "extension past the end": (bytes(IPv6(**V6) / IPv6ExtHdrDestOpt(len=30)), Reason.IP_EXTENSION),
    "routing header type 0": (
        bytes(IPv6(**V6) / IPv6ExtHdrRouting(addresses=["2001:db8:2::9"]) / ICMPv6EchoRequest()),
        Reason.IP_EXTENSION,
    ),
    "nine extension headers": (bytes(nine_options), Reason.IP_EXTENSION),
    "hop-by-hop not first": (
        bytes(IPv6(**V6) / IPv6ExtHdrDestOpt() / IPv6ExtHdrHopByHop() / ICMPv6EchoRequest()),
        Reason.IP_EXTENSION,
    ),
    "two fragment headers": (
        bytes(IPv6(**V6) / IPv6ExtHdrFragment(m=1) / IPv6ExtHdrFragment(m=1) / bytes(16)),
        Reason.IP_EXTENSION,
    ),
    "middle fragment of odd length": (
        bytes(IPv6(**V6) / IPv6ExtHdrFragment(nh=17, id=1, offset=2, m=1) / bytes(9)),
        Reason.FRAGMENT_MALFORMED,
    ),
    "fragment past 65535": (
        bytes(IPv6(**V6) / IPv6ExtHdrFragment(nh=17, id=1, offset=8191) / bytes(8)),
        Reason.FRAGMENT_MALFORMED,
    ),
    "empty last fragment": (
        bytes(IPv6(**V6) / IPv6ExtHdrFragment(nh=17, id=1, offset=8)),
        Reason.FRAGMENT_MALFORMED,
    ),
    "unspecified source": (bytes(IPv6(src="::", dst=V6["dst"]) / UDP()), Reason.SOURCE_MARTIAN),
    "link-local destination": (bytes(IPv6(src=V6["src"], dst="fe80::1") / UDP()), Reason.DESTINATION_MARTIAN),
    "spoofed source": (bytes(IPv6(src="2001:db8:1::11", dst=V6["dst"]) / UDP()), Reason.SOURCE_CHECK),
    "neighbour solicitation from afar": (bytes(IPv6(**V6, hlim=64) / ICMPv6ND_NS(tgt=V6["dst"])), Reason.ND_MALFORMED),
    "neighbour solicitation with a code": (  # RFC 4861, section 7.1.1, as what follows
        bytes(IPv6(**V6, hlim=255) / ICMPv6ND_NS(code=1, tgt="2001:db8:1::1")),
        Reason.ND_MALFORMED,
    ),
    "neighbour solicitation of 20 bytes": (
        bytes(IPv6(**V6, hlim=255) / ICMPv6Unknown(type=135, msgbody=bytes(16))),
        Reason.ND_MALFORMED,
    ),
    "neighbour solicitation for nobody": (
        bytes(IPv6(**V6, hlim=255) / ICMPv6ND_NS(tgt="2001:db8:1::99")),
        Reason.ND_UNANSWERED,
    ),
}


@pytest.mark.parametrize("name", IPV4_CASES)
def test_bad_ipv4_dies_of_its_own_reason(name: str) -> None:
    packet, reason = IPV4_CASES[name]
    check_drop(IPV4 + packet, reason)


@pytest.mark.parametrize("name", IPV6_CASES)
def test_bad_ipv6_dies_of_its_own_reason(name: str) -> None:
    packet, reason = IPV6_CASES[name]
    check_drop(IPV6_TYPE + packet, reason)


BEFORE = (
    *(IPV4 + bytes(IP(**V4) / inside / b"x") for inside in (ICMP(), UDP(), TCP(flags="A"))),
    *(IPV6_TYPE + bytes(IPv6(**V6) / inside) for inside in (ICMPv6EchoRequest(), UDP(), TCP(flags="A"))),
)
"""Sound packets of the flows that the bad ones would be of."""


@pytest.mark.parametrize(
    ("from_type", "reason"),
    [
        *(pytest.param(IPV4 + packet, reason, id=f"IPv4: {name}") for name, (packet, reason) in IPV4_CASES.items()),
        *(
            pytest.param(IPV6_TYPE + packet, reason, id=f"IPv6: {name}")
            for name, (packet, reason) in IPV6_CASES.items()
        ),
    ],
)
def test_bad_packets_of_flows_that_are_known_die_of_the_same(from_type: bytes, reason: Reason) -> None:
    lab = TwoHosts()
    for now in range(1, 4):
        outcomes, _ = lab.engine.process([lab.a.ether() + each for each in BEFORE], [lab.a.port] * len(BEFORE), now)
        assert {Verdict(verdict) for verdict, *_ in outcomes} == {Verdict.FORWARD}
    assert lab.engine.statistics()["flow_hits"] >= len(BEFORE)
    check_drop(from_type, reason, lab)


@pytest.mark.parametrize(
    "from_type",
    [
        IPV4 + bytes(IP(**V4, proto=17, frag=65_512 // 8) / bytes(3)),  # its header counts, too
        IPV6_TYPE + bytes(IPv6(**V6) / IPv6ExtHdrFragment(nh=17, id=1, offset=65_528 // 8) / bytes(7)),
    ],
    ids=["IPv4", "IPv6"],
)
def test_a_datagram_may_be_as_long_as_its_length_field_can_tell(from_type: bytes) -> None:
    """65,535 bytes: of IPv4 with its header (RFC 791, section 3.1), of IPv6 without (RFC 8200, section 4.5)."""
    lab = TwoHosts()
    outcomes, _ = lab.engine.process([lab.a.ether() + from_type], [lab.a.port], 1)
    assert outcomes[0][:2] == (Verdict.HOLD, Reason.NONE)


def check_drop(from_type: bytes, reason: Reason, lab: TwoHosts | None = None) -> None:
    lab = lab or TwoHosts()
    outcomes, emissions = lab.engine.process([lab.a.ether() + from_type], [lab.a.port], 1)
    assert [(Verdict(v), Reason(r)) for v, r, _, _ in outcomes] == [(Verdict.DROP, reason)]
    assert not emissions
    assert lab.engine.counters()[lab.a.port]["reasons"] == {reason: 1}


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", Reason.RUNT_FRAME),
        (bytes(13), Reason.RUNT_FRAME),
        (b"\x02\0\0\0\1\1" + b"\x02\0\0\0\0\x09" + IPV4 + bytes(ping), Reason.SOURCE_MAC_SPOOFED),
        (b"\x02\0\0\0\1\1" + b"\x02\0\0\0\0\1" + b"\x81\x00\0\1" + IPV4 + bytes(ping), Reason.VLAN_TAGGED),
        (b"\x02\0\0\0\1\1" + b"\x02\0\0\0\0\1" + b"\x88\xcc" + bytes(60), Reason.ETHERTYPE_UNSUPPORTED),
        (b"\xff\xff\xff\xff\xff\xff" + b"\x02\0\0\0\0\1" + IPV4 + bytes(ping), Reason.L2_MULTICAST),
        (b"\x01\0\x5e\0\0\5" + b"\x02\0\0\0\0\1" + IPV4 + bytes(ping), Reason.L2_MULTICAST),
        (b"\x02\0\0\0\0\x09" + b"\x02\0\0\0\0\1" + IPV4 + bytes(ping), Reason.L2_DESTINATION_UNKNOWN),
        (b"\xff\xff\xff\xff\xff\xff" + b"\x02\0\0\0\0\1" + b"\x08\x06" + bytes(20), Reason.ARP_MALFORMED),
    ],
)
def test_bad_frame_dies_of_its_own_reason(frame: bytes, reason: Reason) -> None:
    lab = TwoHosts()
    outcomes, emissions = lab.engine.process([frame], [lab.a.port], 1)
    assert (outcomes[0][:2], emissions) == ((Verdict.DROP, reason), [])


@pytest.mark.parametrize("context", [0, 1, 17, 2**31, 2**32 - 1])  # 1 is a rule's number
def test_frame_from_nowhere_is_dropped(context: int) -> None:
    lab = TwoHosts()
    frame = lab.a.ether() + IPV4 + bytes(ping)
    for number in (context, max(lab.a.port, lab.b.port) + 1):  # the last one that there is, and one more
        outcomes, _ = lab.engine.process([frame], [number], 1)
        assert outcomes[0][:2] == (Verdict.DROP, Reason.CONTEXT_UNKNOWN)
        told = lab.engine.trace(frame, number, Overlay(), 1)
        assert (told["verdict"], told["reason"], told["hops"]) == (Verdict.DROP, Reason.CONTEXT_UNKNOWN, [])


def test_router_answers_arp_for_itself_and_for_neighbours_and_nobody_else() -> None:
    lab = TwoHosts()

    def ask(target: str, op: str | int = "who-has") -> tuple[int, list[bytes]]:
        request = Ether(src="02:00:00:00:00:01", dst="ff:ff:ff:ff:ff:ff") / ARP(
            op=op, hwsrc="02:00:00:00:00:01", psrc="10.0.1.10", pdst=target
        )
        outcomes, emissions = lab.engine.process([bytes(request)], [lab.a.port], 1)
        return outcomes[0][1], [
            frame for port, frame, cause, _, _ in emissions if (port, cause) == (lab.a.port, Cause.ANSWER)
        ]

    reason, [answer] = ask("10.0.1.1")
    assert reason == 0
    arp = Ether(answer)[ARP]
    assert (arp.op, arp.hwsrc, arp.psrc, arp.hwdst, arp.pdst) == (
        2,
        "02:00:00:00:01:01",
        "10.0.1.1",
        "02:00:00:00:00:01",
        "10.0.1.10",
    )
    assert ask("10.0.1.10") == (Reason.ARP_UNANSWERED, [])  # a probe for its own address
    assert ask("10.0.1.1", op="is-at") == (Reason.ARP_UNANSWERED, [])  # sound, but no question
    assert ask("10.0.1.1", op=3) == (Reason.ARP_MALFORMED, [])
    assert ask("10.0.1.77") == (Reason.ARP_UNANSWERED, [])
    assert ask("10.0.2.10") == (Reason.ARP_UNANSWERED, [])


def test_router_answers_neighbour_solicitation() -> None:
    lab = TwoHosts()
    request = (
        Ether(src="02:00:00:00:00:01", dst="33:33:ff:00:00:01")
        / IPv6(src=V6["src"], dst="ff02::1:ff00:1")
        / ICMPv6ND_NS(tgt="2001:db8:1::1")
    )
    outcomes, emissions = lab.engine.process([bytes(request)], [lab.a.port], 1)
    assert outcomes[0][0] == Verdict.SERVE
    answer = Ether(emissions[0][1])
    sent = bytes(answer)
    del answer["ICMPv6ND_NA"].cksum
    assert bytes(Ether(bytes(answer))) == sent  # scapy computes the same checksum
    assert answer["ICMPv6NDOptDstLLAddr"].lladdr == "02:00:00:00:01:01"
    assert (answer["ICMPv6ND_NA"].tgt, answer["ICMPv6ND_NA"].R, answer["ICMPv6ND_NA"].S) == ("2001:db8:1::1", 1, 1)


@pytest.mark.parametrize(
    "packet",
    [
        IP(src=V4["src"], dst="10.0.1.1") / ICMP(id=9, seq=3) / b"abc",
        IPv6(src=V6["src"], dst="2001:db8:1::1") / ICMPv6EchoRequest(id=9, seq=3, data=b"abc"),
    ],
)
def test_router_answers_ping(packet: IP) -> None:
    lab = TwoHosts()
    kind = IPV4 if packet.version == 4 else IPV6_TYPE
    outcomes, [(port, frame, cause, _, _)] = lab.engine.process([lab.a.ether() + kind + bytes(packet)], [lab.a.port], 1)
    answer = Ether(frame)
    assert (outcomes[0][0], port, cause) == (Verdict.SERVE, lab.a.port, Cause.ANSWER)
    assert (answer.src, answer.dst) == ("02:00:00:00:01:01", "02:00:00:00:00:01")
    body = answer.payload
    assert (body.src, body.dst, body.payload.type) == (packet.dst, packet.src, 0 if packet.version == 4 else 129)
    rebuilt = body.copy()
    for layer, name in ((rebuilt, "chksum"), (rebuilt.payload, "chksum"), (rebuilt.payload, "cksum")):
        if name in layer.fields:
            layer.delfieldval(name)
    assert bytes(rebuilt) == bytes(body)


@given(
    frame=st.binary(max_size=200), context=st.integers(0, 6), offload=st.none() | st.binary(min_size=12, max_size=12)
)
def test_any_bytes_give_a_verdict_and_a_counted_reason(frame: bytes, context: int, offload: bytes | None) -> None:
    run_bytes(frame, context, offload)


valid = st.sampled_from(
    [
        IPV4 + bytes(ping),
        IPV4 + bytes(udp),
        IPV4 + bytes(IP(**V4) / TCP(options=[("MSS", 1460)])),
        IPV6_TYPE + bytes(IPv6(**V6) / UDP() / bytes(9)),
        IPV4 + bytes(IP(**V4) / ICMP(type=3, code=4) / bytes(udp)),
        IPV6_TYPE + bytes(IPv6(**V6) / IPv6ExtHdrFragment(m=1) / bytes(UDP())),
        IPV4 + bytes(IP(**V4, flags="MF") / UDP() / bytes(16)),
        b"\x08\x06" + bytes(ARP(hwsrc="02:00:00:00:00:01", psrc="10.0.1.10", pdst="10.0.1.1")),
    ]
)


@given(
    body=valid,
    changes=st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=5),
    cut=st.integers(0, 120),
    offload=st.none() | st.binary(min_size=12, max_size=12),
)
def test_damaged_packets_give_a_verdict_and_a_counted_reason(
    body: bytes, changes: list[tuple[int, int]], cut: int, offload: bytes | None
) -> None:
    damaged = bytearray(body)
    for at, value in changes:
        damaged[at % len(damaged)] = value
    if damaged[:2] == IPV4 and len(damaged) >= 22:
        size = min(max((damaged[2] & 15) * 4, 20), len(damaged) - 2) & ~1
        damaged[2:] = resummed(
            bytes([damaged[2] & 0xF0 | size // 4]) + bytes(damaged[3:])
        )  # else every change dies of the checksum
    run_bytes(b"\x02\0\0\0\1\1\x02\0\0\0\0\1" + bytes(damaged[: cut + 2] if cut < 40 else damaged), None, offload)


def run_bytes(frame: bytes, context: int | None, offload: bytes | None) -> None:
    lab = TwoHosts()
    context = lab.a.port if context is None else context
    outcomes, emissions = lab.engine.process([frame, frame], [context, context], 1, [offload, None])
    assert len(outcomes) == 2
    dropped = 0
    for verdict, reason, _, _ in outcomes:
        assert (Verdict(verdict) is Verdict.DROP) == (Reason(reason) is not Reason.NONE)
        dropped += verdict == Verdict.DROP
    counted = sum(sum(row["reasons"].values()) for row in lab.engine.counters().values())
    assert counted == dropped or context not in (lab.a.port, lab.b.port)
    assert all(port in (lab.a.port, lab.b.port) and len(sent) >= 14 for port, sent, _, _, _ in emissions)
    lab.engine.selfcheck()


def test_nobody_holds_the_lock_while_waiting_for_the_gil() -> None:
    """A finaliser that the collector runs in the middle of `process` may call the engine."""
    lab = TwoHosts()
    seen = []

    class Tidy:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            seen.append(lab.engine.counters())

    old = gc.get_threshold()
    gc.set_threshold(50)
    try:
        for _ in range(20):
            Tidy()
            lab.engine.process([lab.a.ether() + IPV4 + bytes(ping)] * 500, [lab.a.port] * 500, 1)
    finally:
        gc.set_threshold(*old)
    gc.collect()
    assert len(seen) == 20


def test_two_swaps_at_once_leave_the_newer_one_in_use() -> None:
    lab = TwoHosts()
    snapshots = [compile_program(lab.program, generation=n) for n in range(2, 60)]

    def swap(part: list[Snapshot]) -> None:
        for snapshot in part:
            with contextlib.suppress(ValueError):  # another thread was ahead
                lab.engine.swap(snapshot)

    threads = [threading.Thread(target=swap, args=(snapshots[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        lab.engine.process([lab.a.ether() + IPV4 + bytes(ping)] * 64, [lab.a.port] * 64, 1)
        thread.join()
    assert lab.engine.generation == 59


@pytest.mark.parametrize("sessions", [0, 15, 2**28 + 1, 2**31 - 1])
def test_impossible_table_sizes_are_refused(sessions: int) -> None:
    with pytest.raises((ValueError, OverflowError)):
        Engine(sessions=sessions)


@pytest.mark.parametrize("now", [-1, 2**63, 2**64])
def test_impossible_times_are_refused(now: int) -> None:
    lab = TwoHosts()
    with pytest.raises(ValueError, match="a time is"):
        lab.engine.process([], [], now)

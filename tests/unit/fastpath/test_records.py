"""Records of flows at points: whatever remembers a flow, they tell of each packet once."""

from __future__ import annotations

import struct
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6

from dataplane.compile import compile_program
from dataplane.program import Direction, Point
from dataplane.verdict import Reason, Verdict
from tests.unit.fastpath.two_hosts import TwoHosts

OUT, IN = Direction.EGRESS, Direction.INGRESS
NOW = 100_000
MINUTE = 60_000


def watched(*, capacity: int = 1024, waiting: int = 1024, phase_ms: int = 0, **options: Any) -> TwoHosts:
    hosts = TwoHosts(seen=True, **options)
    hosts.engine.open_records(capacity=capacity, waiting=waiting, phase_ms=phase_ms)
    return hosts


def frame(hosts: TwoHosts, packet: IP | IPv6) -> tuple[bytes, int]:
    sender = hosts.a if packet.src in (hosts.a.address, hosts.a.address6) else hosts.b
    return sender.ether() + (b"\x08\0" if packet.version == 4 else b"\x86\xdd") + bytes(packet), sender.port


def send(hosts: TwoHosts, *packets: IP | IPv6, now: int = NOW, offload: bytes | None = None) -> list[tuple[int, int]]:
    frames, ports = zip(*(frame(hosts, packet) for packet in packets), strict=True)
    outcomes, _ = hosts.engine.process(frames, ports, now, [offload] * len(frames))
    return [(verdict, reason) for verdict, reason, *_ in outcomes]


def taken(hosts: TwoHosts, **how: Any) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """(window, point, side, refused, source, destination, source port, destination port) -> (packets, bytes, first,
    last, flags); pieces of one record together, as whoever writes them has to put them."""
    found: dict[tuple[Any, ...], tuple[int, ...]] = {}
    for row in hosts.engine.take_records(**how)[1]:
        window, point, side, refused, _path, _family, source, destination, _proto, *rest = row
        *ports, packets, size, first, last, flags = rest
        key = window, point, side, refused, str(ip_address(source)), str(ip_address(destination)), *ports
        before = found.get(key, (0, 0, first, 0, 0))
        found[key] = (
            before[0] + packets,
            before[1] + size,
            min(before[2], first),
            max(before[3], last),
            before[4] | flags,
        )
    return {key: value for key, value in found.items() if value[0]}


def udp(size: int = 100, sport: int = 5) -> IP:
    return IP(src="10.0.1.10", dst="10.0.2.10") / UDP(sport=sport, dport=6) / bytes(size - 28)


def many(hosts: TwoHosts, count: int) -> tuple[list[bytes], list[int]]:
    """Frames of so many flows from a to b, each of 100 bytes of IPv4, and their ports."""
    template, port = frame(hosts, IP(src="10.0.1.10", dst="10.0.2.10") / UDP(sport=0, dport=6, chksum=0) / bytes(72))
    at = 14 + 20
    frames = [template[:at] + struct.pack(">H", 1 + n) + template[at + 2 :] for n in range(count)]
    return frames, [port] * count


def tcp(flags: str, size: int = 40, back: bool = False) -> IP:
    ends = {"src": "10.0.2.10", "dst": "10.0.1.10"} if back else {"src": "10.0.1.10", "dst": "10.0.2.10"}
    ports = {"sport": 80, "dport": 5} if back else {"sport": 5, "dport": 80}
    return IP(**ends) / TCP(**ports, flags=flags) / bytes(size - 40)


@pytest.mark.parametrize("memo", [True, False])
def test_each_packet_counts_once_at_each_point(memo: bool) -> None:
    hosts = watched(memo=memo)
    for _ in range(5):
        send(hosts, udp(100), udp(200), udp(300))
    assert hosts.engine.statistics()["flow_hits"] == (14 if memo else 0)
    flow = (0, "10.0.1.10", "10.0.2.10", 5, 6)
    assert taken(hosts, unfinished=True) == {
        (1, hosts.a.port, OUT, *flow): (15, 3000, NOW, NOW, 0),
        (1, hosts.b.port, IN, *flow): (15, 3000, NOW, NOW, 0),
    }
    assert taken(hosts, unfinished=True) == {}


def test_nothing_is_told_of_a_window_that_lasts() -> None:
    hosts = watched()
    send(hosts, udp())
    assert hosts.engine.take_records() == (1, [], [], 0)
    hosts.engine.advance(2 * MINUTE - 1)
    assert hosts.engine.take_records() == (1, [], [], 0)
    hosts.engine.advance(2 * MINUTE)
    window, records, lost, elsewhere = hosts.engine.take_records()
    assert (window, len(records), lost, elsewhere) == (2, 2, [], 0)


@pytest.mark.parametrize("memo", [True, False])
def test_a_flow_that_goes_on_has_a_record_in_each_window(memo: bool) -> None:
    hosts = watched(memo=memo)
    times = (60_100, 60_200, 119_999, 120_000, 120_500, 130_000, 190_000)
    for now in times:
        send(hosts, udp(), now=now)
    assert taken(hosts, unfinished=True) == {
        (window, point, side, 0, "10.0.1.10", "10.0.2.10", 5, 6): (count, 100 * count, first, last, 0)
        for point, side in ((hosts.a.port, OUT), (hosts.b.port, IN))
        for window, count, first, last in ((1, 3, 60_100, 119_999), (2, 3, 120_000, 130_000), (3, 1, 190_000, 190_000))
    }


def test_what_an_entry_had_not_told_is_of_the_window_it_was_counted_in() -> None:
    """A packet that walks begins the flow's next record before the entry has told what it knows of the last one."""
    hosts = watched()
    send(hosts, tcp("S"), tcp("SA", back=True), tcp("A"), now=MINUTE)
    for _ in range(4):
        send(hosts, tcp("A"), now=MINUTE + 500)
    hits = hosts.engine.statistics()["flow_hits"]
    assert hits
    send(hosts, tcp("F"), now=2 * MINUTE + 7)
    flow = (0, "10.0.1.10", "10.0.2.10", 5, 80)
    found = taken(hosts, unfinished=True)
    assert found[1, hosts.a.port, OUT, *flow] == (6, 240, MINUTE, MINUTE + 500, 2)
    assert found[2, hosts.a.port, OUT, *flow] == (1, 40, 2 * MINUTE + 7, 2 * MINUTE + 7, 1)


def test_flags_are_those_that_open_and_close() -> None:
    hosts = watched()
    for flags in ("S", "SA back", "A", "PA", "A back", "FA", "FA back", "A"):
        send(hosts, tcp(flags.removesuffix(" back"), back=flags.endswith("back")))
    send(hosts, IP(src="10.0.1.10", dst="10.0.2.10") / TCP(sport=9, dport=80, flags="R"))
    found = {key[-2:]: value[4] for key, value in taken(hosts, unfinished=True).items() if key[2] == OUT}
    assert found == {(5, 80): 3, (80, 5): 19, (9, 80): 4}


def test_what_a_gate_refuses_is_refused_at_its_side_only() -> None:
    hosts = watched(ingress=())
    assert send(hosts, udp(), udp()) == [(Verdict.DROP, Reason.GROUP_INGRESS)] * 2
    flow = ("10.0.1.10", "10.0.2.10", 5, 6)
    assert taken(hosts, unfinished=True) == {
        (1, hosts.a.port, OUT, 0, *flow): (2, 200, NOW, NOW, 0),
        (1, hosts.b.port, IN, 1, *flow): (2, 200, NOW, NOW, 0),
    }


def test_messages_without_ports_have_none() -> None:
    hosts = watched()
    send(hosts, IP(src="10.0.1.10", dst="10.0.2.10") / ICMP(id=77))
    send(hosts, IPv6(src="2001:db8:1::10", dst="2001:db8:2::10", nh=50) / bytes(20))
    assert {key[4:] for key in taken(hosts, unfinished=True)} == {
        ("10.0.1.10", "10.0.2.10", 0, 0),
        ("2001:db8:1::10", "2001:db8:2::10", 0, 0),
    }


def test_a_frame_left_to_hardware_counts_as_its_packets() -> None:
    hosts = watched()
    send(hosts, tcp("S"), tcp("SA", back=True), tcp("A"))
    payload = 5 * 1000 + 200
    big = tcp("A", 40 + payload)
    vnet = struct.pack("<BBHHHHH", 1, 1, 14 + 40, 1000, 14 + 20, 16, 0)
    for _ in range(3):
        assert send(hosts, big, offload=vnet) == [(Verdict.FORWARD, Reason.NONE)]
    found = taken(hosts, unfinished=True)
    packets, size, *_ = found[1, hosts.b.port, IN, 0, "10.0.1.10", "10.0.2.10", 5, 80]
    assert (packets, size) == (2 + 3 * 6, 2 * 40 + 3 * (payload + 6 * 40))  # six segments, with headers each


@pytest.mark.parametrize("memo", [True, False])
def test_a_stream_in_large_frames_is_recorded_like_the_same_stream_in_small_ones(memo: bool) -> None:
    """Offloads on and off: what the sender's kernel leaves to hardware is what it would have sent otherwise."""
    found = []
    for segments in ([1000] * 16, [7000, 7000, 2000]):
        hosts = watched(memo=memo)
        send(hosts, tcp("S"), tcp("SA", back=True), tcp("A"))
        for payload in segments:
            vnet = struct.pack("<BBHHHHH", 1, 1, 14 + 40, 1000, 14 + 20, 16, 0) if payload > 1000 else None
            send(hosts, tcp("A", 40 + payload), offload=vnet)
        found.append(taken(hosts, unfinished=True))
    assert found[0] == found[1]
    assert found[0][1, hosts.b.port, IN, 0, "10.0.1.10", "10.0.2.10", 5, 80][:2] == (2 + 16, 2 * 40 + 16 * 1040)


def test_addresses_that_are_not_seen_are_not_recorded() -> None:
    hosts = watched()
    assert send(hosts, IP(src="10.0.1.10", dst="10.0.2.99") / UDP()) == [(Verdict.DROP, Reason.NO_ROUTE)]
    assert taken(hosts, unfinished=True) == {}


def test_windows_begin_where_the_phase_says() -> None:
    hosts = watched(phase_ms=7 * MINUTE + 10_000)
    send(hosts, udp(), now=MINUTE + 49_999)
    send(hosts, udp(), now=MINUTE + 50_000)
    assert sorted(key[0] for key in taken(hosts, unfinished=True)) == [8, 8, 9, 9]


@pytest.mark.parametrize("memo", [True, False])
def test_what_there_is_no_room_for_is_counted_as_lost_and_forwarded_all_the_same(memo: bool) -> None:
    hosts = watched(capacity=3, memo=memo)
    for _ in range(3):
        assert send(hosts, udp(sport=1), udp(sport=2), udp(sport=3)) == [(Verdict.FORWARD, Reason.NONE)] * 3
    window, records, lost, elsewhere = hosts.engine.take_records(unfinished=True)
    assert (window, elsewhere) == (1, 0)
    seen: Counter[int] = Counter()
    for record in records:
        seen[record[1]] += record[11]
    for when, point, packets in lost:
        assert when == 1
        seen[point] += packets
    assert seen == {hosts.a.port: 9, hosts.b.port: 9}
    assert len(lost) == 2
    assert hosts.engine.take_records(unfinished=True) == (1, [], [], 0)
    hosts.engine.selfcheck()


def test_windows_that_nobody_takes_are_lost_once_there_is_no_room() -> None:
    hosts = watched(waiting=2)
    for minute in range(1, 4):
        send(hosts, udp(), now=minute * MINUTE)
    _, records, lost, _ = hosts.engine.take_records(unfinished=True)
    told = Counter((window, point) for window, point, *_ in records if _[9])
    told.update({(window, point): packets for window, point, packets in lost})
    assert told == {(window, point): 1 for window in (1, 2, 3) for point in (hosts.a.port, hosts.b.port)}
    assert lost


def test_what_not_even_its_point_can_be_told_of_is_counted_all_the_same() -> None:
    """For more than a day nobody takes anything, and there is room for one flow: 1024 points and windows have names."""
    hosts, minutes = watched(capacity=1, waiting=1), 1500
    sent, port = frame(hosts, udp())
    for minute in range(1, minutes + 1):
        hosts.engine.process([sent], [port], minute * MINUTE)
    _, records, lost, elsewhere = hosts.engine.take_records(unfinished=True)
    named = Counter((window, point) for window, point, packets in lost if packets == 1)
    assert len(named) == len(lost) <= 1024
    assert elsewhere > 0
    assert sum(record[11] for record in records) + len(lost) + elsewhere == 2 * minutes
    assert hosts.engine.take_records(unfinished=True) == (minutes, [], [], 0)


def test_a_record_of_nothing_is_not_lost() -> None:
    """What a flow entry has yet to tell begins a record; that one has no packets when a fragment begins the next."""
    hosts = watched(waiting=1)
    send(hosts, udp(), udp(), now=MINUTE)
    send(hosts, udp(), now=2 * MINUTE)
    send(hosts, *fragment(udp(3000), 1000)[:1], now=3 * MINUTE)
    hosts.engine.advance(4 * MINUTE)
    _, records, lost, _ = hosts.engine.take_records()
    assert sum(record[11] for record in records) + sum(packets for _, _, packets in lost) == 2 * 4
    assert all(packets for _, _, packets in lost)


def test_a_record_begins_with_its_first_packet_whenever_somebody_asks() -> None:
    """Between asking the entries and asking the records a packet may begin a window."""
    hosts = watched(capacity=1 << 14, flows=1 << 13, sessions=1 << 13, waiting=1 << 14)
    # entries are asked in order of their rows, and so are records: here the first entry counts for the last records
    packets, ports = many(hosts, 6002)
    hosts.engine.process(packets[:6001], ports[:6001], NOW)
    send(hosts, *fragment(udp(3000, sport=6002), 1000)[:1])
    hosts.engine.forget(~1 & (1 << 64) - 1)
    hosts.engine.process(packets[1:], ports[1:], NOW)
    packets, ports = packets[-1:], ports[-1:]
    found: dict[int, list[int]] = {}
    asks, done = threading.Event(), threading.Event()

    def note(records: list[Any]) -> None:
        for window, _point, side, *_, sport, _dport, count, _size, first, _last, _flags in records:
            if side == OUT and sport == 6002 and count:
                entry = found.setdefault(window, [0, first])
                entry[0] += count
                entry[1] = min(entry[1], first)

    def take() -> None:
        while not done.is_set():
            asks.set()
            note(hosts.engine.take_records(unfinished=True)[1])

    taker, interval = threading.Thread(target=take), sys.getswitchinterval()
    windows = range(2, 502)
    sys.setswitchinterval(1e-6)
    taker.start()
    try:
        for window in windows:
            hosts.engine.advance(window * MINUTE)
            asks.clear()
            assert asks.wait(60)
            for now in (7, 9, 11):
                hosts.engine.process(packets, ports, window * MINUTE + now)
    finally:
        sys.setswitchinterval(interval)
        done.set()
        taker.join()
    note(hosts.engine.take_records(unfinished=True)[1])
    assert {window: found[window] for window in windows} == {w: [3, w * MINUTE + 7] for w in windows}


def test_who_asks_in_the_midst_of_a_window_asks_no_entry() -> None:
    """The writer asks each second; there is something to tell once in a minute."""
    hosts = watched(capacity=1 << 16, waiting=1 << 16, flows=1 << 15, sessions=1 << 15)
    frames, ports = many(hosts, 20_000)

    def spent(now: int) -> float:
        hosts.engine.process(frames, ports, now)
        before = time.thread_time()
        hosts.engine.take_records()
        return time.thread_time() - before

    hosts.engine.process(frames, ports, NOW)
    hosts.engine.process(frames, ports, NOW)
    assert hosts.engine.statistics()["flow_hits"] > 19_000
    assert hosts.engine.take_records() == (1, [], [], 0)
    lasting = min(spent(NOW + n) for n in range(1, 6))
    assert lasting * 20 < spent(2 * MINUTE)
    assert sum(record[11] for record in hosts.engine.take_records(unfinished=True)[1]) == 2 * 20_000


def test_tables_change_while_somebody_takes() -> None:
    """What Python makes of many records takes a while, in which nobody who changes tables has to wait."""
    hosts = watched(capacity=1 << 16, waiting=1 << 16, flows=1 << 15, sessions=1 << 15)
    frames, ports = many(hosts, 20_000)
    generation, deadline = 2, time.monotonic() + 60
    taken_in: list[float] = []

    def take() -> None:
        taken_in.append(time.monotonic())
        hosts.engine.take_records(unfinished=True)
        taken_in.append(time.monotonic())

    while True:
        hosts.engine.process(frames, ports, NOW)
        swapped = []
        taken_in.clear()
        taker = threading.Thread(target=take)
        taker.start()
        while taker.is_alive():
            before = time.monotonic()
            hosts.engine.swap(compile_program(hosts.program, generation=generation))
            generation += 1
            swapped.append((before, time.monotonic()))
        taker.join()
        begin, end = taken_in
        if any(begin + (end - begin) / 4 < a and b < end - (end - begin) / 4 for a, b in swapped):
            return
        assert time.monotonic() < deadline, "no swap began and ended while records were taken"


def test_a_flow_that_is_silent_keeps_no_room_though_its_entry_would_last() -> None:
    """Nothing tracks these; what is remembered of them may be silent for hours."""
    hosts = watched(capacity=8)
    frames, ports = many(hosts, 12)
    for minute in range(1, 40, 3):
        first = 4 * (minute % 2)
        hosts.engine.process(frames[first : first + 4], ports[:4], minute * MINUTE)
        for later in range(1, 4):
            hosts.engine.advance((minute + later) * MINUTE)
            _, records, lost, elsewhere = hosts.engine.take_records()
            assert (lost, elsewhere) == ([], 0)
            assert sum(record[11] for record in records) == (8 if later == 1 else 0)
    assert hosts.engine.statistics()["flows"] == 0
    hosts.engine.selfcheck()


def test_a_flow_that_goes_on_keeps_its_entry() -> None:
    hosts = watched()
    for minute in range(1, 30):
        send(hosts, udp(), now=minute * MINUTE + 500)
        hosts.engine.take_records()
    assert hosts.engine.statistics()["flow_hits"] == 28


def test_what_is_over_makes_room_though_nobody_takes_it() -> None:
    hosts = watched(capacity=8)
    frames, ports = many(hosts, 12)
    for minute in range(3):
        for _ in range(2):
            hosts.engine.process(frames[4 * minute : 4 * minute + 4], ports[:4], (1 + minute) * MINUTE)
        hosts.engine.selfcheck()
    _, records, lost, elsewhere = hosts.engine.take_records(unfinished=True)
    assert (lost, elsewhere) == ([], 0)
    assert Counter(record[0] for record in records for _ in range(record[11])) == {1: 16, 2: 16, 3: 16}


def test_a_flow_that_there_is_no_record_for_is_no_slower() -> None:
    """It is counted as lost by its flow entry, and recorded once there is room."""
    hosts = watched(capacity=8)
    frames, ports = many(hosts, 12)
    for _ in range(10):
        hosts.engine.process(frames, ports, NOW)
    assert hosts.engine.statistics()["flow_hits"] == 9 * 12
    _, records, lost, elsewhere = hosts.engine.take_records(unfinished=True)
    assert sum(record[11] for record in records) == 10 * 8
    assert Counter({point: packets for _, point, packets in lost}) == {hosts.a.port: 80, hosts.b.port: 80}
    assert elsewhere == 0
    for minute in range(2, 5):
        hosts.engine.process(frames[8:], ports[:4], minute * MINUTE)
        hosts.engine.selfcheck()
        hosts.engine.take_records()
    hosts.engine.process(frames[8:], ports[:4], 4 * MINUTE)
    _, records, lost, _ = hosts.engine.take_records(unfinished=True)
    assert lost == []
    assert sum(record[11] for record in records) == 2 * 4 + 2 * 4
    hosts.engine.selfcheck()


def test_nobody_is_recorded_before_somebody_asks() -> None:
    hosts = TwoHosts(seen=True)
    send(hosts, udp(), udp())
    assert hosts.engine.take_records() == (0, [], [], 0)
    hosts.engine.open_records()
    send(hosts, udp(), udp())
    assert [value[0] for value in taken(hosts, unfinished=True).values()] == [2, 2]
    with pytest.raises(RuntimeError):
        hosts.engine.open_records()


@pytest.mark.parametrize("wrong", [{"capacity": 0}, {"waiting": 0}, {"window_ms": 0}, {"phase_ms": 1 << 62}])
def test_room_and_windows_must_make_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        TwoHosts().engine.open_records(**wrong)


def test_to_begin_to_count_deletes_no_entry() -> None:
    """Who makes a hundred thousand entries go at once keeps packets waiting; what each knew is found out one by one."""
    hosts = TwoHosts(seen=True)
    send(hosts, *(udp(sport=sport) for sport in range(1, 9)))
    hosts.engine.open_records()
    assert hosts.engine.statistics()["flows"] == 8
    send(hosts, *(udp(sport=sport) for sport in range(1, 9)))
    assert sum(value[0] for value in taken(hosts, unfinished=True).values()) == 2 * 8
    hosts.engine.selfcheck()


def test_who_takes_loses_nothing_for_want_of_room() -> None:
    hosts = watched(waiting=4)
    send(hosts, *(udp(sport=sport) for sport in range(1, 31)))
    hosts.engine.advance(2 * MINUTE)
    window, records, lost, elsewhere = hosts.engine.take_records()
    assert (window, len(records), lost, elsewhere) == (2, 60, [], 0)
    assert hosts.engine.take_records() == (2, [], [], 0)


def test_points_without_end_are_a_loop() -> None:
    """Being seen takes no step of a packet's, unless it is seen again at once."""
    hosts = TwoHosts(seen=True)
    at = hosts.program.nodes["a/seen-out"]
    assert isinstance(at, Point)
    hosts.program.nodes["a/seen-out"] = replace(at, next="a/seen-out")
    hosts.engine.swap(compile_program(hosts.program, generation=2))
    hosts.engine.open_records()
    assert send(hosts, udp()) == [(Verdict.DROP, Reason.LOOP)]
    [count] = [value[0] for value in taken(hosts, unfinished=True).values()]
    assert count == 96 - 2  # gates in front of it


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 3), st.booleans(), st.sampled_from(["udp", "A", "S", "F"])),
        st.tuples(st.just("wait"), st.sampled_from([1, 29_999, 30_001, 59_999, 60_000, 60_001, 200_000])),
        st.tuples(st.just("forget"), st.integers(0, 2**64 - 1)),
        st.tuples(st.just("take")),
    ),
    max_size=40,
)


@given(steps=STEPS)
def test_a_dict_would_tell_the_same(steps: list[tuple[Any, ...]]) -> None:
    """Entries, windows and the ring against counting each packet; and points change nothing of what becomes of it."""
    hosts, without, now = watched(), TwoHosts(), MINUTE
    expected: dict[tuple[Any, ...], list[int]] = {}
    found: dict[tuple[Any, ...], list[int]] = {}

    def note(told: dict[tuple[Any, ...], tuple[int, ...]]) -> None:
        for key, (packets, size, first, last, flags) in told.items():
            assert key not in found, "a window that was over is told of again"
            found[key] = [packets, size, first, last, flags]

    for name, *details in steps:
        if name == "wait":
            now += details[0]
            assert hosts.engine.advance(now) == without.engine.advance(now)
        elif name == "forget":
            hosts.engine.forget(details[0])
        elif name == "take":
            note(taken(hosts))
        else:
            number, back, kind = details
            sport, dport = (80 + number, 5) if back else (5, 80 + number)
            ends = {"src": "10.0.2.10", "dst": "10.0.1.10"} if back else {"src": "10.0.1.10", "dst": "10.0.2.10"}
            layer = UDP(sport=sport, dport=dport) if kind == "udp" else TCP(sport=sport, dport=dport, flags=kind)
            packet = IP(**ends) / layer / bytes(number)
            bytes_, port = frame(hosts, packet)
            assert hosts.engine.process([bytes_], [port], now) == without.engine.process([bytes_], [port], now)
            flags = {"S": 2, "F": 1}.get(kind, 0)
            a, b = (hosts.b.port, hosts.a.port) if back else (hosts.a.port, hosts.b.port)
            for point, side in ((a, OUT), (b, IN)):
                # of one tuple UDP and TCP are two flows
                key = (now // MINUTE, point, side, 0, packet.src, packet.dst, sport, dport)
                entry = expected.setdefault(key, [0, 0, now, now, 0])
                entry[0] += 1
                entry[1] += len(bytes(packet))
                entry[3] = now
                entry[4] |= flags
        hosts.engine.selfcheck()
    note(taken(hosts, unfinished=True))
    assert found == expected


@given(steps=STEPS, capacity=st.integers(1, 9), waiting=st.integers(1, 9))
def test_each_packet_is_recorded_or_lost(steps: list[tuple[Any, ...]], capacity: int, waiting: int) -> None:
    """However little room there is; and that changes nothing of what becomes of a packet."""
    hosts, without, now = watched(capacity=capacity, waiting=waiting), TwoHosts(), MINUTE
    sent, told = Counter[tuple[int, int]](), Counter[tuple[int, int]]()

    def take(unfinished: bool) -> None:
        _, records, lost, elsewhere = hosts.engine.take_records(unfinished=unfinished)
        assert elsewhere == 0
        for record in records:
            told[record[0], record[1]] += record[11]
        for window, point, packets in lost:
            assert packets
            told[window, point] += packets

    for name, *details in steps:
        if name == "wait":
            now += details[0]
            assert hosts.engine.advance(now) == without.engine.advance(now)
        elif name == "forget":
            hosts.engine.forget(details[0])
        elif name == "take":
            take(False)
        else:
            number, back, kind = details
            ports = {"sport": 80 + number, "dport": 5} if not back else {"sport": 5, "dport": 80 + number}
            ends = {"src": "10.0.2.10", "dst": "10.0.1.10"} if back else {"src": "10.0.1.10", "dst": "10.0.2.10"}
            layer = UDP(**ports) if kind == "udp" else TCP(**ports, flags=kind)
            bytes_, port = frame(hosts, IP(**ends) / layer)
            assert hosts.engine.process([bytes_], [port], now) == without.engine.process([bytes_], [port], now)
            sent.update((now // MINUTE, point) for point in (hosts.a.port, hosts.b.port))
        hosts.engine.selfcheck()
    take(True)
    assert +told == sent

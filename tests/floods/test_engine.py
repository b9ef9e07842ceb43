"""Floods against small tables: what is established goes on as if there was none, and every packet is accounted for."""

from __future__ import annotations

import struct
from collections import Counter
from ipaddress import ip_address
from itertools import islice
from time import perf_counter
from unittest.mock import patch

import pytest

from dataplane.limits import ERRORS_AT_ONCE, NAT_FLOWS_PER_DESTINATION
from dataplane.load import load_topology
from dataplane.probe import TCP, UDP
from dataplane.verdict import Cause, Reason, Verdict
from tests.floods.frames import PORTS, UDP_SUM, ipv4, piece, varied
from tests.floods.kinds import FLOODS, Flood
from tests.floods.network import LAB, Flooded
from tests.property.pairing import Pair

PACKETS = 4_096
SESSIONS, FLOWS = 1_000, 500
"""Less than any of the floods asks for, and between two words of a talk more come than there are flow entries."""
ONE_ENGINE = {"a loop"}
"""The reference engine does not follow packets in circles."""
LONGEST_ERROR = 14 + 576
"""An Ethernet header, and as much as an ICMP error may be long (RFC 1812, 4.3.2.3)."""
IDS = [flood.name.replace(" ", "-") for flood in FLOODS]


def established(*, sessions: int = 262_144, flows: int = 65_536) -> Flooded:
    """Connections of every kind: tracked on both sides, through NAT, of who floods, and not tracked at all."""
    made = Flooded(sessions=sessions, flows=flows)
    made.talk("calm", "server", "10.0.1.10")
    made.talk("calm", "example", "198.51.100.10", protocol=UDP)
    made.talk("calm", "example", "198.51.100.10", protocol=TCP)
    made.talk("loud", "server", "10.0.1.10")
    made.talk("web", "example", "198.51.100.10")
    return made


@pytest.fixture(scope="module", params=FLOODS, ids=IDS)
def flood(request: pytest.FixtureRequest) -> Flood:
    found: Flood = request.param
    return found


@pytest.fixture(scope="module")
def made(flood: Flood) -> Flooded:
    """After the flood; not for tests that go on with it."""
    return flooded(flood)


def flooded(flood: Flood, *, silent: bool = False) -> Flooded:
    made = established(sessions=SESSIONS, flows=FLOWS)
    made.flood(flood.node, islice(flood.frames(made), PACKETS), silent=silent)
    made.plane.engine.selfcheck()
    return made


def test_what_is_established_loses_nothing_and_lives_as_long_as_without_the_flood(flood: Flood) -> None:
    loud, still = flooded(flood), flooded(flood, silent=True)
    for each in loud.talks:
        assert each.arrived == each.sent >= 16
    assert loud.remembered() == still.remembered()
    assert len(loud.remembered()) == 2 + 2 + 2 + 2
    # A stream of UDP ends at the interface after 180 s, not a millisecond earlier, nor later.
    for after_ms, rest in ((179_999, 8), (180_000, 7)):
        for made in (loud, still):
            made.wait((made.talked + after_ms - made.now) / 1000)
        assert loud.remembered() == still.remembered()
        assert len(loud.remembered()) == rest


def test_every_packet_is_accounted_for(flood: Flood, made: Flooded) -> None:
    assert set(made.became) == flood.fates
    assert set(made.left) == flood.causes
    assert made.became.total() == PACKETS
    died = Counter({reason: count for (verdict, reason), count in made.became.items() if verdict == Verdict.DROP})
    if flood.refused:
        died[flood.refused] = PACKETS
    assert made.counted(flood.node) == died
    sent = sum(each.sent for each in made.talks if made.port(flood.node) in (each.client, each.server)) // 2
    handshakes = made.plane.engine.counters()[made.port(flood.node)]["rx_frames"] - PACKETS - sent
    assert 0 <= handshakes <= 3 * len(made.talks)


def test_tables_stay_as_large_as_they_are(made: Flooded) -> None:
    sizes = made.plane.engine.statistics()
    assert sizes["sessions"] <= SESSIONS
    assert sizes["flows"] <= FLOWS
    assert sizes["fragments_waiting"] <= 64


def test_the_router_never_says_more_than_was_said_to_it(made: Flooded) -> None:
    """One error, reset or answer for a packet at most, and errors no longer than they may be."""
    own = made.left[Cause.ERROR] + made.left[Cause.RESET] + made.left[Cause.ANSWER]
    assert own <= PACKETS
    assert made.longest_error <= LONGEST_ERROR


@pytest.mark.parametrize("name", ["TTLs that end", "packets too large"])
def test_errors_are_told_a_thousand_at_once_and_one_each_millisecond_then(name: str) -> None:
    """RFC 4443, 2.4 (f); RFC 1812, 4.3.2.8. Those that are not told are counted at who would have got them."""
    [flood] = [each for each in FLOODS if each.name == name]
    made = established()
    made.flood(flood.node, islice(flood.frames(made), PACKETS))
    withheld = made.plane.engine.counters()[made.port(flood.node)]["errors_withheld"]
    assert made.left[Cause.ERROR] == ERRORS_AT_ONCE + PACKETS // 64 - 1
    assert withheld == PACKETS - made.left[Cause.ERROR]
    made.wait(ERRORS_AT_ONCE / 1000)
    made.left.clear()
    made.flood(flood.node, islice(flood.frames(made), ERRORS_AT_ONCE), burst=ERRORS_AT_ONCE)
    assert made.left[Cause.ERROR] == ERRORS_AT_ONCE
    assert made.plane.engine.counters()[made.port(flood.node)]["errors_withheld"] == withheld


def test_once_it_is_over_nothing_of_it_is_left(flood: Flood) -> None:
    made = flooded(flood)
    held = made.became[Verdict.HOLD, Reason.NONE]
    for _ in range(4):  # four times a hundred seconds are more than any limit of what the flood has opened
        made.wait(100)
        made.everybody_talks()
    for each in made.talks:
        assert each.arrived == each.sent
    assert made.plane.engine.statistics()["sessions"] == len(made.remembered()) + 2  # and what counts NAT's ports
    assert made.plane.engine.statistics()["fragments_waiting"] == 0
    assert made.counted(flood.node).get(Reason.FRAGMENT_TIMEOUT, 0) == held
    made.talk("loud", "server", "10.0.1.10", near_port=40_001)


@pytest.mark.parametrize("name", ["later fragments", "first fragments"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)], ids=["in-order", "backwards"])
def test_a_neighbours_fragments_pass_between_those_of_a_flood(name: str, order: tuple[int, ...]) -> None:
    made = established(sessions=SESSIONS, flows=FLOWS)
    [flood] = [each for each in FLOODS if each.name == name]
    mac, router = made.macs("calm")
    whole = ipv4(mac, router, "10.0.3.10", "10.0.1.10", protocol=UDP, source_port=5, payload=bytes(64))
    frames = flood.frames(made)
    for number in range(40):
        pieces = [piece(whole, first=not each, number=1_000 + number, at=185 * each) for each in range(3)]
        arrived = []
        for each in order:
            made.flood(flood.node, islice(frames, 64))
            _, emissions = made.plane.engine.process([pieces[each]], [made.port("calm")], made.now)
            arrived += [to for to, *_ in emissions]
        assert arrived == [made.port("server")] * 3
    assert made.counted("calm") == {}


def test_nobody_can_choose_whose_fragments_have_no_room() -> None:
    """64 fragments fill the eight places for each of eight datagrams of somebody else, if these can be known."""
    made = established()
    loud, calm = made.port("loud"), made.port("calm")
    theirs = range(1_000, 1_008)
    own: dict[int, list[int]] = {}
    for number in range(1, 65_536):
        own.setdefault(_set_without_secret("10.0.2.10", "10.0.1.10", loud, number), []).append(number)
    chosen = {_set_without_secret("10.0.3.10", "10.0.1.10", calm, number) for number in theirs}
    mac, router = made.macs("loud")
    whole = ipv4(mac, router, "10.0.2.10", "10.0.1.10", protocol=UDP, payload=bytes(64))
    made.flood("loud", [piece(whole, first=False, number=number) for each in chosen for number in own[each][:8]])
    mac, router = made.macs("calm")
    whole = ipv4(mac, router, "10.0.3.10", "10.0.1.10", protocol=UDP, source_port=5, payload=bytes(64))
    for number in theirs:
        pieces = [piece(whole, first=not each, number=number, at=185 * each) for each in range(3)]
        outcomes, _ = made.plane.engine.process(pieces, [calm] * 3, made.now)
        assert {verdict for verdict, *_ in outcomes} == {Verdict.FORWARD}


def _set_without_secret(source: str, destination: str, port: int, number: int) -> int:
    """Where `fastpath.fragment` keeps a datagram, if 0 is the secret: its hash of the key, of 128 sets."""
    ends = (int(ip_address(each)) for each in (source, destination))
    key = struct.pack("<QQQQIIBB6x", 0, next(ends), 0, next(ends), port, number, UDP, 4)
    words = struct.unpack("<6Q", key)
    mixed = len(key) * 0x9E3779B97F4A7C15 % 2**64
    for word in words:
        mixed = (mixed ^ word) * 0xFF51AFD7ED558CCD % 2**64
        mixed ^= mixed >> 32
    mixed = mixed * 0xC4CEB9FE1A85EC53 % 2**64
    return int((mixed ^ mixed >> 29) % 2**32 % 128)


def test_all_senders_together_cannot_hold_more_fragments_than_there_is_room_for() -> None:
    """Two thousand of all, which 32 senders can use up; from then on fragments that come too early die, counted."""
    crowd = [f"crowd{n}" for n in range(40)]
    lines = "".join(
        f"  {name}: {{vpc: v, subnet: loud, private_ip: 10.0.2.{20 + n}}}\n" for n, name in enumerate(crowd)
    )
    made = Flooded(lab=LAB.replace("internet:\n", f"{lines}internet:\n"))
    for n, name in enumerate(crowd):
        mac, router = made.macs(name)
        whole = ipv4(mac, router, f"10.0.2.{20 + n}", "10.0.1.10", protocol=UDP, payload=bytes(64))
        # three of one datagram, so that these do not run out first
        made.flood(name, [piece(whole, first=False, number=number // 3) for number in range(72)])
    assert made.plane.engine.statistics()["fragments_waiting"] == 2_048
    assert made.became[Verdict.HOLD, Reason.NONE] == 2_048
    assert made.became[Verdict.DROP, Reason.FRAGMENT_LIMIT] == 40 * 72 - 2_048
    made.wait(61)
    assert made.plane.engine.statistics()["fragments_waiting"] == 0
    assert sum(made.counted(name).get(Reason.FRAGMENT_TIMEOUT, 0) for name in crowd) == 2_048


def test_who_opens_connections_without_end_leaves_as_many_to_others() -> None:
    """Half of the table is one's at most; with a second who wants all there is, a third is everybody else's."""
    made = established(sessions=SESSIONS, flows=FLOWS)
    [flood] = [each for each in FLOODS if each.name == "SYNs"]
    made.flood("loud", islice(flood.frames(made), PACKETS))
    assert made.counted("loud")[Reason.SESSION_LIMIT] > PACKETS / 2
    assert made.plane.engine.statistics()["sessions_of_one"] <= SESSIONS / 2
    for number in range(20):
        made.talk("calm", "server", "10.0.1.10", near_port=41_000 + number)
        made.talk("calm", "example", "198.51.100.10", near_port=41_000 + number)
    mac, router = made.macs("server")
    first = ipv4(mac, router, "10.0.1.10", "10.0.2.10", protocol=UDP, destination_port=9)
    made.flood("server", varied(first, PORTS, range(1, PACKETS), sums=(UDP_SUM,)))
    assert made.counted("server")[Reason.SESSION_LIMIT] > PACKETS / 2
    for number in range(20):
        made.talk("calm", "server", "10.0.1.10", near_port=42_000 + number)
    made.plane.engine.selfcheck()
    for each in made.talks:
        assert each.arrived == each.sent
    assert made.counted("calm") == {}


def test_a_nat_gateway_has_as_many_connections_to_one_destination_as_aws_says() -> None:
    """55,000 per address (NAT gateway basics); who is refused is counted, and takes no port from who is there."""
    made = established()
    [flood] = [each for each in FLOODS if each.name == "connections through NAT"]
    refused = 1_000
    made.flood(flood.node, islice(flood.frames(made), NAT_FLOWS_PER_DESTINATION + refused), talk_every=64)
    assert made.became == {
        (Verdict.FORWARD, Reason.NONE): NAT_FLOWS_PER_DESTINATION,
        (Verdict.DROP, Reason.NAT_PORTS_EXHAUSTED): refused,
    }
    assert made.counted(flood.node) == {Reason.NAT_PORTS_EXHAUSTED: refused}
    [metrics] = [each for name, each in made.plane.nat_metrics().items() if name == "v/nat"]
    assert metrics["ErrorPortAllocation"] == refused
    for each in made.talks:
        assert each.arrived == each.sent
    made.talk("calm", "example", "198.51.100.10", protocol=UDP, near_port=40_002)  # to another port of it


def test_who_finds_no_port_has_nobody_wait() -> None:
    """Packets that are refused for want of a port take about as long a millisecond later, not a walk of the table."""
    made = established()
    [flood] = [each for each in FLOODS if each.name == "connections through NAT"]
    frames = list(islice(flood.frames(made), NAT_FLOWS_PER_DESTINATION + 32))
    made.flood(flood.node, frames, talk_every=1_000)
    port, refused = [made.port(flood.node)] * 32, frames[-32:]

    def fastest_s(step_ms: int) -> float:
        times = []
        for _ in range(200):
            made.now += step_ms
            began = perf_counter()
            outcomes, _ = made.plane.engine.process(refused, port, made.now)
            times.append(perf_counter() - began)
            assert {reason for _, reason, *_ in outcomes} == {Reason.NAT_PORTS_EXHAUSTED}
        return min(times)

    assert fastest_s(1) < 20 * fastest_s(0)


@pytest.mark.parametrize("flood", [each for each in FLOODS if each.name not in ONE_ENGINE], ids=lambda each: each.name)
def test_both_engines_say_the_same_of_it(flood: Flood) -> None:
    """Its first packets, with room for four connections per destination at a NAT gateway: the fifth meets the limit."""
    few = 4
    with (
        patch("dataplane.model.nat_gateway.NAT_FLOWS_PER_DESTINATION", few),
        patch("dataplane.reference.nat.MOST_PER_DESTINATION", few),
    ):
        made = Flooded()
        made.talk("calm", "example", "198.51.100.10", protocol=UDP)
        pair = Pair(load_topology(LAB, file_name="floods.yaml"))
        frames = list(islice(flood.frames(made), 48))
        port = pair.fast.port(f"{flood.node}/eth0")
        for first in range(0, len(frames), 16):
            pair.send(port, frames[first : first + 16], traced=bool(first))
        if flood.name == "connections through NAT":
            assert Reason.NAT_PORTS_EXHAUSTED in pair.fast.engine.counters()[port]["reasons"]

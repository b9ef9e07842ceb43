"""Floods against small tables: what is established goes on as if there was none, and every packet is accounted for."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from unittest.mock import patch

import pytest

from dataplane.limits import NAT_FLOWS_PER_DESTINATION
from dataplane.load import load_topology
from dataplane.probe import TCP, UDP
from dataplane.verdict import Cause, Reason, Verdict
from tests.floods.frames import ipv4, piece
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
    """One error, reset or answer for a packet at most, and errors no longer than they may be.

    Nothing limits how often: RFC 1812, 4.3.2.8, would have a router be able to, RFC 4443, 2.4 (f), says it must; of
    AWS's gateways no limit is known.
    """
    own = made.left[Cause.ERROR] + made.left[Cause.RESET] + made.left[Cause.ANSWER]
    assert own <= PACKETS
    assert made.longest_error <= LONGEST_ERROR


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

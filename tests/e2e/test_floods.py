"""Floods from inside an instance, through real kernels: what others have of it, and where each packet was counted.

Short here; `make floods` has all of them, for longer, as a table.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dataplane.probe import UDP
from dataplane.verdict import Verdict
from tests.e2e.lab.stage import best_of, eventually
from tests.floods.frames import ipv4
from tests.floods.kinds import FLOODS, Flood
from tests.floods.network import Flooded
from tests.floods.wire import (
    ASKED,
    LOST,
    SHARE,
    Measured,
    counts,
    echo,
    flooded_lab,
    lengthen_queue,
    settled,
    switch_forwarding_on,
)
from vpclab import Lab

SECONDS = 0.3
TRIES = 10
"""Where other processes want the processors too, a worker that waits for one reads nothing meanwhile."""
VICTIM_SECONDS = 1.0
"""Long enough for the answers of a victim to fill its own queue ten times, if they were not read as fast."""
OWN_FRAMES = 50
"""What a kernel says of itself meanwhile (ARP, neighbour discovery, multicast, which the network does not carry)."""
HOPS = 63
"""Of a packet with TTL 64, between two who forward it."""
BY_NAME = {flood.name: flood for flood in FLOODS}
SHORTLY = [
    "SYNs",
    "connections through NAT",
    "later fragments",
    "ARP and neighbour discovery",
    "TTLs that end",
]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with flooded_lab() as running:
        yield running


@pytest.fixture(scope="module")
def before(lab: Lab) -> int:
    """Bytes that the daemon takes before the first flood."""
    resident: int = lab.limits()["resident_bytes"]
    return resident


@pytest.fixture(scope="module")
def measured(lab: Lab, before: int) -> Iterator[Measured]:
    with echo(lab, "calm", "server", "10.0.1.10") as line:
        yield Measured(lab, line)


@pytest.mark.parametrize("flood", [BY_NAME[name] for name in SHORTLY], ids=lambda flood: flood.name.replace(" ", "-"))
def test_who_talks_meanwhile_is_answered_and_every_frame_is_counted(measured: Measured, flood: Flood) -> None:
    tries = []

    def answered() -> float:
        tries.append(measured.flood(flood, SECONDS))
        talked = tries[-1].talked
        # or it was spoilt, by others who want the processor
        return 1 - talked.lost if talked.sent > 20 and tries[-1].sent > 1_000 else 0.0

    assert best_of(answered, 1 - LOST, tries=TRIES) >= 1 - LOST
    for each in tries:
        # Every frame was read or counted as lost by the sender's own kernel, and what was read has a verdict.
        assert 0 <= each.counts.read + each.counts.lost_in_kernel - each.sent <= OWN_FRAMES
        known = {reason.name for _, reason in flood.fates}
        assert sum(count for reason, count in each.counts.died.items() if reason not in known) <= OWN_FRAMES
        if {verdict for verdict, _ in flood.fates} == {Verdict.DROP}:
            assert 0 <= each.counts.read - sum(each.counts.died.values()) <= OWN_FRAMES


def test_a_victim_that_resets_each_packet_goes_on_talking(lab: Lab, measured: Measured) -> None:
    """Its resets leave by the queue that its words to others are in, while a neighbour sends at full rate."""
    flood = BY_NAME["SYNs that a victim resets"]
    # A worker may have to wait for a processor while another one delivers: 500 answers are 8 ms of that.
    lengthen_queue(lab, flood.asked)
    before = settled(lab, flood.asked)
    with echo(lab, "calm", flood.asked, ASKED[flood.asked]) as line, measured.busy_neighbour():
        victim = Measured(lab, line)
        assert best_of(lambda: 1 - victim.flood(flood, VICTIM_SECONDS).talked.lost, 1 - LOST, tries=TRIES) >= 1 - LOST
    answered = settled(lab, flood.asked).since(before)
    assert answered.received > 1_000
    # but for what its kernel tells groups by itself (RFC 3810)
    assert answered.died.keys() <= {"L2_MULTICAST"}
    assert sum(answered.died.values()) <= OWN_FRAMES
    assert abs(answered.left_kernel + answered.lost_in_kernel - answered.received) <= OWN_FRAMES


@pytest.mark.parametrize("name", ["SYNs", "ARP and neighbour discovery"])
def test_a_neighbour_at_full_rate_keeps_its_share(measured: Measured, name: str) -> None:
    assert best_of(lambda: measured.share(BY_NAME[name], SECONDS), SHARE, tries=TRIES) >= SHARE


def test_a_loop_of_two_who_forward_ends_with_the_ttl(lab: Lab) -> None:
    """The network takes no hop off a packet inside a VPC; kernels that forward do, and each pass is counted."""
    packets = 100
    for name in ("left", "right"):
        switch_forwarding_on(lab, name)
    began = [settled(lab, name) for name in ("left", "right")]
    mac, router = Flooded().macs("walker")
    frame = ipv4(mac, router, "10.2.1.20", "10.99.0.1", protocol=UDP, source_port=5, destination_port=9)
    for _ in range(packets):
        lab["walker"].send(frame, ethernet=True)

    def passes() -> int:
        return sum(counts(lab, name).since(then).read for name, then in zip(("left", "right"), began, strict=True))

    eventually(lambda: passes() >= HOPS * packets, "packets go round")
    for name in ("left", "right"):
        settled(lab, name)
    # what ended is told to the sender, as often as the kernel wants to (icmp(7))
    assert HOPS * packets <= passes() <= (HOPS + 1) * packets + OWN_FRAMES


def test_the_daemon_takes_no_more_memory_than_it_says(lab: Lab, before: int, measured: Measured) -> None:
    assert measured.flood(BY_NAME["SYNs"], SECONDS).counts.read > 0
    limits = lab.limits()
    assert limits["resident_bytes"] - before <= limits["bytes"]

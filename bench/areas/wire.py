"""The wire: real kernel stacks in two network namespaces, and between them our lab, or a peer. Wants root.

In each round everybody is built anew, measured and taken down, in turns; every second round the other way round.
Nothing is tuned: sysctls are as they are, no process but the makers of traffic is bound to a CPU.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial

from bench.areas import wire_lab, wire_peers, wire_traffic
from bench.areas.wire_peers import Bed, CannotRun, Peer
from bench.areas.wire_traffic import MEASURES, TCP_1, TCP_4, Measure
from bench.measure import Limit, NotRun, Options, Row, Sample, Target

PORTS = (2, 256)
_OVS = (wire_peers.OVS, wire_peers.OVS_TSO)
_PEERS = (wire_peers.VETH, wire_peers.FORWARDING, wire_peers.NFTABLES, *_OVS)
_WAYS = {"NAT": _PEERS, "routed": (wire_peers.VETH, wire_peers.FORWARDING)}
_NOTES = {
    "NAT": (
        "ours: 200 security group rules, connection tracking, NAT gateway, internet gateway; nftables and OVS:"
        " connection tracking, 200 rules, source NAT; veth and forwarding do less; peers always run as root"
    ),
    "routed": "ours: two subnets, security groups with connection tracking; the peers do less, and run as root",
}
_ATTEMPTS = 2
Found = dict[str, list[float]] | NotRun | Limit
"""Of one contender: figures by measure, or why there are none."""


def _case(way: str, ports: int, rootless: bool) -> str:
    return f"{way}, {ports} ports, {'rootless' if rootless else 'root'}"


def _targets() -> list[Target]:
    nft, usual = wire_peers.NFTABLES.name, _case("NAT", 2, False)
    found = [
        Target(TCP_1.name, usual, nft, 0.65, 0.9),
        Target(TCP_4.name, usual, nft, 0.5, 0.8),
        Target(wire_traffic.UDP_64.name, usual, nft, 0.8, 1.1),
        Target(wire_traffic.CONNECT.name, usual, nft, 0.65, 0.85),
        Target(wire_traffic.CONNECT_HELD.name, usual, nft, None, 0.85),
        Target(wire_traffic.ping_pong("p50", "one CPU", "").name, usual, nft, 1 / 3, 1 / 2),
    ]
    cases = [_case("NAT", ports, rootless) for ports in PORTS for rootless in (False, True)]
    modes = tuple(mode.name for mode in _OVS)
    # Beside a stream the last hundredth waits for the scheduler, several times as long in one round as in the next.
    told = {wire_traffic.ping_pong("p99", cpus, load) for cpus in wire_traffic.CPUS for load in wire_traffic.LOADS[1:]}
    return found + [
        Target(measure.name, case, "OVS userspace, better mode", None if measure in told else 1.2, 2, modes)
        for case in cases
        for measure in MEASURES
    ]


TARGETS = _targets()


def rows(options: Options) -> Iterator[Row]:
    """All measures with 2 ports, then with 256."""
    if os.geteuid() != 0:
        _say("the peers want root; run: sudo make bench")
        raise SystemExit(3)
    if package := wire_traffic.missing():
        _say(f"not run: apt install {package}")
        raise SystemExit(3)
    wire_peers.sweep()
    if os.getloadavg()[0] > 1:
        _say("the machine is busy with something else: figures will be wrong")
    for ports in options.ports or PORTS:
        yield from _rows(ports, options)


def _rows(ports: int, options: Options) -> Iterator[Row]:
    ours = {_case(way, ports, rootless): (way, rootless) for way in _WAYS for rootless in (False, True)}
    everybody: dict[str, Bed] = {
        case: partial(wire_lab.lab, nat=way == "NAT", rootless=rootless) for case, (way, rootless) in ours.items()
    }
    everybody |= {peer.name: peer.bed for peer in _PEERS if not peer.missing()}
    found: dict[str, Found] = {peer.name: NotRun(peer.missing()) for peer in _PEERS if peer.missing()}
    for number in range(options.first, options.first + (1 if options.quick else options.rounds)):
        order = list(everybody) if number % 2 == 0 else [*reversed(everybody)]
        for name in order:
            so_far = found.setdefault(name, {})
            if not isinstance(so_far, dict):
                continue
            began = time.monotonic()
            try:
                measured = _measured(name, everybody[name], ports, options.quick)
            except CannotRun as error:
                found[name] = Limit(str(error))
                continue
            for what, value in measured.items():
                so_far.setdefault(what, []).append(value)
            _say(f"{ports} ports, round {number + 1}: {name} ({time.monotonic() - began:.1f} s)")
    for case, (way, _) in ours.items():
        for measure in MEASURES:
            yield _row(measure, case, _NOTES[way], found, _WAYS[way])


def _measured(name: str, bed: Bed, ports: int, quick: bool) -> dict[str, float]:
    times = wire_traffic.QUICK if quick else wire_traffic.FULL
    for attempt in range(_ATTEMPTS):
        try:
            with bed(ports) as way:
                return wire_traffic.measure(way, times)
        except CannotRun as error:
            _say(f"{name}: {error}")
            if attempt + 1 == _ATTEMPTS:
                raise
    raise AssertionError


def _row(measure: Measure, case: str, note: str, found: Mapping[str, Found], peers: tuple[Peer, ...]) -> Row:
    mine = _side(found[case], measure)
    assert not isinstance(mine, NotRun)
    return Row(
        area="wire",
        measure=measure.name,
        case=case,
        unit=measure.unit,
        better=measure.better,
        ours=mine,
        peers={peer.name: _side(found[peer.name], measure) for peer in peers},
        against=wire_peers.NFTABLES.name if wire_peers.NFTABLES in peers else wire_peers.FORWARDING.name,
        note=note,
    )


def _side(found: Found, measure: Measure) -> Sample | NotRun | Limit:
    return Sample(found[measure.name]) if isinstance(found, dict) else found


def _say(text: str) -> None:
    print(f"wire: {text}", file=sys.stderr, flush=True)

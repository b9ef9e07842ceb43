"""The floods: who sends what, and what may become of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from itertools import chain, cycle, islice, repeat

from dataplane.probe import ICMP, TCP, UDP
from dataplane.verdict import Cause, Reason, Verdict
from tests.floods.frames import (
    ACK,
    ETHERNET,
    PORTS,
    SYN,
    TCP_SUM,
    UDP_SUM,
    arp,
    ipv4,
    piece,
    solicitation,
    unreachable,
    varied,
)
from tests.floods.network import Flooded

SOURCE_PORTS = range(1, 65_536)
Fate = tuple[Verdict, Reason]
PASSED: Fate = (Verdict.FORWARD, Reason.NONE)
ANSWERED: Fate = (Verdict.SERVE, Reason.NONE)
HELD: Fate = (Verdict.HOLD, Reason.NONE)


def dropped(reason: Reason) -> Fate:
    return Verdict.DROP, reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """One kind of flood."""

    name: str
    node: str
    """Who sends it."""
    frames: Callable[[Flooded], Iterator[bytes]]
    """As many as somebody wants, up to tens of thousands."""
    fates: Set[Fate]
    """What becomes of its packets: each of these, and nothing else, once it has gone on for a while."""
    causes: Set[Cause]
    """Of frames that leave because of it."""
    worn: Reason | None = None
    """What packets die of once that is worn out which it wears out, at the sizes that labs have."""
    asked: str = "server"
    """Whom somebody asks meanwhile: who gets the flood, if somebody does."""
    answered: bool = False
    """Whether that one's kernel answers each packet, for as long as it lasts."""
    refused: Reason | None = None
    """Of what dies that the network says to its sender about each packet."""


def _from(flooded: Flooded, node: str, address: str, to: str, **probe: object) -> bytes:
    mac, router = flooded.macs(node)
    return ipv4(mac, router, address, to, **probe)


def _syns(flooded: Flooded) -> Iterator[bytes]:
    """Enough for the table of a lab, where each is tracked by both interfaces."""
    for port in (22, 23, 24):
        first = _from(flooded, "loud", "10.0.2.10", "10.0.1.10", protocol=TCP, destination_port=port, tcp_flags=SYN)
        yield from varied(first, PORTS, SOURCE_PORTS, sums=(TCP_SUM,))


def _syns_from_outside(flooded: Flooded) -> Iterator[bytes]:
    """To ports where nobody listens, of an instance whose groups track nothing: its kernel resets each of them."""
    first = _from(flooded, "example", "198.51.100.10", "203.0.113.20", protocol=TCP, destination_port=22, tcp_flags=SYN)
    return varied(first, PORTS, SOURCE_PORTS, sums=(TCP_SUM,))


def _to_one_destination(flooded: Flooded) -> Iterator[bytes]:
    first = _from(flooded, "loud", "10.0.2.10", "198.51.100.10", protocol=UDP, destination_port=9)
    return varied(first, PORTS, SOURCE_PORTS, sums=(UDP_SUM,))


def _untracked(flooded: Flooded) -> Iterator[bytes]:
    """Each makes a flow entry, and no session."""
    first = _from(flooded, "web", "10.0.1.20", "198.51.100.10", protocol=UDP, destination_port=9)
    return varied(first, PORTS, SOURCE_PORTS, sums=(UDP_SUM,))


def _scanned(flooded: Flooded) -> Iterator[bytes]:
    """Addresses that nobody has, one after the other."""
    first = _from(flooded, "loud", "10.0.2.10", "10.0.0.0", protocol=TCP, destination_port=22, tcp_flags=SYN)
    hosts = (number for number in SOURCE_PORTS if not 0x0100 <= number < 0x0400)
    return varied(first, ETHERNET + 18, hosts, sums=(ETHERNET + 10, TCP_SUM))


def _later_pieces(flooded: Flooded) -> Iterator[bytes]:
    whole = _from(flooded, "loud", "10.0.2.10", "10.0.1.10", protocol=UDP, payload=bytes(64))
    return (piece(whole, first=False, number=number) for number in SOURCE_PORTS)


def _first_pieces(flooded: Flooded) -> Iterator[bytes]:
    whole = _from(flooded, "loud", "10.0.2.10", "10.0.1.10", protocol=UDP, source_port=7, payload=bytes(64))
    return (piece(whole, first=True, number=number) for number in SOURCE_PORTS)


def _neighbours_asked(flooded: Flooded) -> Iterator[bytes]:
    mac, _ = flooded.macs("loud")
    malformed = arp(mac, "10.0.2.10", "10.0.2.1")[:20] + b"\0\7" + arp(mac, "10.0.2.10", "10.0.2.1")[22:]
    questions = [
        arp(mac, "10.0.2.10", "10.0.2.1"),
        *(arp(mac, "10.0.2.10", f"10.0.2.{host}") for host in range(100, 200)),
        arp(mac, "10.0.2.10", "10.0.2.10", kind=2),
        solicitation(mac, "2001:db8:10:2::10", "fe80::1"),
        solicitation(mac, "2001:db8:10:2::10", "2001:db8:10:2::dead"),
        malformed,
    ]
    return islice(cycle(questions), len(SOURCE_PORTS))


def _out_of_hops(flooded: Flooded) -> Iterator[bytes]:
    first = _from(flooded, "loud", "10.0.2.10", "198.51.100.10", protocol=UDP, destination_port=9, ttl=1)
    return varied(first, PORTS, SOURCE_PORTS, sums=(UDP_SUM,))


def _too_large(flooded: Flooded) -> Iterator[bytes]:
    first = _from(flooded, "web", "10.0.1.20", "198.51.100.10", protocol=UDP, destination_port=9, payload=bytes(2_000))
    return varied(first, PORTS, SOURCE_PORTS, sums=(UDP_SUM,))


def _errors(flooded: Flooded) -> Iterator[bytes]:
    """About connections that are there, which they may not touch, and about such as never were."""
    mac, router = flooded.macs("example")
    there = next(each for each in flooded.talks if each.server == flooded.port("example") and each.protocol == UDP)
    known, port = there.far, there.far.destination_port
    for number in SOURCE_PORTS:
        quoted = ipv4(
            *(mac, router, str(known.destination), str(known.source)),
            protocol=UDP,
            source_port=port if number % 2 else number,
            destination_port=known.source_port,
        )
        yield unreachable(mac, router, str(known.source), str(known.destination), quoted[ETHERNET:])


def _never_opened(flooded: Flooded) -> Iterator[bytes]:
    """The middle of connections that the NAT gateway does not know: it says so to each."""
    first = _from(flooded, "loud", "10.0.2.10", "198.51.100.10", protocol=TCP, destination_port=80, tcp_flags=ACK)
    return varied(first, PORTS, SOURCE_PORTS, sums=(TCP_SUM,))


def _spoofed(flooded: Flooded) -> Iterator[bytes]:
    """In the name of a neighbour, to where that one has a connection."""
    first = _from(
        flooded, "loud", "10.0.3.10", "10.0.1.10", protocol=TCP, source_port=1, destination_port=80, tcp_flags=SYN
    )
    return varied(first, PORTS, SOURCE_PORTS, sums=(TCP_SUM,))


def _hairpin(flooded: Flooded) -> Iterator[bytes]:
    """Out through the NAT gateway, to a public address of the same VPC, and in again."""
    first = _from(flooded, "loud", "10.0.2.10", "203.0.113.20", protocol=UDP, destination_port=9)
    return varied(first, PORTS, SOURCE_PORTS, sums=(UDP_SUM,))


def _loop(flooded: Flooded) -> Iterator[bytes]:
    """Two NAT gateways, each the other's way out."""
    first = _from(flooded, "stray", "10.9.1.10", "198.51.100.10", protocol=UDP, destination_port=9)
    return varied(first, PORTS, SOURCE_PORTS, sums=(UDP_SUM,))


def _pings(flooded: Flooded) -> Iterator[bytes]:
    """To the subnet's router, which answers itself, and to nobody."""
    mac, router = flooded.macs("loud")
    answered = ipv4(mac, router, "10.0.2.10", "10.0.2.1", protocol=ICMP, source_port=7)
    refused = ipv4(mac, router, "10.0.2.10", "10.0.2.1", protocol=UDP, source_port=7, destination_port=9)
    return chain.from_iterable((answered, refused) for _ in range(len(SOURCE_PORTS) // 2))


def _large(flooded: Flooded) -> Iterator[bytes]:
    """Packets as large as an interface takes, of one flow."""
    frame = _from(flooded, "loud", "10.0.2.10", "10.0.1.10", protocol=UDP, destination_port=9, payload=bytes(8_900))
    return repeat(frame, len(SOURCE_PORTS))


def _to_be_cut(flooded: Flooded) -> Iterator[bytes]:
    """The same to the internet, where they leave in seven pieces each."""
    frame = _from(
        *(flooded, "web", "10.0.1.20", "198.51.100.10"),
        protocol=UDP,
        destination_port=9,
        payload=bytes(8_900),
        dont_fragment=False,
    )
    return repeat(frame, len(SOURCE_PORTS))


FLOODS = (
    Flood(
        name="SYNs",
        node="loud",
        frames=_syns,
        fates={PASSED, dropped(Reason.SESSION_LIMIT)},
        causes={Cause.FORWARDED},
        worn=Reason.SESSION_LIMIT,
    ),
    Flood(
        name="SYNs that a victim resets",
        node="example",
        frames=_syns_from_outside,
        fates={PASSED},
        causes={Cause.FORWARDED},
        asked="web",
        answered=True,
    ),
    Flood(
        name="a scan of addresses",
        node="loud",
        frames=_scanned,
        fates={dropped(Reason.DESTINATION_UNKNOWN), dropped(Reason.SESSION_LIMIT)},
        causes=set(),
    ),
    Flood(
        name="connections through NAT",
        node="loud",
        frames=_to_one_destination,
        fates={PASSED, dropped(Reason.SESSION_LIMIT)},
        causes={Cause.FORWARDED},
        worn=Reason.NAT_PORTS_EXHAUSTED,
    ),
    Flood(
        name="flows without sessions",
        node="web",
        frames=_untracked,
        fates={PASSED},
        causes={Cause.FORWARDED},
    ),
    Flood(
        name="later fragments",
        node="loud",
        frames=_later_pieces,
        fates={HELD, dropped(Reason.FRAGMENT_LIMIT)},
        causes=set(),
    ),
    Flood(
        name="first fragments",
        node="loud",
        frames=_first_pieces,
        fates={PASSED},
        causes={Cause.FORWARDED},
    ),
    Flood(
        name="ARP and neighbour discovery",
        node="loud",
        frames=_neighbours_asked,
        fates={
            ANSWERED,
            dropped(Reason.ARP_UNANSWERED),
            dropped(Reason.ARP_MALFORMED),
            dropped(Reason.ND_UNANSWERED),
        },
        causes={Cause.ANSWER},
    ),
    Flood(
        name="TTLs that end",
        node="loud",
        frames=_out_of_hops,
        fates={dropped(Reason.TTL_EXCEEDED), dropped(Reason.SESSION_LIMIT)},
        causes={Cause.ERROR},
    ),
    Flood(
        name="packets too large",
        node="web",
        frames=_too_large,
        fates={dropped(Reason.MTU_EXCEEDED)},
        causes={Cause.ERROR},
    ),
    Flood(
        name="ICMP errors",
        node="example",
        frames=_errors,
        fates={PASSED, dropped(Reason.NAT_NO_SESSION)},
        causes={Cause.FORWARDED},
    ),
    Flood(
        name="connections that never were",
        node="loud",
        frames=_never_opened,
        fates={dropped(Reason.NAT_NO_SESSION)},
        causes=set(),
        refused=Reason.GROUP_INGRESS,  # a reset about what nobody tracks
    ),
    Flood(
        name="a neighbour's address",
        node="loud",
        frames=_spoofed,
        fates={dropped(Reason.SOURCE_CHECK)},
        causes=set(),
    ),
    Flood(
        name="a hairpin",
        node="loud",
        frames=_hairpin,
        fates={PASSED, dropped(Reason.SESSION_LIMIT)},
        causes={Cause.FORWARDED},
    ),
    Flood(
        name="a loop",
        node="stray",
        frames=_loop,
        fates={dropped(Reason.PLAN_LIMIT), dropped(Reason.SESSION_LIMIT)},
        causes=set(),
    ),
    Flood(
        name="the router itself",
        node="loud",
        frames=_pings,
        fates={ANSWERED, dropped(Reason.NOT_SERVED)},
        causes={Cause.ANSWER},
    ),
    Flood(
        name="large packets",
        node="loud",
        frames=_large,
        fates={PASSED},
        causes={Cause.FORWARDED},
    ),
    Flood(
        name="packets to be cut",
        node="web",
        frames=_to_be_cut,
        fates={PASSED},
        causes={Cause.FRAGMENT},
    ),
)

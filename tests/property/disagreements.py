"""Where the two engines are known to disagree, and how to tell: each has a test of its own in `test_disagreements`.

The comparison of an example ends at a known disagreement, because from there on both remember different things. An
entry goes when its disagreement is settled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import event

from dataplane.reference.packets import Packet, read
from dataplane.verdict import Reason

VERSIONS = {b"\x08\x00": 4, b"\x86\xdd": 6}


class IncomparableError(Exception):
    """From here on the engines cannot be compared."""


class Difference(NamedTuple):
    """What came of one frame: outcomes as (verdict, reason, object, rule), or lists of emissions."""

    pair: Any
    port: int
    frame: bytes
    fast: Any
    reference: Any

    @property
    def packet(self) -> Packet | None:
        """The packet in the frame."""
        version = VERSIONS.get(self.frame[12:14])
        packet = read(version, self.frame[14:]) if version else None
        return packet if isinstance(packet, Packet) else None

    @property
    def sender(self) -> str:
        """The interface that sent it."""
        return str(self.pair.fast.names[self.port])

    def reasons(self) -> set[str]:
        """What both say, for outcomes."""
        return {self.fast[1], self.reference[1]} if isinstance(self.fast, tuple) else set()


def packet_that_comes_back_to_its_sender(d: Difference) -> bool:
    if not isinstance(d.fast, tuple) or not d.fast[2] == d.reference[2] == d.sender:
        return False
    return "GROUP_INGRESS" in d.reasons() <= {"NONE", "GROUP_INGRESS", "DESTINATION_CHECK"}


def source_of_an_unattached_interface(d: Difference) -> bool:
    return isinstance(d.fast, tuple) and d.reference[1] == "PUBLIC_SOURCE_MISSING"


def error_about_a_packet_with_extension_headers(d: Difference) -> bool:
    if d.packet is None or d.packet.version != 6:
        return False
    quoted = d.packet.quoted
    if quoted is not None:
        refused = isinstance(d.fast, tuple) and d.fast[1] in ("GROUP_INGRESS", "GROUP_EGRESS")
        return refused and quoted.transport - quoted.at > 40
    return isinstance(d.fast, list) and d.packet.transport > 40 and {e[1] for e in d.reference} == {"ERROR"}


def mac_of_a_nat_gateway_in_another_subnet(d: Difference) -> bool:
    def without_source_mac(emission: Any) -> Any:
        return (*emission[:3], emission[3][:12] + emission[3][24:])

    macs = {gateway.mac for gateway in d.pair.reference.router.inventory.nat_gateways.values()}
    if not isinstance(d.fast, list) or d.frame[:6] not in macs:
        return False
    return [without_source_mac(e) for e in d.fast] == [without_source_mac(e) for e in d.reference]


def echo_reply_with_the_padding_of_its_request(d: Difference) -> bool:
    if not isinstance(d.fast, list) or {e[1] for e in d.fast} != {"ANSWER"} or d.packet is None:
        return False
    size = 2 * (14 + len(d.packet.raw))
    return [(*e[:3], e[3][:size]) for e in d.fast] == d.reference


def quote_cut_short_read_as_ports_of_zero(d: Difference) -> bool:
    quoted = d.packet.quoted if d.packet is not None else None
    passed = isinstance(d.fast, tuple) and d.reference[1] in ("GROUP_INGRESS", "GROUP_EGRESS", "NAT_NO_SESSION")
    return passed and quoted is not None and not quoted.is_identified


def fragments_of_fragments(d: Difference) -> bool:
    causes = {e[1] for e in (*d.fast, *d.reference)} if isinstance(d.fast, list) else set()
    return causes == {"FRAGMENT"} and d.packet is not None and len(d.packet.raw) > 8500


def fragments_released_in_their_own_burst(d: Difference) -> bool:
    if not isinstance(d.fast, list):
        return False
    return [(*e[:2], e[3]) for e in d.fast] == [(*e[:2], e[3]) for e in d.reference]


KNOWN: tuple[Callable[[Difference], bool], ...] = (
    packet_that_comes_back_to_its_sender,
    source_of_an_unattached_interface,
    error_about_a_packet_with_extension_headers,
    mac_of_a_nat_gateway_in_another_subnet,
    echo_reply_with_the_padding_of_its_request,
    quote_cut_short_read_as_ports_of_zero,
    fragments_of_fragments,
    fragments_released_in_their_own_burst,
)


def tolerate(difference: Difference) -> None:
    """End the example when the disagreement is a known one.

    Raises:
        IncomparableError: it is.
    """
    for known in KNOWN:
        if known(difference):
            event(f"known disagreement: {known.__name__}")
            raise IncomparableError(known.__name__)


def tolerate_memories(fast: list[Any], reference: list[Any], reasons: set[Reason]) -> None:
    """End the example when what only one engine remembers is a known disagreement: lists of (kind, owner, protocol...).

    Raises:
        IncomparableError: it is.
    """
    known = ""
    if not reference and any(reason.name.startswith("NAT_") for reason in reasons):
        known = "flow tracked by a NAT gateway that drops it"
    elif {row[2] for row in (*fast, *reference)} == {6} and {row[-1] for row in fast} == {"open"}:
        known = "TCP without acknowledgements is established"
    elif not fast and {row[2] for row in reference} <= {1, 58}:
        known = "ICMP messages that are no queries are not tracked"
    if known:
        event(f"known disagreement: {known}")
        raise IncomparableError(known)


def tolerate_drops(fast: dict[int, dict[Reason, int]], reference: dict[int, dict[Reason, int]]) -> None:
    """The reference engine does not count what it dropped of fragments that had waited.

    Raises:
        IncomparableError: that is all there is between them.
    """
    if fast == reference:
        return
    for port, reasons in reference.items():
        if any(fast.get(port, {}).get(reason, 0) < count for reason, count in reasons.items()):
            return
    raise IncomparableError("drops of fragments that had waited")

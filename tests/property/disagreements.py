"""Where the two engines are known to disagree, and how to tell: each has a test of its own in `test_disagreements`.

The comparison of an example ends at a known disagreement, because from there on both remember different things. An
entry goes when its disagreement is settled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import currently_in_test_context, event

from dataplane.reference import InadmissibleChoiceError
from dataplane.reference.balanced_flows import reduced
from dataplane.reference.packets import Packet, read
from tests.property.geneve_frames import as_received, is_geneve

VERSIONS = {b"\x08\x00": 4, b"\x86\xdd": 6}


class IncomparableError(Exception):
    """From here on the engines cannot be compared."""


def _packets(frame: bytes) -> list[Packet]:
    """The packet in a frame, and what is in that one in turn."""
    found = []
    while frame[12:14] in VERSIONS:
        packet = read(VERSIONS[frame[12:14]], frame[14:])
        found += [packet] if isinstance(packet, Packet) else []
        frame = as_received(frame) if is_geneve(frame) else b""
    return found


def _ends(packets: list[Packet]) -> set[tuple[int, int]]:
    """Address and port of both ends of the flows that packets are of, or about."""
    flows = [packet.flow if packet.quoted is None else packet.quoted.flow for packet in packets]
    ends = {(int(flow.source), flow.source_port) for flow in flows}
    return ends | {(int(flow.destination), flow.destination_port) for flow in flows}


class Difference(NamedTuple):
    """What came of one frame: outcomes as (verdict, reason, object, rule), or lists of emissions.

    Or, of no frame: what is remembered, as counters of sessions, or what time has brought, as sorted emissions.
    Or nothing of the fast engine, and why the reference engine cannot adopt what it chose.
    """

    pair: Any
    port: int
    frame: bytes
    fast: Any
    reference: Any

    @property
    def packets(self) -> list[Packet]:
        """The packet in the frame, and what is in that one in turn."""
        return _packets(self.frame)

    @property
    def left(self) -> list[Packet]:
        """The packets that left in the fast engine, where emissions differ."""
        emitted = [bytes.fromhex(emission[3]) for emission in self.fast] if isinstance(self.fast, list) else []
        return [packet for frame in emitted for packet in _packets(frame)]

    @property
    def sender(self) -> str:
        """The interface that sent it."""
        return str(self.pair.fast.names[self.port])

    def reasons(self) -> set[str]:
        """What both say, for outcomes."""
        return {self.fast[1], self.reference[1]} if isinstance(self.fast, tuple) else set()


def port_that_nobody_has_seen(difference: Difference) -> bool:
    """A guess met the port that a NAT gateway of one engine chose for a packet that died before anybody saw it.

    No disagreement: AWS leaves the choice open, and the reference engine adopts what it can see.
    """
    fast, reference = difference.pair.chosen_ports()
    return bool(_ends(difference.packets) & (fast ^ reference))


def port_between_two_gateways(difference: Difference) -> bool:
    """An answer shows the port that a NAT gateway chose for what another one translated again, before anybody saw it.

    No disagreement, for the same reason: what left the second gateway showed the second one's port.
    """
    fast, reference = difference.pair.chosen_ports()
    return bool(_ends(difference.left) & (fast - reference))


def port_that_a_later_fragment_hides(difference: Difference) -> bool:
    """The first packet of a flow to get through a NAT gateway was a later fragment, which shows no port to adopt.

    No disagreement either: its first fragment died before, at a rule that has changed since.
    """
    fast, reference = difference.pair.chosen_ports()
    return fast != reference and any(packet.is_later_fragment for packet in difference.packets)


def port_that_shows_late(difference: Difference) -> bool:
    """The first packet of a flow to get through a NAT gateway, and seen, is not the first that a later hop remembers.

    That one had died behind both, and what it left there has the port that the reference engine would have chosen.
    """
    fast, reference = difference.pair.chosen_ports()
    if fast == reference or not isinstance(difference.fast, tuple):
        return False
    traces = (difference.fast[4], difference.reference[4])
    return all(any(o.startswith("nat-gateway ") and a == "translate" for o, a, _ in trace) for trace in traces)


def port_that_a_later_hop_had_remembered(difference: Difference) -> bool:
    """As before, but the later packet fares alike: what a later hop remembers of the first one is left over.

    Besides that, both remember the same.
    """
    return isinstance(difference.fast, Counter) and difference.fast == difference.pair.remembered_but_for_stand_ins()


def target_for_an_address_that_nobody_has_seen(difference: Difference) -> bool:
    """A packet that died had got a target that its flow may not have, with the address that stands in for the real one.

    A NAT gateway with several addresses chose one, the endpoint behind it a target by that address, as is said of the
    packet; but nobody saw it. No disagreement, for the same reason.
    """
    if not isinstance(difference.reference, InadmissibleChoiceError):
        return False
    fast, reference = difference.pair.chosen_ports()
    flow = difference.reference.flow
    ends = {(int(flow.source), flow.source_port), (int(flow.destination), flow.destination_port)}
    return bool(ends & (reference - fast))


def cookie_of_an_end_that_nobody_has_seen(difference: Difference) -> bool:
    """A cookie seems to be another flow's: the same one's, from when a port or address stood in for the real one.

    The first packet of the flow to get through a NAT gateway and the endpoint behind it was a later fragment, which
    shows the cookie, and no port. No disagreement, for the same reason.
    """
    if not isinstance(difference.reference, InadmissibleChoiceError):
        return False
    fast, reference = difference.pair.chosen_ports()
    wanted, refused = difference.reference.flow, str(difference.reference)
    held = [each.flow for _, each in difference.pair.reference.router.balancers.all(difference.pair.now)]
    return any(
        each.protocol == wanted.protocol
        and refused.startswith("cookie ")
        and f"which {each} has" in refused
        and (int(each.source), each.source_port) in reference - fast
        and (each.destination, each.destination_port) == (wanted.destination, wanted.destination_port)
        for each in held
    )


def sticky_flows_that_have_parted(difference: Difference) -> bool:
    """Flows that stickiness keeps together had different targets, and one of them gets another target.

    They part when their target fails and is well again: those move that have a packet meanwhile. Whom does the next one
    follow, when one of their targets keeps its flows and its own does not? The reference engine says: the flow on that
    target. The fast engine says: the one that was moved last, and if that one's target keeps none either, the target is
    chosen anew.
    AWS says nothing of it.
    """
    if not isinstance(difference.reference, InadmissibleChoiceError):
        return False
    pair, wanted, refused = difference.pair, difference.reference.flow, str(difference.reference)
    for endpoint in pair.reference.router.inventory.endpoints.values():
        together = None if endpoint.node is None else reduced(wanted, endpoint.node.stickiness)
        if together is not None:
            held = {
                target
                for number, flow, target in pair.targets
                if number == endpoint.number and reduced(flow, endpoint.node.stickiness) == together
            }
            if len(held) > 1 and refused.startswith("target "):
                return True
    return False


KNOWN: tuple[Callable[[Difference], bool], ...] = (
    port_that_nobody_has_seen,
    port_between_two_gateways,
    port_that_a_later_fragment_hides,
    port_that_shows_late,
    port_that_a_later_hop_had_remembered,
    target_for_an_address_that_nobody_has_seen,
    cookie_of_an_end_that_nobody_has_seen,
    sticky_flows_that_have_parted,
)


def tolerate(difference: Difference) -> None:
    """End the example when the disagreement is a known one.

    Raises:
        IncomparableError: it is.
    """
    for known in KNOWN:
        if known(difference):
            if currently_in_test_context():
                event(f"known disagreement: {known.__name__}")
            raise IncomparableError(known.__name__)

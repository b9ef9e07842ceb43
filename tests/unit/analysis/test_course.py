"""How far a probe came, as frames are told one by one. The fast engine decides here."""

from __future__ import annotations

from dataclasses import replace

from dataplane.analysis.course import Course, Found
from dataplane.analysis.headers import forwarded, read_headers
from dataplane.analysis.judge import judge
from dataplane.engine import DataPlane, Emission
from dataplane.probe import Probe, read_probe
from tests.unit.analysis.claims import example, names, the_result

PORT = 41000
RESET = 0x14
"""RST and ACK (RFC 9293, 3.1)."""


class Played:
    """One check of an example, whose frames a test sends."""

    def __init__(self, lab: str, check: str) -> None:
        self.topology = example(lab, check)
        self.plane = DataPlane(self.topology)
        self.resolved = self.topology.lab.checks[0].resolve(self.topology)
        self.course = Course(self.topology, self.plane.names, self.resolved, PORT, self.topology.own_addresses)

    def send(self, probe: Probe, interface: str) -> list[Emission]:
        port = self.plane.port(interface)
        return self.receive(self.plane.frame(port, probe), port)

    def receive(self, frame: bytes, port: int) -> list[Emission]:
        [outcome], left = self.plane.process([frame], [port], 1000, traced=True)
        self.course.see(port, frame, outcome, left, read_headers(frame))
        return left

    def first(self, source_port: int = PORT, destination_port: int | None = None) -> Probe:
        r = self.resolved
        return Probe(
            source=r.source,
            destination=r.destination,
            protocol=r.protocol,
            source_port=source_port,
            destination_port=r.port if destination_port is None else destination_port,
        )

    @property
    def found(self) -> Found:
        return self.course.found

    def why(self) -> str:
        result = judge(1, self.course)
        assert result.holds is False, "what nobody decided proves neither"
        return result.why


def test_nothing_was_sent() -> None:
    played = Played("quickstart", "cannot: app -> web, protocol: icmp")
    played.course.trouble = "Network is unreachable"
    assert played.found is Found.UNSENT
    assert played.why() == "not proven: it was never sent (Network is unreachable)"


def test_it_arrived_and_nobody_answered() -> None:
    played = Played("quickstart", "cannot: app -> example, port: 80")
    played.send(played.first(), "app/eth0")
    assert (played.found, played.course.source_seen) == (Found.ARRIVED, "203.0.113.10")
    assert played.why() == "not proven: it arrived at interface example/eth0, and no answer came"


def test_what_is_sent_again_is_told_once() -> None:
    played = Played("quickstart", "cannot: app -> example, port: 80")
    for _ in range(3):
        played.send(played.first(), "app/eth0")
    assert [leg.packet for leg in played.course.legs] == ["tcp 10.0.2.10:41000 > 198.51.100.10:80"]
    assert played.found is Found.ARRIVED


def test_an_instance_on_the_way_swallowed_it() -> None:
    played = Played("inspection", "cannot: customer -> web, port: 8080")
    played.send(played.first(), "customer/eth0")
    assert played.found is Found.LOST
    assert played.why() == "not proven: it arrived at interface fw/eth0, which did not send it on"


def test_an_instance_on_the_way_swallowed_the_answer() -> None:
    played = Played("inspection", "cannot: customer -> web, port: 80")
    [inspected] = played.send(played.first(), "customer/eth0")
    fw = played.plane.port("fw/eth0")
    mac, destination = played.plane.interface(fw).mac, read_probe(inspected.frame).destination
    [arrived] = played.receive(forwarded(inspected.frame, mac, played.plane.next_mac(fw, destination)), fw)
    played.send(read_probe(arrived.frame).answer(), "web/eth0")
    played.course.trouble = "timed out"
    assert played.found is Found.LOST
    assert played.why() == ("not proven: the answer arrived at interface fw/eth0, which did not send it on (timed out)")


def test_an_answer_that_was_made_in_its_place_is_one() -> None:
    played = Played("quickstart", "can: app -> web, protocol: icmp")
    [arrived] = played.send(played.first(), "app/eth0")
    played.course.trouble = "timed out"
    assert played.why() == "it arrived at interface web/eth0, and no answer came (timed out)"
    played.send(read_probe(arrived.frame).answer(), "web/eth0")
    played.course.stand_in = True
    assert judge(1, played.course).why == "answered, in place of a program that did not"


def test_who_answers_for_others_behind_it_does_so_in_nobody_s_place() -> None:
    """An appliance may have networks of its own behind it, which the lab knows nothing of."""
    played = Played("inspection", "can: web -> 198.51.100.200, port: 80")
    [inspected] = played.send(played.first(), "web/eth0")
    assert played.course.names[inspected.port].path == "fw/eth0"
    played.send(read_probe(inspected.frame).answer(), "fw/eth0")
    assert (played.found, played.course.answered_instead) == (Found.ANSWERED, None)


def test_an_appliance_that_answers_in_its_place() -> None:
    """What it was sent to has an owner, who never got it, though nobody here has that very address: it is public."""
    played = Played("inspection", "cannot: customer -> web, port: 8080")
    [inspected] = played.send(played.first(), "customer/eth0")
    played.send(read_probe(inspected.frame).answer(), "fw/eth0")
    assert played.found is Found.LOST
    assert played.why() == "not proven: it never arrived: interface fw/eth0 answered in its place"


def test_an_appliance_that_refuses_in_its_place() -> None:
    """Its reset does not say that the way is open, and that nobody listens at the end of it."""
    played = Played("inspection", "cannot: customer -> web, port: 8080")
    [inspected] = played.send(played.first(), "customer/eth0")
    played.send(replace(read_probe(inspected.frame).answer(), tcp_flags=RESET), "fw/eth0")
    assert (played.found, judge(1, played.course).refused) == (Found.LOST, False)


def test_the_answer_is_followed_back_through_translation() -> None:
    played = Played("quickstart", "can: app -> example, port: 80")
    [arrived] = played.send(played.first(), "app/eth0")
    assert not played.course.is_decided
    played.send(read_probe(arrived.frame).answer(), "example/eth0")
    assert played.found is Found.ANSWERED
    assert judge(1, played.course).why == "answered, seen as 203.0.113.10"


def test_what_is_sent_again_after_the_answer_is_no_answer() -> None:
    played = Played("quickstart", "can: app -> example, port: 80")
    [arrived] = played.send(played.first(), "app/eth0")
    played.send(read_probe(arrived.frame).answer(), "example/eth0")
    played.send(played.first(), "app/eth0")
    assert [leg.is_answer for leg in played.course.legs] == [False, True]


def test_who_sends_it_once_more_is_no_instance_on_the_way() -> None:
    """The first one dies of its TTL, so that the second has another end and is told, too."""
    played = Played("quickstart", "can: app -> example, port: 80")
    played.send(replace(played.first(), ttl=1), "app/eth0")
    played.send(played.first(), "app/eth0")
    assert [str(leg.sender) for leg in played.course.legs] == ["interface app/eth0"] * 2
    assert not [each for each in judge(1, played.course).passed if each.startswith("instance:")]


def test_an_error_that_a_router_sends_is_not_the_packet_that_it_is_about() -> None:
    """A NAT gateway carries 8500 bytes, and says so to the sender: nobody has seen the packet for that."""
    result = the_result("quickstart", "cannot: app -> example, protocol: udp, port: 53, packet_size: 8600")
    assert result.holds
    assert names(result)["reason"] == "MTU_EXCEEDED"
    [leg] = result.legs
    assert (leg.receiver, leg.received, result.source_seen) == (None, "", "")


def test_a_reset_is_an_answer() -> None:
    played = Played("quickstart", "can: app -> example, port: 81")
    [arrived] = played.send(played.first(), "app/eth0")
    played.send(replace(read_probe(arrived.frame).answer(), tcp_flags=RESET), "example/eth0")
    result = judge(1, played.course)
    assert (result.why, result.refused) == ("answered, by a reset: nobody listens, seen as 203.0.113.10", True)


def test_packets_of_others_say_nothing() -> None:
    """One port beside, and what is no packet: none of them is ours, though all die."""
    played = Played("quickstart", "cannot: visitor -> web, port: 22")
    played.send(played.first(source_port=PORT + 1), "visitor/eth0")
    played.send(played.first(destination_port=23), "visitor/eth0")
    played.receive(b"\xff" * 60, played.plane.port("visitor/eth0"))
    assert (played.found, played.course.legs) == (Found.UNSENT, [])
    played.send(played.first(), "visitor/eth0")
    assert played.found is Found.BLOCKED


def test_a_neighbour_that_nobody_is() -> None:
    played = Played("quickstart", "cannot: app -> 10.0.2.99, port: 80")
    port = played.plane.port("app/eth0")
    interface = played.plane.interface(port)
    arp = b"\0\1\x08\0\6\4\0\1" + interface.mac + played.resolved.source.packed + bytes(6)
    head = b"\xff" * 6 + interface.mac + b"\x08\x06"
    played.receive(head + arp + bytes([10, 0, 2, 98]), port)
    assert played.course.legs == [], "it asked for somebody else"
    played.receive(head + arp + played.resolved.destination.packed, port)
    assert played.found is Found.BLOCKED
    assert "nobody in this subnet has the address" in judge(1, played.course).why


def test_what_another_node_asks_for_is_no_question_of_the_sender() -> None:
    """web looks for the same address that app's probe, which nobody has sent yet, is for."""
    played = Played("quickstart", "cannot: app -> 10.0.1.99, port: 80")
    port = played.plane.port("web/eth0")
    mac = played.plane.interface(port).mac
    arp = b"\0\1\x08\0\6\4\0\1" + mac + bytes([10, 0, 1, 10]) + bytes(6) + bytes([10, 0, 1, 99])
    played.receive(b"\xff" * 6 + mac + b"\x08\x06" + arp, port)
    assert (played.found, played.course.legs) == (Found.UNSENT, [])

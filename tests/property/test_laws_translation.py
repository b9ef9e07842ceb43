"""Laws of translation: there and back is where it was, and checksums stay as right or as wrong as they were."""

from __future__ import annotations

import copy
import struct
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP

from tests.property.histories import Case, Network, dense_cases
from tests.property.strategies import HOSTS, NAT_PUBLIC, PORTS
from tests.property.test_laws import came_up
from tests.property.test_memo import TYPES, internet_sum, swap_ends
from tests.scenario.labs import SHOP
from tests.scenario.network import Network as Scenario

OUTSIDE = HOSTS["example"][0]
SUM_AT = {6: 16, 17: 6, 1: 2}
"""Where the checksum is in TCP, UDP and ICMP."""


# -- there and back


def behind_nat(lab: dict[str, Any]) -> dict[str, Any]:
    """The lab with its private subnet behind the NAT gateway and nothing in the way."""
    other = copy.deepcopy(lab)
    shop = other["vpcs"]["shop"]
    shop["route_tables"]["private"]["routes"] = [{"destination": "0.0.0.0/0", "target": "nat-gateway:nat"}]
    for subnet in shop["subnets"].values():
        subnet.pop("network_acl", None)
    for name in ("one", "two", "open"):
        shop["security_groups"][name].pop("egress", None)
    return other


def inside_of(packet: bytes) -> tuple[bytes, bytes, bytes, int]:
    """Source, destination, and the transport payload and ports of an IPv4 packet without options."""
    return packet[12:16], packet[16:20], packet[20:], packet[9]


def test_translation_and_back_is_the_identity_on_ends_and_payload() -> None:
    seen: Counter[str] = Counter()

    @given(case=dense_cases, data=st.data())
    def law(case: Case, data: st.DataObject) -> None:
        network = Network(behind_nat(case.lab))
        for _ in range(6):
            node, own = data.draw(st.sampled_from([("c", "10.0.2.10"), ("d", "10.0.2.11")]))
            ports = {"sport": data.draw(st.sampled_from(PORTS)), "dport": data.draw(st.sampled_from(PORTS))}
            body = data.draw(st.binary(max_size=9))
            upper: Any = data.draw(
                st.sampled_from(
                    [TCP(**ports, flags="S"), UDP(**ports), UDP(**ports, chksum=0), ICMP(id=ports["sport"])]
                )
            )
            sent = bytes(IP(src=own, dst=OUTSIDE) / upper / body)
            _, [(_, _, _, frame)] = network.send(f"{node}/eth0", TYPES[4] + sent)
            assert IP(frame[14:]).src == NAT_PUBLIC
            answer = swap_ends(frame)
            outcomes, emissions = network.send("example/eth0", answer)
            assert outcomes[0][0] == "FORWARD", outcomes
            [(receiver, _, _, back)] = emissions
            assert receiver == f"interface {node}/eth0"
            # What it would have got had the host answered the packet as it was sent.
            expected = swap_ends(bytes(12) + TYPES[4] + sent)[2:]
            assert inside_of(back[14:])[:2] == inside_of(expected)[:2]
            assert without_sum(back[14:]) == without_sum(expected)
            seen["answered"] += 1
            # An error about it names, inside, the packet as it was sent.
            complaint = IP(src=OUTSIDE, dst=NAT_PUBLIC) / ICMP(type=3, code=3) / frame[14:42]
            outcomes, emissions = network.send("example/eth0", TYPES[4] + bytes(complaint))
            assert outcomes[0][0] == "FORWARD", outcomes
            quoted = emissions[0][3][14 + 28 :]
            assert quoted[12:20] == sent[12:20]
            assert quoted[20:24] == sent[20:24] if sent[9] != 1 else quoted[24:26] == sent[24:26]
            assert internet_sum(emissions[0][3][34:]) == 0, "the sum over a right ICMP message is all ones"
            seen["complained"] += 1

    law()
    came_up(seen, "answered", "complained")


def without_sum(packet: bytes) -> bytes:
    """Transport header and payload without the checksum."""
    at = 20 + SUM_AT[packet[9]]
    return packet[20:at] + packet[at + 2 :]


# -- checksums


def folded(packet: bytes) -> int:
    """What a receiver computes over an IPv4 packet's transport part: 0 when its checksum is right (RFC 1071)."""
    pseudo = b"" if packet[9] == 1 else packet[12:20] + struct.pack(">HH", packet[9], len(packet) - 20)
    return internet_sum(pseudo + packet[20:]) % 0xFFFF


def with_sum(packet: bytes, value: int) -> bytes:
    at = 20 + SUM_AT[packet[9]]
    return packet[:at] + struct.pack(">H", value) + packet[at + 2 :]


def sum_of(packet: bytes) -> int:
    at = 20 + SUM_AT[packet[9]]
    return int.from_bytes(packet[at : at + 2], "big")


def packet_of(data: st.DataObject, source: str, body: bytes) -> bytes:
    ports = {"sport": data.draw(st.sampled_from(PORTS)), "dport": data.draw(st.sampled_from(PORTS))}
    upper: Any = data.draw(st.sampled_from([TCP(**ports, flags="S"), UDP(**ports), ICMP(id=ports["sport"])]))
    return bytes(IP(src=source, dst=OUTSIDE) / upper / body)


WAYS = {"open": "10.0.2.11", "web": "10.0.1.10"}
"""Through the NAT gateway (address and port change) and through the internet gateway alone (only the address)."""


def shop() -> Scenario:
    return Scenario(SHOP, engine="fast")


def through(network: Scenario, node: str, packet: bytes) -> bytes:
    """The packet as the host outside gets it."""
    port = network.port(node)
    interface = network.plane.interface(port)
    frame = interface.router_mac + interface.mac + TYPES[4] + packet
    _, [emission] = network.plane.process([frame], [port], network.now)
    out: bytes = emission.frame[14:]
    assert internet_sum(out[:20]) == 0, "the header checksum is what recomputing gives"
    return out


@given(way=st.sampled_from(sorted(WAYS)), body=st.binary(max_size=40), wrong=st.sampled_from([0, 1, 0x8000, 0xFFFE]),
       data=st.data())  # fmt: skip
def test_a_checksum_stays_right_and_a_wrong_one_stays_wrong_by_as_much(
    way: str, body: bytes, wrong: int, data: st.DataObject
) -> None:
    network = shop()
    sent = packet_of(data, WAYS[way], body)
    value = sum_of(sent) + wrong
    sent = with_sum(sent, (value & 0xFFFF) + (value >> 16) or 0xFFFF)
    got = through(network, way, sent)
    assert got[12:16] != sent[12:16], "it was translated"
    assert folded(got) == folded(sent)
    if wrong == 0:
        assert folded(got) == 0
    assert got[28:] == sent[28:] if sent[9] != 6 else got[36 + 2 :] == sent[36 + 2 :]


@given(way=st.sampled_from(sorted(WAYS)), body=st.binary(max_size=40), data=st.data())
def test_a_udp_datagram_without_checksum_has_none_after_it(way: str, body: bytes, data: st.DataObject) -> None:
    ports = {"sport": data.draw(st.sampled_from(PORTS)), "dport": data.draw(st.sampled_from(PORTS))}
    sent = bytes(IP(src=WAYS[way], dst=OUTSIDE) / UDP(**ports, chksum=0) / body)
    got = through(shop(), way, sent)
    assert got[12:16] != sent[12:16]
    assert sum_of(got) == 0
    assert got[28:] == sent[28:]


@given(way=st.sampled_from(sorted(WAYS)), body=st.binary(max_size=20).filter(lambda b: len(b) % 2 == 0),
       data=st.data())  # fmt: skip
def test_a_udp_checksum_that_comes_out_as_zero_is_written_as_ones(way: str, body: bytes, data: st.DataObject) -> None:
    """RFC 768: zero says that there is none. The last two bytes are chosen so that the new sum is zero."""
    ports = {"sport": data.draw(st.sampled_from(PORTS)), "dport": data.draw(st.sampled_from(PORTS))}

    def datagram(last: int) -> bytes:
        return bytes(IP(src=WAYS[way], dst=OUTSIDE) / UDP(**ports) / (body + struct.pack(">H", last)))

    network = shop()
    told = through(network, way, datagram(0))
    # A sum of c with 0 as the last word becomes 0xFFFF, all ones before it is complemented to 0, with c as that word.
    got = through(network, way, datagram(sum_of(told)))
    assert got[20:22] == told[20:22], "the flow kept its port"
    assert sum_of(got) == 0xFFFF
    assert folded(got) == 0


def test_the_lab_takes_both_ways() -> None:
    packet = bytes(IP(src=WAYS["open"], dst=OUTSIDE) / UDP(sport=5000, dport=53))
    assert IP(through(shop(), "open", packet)).src == NAT_PUBLIC
    packet = bytes(IP(src=WAYS["web"], dst=OUTSIDE) / UDP(sport=5000, dport=53))
    assert IP(through(shop(), "web", packet)).src == "203.0.113.20"

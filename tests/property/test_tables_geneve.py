"""GENEVE as read and written by the fast engine, beside scapy's; segments beside those that a kernel would make."""

from __future__ import annotations

import copy
import struct
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.contrib.geneve import GENEVE, GeneveOptions
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from dataplane.engine import DataPlane
from dataplane.verdict import Reason, Verdict
from tests.property.fresh import part
from tests.property.geneve_frames import bounce, headed, inside, is_as_sent, is_geneve, options_of, rebuilt
from tests.property.quick_load import topology_of
from tests.property.tampering import UNKNOWN
from tests.property.test_laws_balancers import INSPECTED
from tests.property.test_memo import TYPES, internet_sum
from tests.scenario.gwlb import APP, APP6, DB, DB6, ENDPOINT_ID

AMAZON, ENDPOINT, ATTACHMENT, COOKIE = 0x0108, 1, 2, 3
MTU = 8500
TCP4, TCP6, CONGESTION = 1, 4, 0x80
"""Kinds of segments in a virtio header."""


class Lab:
    """A flow from app to db through an endpoint, with one appliance."""

    def __init__(self, version: int = 4, body: bytes = b"hello") -> None:
        lab = copy.deepcopy(INSPECTED)
        lab["vpcs"]["security"]["target_groups"]["fleet"]["targets"] = ["fw1"]
        self.plane = DataPlane(topology_of(lab), sessions=4096, flows=256)
        self.version = version
        if version == 4:
            opener: Any = IP(src=APP, dst=DB, id=7) / UDP(sport=5, dport=6) / body
        else:
            opener = IPv6(src=APP6, dst=DB6) / UDP(sport=5, dport=6) / body
        self.opener = bytes(opener)

    def send(self, node: str, packet: bytes, offload: bytes | None = None) -> tuple[Any, list[Any]]:
        """Verdict and emissions of EtherType and packet."""
        port = self.plane.port(node)
        interface = self.plane.interface(port)
        frame = interface.router_mac + interface.mac + packet
        [outcome], emissions = self.plane.process([frame], [port], 1_000, [offload])
        return outcome, emissions

    def tunnelled(self) -> bytes:
        """The frame in which a target gets the first packet of the flow."""
        outcome, [emission] = self.send("app/eth0", TYPES[self.version] + self.opener)
        assert outcome.verdict is Verdict.FORWARD, outcome
        return bytes(emission.frame)


def test_what_an_appliance_has_changed_is_told_from_what_it_was_sent() -> None:
    """A changed packet may come to another appliance, for which it was none."""
    frame = Lab().tunnelled()
    assert is_as_sent(frame)
    message, options = frame[42:], options_of(frame[42:])
    for changed in ([], options[:2], [*options, options[0]], options[::-1], [options[0][:3] + b"\0", *options]):
        assert not is_as_sent(frame[:42] + rebuilt(message, changed))


@given(version=st.sampled_from([4, 6]), size=st.integers(0, 8400))
def test_what_is_written_is_what_scapy_reads(version: int, size: int) -> None:
    lab = Lab(version, bytes(size))
    packet = IP(lab.tunnelled()[14:])
    assert (packet.ttl, packet.tos, packet.id, packet.flags.value, packet.frag) == (255, 0, 0, 0, 0)
    assert 49152 <= packet[UDP].sport <= 65535
    assert packet[UDP].dport == 6081
    again = packet.copy()
    del again.len, again.chksum, again[UDP].len, again[UDP].chksum
    assert bytes(again) == bytes(packet), "lengths and checksums are as scapy works them out"
    assert packet[UDP].chksum != 0
    geneve = packet[GENEVE]
    assert (geneve.version, geneve.optionlen, geneve.oam, geneve.critical, geneve.vni) == (0, 8, 0, 0, 0)
    assert geneve.proto == (0x0800 if version == 4 else 0x86DD)
    found = [(option.classid, option.type, option.length, bytes(option.data)) for option in geneve.options]
    assert found[0] == (AMAZON, ENDPOINT, 2, ENDPOINT_ID)
    assert found[1] == (AMAZON, ATTACHMENT, 2, bytes(8))
    assert found[2][:3] == (AMAZON, COOKIE, 1)
    assert len(found) == 3
    carried = bytearray(lab.opener)
    carried[8 if version == 4 else 7] -= 1
    if version == 4:
        carried[10:12] = b"\0\0"
        carried[10:12] = struct.pack(">H", internet_sum(bytes(carried[:20])))
    assert bytes(packet)[68:] == bytes(carried)


@st.composite
def messages(draw: st.DrawFn, cookie: int, packet: bytes) -> bytes:
    """What stands behind the UDP header: an appliance's answer, mostly with something else about it."""

    def option(kind: int, data: bytes, **more: Any) -> Any:
        return GeneveOptions(classid=AMAZON, type=kind, data=data, **more)

    number = cookie ^ draw(st.sampled_from([0, 0, 0, 1]))
    endpoint = ENDPOINT_ID if draw(st.integers(0, 4)) else bytes(8)
    known = [option(ENDPOINT, endpoint), option(ATTACHMENT, bytes(8)), option(COOKIE, number.to_bytes(4))]
    options = [bytes(each) for each in draw(st.permutations(known)) if draw(st.integers(0, 5))]
    for _ in range(draw(st.integers(0, 2))):
        options.insert(draw(st.integers(0, len(options))), draw(st.sampled_from([*UNKNOWN, *map(bytes, known)])))
    if draw(st.integers(0, 7)) == 0:
        options.append(draw(st.binary(min_size=4, max_size=4)))
    words = b"".join(options)
    head = GENEVE(
        version=draw(st.sampled_from([0, 0, 0, 0, 0, 1, 2, 3])),
        optionlen=draw(st.sampled_from([len(words) // 4] * 9 + [len(words) // 4 + 1, 0, 63])),
        oam=draw(st.integers(0, 1)),
        critical=draw(st.integers(0, 1)),
        reserved=draw(st.integers(0, 63)),
        vni=draw(st.sampled_from([0, 0xABCDEF])),
        proto=draw(st.sampled_from([0x0800] * 7 + [0x6558, 0x86DD, 0])),
    )
    raw = bytes(head)[:8] + words + packet
    return raw[: draw(st.integers(0, len(raw)))] if draw(st.integers(0, 9)) == 0 else raw


def read(message: bytes, cookie: int) -> Reason:
    """What is wrong with a message, worked out anew from RFC 8926, section 3.4 and 3.5."""
    if len(message) < 8:
        return Reason.GENEVE_MALFORMED
    version, words, kind = message[0] >> 6, message[0] & 63, int.from_bytes(message[2:4])
    options, packet = message[8 : 8 + 4 * words], message[8 + 4 * words :]
    if version or kind not in (0x0800, 0x86DD) or len(options) < 4 * words:
        return Reason.GENEVE_MALFORMED
    said: dict[int, bytes] = {}
    while options:
        size = 4 * (options[3] & 31) if len(options) >= 4 else 0
        if len(options) < 4 + size:
            return Reason.GENEVE_MALFORMED
        if (int.from_bytes(options[:2]), options[2], size) in ((AMAZON, ENDPOINT, 8), (AMAZON, COOKIE, 4)):
            said.setdefault(options[2], options[4 : 4 + size])
        options = options[4 + size :]
    if not packet or packet[0] >> 4 != (4 if kind == 0x0800 else 6) or len(packet) < int.from_bytes(packet[2:4]):
        return Reason.GENEVE_MALFORMED
    if len(packet) < 28:
        return Reason.GENEVE_MALFORMED
    if set(said) != {ENDPOINT, COOKIE}:
        return Reason.GENEVE_OPTIONS_MISSING
    is_known = said[ENDPOINT] == ENDPOINT_ID and int.from_bytes(said[COOKIE]) == cookie
    return Reason.NONE if is_known else Reason.GENEVE_COOKIE_UNKNOWN


@given(data=st.data())
def test_what_comes_back_is_read_as_the_rfc_says(data: st.DataObject) -> None:
    lab = Lab()
    frame = lab.tunnelled()
    cookie, raw = int.from_bytes(frame[14 + 64 : 14 + 68]), frame[14:]
    message = data.draw(messages(cookie, inside(frame)))
    datagram = raw[20:24] + (8 + len(message)).to_bytes(2) + b"\0\0" + message
    outcome, emissions = lab.send("fw1/eth0", TYPES[4] + headed(raw[16:20], raw[12:16], datagram))
    assert outcome.reason == read(message, cookie), message.hex()
    assert len(emissions) == (outcome.reason is Reason.NONE)


# -- segments


def partial(packet: Any) -> bytes:
    """A TCP packet whose checksum is left to hardware: only the pseudo-header is summed up (virtio, 5.1.6.2)."""
    raw = bytearray(bytes(packet))
    at, ends = (20, raw[12:20]) if packet.version == 4 else (40, raw[8:40])
    pseudo = bytes(ends) + struct.pack(">HH", 6, len(raw) - at)
    raw[at + 16 : at + 18] = struct.pack(">H", ~internet_sum(pseudo) & 0xFFFF)
    return bytes(raw)


def segments(packet: Any, size: int) -> list[bytes]:
    """The packets that a kernel sends for one: sequence numbers go on, so do identifications of IPv4.

    FIN and PSH are of the last segment, CWR of the first (Linux: tcp_gso_segment). Sums are scapy's.
    """
    body, found = bytes(packet[TCP].payload), []
    for number, start in enumerate(range(0, len(body), size)):
        part_of_it = body[start : start + size]
        one = packet.copy()
        one[TCP].remove_payload()
        one = one / Raw(part_of_it)
        one[TCP].seq = (packet[TCP].seq + start) % 2**32
        flags = int(packet[TCP].flags)
        if start:
            flags &= ~0x80
        if start + size < len(body):
            flags &= ~0x09
        one[TCP].flags = flags
        del one[TCP].chksum
        if one.version == 4:
            one.id = (packet.id + number) % 2**16
            one.ttl -= 1
            del one.len, one.chksum
        else:
            one.hlim -= 1
            del one.plen
        found.append(bytes(one))
    return found


@settings(max_examples=part(2))
@given(
    version=st.sampled_from([4, 6]),
    length=st.sampled_from([1, 1459, 1460, 1461, 8460, 8461, 20_000, 64_000, 65_483]),
    size=st.sampled_from([536, 1440, 1460, 8440, 8460, 8461, 8961]),
    flags=st.sampled_from(["A", "PA", "FPA", "CPA", "CEFPA"]),
    seq=st.sampled_from([0, 1, 2**32 - 1, 2**32 - 30_000]),
    number=st.sampled_from([0, 1, 65_535, 65_530]),
)
def test_what_was_left_to_hardware_leaves_in_right_segments(
    version: int, length: int, size: int, flags: str, seq: int, number: int
) -> None:
    """Each in a GENEVE packet of its own, and none larger than an endpoint takes."""
    lab = Lab(version)
    head: Any = IP(src=APP, dst=DB, id=number, flags="DF") if version == 4 else IPv6(src=APP6, dst=DB6, fl=5)
    headers = (20 if version == 4 else 40) + 20
    length = min(length, 65_535 - (40 if version == 4 else 20))
    assert lab.send("app/eth0", TYPES[version] + bytes(head / TCP(sport=5, dport=6, seq=seq - 1 & 0xFFFFFFFF)))[1]
    body = bytes(range(256)) * 256
    packet = head / TCP(sport=5, dport=6, flags=flags, seq=seq, ack=9) / body[:length]
    packet = packet.__class__(bytes(packet))
    kind = TCP4 if version == 4 else TCP6
    if "C" in flags:
        kind |= CONGESTION
    offload = struct.pack("<BBHHHHH", 1, kind, 14 + headers, size, 14 + headers - 20, 16, 0)
    outcome, emissions = lab.send("app/eth0", TYPES[version] + partial(packet), offload)
    if min(size, length) + headers > MTU:
        assert (outcome.reason, emissions) == (Reason.MTU_EXCEEDED, [])
        return
    assert outcome.verdict is Verdict.FORWARD, outcome
    wanted = segments(packet, size)
    assert [inside(emission.frame) for emission in emissions] == wanted
    for emission in emissions:
        outer = IP(emission.frame[14:])
        again = outer.copy()
        del again.len, again.chksum, again[UDP].len, again[UDP].chksum
        assert bytes(again) == bytes(outer)
        assert is_geneve(emission.frame)
        assert len(inside(emission.frame)) <= MTU
        _, [back] = lab.send("fw1/eth0", bounce(emission.frame))
        assert lab.plane.names[back.port].path == "db/eth0"

"""Captures around a gateway load balancer: packets in packets, wherever they get to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP, fragment
from scapy.layers.l2 import Ether

from dataplane.verdict import Reason, Verdict
from lab import pcapng
from lab.capture import Capture
from tests.scenario.gwlb import APP, DB
from tests.scenario.network import Network
from tests.scenario.test_gwlb_routes import FAR_AWAY

TEXT = (Path(__file__).parents[3] / "examples" / "inspection-east-west.yaml").read_text()
INNER, OUTER = "gwlb:security/fleet/inner", "gwlb:security/fleet/outer"
SYN = IP(src="10.80.1.10", dst="10.80.2.10") / TCP(sport=40000, dport=5432, flags="S")
SHELL_BYTES = 68
"""IPv4, UDP and GENEVE with the options of a load balancer (RFC 8926, section 3.4)."""


def changed(old: str, new: str) -> str:
    """The lab with another rule."""
    assert TEXT.count(old) == 1
    return TEXT.replace(old, new)


def begun(network: Network, *points: str, where: str = "") -> Capture:
    return Capture(network.plane, points, where, ring_bytes=1 << 20)


def read(capture: Capture) -> list[pcapng.Captured]:
    written: list[bytes] = []
    capture.run(written.append, lambda seconds: True)
    return list(pcapng.Reader().packets(b"".join(written)))


def names(packets: Sequence[pcapng.Captured]) -> list[str]:
    return [each.interface.name for each in packets]


def sent_back(network: Network, outer: Any) -> Any:
    """What an appliance sends that lets a packet pass: the same, ends swapped (no checksum changes by that)."""
    packet = IP(bytes(outer))
    packet.src, packet.dst = packet.dst, packet.src
    return packet


def test_what_dies_behind_an_appliance_is_found_by_a_filter() -> None:
    """It was taken out of GENEVE: the Ethernet header in front of it is that of the door where it died."""
    network = Network(
        changed("protocol: all, source: 10.80.0.0/16", "protocol: icmp, source: 10.80.0.0/16"), engine="fast"
    )
    everything, filtered = begun(network, "db"), begun(network, "db", where="tcp port 5432")
    there = network.send("shop", SYN)
    network.send("fw", sent_back(network, there.packet))
    [seen] = read(everything)
    assert [each.data for each in read(filtered)] == [seen.data]
    db = network.plane.interface(network.plane.port("db/eth0"))
    frame = Ether(seen.data)
    assert (frame.dst, frame.src, frame.type) == (db.mac.hex(":"), db.router_mac.hex(":"), 0x0800)
    assert (frame[IP].src, frame[IP].dst, frame[TCP].dport) == (SYN.src, SYN.dst, 5432)
    assert seen.comment.startswith("DROP GROUP_INGRESS at interface db/eth0")


SHOP = "  shop: {vpc: company, subnet: app, private_ip: 10.80.1.10, security_groups: [inside]}\n"


@pytest.mark.parametrize("shop_is", ["first", "last"])
def test_what_dies_at_the_door_of_an_appliance_is_there_inside_of_geneve(shop_is: str) -> None:
    """Byte by byte what would have come in, had its group let it; also outside of the tunnel.

    The appliance has the address of another instance, in another VPC, and neither is the other's.
    """
    texts = [TEXT, changed("udp, ports: 6081", "udp, ports: 6082")]
    if shop_is == "last":
        texts = [text.replace(SHOP, "").replace("\nchecks:", f"{SHOP}\nchecks:") for text in texts]
    open_, shut = (Network(text, engine="fast") for text in texts)
    for size in (0, 1000, 8000):
        capture = begun(shut, "gwlb:fleet", "fw")
        packet = SYN / bytes(size)
        frame = bytes(open_.send("shop", packet).sent[0].ether)
        assert shut.send("shop", packet).verdict == Verdict.DROP
        _, *around = seen = read(capture)
        assert names(seen) == [INNER, OUTER, "fw/eth0"]
        assert [each.data for each in around] == [frame] * 2
        assert not any(each.outgoing for each in around)
        assert len(seen[0].data) + SHELL_BYTES + 14 == len(frame)
        assert all(each.comment.startswith("DROP GROUP_INGRESS at interface fw/eth0") for each in seen)
        assert "; target 10.80.1.10" in seen[1].comment


def test_fragments_that_had_waited_are_outside_of_the_tunnel_too() -> None:
    network = Network(TEXT, engine="fast")
    capture = begun(network, "fw", OUTER)
    first, *later = fragment(IP(src="10.80.1.10", dst="10.80.2.10", id=7) / UDP(sport=5, dport=53) / bytes(2000), 1000)
    network.send_all("shop", [*later, first])
    seen = read(capture)
    assert names(seen) == ["fw/eth0", OUTER] * 3
    for at_fw, outside in zip(seen[::2], seen[1::2], strict=True):
        assert at_fw.data == outside.data
        assert not outside.outgoing
        assert outside.comment.endswith("; target 10.80.1.10")
    assert ["had waited" in each.comment for each in seen[::2]] == [False, True, True]


def test_what_finds_no_target_is_inside_of_the_tunnel_only() -> None:
    network = Network(changed("targets: [10.80.1.10]", "targets: []"), engine="fast")
    capture = begun(network, "gwlb:fleet")
    network.send("shop", SYN)
    [seen] = read(capture)
    assert (seen.interface.name, seen.outgoing, IP(seen.data).dst) == (INNER, False, SYN.dst)
    assert seen.comment.startswith("DROP BALANCER_NO_TARGET at gateway-load-balancer security/fleet; no rule")
    assert "; target" not in seen.comment


def test_what_an_appliance_may_not_send_back_is_outside_of_the_tunnel_only() -> None:
    network = Network(TEXT, engine="fast")
    outer = network.send("shop", SYN).packet
    forged = bytearray(bytes(outer))
    forged[67] ^= 1  # the flow cookie ends here
    capture = begun(network, "gwlb:fleet", "fw")
    result = network.send("fw", sent_back(network, forged))
    assert result.reason is Reason.GENEVE_COOKIE_UNKNOWN
    seen = read(capture)
    assert [(each.interface.name, each.outgoing) for each in seen] == [("fw/eth0", True), (OUTER, True)]
    assert {each.comment.partition("; ")[0] for each in seen} == {
        "DROP GENEVE_COOKIE_UNKNOWN at gateway-load-balancer security/fleet"
    }
    assert seen[0].data == seen[1].data


def test_a_target_is_told_at_the_load_balancer_and_nowhere_else() -> None:
    network = Network(
        changed("protocol: all, source: 10.80.0.0/16", "protocol: icmp, source: 10.80.0.0/16"), engine="fast"
    )
    there = network.send("shop", SYN)
    capture = begun(network, "gwlb:fleet", "db")
    network.send("fw", sent_back(network, there.packet))
    seen = read(capture)
    assert names(seen) == [OUTER, INNER, "db/eth0"]
    assert ["; target 10.80.1.10" in each.comment for each in seen] == [True, True, False]
    assert [each.outgoing for each in seen] == [True, True, False]
    assert seen[0].data[14 + SHELL_BYTES :] == seen[1].data


def test_what_somebody_else_sends_to_the_port_of_geneve_is_in_no_tunnel() -> None:
    """A copy of what a target has got, from that to its neighbour."""
    text = changed(
        "instances:\n",
        "instances:\n  near: {vpc: security, subnet: fleet, private_ip: 10.80.1.30, security_groups: [firewall]}\n",
    ).replace("ports: 6081, source: 10.80.1.20/32", "ports: 6081, source: 10.80.1.0/24")
    network = Network(text, engine="fast")
    copy = IP(bytes(network.send("shop", SYN).packet))
    copy.src, copy.dst = copy.dst, "10.80.1.30"
    del copy.chksum, copy[UDP].chksum
    capture = begun(network, "gwlb:fleet", "near")
    assert network.send("fw", copy).to == "near"
    assert names(read(capture)) == ["near/eth0"]


def test_pieces_of_a_packet_in_the_tunnel_are_outside_of_it_all_of_them() -> None:
    """A peering between Regions takes 8500 bytes. The second piece has no GENEVE header: it goes with the first."""
    network = Network(FAR_AWAY, engine="fast")
    capture = begun(network, "gwlb:security/inspection/outer", "fw9", "app")
    large = IP(src=APP, dst=DB, flags="DF") / UDP(sport=1, dport=2) / bytes(8472)
    network.send("app", large)
    seen = read(capture)
    outer = "gwlb:security/inspection/outer"
    assert names(seen) == ["app/eth0", outer, "fw9/eth0", outer, "fw9/eth0"]
    assert [seen[1].data, seen[3].data] == [seen[2].data, seen[4].data]
    assert [len(seen[1].data) - 14, len(seen[3].data) - 14] == [8500, 88]
    assert all(each.comment.endswith("; target 10.20.1.10") for each in (seen[1], seen[3]))


def test_and_the_last_piece_though_it_is_of_one_byte() -> None:
    network = Network(FAR_AWAY, engine="fast")
    outer = "gwlb:security/inspection/outer"
    capture = begun(network, outer, "fw9")
    network.send("app", IP(src=APP, dst=DB, flags="DF") / UDP(sport=1, dport=2) / bytes(8405))
    seen = read(capture)
    assert [len(each.data) - 14 for each in seen] == [8500, 8500, 21, 21]
    assert names(seen) == [outer, "fw9/eth0"] * 2

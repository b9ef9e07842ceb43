"""vpclab.testing: what it draws is valid and reaches the edges, and the shipped example finds what it should find."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6

import vpclab.testing
from dataplane.errors import ConfigurationError, VpclabError
from dataplane.load import load_topology
from dataplane.topology import Topology
from dataplane.verdict import Reason, Verdict
from tests.scenario.labs import SHOP
from vpclab.testing import Cause, MemoryNetwork, Sending, lab_files, packets, topologies

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "testing"


@pytest.fixture
def shop(tmp_path: Path) -> MemoryNetwork:
    file = tmp_path / "shop.yaml"
    file.write_text(SHOP)
    return MemoryNetwork.load(file)


# -- the network


def test_a_packet_is_delivered_and_the_result_says_to_whom(shop: MemoryNetwork) -> None:
    result = shop.send("visitor", IP(src="198.51.100.77", dst="203.0.113.20") / TCP(sport=4000, dport=80))
    assert (result.verdict, result.reason, result.reached) == (Verdict.FORWARD, Reason.NONE, frozenset({"web"}))
    [delivery] = result.deliveries
    assert (delivery.node, delivery.interface, delivery.cause) == ("web", "web/eth0", Cause.FORWARDED)
    got = IP(delivery.packet)
    assert (got.src, got.dst, got[TCP].dport) == ("198.51.100.77", "10.0.1.10", 80)
    assert str(result) == "forward to web"


def test_a_dropped_packet_has_a_reason_an_object_and_a_rule(shop: MemoryNetwork) -> None:
    result = shop.send("app", IP(src="10.0.2.10", dst="198.51.100.200") / UDP(dport=53))
    assert (result.verdict, result.reason, result.reached) == (Verdict.DROP, Reason.BLACKHOLE, frozenset())
    assert str(result.by) == "route-table shop/private"
    assert "198.51.100.128/25" in str(result.rule)
    assert str(result).endswith("[BLACKHOLE]")


def test_who_is_told_of_a_packets_end_has_not_got_the_packet(shop: MemoryNetwork) -> None:
    result = shop.send("open", IP(src="10.0.2.11", dst="198.51.100.10", ttl=1) / UDP(sport=5, dport=53))
    assert result.reason is Reason.TTL_EXCEEDED
    assert [(each.node, each.cause) for each in result.deliveries] == [("open", Cause.ERROR)]
    assert result.reached == frozenset()


def test_flows_are_remembered_until_time_has_passed_and_never_by_a_fresh_network(shop: MemoryNetwork) -> None:
    def answer(network: MemoryNetwork, port: int) -> Reason:
        return network.send("example", IP(src="198.51.100.10", dst="203.0.113.10") / UDP(sport=53, dport=port)).reason

    [out] = shop.send("app", IP(src="10.0.2.10", dst="198.51.100.10") / UDP(sport=5000, dport=53)).deliveries
    port = IP(out.packet)[UDP].sport
    assert answer(shop, port) is Reason.NONE
    assert answer(shop.fresh(), port) is Reason.NAT_NO_SESSION
    shop.wait(350)  # a NAT gateway's idle timeout
    assert answer(shop, port) is Reason.NAT_NO_SESSION


def test_names_of_nodes(shop: MemoryNetwork) -> None:
    assert shop.nodes == ("web", "bare", "app", "open", "db", "example", "visitor")
    assert shop.internet_hosts == ("example", "visitor")
    assert shop.nodes_in("data") == shop.nodes_in("data", vpc="store") == {"db"}
    assert shop.nodes_in("private") == {"app", "open"}
    with pytest.raises(VpclabError, match="0 subnets are called 'dada'; there are shop/public"):
        shop.nodes_in("dada")
    with pytest.raises(VpclabError, match="no interface is called 'nobody/eth0'; nodes: web, bare"):
        shop.send("nobody", IP(src="10.0.2.10", dst="10.0.2.11") / ICMP())
    with pytest.raises(ValueError, match="too short"):
        shop.send("web", b"\x45\0")
    with pytest.raises(ValueError, match="does not go back"):
        shop.wait(-1)


def test_declared_in_code() -> None:
    hosts = {name: {"address": f"198.51.100.{n}"} for n, name in enumerate(("one", "two"), 1)}
    network = MemoryNetwork.from_dict({"version": 1, "internet": {"hosts": hosts}})
    assert network.send("one", IP(src="198.51.100.1", dst="198.51.100.2") / ICMP()).reached == {"two"}
    with pytest.raises(ConfigurationError, match="vcps"):
        MemoryNetwork.from_dict({"version": 1, "vcps": {}})


def test_a_subnet_is_one_of_its_vpc() -> None:
    def vpc(block: int) -> dict[str, Any]:
        return {"cidr": f"10.{block}.0.0/16", "subnets": {"data": {"cidr": f"10.{block}.1.0/24"}}}

    instances = {name: {"vpc": name, "subnet": "data"} for name in ("left", "right")}
    network = MemoryNetwork.from_dict({"version": 1, "vpcs": {"left": vpc(0), "right": vpc(1)}, "instances": instances})
    assert network.nodes_in("data", vpc="left") == {"left"}
    assert network.nodes_in("data", vpc="right") == {"right"}
    with pytest.raises(VpclabError, match="2 subnets are called 'data'; there are left/data, right/data"):
        network.nodes_in("data")


def test_what_arrives_in_pieces_arrives(shop: MemoryNetwork) -> None:
    """An internet gateway cuts what is larger than 1500 bytes and may be cut."""
    result = shop.send("web", IP(src="10.0.1.10", dst="198.51.100.10") / UDP(sport=5, dport=6) / bytes(3000))
    assert [each.cause for each in result.deliveries] == [Cause.FRAGMENT] * 3
    assert result.reached == {"example"}


def test_ports_of_nat_gateways_are_those_of_the_seed(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(SHOP)

    def port(network: MemoryNetwork) -> int:
        result = network.send("app", IP(src="10.0.2.10", dst="198.51.100.10") / UDP(sport=5, dport=6))
        return int(IP(result.deliveries[0].packet)[UDP].sport)

    ports = []
    for seed in range(5):
        network = MemoryNetwork.load(file, seed=seed)
        ports.append(port(network))
        assert port(network.fresh()) == ports[-1]
    assert len({*ports}) > 1


# -- what is drawn


@given(topology=topologies(), data=st.data())
def test_every_drawn_network_carries_packets(topology: Topology, data: st.DataObject) -> None:
    network = MemoryNetwork(topology)
    for sending in data.draw(st.lists(packets(topology), max_size=5)):
        result = network.send(sending.node, sending.packet)
        assert (result.verdict is Verdict.DROP) == (result.reason is not Reason.NONE)
        assert result.reached <= set(network.nodes)


def test_drawn_lab_files_hold_what_networks_usually_hold() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=200, database=None, derandomize=True)
    @given(lab=lab_files())
    def collect(lab: dict) -> None:
        MemoryNetwork.from_dict(lab)
        for vpc in lab["vpcs"].values():
            seen.update(key for key in vpc if vpc[key] or key == "internet_gateway")
            targets = [r["target"] for table in vpc["route_tables"].values() for r in table["routes"]]
            seen.update(target.partition(":")[0] for target in targets)
            for group in vpc["security_groups"].values():
                seen.update(rule["source"].partition(":")[0] for rule in group["ingress"])
        seen.update(peering["status"] for peering in lab["peerings"].values())
        seen["elastic"] += any("elastic_ip" in each for each in lab["instances"].values())
        cidrs = [vpc["cidr"] for vpc in lab["vpcs"].values()]
        seen["overlap"] += len(set(cidrs)) < len(cidrs)

    collect()
    wanted = "internet_gateway nat_gateways ipv6_cidrs network_acls nat-gateway peering blackhole self group active"
    for what in (*wanted.split(), "pending-acceptance", "deleted", "elastic", "overlap"):
        assert seen[what], (what, seen)


def test_drawn_packets_meet_the_edges(shop: MemoryNetwork) -> None:
    seen: Counter[object] = Counter()
    # Around 10.0.1.0/24, 10.0.2.0/24, 10.0.0.0/16, 10.1.0.0/16, 198.51.100.128/25.
    beside = {"10.0.0.255", "10.0.1.0", "10.0.1.255", "10.0.2.0", "10.0.2.255", "10.0.3.0", "9.255.255.255"}
    beside |= {"10.0.255.255", "10.1.0.0", "10.1.255.255", "10.2.0.0", "198.51.100.127", "198.51.100.128"}

    @settings(max_examples=800, database=None, derandomize=True)
    @given(sending=packets(shop.topology))
    def collect(sending: Sending) -> None:
        version = sending.packet[0] >> 4
        packet = (IP if version == 4 else IPv6)(sending.packet)
        assert len(packet) == len(sending.packet), "the length field is right"
        rebuilt = packet.copy()
        for layer in (rebuilt, rebuilt.payload):
            for name in ("chksum", "cksum"):
                if name in getattr(layer, "fields", {}):
                    layer.delfieldval(name)
        assert bytes(rebuilt) == sending.packet, "checksums are right"
        seen[version] += 1
        seen[packet.dst] += 1
        seen["spoofed"] += packet.src not in ("10.0.1.10", "10.0.1.11", "10.0.2.10", "10.0.2.11", "10.1.1.10")
        seen["edge of an MTU"] += len(sending.packet) in {mtu + n for mtu in (1500, 8500, 9001) for n in (-1, 0, 1)}
        seen["beside a block"] += packet.dst in beside
        if TCP in packet:
            seen[f"tcp {packet[TCP].dport} {packet[TCP].flags}"] += 1
        result = shop.fresh().send(sending.node, sending.packet)
        seen[result.reason] += 1

    collect()
    for port in (79, 80, 81, 5431, 5432, 5433):
        assert sum(n for what, n in seen.items() if str(what).startswith(f"tcp {port} ")) > 2, port
    for what in (4, 6, "203.0.113.20", "10.0.2.10", "spoofed", "edge of an MTU", "beside a block"):
        assert seen[what] > 5, (what, seen)
    for reason in (Reason.NONE, Reason.GROUP_INGRESS, Reason.SOURCE_CHECK, Reason.TTL_EXCEEDED, Reason.BLACKHOLE):
        assert seen[reason], (reason, seen)


def test_senders_and_destinations_are_kept_to(shop: MemoryNetwork) -> None:
    @given(sending=packets(shop.topology, senders=["db", "visitor"], destinations=["10.0.2.10"]))
    def check(sending: Sending) -> None:
        assert sending.node in ("db", "visitor")
        assert IP(sending.packet).dst == "10.0.2.10"
        assert repr(sending).startswith(f"<{sending.node} sends ")
        assert " > 10.0.2.10" in repr(sending)

    check()
    with pytest.raises(VpclabError, match="'dbb/eth0'"):
        packets(shop.topology, senders=["dbb"])
    with pytest.raises(VpclabError, match="nobody sends"):
        packets(shop.topology, senders=[])
    with pytest.raises(ValueError, match=r"10\.0\.2"):
        packets(shop.topology, destinations=["10.0.2"])


HALVES = load_topology(
    """
version: 1
vpcs:
  v:
    cidr: 10.0.0.0/16
    ipv6_cidrs: ["2001:db8:10::/56"]
    subnets: {s: {cidr: 10.0.1.0/24, ipv6_cidr: "2001:db8:10:1::/64"}}
    security_groups:
      halves:
        ingress: [{protocol: tcp, ports: 80, source: 0.0.0.0/1}, {protocol: tcp, ports: 80, source: 128.0.0.0/1}]
instances:
  four: {vpc: v, subnet: s, private_ip: 10.0.1.10}
  six: {vpc: v, subnet: s, private_ip: 10.0.1.11, ipv6_address: "2001:db8:10:1::11"}
""",
    file_name="halves.yaml",
)
LENGTHS = {mtu + around for mtu in (1500, 8500, 9001) for around in (-1, 0, 1)}


@given(packets(HALVES))
@settings(max_examples=50)
def test_nothing_is_drawn_from_beyond_the_ends_of_an_address_space(sending: Sending) -> None:
    assert sending.node in ("four", "six")


@given(packets(HALVES, senders=["four"], destinations=["2001:db8:10:1::99"]))
@settings(max_examples=50)
def test_who_has_no_address_of_a_family_can_only_take_somebody_else_s(sending: Sending) -> None:
    assert IPv6(sending.packet).src == "2001:db8:10:1::11"


@given(packets(HALVES, senders=["six"], destinations=["2001:db8:10:1::99", "10.0.1.99"]))
@settings(max_examples=200)
def test_sizes_are_small_or_around_an_mtu_in_either_family(sending: Sending) -> None:
    """Of the whole packet: MTUs are of IP packets, headers included (RFC 8200, 5; RFC 791)."""
    assert len(sending.packet) < 100 or len(sending.packet) in LENGTHS


# -- what users get


def test_public_names_are_described() -> None:
    names = vpclab.testing.__all__
    assert [name for name in names if not (getattr(vpclab.testing, name).__doc__ or "").strip()] == []


def run_example(folder: Path) -> subprocess.CompletedProcess[str]:
    """The example as a user runs it: pytest in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'public'}"}
    command = [
        sys.executable,
        "-P",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        "--rootdir",
        folder,
    ]
    return subprocess.run(
        [*map(str, command), str(folder)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_example_passes(tmp_path: Path) -> None:
    done = run_example(Path(shutil.copytree(EXAMPLE, tmp_path / "testing")))
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_the_example_finds_the_hole_that_its_lab_file_offers_to_make(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "testing"))
    lab = (folder / "lab.yaml").read_text()
    assert lab.count('ports: 5432, source: "group:web"') == 1
    (folder / "lab.yaml").write_text(lab.replace('ports: 5432, source: "group:web"', "ports: 5432, source: 0.0.0.0/0"))
    done = run_example(folder)
    assert done.returncode == 1, done.stdout
    assert "1 failed, 1 passed" in done.stdout
    assert "203.0.113.30:5432" in done.stdout
    assert "is forward to db" in done.stdout


def test_only_what_draws_needs_hypothesis() -> None:
    """And says what to type."""
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import vpclab, vpclab.cli, vpclab.testing\n"
        "from vpclab.testing import MemoryNetwork, Proof, lab_fixture\n"
        "for name in vpclab.testing.__all__:\n"
        "    try:\n        getattr(vpclab.testing, name)\n"
        "    except ImportError as error:\n        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'public'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    names = ("Sending", "lab_files", "packets", "topologies")
    needs = "needs Hypothesis: pip install hypothesis"
    assert done.stdout == "".join(f"vpclab.testing.{name} {needs}\n" for name in names)


def test_everything_promised_is_there_and_described() -> None:
    for name in vpclab.testing.__all__:
        assert (getattr(vpclab.testing, name).__doc__ or "").strip(), name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        vpclab.testing.nonsense  # noqa: B018

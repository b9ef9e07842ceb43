"""Connections are rebuilt from what kernels say: what a new data plane remembers then is what the old one did."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from dataplane.engine import DataPlane
from dataplane.load import load
from dataplane.probe import TCP, Probe, read_probe
from dataplane.topology import Topology
from dataplane.topology.runtime_state import HEALTHY, FormerTarget, RuntimeState, TargetHealth
from lab.connections import Connection, Sockets, read_sockets
from lab.journal import Journal, JournalFile, read_journal
from lab.node_plan import Address
from lab.planning import plan_nodes
from lab.rebuilding import Rebuilt, rebuild
from lab.state import JOURNAL, LabState

FILE = Path(__file__).parents[2] / "crashes" / "before.yaml"
CLOSED = FILE.read_text().replace("ports: 80,", "ports: 81,")
ACK = 0x10


def topology(text: str) -> Topology:
    return load(text, file_name=str(FILE)).topology()


class Network:
    """A data plane, and what the kernels of its nodes would know."""

    def __init__(self) -> None:
        self.plane = DataPlane(topology(FILE.read_text()))
        self.plans = {plan.name: plan for plan in plan_nodes(self.plane.topology, self.plane.names)}
        self.ends: dict[str, dict[Connection, int]] = {name: {} for name in self.plans}
        """Each with its inode: kernels give them out in order."""
        self.listening: dict[str, set[int]] = {name: set() for name in self.plans}

    def address(self, node: str) -> IPv4Address:
        address = self.plans[node].interfaces[0].addresses[0][0]
        assert isinstance(address, IPv4Address)
        return address

    def connect(self, client: str, server: str, address: str, ports: tuple[int, int]) -> None:
        here, there = (self.plans[node].interfaces[0].port for node in (client, server))
        probe = Probe(
            source=self.address(client),
            destination=IPv4Address(address),
            protocol=TCP,
            source_port=ports[0],
            destination_port=ports[1],
        )
        came = read_probe(self.send(here, probe, there))
        self.send(there, came.answer(), here)
        seen = Connection(came.destination, came.destination_port, came.source, came.source_port)
        for node, end in (
            (client, Connection(probe.source, ports[0], probe.destination, ports[1])),
            (server, seen),
        ):
            self.ends[node][end] = sum(map(len, self.ends.values()))
        self.listening[server].add(ports[1])

    def send(self, port: int, probe: Probe, arrives: int) -> bytes:
        [emission] = self.plane.process([self.plane.frame(port, probe)], [port], 1000)[1]
        assert emission.port == arrives
        return emission.frame

    def sockets(self) -> dict[str, Sockets]:
        return {name: Sockets(self.ends[name], frozenset(self.listening[name])) for name in self.plans}

    def again(self, text: str = FILE.read_text()) -> tuple[DataPlane, Rebuilt]:
        plane = DataPlane(topology(text), names=self.plane.names)
        plans = {plan.name: plan for plan in plan_nodes(plane.topology, plane.names)}
        assert {name: plan.interfaces for name, plan in plans.items()} == {
            name: plan.interfaces for name, plan in self.plans.items()
        }
        return plane, rebuild(plane, 5000, plans, self.sockets())


def remembered(plane: DataPlane) -> set[tuple[object, ...]]:
    return {
        (row["kind"], row["owner"], row["rule"], row["state"], row["forward"], row["reply"])
        for row in plane.engine.sessions()
    }


def connected() -> Network:
    network = Network()
    for n in range(300):  # at one destination, so that some want the same port; in no order of theirs
        network.connect("app", "visitor", "198.51.100.77", (40000 + n * 7 % 300, 4000))
    network.connect("visitor", "web", "203.0.113.20", (50000, 80))
    network.connect("app", "web", str(network.address("web")), (51000, 80))
    return network


def test_the_same_is_remembered_again_ports_of_nat_gateways_included() -> None:
    network = connected()
    plane, done = network.again()
    assert (done.count, done.lost) == (302, ())
    opened = {row[-2:] for row in remembered(network.plane)}
    assert {row[-2:] for row in remembered(plane)} == opened
    assert {row["state"] for row in plane.engine.sessions()} == {"open"}


def test_who_opened_a_connection_is_found_without_anybody_listening() -> None:
    network = connected()
    for listening in network.listening.values():
        listening.clear()
    plane, done = network.again()
    assert (done.count, done.lost) == (302, ())
    assert {row[-2:] for row in remembered(plane)} == {row[-2:] for row in remembered(network.plane)}


@pytest.mark.parametrize("listen", [True, False])
@pytest.mark.parametrize("ports", [(51000, 80), (79, 80)])
def test_who_opened_a_connection_is_found_when_both_ends_listen_or_neither(
    ports: tuple[int, int], listen: bool
) -> None:
    """Once the wrong end is tried first: what it would open at its own group is not opened."""
    network = Network()
    network.connect("app", "web", str(network.address("web")), ports)
    for node, port in zip(("app", "web"), ports, strict=True):
        network.listening[node] = {port} if listen else set()
    plane, done = network.again()
    assert (done.count, done.lost) == (1, ())
    assert {row[-2:] for row in remembered(plane)} == {row[-2:] for row in remembered(network.plane)}


def test_where_either_end_could_have_opened_a_connection_it_was_the_one_with_the_higher_port() -> None:
    """Whichever socket has the lower inode: they count up on each processor by itself."""
    network = Network()
    network.connect("visitor", "web", "203.0.113.20", (50000, 80))
    network.listening["web"].clear()
    for node, inode in (("visitor", 2000), ("web", 1)):
        network.ends[node] = dict.fromkeys(network.ends[node], inode)
    plane, done = network.again()
    assert (done.count, done.lost) == (1, ())
    assert {row[-2:] for row in remembered(plane)} == {row[-2:] for row in remembered(network.plane)}


@pytest.mark.parametrize("listening", [{"app", "web"}, {"app"}, {"web"}, set()])
def test_a_lost_connection_is_named_once_whoever_listens(listening: set[str]) -> None:
    network = Network()
    network.connect("app", "web", str(network.address("web")), (51000, 80))
    for node, port in (("app", 51000), ("web", 80)):
        network.listening[node] = {port} if node in listening else set()
    plane, done = network.again(CLOSED)
    assert done.count == 0
    [lost] = done.lost
    assert {lost.local_port, lost.remote_port} == {51000, 80}
    assert remembered(plane) == set()


def test_what_a_node_has_with_itself_never_crossed_the_network() -> None:
    network = connected()
    address = network.address("web")
    network.ends["web"] |= {Connection(address, 52000, address, 80): 1, Connection(address, 80, address, 52000): 2}
    _, done = network.again()
    assert (done.count, done.lost) == (302, ())


def test_a_connection_that_nobody_expected_is_lost_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs make what they like; that one fails must not keep a lab from coming back, again and again."""
    network = connected()
    frame = DataPlane.frame

    def choosy(plane: DataPlane, port: int, probe: Probe) -> bytes:
        if 51000 in (probe.source_port, probe.destination_port):
            raise ValueError("what is that")
        return frame(plane, port, probe)

    monkeypatch.setattr(DataPlane, "frame", choosy)
    _, done = network.again()
    assert done.count == 301
    assert [each.local_port for each in done.lost] == [51000]


def test_what_rules_no_longer_allow_is_lost_and_said_to_be(caplog: pytest.LogCaptureFixture) -> None:
    """It is nothing that nobody expected."""
    network = connected()
    _, done = network.again(CLOSED)
    assert done.count == 300
    assert {each.remote_port for each in done.lost} == {80}
    assert caplog.records == []


def test_what_rules_no_longer_allow_is_not_opened_from_the_end_that_had_answered() -> None:
    """Though they would let that one open it: what it opens is what may be sent then, and by whom."""
    network = Network()
    network.connect("app", "web", str(network.address("web")), (51000, 80))
    plane, done = network.again(CLOSED.replace("protocol: icmp, source", "protocol: all, source"))
    assert (done.count, [each.remote_port for each in done.lost]) == (0, [80])
    assert remembered(plane) == set()


def test_a_connection_that_has_another_port_at_a_nat_gateway_is_lost() -> None:
    network = connected()
    [seen] = [each for each in network.ends["visitor"] if each.remote_port and each.local_port == 4000][:1]
    del network.ends["visitor"][seen]
    network.ends["visitor"][Connection(seen.local, seen.local_port, seen.remote, 1)] = 1
    _, done = network.again()
    assert done.count == 301
    assert [each.remote_port for each in done.lost] == [4000]


@pytest.mark.parametrize(
    ("example", "client", "server", "seen_as"),
    [
        ("inspection", ("web", "10.60.1.10"), ("customer", "198.51.100.77"), "203.0.113.60"),  # an instance forwards
        ("gwlb-two-az", ("one-a", "10.90.1.10"), ("site", "198.51.100.80"), "203.0.113.91"),  # a target gives it back
    ],
)
def test_packets_go_through_the_hands_of_appliances(
    example: str, client: tuple[str, str], server: tuple[str, str], seen_as: str
) -> None:
    file = FILE.parents[2] / "examples" / f"{example}.yaml"
    plane = DataPlane(load(file.read_text(), file_name=str(file)).topology())
    plans = {plan.name: plan for plan in plan_nodes(plane.topology, plane.names)}
    here = Connection(IPv4Address(client[1]), 40000, IPv4Address(server[1]), 80)
    there = Connection(IPv4Address(server[1]), 80, IPv4Address(seen_as), 40000)
    sockets = {
        client[0]: Sockets({here: 1}, frozenset()),
        server[0]: Sockets({there: 2}, frozenset({80})),
    }
    assert rebuild(plane, 1000, plans, sockets) == Rebuilt(count=1, lost=())
    nobody = {**sockets, server[0]: Sockets({}, frozenset({80}))}
    assert rebuild(plane, 1000, plans, nobody) == Rebuilt(count=0, lost=(here,))


def test_connections_are_of_any_address_that_a_node_has() -> None:
    """Of IPv6 too, which comes behind IPv4."""
    file = FILE.parents[2] / "examples" / "dual-stack.yaml"
    plane = DataPlane(load(file.read_text(), file_name=str(file)).topology())
    plans = {plan.name: plan for plan in plan_nodes(plane.topology, plane.names)}
    ends: list[tuple[Address, Address]] = [
        (IPv4Address("10.40.2.10"), IPv4Address("10.40.1.10")),
        (IPv6Address("2001:db8:40:2::10"), IPv6Address("2001:db8:40:1::10")),
    ]
    sockets = {
        "batch": Sockets({Connection(here, 40000, there, 80): 1 for here, there in ends}, frozenset()),
        "web": Sockets({Connection(there, 80, here, 40000): 1 for here, there in ends}, frozenset({80})),
    }
    assert rebuild(plane, 1000, plans, sockets) == Rebuilt(count=2, lost=())


def test_where_an_instance_with_two_interfaces_sends_a_packet_on_nobody_can_know() -> None:
    """It is not sent on by the one that it came by: what the connection had opened was perhaps elsewhere."""
    file = FILE.parents[2] / "examples" / "inspection.yaml"
    client, server = IPv4Address("10.60.1.10"), IPv4Address("198.51.100.77")
    here = Connection(client, 40000, server, 80)
    there = Connection(server, 80, IPv4Address("203.0.113.60"), 40000)
    sockets = {"web": Sockets({here: 1}, frozenset()), "customer": Sockets({there: 2}, frozenset({80}))}
    one = file.read_text().replace('target: "instance:fw"', 'target: "network-interface:fw/eth0"')
    more = "    network_interfaces: {more: {subnet: app, attachment: {instance: fw, device_index: 1}}}\n"
    two = one.replace("    security_groups:\n", f"{more}    security_groups:\n", 1)
    for text, done in ((one, Rebuilt(count=1, lost=())), (two, Rebuilt(count=0, lost=(here,)))):
        plane = DataPlane(load(text, file_name=str(file)).topology())
        plans = {plan.name: plan for plan in plan_nodes(plane.topology, plane.names)}
        assert rebuild(plane, 1000, plans, sockets) == done


@pytest.mark.parametrize("unwell", ["fw-a1", "fw-a2"])
def test_a_target_that_is_known_to_be_unwell_gets_no_rebuilt_flow(unwell: str) -> None:
    file = FILE.parents[2] / "examples" / "gwlb-two-az.yaml"
    topology = load(file.read_text(), file_name=str(file)).topology()
    health = {("security", "firewalls", unwell): TargetHealth(state="unhealthy")}
    plane = DataPlane(topology.with_runtime(RuntimeState(health=health)))
    plans = {plan.name: plan for plan in plan_nodes(plane.topology, plane.names)}
    client, server = (plans[name].interfaces[0].addresses[0][0] for name in ("one-a", "site"))
    outside = IPv4Address("203.0.113.91")
    rows = [(Connection(client, n, server, 80), Connection(server, 80, outside, n)) for n in range(40000, 40020)]
    sockets = {
        "one-a": Sockets({here: here.local_port for here, _ in rows}, frozenset()),
        "site": Sockets({there: 1 for _, there in rows}, frozenset({80})),
    }
    assert rebuild(plane, 1000, plans, sockets) == Rebuilt(count=20, lost=())
    port = plans["one-a"].interfaces[0].port
    used = set()
    for here, _ in rows:
        probe = Probe(
            source=client,
            destination=server,
            protocol=TCP,
            source_port=here.local_port,
            destination_port=80,
            tcp_flags=ACK,
        )
        [emission] = plane.process([plane.frame(port, probe)], [port], 2000)[1]
        used.add(plane.names[emission.port].path)
    assert used == {f"fw-a{3 - int(unwell[-1])}/eth0"}


def test_tables_of_a_kernel() -> None:
    """Lines of a real one; a client of IPv4 at a socket of IPv6 is one of IPv4."""
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    four = (
        "   0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1\n"
        "   1: 0501000A:0050 4D6433C6:C350 01 00000000:00000000 00:00000000 00000000     0        0 2 1\n"
        "   2: 0501000A:0050 4D6433C6:C351 06 00000000:00000000 03:00000000 00000000     0        0 0 3\n"
        "   3: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 3 1\n"
    )
    six = (
        "   0: 0000000000000000FFFF00000501000A:0051 0000000000000000FFFF00004D6433C6:C352 08 00000000:00000000 "
        "00:00000000 00000000     0        0 4 1\n"
        "   1: B80D0120000000000000000010000000:01BB B80D0120000000000000000020000000:C353 01 00000000:00000000 "
        "00:00000000 00000000     0        0 5 1\n"
    )
    found = read_sockets([head + four, head + six])
    assert found.listening == {80}
    assert {str(each): inode for each, inode in found.connections.items()} == {
        "10.0.1.5:80 > 198.51.100.77:50000": 2,
        "10.0.1.5:81 > 198.51.100.77:50002": 4,
        "[2001:db8::10]:443 > [2001:db8::20]:50003": 5,
    }


@pytest.mark.parametrize("state", range(1, 13))
def test_connections_are_those_in_which_both_ends_still_speak(state: int) -> None:
    """Numbers of `net/tcp_states.h`: established, its end begun by either side; not what is not open yet, or over."""
    line = f"   1: 0501000A:0050 4D6433C6:C350 {state:02X} 00000000:00000000 00:00000000 00000000     0        0 2 1\n"
    found = read_sockets(["  sl\n" + line])
    speaking = {"ESTABLISHED": 1, "FIN_WAIT1": 4, "FIN_WAIT2": 5, "CLOSE_WAIT": 8, "LAST_ACK": 9, "CLOSING": 11}
    assert len(found.connections) == (state in speaking.values())
    assert found.listening == ({80} if state == 10 else set())


def test_a_journal_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    names = connected().plane.names
    state = LabState("journal")
    state.acquire()
    try:
        assert read_journal(state) is None
        fleet = ("sec", "fleet")
        former = (
            FormerTarget(name="c", address=IPv4Address("10.9.1.12"), zone="a", drained=False, until_ms=9000),
            FormerTarget(name="d", address=IPv4Address("10.9.1.13"), zone="", drained=True, until_ms=10),
        )
        unwell = TargetHealth(state="unhealthy", reason="Target.Timeout", description="Request timed out")
        runtime = RuntimeState(health={(*fleet, "a"): HEALTHY, (*fleet, "b"): unwell}, former={fleet: former})
        written = Journal(
            text="version: 1\n", file="lab.yaml", folder="/", clock_offset_ms=7, names=names, runtime=runtime
        )
        JournalFile(state).write(written)
        read = read_journal(state)
        assert read is not None
        assert replace(read, names=names) == written
        assert [read.names[n] for n in range(len(names))] == [names[n] for n in range(len(names))]
        whole = state.read(JOURNAL)
        for part in (
            {"health": [["too", "few"]]},
            {"health": [5]},
            {"names": [7]},
            {"names": [["interface", ["web"]]]},
            {"former": [["sec", "fleet", "c", "no address", "a", False, 9000]]},
            {"clock_offset_ms": "7"},
        ):
            (state.path / JOURNAL).write_text(json.dumps({**whole, **part}))
            assert read_journal(state) is None
        for garbled in ('{"text": ""}', "[]"):
            (state.path / JOURNAL).write_text(garbled)
            assert read_journal(state) is None
    finally:
        state.remove()
        state.release()

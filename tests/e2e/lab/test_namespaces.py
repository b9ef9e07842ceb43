"""What a node is, as its own kernel and programs see it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dataplane.errors import LabError
from lab import processes
from lab.enter import open_socket
from lab.node_plan import ProgramPlan
from lab.runtime import Runtime
from tests.e2e.lab.stage import (
    VNET_HEADER_BYTES,
    eventually,
    interface,
    ip_json,
    names_of,
    need,
    next_frame,
    output,
    plan,
)

pytestmark = pytest.mark.e2e

ROUTER_MAC = b"\x02\xff\xff\xff\xff\x01"


def test_addresses_routes_and_mtu_are_as_planned(runtime: Runtime) -> None:
    taps = runtime.add_nodes([plan("web", interface("10.0.1.10/24", "2001:db8::10/64", mtu=8500))])
    assert list(taps) == [1]
    lo, eth0 = ip_json(runtime, "web", "addr")
    assert (lo["ifname"], eth0["ifname"], eth0["mtu"], eth0["address"]) == ("lo", "eth0", 8500, "02:00:00:00:00:01")
    assert {"UP", "LOWER_UP"} <= set(lo["flags"]) & set(eth0["flags"])
    found = [f"{address['local']}/{address['prefixlen']}" for address in eth0["addr_info"]]
    assert found == ["10.0.1.10/24", "2001:db8::10/64", "fe80::ff:fe00:1/64"]
    assert not any(address.get("tentative") for address in eth0["addr_info"])
    defaults = [
        (route["gateway"], route["dev"])
        for family in ("-4", "-6")
        for route in ip_json(runtime, "web", family, "route", "show", "default")
    ]
    assert defaults == [("10.0.1.1", "eth0"), ("fe80::1", "eth0")]


def test_an_internet_host_routes_by_a_gateway_outside_of_its_prefix(runtime: Runtime) -> None:
    runtime.add_nodes([plan("example", interface("198.51.100.10/32", gateway4="169.254.0.1", mtu=1500))])
    (route,) = ip_json(runtime, "example", "route", "get", "203.0.113.20")
    assert (route["gateway"], route["dev"], route["prefsrc"]) == ("169.254.0.1", "eth0", "198.51.100.10")


def test_the_kernel_never_does_the_routers_work(runtime: Runtime) -> None:
    runtime.add_nodes([plan("web", interface("10.0.1.10/24", "2001:db8::10/64"))])
    for switch, value in (
        ("ipv4/ip_forward", "0"),
        ("ipv6/conf/all/forwarding", "0"),
        ("ipv6/conf/eth0/forwarding", "0"),
        ("ipv6/conf/eth0/accept_ra", "0"),
        ("ipv6/conf/eth0/autoconf", "0"),
        ("ipv6/conf/eth0/disable_ipv6", "0"),
        ("ipv4/ip_unprivileged_port_start", "0"),
    ):
        assert output(runtime, "web", "cat", f"/proc/sys/net/{switch}").strip() == value, switch
    assert output(runtime, "web", need("nft"), "list", "ruleset") == ""


def test_everyone_in_a_node_may_ping(runtime: Runtime) -> None:
    runtime.add_nodes([plan()])
    groups = output(runtime, "web", "cat", "/proc/sys/net/ipv4/ping_group_range").split()
    extent = output(runtime, "web", "cat", "/proc/self/gid_map").splitlines()
    assert groups[0] == "0"
    assert (groups[1] != "0") == (len(extent) > 1 or extent[0].split()[2] != "1")


def test_an_ipv4_node_sends_nothing_unasked_for(runtime: Runtime) -> None:
    taps = runtime.add_nodes([plan()])
    with open_socket(runtime.view("web"), socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("192.0.2.1", 9))
        frame = next_frame(taps[1])[VNET_HEADER_BYTES:]
    # The very first frame is what we caused: who has 10.0.1.1, tell 10.0.1.10.
    assert frame[12:14] == b"\x08\x06"
    assert (frame[28:32], frame[38:42]) == (bytes([10, 0, 1, 10]), bytes([10, 0, 1, 1]))


def test_an_ipv6_node_neither_solicits_routers_nor_checks_for_duplicates(runtime: Runtime) -> None:
    taps = runtime.add_nodes([plan("web", interface("2001:db8::10/64"))])
    with open_socket(runtime.view("web"), socket.AF_INET6, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("2001:db8:1::1", 9))
        while True:
            frame = next_frame(taps[1])[VNET_HEADER_BYTES:]
            assert frame[12:14] == b"\x86\xdd"
            if frame[20] == 58 and frame[54] == 135:  # neighbour solicitation
                break
            # Reports of multicast groups (in a hop-by-hop header) cannot be turned off.
            assert (frame[20], frame[54 + 8]) == (0, 143)
    assert frame[22:38] != bytes(16)
    assert frame[62:78] == socket.inet_pton(socket.AF_INET6, "fe80::1")


def test_offloads_are_what_the_worker_can_carry(runtime: Runtime) -> None:
    taps = runtime.add_nodes([plan()])
    listed = output(runtime, "web", need("ethtool"), "-k", "eth0").splitlines()
    features = dict(line.strip().split(": ") for line in listed if ": " in line)
    for name, value in (
        ("tx-checksumming", "on"),
        ("tcp-segmentation-offload", "on"),
        ("tx-tcp-segmentation", "on"),
        ("tx-tcp6-segmentation", "on"),
        ("tx-tcp-ecn-segmentation", "off"),
        ("tx-udp-segmentation", "off"),
        ("generic-receive-offload", "on"),
    ):
        assert features[name].split()[0] == value, name
    output(runtime, "web", "ip", "neigh", "add", "10.0.1.1", "lladdr", "02:ff:ff:ff:ff:01", "dev", "eth0")
    with open_socket(runtime.view("web"), socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("192.0.2.1", 9))
    frame = next_frame(taps[1])
    # Flags: the checksum is partial; it starts at the UDP header, and its field lies 6 bytes further.
    assert frame[0] == 1
    assert int.from_bytes(frame[6:8], sys.byteorder) == 34
    assert int.from_bytes(frame[8:10], sys.byteorder) == 6
    assert frame[VNET_HEADER_BYTES:][:6] == ROUTER_MAC


def test_descriptors_do_not_block_and_are_not_inherited(runtime: Runtime) -> None:
    (tap,) = runtime.add_nodes([plan()]).values()
    assert not os.get_blocking(tap)
    assert not os.get_inheritable(tap)
    with pytest.raises(BlockingIOError):
        os.read(tap, 2048)


def test_packets_leave_by_the_interface_that_owns_their_address(runtime: Runtime) -> None:
    runtime.add_nodes(
        [
            plan(
                "fw",
                interface("10.0.1.10/24", "2001:db8:1::10/64"),
                interface("10.0.2.10/24", "2001:db8:2::10/64", port=2, device="eth1", gateway4="10.0.2.1"),
            )
        ]
    )
    for source, destination, gateway, device in (
        ("10.0.1.10", "192.0.2.1", "10.0.1.1", "eth0"),
        ("10.0.2.10", "192.0.2.1", "10.0.2.1", "eth1"),
        ("10.0.1.10", "10.0.2.99", "10.0.1.1", "eth0"),
        ("2001:db8:1::10", "2001:db8:9::1", "fe80::1", "eth0"),
        ("2001:db8:2::10", "2001:db8:9::1", "fe80::1", "eth1"),
    ):
        (route,) = ip_json(runtime, "fw", "route", "get", destination, "from", source)
        assert (route["gateway"], route["dev"]) == (gateway, device), (source, destination)
    (route,) = ip_json(runtime, "fw", "route", "get", "192.0.2.1")
    assert (route["dev"], route["prefsrc"]) == ("eth0", "10.0.1.10")


def test_a_node_has_its_own_names_and_devices(runtime: Runtime) -> None:
    host = socket.gethostname()
    runtime.add_nodes(
        [
            plan("web", hosts={"web": ("10.0.1.10",), "db": ("10.1.1.10",)}),
            plan("db", interface("10.1.1.10/24", port=2)),
        ]
    )
    assert output(runtime, "web", "hostname").strip() == "web"
    assert output(runtime, "db", "hostname").strip() == "db"
    assert socket.gethostname() == host
    assert output(runtime, "web", "getent", "hosts", "db").split() == ["10.1.1.10", "db"]
    assert output(runtime, "web", "cat", "/etc/hostname").strip() == "web"
    assert "nameserver" not in output(runtime, "web", "cat", "/etc/resolv.conf")
    assert sorted(output(runtime, "web", "ls", "/sys/class/net").split()) == ["eth0", "lo"]
    assert "10.1.1.10" not in Path("/etc/hosts").read_text()


def test_a_node_sees_the_processes_of_its_lab_only(runtime: Runtime) -> None:
    runtime.add_nodes([plan()])
    seen = [entry for entry in output(runtime, "web", "ls", "/proc").split() if entry.isdecimal()]
    assert "1" in seen
    assert len(seen) <= 3
    assert output(runtime, "web", "readlink", "/proc/self/ns/net") != os.readlink("/proc/self/ns/net")


def test_two_nodes_may_have_the_same_addresses(runtime: Runtime) -> None:
    runtime.add_nodes([plan("a"), plan("b", interface("10.0.1.10/24", port=2))])
    for name in ("a", "b"):
        assert ip_json(runtime, name, "addr")[1]["addr_info"][0]["local"] == "10.0.1.10"


def test_a_node_that_cannot_be_made_leaves_nothing_of_the_others(runtime: Runtime) -> None:
    good, bad = plan("good"), plan("bad", interface("10.0.1.11/24", port=2, device="a-name-that-is-too-long"))
    with pytest.raises(LabError, match="node bad cannot be set up"):
        runtime.add_nodes([good, bad])
    assert runtime.status() == {}
    runtime.add_nodes([good])
    assert list(runtime.status()) == ["good"]


def test_update_changes_addresses_in_place(runtime: Runtime) -> None:
    taps = runtime.add_nodes([plan("web", interface("10.0.1.10/24"))])
    new = plan(
        "web",
        interface("10.0.1.20/24", "10.0.1.21/24", "2001:db8::20/64", gateway4="10.0.1.2", mtu=1500),
        hosts={"db": ("10.9.9.9",)},
    )
    assert runtime.detached_by(new) == ()
    change = runtime.update_node(new)
    assert (change.attached, change.detached) == ({}, ())
    eth0 = ip_json(runtime, "web", "addr", "show", "eth0")[0]
    assert sorted(address["local"] for address in eth0["addr_info"]) == [
        "10.0.1.20",
        "10.0.1.21",
        "2001:db8::20",
        "fe80::ff:fe00:1",
    ]
    assert eth0["mtu"] == 1500
    (route,) = ip_json(runtime, "web", "route", "get", "192.0.2.1")
    assert (route["gateway"], route["prefsrc"]) == ("10.0.1.2", "10.0.1.20")
    (route,) = ip_json(runtime, "web", "route", "get", "2001:db8:9::1")
    assert route["gateway"] == "fe80::1"
    assert output(runtime, "web", "getent", "hosts", "db").split() == ["10.9.9.9", "db"]
    with open_socket(runtime.view("web"), socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("192.0.2.1", 9))
        assert next_frame(taps[1])
    runtime.update_node(plan("web", interface("10.0.1.10/24")))
    eth0 = ip_json(runtime, "web", "addr", "show", "eth0")[0]
    assert [address["local"] for address in eth0["addr_info"]] == ["10.0.1.10"]


def test_update_keeps_connections_of_addresses_that_stay(runtime: Runtime) -> None:
    runtime.add_nodes([plan("web", interface("10.0.1.10/24", "10.0.1.11/24"))])
    view = runtime.view("web")
    with (
        open_socket(view, socket.AF_INET, socket.SOCK_STREAM) as server,
        open_socket(view, socket.AF_INET, socket.SOCK_STREAM) as client,
    ):
        server.bind(("10.0.1.11", 80))
        server.listen()
        client.bind(("10.0.1.11", 0))
        client.connect(("10.0.1.11", 80))
        accepted, _ = server.accept()
        with accepted:
            runtime.update_node(plan("web", interface("10.0.1.12/24", "10.0.1.11/24")))
            client.sendall(b"still here")
            assert accepted.recv(100) == b"still here"


def test_update_adds_and_removes_interfaces(runtime: Runtime) -> None:
    eth0 = interface("10.0.1.10/24")
    eth1 = interface("10.0.2.10/24", port=2, device="eth1", gateway4="10.0.2.1")
    runtime.add_nodes([plan("fw", eth0)])
    change = runtime.update_node(plan("fw", eth0, eth1))
    assert (list(change.attached), change.detached) == ([2], ())
    (route,) = ip_json(runtime, "fw", "route", "get", "192.0.2.1", "from", "10.0.2.10")
    assert route["dev"] == "eth1"
    other = interface("10.0.2.11/24", port=3, device="eth1", gateway4="10.0.2.1")
    assert runtime.detached_by(plan("fw", eth0, other)) == (2,)
    change = runtime.update_node(plan("fw", eth0, other))
    assert (list(change.attached), change.detached) == ([3], (2,))
    (route,) = ip_json(runtime, "fw", "route", "get", "192.0.2.1", "from", "10.0.2.11")
    assert route["dev"] == "eth1"
    runtime.update_node(plan("fw", eth0))
    assert [link["ifname"] for link in ip_json(runtime, "fw", "link")] == ["lo", "eth0"]
    assert [rule["priority"] for rule in ip_json(runtime, "fw", "rule")] == [0, 32766, 32767]


@pytest.mark.parametrize("how", ["delete", "rename", "replace"])
def test_an_update_brings_back_what_root_inside_took_away(runtime: Runtime, how: str) -> None:
    addresses = ("10.0.1.10/24", "2001:db8::10/64")
    (old,) = runtime.add_nodes([plan("web", interface(*addresses))]).values()
    link = ["ip", "link", "set", "eth0"]
    if how == "rename":
        output(runtime, "web", *link, "down")
        output(runtime, "web", *link, "name", "mine")
    else:
        output(runtime, "web", "ip", "link", "delete", "eth0")
    if how == "replace":
        output(runtime, "web", "ip", "tuntap", "add", "eth0", "mode", "tap")
    new = plan("web", interface(*addresses), hosts={"db": ("10.9.9.9",)})
    assert runtime.detached_by(new) == ()
    change = runtime.update_node(new)
    assert (list(change.attached), change.detached) == ([1], ())
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(old)  # who held it has let go
    _, eth0 = ip_json(runtime, "web", "addr")
    assert {each["local"] for each in eth0["addr_info"]} >= {"10.0.1.10", "2001:db8::10"}
    (route,) = ip_json(runtime, "web", "route", "get", "192.0.2.1")
    assert (route["gateway"], route["dev"]) == ("10.0.1.1", "eth0")
    assert runtime.update_node(plan("web", interface(*addresses))).attached == {}


def test_an_update_that_fails_can_be_taken_back(runtime: Runtime) -> None:
    eth0 = interface("10.0.1.10/24")
    eth1 = interface("10.0.2.10/24", port=2, device="eth1", gateway4="10.0.2.1")
    old = plan("fw", eth0, eth1)
    runtime.add_nodes([old])
    before = [ip_json(runtime, "fw", *what) for what in (["addr"], ["route"], ["rule"])]
    # A new eth1, and one that cannot be made, so eth1 is gone and another one is there for a moment.
    bad = plan(
        "fw",
        interface("10.0.1.99/24"),
        interface("10.0.3.10/24", port=3, device="eth1", gateway4="10.0.3.1"),
        interface("10.0.4.10/24", port=4, device="a-name-that-is-too-long"),
    )
    with pytest.raises(LabError, match="node fw cannot be set up: a-name-that-is-too-long: File name too long"):
        runtime.update_node(bad)
    assert [link["ifname"] for link in ip_json(runtime, "fw", "link")] == ["lo", "eth0"]
    assert list(runtime.update_node(old).attached) == [2]
    after = [ip_json(runtime, "fw", *what) for what in (["addr"], ["route"], ["rule"])]
    for entries in (*before, *after):
        for entry in entries:
            entry.pop("ifindex", None)
    assert after == before


def test_names_that_are_no_file_names_are_refused(runtime: Runtime) -> None:
    for bad in (plan("../web"), plan(""), plan("web", programs=[ProgramPlan(name="a/b", command=("true",))])):
        with pytest.raises(LabError, match="cannot be a file name"):
            runtime.add_nodes([bad])


def test_removed_nodes_are_gone_and_the_others_are_not(runtime: Runtime, state_home: Path) -> None:
    runtime.add_nodes([plan("a"), plan("b", interface("10.0.1.11/24", port=2))])
    with runtime.popen("a", ["sleep", "1000"]) as sleeper:
        runtime.remove_nodes(["a"])
        assert sleeper.wait(timeout=10) != 0
    assert list(runtime.status()) == ["b"]
    assert output(runtime, "b", "hostname").strip() == "b"
    with pytest.raises(LabError, match="has no node 'a'"):
        runtime.view("a")
    runtime.add_nodes([plan("a")])
    assert output(runtime, "a", "hostname").strip() == "a"


def test_closing_twice_is_fine_and_ends_everything(runtime: Runtime) -> None:
    (tap,) = runtime.add_nodes([plan()]).values()
    assert [lab_id for lab_id in map(processes.lab_of, everyone()) if lab_id == runtime.lab_id]
    runtime.close()
    runtime.close()
    assert [lab_id for lab_id in map(processes.lab_of, everyone()) if lab_id == runtime.lab_id] == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(tap)
    with pytest.raises(LabError):
        runtime.status()


def test_a_dead_spawner_is_an_error_in_words(runtime: Runtime) -> None:
    runtime.add_nodes([plan()])
    processes.Process(runtime.view("web").spawner, processes.start_time(runtime.view("web").spawner) or 0).kill()
    with pytest.raises(LabError, match="the process that keeps lab stage's nodes has ended"):
        runtime.status()
    netns = names_of(runtime.lab_id)
    assert len(netns) == (1 if os.geteuid() == 0 else 0)
    runtime.close()
    assert names_of(runtime.lab_id) == []


def everyone() -> list[int]:
    return [process.pid for process in processes.all_processes()]


@pytest.mark.root
def test_namespaces_have_names_and_taken_names_get_the_labs(runtime: Runtime) -> None:
    ip, taken, free = need("ip"), f"taken-{os.getpid()}", f"free-{os.getpid()}"
    subprocess.run([ip, "netns", "add", taken], check=True)
    try:
        runtime.add_nodes([plan(taken), plan(free, interface("10.0.1.11/24", port=2))])
        status = runtime.status()
        assert status[taken].netns == f"stage-{taken}"
        assert status[free].netns == free
        for name, address in ((f"stage-{taken}", "10.0.1.10"), (free, "10.0.1.11")):
            done = subprocess.run(
                [ip, "netns", "exec", name, ip, "-4", "addr"], capture_output=True, text=True, check=True
            )
            assert address in done.stdout
        runtime.remove_nodes([free])
        assert not Path("/run/netns", free).exists()
        runtime.close()
        assert not Path("/run/netns", f"stage-{taken}").exists()
        assert Path("/run/netns", taken).exists()
    finally:
        subprocess.run([ip, "netns", "delete", taken], check=True)


@pytest.mark.root
def test_what_ip_netns_exec_started_goes_with_the_node(runtime: Runtime) -> None:
    runtime.add_nodes([plan("vpclab-web")])
    with subprocess.Popen([need("ip"), "netns", "exec", "vpclab-web", "sleep", "1000"]) as sleeper:
        network = processes.namespace(runtime.view("vpclab-web").network[-1].split("/")[2], "net")
        assert network is not None
        eventually(lambda: Path(f"/proc/{sleeper.pid}/comm").read_text() == "sleep\n", "ip netns exec")
        runtime.close()
        assert sleeper.wait(timeout=10) == -9


@pytest.mark.rootless
def test_an_ordinary_user_is_root_inside_and_names_nothing(runtime: Runtime) -> None:
    runtime.add_nodes([plan()])
    assert runtime.rootless
    assert output(runtime, "web", "id", "-u").strip() == "0"
    assert runtime.status()["web"].netns is None
    many = len(output(runtime, "web", "cat", "/proc/self/uid_map").splitlines()) == 2
    assert many == (not runtime.warnings)

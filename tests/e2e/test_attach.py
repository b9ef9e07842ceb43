"""Devices of the user's in place of a node: inside a network namespace that exists, or a TAP device."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataplane.errors import LabError
from lab import processes
from tests.e2e.lab.stage import eventually
from vpclab import Lab

OPEN = {"open": {"description": "all", "ingress": [{"protocol": "all", "source": "0.0.0.0/0"}]}}
ROOT = Path(__file__).parents[2]
SYSTEM_RULES = {0, 32766, 32767}


def lab_file(attach: str | None, address: str = "10.0.1.10", **fields: Any) -> dict[str, Any]:
    """Two instances, of which `guest` is something of the user's."""
    return {
        "version": 1,
        "name": "attach",
        "vpcs": {
            "v": {
                "cidr": "10.0.0.0/16",
                "ipv6_cidrs": ["2001:db8:0:0::/56"],
                "subnets": {
                    "one": {"cidr": "10.0.1.0/24", "ipv6_cidr": "2001:db8:0:1::/64"},
                    "two": {"cidr": "10.0.2.0/24", "ipv6_cidr": "2001:db8:0:2::/64"},
                },
                "security_groups": OPEN,
            }
        },
        "instances": {
            "guest": {
                "vpc": "v",
                "subnet": "one",
                "private_ip": address,
                "security_groups": ["open"],
                "attach": attach,
                **fields,
            },
            "server": {"vpc": "v", "subnet": "two", "private_ip": "10.0.2.10", "security_groups": ["open"]},
        },
    }


def two_interfaces(place: Place) -> dict[str, Any]:
    """The same, inside a namespace, with a second interface."""
    file = lab_file(f"netns:{place.path}")
    file["vpcs"]["v"]["network_interfaces"] = {
        "second": {
            "subnet": "two",
            "private_ips": ["10.0.2.20"],
            "security_groups": ["open"],
            "attachment": {"instance": "guest", "device_index": 1},
        }
    }
    return file


class Place:
    """A network namespace of the user's, with a process and settings of its own."""

    def __init__(self, name: str) -> None:
        self.name, self.path = name, f"/run/netns/{name}"
        subprocess.run(["ip", "netns", "add", name], check=True)
        self.run("ip", "link", "set", "lo", "up")
        self.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self.process = subprocess.Popen(self.inside("sleep", "1000"))
        self.before = self.routes()
        """Compared at the end; a test that adds routes of its own takes them down here."""

    def inside(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *command]

    def run(self, *command: str, check: bool = True, **options: Any) -> str:
        done = subprocess.run(self.inside(*command), capture_output=True, text=True, timeout=60, check=False, **options)
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done.stdout

    def links(self) -> dict[str, Any]:
        return {link["ifname"]: link for link in json.loads(self.run("ip", "-j", "-d", "addr"))}

    def routes(self) -> list[Any]:
        """Every route of every table."""
        return [json.loads(self.run("ip", family, "-j", "route", "show", "table", "all")) for family in ("-4", "-6")]

    def rules(self) -> set[int]:
        """Priorities of the policy rules."""
        rules = json.loads(self.run("ip", "-j", "rule")) + json.loads(self.run("ip", "-6", "-j", "rule"))
        return {rule["priority"] for rule in rules}

    def settings(self, device: str) -> dict[str, str]:
        """What the kernel does by itself on a device, as far as labs switch it off."""
        names = ("accept_ra", "autoconf", "accept_dad", "addr_gen_mode")
        files = [f"/proc/sys/net/ipv6/conf/{device}/{name}" for name in names]
        return dict(zip(names, self.run("cat", *files).split(), strict=True))

    def own_default(self, *options: str) -> None:
        """Give it a way out of its own, by a device of its own."""
        self.run("ip", "tuntap", "add", "own0", "mode", "tap")
        self.run("ip", "addr", "add", "192.0.2.2/24", "dev", "own0")
        self.run("ip", "link", "set", "own0", "up")
        self.run("ip", "route", "add", "default", "via", "192.0.2.1", *options)

    def pings(self, address: str) -> bool:
        return " 1 received" in self.run("ping", "-n", "-c1", "-W5", address, check=False)

    def assert_untouched(self) -> None:
        """Nothing is left of a lab, and nothing else is missing."""
        links = self.links()
        links.pop("own0", None)
        assert list(links) == ["lo"]
        assert "ifalias" not in links["lo"]
        assert self.routes() == self.before
        assert self.process.poll() is None
        assert self.run("cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding") == "1\n1\n"
        assert self.rules() == SYSTEM_RULES

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        subprocess.run(["ip", "netns", "delete", self.name], check=True)


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place(f"vpclab-test-{os.getpid()}")
    yield made
    made.close()


@pytest.mark.root
def test_a_network_namespace_that_exists(place: Place) -> None:
    with Lab.from_dict(lab_file(f"netns:{place.path}", ipv6_address="2001:db8:0:1::10")) as lab:
        eth0 = place.links()["eth0"]
        assert (eth0["mtu"], eth0["address"]) == (9001, lab["guest"].mac)
        assert {each["local"] for each in eth0["addr_info"]} >= {"10.0.1.10", "2001:db8:0:1::10"}
        assert place.pings("10.0.2.10")
        assert lab["server"].ping("guest")
        assert lab["guest"].run(["ip", "-br", "link", "show", "eth0"]).returncode == 0
        assert lab["guest"].run(["cat", "/etc/hosts"]).stdout.count("10.0.2.10\tserver")
        assert lab["guest"].attached == f"netns:{place.path}"
        (guest, _) = lab.status()["nodes"]
        assert (guest["attach"], guest["netns"]) == (f"netns:{place.path}", None)
        # An address changes in place, as it does elsewhere.
        lab.apply(lab_file(f"netns:{place.path}", "10.0.1.11"))
        assert [each["local"] for each in place.links()["eth0"]["addr_info"]] == ["10.0.1.11"]
        assert place.pings("10.0.2.10")
        with pytest.raises(LabError, match="attach cannot be changed"):
            lab.apply(lab_file(None, "10.0.1.11"))
        assert place.pings("10.0.2.10")
    place.assert_untouched()


@pytest.mark.root
def test_several_interfaces_in_a_namespace(place: Place) -> None:
    file = two_interfaces(place)
    with Lab.from_dict(file) as lab:
        assert sorted(place.links()) == ["eth0", "eth1", "lo"]
        assert lab["server"].ping("10.0.2.20")
        del file["instances"]["guest"]
        del file["vpcs"]["v"]["network_interfaces"]
        lab.apply(file)
        place.assert_untouched()


@pytest.mark.root
def test_an_interface_that_comes_later(place: Place) -> None:
    with Lab.from_dict(lab_file(f"netns:{place.path}")) as lab:
        place.run("ip", "tuntap", "add", "eth1", "mode", "tap")
        with pytest.raises(LabError, match=f"guest: netns:{place.path} has a device eth1 already"):
            lab.apply(two_interfaces(place))
        assert place.pings("10.0.2.10")
        place.run("ip", "link", "delete", "eth1")
        # Asked for IPv6 routers, unlike devices of a lab's own namespaces, unless it is told not to.
        place.run("sysctl", "-qw", "net.ipv6.conf.default.accept_ra=1", "net.ipv6.conf.default.autoconf=1")
        file = two_interfaces(place)
        file["vpcs"]["v"]["network_interfaces"]["second"]["ipv6_addresses"] = ["2001:db8:0:2::20"]
        lab.apply(file)
        assert lab["server"].ping("10.0.2.20")
        assert place.settings("eth1") == place.settings("eth0")
        assert place.settings("eth1") == {"accept_ra": "0", "autoconf": "0", "accept_dad": "0", "addr_gen_mode": "1"}
    place.assert_untouched()


@pytest.mark.root
def test_a_default_route_of_the_users_is_not_replaced(place: Place) -> None:
    place.own_default()
    place.before = place.routes()
    words = (
        rf"guest: {place.path} has a route 0.0.0.0/0 in table main already, .*: remove it, or give it a larger metric"
    )
    with pytest.raises(LabError, match=words):
        Lab.from_dict(lab_file(f"netns:{place.path}")).up()
    place.assert_untouched()


@pytest.mark.root
def test_a_default_route_with_a_metric_rests_while_the_lab_is_up(place: Place) -> None:
    place.own_default("metric", "2000")
    place.before = place.routes()
    with Lab.from_dict(lab_file(f"netns:{place.path}")) as lab:
        assert place.pings("10.0.2.10")
        lab.apply(lab_file(f"netns:{place.path}", "10.0.1.11"))
        assert place.pings("10.0.2.10")
        assert "metric 2000" in place.run("ip", "route", "show", "default")
    place.assert_untouched()


@pytest.mark.root
def test_an_update_does_not_replace_a_default_route_of_the_users_either(place: Place) -> None:
    with Lab.from_dict(lab_file(f"netns:{place.path}")) as lab:
        place.own_default("metric", "2000")
        place.run("ip", "route", "replace", "default", "via", "192.0.2.1")
        with pytest.raises(LabError, match=r"guest: .* has a route 0\.0\.0\.0/0 in table main already"):
            lab.apply(lab_file(f"netns:{place.path}", "10.0.1.11"))
        assert place.run("ip", "route", "show", "default").startswith("default via 192.0.2.1 dev own0")
        assert lab["guest"].address == "10.0.1.10"
        place.run("ip", "route", "del", "default", "via", "192.0.2.1", "metric", "0")
        lab.apply(lab_file(f"netns:{place.path}", "10.0.1.11"))
        assert place.pings("10.0.2.10")
        place.run("ip", "link", "delete", "own0")
    place.assert_untouched()


@pytest.mark.root
def test_a_killed_lab_leaves_nothing_in_a_namespace(place: Place) -> None:
    lab = Lab.from_dict(lab_file(f"netns:{place.path}"))
    lab.up()
    try:
        assert "eth0" in place.links()
        os.kill(lab.status()["pid"], signal.SIGKILL)
        eventually(lambda: list(place.links()) == ["lo"], "the device is gone")
    finally:
        lab.down()
    place.assert_untouched()


@pytest.mark.root
def test_a_killed_lab_leaves_no_rule_of_several_interfaces(place: Place) -> None:
    lab = Lab.from_dict(two_interfaces(place))
    lab.up()
    try:
        assert place.rules() > {1000, 1001}
        os.kill(lab.status()["pid"], signal.SIGKILL)
        eventually(lambda: place.rules() == SYSTEM_RULES, "the rules are gone")
    finally:
        lab.down()
    place.assert_untouched()


@pytest.mark.root
def test_a_lab_starts_again_where_one_was_killed_with_its_spawner(place: Place) -> None:
    lab = Lab.from_dict(two_interfaces(place))
    lab.up()
    try:
        facts = lab.status()
        spawners = [
            process.pid
            for process in processes.all_processes()
            if processes.lab_of(process.pid) == facts["lab_id"] and processes.name_of(process.pid) == processes.SPAWNER
        ]
        for pid in (*spawners, facts["pid"]):
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: list(place.links()) == ["lo"], "the devices are gone")
        assert place.rules() > {1000, 1001}
    finally:
        lab.down()
    with Lab.from_dict(two_interfaces(place)) as again:
        assert again["server"].ping("10.0.2.20")
    place.assert_untouched()


@pytest.mark.root
def test_a_lab_that_cannot_start_leaves_no_rule(place: Place) -> None:
    place.own_default()
    place.before = place.routes()
    with pytest.raises(LabError, match="remove it"):
        Lab.from_dict(two_interfaces(place)).up()
    place.assert_untouched()


@pytest.mark.root
def test_what_cannot_be_entered(place: Place, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="guest: there is no network namespace /run/netns/nowhere-at-all; make it first"):
        Lab.from_dict(lab_file("netns:/run/netns/nowhere-at-all")).up()
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(LabError, match=r"guest: .*file cannot be entered: it is no network namespace"):
        Lab.from_dict(lab_file(f"netns:{file}")).up()
    place.run("ip", "tuntap", "add", "eth0", "mode", "tap")
    with pytest.raises(LabError, match="has a device eth0 already"):
        Lab.from_dict(lab_file(f"netns:{place.path}")).up()
    assert sorted(place.links()) == ["eth0", "lo"]
    place.run("ip", "link", "delete", "eth0")
    place.assert_untouched()


class Command:
    """`vpclab` run in a namespace, which TAP devices therefore appear in."""

    def __init__(self, place: Place, state: Path, file: dict[str, Any]) -> None:
        self.place = place
        self.file = state / "lab.yaml"
        self.file.write_text(json.dumps(file))
        self._environment = {**os.environ, "XDG_STATE_HOME": str(state)}

    def run(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            self.place.inside(sys.executable, "-P", "-m", "vpclab", *words),
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.mark.root
def test_a_tap_device_that_the_lab_makes(place: Place, tmp_path: Path) -> None:
    command = Command(place, tmp_path, lab_file("tap:guest0"))
    command.run("up", str(command.file))
    try:
        device = place.links()["guest0"]
        status = json.loads(command.run("status", "--format", "json"))
        (guest, _) = status["nodes"]
        assert (guest["attach"], guest["interfaces"][0]["mac"], device["mtu"]) == (
            "tap:guest0",
            device["address"],
            9001,
        )
        # Addresses and routes are the business of whoever is behind the device: here, this kernel.
        assert not [each for each in device["addr_info"] if each["family"] == "inet"]
        place.run("ip", "addr", "add", "10.0.1.10/24", "dev", "guest0")
        place.run("ip", "route", "add", "10.0.2.0/24", "via", "10.0.1.1")
        assert place.pings("10.0.2.10")
        assert "1 received" in command.run("ping", "server", "guest", "-c", "1")
        assert "what is behind it sends" in command.run("exec", "guest", "--", "true", check=False)
        capture = tmp_path / "capture.pcapng"
        recording = subprocess.Popen(
            place.inside(sys.executable, "-P", "-m", "vpclab", "capture", "guest", "-c", "2", "-w", str(capture)),
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        )
        eventually(
            lambda: place.pings("10.0.2.10") and recording.poll() is not None, "it has two packets", deadline_s=60
        )
        assert capture.stat().st_size > 100
        report = command.run("report")
        assert "guest" not in report.partition("Try next")[0]
        # Changed in place: the device stays, and so do the addresses that are not ours.
        command.file.write_text(json.dumps(lab_file("tap:guest0", secondary_private_ips=["10.0.1.12"])))
        command.run("apply", str(command.file))
        assert place.pings("10.0.2.10")
    finally:
        command.run("down")
    place.assert_untouched()


@pytest.mark.root
def test_what_a_tap_device_would_have_to_send_is_left_out_of_a_comparison(place: Place, tmp_path: Path) -> None:
    command = Command(place, tmp_path, lab_file("tap:guest0"))
    found = json.loads(command.run("verify", str(command.file), "--format", "json"))
    assert (found["disagreements"], found["asked"] > 0, found["left_out"] > 0) == ([], True, True)
    said = command.run("verify", str(command.file))
    assert f"; {found['left_out']} were left out: what is behind a TAP device sends by itself" in said
    place.assert_untouched()


@pytest.mark.root
def test_a_tap_device_that_is_there(place: Place, tmp_path: Path) -> None:
    place.run("ip", "tuntap", "add", "guest0", "mode", "tap")
    place.run("ip", "addr", "add", "10.0.1.10/24", "dev", "guest0")
    before = place.links()["guest0"]["address"]
    command = Command(place, tmp_path, lab_file("tap:guest0"))
    command.run("up", str(command.file))
    try:
        assert place.links()["guest0"]["address"] == before
        assert "in use by another program" in command.run("up", str(command.file), "--name", "again", check=False)
        (guest, _) = json.loads(command.run("status", "--format", "json"))["nodes"]
        place.run("ip", "link", "set", "guest0", "address", guest["interfaces"][0]["mac"], "up")
        place.run("ip", "route", "add", "10.0.2.0/24", "via", "10.0.1.1")
        assert place.pings("10.0.2.10")
    finally:
        command.run("down")
    assert sorted(place.links()) == ["guest0", "lo"]
    place.run("ip", "link", "delete", "guest0")
    place.run("ip", "tuntap", "add", "guest0", "mode", "tun")
    assert "is no TAP device" in command.run("up", str(command.file), check=False)
    place.run("ip", "link", "delete", "guest0")
    place.assert_untouched()


@pytest.mark.rootless
def test_what_needs_root() -> None:
    with pytest.raises(LabError, match="attach: tap:guest0 needs root: run sudo vpclab up"):
        Lab.from_dict(lab_file("tap:guest0")).up()
    outside = processes.this_process().pid
    with pytest.raises(LabError, match=r"cannot be entered: it is another user's; run vpclab as root"):
        Lab.from_dict(lab_file(f"netns:/proc/{outside}/ns/net")).up()

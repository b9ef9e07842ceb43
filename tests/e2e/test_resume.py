"""`vpclab up --resume`: the daemon was killed, its instances were not."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import gc, processes
from lab.state import DAEMON, JOURNAL, NAMES, RUNTIME, LabState
from tests.e2e.command import Command, rest_of
from tests.e2e.lab.stage import HOLD, KNOCK, child_of, commands, eventually, names_of
from vpclab import Lab, LabError, Node, VpclabError

FILES = Path(__file__).parents[1] / "crashes"
BEFORE, AFTER = FILES / "before.yaml", FILES / "after.yaml"
LURE = """
import contextlib, os, pickle, socket, struct, sys

class Trap:
    def __reduce__(self):
        return open, (sys.argv[1] + "/sprung", "w")

os.chdir(sys.argv[1])
os.unlink("nodes.sock")
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind("nodes.sock")
    listener.listen()
    print("listens", flush=True)
    payload = pickle.dumps(Trap())
    for _ in range(2):
        with contextlib.suppress(ConnectionError):
            listener.accept()[0].sendall(struct.pack("=IB", len(payload), 0) + payload)
    sys.stdin.read()
"""
VPCLAB = Command()
SECOND_INTERFACE = """\
    network_interfaces:
      second: {subnet: private, private_ips: [10.0.2.200], attachment: {instance: app, device_index: 1}}
"""


class Crashed:
    """A lab that runs detached, and whose daemon can be killed."""

    def __init__(self, name: str = "crash") -> None:
        self.state = LabState(name)

    def kill(self) -> None:
        os.kill(self.state.read(DAEMON)["pid"], signal.SIGKILL)
        eventually(lambda: not self.state.is_running(), "the daemon is gone")

    def kill_and_stop(self) -> None:
        """Stop the spawner as well, which else ends as soon as it sees that nobody finds its door."""
        os.kill(self.spawner, signal.SIGSTOP)
        self.kill()

    def resume(self) -> Lab:
        assert "is up again: 4 nodes in" in VPCLAB.said("up", "--resume")
        return Lab.attach()

    def resume_in_vain(self, number: int) -> None:
        """Send a signal in the middle of it: SIGINT to the command, or SIGKILL to the daemon."""
        log = self.state.path / "daemon.log"
        for _ in range(30):  # on a machine that is busy with others it may come too late
            size = log.stat().st_size
            with VPCLAB.start("up", "--resume") as command:
                while "another daemon has taken over" not in log.read_text()[size:] and command.poll() is None:
                    time.sleep(0.001)
                if command.poll() is None:  # else its number may be another's
                    who = child_of(command.pid) if number == signal.SIGKILL else command.pid
                    if who:
                        os.kill(who, number)
                said = rest_of(command)
            if command.returncode:
                assert "interrupted" in said if number == signal.SIGINT else "its daemon ended" in said
                eventually(lambda: not self.state.is_running(), "its daemon has ended")
                return
            self.kill()
        raise AssertionError("it was always up before")

    @property
    def spawner(self) -> int:
        return int(self.state.read(RUNTIME)["pid"])

    @property
    def lab_id(self) -> str:
        return str(self.state.read(RUNTIME)["lab_id"])


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crashed]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        made = Crashed()
        yield made
        end(made)


@pytest.fixture
def crashed(lab: Crashed) -> Iterator[Crashed]:
    """It runs, as `BEFORE` says. It is the same for all tests, as long as they bring it back."""
    if lab.state.path.exists():
        Lab.attach().apply(BEFORE)
    else:
        VPCLAB.said("up", str(BEFORE))
    yield lab
    if not lab.state.is_running():
        end(lab)


def end(lab: Crashed) -> None:
    """Nothing is left."""
    lab_id = lab.lab_id if (lab.state.path / RUNTIME).exists() else ""
    Lab("crash", "", "").down()
    assert gc.collect("crash") == []
    if lab_id:
        eventually(lambda: not commands(lab_id) and not names_of(lab_id), "nothing of it is left")
    assert not lab.state.path.exists()


def hold(node: Node, device: str) -> subprocess.Popen[str]:
    """A program in a node has the other end of a TAP device, until it hears no more."""
    line = [sys.executable, "-I", "-c", HOLD, device]
    holder = node.popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def programs(lab: Lab) -> dict[str, Any]:
    return {f"{n['name']}/{p['name']}": p for n in lab.status()["nodes"] for p in n["programs"]}


def test_instances_and_what_runs_in_them_go_on(crashed: Crashed) -> None:
    lab = Lab.attach()
    before = programs(lab)
    with lab["app"].popen(["sleep", "1000"]) as sleeper:
        crashed.kill()
        assert "its instances run on" in VPCLAB.said("status", "--lab", "crash", status=3)
        assert "bring back the one whose daemon was killed" in VPCLAB.said("ping", "app", "web", status=3)
        again = crashed.resume()
        assert programs(again) == before
        assert sleeper.poll() is None
        assert again["app"].ping("visitor", timeout_s=10)
        sleeper.kill()
    assert again.apply(BEFORE, dry_run=True) == []
    assert again.status()["file"] == str(BEFORE)


def test_a_program_that_dies_meanwhile_is_started_again(crashed: Crashed) -> None:
    before = programs(Lab.attach())["web/http"]["pid"]
    crashed.kill()
    os.kill(before, signal.SIGKILL)
    again = crashed.resume()
    eventually(lambda: programs(again)["web/http"]["state"] == "running", "it is started again")
    assert programs(again)["web/http"]["pid"] != before
    assert again["visitor"].run(["curl", "-sS", "-m", "10", "http://203.0.113.20/"]).returncode == 0


def test_what_was_applied_last_comes_back_with_its_clock(crashed: Crashed) -> None:
    lab = Lab.attach()
    lab.apply(AFTER)
    lab.clock.advance(3600)
    before = programs(lab)
    crashed.kill()
    again = crashed.resume()
    assert again.apply(AFTER, dry_run=True) == []
    assert again.status()["clock_offset_s"] == 3600
    assert programs(again) == before
    again.apply(BEFORE)
    assert again["app"].ping("visitor", timeout_s=10)
    crashed.kill()
    assert crashed.resume().apply(BEFORE, dry_run=True) == []


class Talk:
    """A TCP connection in which one side says something every few milliseconds, and the other says it back."""

    def __init__(self, lab: Lab, client: str, server: str, address: str, port: int) -> None:
        listener = self.listener = lab[server].socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("", port))
        listener.listen()
        self._ends = [lab[client].socket()]
        self._ends[0].settimeout(60)
        self._ends[0].connect((address, port))
        self._ends.append(listener.accept()[0])
        self.gap_s, self.count, self.failure = 0.0, 0, ""
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._ask, self._answer)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        try:
            while not self._ended.wait(0.005):
                began = time.monotonic()
                self._ends[0].sendall(b"x")
                if not self._ends[0].recv(1):
                    raise ConnectionError("hung up")
                self.gap_s = max(self.gap_s, time.monotonic() - began)
                self.count += 1
        except OSError as error:
            self.failure = str(error)

    def _answer(self) -> None:
        with contextlib.suppress(OSError):
            while said := self._ends[1].recv(1):
                self._ends[1].sendall(said)

    def goes_on(self) -> None:
        seen = self.count
        eventually(lambda: self.failure or self.count > seen + 10, "it goes on", deadline_s=60)
        assert not self.failure

    def break_off(self) -> None:
        """End it although nothing comes any more."""
        for end in self._ends:
            end.settimeout(0.1)
        self.close()

    def close(self) -> None:
        self._ended.set()
        self._threads[0].join(60)
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._threads[1].join(60)
        for end in (*self._ends, self.listener):
            end.close()


def translated(lab: Lab) -> list[str]:
    """The ports of TCP connections at NAT gateways."""
    return sorted(row["translated"] for row in lab.nat()["translations"] if row["protocol"] == "tcp")


def test_connections_go_on(crashed: Crashed) -> None:
    """Through security groups that remember who began, a NAT gateway, and an Elastic IP address."""
    lab = Lab.attach()
    lab.apply(AFTER)
    talks = {"group, NAT gateway": Talk(lab, "app", "visitor", "198.51.100.77", 4000)}
    try:
        talks["Elastic IP address, group"] = Talk(lab, "visitor", "web", "203.0.113.20", 81)
        talks["Elastic IP address, group"].listener.close()
        talks["two groups"] = Talk(lab, "app", "web", lab.address_of("web", source="app"), 81)
        for talk in talks.values():
            talk.goes_on()
        ports = translated(lab)
        assert ports
        began = time.monotonic()
        crashed.kill()
        again = crashed.resume()
        took_s = time.monotonic() - began
        for name, talk in talks.items():
            talk.goes_on()
            print(f"{name}: {talk.gap_s:.2f} s without an answer; up again {took_s:.2f} s after the kill")
            assert talk.gap_s < 3 * took_s + 2, "the time without a network, and as much again until TCP tries again"
        assert translated(again) == ports
        assert not [each for each in again.status()["warnings"] if "TCP connections" in each]
    finally:
        for talk in talks.values():
            talk.close()


def test_udp_through_a_nat_gateway_has_the_same_port_again(crashed: Crashed) -> None:
    lab = Lab.attach()
    with lab["app"].socket(kind=socket.SOCK_DGRAM) as ours, lab["visitor"].socket(kind=socket.SOCK_DGRAM) as theirs:
        ours.bind(("", 5000))
        theirs.bind(("", 5000))
        theirs.settimeout(20)
        ours.settimeout(20)

        def ask() -> Any:
            ours.sendto(b"x", ("198.51.100.77", 5000))
            _, seen = theirs.recvfrom(10)
            theirs.sendto(b"y", seen)
            assert ours.recv(10) == b"y"
            return seen

        before = ask()
        crashed.kill()
        crashed.resume()
        assert ask() == before


def test_a_connection_that_no_rule_allows_any_more_is_named(crashed: Crashed, tmp_path: Path) -> None:
    """While its network remembers it, it goes on whatever the rules say now; what is rebuilt is what they allow."""
    lab = Lab.attach()
    everybody = "{protocol: tcp, ports: 80, source: 0.0.0.0/0}"
    opened = tmp_path / "opened.yaml"  # for some: what is open to everybody is not tracked, as on AWS
    opened.write_text(BEFORE.read_text().replace(everybody, f"{everybody}, {everybody.replace('80', '81')}"))
    opened.write_text(opened.read_text().replace("ports: 81, source: 0.0.0.0/0", "ports: 81, source: 198.51.100.0/24"))
    lab.apply(opened)
    talk = Talk(lab, "visitor", "web", "203.0.113.20", 81)
    try:
        lab.apply(BEFORE)
        talk.goes_on()
        crashed.kill()
        [warning] = [each for each in crashed.resume().status()["warnings"] if "TCP connections" in each]
        assert "1 TCP connections do not go on (198.51.100.77:" in warning
        assert " > 203.0.113.20:81)" in warning
    finally:
        talk.break_off()


def test_an_instance_that_cannot_be_what_it_should_be_costs_no_other(crashed: Crashed, tmp_path: Path) -> None:
    """As when the daemon is killed in the middle of an `apply`, and the instance is in the way of going on."""
    lab = Lab.attach()
    before, app = programs(lab), lab["app"]
    wider = tmp_path / "wider.yaml"
    groups = "    security_groups:\n"
    wider.write_text(BEFORE.read_text().replace(groups, SECOND_INTERFACE + groups, 1))
    assert {change["path"] for change in lab.apply(wider, dry_run=True)} == {"vpcs.shop.network_interfaces.second"}
    crashed.kill()
    recorded = crashed.state.read(JOURNAL)
    crashed.state.write(JOURNAL, {**recorded, "text": wider.read_text()})
    with hold(app, "eth1") as holder:
        again = crashed.resume()
        assert programs(again) == before
        [warning] = [each for each in again.status()["warnings"] if "flow log" not in each]
        assert "node app is not what it should be: node app cannot be set up: " in warning
        assert again["app"].ping("visitor", timeout_s=10)
        assert again["visitor"].run(["curl", "-sS", "-m", "10", "http://203.0.113.20/"]).returncode == 0
        holder.communicate()
    without = tmp_path / "without.yaml"
    without.write_text(re.sub(r"(?ms)^  app:.*?^  goes:", "  goes:", BEFORE.read_text()))
    again.apply(without)
    again.apply(wider)
    assert len(again["app"].addresses) == 2
    assert again["app"].ping("visitor", timeout_s=10)


@pytest.mark.root  # without, no node has a name
def test_an_instance_that_is_not_there_and_cannot_be_made_is_in_no_other_s_way(
    crashed: Crashed, tmp_path: Path
) -> None:
    """Checks of it say so, others are judged, and the same file makes it when what was in its way is gone."""
    wider = tmp_path / "wider.yaml"
    group = "      open: {description: open, ingress: [{protocol: all, source: 0.0.0.0/0}]}\n"
    ghost = "  ghost: {vpc: shop, subnet: private, security_groups: [open]}\n"
    text = BEFORE.read_text().replace("    flow_logs:\n", f"{group}    flow_logs:\n")
    wider.write_text(text.replace("internet:\n", f"{ghost}internet:\n"))
    crashed.kill()
    crashed.state.write(JOURNAL, {**crashed.state.read(JOURNAL), "text": wider.read_text()})
    names = crashed.state.path / NAMES
    names.rename(names.with_name("aside"))
    names.mkdir()
    again = crashed.resume()
    [warning] = [each for each in again.status()["warnings"] if "ghost" in each]
    assert "node ghost is not there: nodes cannot be made: " in warning
    checks: list[dict[str, Any]] = [
        {"can": "ghost -> app", "protocol": "icmp"},
        {"can": "app -> ghost", "port": 80},
        {"cannot": "app -> ghost", "protocol": "udp", "port": 9},
        {"can": "app -> visitor", "protocol": "icmp"},
        {"cannot": "visitor -> web", "port": 81},
    ]
    rows = again.check(checks, patience_s=1.0)
    assert [row["holds"] for row in rows] == [False, False, False, True, True]
    assert ["node ghost could not be made" in row["why"] for row in rows] == [True, True, True, False, False]
    with pytest.raises(VpclabError, match="ghost could not be made when lab crash was brought back"):
        again["ghost"].run(["true"])
    names.rmdir()
    names.with_name("aside").rename(names)
    assert [each["path"] for each in again.apply(wider)] == ["instances.ghost"]
    assert again["app"].ping("ghost", timeout_s=10)
    assert all(row["holds"] for row in again.check(checks[:1]))


def test_who_interrupts_a_resumption_leaves_what_it_was_to_rescue(crashed: Crashed) -> None:
    before = programs(Lab.attach())
    crashed.kill()
    crashed.resume_in_vain(signal.SIGINT)
    assert "its instances run on" in VPCLAB.said("status", "--lab", "crash", status=3)
    crashed.resume_in_vain(signal.SIGKILL)
    again = crashed.resume()
    assert programs(again) == before
    assert again["app"].ping("visitor", timeout_s=10)


def test_a_program_in_an_instance_does_not_come_through_the_door(crashed: Crashed) -> None:
    """It is the lab's user, and finds the door: a daemon comes from where the lab was started."""
    app = Lab.attach()["app"]
    knock = [sys.executable, "-I", "-c", KNOCK, str(crashed.state.path)]
    assert "ConnectionRefusedError" in app.run(knock).stderr, "while there is a daemon nobody gets in"
    crashed.kill()
    told = eventually(lambda: app.run(knock).stdout, "the spawner has noticed, and answers")
    assert "in the network namespace that it was started in only" in told
    assert "10.0.2" not in told
    crashed.resume()


@pytest.mark.parametrize("make", ["mkfifo {log}", "mkdir {log}; touch {log}/deep"], ids=["pipe", "folder"])
def test_what_lies_in_place_of_the_log_is_in_nobody_s_way(crashed: Crashed, make: str) -> None:
    """A program in an instance may have made it: nobody would read the pipe."""
    log = crashed.state.path / "daemon.log"
    Lab.attach()["app"].run(["sh", "-c", f"rm {log}; {make.format(log=log)}"], check=True)
    crashed.kill()
    crashed.resume()
    assert log.is_file()


def is_not_believed(crashed: Crashed, pid: int) -> None:
    """Who has put a socket of its own in place of the door; twice, the second time the record names it."""
    recorded, listener = crashed.state.read(RUNTIME), processes.find(pid)
    assert listener is not None
    for told in (recorded, {**recorded, "pid": listener.pid, "start": listener.start}):
        crashed.state.write(RUNTIME, told)
        assert "is not the spawner's of lab crash" in VPCLAB.said("up", "--resume", status=3)
    crashed.state.write(RUNTIME, recorded)


def test_what_a_program_in_an_instance_puts_in_place_of_the_door_is_not_believed(crashed: Crashed) -> None:
    """Not even when the record names that program: both lie in a folder that it may write to."""
    app, folder = Lab.attach()["app"], crashed.state.path
    crashed.kill_and_stop()
    lure = [sys.executable, "-I", "-c", LURE, str(folder)]
    with app.popen(lure, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as entered:
        assert entered.stdout is not None
        assert entered.stdout.readline() == "listens\n"
        is_not_believed(crashed, child_of(entered.pid))
        entered.communicate()
    assert not (folder / "sprung").exists()


def test_what_another_process_of_the_user_says_is_not_believed(crashed: Crashed) -> None:
    """Programs in instances can put the way to its socket in place of the door, and its number into the record."""
    folder = crashed.state.path
    crashed.kill_and_stop()
    lure = [sys.executable, "-I", "-c", LURE, str(folder)]
    with subprocess.Popen(lure, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as bystander:
        assert bystander.stdout is not None
        assert bystander.stdout.readline() == "listens\n"
        is_not_believed(crashed, bystander.pid)
        bystander.communicate()
    assert not (folder / "sprung").exists()


def test_without_instances_there_is_nothing_to_resume(crashed: Crashed) -> None:
    assert "nothing to resume" in VPCLAB.said("up", "--resume", "--name", "crash", status=3)
    crashed.kill()
    os.kill(crashed.state.read(RUNTIME)["pid"], signal.SIGKILL)
    eventually(lambda: not commands(crashed.lab_id), "they have ended")
    assert "no lab can be resumed" in VPCLAB.said("up", "--resume", status=3)
    assert "start it anew: vpclab up FILE" in VPCLAB.said("up", "--resume", "--name", "crash", status=3)
    assert "Say either FILE or --resume" in VPCLAB.said("up", "--resume", str(BEFORE), status=2)


def test_instances_end_when_gc_is_asked_also_after_a_resumption_that_was_killed(crashed: Crashed) -> None:
    crashed.kill()
    crashed.resume_in_vain(signal.SIGKILL)
    lab_id = crashed.lab_id
    assert commands(lab_id)
    [removed] = gc.collect("crash")
    assert removed.lab == "crash"
    eventually(lambda: not commands(lab_id) and not names_of(lab_id), "nothing is left")
    with pytest.raises(LabError, match="no lab is running"):
        Lab.attach()


def test_instances_end_when_their_folder_is_removed(crashed: Crashed) -> None:
    crashed.kill()
    lab_id = crashed.lab_id
    shutil.rmtree(crashed.state.path)
    eventually(lambda: not commands(lab_id), "nobody can find them any more, so they end")
    gc.collect("crash")
    assert not names_of(lab_id)

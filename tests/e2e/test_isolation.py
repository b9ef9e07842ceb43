"""An instance reaches nothing of this machine or of another lab but the files of whoever runs it (docs/security.md)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lab.capabilities import DROPPED
from lab.control import SOCKET_NAME, ImpostorError
from tests.e2e.lab.stage import eventually, need
from vpclab import Lab
from vpclab.cli import cli

INTRUDER = str(Path(__file__).with_name("intruder.py"))
PATIENCE_S = 20.0
ALL = {"protocol": "all", "source": "0.0.0.0/0"}


def lab_file(name: str, **more: str) -> dict[str, Any]:
    """Two instances in 10.0.1.0/24, one of which runs the intruder as a program of its own, and others."""
    place = {"vpc": "v", "subnet": "one", "security_groups": ["open"]}
    intruder = {"command": [sys.executable, "-I", INTRUDER], "restart": "never"}
    return {
        "version": 1,
        "name": name,
        "vpcs": {
            "v": {
                "cidr": "10.0.0.0/16",
                "subnets": {"one": {"cidr": "10.0.1.0/24"}},
                "security_groups": {"open": {"description": "everything", "ingress": [ALL]}},
            }
        },
        "instances": {
            "web": {**place, "private_ip": "10.0.1.10", "programs": {"intruder": intruder}},
            "app": {**place, "private_ip": "10.0.1.11"},
            **{each: {**place, "private_ip": address} for each, address in more.items()},
        },
    }


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.from_dict(lab_file("inmates")) as lab:
        yield lab


@pytest.fixture(scope="module")
def other() -> Iterator[Lab]:
    """A lab with the same blocks and addresses, and an instance more."""
    with Lab.from_dict(lab_file("others", only="10.0.1.12")) as lab:
        yield lab


def intrusion(lab: Lab, *arguments: str) -> dict[str, Any]:
    """What the intruder tells that is run as a command."""
    done = lab["web"].run([sys.executable, "-I", INTRUDER, *arguments], check=True)
    return dict(json.loads(done.stdout))


@pytest.fixture(params=["program", "command"])
def told(request: pytest.FixtureRequest, lab: Lab) -> dict[str, Any]:
    """What the intruder tells, as a program of the lab file and as a command: they are started in different ways."""
    if request.param == "command":
        return intrusion(lab)
    log = lab.folder / "nodes" / "web" / "intruder.log"
    return dict(json.loads(eventually(lambda: log.exists() and log.read_text().endswith("\n") and log.read_text(), "")))


# -- the machine ------------------------------------------------------------------------------------------------------


def test_root_in_an_instance_may_do_nothing_to_the_machine(told: dict[str, Any]) -> None:
    dropped = sum(1 << number for number in DROPPED.values())
    assert {name: held & dropped for name, held in told["capabilities"].items() if held & dropped} == {}
    assert set(told["attempts"].values()) == {"EPERM"}, told["attempts"]


def test_root_in_an_instance_may_do_everything_to_its_network(told: dict[str, Any]) -> None:
    """What would make the test above pass for the wrong reason."""
    net_admin, net_raw = 12, 13
    wanted = 1 << net_admin | 1 << net_raw
    assert told["capabilities"]["CapEff"] & wanted == wanted


def test_nothing_of_ours_is_open_in_what_runs_in_an_instance(told: dict[str, Any]) -> None:
    assert sorted(told["descriptors"]) == ["0", "1", "2"]


def test_processes_outside_are_not_to_be_seen(told: dict[str, Any], lab: Lab) -> None:
    assert told["processes"][0] == 1
    assert len(told["processes"]) < 8, "those are not of this lab alone"


@pytest.mark.root
def test_below_the_proc_of_an_instance_is_nothing(lab: Lab) -> None:
    assert intrusion(lab, str(os.getpid()))["outside"]["processes"] == []


@pytest.mark.rootless
def test_below_the_proc_of_an_instance_others_are_seen_and_not_reached(lab: Lab) -> None:
    """A user namespace cannot take the machine's /proc away; what is seen there is what its user sees anyway."""
    pid = os.getpid()
    outside = intrusion(lab, str(pid))["outside"]
    assert pid in outside["processes"]
    assert set(outside["attempts"].values()) <= {"EACCES", "EPERM"}, outside["attempts"]
    assert len(outside["attempts"]) == 7


def test_shared_memory_of_the_machine_is_not_that_of_instances() -> None:
    made = subprocess.run([need("ipcmk"), "-M", "4096"], capture_output=True, text=True, check=True).stdout
    number = made.split()[-1]
    try:
        listed = subprocess.run(["ipcs", "-m"], capture_output=True, text=True, check=True).stdout
        assert number in [line.split()[1] for line in listed.splitlines() if line.startswith("0x")]
        file = lab_file("memory")
        file["instances"]["web"]["programs"] = {"ipcs": {"command": ["ipcs", "-m"], "restart": "never"}}
        with Lab.from_dict(file) as lab:
            log = lab.folder / "nodes" / "web" / "ipcs.log"
            by_program = eventually(lambda: log.exists() and log.read_text(), "what ipcs prints")
            by_command = lab["web"].run(["ipcs", "-m"], check=True).stdout
        for seen in (by_program, by_command):
            assert "shmid" in seen
            assert not [line for line in seen.splitlines() if line.startswith("0x")]
    finally:
        subprocess.run([need("ipcrm"), "-m", number], check=True)


@contextmanager
def listening(family: int, address: Any) -> Iterator[socket.socket]:
    """A server on this machine, outside of all labs."""
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.bind(address)
        server.listen()
        server.settimeout(PATIENCE_S)
        yield server


def reaches(lab: Lab, family: int, address: Any, *, timeout_s: float = 1.0) -> str:
    """What becomes of a connection from an instance: "connected", or the error."""
    with lab["web"].socket(family, socket.SOCK_STREAM) as line:
        line.settimeout(timeout_s)
        try:
            line.connect(address)
        except OSError as error:
            return type(error).__name__
    return "connected"


def test_servers_of_the_machine_are_not_reached_by_any_of_its_addresses(lab: Lab) -> None:
    with listening(socket.AF_INET, ("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        own = {"127.0.0.1", *subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split()}
        for address in sorted(each for each in own if ":" not in each):
            with socket.create_connection((address, port), timeout=PATIENCE_S):
                server.accept()[0].close()
            assert reaches(lab, socket.AF_INET, (address, port)) != "connected", address
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_sockets_with_abstract_names_are_not_shared(lab: Lab, other: Lab) -> None:
    name = f"\0vpclab-test-{os.getpid()}"
    with listening(socket.AF_UNIX, name) as server:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.connect(name)
        server.accept()[0].close()
        assert reaches(lab, socket.AF_UNIX, name) == "ConnectionRefusedError"
    with lab["app"].socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(name)
        server.listen()
        assert reaches(lab, socket.AF_UNIX, name) == "ConnectionRefusedError"
        assert reaches(other, socket.AF_UNIX, name) == "ConnectionRefusedError"


# -- another lab ------------------------------------------------------------------------------------------------------


def test_an_address_is_that_of_ones_own_lab(lab: Lab, other: Lab) -> None:
    def serve(place: Lab, node: str) -> socket.socket:
        server = place[node].socket()
        server.bind(("", 7777))
        server.listen()
        return server

    with serve(other, "app"), serve(other, "only"):
        assert reaches(other, socket.AF_INET, ("10.0.1.11", 7777), timeout_s=PATIENCE_S) == "connected"
        assert reaches(other, socket.AF_INET, ("10.0.1.12", 7777), timeout_s=PATIENCE_S) == "connected"
        # by its own `app`
        assert reaches(lab, socket.AF_INET, ("10.0.1.11", 7777), timeout_s=PATIENCE_S) == "ConnectionRefusedError"
        assert reaches(lab, socket.AF_INET, ("10.0.1.12", 7777)) in ("TimeoutError", "OSError")  # nobody is there


# -- the control socket ------------------------------------------------------------------------------------------------

_ASK = """
import socket, sys
line = socket.socket(socket.AF_UNIX)
line.settimeout(20)
try:
    line.connect(sys.argv[1])
    line.sendall(b'{"version": 1, "verb": "status", "arguments": {}}\\n')
except (BrokenPipeError, ConnectionResetError):
    pass  # refused at once; why can be read all the same
except PermissionError:
    sys.exit("may not connect")
print(line.makefile().readline())
"""
ASK = [sys.executable, "-I", "-S", "-c", _ASK]


def error_of(answer: str) -> str:
    """What a refusal says; fails when it is none."""
    return str(json.loads(answer)["error"]["message"])


@pytest.mark.parametrize("whose", ["its own", "another"])
def test_an_instance_does_not_control_labs(lab: Lab, other: Lab, whose: str) -> None:
    """Though what runs in it is the very user who does."""
    path = str((lab if whose == "its own" else other).folder / SOCKET_NAME)
    assert "result" in json.loads(subprocess.run([*ASK, path], capture_output=True, text=True, check=True).stdout)
    asked = lab["web"].run([*ASK, path], check=True).stdout
    assert error_of(asked) == "a lab is controlled from the network namespace that it was started in only"
    assert lab.status()["name"] == lab.name


def test_an_instance_does_not_control_labs_from_a_namespace_of_its_own_making(lab: Lab) -> None:
    asked = lab["web"].run([need("unshare"), "-rn", *ASK, str(lab.folder / SOCKET_NAME)], check=True).stdout
    assert "network namespace" in error_of(asked)


_LISTEN = """
import os, socket, sys
os.unlink(sys.argv[1])
line = socket.socket(socket.AF_UNIX)
line.bind(sys.argv[1])
line.listen()
print("listens", flush=True)
while True:
    print(line.accept()[0].recv(100).decode(), flush=True)
"""


def test_an_instance_that_listens_in_place_of_the_daemon_is_told_nothing() -> None:
    """Nor does it choose what `vpclab exec` enters; and the lab goes down, as its lock says who it is."""
    with Lab.from_dict(lab_file("taken")) as lab:
        place = str(lab.folder / SOCKET_NAME)
        command = [sys.executable, "-I", "-S", "-c", _LISTEN, place]
        with lab["web"].popen(command, stdout=subprocess.PIPE, text=True) as listener:
            assert listener.stdout is not None
            assert listener.stdout.readline() == "listens\n"
            for asked in (lab.status, lambda: lab["app"]):
                with pytest.raises(ImpostorError, match=r"somebody else listens at .*control\.sock"):
                    asked()
            said = CliRunner().invoke(cli, ["labs"])
            assert lab.name in said.stdout, "it runs, as its lock says"
            assert "somebody else listens at" in said.stderr
            lab.down()
            assert set(listener.stdout.read().split("\n")) <= {""}
        assert not lab.folder.exists()


def test_an_instance_does_not_lead_commands_to_another_lab(other: Lab) -> None:
    with Lab.from_dict(lab_file("led")) as lab:
        place = lab.folder / SOCKET_NAME
        lab["web"].run(["ln", "-sf", str(other.folder / SOCKET_NAME), str(place)], check=True)
        with pytest.raises(ImpostorError, match="this is another lab"):
            lab.status()
        lab.down()
        assert not lab.folder.exists()
    assert other.status()["name"] == other.name


@contextmanager
def loosened(folder: Path) -> Iterator[int]:
    """A lab's folder and socket open to all, as by an over-eager `chmod -R`; a descriptor of the folder."""
    socket_file = folder / SOCKET_NAME
    before = [(path, path.stat().st_mode) for path in (folder, socket_file)]
    assert [mode & 0o777 for _, mode in before] == [0o700, 0o600]
    folder.chmod(0o777)
    socket_file.chmod(0o777)
    opened = os.open(folder, os.O_PATH | os.O_DIRECTORY)  # those above it are not open to all
    try:
        yield opened
    finally:
        os.close(opened)
        for path, mode in before:
            path.chmod(mode)


@pytest.mark.root
def test_another_user_is_refused(lab: Lab) -> None:
    another = [need("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"]
    folder = os.open(lab.folder, os.O_PATH | os.O_DIRECTORY)
    try:
        command = [*another, *ASK, f"/proc/self/fd/{folder}/{SOCKET_NAME}"]
        strict = subprocess.run(command, pass_fds=[folder], capture_output=True, text=True)
    finally:
        os.close(folder)
    assert (strict.returncode, strict.stderr.strip()) == (1, "may not connect")
    with loosened(lab.folder) as folder:
        command = [*another, *ASK, f"/proc/self/fd/{folder}/{SOCKET_NAME}"]
        loose = subprocess.run(command, pass_fds=[folder], capture_output=True, text=True, check=True)
    assert error_of(loose.stdout) == "this lab belongs to another user"


def test_another_user_inside_is_refused_as_another_user(lab: Lab) -> None:
    """Without root the other users of an instance are other users of this machine, too (newuidmap)."""
    if lab.status()["warnings"]:
        pytest.skip("only uid 0 exists in the nodes here")
    another = [need("setpriv"), "--reuid=1000", "--regid=1000", "--clear-groups"]
    with loosened(lab.folder) as folder:
        command = [*another, *ASK, f"/proc/self/fd/{folder}/{SOCKET_NAME}"]
        with lab["web"].popen(command, pass_fds=[folder], stdout=subprocess.PIPE, text=True) as child:
            answer, _ = child.communicate(timeout=PATIENCE_S)
    assert error_of(answer) == "this lab belongs to another user"


# -- what is not root inside -------------------------------------------------------------------------------------------

_GIVES_UP_ROOT = ["--reuid=1000", "--regid=1000", "--clear-groups", "--no-new-privs"]
"""As docs/security.md says."""


def test_who_gives_up_root_inside_reaches_no_lab_folder_and_no_other_program(lab: Lab) -> None:
    if lab.status()["warnings"]:
        pytest.skip("only uid 0 exists in the nodes here")

    def attempt(*command: str) -> tuple[int, str]:
        done = lab["web"].run([need("setpriv"), *_GIVES_UP_ROOT, *command], check=False)
        return done.returncode, done.stderr

    assert attempt("ping", "-nqc1", "-W5", "10.0.1.11")[0] == 0
    with lab["app"].popen(["sleep", "1000"]) as other:
        inside = next(
            entry
            for entry in lab["web"].run(["ps", "-eo", "pid,args"], check=True).stdout.splitlines()
            if entry.endswith("sleep 1000")
        ).split()[0]
        for command in (("kill", inside), ("ls", f"/proc/{inside}/fd"), ("ls", str(lab.folder))):
            code, why = attempt(*command)
            assert code != 0, command
            assert "ermi" in why, why  # not permitted, or permission denied
        assert other.poll() is None
        other.terminate()

"""The control socket: requests, errors, garbage, limits, and who may speak."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataplane.errors import ConfigurationError, LabError, LimitError, Problem
from lab import control
from lab.control import ControlClient, ControlServer, ImpostorError, NotRunningError, RequestError
from lab.socket_path import peer_uid, reachable

release = threading.Event()


def echo(arguments: Mapping[str, Any]) -> Any:
    return dict(arguments)


def wrong_file(arguments: Mapping[str, Any]) -> Any:
    raise ConfigurationError(
        [Problem("vpcs.shop", "bad", code="InvalidVpc.Range", hint="good", file="l", line=3, column=4)]
    )


def full(arguments: Mapping[str, Any]) -> Any:
    raise LimitError("sessions: 5, at most 4")


def refused(arguments: Mapping[str, Any]) -> Any:
    raise LabError("no /dev/net/tun")


def buggy(arguments: Mapping[str, Any]) -> Any:
    return arguments["missing"]


def wait(arguments: Mapping[str, Any]) -> Any:
    release.wait(10)
    return None


def scarce(arguments: Mapping[str, Any]) -> Any:
    raise OSError(errno.EMFILE, "Too many open files")


VERBS = {
    "echo": echo,
    "wrong": wrong_file,
    "full": full,
    "refused": refused,
    "buggy": buggy,
    "wait": wait,
    "scarce": scarce,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Deeper than a unix socket's path may be long.
    path = tmp_path_factory.mktemp("state").joinpath(*["deep" * 10] * 4)
    path.mkdir(parents=True)
    return path


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ControlServer]:
    made = ControlServer(folder, VERBS)
    made.start()
    yield made
    made.close()


@pytest.fixture
def client(server: ControlServer, folder: Path) -> Iterator[ControlClient]:
    with ControlClient(folder) as made:
        yield made


def raw(folder: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(20)
    with reachable(folder, control.SOCKET_NAME) as address:
        made.connect(address)
    return made


def ask(folder: Path, octets: bytes) -> dict[str, Any]:
    with raw(folder) as line, line.makefile("rb") as answers:
        line.sendall(octets)
        answer: dict[str, Any] = json.loads(answers.readline())
        return answer


def test_a_verb_gets_its_arguments_and_answers(client: ControlClient) -> None:
    assert client.call("echo", a=1, b=["x"]) == {"a": 1, "b": ["x"]}
    assert client.call("echo") == {}


def test_the_socket_is_for_its_owner_only(server: ControlServer, folder: Path) -> None:
    assert stat.S_IMODE((folder / control.SOCKET_NAME).stat().st_mode) == 0o600


def test_a_wrong_file_arrives_with_all_its_problems(client: ControlClient) -> None:
    with pytest.raises(ConfigurationError) as caught:
        client.call("wrong")
    assert str(caught.value) == "l:3:4: vpcs.shop: bad [InvalidVpc.Range]; good"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("verb", "error", "text"),
    [
        ("full", LimitError, "at most 4"),
        ("refused", LabError, "no /dev/net/tun"),
        ("buggy", LabError, "internal error: KeyError"),
        ("scarce", LabError, "^Too many open files; a process may have"),
        ("nonsense", RequestError, "unknown verb"),
    ],
)
def test_errors_arrive_as_what_they_were(client: ControlClient, verb: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        client.call(verb)
    assert client.call("echo") == {}, "the connection lives on"


@pytest.mark.parametrize(
    "garbage",
    [
        b"\n",
        b"{}\n",
        b"[]\n",
        b"null\n",
        b"not json\n",
        b"\xff\xfe\x00\n",
        b'{"version": 1}\n',
        b'{"version": 2, "verb": "echo"}\n',
        b'{"version": 1, "verb": 5}\n',
        b'{"version": 1, "verb": "echo", "arguments": []}\n',
        b'{"version": 1, "verb": ["echo"]}\n',
        b"[" * 200_000 + b"\n",
        b'{"version": 1, "verb": "echo", "arguments": {"a": ' + b"9" * 10_000 + b"}}\n",
    ],
    ids=range(13),
)
def test_garbage_is_answered_with_an_error(server: ControlServer, folder: Path, garbage: bytes) -> None:
    assert ask(folder, garbage)["error"]["kind"] in ("request", "lab")
    assert "result" in ask(folder, b'{"version": 1, "verb": "echo"}\n'), "the server lives on"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(octets=st.binary(max_size=300))
def test_any_bytes_leave_the_server_alive(server: ControlServer, folder: Path, octets: bytes) -> None:
    with raw(folder) as line:
        line.sendall(octets)
    assert "result" in ask(folder, b'{"version": 1, "verb": "echo"}\n')


def test_a_request_that_never_ends_is_cut_off(
    server: ControlServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "REQUEST_LIMIT_BYTES", 1000)
    assert "longer than 1000 bytes" in ask(folder, b"x" * 2000)["error"]["message"]
    with ControlClient(folder) as client, pytest.raises(LimitError, match="at most 1000"):
        client.call("echo", text="x" * 1000)


def test_other_users_are_not_answered(server: ControlServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "peer_uid", lambda client: os.geteuid() + 1)
    with raw(folder) as line, line.makefile("rb") as answers:  # which comes at once, and nothing is read
        assert "another user" in json.loads(answers.readline())["error"]["message"]
    with pytest.raises(LabError, match="belongs to another user"):
        ControlClient(folder)


def test_who_asks_from_another_network_namespace_is_not_answered(
    server: ControlServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs in instances are of the same user."""
    monkeypatch.setattr(control, "network_of", lambda client: server._network + 1)
    with raw(folder) as line, line.makefile("rb") as answers:
        assert "network namespace that it was started in only" in json.loads(answers.readline())["error"]["message"]


def test_an_error_travels_with_what_could_not_be_judged_because_of_it() -> None:
    error = ConfigurationError([Problem("vpcs.shop", "bad")], unjudged=["instances.web"])
    read = control.error_from_json(json.loads(json.dumps(control.error_to_json(error))))
    assert isinstance(read, ConfigurationError)
    assert (str(read), read.unjudged) == (str(error), ("instances.web",))


def test_a_lab_is_asked_for_by_its_folder(server: ControlServer, folder: Path, tmp_path: Path) -> None:
    """Programs in instances may let the socket of one lab lead to another: by a link, or under a second name."""
    (tmp_path / control.SOCKET_NAME).symlink_to(folder / control.SOCKET_NAME)
    with ControlClient(tmp_path) as client, pytest.raises(ImpostorError, match="this is another lab"):
        client.call("echo")
    with ControlClient(folder) as client:
        assert client.call("echo") == {}


def test_who_listens_in_another_pid_namespace_is_not_spoken_to(
    server: ControlServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "is_beside_us", lambda pid: pid != os.getpid())
    with pytest.raises(ImpostorError, match=r"somebody else listens at .*control\.sock"):
        ControlClient(folder)


def test_the_kernel_says_who_is_there() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_uid(ours) == os.geteuid()


def admitted(folder: Path) -> ControlClient:
    """A client that was served; clients of earlier tests may not have been seen to leave yet."""
    deadline = time.monotonic() + 20
    while True:
        client = ControlClient(folder)
        try:
            client.call("echo")
            return client
        except LabError:
            client.close()
            assert time.monotonic() < deadline


def test_too_many_clients_are_told_so(tmp_path: Path) -> None:
    server = ControlServer(tmp_path, VERBS)
    server.start()
    held = [admitted(tmp_path) for _ in range(control.CONNECTION_LIMIT)]
    with ControlClient(tmp_path) as client, pytest.raises(LabError, match="busy"):
        client.call("echo")
    for one in held:
        one.close()
    admitted(tmp_path).close()
    server.close()


def test_no_answer_in_time_is_an_error(client: ControlClient) -> None:
    release.clear()
    with pytest.raises(LabError, match=r"did not answer 'wait' within 0\.2 s"):
        client.call("wait", timeout_s=0.2)
    release.set()


def test_a_slow_client_delays_nobody(server: ControlServer, folder: Path) -> None:
    with raw(folder) as slow:
        slow.sendall(b'{"version": 1')
        with ControlClient(folder) as client:
            assert client.call("echo", timeout_s=20) == {}


def test_a_client_that_goes_silent_is_hung_up_on(
    server: ControlServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "IDLE_LIMIT_S", 0.1)
    with raw(folder) as line:
        assert line.recv(1) == b""


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError, match="is not running"):
        ControlClient(tmp_path)
    with pytest.raises(NotRunningError, match="is not running"):
        ControlClient(tmp_path / "missing")


def test_closing_hangs_up_and_removes_the_socket(tmp_path: Path) -> None:
    server = ControlServer(tmp_path, VERBS)
    server.start()
    with ControlClient(tmp_path) as client:
        client.call("echo")
        server.close()
        with pytest.raises(NotRunningError, match="went away"):
            client.call("echo")
    assert not (tmp_path / control.SOCKET_NAME).exists()
    server.close()


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    stale = socket.socket(socket.AF_UNIX)
    with reachable(tmp_path, control.SOCKET_NAME) as address:
        stale.bind(address)
    stale.close()
    server = ControlServer(tmp_path, VERBS)
    server.start()
    with ControlClient(tmp_path) as client:
        assert client.call("echo") == {}
    server.close()


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot create the control socket"):
        ControlServer(tmp_path / "missing", VERBS)


AT_THE_LIMIT = """
import os, resource, sys, threading, time
from pathlib import Path
from lab.control import ControlServer
turned = []
turn_away = ControlServer._turn_away
ControlServer._turn_away = lambda self, why: turned.append(why) or turn_away(self, why)
raised = []
threading.excepthook = raised.append
server = ControlServer(Path(sys.argv[1]), {})
server.start()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
while True:
    try:
        taken.append(os.dup(0))
    except OSError:
        break
print("full", flush=True)
sys.stdin.readline()
print(len(turned), flush=True)
sys.stdin.readline()
for descriptor in taken:
    os.close(descriptor)
server.close()
print(len(raised), threading.active_count(), flush=True)
"""


def test_without_descriptors_clients_are_told_and_nobody_spins(tmp_path: Path) -> None:
    """accept(2) fails at once then, whether anybody waits or not."""
    line = [sys.executable, "-P", "-c", AT_THE_LIMIT, str(tmp_path)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "full\n"
        for _ in range(3):
            with ControlClient(tmp_path, timeout_s=10) as client, pytest.raises(LabError, match="Too many open files"):
                client.call("status")
        child.stdin.write("\n")
        assert int(child.stdout.readline()) == 3
        child.stdin.write("\n")
        assert child.stdout.readline() == "0 1\n"


def test_a_kernel_that_does_not_tell_where_clients_are_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SO_NETNS_COOKIE is of Linux 5.14; without it nobody could be answered."""
    monkeypatch.setattr(control, "network_of", Mock(side_effect=OSError(errno.ENOPROTOOPT, "Protocol not available")))
    with pytest.raises(LabError, match=r"Linux does from 5\.15 on"):
        ControlServer(tmp_path, {})

"""Commands inside a node, started from outside: streams, status, signals, terminals."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from dataplane.errors import LabError
from lab.enter import open_socket, popen
from lab.identity import LAB_VARIABLE
from lab.runtime import Runtime
from tests.e2e.lab.stage import DEADLINE_S, commands, eventually, output, plan

pytestmark = pytest.mark.e2e

ROOT = str(Path(__file__).resolve().parents[3])
RUN_INSIDE = """
import json
import sys
sys.path.insert(0, sys.argv[1])
from lab.enter import NodeView, run_inside
sys.exit(run_inside(NodeView(**json.loads(sys.argv[2])), sys.argv[3:]))
"""


@pytest.fixture
def web(runtime: Runtime) -> Runtime:
    runtime.add_nodes([plan("web", environment={"COLOUR": "blue"})])
    return runtime


def command_line(runtime: Runtime, *command: str) -> list[str]:
    """As another process of the same user would do it, such as `vpclab exec`."""
    return [sys.executable, "-c", RUN_INSIDE, ROOT, json.dumps(asdict(runtime.view("web"))), *command]


def test_a_command_gets_streams_folder_and_variables(web: Runtime, tmp_path: Path) -> None:
    script = 'read line; echo "$line $(pwd) $COLOUR $VPCLAB_NODE $OWN"; echo oops >&2; exit 7'
    child = web.popen(
        "web",
        ["sh", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "OWN": "mine"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        out, err = child.communicate("hello\n", timeout=DEADLINE_S)
    assert (out, err, child.returncode) == (f"hello {tmp_path} blue web mine\n", "oops\n", 7)


def test_proxies_of_the_host_are_not_for_nodes(web: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert "proxy.example" not in output(web, "web", "env")


def test_every_process_carries_the_lab_id(web: Runtime) -> None:
    assert f"{LAB_VARIABLE}={web.lab_id}" in output(web, "web", "env").splitlines()


def test_a_command_that_cannot_be_started_is_an_error_at_once(web: Runtime) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        web.popen("web", ["no-such-program"])
    assert missing.value.filename == "no-such-program"
    with pytest.raises(PermissionError):
        web.popen("web", ["/etc/hosts"])


def test_a_node_that_is_gone_is_an_error_in_words(web: Runtime) -> None:
    view = web.view("web")
    web.close()
    with pytest.raises(LabError, match="node web cannot be entered"):
        popen(view, ["true"])
    with pytest.raises(LabError, match="node web cannot be entered"):
        open_socket(view, socket.AF_INET, socket.SOCK_DGRAM)


def test_signals_reach_the_command_and_its_end_is_ours(web: Runtime) -> None:
    with web.popen("web", ["sleep", "1000"]) as child:
        child.terminate()
        assert child.wait(DEADLINE_S) == -signal.SIGTERM
    script = "trap 'exit 5' USR1; echo ready; while :; do sleep 0.05; done"
    with web.popen("web", ["sh", "-c", script], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGUSR1)
        assert child.wait(DEADLINE_S) == 5


def test_killing_the_wrapper_kills_the_command(web: Runtime) -> None:
    with web.popen("web", ["sh", "-c", "echo $$; exec sleep 4711"], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        eventually(lambda: "sleep 4711" in commands(web.lab_id), "it runs")
        child.kill()
    eventually(lambda: "sleep 4711" not in commands(web.lab_id), "the command died with its wrapper")


def test_a_command_works_from_a_thread(web: Runtime) -> None:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(output(web, "web", "hostname")))
    thread.start()
    thread.join()
    assert found == ["web\n"]


def test_a_prefix_for_any_command_line(web: Runtime) -> None:
    done = subprocess.run([*web.enter_command("web"), "sh", "-c", "hostname; exit 3"], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("web\n", 3)
    done = subprocess.run([*web.enter_command("web"), "no-such-program"], capture_output=True, text=True)
    assert (done.stderr, done.returncode) == ("vpclab: no-such-program: No such file or directory\n", 127)


def test_sockets_of_a_node_can_be_used_from_here(web: Runtime) -> None:
    view = web.view("web")
    with (
        open_socket(view, socket.AF_INET, socket.SOCK_DGRAM) as inside,
        open_socket(view, socket.AF_INET, socket.SOCK_DGRAM) as other,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside,
    ):
        assert not os.get_inheritable(inside.fileno())
        inside.bind(("10.0.1.10", 53))
        other.sendto(b"hello", ("10.0.1.10", 53))
        assert inside.recv(100) == b"hello"
        with pytest.raises(OSError, match="assign requested address"):
            outside.bind(("10.0.1.10", 53))
    with pytest.raises(OSError, match=os.strerror(errno.EAFNOSUPPORT)):
        open_socket(view, 200, socket.SOCK_DGRAM)


def test_another_process_enters_without_asking_the_daemon(web: Runtime) -> None:
    done = subprocess.run(
        command_line(web, "sh", "-c", "hostname; echo $COLOUR; exit 9"), capture_output=True, text=True
    )
    assert (done.stdout, done.returncode) == ("web\nblue\n", 9), done.stderr
    done = subprocess.run(command_line(web, "sh", "-c", "kill -TERM $$"), capture_output=True, text=True)
    assert done.returncode == 128 + signal.SIGTERM


def test_a_terminal_belongs_to_the_command(web: Runtime) -> None:
    with Terminal(command_line(web, "sh", "-c", "trap 'echo interrupted' INT; tty; stty size; cat")) as terminal:
        terminal.expect("/dev/pts/")
        terminal.expect("24 80")
        terminal.type("hello\r")
        terminal.expect("hello\r\nhello")
        terminal.type("\x03")  # Ctrl-C: cat dies, the shell says so and ends as it should
        terminal.expect("interrupted")
        assert terminal.wait() == 128 + signal.SIGINT


def test_ctrl_z_stops_and_fg_continues(web: Runtime) -> None:
    shell = ["bash", "--norc", "--noprofile", "-i"]
    with Terminal(shell, {**os.environ, "PS1": "$ ", "INPUTRC": "/dev/null"}) as terminal:
        inner = " ".join(f"'{word}'" for word in command_line(web, "sh", "-c", "echo begun; cat"))
        terminal.expect("$ ")
        terminal.type(f"{inner}\r")
        terminal.expect("begun\r\n")
        terminal.type("hello\r")
        terminal.expect("hello\r\nhello")  # cat runs: a shell cannot stop while it starts it (vfork)
        terminal.type("\x1a")
        terminal.expect("Stopped")
        terminal.expect("$ ")
        eventually(terminal.all_stopped, "all that the shell started stopped")  # until then cat may read what we type
        terminal.type("fg\r")
        terminal.expect("echo begun; cat")  # the shell says what it continues, after it let go of the terminal
        terminal.type("back again\r")
        terminal.expect("back again\r\nback again")
        terminal.type("\x04")
        terminal.expect("$ ")
        terminal.type("exit $?\r")
        assert terminal.wait() == 0


class Terminal:
    """A command on a terminal of its own, and what it has written so far."""

    def __init__(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        self._pid, self._end = pty.fork()
        if self._pid == 0:
            os.execvpe(command[0], command, environment or dict(os.environ))
        import fcntl
        import struct
        import termios

        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
        self._seen = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._end)
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def expect(self, text: str) -> None:
        end = time.monotonic() + DEADLINE_S
        while text not in self._seen:
            left = end - time.monotonic()
            assert left > 0, f"{text!r} was not written, but {self._seen!r}"
            if select.select([self._end], [], [], left)[0]:
                try:
                    self._seen += os.read(self._end, 4096).decode(errors="replace")
                except OSError as error:  # the other end is closed
                    raise AssertionError(f"{text!r} was not written, but {self._seen!r}") from error
        self._seen = self._seen.partition(text)[2]

    def all_stopped(self) -> bool:
        """Whether every process of this terminal is stopped, except the one we started."""
        states = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, _, _, session, *_ = stat.read_text().rpartition(") ")[2].split()
                if int(session) == self._pid != int(stat.parent.name):
                    states.append(state)
        return set(states) == {"T"}

    def wait(self) -> int:
        def ended() -> tuple[int, int] | None:
            # What nobody reads would keep it from ending.
            if select.select([self._end], [], [], 0)[0]:
                with contextlib.suppress(OSError):
                    os.read(self._end, 4096)
            found = os.waitpid(self._pid, os.WNOHANG)
            return found if found[0] else None

        _, status = eventually(ended, "the command ended")
        self._pid = 0
        return os.waitstatus_to_exitcode(status)

"""Which lab is meant, what it is called, and what is asked of it; no lab runs."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest

from dataplane.errors import LabError
from lab.control import ImpostorError, NotRunningError
from lab.state import LabState
from vpclab import observation
from vpclab.lab import Lab
from vpclab.node import Node

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def labs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What labs there are."""

    def there_are(*, running: str = "", waiting: str = "") -> None:
        monkeypatch.setattr(Lab, "running", staticmethod(running.split))
        monkeypatch.setattr(Lab, "waiting", staticmethod(waiting.split))

    return there_are


@pytest.mark.parametrize(
    ("running", "wanted", "found"), [("a", None, "a"), ("a", "a", "a"), ("a b", "b", "b"), ("a b c", "a", "a")]
)
def test_the_lab_that_is_meant(labs: Callable[..., None], running: str, wanted: str | None, found: str) -> None:
    labs(running=running, waiting="w")
    assert Lab.attach(wanted).name == found


@pytest.mark.parametrize(
    ("there_are", "wanted", "words"),
    [
        ({}, None, "no lab is running; start one: vpclab up FILE"),
        ({"waiting": "w"}, None, "no lab is running; bring back the one whose daemon was killed: vpclab up --resume"),
        ({"running": "a b"}, None, "several labs are running (a, b); say which: --lab a"),
        ({}, "x", "lab 'x' is not running; start it: vpclab up FILE"),
        ({"running": "a b"}, "x", "lab 'x' is not running; running: a, b"),
        ({"running": "a", "waiting": "w"}, "w", "lab 'w' is not running: its daemon was killed, its instances run on"),
    ],
)
def test_a_lab_that_nobody_can_tell_is_refused(
    labs: Callable[..., None], there_are: dict[str, str], wanted: str | None, words: str
) -> None:
    labs(**there_are)
    with pytest.raises(LabError) as refused:
        Lab.attach(wanted)
    assert str(refused.value).startswith(words)


def test_the_lab_that_can_be_resumed(labs: Callable[..., None]) -> None:
    labs(running="a", waiting="w")
    assert Lab.interrupted().name == Lab.interrupted("w").name == "w"


@pytest.mark.parametrize(
    ("there_are", "wanted", "words"),
    [
        ({"running": "a"}, None, "no lab can be resumed"),
        ({"waiting": "v w"}, None, "several labs can be resumed (v, w); say which: --name NAME"),
        ({"running": "a", "waiting": "w"}, "a", "lab 'a' is running; there is nothing to resume"),
        ({"running": "a", "waiting": "w"}, "x", "lab 'x' cannot be resumed"),
    ],
)
def test_what_cannot_be_resumed_says_why(
    labs: Callable[..., None], there_are: dict[str, str], wanted: str | None, words: str
) -> None:
    labs(**there_are)
    with pytest.raises(LabError) as refused:
        Lab.interrupted(wanted)
    assert str(refused.value).startswith(words)


def test_names_are_those_of_the_file_and_unique_unless_they_are_given(tmp_path: Path) -> None:
    quickstart = EXAMPLES / "quickstart.yaml"
    made = [Lab.load(quickstart).name for _ in range(2)]
    assert len({*made}) == 2
    assert all(name.startswith("quickstart-") for name in made)
    assert Lab.load(quickstart, unique=False).name == "quickstart"
    assert Lab.load(quickstart, name="mine").name == "mine"
    nameless = tmp_path / "town.yaml"
    nameless.write_text("version: 1\nvpcs: {v: {cidr: 10.0.0.0/16}}\n")
    assert Lab.load(nameless, unique=False).name == "town"
    assert Lab.from_dict({"version": 1, "vpcs": {}}, unique=False).name == "lab"


def test_who_ends_with_this_process_and_whose_programs_must_be_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is detached runs on, and says which program is not ready; it is up all the same."""
    begun = Mock(return_value=Mock(problem="http of web is not ready"))
    monkeypatch.setattr("vpclab.lab.launch", begun)
    lab = Lab("fake", "text", "lab.yaml")
    for detached in (False, True):
        assert lab.up(detached=detached) == "http of web is not ready"
        [start] = begun.call_args.args
        assert (start.name, start.text, start.file, start.resume) == ("fake", "text", "lab.yaml", False)
        assert (start.strict, begun.call_args.kwargs["tied"]) == (not detached, not detached)
    assert lab.resume() == "http of web is not ready"
    [start] = begun.call_args.args
    assert (start.resume, start.strict, start.text, begun.call_args.kwargs["tied"]) == (True, False, "", False)
    monkeypatch.setattr(LabState, "is_running", lambda self: True)
    with pytest.raises(LabError, match="lab 'fake' is running already; stop it first: vpclab down fake"):
        lab.up()
    assert begun.call_count == 3


class Ending(Lab):
    """One whose daemon is played: for how many looks it runs on, and what it says to `down`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, looks: int, said: Exception | None = None) -> None:
        super().__init__("fake", "", "")
        self.looks, self.said = looks, said
        self.process, self.collected, self.now = Mock(pid=7, is_alive=lambda: False), Mock(return_value=[]), 0.0
        self._state = Mock(is_running=self._is_running, path=Mock(exists=lambda: False))
        self._state.name = "fake"
        monkeypatch.setattr("vpclab.lab.recorded_process", lambda record: self.process)
        monkeypatch.setattr("vpclab.lab.gc.collect", self.collected)
        monkeypatch.setattr("vpclab.lab.time", Mock(monotonic=lambda: self.now, sleep=self._sleep))

    def _is_running(self) -> bool:
        self.looks -= 1
        return self.looks >= 0

    def _sleep(self, seconds: float) -> None:
        self.now += 1.0

    def ask(self, verb: str, *, timeout_s: float = 30.0, **arguments: Any) -> Any:
        assert verb == "down"
        if self.said is not None:
            raise self.said


def test_down_waits_until_the_lab_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Ending(monkeypatch, looks=5)
    node, tie, daemon = Mock(), Mock(), Mock()
    lab._nodes["web"], lab._tie, lab._daemon = node, tie, daemon
    lab.down()
    assert (lab.looks, lab.now) == (-1, 5.0)
    for ended in (node.close, tie.close, daemon.wait):
        assert ended.call_count == 1
    assert [vars(lab)[name] for name in ("_nodes", "_tie", "_daemon")] == [{}, None, None], "it may be started again"
    lab.process.kill.assert_not_called()
    lab.collected.assert_not_called()


def test_what_is_left_of_a_lab_that_was_killed_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Ending(monkeypatch, looks=0, said=NotRunningError("gone"))
    lab.down()
    lab.collected.assert_called_once_with("fake")
    lab.process.kill.assert_not_called()
    dying = Ending(monkeypatch, looks=1)
    cast("Any", dying._state).path.exists = lambda: True
    dying.down()
    dying.collected.assert_called_once_with("fake")  # it was killed while it went down


@pytest.mark.parametrize("said", [NotRunningError("nobody listens"), ImpostorError("somebody else does")])
def test_a_daemon_that_does_not_listen_is_told_by_a_signal(monkeypatch: pytest.MonkeyPatch, said: Exception) -> None:
    lab = Ending(monkeypatch, looks=2, said=said)
    lab.down()
    lab.process.kill.assert_called_once_with(signal.SIGTERM)
    lab.collected.assert_not_called()


def test_a_lab_that_does_not_end_is_an_error_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LabError, match="lab 'fake' does not end; run: kill -9 7; vpclab gc"):
        Ending(monkeypatch, looks=1000).down()


class Asked(Lab):
    """Its daemon is played."""

    def __init__(self, **answers: Any) -> None:
        super().__init__("fake", "", "")
        self.answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def ask(self, verb: str, *, timeout_s: float = 30.0, **arguments: Any) -> Any:
        self.asked.append((verb, arguments))
        return self.answers[verb]


NODE: dict[str, Any] = {
    "name": "web", "kind": "instance", "attach": None, "interfaces": [], "node": "web", "lab_id": "1", "namespaces": [],
    "network": [], "environment": {}, "netns": None, "spawner": 1,
}  # fmt: skip


@pytest.mark.parametrize("dry_run", [True, False])
def test_nodes_are_others_after_a_change_and_the_same_after_a_look_at_one(dry_run: bool) -> None:
    lab = Asked(node=NODE, apply={"changes": [{"path": "instances.web"}], "problem": ""})
    before = lab["web"]
    held = Mock()
    before._senders["eth0"] = held
    assert lab.apply({"version": 1}, dry_run=dry_run) == [{"path": "instances.web"}]
    assert lab.asked[-1][1]["dry_run"] is dry_run
    assert held.close.called is not dry_run, "a socket in a node that may be gone"
    assert (lab["web"] is before) is dry_run


def test_a_file_that_is_applied_is_looked_for_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Asked(apply={"changes": [], "problem": ""})
    monkeypatch.chdir(tmp_path)
    Path("new.yaml").write_text("version: 1\n")
    lab.apply("new.yaml")
    lab.apply({"version": 1})
    lab.apply(there := tmp_path / "new.yaml")  # wherever we are, which may be nowhere any more
    where = [{key: said.get(key) for key in ("file", "folder")} for _, said in lab.asked]
    assert where == [
        {"file": "new.yaml", "folder": str(tmp_path)},
        {"file": "<dict>", "folder": None},
        {"file": str(there), "folder": None},
    ]


def test_a_change_that_leaves_a_program_unready_is_an_error() -> None:
    lab = Asked(apply={"changes": [{}], "problem": "http of web is not ready"})
    with pytest.raises(LabError, match="applied, but http of web is not ready"):
        lab.apply({"version": 1})


def test_no_checks_are_not_the_checks_of_the_lab() -> None:
    lab = Asked(check=[])
    lab.check()
    lab.check([])
    lab.check([{"can": "a -> b"}], apart=True, patience_s=1)
    texts = [arguments["checks"] for _, arguments in lab.asked]
    assert (texts[0], texts[1]) == (None, "[]")
    assert '"can": "a -> b"' in texts[2]
    assert [(a["apart"], a["patience_s"]) for _, a in lab.asked] == [(False, 3.0), (False, 3.0), (True, 1.0)]


def test_records_have_the_fields_of_their_log() -> None:
    records = [
        {"number": 8, "log": "v/all", "text": "2 ACCEPT"},
        {"number": 9, "log": "v/some", "text": "REJECT 3"},
        {"number": 10, "log": "v/gone", "text": "2 -"},
    ]
    fields = {"v/all": ["version", "action"], "v/some": ["action", "packets"]}
    lab = Asked(flow_logs={"fields": fields, "records": records})
    assert lab.flow_logs(after=7) == [
        {"log": "v/all", "number": "8", "version": "2", "action": "ACCEPT"},
        {"log": "v/some", "number": "9", "action": "REJECT", "packets": "3"},
        {"log": "v/gone", "number": "10"},
    ]
    assert lab.asked == [("flow_logs", {"after": 7, "open": False})]
    lab.flow_logs(unfinished=True)
    assert lab.asked[-1] == ("flow_logs", {"after": 0, "open": True})


def test_addresses_are_themselves_and_names_are_those_of_who_asks() -> None:
    lab = Asked(resolve="10.0.1.10", node=NODE)
    assert lab.address_of("2001:DB8::1", source="app") == "2001:db8::1"
    assert lab.asked == []
    assert lab.address_of("web", source="app") == "10.0.1.10"
    assert lab.address_of(lab["web"], source=lab["web"]) == "10.0.1.10"
    asked = [arguments for verb, arguments in lab.asked if verb == "resolve"]
    assert asked == [{"source": "app", "destination": "web"}, {"source": "web", "destination": "web"}]


# -- nodes -----------------------------------------------------------------------------------------------


class Here(Node):
    """A node whose programs run here."""

    def __init__(self, made: Any = None) -> None:
        super().__init__(cast("Lab", Mock(address_of=lambda name, *, source: "10.0.1.11")), NODE)
        self.made = made
        self.children: list[subprocess.Popen[Any]] = []

    def popen(self, command: Any, **options: Any) -> subprocess.Popen[Any]:
        self.children.append(subprocess.Popen(command, **options))
        return self.children[-1]

    def socket(self, family: int = 0, kind: int = 0, protocol: int = 0) -> Any:
        return self.made


def test_a_program_that_takes_too_long_is_ended() -> None:
    node = Here()
    with pytest.raises(subprocess.TimeoutExpired):
        node.run(["sleep", "60"], timeout_s=0.05)
    assert node.children[0].returncode == -9


def test_a_program_has_its_input_and_nobody_else_s() -> None:
    node = Here()
    assert node.run(["cat"], input="text").stdout == "text"
    assert node.run(["cat"]).stdout == "", "no terminal to read from"
    failed = node.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (failed.returncode, failed.stdout, failed.stderr) == (3, "out\n", "err\n")
    with pytest.raises(subprocess.CalledProcessError):
        node.run(["false"], check=True)


@pytest.mark.parametrize("error", [TimeoutError, ConnectionRefusedError, KeyboardInterrupt])
def test_a_connection_that_is_not_made_leaves_no_socket(error: type[BaseException]) -> None:
    made = Mock()
    made.connect.side_effect = error
    with pytest.raises(error):
        Here(made).connect("b", 80, timeout_s=1.5)
    made.settimeout.assert_called_once_with(1.5)
    made.connect.assert_called_once_with(("10.0.1.11", 80))
    made.close.assert_called_once_with()
    made.connect.side_effect = None
    assert Here(made).connect("b", 80) is made
    made.close.assert_called_once_with()


TWO_ARMS = {
    **NODE,
    "interfaces": [
        {"device": "eth0", "link": "vmtap", "port": 5, "mac": "02:00:00:00:00:05", "addresses": ["10.0.1.10"]},
        {"device": "eth1", "link": "eth1", "port": 6, "mac": "02:00:00:00:00:06", "addresses": ["10.0.2.10"]},
    ],
}
IP_PACKET = bytes.fromhex("4500001400000000401100000a00010a0a00010b")


def test_packets_are_framed_as_the_kernel_of_the_node_would() -> None:
    """From the interface's own MAC to that of whoever is asked for there, which is another one at another interface."""
    macs = {5: "02:00:00:00:00:aa", 6: "02:00:00:00:00:bb"}
    lab = Mock(ask=Mock(side_effect=lambda verb, *, port, destination: macs[port]))
    node, line = Node(lab, TWO_ARMS), Mock()
    node.socket = Mock(return_value=line)  # type: ignore[method-assign]
    for interface in ("eth0", "eth0", "eth1"):
        node.send(IP_PACKET, interface=interface)
    first, again, other = (call.args[0] for call in line.send.call_args_list)
    assert first == again == bytes.fromhex("0200000000aa0200000000050800") + IP_PACKET
    assert other == bytes.fromhex("0200000000bb0200000000060800") + IP_PACKET
    assert [call.kwargs for call in lab.ask.call_args_list] == [
        {"port": 5, "destination": "10.0.1.11"},
        {"port": 6, "destination": "10.0.1.11"},
    ]
    assert [call.args for call in line.bind.call_args_list] == [(("vmtap", 0),), (("eth1", 0),)]
    node.send(first, interface="eth1")
    assert line.send.call_args.args == (first,), "a frame goes as it is"
    node.close()
    assert line.close.call_count == 2
    with pytest.raises(LabError, match="node web has no interface 'eth7'; it has eth0, eth1"):
        node.send(IP_PACKET, interface="eth7")


def test_nothing_runs_at_a_device_of_the_machine() -> None:
    """Its namespace is the one that the lab was started from."""
    lab = Mock(address_of=lambda name, *, source: "10.0.1.11")
    node = Node(lab, {**TWO_ARMS, "attach": "tap:vmtap"})
    for attempt in (node.run, node.run_here, node.popen):
        with pytest.raises(LabError, match="web is tap:vmtap, a device of this machine"):
            attempt(["true"])
    with pytest.raises(LabError, match="a device of this machine"):
        node.connect("b", 80)


def test_a_program_that_does_not_come_back_is_an_error() -> None:
    lab = Mock(ask=Mock(return_value={"problem": "", "programs": [{"name": "http"}]}))
    node = Node(lab, TWO_ARMS)
    assert node.restart("http") == [{"name": "http"}]
    lab.ask.assert_called_once_with("restart", timeout_s=60.0, name="web", program="http")
    lab.ask.return_value = {"problem": "http is not ready", "programs": []}
    with pytest.raises(LabError, match="http is not ready"):
        node.restart()


@pytest.mark.parametrize(
    ("is_running", "words"), [(True, "is just starting or going down; try again"), (False, "gone")]
)
def test_a_lab_that_does_not_listen_is_not_there_yet_or_not_any_more(
    monkeypatch: pytest.MonkeyPatch, is_running: bool, words: str
) -> None:
    monkeypatch.setattr(observation, "ControlClient", Mock(side_effect=NotRunningError("gone")))
    lab = Lab("fake", "", "")
    lab._state = Mock(is_running=lambda: is_running)
    lab._state.name = "fake"
    with pytest.raises(NotRunningError, match=words):
        lab.ask("status")

"""The command without a lab: help, bad input, exit statuses, one-line errors."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dataplane.errors import ConfigurationError, LabError, LimitError, Problem
from dataplane.names import Name
from dataplane.trace import TOLD, Action, Packet, Step, Trace, Walk, hops_of
from dataplane.verdict import Reason, Verdict
from lab.control import RequestError
from vpclab.cli import MODULE_OF, cli
from vpclab.lab import Lab
from vpclab.node import PingResult

WRONG = """\
version: 1
vpcs:
  shop:
    cidr: nonsense
    colour: blue
"""
RIGHT = """\
version: 1
vpcs:
  shop:
    cidr: 10.0.0.0/16
    subnets: {a: {cidr: 10.0.1.0/24, availability_zone: a}}
"""


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="vpclab")


@pytest.mark.parametrize("verb", [[], *([name] for name in MODULE_OF)], ids=lambda verb: "".join(verb) or "vpclab")
def test_every_verb_explains_itself(verb: list[str]) -> None:
    result = run(*verb, "--help")
    assert result.exit_code == 0
    assert "Usage: vpclab" in result.output


def test_a_misspelled_verb_is_told_with_the_one_that_was_meant() -> None:
    result = run("validat")
    assert result.exit_code == 2
    assert "No such command 'validat'; did you mean validate?" in result.stderr
    assert "did you mean" not in run("zzzzzz").stderr


def test_all_verbs_are_there() -> None:
    wanted = "up down apply validate status exec shell ping trace capture routes nat flows gc version"
    assert set(wanted.split()) <= set(MODULE_OF)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["up"],
        ["up", "/nowhere/lab.yaml"],
        ["validate", "/"],
        ["trace", "a"],
        ["trace", "a", "b", "--port", "70000"],
        ["ping", "a", "b", "-c", "0"],
        ["clock", "advance", "tomorrow"],
        ["exec", "web"],
        ["status", "--format", "xml"],
    ],
    ids=" ".join,
)
def test_bad_input_is_status_2_and_no_traceback(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["exec", "web", "--", "true"],
        ["ping", "a", "b"],
        ["trace", "a", "b"],
        ["flows"],
        ["nat"],
        ["routes"],
        ["down"],
        ["capture", "web", "-w", "/dev/null"],
        ["--lab", "other", "status"],
        ["down", "other"],
        ["clock", "show"],
    ],
    ids=" ".join,
)
def test_without_a_lab_verbs_say_so_with_status_3(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 3
    assert result.stderr.startswith("vpclab: ")
    assert result.stderr.count("\n") == 1
    assert "running" in result.stderr


def test_status_and_labs_without_a_lab_are_fine() -> None:
    assert run("status").output == "no lab is running\n"
    assert run("labs").output == "no lab is running\n"
    assert json.loads(run("labs", "--format", "json").output) == []


def test_a_wrong_file_is_status_2_with_one_line_per_problem(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(WRONG)
    for verb in ("validate", "up"):
        result = run(verb, str(file))
        assert result.exit_code == 2
        lines = result.stderr.splitlines()
        assert lines[2:] == ["vpclab: 2 problems", "vpclab: vpcs.shop is judged once this is mended"]
        assert lines[0].startswith(f"{file}:4:")
        assert lines[1].startswith(f"{file}:5:")
        assert not (tmp_path / "state").exists(), "nothing was started"


def test_a_right_file_validates(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(RIGHT)
    assert run("validate", str(file)).output.startswith(f"{file}: ok: 1 vpcs, 1 subnets")
    found = json.loads(run("validate", str(file), "--format", "json").output)
    assert (found["ok"], found["vpcs"], found["subnets"]) == (True, 1, 1)


CAPTURED = """\
version: 1
internet: {hosts: {site: {address: 198.51.100.80}}}
captures:
  way: {points: [site], file: way.pcapng, filter: tcp prot 80}
"""


def test_a_filter_that_cannot_be_compiled_does_not_validate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(CAPTURED)
    result = run("validate", str(file))
    assert result.exit_code == 2
    assert result.stderr.startswith(f"{file}:4:51: captures.way.filter: filter 'tcp prot 80': ")
    for right in ("tcp port 80", "host site", '""'):
        file.write_text(CAPTURED.replace("tcp prot 80", right))
        assert run("validate", str(file)).exit_code == 0
    file.write_text(CAPTURED)
    monkeypatch.setattr("lab.packet_filter._load", lambda: (_ for _ in ()).throw(LabError("no libpcap")))
    result = run("validate", str(file))
    assert result.exit_code == 0
    assert result.stderr == "vpclab: filters of captures were not looked at: no libpcap\n"


def test_problems_as_json(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(WRONG)
    result = run("validate", str(file), "--format", "json")
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert found["unjudged"] == ["vpcs.shop"]
    assert [(problem["line"], problem["path"]) for problem in found["problems"]] == [
        (4, "vpcs.shop.cidr"),
        (5, "vpcs.shop.colour"),
    ]


def test_a_name_that_cannot_be_one_is_bad_input(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(RIGHT)
    assert run("up", str(file), "--name", "../x").exit_code == 2


def test_gc_with_nothing_to_do() -> None:
    assert run("version").exit_code == 0
    assert "version" in json.loads(run("version", "--format", "json").output)


class FakeLab:
    """Stands in for a running lab where only the command is tested."""

    name = "fake"

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, verb: str) -> Any:
        def answer(*arguments: Any, **named: Any) -> Any:
            self.asked.append((verb, named))
            value = self.answers[verb]
            if isinstance(value, Exception):
                raise value
            return value

        return answer


def attach(monkeypatch: pytest.MonkeyPatch, lab: FakeLab) -> None:
    monkeypatch.setattr(Lab, "attach", lambda name=None: lab)


PACKET = Packet(protocol=6, source="10.0.1.10", destination="10.1.1.10", source_port=1, destination_port=5432)
STEPS = hops_of([(Name("interface", "web/eth0"), Step(action=Action.SEND, packet=PACKET))])
OPEN = Walk(hops=STEPS, verdict=Verdict.FORWARD, object=Name("interface", "db/eth0"))
SHUT = Walk(hops=STEPS, verdict=Verdict.DROP, reason=Reason.NO_ROUTE, object=Name("route-table", "shop/main"))


@pytest.mark.parametrize(("forward", "status"), [(OPEN, 0), (SHUT, 1)])
def test_trace_ends_with_whether_it_is_reachable(monkeypatch: pytest.MonkeyPatch, forward: Walk, status: int) -> None:
    trace = Trace(source="web", destination="db", forward=forward, reply=forward if forward is OPEN else None)
    lab = FakeLab(trace=trace)
    attach(monkeypatch, lab)
    result = run("trace", "web", "db", "--proto", "udp", "--port", "53", "--src-port", "9")
    assert result.exit_code == status
    assert " => " in result.output
    assert lab.asked == [("trace", {"protocol": "udp", "port": 53, "source_port": 9, "size_bytes": 0})]
    result = run("trace", "web", "db", "--format", "json")
    assert Trace.from_json(json.loads(result.output)) == trace


BIG = Walk(hops=STEPS, verdict=Verdict.DROP, reason=Reason.MTU_EXCEEDED, object=Name("internet-gateway", "shop"))


@pytest.mark.parametrize(
    ("forward", "received", "words", "said"),
    [
        (BIG, 0, ["-s", "3000", "--df"], "packet larger than the MTU"),
        (BIG, 0, ["-s", "3000"], "DROPPED by internet-gateway shop"),
        (SHUT, 3, [], "BUG"),
        (OPEN, 0, [], "look at `vpclab status` and at the node itself"),
        (replace(OPEN, assumed=("fw",)), 0, [], "look at `vpclab status`, fw and at the node itself"),
        (replace(OPEN, astray="interface fw/eth0, which does not have 10.1.1.10"), 3, [], "GOT AS FAR AS interface fw"),
    ],
)
def test_a_ping_is_explained_by_the_packet_that_was_sent(
    monkeypatch: pytest.MonkeyPatch, forward: Walk, received: int, words: list[str], said: str
) -> None:
    reply = OPEN if forward.delivered else None
    lab = FakeLab(trace=Trace(source="web", destination="db", forward=forward, reply=reply))
    node = FakeLab(ping=PingResult(sent=3, received=received, average_ms=None, output="PING"))
    monkeypatch.setattr(FakeLab, "__getitem__", lambda self, name: node, raising=False)
    attach(monkeypatch, lab)
    result = run("ping", "web", "db", *words)
    size = 3000 if words else 56
    assert lab.asked == [("trace", {"protocol": "icmp", "size_bytes": size})]
    assert node.asked[0][1]["size_bytes"] == size
    text = " ".join((result.output + result.stderr).split())
    assert said in text
    assert ("BUG" in text) is (said == "BUG")
    assert result.exit_code == (0 if received else 1)


OWN = replace(BIG, object=Name("interface", "web/eth0"))
TELLS = replace(
    BIG,
    hops=(*STEPS, *hops_of([(Name("internet-gateway", "shop"), Step(action=Action.ANSWER, packet=PACKET, note=TOLD))])),
)


@pytest.mark.parametrize(
    ("large", "small", "received", "said"),
    [
        (OWN, SHUT, 0, "does not reach db: DROPPED by route-table shop/main"),
        (OWN, OPEN, 3, "In one piece it is DROPPED by interface web/eth0"),
        (TELLS, OPEN, 2, "In one piece it is DROPPED by internet-gateway shop"),
        (TELLS, SHUT, 2, "BUG"),
        (BIG, OPEN, 2, "kernel sends fragments"),
    ],
    ids=["own interface, no route", "own interface", "told", "told, no route", "known from before"],
)
def test_what_is_pinged_in_pieces_is_explained_by_a_small_packet(
    monkeypatch: pytest.MonkeyPatch, large: Walk, small: Walk, received: int, said: str
) -> None:
    def trace(size_bytes: int, **_: Any) -> Trace:
        forward = large if size_bytes == 3000 else small
        return Trace(source="web", destination="db", forward=forward, reply=OPEN if forward.delivered else None)

    node = FakeLab(ping=PingResult(sent=3, received=received, average_ms=None, output="PING"))
    lab = FakeLab()
    monkeypatch.setattr(FakeLab, "__getitem__", lambda self, name: node, raising=False)
    monkeypatch.setattr(lab, "trace", lambda *ends, **named: trace(**named), raising=False)
    attach(monkeypatch, lab)
    result = run("ping", "web", "db", "-s", "3000")
    text = " ".join((result.output + result.stderr).split())
    assert said in text
    assert ("BUG" in text) is (said == "BUG")
    assert result.exit_code == (0 if received else 1)
    found = json.loads(run("ping", "web", "db", "-s", "3000", "--format", "json").output)
    assert found["trace"]["reachable"] is (small is OPEN)
    whole = json.loads(run("ping", "web", "db", "-s", "3000", "--df", "--format", "json").output)
    assert whole["trace"]["forward"]["reason"] == "MTU_EXCEEDED"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("trace --live --proto udp", "--proto is about one packet: write it into the FILTER"),
        ("trace --live --port 53", "--port is about one packet"),
        ("trace --live --size 1400", "--size is about one packet"),
        ("trace --live --src-port 5", "--src-port is about one packet"),
        ("trace web app -c 5", "--count is about real packets: write --live, too"),
        ("trace web app --proto icmp --port 443", "a port means nothing for protocol icmp"),
        ("trace web app --proto 1 --port 443", "a port means nothing for protocol icmp"),
        ("trace web app --proto 47 --src-port 443", "a source port means nothing for protocol 47"),
        ("trace web app --proto nonsense", "no such protocol"),
        ("graph --seconds 5", "--seconds is how long --traffic measures"),
        ("--lab other down fake", "--lab other is about a running lab: leave it out, or NAME"),
        ("up --resume --name fake --lab other", "No such option"),
        ("--lab other up --resume --name fake", "--lab other is about a running lab: leave it out, or --name"),
    ],
)
def test_no_option_is_ignored(monkeypatch: pytest.MonkeyPatch, arguments: str, words: str) -> None:
    lab = FakeLab(trace=None, follow=None)
    attach(monkeypatch, lab)
    result = run(*arguments.split())
    assert result.exit_code == 2
    assert words.casefold() in result.stderr.casefold()
    assert not lab.asked


@pytest.mark.parametrize("verb", ["check", "check --static", "check --matrix", "graph", "replay CAPTURE --on"])
def test_a_file_and_a_running_lab_are_not_both_meant(tmp_path: Path, verb: str) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(RIGHT)
    result = run(*verb.replace("CAPTURE", str(file)).split(), str(file), "--lab", "other")
    assert result.exit_code == 2
    assert "--lab other is about a running lab: leave it out, or" in result.stderr


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (LabError("no /dev/net/tun; run: sudo modprobe tun"), 3, "vpclab: no /dev/net/tun; run: sudo modprobe tun\n"),
        (LimitError("sessions: have 5, at most 4"), 3, "vpclab: sessions: have 5, at most 4\n"),
        (RequestError("no node 'x'; did you mean y?"), 2, "vpclab: no node 'x'; did you mean y?\n"),
        (ConfigurationError([Problem("vpcs", "bad", file="f", line=1, column=2)]), 2, "f:1:2: vpcs: bad\n"),
    ],
)
def test_errors_are_one_line_and_a_status(
    monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, text: str
) -> None:
    attach(monkeypatch, FakeLab(flows=error))
    result = run("flows")
    assert (result.exit_code, result.stderr) == (status, text)
    assert isinstance(run("--debug", "flows").exception, type(error)), "--debug shows the traceback"


def test_flows_as_table_and_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {
        "owner": "web/eth0",
        "protocol": "tcp",
        "original": "10.0.1.10:1 > 10.1.1.10:5432",
        "reply": "10.1.1.10:5432 > 10.0.1.10:1",
        "state": "open",
        "age_s": 1.5,
        "idle_s": 0.5,
        "expires_s": 349.5,
        "rule": "shop/web egress [all] to 0.0.0.0/0",
    }
    attach(monkeypatch, FakeLab(flows=[row]))
    table = run("flows").output
    assert "10.0.1.10:1 > 10.1.1.10:5432" in table
    assert "[all]" in table, "square brackets are not mark-up"
    assert json.loads(run("flows", "--format", "json").output) == [row]
    attach(monkeypatch, FakeLab(flows=[]))
    assert run("flows").output == "flows: none\n"


@pytest.mark.parametrize(
    ("text", "seconds"), [("350s", 350.0), ("5m", 300.0), ("2h", 7200.0), ("1d", 86400.0), ("250ms", 0.25), ("7", 7.0)]
)
def test_lengths_of_time(monkeypatch: pytest.MonkeyPatch, text: str, seconds: float) -> None:
    advanced: list[float] = []

    class FakeClock:
        def advance(self, time_s: float) -> float:
            advanced.append(time_s)
            return time_s

    lab = FakeLab()
    lab.clock = FakeClock()  # type: ignore[attr-defined]
    attach(monkeypatch, lab)
    assert run("clock", "advance", text).exit_code == 0
    assert advanced == [seconds]


def test_words_after_the_node_belong_to_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    class FakeNode:
        def run_here(self, command: list[str]) -> int:
            ran.append(command)
            return 7

    class FakeNodes(FakeLab):
        def __getitem__(self, name: str) -> FakeNode:
            return FakeNode()

    attach(monkeypatch, FakeNodes())
    assert run("exec", "app", "--", "ls", "-l", "--help").exit_code == 7
    assert run("exec", "app", "ls", "--lab", "x").exit_code == 7
    assert ran == [["ls", "-l", "--help"], ["ls", "--lab", "x"]]


def test_a_reader_that_has_enough_is_no_error() -> None:
    command = [sys.executable, "-m", "vpclab", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == b""


CHECKED = (
    RIGHT
    + """\
    security_groups: {web: {ingress: [{protocol: tcp, ports: 80, source: 0.0.0.0/0}]}}
instances:
  app: {vpc: shop, subnet: a}
  web: {vpc: shop, subnet: a, security_groups: [web]}
checks:
  - {can: app -> web, port: 80}
  - {cannot: app -> web, port: PORT, because: nobody logs in}
"""
)


def test_static_checks_need_no_lab(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(CHECKED.replace("PORT", "22"))
    result = run("check", str(file), "--static")
    assert result.exit_code == 0
    assert "2 of 2 checks hold" in result.output
    assert json.loads(run("check", str(file), "--static", "--format", "json").output)["holds"] is True
    assert not (tmp_path / "state").exists(), "nothing was started"


def test_a_check_that_does_not_hold_is_status_1_and_tells_its_story(tmp_path: Path) -> None:
    file, junit = tmp_path / "lab.yaml", tmp_path / "out.xml"
    file.write_text(CHECKED.replace("PORT", "80"))
    result = run("check", str(file), "--static", "--junit", str(junit))
    assert result.exit_code == 1
    assert "2. does not hold: cannot app -> web tcp 80, because nobody logs in" in result.output
    assert "app/eth0 sends tcp" in result.output
    assert "1 of 2 checks hold" in result.output
    assert 'failures="1"' in junit.read_text()
    result = run("check", str(file), "--static", "--format", "junit")
    assert (result.exit_code, result.output.count("<testcase ")) == (1, 2)


@pytest.mark.parametrize(("text", "words"), [(RIGHT, "there are no checks"), (WRONG, "shop.cidr")])
def test_checking_a_file_without_checks_or_a_wrong_one_is_status_2(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(text)
    result = run("check", str(file), "--static")
    assert result.exit_code == 2
    assert words in result.stderr


@pytest.fixture
def packets_disagree(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lab whose packets do what the rules say, but for TCP from app to web at port 80, said to be dropped."""
    from dataplane.load import load_topology
    from vpclab.cli import questions

    def proven(file: Path, checks: Any) -> list[dict[str, Any]]:
        rows = questions.decided(load_topology(file), checks)
        shut = next(row for row in rows if row["found"] == "blocked")
        wrong = {"found": "blocked", "why": shut["why"], "dropped": shut["dropped"], "legs": shut["legs"]}
        at = ("app/eth0", 6, 80)
        return [{**row, **wrong} if (row["from"], row["protocol"], row["port"]) == at else row for row in rows]

    monkeypatch.setattr(questions, "proven", proven)


@pytest.mark.usefixtures("packets_disagree")
def test_a_disagreement_is_a_bug_with_what_reproduces_it(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(CHECKED.replace("PORT", "22"))
    result = run("verify", str(file))
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0].startswith("BUG can app/eth0 -> 10.0.1.5 tcp 80: the oracle says answered; the packets say DROPPED")
    assert lines[1].startswith("checks: [{can: app/eth0 -> 10.0.1.5, protocol: 6, port: 80}]")
    assert "  the packets:" in lines
    assert "  the oracle:" in lines
    assert lines[-1].endswith("1 did not, 0 were left to programs")
    found = json.loads(run("verify", str(file), "--format", "json").output)
    [bug] = found["disagreements"]
    assert (bug["expected"]["found"], bug["seen"]["found"]) == ("answered", "blocked")
    file.write_text(file.read_text().partition("checks:")[0] + lines[1])
    assert run("check", str(file), "--static").exit_code == 0, "what is printed is a check"


def test_the_matrix_needs_no_checks_and_no_lab(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(CHECKED.partition("checks:")[0])
    result = run("check", str(file), "--static", "--matrix")
    assert result.exit_code == 0
    assert "app/eth0" in result.output
    assert "tcp 80" in result.output
    found = json.loads(run("check", str(file), "--static", "--matrix", "--format", "json").output)
    assert [line["reaches"] for line in found["matrix"] if line["from"] == "app/eth0"] == [
        [{"protocol": 6, "ports": [[80, 80]]}]
    ]
    assert run("check", "--matrix").exit_code == 2

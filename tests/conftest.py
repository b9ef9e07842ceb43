"""What all tests share: Hypothesis profiles, which tests run with which rights, and what is counted over a whole run:
skips, leftovers, what the packets of the property tests met."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, settings

from tests.apart import leave, stand_apart

IN_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")

# An ordinary user's PATH on Debian lacks the folders of nft, tcpdump and ethtool.
os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])

# Shells start what runs in the background with interrupts ignored, and so would be all that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# dev: while writing code. ci: every push. nightly: when a machine has hours. quick: under sanitizers. No deadlines: CI
# machines stall. No explaining of failures: it traces every line that ran, for minutes where scapy builds packets.
PHASES = [phase for phase in Phase if phase is not Phase.explain]
settings.register_profile("dev", max_examples=50, deadline=None, phases=PHASES)
settings.register_profile(
    "ci", max_examples=200, deadline=None, phases=PHASES, print_blob=True, database=None, derandomize=True
)
settings.register_profile(
    "nightly", max_examples=20_000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("quick", max_examples=10, deadline=None, phases=PHASES, suppress_health_check=[*HealthCheck])
settings.register_profile("loud", max_examples=10, deadline=None, verbosity=Verbosity.verbose)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if IN_CI else "dev"))


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("vpclab")
    group.addoption(
        "--fail-on-skip",
        action="store_true",
        default=IN_CI,
        help="fail the run when a test was skipped (default in CI): a skip there is a test that never runs",
    )
    group.addoption(
        "--fail-on-leftovers",
        action="store_true",
        default=IN_CI,
        help="fail the run when it leaves namespaces, links or processes behind (default in CI; needs a quiet machine)",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out (never skip) what needs other rights than this run has; `make test` as root runs both."""
    foreign = "rootless" if os.geteuid() == 0 else "root"
    out = [item for item in items if item.get_closest_marker(foreign)]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


class Accounts:
    """Counts skips, and compares what the machine holds before and after; for its workers too, where there are some."""

    def __init__(self, config: pytest.Config) -> None:
        self.fail_on_skip: bool = config.getoption("--fail-on-skip")
        self.fail_on_leftovers: bool = config.getoption("--fail-on-leftovers")
        self.skipped: list[str] = []
        self.before = machine_state() if self.fail_on_leftovers else set()
        self.left: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.skipped.append(report.nodeid)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.left |= set(getattr(node, "workeroutput", {}).get("left", ()))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.fail_on_leftovers:
            self.left |= machine_state() - self.before
        bad = self.left or (self.fail_on_skip and self.skipped)
        if bad and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.fail_on_skip and self.skipped:
            terminalreporter.write_line(f"failed: {len(self.skipped)} skipped, and --fail-on-skip is on", red=True)
        for thing in sorted(self.left):
            terminalreporter.write_line(f"failed: left behind: {thing}", red=True)


class Apart:
    """In a worker, one of several: a place of its own, and at the end what is left of what was not there before.

    An ordinary user's place still shows the names under /run/netns that root made, before or for something else.
    """

    def __init__(self) -> None:
        self.states = stand_apart()
        self.before = names_and_states()

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output: dict[str, Any] = session.config.workeroutput  # type: ignore[attr-defined]
        output["left"] = sorted(names_and_states() - self.before)
        leave(self.states)


def names_and_states() -> set[str]:
    """Named namespaces and states of labs, as this process sees them."""
    state = {f"namespace {path.name}" for path in Path("/run/netns").glob("*")}
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return state | {f"state of lab {path.name}" for path in (home / "vpclab").glob("*")}


def machine_state() -> set[str]:
    """Named namespaces, links, states of labs, and processes in other namespaces or of a lab's daemon."""
    state = names_and_states()
    state |= {f"link {path.name}" for path in Path("/sys/class/net").glob("*")}
    here = os.readlink("/proc/self/ns/net")
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            elsewhere = os.readlink(path / "ns" / "net") != here
        except OSError:  # it ended meanwhile, or belongs to somebody else
            continue
        if elsewhere or any(word.startswith(b"vpclab") or b"lab.daemon" in word for word in words):
            state.add(f"process {path.name}: {b' '.join(words).decode(errors='replace').strip()}")
    return state


class Exercised:
    """Adds up, over all processes of the run, in how many examples each construct, operation and drop reason was met.

    Only processes that ran property tests import what counts; others have nothing to tell.
    """

    MODULE = "tests.property.exercised"

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
        if output is not None and self.MODULE in sys.modules:
            output["exercised"] = sys.modules[self.MODULE].TALLY.document()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        document = getattr(node, "workeroutput", {}).get("exercised")
        if document is not None:
            from tests.property.exercised import TALLY

            TALLY.merge(document)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.MODULE not in sys.modules:
            return
        from tests.property.exercised import TALLY, required

        if not TALLY.examples:
            return
        terminalreporter.section(f"what packets met in {TALLY.examples} examples of the property tests")
        for line in TALLY.lines():
            terminalreporter.write_line(line)
        missing = TALLY.lacking(1, required())
        if missing:
            terminalreporter.write_line(f"never met here: {', '.join(missing)}", yellow=True)


def pytest_configure(config: pytest.Config) -> None:
    compiled = os.environ.get("VPCLAB_COMPILED")
    if compiled:  # whoever asks for modules built in a special way gets those or nothing
        import fastpath.engine

        if not fastpath.engine.__file__.startswith(f"{compiled}{os.sep}"):
            raise pytest.UsageError(f"{fastpath.engine.__file__} is not of {compiled}")
    config.pluginmanager.register(Exercised(), "vpclab-exercised")
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(Apart(), "vpclab-apart")
    else:  # a worker sees only its own tests, and the others' processes
        config.pluginmanager.register(Accounts(config), "vpclab-accounts")

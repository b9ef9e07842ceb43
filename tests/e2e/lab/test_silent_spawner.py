"""A spawner that does not answer the daemon that takes its nodes over."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterator

import pytest

from dataplane.errors import LabError
from lab import gc, handover
from lab.runtime import Runtime
from lab.state import RUNTIME, LabState
from tests.e2e.lab.stage import DEADLINE_S, interface, plan

pytestmark = pytest.mark.e2e

NODE = plan("web", interface("10.0.1.11/24"))


@pytest.fixture
def spawner(state: LabState) -> Iterator[int]:
    """The process id of one whose nodes wait for another daemon."""
    runtime = Runtime(state)
    runtime.add_nodes([NODE])
    runtime.linger()
    runtime.let_go()
    yield int(state.read(RUNTIME)["pid"])
    gc.clean(state)
    runtime._keeper.wait(DEADLINE_S)


def test_it_is_not_waited_for_until_the_lab_is_up_and_can_be_taken_over_again(
    spawner: int, state: LabState, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(state, resume=True)
    os.kill(spawner, signal.SIGSTOP)
    with monkeypatch.context() as hurried:
        hurried.setattr(handover, "WORK_S", 0.3)
        with pytest.raises(LabError, match="nodes does not answer"):
            runtime.adopt([NODE])
    os.kill(spawner, signal.SIGCONT)
    assert select.select([runtime.fileno()], [], [], DEADLINE_S)[0], "its answer comes too late"
    with pytest.raises(LabError, match="nodes does not answer"):
        runtime.status()
    runtime.let_go()
    with Runtime(state, resume=True) as again:
        assert again.adopt([NODE]).lost == []
        again.be_patient()
        os.kill(spawner, signal.SIGSTOP)
        goes_on = threading.Timer(1, os.kill, (spawner, signal.SIGCONT))
        goes_on.start()
        assert list(again.status()) == ["web"], "this may take as long as it takes"
        goes_on.join()

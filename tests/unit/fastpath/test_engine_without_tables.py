"""An engine that has no tables yet answers, and lets nothing through; `make asan` looks at how it does that."""

from __future__ import annotations

from dataplane.verdict import Reason, Verdict
from fastpath.engine import Engine
from fastpath.tracer import Overlay


def test_frames_come_by_no_context() -> None:
    engine = Engine(sessions=16, flows=16)
    outcomes, emissions = engine.process([b"", bytes(13), bytes(60)], [0, 1, 2**32 - 1], 0)
    assert [(outcome[0], outcome[1]) for outcome in outcomes] == [(Verdict.DROP, Reason.CONTEXT_UNKNOWN)] * 3
    assert emissions == []
    assert engine.process([], [], 0) == ([], [])
    assert engine.trace(bytes(60), 1, Overlay(), 0)["reason"] == Reason.CONTEXT_UNKNOWN


def test_there_is_nothing_to_tell() -> None:
    engine = Engine(sessions=16, flows=16)
    assert engine.generation == 0
    assert engine.sessions() == []
    assert engine.counters() == {}
    assert engine.gateways() == {}
    assert engine.statistics()["sessions"] == 0
    assert engine.advance(1 << 40) == ([], [])
    assert engine.forget() == 0
    engine.memo = False
    engine.selfcheck()

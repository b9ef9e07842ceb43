"""Long histories: both engines live through the same weeks of packets, changes and silence, and stay of one mind.

A comparison of a few packets (`test_differential`) begins anew each time. Here one lab lives long: flows grow old,
rules and gateways go and come back while they are open, fragments arrive late, and whatever is wrong in a table has
time to show. After each step all that is remembered is compared and every table checks itself.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.property.disagreements import IncomparableError
from tests.property.fresh import FRESH, PHASES, part
from tests.property.playing import MOVES, Playground
from tests.property.wide_labs import wide_labs

ANY = st.data()


class Histories(RuleBasedStateMachine):
    """One lab, and everything that can happen in it."""

    ground: Playground

    @initialize(lab=wide_labs())
    def begin(self, lab: dict[str, Any]) -> None:
        self.ground = Playground(lab)

    def _move(self, name: str, data: st.DataObject) -> None:
        self.ground.steps += 1
        self.ground.seen.note(f"move {name}")
        try:
            MOVES[name](self.ground, data.draw)
        except IncomparableError:
            self._begin_anew()

    def _begin_anew(self) -> None:
        """From here on they cannot be compared: both forget everything, and history goes on."""
        old = self.ground
        self.ground = Playground(old.lab)
        self.ground.advance(old.now)
        self.ground.seen.items |= old.seen.items | {"begun anew"}
        self.ground.steps = old.steps

    @rule(data=ANY)
    def packet(self, data: st.DataObject) -> None:
        self._move("packet", data)

    @rule(data=ANY)
    def conversation(self, data: st.DataObject) -> None:
        self._move("talk", data)

    @rule(data=ANY)
    def target_fails(self, data: st.DataObject) -> None:
        self._move("fail", data)

    @rule(data=ANY)
    def spoofed(self, data: st.DataObject) -> None:
        self._move("spoof", data)

    @precondition(lambda self: self.ground.emitted)
    @rule(data=ANY)
    def bounce(self, data: st.DataObject) -> None:
        self._move("bounce", data)

    @precondition(lambda self: self.ground.emitted)
    @rule(data=ANY)
    def tamper(self, data: st.DataObject) -> None:
        self._move("tamper", data)

    @precondition(lambda self: self.ground.emitted)
    @rule(data=ANY)
    def answer(self, data: st.DataObject) -> None:
        self._move("answer", data)

    @precondition(lambda self: self.ground.emitted)
    @rule(data=ANY)
    def another_answer(self, data: st.DataObject) -> None:
        self._move("answer", data)

    @precondition(lambda self: self.ground.sent)
    @rule(data=ANY)
    def again(self, data: st.DataObject) -> None:
        self._move("again", data)

    @precondition(lambda self: self.ground.emitted)
    @rule(data=ANY)
    def icmp_error(self, data: st.DataObject) -> None:
        self._move("error", data)

    @rule(data=ANY)
    def who_has(self, data: st.DataObject) -> None:
        self._move("ask", data)

    @rule(data=ANY)
    def fragments(self, data: st.DataObject) -> None:
        self._move("fragments", data)

    @precondition(lambda self: self.ground.late)
    @rule(data=ANY)
    def late_fragment(self, data: st.DataObject) -> None:
        self._move("late_fragment", data)

    @rule(data=ANY)
    def odd_frame(self, data: st.DataObject) -> None:
        self._move("odd", data)

    @rule(data=ANY)
    def flood(self, data: st.DataObject) -> None:
        self._move("flood", data)

    @rule(data=ANY)
    def silence(self, data: st.DataObject) -> None:
        self._move("wait", data)

    @rule(data=ANY)
    def connection_times_out(self, data: st.DataObject) -> None:
        self._move("time_out", data)

    @rule(data=ANY)
    def change(self, data: st.DataObject) -> None:
        self._move("change", data)

    @precondition(lambda self: self.ground.before)
    @rule(data=ANY)
    def undo(self, data: st.DataObject) -> None:
        self._move("undo", data)

    @rule(form=st.sampled_from(["memo", "emptied"]))
    def empty_the_memo(self, form: str) -> None:
        self.ground.planes[form].engine.forget()

    @invariant()
    def tables_are_sound(self) -> None:
        for plane in self.ground.planes.values():
            plane.engine.selfcheck()

    def teardown(self) -> None:
        if hasattr(self, "ground"):
            self.ground.done()


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    backend=FRESH,
    phases=PHASES,
    max_examples=part(5),
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

"""Behaviours of the required list that no test asserts, each with the reason. Their rows say so."""

from __future__ import annotations

from tests.conformance.behaviours import Behaviour

NOT_ASSERTED: tuple[Behaviour, ...] = ()

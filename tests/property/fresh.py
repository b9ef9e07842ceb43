"""Examples that are all fresh: a Hypothesis backend that draws each one anew, without repeating parts of earlier ones.

Hypothesis makes most of its examples by varying others, and its first ones small; that finds bugs of parsers. Here each
example is a network and its history, and what counts is how many different ones are met. Seeds, shrinking and
reproduction are Hypothesis's own (https://hypothesis.readthedocs.io/en/latest/strategies.html#alternative-backends).
"""

from __future__ import annotations

from hypothesis import Phase, settings
from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS, HypothesisProvider

FRESH = "fresh"
"""The backend's name, for `hypothesis.settings`."""

PHASES = (Phase.explicit, Phase.generate)
"""Examples are shrunk as scripts (`script.shrunk`), which takes seconds where Hypothesis would need many minutes."""


class FreshProvider(HypothesisProvider):
    """Draws as Hypothesis does."""


AVAILABLE_PROVIDERS[FRESH] = f"{__name__}.{FreshProvider.__name__}"


def part(of: int) -> int:
    """How many examples a slow property draws: so many times fewer than the profile says, but ten at least."""
    return max(10, settings().max_examples // of)

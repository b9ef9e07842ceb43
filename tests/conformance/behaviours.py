"""What a conformance test asserts, as data: one sentence about what AWS (or an RFC) says packets do, and its source.

    @behaviour("A ping between two subnets arrives with its TTL unchanged", source=vpc_guide("..."), item=1)
    def test_ttl_is_unchanged_between_subnets() -> None: ...

Each sentence is one row of `docs/conformance.md` (`tests.conformance.page` writes it). Tests in `tests/conformance` are
played on both engines. An end-to-end test of the same sentence says it again, with ``end_to_end=True`` and, as it adds
no row of its own, without a source; it runs once, with real kernels. Behaviours that no test asserts stand in
`tests.conformance.not_asserted`, each with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Test = TypeVar("Test", bound=Callable[..., Any])

ATTRIBUTE = "conformance_behaviours"
"""Where a test function keeps its behaviours."""

SECTIONS = (
    "Addresses, Ethernet and neighbours",
    "MTU",
    "TTL",
    "Route tables",
    "Prefix lists",
    "Edge route tables",
    "Internet gateways",
    "Egress-only internet gateways",
    "NAT gateways",
    "NAT64",
    "Security groups",
    "Connection tracking",
    "Network ACLs",
    "VPC peering",
    "Gateway load balancers",
    "GENEVE",
    "Endpoints",
    "Fragments",
)
"""The parts of the page, in order. A module of tests names its own in `SECTION`."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One sentence, and where it stands."""

    sentence: str
    source: str = ""
    """URL of an AWS page or an RFC; empty where another test of the same sentence gives it."""
    item: int = 0
    """Number in the list of behaviours that must be here (`page.REQUIRED`); 0: chosen besides."""
    section: str = ""
    end_to_end: bool = False
    """Asserted through real kernels, not by an engine alone."""
    silent: bool = False
    """The page leaves it open: the sentence says what vpclab does, and may have a setting for it."""
    not_asserted: str = ""
    """Why no test asserts it; empty for a test's."""


def behaviour(
    sentence: str, *, source: str = "", item: int = 0, section: str = "", silent: bool = False, end_to_end: bool = False
) -> Callable[[Test], Test]:
    """Say which behaviour a test asserts; a test may assert several.

    Args:
        sentence: what one can observe, as one sentence without a full stop.
        source: URL of the AWS page or RFC that says so.
        item: number in the list of behaviours that must be here.
        section: part of the page; the module's `SECTION` when omitted.
        silent: the source leaves it open, and the sentence says what vpclab does.
        end_to_end: whether real kernels take part.
    """

    def mark(test: Test) -> Test:
        part = section or str(getattr(test, "__globals__", {}).get("SECTION", ""))
        row = Behaviour(sentence, source, item, part, end_to_end, silent)
        setattr(test, ATTRIBUTE, (row, *behaviours_of(test)))
        return test

    return mark


def behaviours_of(test: object) -> tuple[Behaviour, ...]:
    """The behaviours that a test function says it asserts."""
    found: tuple[Behaviour, ...] = getattr(test, ATTRIBUTE, ())
    return found

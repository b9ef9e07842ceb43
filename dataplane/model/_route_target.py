"""Where a route leads: each construct that can be a target brings a subclass of `RouteTarget` in its own file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dataplane.errors import Problem
from dataplane.model._cidr import Network
from dataplane.model._fields import did_you_mean
from dataplane.model._not_here import not_here

if TYPE_CHECKING:
    from dataplane.topology import Topology


@dataclass(frozen=True)
class RouteTarget:
    """``WORD`` or ``WORD:NAME``: ``internet-gateway``, ``nat-gateway:NAME``, ``peering:NAME``, ``local``, ..."""

    name: str = ""

    word: ClassVar[str] = ""
    """What it is called in a lab file."""
    is_named: ClassVar[bool] = True
    inside_vpc: ClassVar[bool] = False
    """Whether AWS lets it take over a VPC's or a subnet's CIDR block from `local`."""
    words: ClassVar[dict[str, type[RouteTarget]]] = {}
    """All targets there are."""

    def __init_subclass__(cls) -> None:
        RouteTarget.words[cls.word] = cls

    @classmethod
    def parse(cls, value: object) -> RouteTarget:
        """Read a target.

        Raises:
            ValueError: not one, or its name is missing or too much.
        """
        word, colon, name = str(value).partition(":")
        kind = RouteTarget.words.get(word)
        if kind is None:
            shown = (f"{w}:NAME" if k.is_named else w for w, k in RouteTarget.words.items())
            near = did_you_mean(word, RouteTarget.words)
            hint = not_here(word) or (near if "?" in near else "write one of " + ", ".join(shown))
            raise ValueError(f"{value} is no route target; {hint}")
        if kind.is_named and not name:
            raise ValueError(f"{value} lacks a name; write {word}:NAME")
        if colon and not kind.is_named:
            raise ValueError(f"{value} has a name too many; write {word}")
        return kind(name)

    def __str__(self) -> str:
        return f"{self.word}:{self.name}" if self.name else self.word

    def check(self, topology: Topology, vpc: str, destination: Network) -> Iterator[Problem]:
        """Yield why AWS would refuse a route of this VPC to here. Paths are relative to the route."""
        raise NotImplementedError

    def check_table(self, topology: Topology, vpc: str, table: str) -> Iterator[Problem]:
        """Yield why a route of this table of the VPC cannot lead here. Paths are relative to the target."""
        yield from ()

    def label(self, topology: Topology, vpc: str) -> str | None:
        """Return the node that packets are handed to, or None when there is nobody (the route is a blackhole)."""
        raise NotImplementedError

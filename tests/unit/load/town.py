"""A small model of its own for the generic parts of loading: houses with rooms, streets, people."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any, Literal

from dataplane.errors import Problem
from dataplane.load.compose import compose
from dataplane.load.marks import Marks
from dataplane.load.nodes import Node
from dataplane.load.reading import Place, Reader
from dataplane.load.shapes import Construct


class Color(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True)
class Ports:
    """A port (``80``) or a range of them (``80-90``): both ends count."""

    first: int
    last: int

    @classmethod
    def parse(cls, value: object) -> Ports:
        first, dash, last = str(value).partition("-")
        if isinstance(value, bool) or not first.isdigit() or (dash and not last.isdigit()):
            raise ValueError(f"{value!r} is no port; write 80 or 80-90")
        return cls(int(first), int(last or first))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chimney:
    height: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ByPort:
    tcp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ByCommand:
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    cidr: IPv4Network = field(metadata={"doc": "where it is", "example": "10.0.1.0/24"})
    any_cidr: IPv4Network | IPv6Network | None = None
    address: IPv4Address | None = None
    heated: bool = True
    color: Color = Color.RED


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    rooms: dict[str, Room] = field(default_factory=dict)
    chimney: Chimney | None = None
    ports: Ports | None = None
    kind: Literal["brick", "wood"] = "brick"
    links: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if "nowhere" in self.links:
            raise ValueError("a link leads nowhere; remove it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Street:
    one: str
    other: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    house: str
    room: str | None = None
    ready: ByPort | ByCommand | None = None
    environment: dict[str, str] = field(default_factory=dict)
    keys: dict[IPv4Address, IPv4Address] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    hosts: dict[str, Person] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Town:
    version: int
    houses: dict[str, House] = field(default_factory=dict)
    streets: dict[str, Street] = field(default_factory=dict)
    instances: dict[str, Person] = field(default_factory=dict)
    internet: Outside | None = None


TOWN = Construct(Town)


def tree(text: str) -> Node:
    root, problems = compose(text, "town.yaml")
    assert root is not None
    assert problems == []
    return root


def marks(text: str) -> Marks:
    return Marks("town.yaml", tree(text))


def read(text: str) -> tuple[Any, list[Problem]]:
    reader = Reader("town.yaml")
    value = reader.read(TOWN, Place(tree(text), ""))
    return value, reader.problems

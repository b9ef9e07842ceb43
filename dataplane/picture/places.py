"""Picture: places inside of places, links between them, and marks of what is going on, as plain values.

JSON form (keys are only ever added)::

    {"version": 1, "name": "quickstart", "places": [PLACE, ...], "links": [LINK, ...], "marks": {KEY: MARK}}
    (a mark's KEY is that of a place, or of a link: "SOURCE -> TARGET")
    PLACE {"key": "instance web", "kind": "instance", "title": "web", "lines": ["10.0.1.10"],
           "inside": "subnet shop/public"}
    LINK  {"source": KEY, "target": KEY, "label": "0.0.0.0/0", "active": true, "directed": true}
    MARK  {"lines": ["sent 1.2 Mbit/s"], "alarm": false}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

JSON_VERSION = 1
CONTAINERS = frozenset({"region", "vpc", "availability-zone", "subnet"})
"""Kinds of places that others are inside of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Something that is somewhere."""

    key: str
    """Its kind and name, e.g. ``"subnet shop/public"``."""
    kind: str
    title: str
    lines: tuple[str, ...] = ()
    """What else to say of it: addresses, groups."""
    inside: str = ""
    """Key of the place that it is inside of; empty at the top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A route, or what belongs together."""

    source: str
    target: str
    label: str = ""
    active: bool = True
    """False for a route that is a blackhole."""
    directed: bool = True

    @property
    def key(self) -> str:
        """By which it is marked: the keys of both ends with an arrow between them."""
        return f"{self.source} -> {self.target}"


@dataclass(frozen=True, slots=True)
class Mark:
    """What is going on at a place, or over a link."""

    lines: tuple[str, ...]
    alarm: bool = False
    """Packets are dropped there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A network as one sees it."""

    name: str
    places: tuple[Place, ...]
    links: tuple[Link, ...]
    marks: Mapping[str, Mark] = field(default_factory=dict)
    """By key of the place or the link."""

    def marked(self, marks: Mapping[str, Mark]) -> Picture:
        """The same picture with these marks; those of places and links that it has not are left out."""
        known = {place.key for place in self.places} | {link.key for link in self.links}
        return replace(self, marks={key: mark for key, mark in marks.items() if key in known})

    def to_json(self) -> dict[str, Any]:
        """The JSON form described in the module's docstring."""
        return {
            "version": JSON_VERSION,
            "name": self.name,
            "places": [{**asdict(place), "lines": list(place.lines)} for place in self.places],
            "links": [asdict(link) for link in self.links],
            "marks": {key: {"lines": list(mark.lines), "alarm": mark.alarm} for key, mark in self.marks.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Picture:
        """Read back what `to_json` wrote.

        Raises:
            ValueError: written by another version.
        """
        if value.get("version") != JSON_VERSION:
            raise ValueError(f"picture of version {value.get('version')!r}, this is version {JSON_VERSION}")
        return cls(
            name=value["name"],
            places=tuple(Place(**{**place, "lines": tuple(place["lines"])}) for place in value["places"]),
            links=tuple(Link(**link) for link in value["links"]),
            marks={key: Mark(tuple(mark["lines"]), mark["alarm"]) for key, mark in value["marks"].items()},
        )

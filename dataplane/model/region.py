"""Region and Availability Zone: where a lab is.

A Region is a name; its zones are the name with a letter: ``us-east-1`` has ``us-east-1a`` and so on. A subnet lies
in one zone. Zones forward alike: what depends on them is what AWS ties to a zone (a NAT gateway, quotas).
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-regions-availability-zones.html

Deviations from AWS:
- Any name of the right form is a Region, and every Region has zones a to f.
- Letters mean the same zone in every lab; AWS shuffles them per account (zone ids do not exist here).
- Local Zones, Wavelength Zones and Outposts are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

_NAME = re.compile(r"[a-z]{2}(-[a-z]+){1,2}-[1-9][0-9]?")


@dataclass(frozen=True, slots=True)
class Region:
    """An AWS Region."""

    name: str

    ZONES: ClassVar[str] = "abcdef"

    @classmethod
    def parse(cls, value: object) -> Region:
        """Read a name such as ``us-east-1``.

        Raises:
            ValueError: no such name.
        """
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise ValueError(f"{value} is no Region; write, for example, us-east-1")
        return cls(value)

    def __str__(self) -> str:
        return self.name

    def zone(self, text: str) -> str:
        """Return the full name of a zone given as its letter or in full.

        Raises:
            ValueError: no zone of this Region.
        """
        letter = text.removeprefix(self.name)
        if len(letter) != 1 or letter not in self.ZONES:
            raise ValueError(f"{text} is no Availability Zone of {self.name}; write a letter from a to f")
        return self.name + letter

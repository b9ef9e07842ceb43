"""Ids like those of AWS, which follow from names: the same lab file has the same ids.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/resource-ids.html
"""

from __future__ import annotations

from hashlib import blake2b

_DIRECTIONS = {
    "north": "n",
    "south": "s",
    "east": "e",
    "west": "w",
    "central": "c",
    "northeast": "ne",
    "northwest": "nw",
    "southeast": "se",
    "southwest": "sw",
}


def aws_id(prefix: str, name: str) -> str:
    """``eni-`` and 17 hexadecimal digits."""
    return f"{prefix}-{blake2b(f'{prefix} {name}'.encode(), digest_size=9).hexdigest()[:17]}"


def zone_id(region: str, zone: str) -> str:
    """``use1-az1`` for ``us-east-1a``: letters mean the same zone in every account here.

    https://docs.aws.amazon.com/ram/latest/userguide/working-with-az-ids.html
    """
    first, *words, number = region.split("-")
    short = "".join(_DIRECTIONS.get(word, word[0]) for word in words)
    return f"{first}{short}{number}-az{ord(zone.removeprefix(region)) - ord('a') + 1}"

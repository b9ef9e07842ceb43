"""Inputs that fuzzing kept: those that together go every known way, and all that ever did not end well.

`python -P -m tests.fuzz.kept` plays them all, once.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.targets import TARGETS

HERE = Path(__file__).parent


def seeds(name: str) -> Iterator[bytes]:
    """Those of a target."""
    with tarfile.open(HERE / "seeds" / f"{name}.tar.gz") as archive:
        for member in archive:
            content = archive.extractfile(member)
            assert content is not None
            yield content.read()


def found(name: str) -> Iterator[bytes]:
    """What did not end well once."""
    for case in sorted((HERE / "found" / name).glob("*")):
        yield case.read_bytes()


def main() -> None:
    """Play all."""
    for name, target in TARGETS.items():
        for octets in (*seeds(name), *found(name)):
            target.run(octets)


if __name__ == "__main__":
    main()

from collections.abc import Sequence
from typing import Any

KINDS: dict[str, int]

class Recorder:
    def __init__(
        self,
        points: Sequence[tuple[Any, ...]],
        *,
        capacity: int = 8388608,
        keeps: int = 0,
        programs: tuple[int, int] = (0, 0),
        owner: object = None,
    ) -> None: ...
    @property
    def lost(self) -> int: ...
    def read(self, most: int = 1024) -> list[tuple[Any, ...]]: ...

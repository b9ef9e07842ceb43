from collections.abc import Sequence

LONG_LIST: int

class Turns:
    def __init__(self, bits: int) -> None: ...

class Classifier:
    def __init__(self, rules: list[tuple[int, ...]], tables: list[tuple[Sequence[int], ...]]) -> None: ...
    @property
    def bytes(self) -> int: ...

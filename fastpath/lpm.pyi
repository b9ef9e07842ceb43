from array import array
from collections.abc import Sequence
from typing import TypeAlias

from typing_extensions import Buffer

FORMS: tuple[str, ...]
LEVELS: tuple[str, ...]
LEVEL: str

_Rows: TypeAlias = tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[int]]

class Lpm:
    def __init__(self, rows: _Rows, *, form: str = "") -> None: ...
    @staticmethod
    def of_prefixes(family: int, addresses: Buffer, lengths: Buffer, values: Buffer, *, form: str = "") -> Lpm: ...
    @property
    def form(self) -> str: ...
    @property
    def bytes(self) -> int: ...
    def find(self, family: int, address: int) -> int: ...
    def find_many(
        self, family: int, addresses: Buffer, out: Buffer | None = None, *, level: str = ""
    ) -> array[int]: ...

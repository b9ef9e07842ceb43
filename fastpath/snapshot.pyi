from array import array
from collections.abc import Mapping, Sequence

from typing_extensions import Buffer

class Snapshot:
    bytes: int
    classifiers_made: int
    def __init__(
        self,
        rows: Mapping[str, Sequence[object]],
        *,
        generation: int,
        before: Snapshot | None = None,
        classify_from: int = 8,
    ) -> None: ...
    @property
    def generation(self) -> int: ...
    @property
    def node_count(self) -> int: ...
    def find(self, table: int, family: int, address: int) -> int: ...
    def find_many(
        self, table: int, family: int, addresses: Buffer, out: Buffer | None = None, *, level: str = ""
    ) -> array[int]: ...

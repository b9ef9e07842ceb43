from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import Buffer

from fastpath.rule_list import RuleList

class Memory:
    def __init__(self, size: int) -> None: ...

class Snapshot:
    classifiers_made: int
    def __init__(
        self,
        rows: Mapping[str, Sequence[object] | Mapping[int, object]],
        *,
        generation: int,
        before: Snapshot | None = None,
        classify_from: int = 8,
    ) -> None: ...
    @property
    def generation(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    def rule_list(self, index: int) -> RuleList: ...
    def first_rules(self, index: int, remotes: Buffer, services: Buffer, *, level: str = "") -> array[int]: ...
    def parts(self) -> dict[str, Any]: ...
    @property
    def node_count(self) -> int: ...
    def find(self, table: int, family: int, address: int) -> int: ...
    def find_many(
        self, table: int, family: int, addresses: Buffer, out: Buffer | None = None, *, level: str = ""
    ) -> array[int]: ...

from collections.abc import Mapping, Sequence

from fastpath.classifier import Classifier

class RuleList:
    bytes: int
    def __init__(
        self,
        rows: list[tuple[int, ...]] | list[tuple[int, int, list[tuple[int, ...]]]],
        tables: Sequence[tuple[Sequence[int], ...]] | Mapping[int, tuple[Sequence[int], ...]],
        *,
        before: RuleList | None = None,
        classify_from: int = 8,
    ) -> None: ...
    @property
    def classes(self) -> Classifier | None: ...
    def parts(self) -> tuple[object, ...]: ...

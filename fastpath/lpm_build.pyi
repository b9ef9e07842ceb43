FORMS: tuple[str, ...]

class Store:
    bytes: int

class Block: ...

class Table:
    def parts(self) -> tuple[object, ...]: ...

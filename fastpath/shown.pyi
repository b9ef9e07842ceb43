HOP_OPS: tuple[str, ...]
HOP_DETAILS: tuple[str, ...]
SESSION_KINDS: tuple[str, ...]
SESSION_STATES: tuple[str, ...]

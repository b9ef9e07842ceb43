"""Where the state folders of labs are."""

from __future__ import annotations

import os
from pathlib import Path


def state_root() -> Path:
    """Folder with one folder per lab."""
    base = os.environ.get("XDG_STATE_HOME", "")
    # The XDG specification says to ignore a relative path.
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "vpclab"

"""What is found out on the sound tree: that every test passes there, how long each takes, which lines it runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from coverage import CoverageData

from tools.mutants.faults import digest_of_deciding
from tools.mutants.order import FOLDERS, KNOWN, LINES
from tools.mutants.trees import BASE, WORK, Place
from tools.mutants.trial import ask, witnessed


class UnsoundError(Exception):
    """A test fails without any fault."""


def find_out(place: Place) -> None:
    """Run what has changed since it was last run: all tests when the deciding files have, else the modules that did.

    Raises:
        UnsoundError: a test fails.
    """
    tree, now = digest_of_deciding(BASE), _digests()
    known: dict[str, Any] = json.loads(KNOWN.read_text()) if KNOWN.exists() else {}
    if known.get("tree") != tree:
        known = {"tree": tree, "digests": {}, "seconds": {}, "engine": {}}
        LINES.unlink(missing_ok=True)
    stale = [module for module, digest in now.items() if known["digests"].get(module) != digest]
    if not stale:
        return
    fresh = WORK / "lines.fresh"
    fresh.unlink(missing_ok=True)
    told = ask(place, BASE, (), paths=stale, lines=fresh)
    if told.verdict != "passed":
        raise UnsoundError(f"without any fault, {told.test or 'the run'} is {told.verdict} ({told.how})")
    lines = CoverageData(str(LINES))
    if LINES.exists():
        lines.read()
    measured = CoverageData(str(fresh))
    measured.read()
    lines.update(measured)
    lines.write()
    for test in [
        test for test in known["seconds"] if test.split("::")[0] in (*stale, *(known["digests"].keys() - now))
    ]:
        del known["seconds"][test], known["engine"][test]
    for kind, test, engine, *rest in witnessed(place):
        if kind == "ended":
            known["seconds"][test], known["engine"][test] = rest[0], engine
    KNOWN.write_text(json.dumps(known | {"digests": now}))


def _digests() -> dict[str, str]:
    modules: list[Path] = []
    for folder in FOLDERS:
        modules += [BASE / folder] if folder.endswith(".py") else sorted((BASE / folder).glob("test_*.py"))
    return {str(path.relative_to(BASE)): hashlib.sha256(path.read_bytes()).hexdigest() for path in modules}

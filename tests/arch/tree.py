"""What the arch tests read: the files of the tree as a commit would hold them, and what each source imports."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"vpclab": ROOT / "public" / "vpclab", **{name: ROOT / name for name in ("lab", "dataplane", "fastpath")}}
"""Import name -> folder, from the user's end down."""
OURS = {*PACKAGES, "tests", "bench", "tools"}
SOURCE_SUFFIXES = (".py", ".pyi", ".pyx", ".pxd")


class Import(NamedTuple):
    """One import statement; `module` is absolute, with what was taken from it where that may be a module."""

    file: Path
    line: int
    module: str
    deferred: bool
    """Inside a function, or for type checkers only."""

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}: {self.module}"


@functools.cache
def committed_files() -> tuple[Path, ...]:
    """Files that are tracked or would be added; outside a git checkout, everything but build products."""
    listing = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode == 0 and listing.stdout:
        files = [ROOT / name for name in listing.stdout.split("\0") if name]
    else:
        built = {".venv", ".git", "build", "dist", "__pycache__"}
        files = [path for path in ROOT.rglob("*") if not built & set(path.relative_to(ROOT).parts)]
        files = [path for path in files if not any(part.startswith(".") and part != ".ci" for part in path.parts[-2:])]
    return tuple(sorted(path for path in files if path.is_file()))


def sources(package: str, *suffixes: str) -> list[Path]:
    """Committed sources of one of our packages."""
    folder = PACKAGES[package]
    return [p for p in committed_files() if p.is_relative_to(folder) and p.suffix in (suffixes or SOURCE_SUFFIXES)]


def module_name(path: Path) -> str:
    """The absolute name of a module of ours."""
    for package, folder in PACKAGES.items():
        if path.is_relative_to(folder):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports(path: Path) -> list[Import]:
    """Everything a Python or Cython source imports."""
    text = path.read_text()
    found = _python_imports(path, text) if path.suffix in (".py", ".pyi") else _cython_imports(path, text)
    return list(found)


def _absolute(path: Path, module: str, level: int) -> str:
    if not level:
        return module
    parents = module_name(path).split(".")
    keep = len(parents) - level + (path.stem == "__init__")
    return ".".join([*parents[:keep], *([module] if module else [])])


def _python_imports(path: Path, text: str) -> Iterator[Import]:
    def visit(node: ast.AST, deferred: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(path, child.lineno, alias.name, deferred)
            elif isinstance(child, ast.ImportFrom):
                module = _absolute(path, child.module or "", child.level)
                for alias in child.names:
                    yield Import(path, child.lineno, f"{module}.{alias.name}", deferred)
            else:
                typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
                inner = typing_only or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
                yield from visit(child, deferred or inner)

    yield from visit(ast.parse(text, str(path)), False)


_CYTHON_IMPORT = re.compile(
    r"""^(?P<indent>[ \t]*)
        (?: from [ \t]+ (?P<dots>\.*) (?P<module>[\w.]*) [ \t]+ c?import [ \t]+ (?P<names>\([^)]*\)|[^\n#]+)
          | c?import [ \t]+ (?P<plain>[^\n#]+)
          | include [ \t]+ ["'](?P<include>[^"']+)["'] )""",
    re.VERBOSE | re.MULTILINE,
)


def _cython_imports(path: Path, text: str) -> Iterator[Import]:
    text = re.sub(r'(?s)""".*?"""', lambda match: "\n" * match[0].count("\n"), text).replace("\\\n", " " * 2)
    for match in _CYTHON_IMPORT.finditer(text):
        line, deferred = text.count("\n", 0, match.start()) + 1, bool(match["indent"])
        if match["include"]:
            yield Import(path, line, f"include {match['include']}", deferred)
            continue
        names = re.sub(r"[()\s]+", " ", match["names"] or match["plain"]).split(",")
        for name in (name.split() for name in names):
            if name and match["plain"]:
                yield Import(path, line, name[0], deferred)
            elif name:
                module = _absolute(path, match["module"], len(match["dots"]))
                yield Import(path, line, f"{module}.{name[0]}", deferred)

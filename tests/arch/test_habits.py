"""Small promises about the tree that nobody should have to remember."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

from lab import preflight
from tests.arch.tree import PACKAGES, ROOT, committed_files, sources

EMPTY_WORDS = {"helper", "helpers", "manager", "misc", "util", "utils"}
"""Names that say nothing about what is inside."""

LONGEST_UNIT = 600
"""Lines of a compiled unit."""

ONE_MACHINE = re.compile(r"(?<![\w.])/(?:work|root|Users|home(?!/(?:someone|user|you)\b))/[\w.-]")


def words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)}


def texts() -> list[tuple[Path, str]]:
    found = []
    for path in committed_files():
        try:
            found.append((path, path.read_text()))
        except UnicodeDecodeError:  # captures
            continue
    return found


def test_no_module_or_class_has_an_empty_name() -> None:
    wrong = []
    for path in committed_files():
        if path.suffix not in (".py", ".pyx", ".pxd"):
            continue
        classes = re.findall(r"^\s*(?:cdef )?class (\w+)", path.read_text(), re.MULTILINE)
        wrong += [f"{path.relative_to(ROOT)}: {n}" for n in (path.stem, *classes) if words(n) & EMPTY_WORDS]
    assert wrong == []


def test_every_compiled_module_has_a_stub() -> None:
    stubs = {path.stem for path in sources("fastpath", ".pyi")}
    assert [path.name for path in sources("fastpath", ".pyx") if path.stem not in stubs] == []


def test_every_unit_of_the_fast_path_is_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = re.search(r"## The rooms of the fast path\n.*?(\| concern .*?)\n\n", text, re.DOTALL)
    assert table
    listed = [name for line in table[1].splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[2])]
    units = {path.stem for path in sources("fastpath", ".pyx", ".pxd")} - {"__init__"}
    assert sorted(listed) == sorted(units)


def test_no_unit_of_the_fast_path_is_too_long_to_find_ones_way_in() -> None:
    lengths = {path.name: path.read_text().count("\n") for path in sources("fastpath", ".pyx", ".pxd", ".h")}
    assert {name: length for name, length in lengths.items() if length > LONGEST_UNIT} == {}


def test_packages_are_typed() -> None:
    assert [name for name, folder in PACKAGES.items() if not (folder / "py.typed").exists()] == []


def test_nothing_names_a_folder_of_one_machine() -> None:
    wrong = []
    for path, text in texts():
        for number, line in enumerate(text.splitlines(), 1):
            if ONE_MACHINE.search(line):
                wrong.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert wrong == []


def test_nothing_generated_by_the_build_is_committed() -> None:
    tracked = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=False).stdout
    # the only C that is written by hand: peers of benchmarks, and what sanitizers are shown and fuzzers linked with
    built = re.compile(r"\.(so|o|html|egg-info|pyc)$|^(?!bench/native/|tools/).*\.c$|^(build|dist|\.venv)/")
    assert [name for name in tracked.splitlines() if built.search(name)] == []


def test_links_between_documents_lead_somewhere() -> None:
    wrong = []
    for path, text in texts():
        if path.suffix != ".md":
            continue
        prose = re.sub(r"(?s)```.*?```", "", text)
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", prose):
            if "://" not in target and not (path.parent / target).exists():
                wrong.append(f"{path.relative_to(ROOT)}: {target}")
    assert wrong == []


def test_readme_installs_what_preflight_names() -> None:
    """One list of Debian packages: the README repeats it, and may not drift."""
    readme = re.sub(r"\\\n\s*", "", (ROOT / "README.md").read_text())
    lines = [sorted(line.split()) for line in re.findall(r"sudo apt-get install -y ([^\n`]+)", readme)]
    first = sorted({*preflight.BUILD_PACKAGES, *preflight.LAB_PROGRAMS.values()})
    assert lines == [first, sorted(preflight.packages())]


def test_public_python_names_are_listed_and_described() -> None:
    """`vpclab.__all__` is the promise; every name in it says what it is."""
    import vpclab

    undescribed = [name for name in vpclab.__all__ if not (getattr(vpclab, name).__doc__ or "").strip()]
    assert undescribed == []
    assert sorted(set(vpclab.__all__)) == sorted(vpclab.__all__)


def test_modules_have_docstrings() -> None:
    wrong = []
    for package in PACKAGES:
        for path in sources(package, ".py"):
            if not ast.get_docstring(ast.parse(path.read_text())):
                wrong.append(str(path.relative_to(ROOT)))
    assert wrong == []

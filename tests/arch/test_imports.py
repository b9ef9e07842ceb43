"""Imports point one way: vpclab -> lab -> dataplane -> fastpath, in compiled sources too."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.arch.tree import OURS, PACKAGES, ROOT, Import, committed_files, imports, module_name, sources
from vpclab.cli import MODULE_OF

LAYERS = list(PACKAGES)
OUTSIDE_WORLD = {"asyncio", "fcntl", "pyroute2", "random", "secrets", "select", "socket", "subprocess", "time"}
"""What the data plane must not touch: packets, time and chance come to it as arguments."""


def top(found: Import) -> str:
    return found.module.partition(".")[0]


@pytest.mark.parametrize("package", LAYERS)
def test_no_import_points_upwards(package: str) -> None:
    above = {*LAYERS[: LAYERS.index(package)], *(OURS - set(LAYERS))}
    assert [str(found) for path in sources(package) for found in imports(path) if top(found) in above] == []


def test_fastpath_imports_nothing_of_ours() -> None:
    wrong = [found for path in sources("fastpath") for found in imports(path) if top(found) in OURS - {"fastpath"}]
    assert [str(found) for found in wrong] == []


def test_the_model_reaches_no_compiled_code() -> None:
    """Not even through another module: the model must load, and check a lab file, without a compiler."""
    by_name = {module_name(path): path for path in sources("dataplane", ".py")}
    todo = [path for name, path in by_name.items() if name.startswith("dataplane.model")]
    seen: set[Path] = set()
    wrong = []
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        for found in imports(path):
            if top(found) not in ("dataplane", *sys.stdlib_module_names):
                wrong.append(str(found))
            names = (found.module, found.module.rpartition(".")[0])
            todo += [by_name[name] for name in names if name in by_name]
    assert wrong == []


def test_the_oracle_shares_nothing_with_what_it_checks() -> None:
    """It reads what the user declared; parsers, checksums, tables and lowering it has of its own."""
    allowed = ("dataplane.model", "dataplane.names", "dataplane.reference", "dataplane.topology", "dataplane.verdict")
    wrong = [
        str(found)
        for path in sources("dataplane", ".py")
        if module_name(path).startswith("dataplane.reference")
        for found in imports(path)
        if top(found) not in sys.stdlib_module_names and not found.module.startswith(allowed)
    ]
    assert wrong == []


def test_the_data_plane_touches_neither_network_nor_clock_nor_chance() -> None:
    wrong = [found for path in sources("dataplane", ".py") for found in imports(path) if top(found) in OUTSIDE_WORLD]
    assert [str(found) for found in wrong] == []


def requirements(names: list[str]) -> set[str]:
    return {re.split(r"[\s<>=!~;\[]", name, maxsplit=1)[0].lower() for name in names}


def test_what_we_import_is_what_we_require() -> None:
    """Every third-party import is a dependency, and every dependency is imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    distributions = {"ruamel": "ruamel.yaml", "dns": "dnspython"}
    found = [
        found
        for package in PACKAGES
        for path in sources(package, ".py", ".pyx")
        for found in imports(path)
        if top(found) not in {*OURS, *sys.stdlib_module_names, "libc", "posix", "cpython", "cython", "__future__"}
    ]
    assert [str(f) for f in found if top(f) == "scapy" and not f.deferred] == [], "scapy is an extra: import it late"
    properties = [f for f in found if top(f) == "hypothesis"]
    outside = [str(f) for f in properties if not module_name(f.file).startswith("vpclab.testing")]
    assert outside == [], "Hypothesis is an extra, for vpclab.testing alone"
    assert {top(f) for f in properties} == requirements(project["optional-dependencies"]["testing"])
    needed = {distributions.get(top(f), top(f)) for f in found}
    assert needed - {"scapy", "pytest", "_pytest", "hypothesis"} == requirements(project["dependencies"])


def test_nothing_else_of_vpclab_imports_its_strategies() -> None:
    """Importing vpclab must not need Hypothesis."""
    users = [f for p in PACKAGES for path in sources(p, ".py", ".pyx") for f in imports(path)]
    mine = [f for f in users if f.module.startswith("vpclab.testing")]
    assert mine != []
    assert [str(f) for f in mine if not module_name(f.file).startswith("vpclab.testing")] == []


def test_every_package_is_in_the_wheel() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    data = {name for name, folder in setuptools["package-dir"].items() if not list((ROOT / folder).glob("*.py"))}
    listed = set(setuptools["packages"]) - data
    assert data <= set(setuptools["package-data"]), "what has no modules has files"
    folders = {path.parent for name in PACKAGES for path in sources(name, ".py")}
    assert sorted(listed) == sorted(module_name(folder / "__init__.py") for folder in folders)
    assert [str(f) for f in folders if not (f / "__init__.py").exists()] == []


CYTHON_SAMPLE = '''\
"""import nothing.of_this"""
from dataplane.verdict import Reason
cimport lab.tap as tap, libc.string
from . cimport packet
from fastpath.wire cimport (load_be16,
                            load_be32)
include "vpclab.pxi"
'''


def test_cython_imports_are_seen(tmp_path: Path) -> None:
    """The checks above are only as good as this reader."""
    path = PACKAGES["fastpath"] / "sample.pyx"
    from tests.arch import tree

    found = [found.module for found in tree._cython_imports(path, CYTHON_SAMPLE)]
    assert found == [
        "dataplane.verdict.Reason",
        "lab.tap",
        "libc.string",
        "fastpath.packet",
        "fastpath.wire.load_be16",
        "fastpath.wire.load_be32",
        "include vpclab.pxi",
    ]


def test_relative_python_imports_are_seen(tmp_path: Path) -> None:
    from tests.arch import tree

    found = tree._python_imports(PACKAGES["dataplane"] / "model" / "__init__.py", "from ..errors import Problem")
    assert [f.module for f in found] == ["dataplane.errors.Problem"]
    found = tree._python_imports(PACKAGES["dataplane"] / "model" / "vpc.py", "def f():\n    from . import subnet")
    assert [(f.module, f.deferred) for f in found] == [("dataplane.model.subnet", True)]


def test_the_tree_was_found() -> None:
    assert {"pyproject.toml", "setup.py"} <= {path.name for path in committed_files()}
    assert all(sources(package) for package in ("dataplane", "fastpath", "lab"))


def test_the_command_begins_without_the_model_and_without_tables() -> None:
    """What acts in a running lab asks its daemon: a shell in a node should be there as soon as any shell."""
    play = "import sys; import vpclab.cli.nodes; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-P", "-c", play], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = ("dataplane.model", "dataplane.engine", "fastpath", "rich", "ruamel", "importlib.metadata")
    assert [name for name in loaded if name.startswith(heavy)] == []


def test_each_verb_is_found_where_it_is() -> None:
    modules = {name: importlib.import_module(f"vpclab.cli.{name}") for name in MODULE_OF.values()}
    assert {verb.name: name for name, module in modules.items() for verb in module.COMMANDS} == MODULE_OF

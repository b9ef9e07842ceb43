"""The reference engine works everything out by itself: from what is declared, with nothing of what it checks."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from tests.arch.tree import PACKAGES, imports, sources

ALLOWED = ("dataplane.model", "dataplane.topology", "dataplane.verdict", "dataplane.names", "dataplane.reference")
DERIVED_ELSEWHERE = {
    "effective", "lower", "label", "rules", "all_route_tables", "main_route_table", "all_network_acls",
    "all_security_groups", "rule_fields", "group_members", "groups_visible", "public_addresses", "public_addresses_of",
    "route_target_label", "resolve", "default", "weight", "route_table", "network_acl",
}  # fmt: skip
"""What the model and the topology derive for the fast engine: routes, defaults, rules, members, public addresses."""
SUBJECTS = {"topology", "placed", "each", "peer", "RouteTable", "NetworkAcl", "SecurityGroup", "Topology"}
"""Names that hold something of the model or the topology; a declared value may be read of anything else."""


def files() -> list[Path]:
    found = [path for path in sources("dataplane", ".py") if path.parent == PACKAGES["dataplane"] / "reference"]
    assert len(found) > 15
    return found


def test_the_reference_engine_imports_the_model_and_the_standard_library_only() -> None:
    wrong = [
        str(found)
        for path in files()
        for found in imports(path)
        if found.module.partition(".")[0] not in sys.stdlib_module_names and not found.module.startswith(ALLOWED)
    ]
    assert wrong == []


def test_the_reference_engine_derives_routes_defaults_and_members_itself() -> None:
    wrong = []
    for path in files():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
                continue
            if node.value.id in SUBJECTS and node.attr in DERIVED_ELSEWHERE:
                wrong.append(f"{path.name}:{node.lineno}: {node.value.id}.{node.attr}")
    assert wrong == []


def test_nothing_the_fast_engine_runs_imports_the_reference_engine() -> None:
    """But what decides checks by rules alone, and that is run by nobody who moves packets."""
    mine, oracle = set(files()), PACKAGES["dataplane"] / "analysis" / "oracle.py"
    users = [path for package in PACKAGES for path in sources(package) if path not in mine]
    found = [(path, each) for path in users for each in imports(path)]
    reference = {path for path, each in found if each.module.startswith("dataplane.reference")}
    assert reference == {oracle}
    asking = [str(each) for path, each in found if each.module.startswith("dataplane.analysis.oracle")]
    assert asking
    assert [each for each in asking if not each.startswith(("dataplane/analysis/", "public/vpclab/cli/"))] == []


def test_each_concern_can_be_read_in_one_sitting() -> None:
    assert [path.name for path in files() if len(path.read_text().splitlines()) > 320] == []

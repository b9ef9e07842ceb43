"""Labs declared in code become the same lab as their file."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from dataplane.load import load
from dataplane.model.lab_file import LabFile
from dataplane.model.security_group import SecurityGroup
from dataplane.model.vpc import Vpc
from vpclab.declaration import declaration_text

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_model_objects_come_back_as_they_were(file: Path) -> None:
    model = load(file).lab_file
    assert load(declaration_text(model), file_name="x").lab_file == model


@pytest.mark.parametrize("egress", [None, ()])
def test_nothing_and_not_said_stay_different(egress: tuple[()] | None) -> None:
    groups = {"g": SecurityGroup(egress=egress)}
    model = LabFile(version=1, vpcs={"v": Vpc(cidr=IPv4Network("10.0.0.0/16"), security_groups=groups)})
    assert load(declaration_text(model), file_name="x").lab_file == model


def test_dicts_may_hold_model_objects() -> None:
    mixed = {"version": 1, "vpcs": {"v": Vpc(cidr=IPv4Network("10.0.0.0/16"))}}
    assert load(declaration_text(mixed), file_name="x").lab_file.vpcs["v"].cidr == IPv4Network("10.0.0.0/16")


def test_what_no_lab_file_could_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="a lab file cannot hold"):
        declaration_text({"version": object()})

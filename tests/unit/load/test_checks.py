"""Checks that come without a lab file."""

from __future__ import annotations

import pytest

from dataplane.errors import ConfigurationError
from dataplane.load.checks import read_checks
from tests.unit.model.building import instance, topology, vpc

LAB = topology(vpcs={"shop": vpc()}, instances={"a": instance(), "b": instance()})


@pytest.mark.parametrize(
    "text",
    [
        '[{"can": "a -> b", "port": 80}, {"cannot": "b -> a", "protocol": "icmp"}]',
        "- {can: a -> b, port: 80}\n- can: b -> a\n  port: 1",
    ],
)
def test_they_are_read_as_in_a_lab_file(text: str) -> None:
    assert [str(each.ends) for each in read_checks(text, LAB)] == ["a -> b", "b -> a"]


def test_no_checks_are_none() -> None:
    assert read_checks("[]", LAB) == ()


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ('[{"can": "a -> c", "port": 80}, {"can": "a -> b"}]', {"checks[0].can", "checks[1].port"}),
        ('[{"may": "a -> b"}]', {"checks[0].may"}),
        ("nonsense", {"checks"}),
        ("[]\nname: other", {""}),
    ],
)
def test_everything_wrong_with_them_is_told(text: str, problems: set[str]) -> None:
    with pytest.raises(ConfigurationError) as error:
        read_checks(text, LAB)
    assert {each.path for each in error.value.problems} == problems

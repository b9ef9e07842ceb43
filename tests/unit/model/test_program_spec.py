from __future__ import annotations

from typing import Any

import pytest

from dataplane.model.program_spec import ProgramSpec, ReadyCommand, ReadyTcp, check_environment
from tests.unit.model.building import lab


def declared(**fields: Any) -> ProgramSpec:
    host = {"address": "198.51.100.1", "programs": {"it": {"command": ["true"], **fields}}}
    return lab(internet={"hosts": {"a": host}}).internet.hosts["a"].programs["it"]


def test_how_readiness_is_written() -> None:
    assert declared().ready is None
    assert declared(ready={"tcp": 80}).ready == ReadyTcp(tcp=80)
    assert declared(ready={"command": ["test", "-e", "x"]}).ready == ReadyCommand(command=("test", "-e", "x"))


@pytest.mark.parametrize("wrong", [{"udp": 53}, {"seconds": 1}, {"tcp": 80, "command": ["x"]}, 80])
def test_what_is_no_readiness_check(wrong: object) -> None:
    with pytest.raises(Exception, match="ready"):
        declared(ready=wrong)


@pytest.mark.parametrize(
    ("fields", "path", "words"),
    [
        ({"command": []}, "command", "no program to run"),
        ({"command": [""]}, "command", "no program to run"),
        ({"command": ["a", "b\0"]}, "command", "NUL"),
        ({"ready": {"tcp": 0}}, "ready.tcp", "0 is no TCP port"),
        ({"ready": {"tcp": 65536}}, "ready.tcp", "write 1 to 65535"),
        ({"ready": {"command": []}}, "ready.command", "no command to run"),
        ({"working_directory": "srv"}, "working_directory", "not absolute"),
        ({"environment": {"A": "\0"}}, "environment.A", "NUL"),
    ],
)
def test_what_could_not_be_started(fields: dict[str, Any], path: str, words: str) -> None:
    (problem,) = declared(**fields).check()
    assert problem.path == path
    assert words in f"{problem.message}; {problem.hint}"


def test_an_ordinary_program() -> None:
    assert list(declared(restart="always", environment={"A": "b"}, working_directory="/").check()) == []


@pytest.mark.parametrize("name", ["", "A=B", "A\0"])
def test_names_of_variables(name: str) -> None:
    assert len(list(check_environment({name: "x"}))) == 1

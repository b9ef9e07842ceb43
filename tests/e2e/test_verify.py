"""Rules and packets agree about every pair, protocol and port that an example tells apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.checking import APART_MS
from tests.unit.analysis.claims import EXAMPLES
from vpclab import Lab

FILES = sorted(EXAMPLES.rglob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(EXAMPLES)))
def test_packets_do_what_the_rules_of_an_example_say(file: Path) -> None:
    line = [sys.executable, "-P", "-m", "vpclab", "verify", str(file), "--format", "json"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=280, check=False)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert [bug["check"] + ": " + bug["difference"] for bug in found["disagreements"]] == []
    assert done.returncode == 0
    assert found["asked"] >= 10
    assert found["left_to_programs"] < found["asked"] / 2


def test_the_matrix_by_packets_is_the_matrix_by_rules() -> None:
    def matrix(*how: str) -> Any:
        line = [sys.executable, "-P", "-m", "vpclab", "check", "--matrix", "--format", "json", *how]
        done = subprocess.run([*line, str(EXAMPLES / "quickstart.yaml")], capture_output=True, timeout=200, check=True)
        return [{k: v for k, v in line.items() if k != "stopped"} for line in json.loads(done.stdout)["matrix"]]

    assert matrix() == matrix("--static")


def test_protocols_without_ports_are_each_as_if_they_were_the_first() -> None:
    """What the group of a remembers of one would let the other in: so it does when they do not go apart."""
    groups = {"shut": {}, "open": {"ingress": [{"protocol": "all", "source": "0.0.0.0/0"}]}}
    lab_file = {
        "version": 1,
        "vpcs": {"v": {"cidr": "10.0.0.0/16", "subnets": {"s": {"cidr": "10.0.1.0/24"}}, "security_groups": groups}},
        "instances": {
            "a": {"vpc": "v", "subnet": "s", "private_ip": "10.0.1.10", "security_groups": ["shut"]},
            "b": {"vpc": "v", "subnet": "s", "private_ip": "10.0.1.11", "security_groups": ["open"]},
        },
    }
    both = [{"can": "a -> b", "protocol": 50}, {"can": "b -> a", "protocol": 50}]
    with Lab.from_dict(lab_file) as lab:
        assert [row["found"] for row in lab.check(both, apart=True)] == ["answered", "blocked"]
        assert lab.clock.offset_s == pytest.approx(APART_MS / 1000)
        assert lab.check(both)[0]["found"] == "answered"
        assert lab.check(both)[1]["found"] == "answered", "as on AWS: it is the answer to what a sent"

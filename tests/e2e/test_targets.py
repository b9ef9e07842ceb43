"""Targets of a gateway load balancer as they live: checked by real programs, failing, leaving, coming back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from lab import netns_names, processes
from lab.control import RequestError
from lab.state import NODES
from tests.e2e.conversation import Conversation, is_silent
from tests.e2e.inspected import (
    ONE_ARM,
    await_health,
    await_states,
    counters,
    fleet,
    inspected,
    program,
    reasons,
    states,
)
from tests.e2e.lab.stage import commands, eventually, names_of
from vpclab import Lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.from_dict(inspected()) as lab:
        await_health(lab)
        yield lab


def talk(lab: Lab, times: int) -> None:
    """Open connections from client to server, one after another."""
    for _ in range(times):
        lab["client"].connect("server", 80, timeout_s=5).close()


def checkers(lab: Lab) -> list[int]:
    lab_id = lab.status()["lab_id"]
    found = []
    for process in processes.all_processes():
        if processes.lab_of(process.pid) == lab_id:
            with suppress(OSError), open(f"/proc/{process.pid}/cmdline", "rb") as file:  # it may be gone by now
                if b"import health_checker" in file.read():
                    found.append(process.pid)
    return found


def test_targets_are_healthy_when_the_lab_is_up(lab: Lab) -> None:
    rows = lab.targets()
    assert [(row["target_group"], row["target"], row["address"], row["state"]) for row in rows] == [
        ("sec/fleet", "fw-a", "10.9.1.10", "healthy"),
        ("sec/fleet", "fw-b", "10.9.1.11", "healthy"),
    ]
    assert (rows[0]["zone"], rows[0]["load_balancers"], rows[0]["reason"]) == ("us-east-1a", ["sec/lb"], None)


def test_nobody_sees_the_nodes_that_checks_come_from(lab: Lab) -> None:
    seen = ["client", "server", "fw-a", "fw-b"]
    assert list(lab.nodes) == seen
    assert [node["name"] for node in lab.status()["nodes"]] == seen
    assert list(lab.ports_of_interest()) == seen
    hidden = {path.name for path in (lab.folder / NODES).iterdir()} - {*seen}
    assert hidden, "checks come from there, and are logged"
    hosts = lab["client"].run(["cat", "/etc/hosts"], check=True).stdout
    assert "server" in hosts
    for name in hidden:
        assert not {name, f"{lab.name}-{name}"} & set(netns_names.names())
        assert name not in hosts
        with pytest.raises(RequestError, match=f"has no node '{name}'"):
            lab[name]


def test_traffic_goes_through_a_target_and_is_counted(lab: Lab) -> None:
    with Conversation(lab, "server", "10.0.2.10", 9000) as line:
        assert line.works()
        mine = [flow for flow in lab.flows() if flow["target"] and f":{line.port} >" in flow["original"]]
        assert [flow["owner"] for flow in mine] == ["vpc-endpoint app/inspect"]
        target = mine[0]["target"].rpartition("/")[2]
        (row,) = [row for row in lab.targets() if row["target"] == target]
        assert row["flows"] >= 1
        assert row["packets"] >= 4
        assert row["bytes"] > 200
        assert counters(lab, target)["returned"] >= row["packets"]
    assert is_silent(lab, "client", "10.0.2.10", 23)
    eventually(lambda: any(counters(lab, name)["dropped"] for name in ("fw-a", "fw-b")), "they count it")


def test_flows_survive_a_restart_of_the_appliance(lab: Lab) -> None:
    with Conversation(lab, "server", "10.0.2.10", 9000) as line:
        assert line.works()
        for name in ("fw-a", "fw-b"):
            lab[name].restart()
        assert line.works()
    await_health(lab)


@pytest.mark.slow
def test_a_target_fails_and_recovers(lab: Lab) -> None:
    os.kill(program(lab, "fw-b"), signal.SIGUSR1)
    eventually(lambda: states(lab)["fw-b"] == "unhealthy", "it is unhealthy", deadline_s=60)
    (row,) = [row for row in lab.targets() if row["target"] == "fw-b"]
    assert row["reason"] == "Target.ResponseCodeMismatch"
    assert row["description"] == "Health checks failed with these codes: [503]"
    before = counters(lab, "fw-b")["flows"]
    talk(lab, 20)
    assert counters(lab, "fw-b")["flows"] == before
    # A checker that is killed meanwhile is started again, and knows what it has to do.
    (checker,) = checkers(lab)
    os.kill(checker, signal.SIGKILL)
    os.kill(program(lab, "fw-b"), signal.SIGUSR1)
    eventually(lambda: states(lab)["fw-b"] == "healthy", "it is healthy again", deadline_s=60)
    assert checkers(lab) not in ([], [checker])
    talk(lab, 20)
    assert counters(lab, "fw-b")["flows"] > before


def test_a_deregistered_target_drains_and_may_come_back(lab: Lab) -> None:
    file = inspected()
    fleet(file)["targets"] = ["fw-a"]
    lab.apply(file)
    await_states(lab, {"fw-a": "healthy", "fw-b": "draining"})
    assert reasons(lab) == {"fw-b": "Target.DeregistrationInProgress"}
    lab.clock.advance(30)
    assert states(lab).get("fw-b") == "draining"
    lab.clock.advance(31)
    assert states(lab).get("fw-b") in (None, "unused")
    lab.apply(inspected())
    await_states(lab, {"fw-a": "healthy", "fw-b": "healthy"})


def test_the_command_shows_a_table(lab: Lab) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "vpclab", "--lab", lab.name, "targets"], capture_output=True, text=True, check=True
    )
    title, heading, *rows = done.stdout.splitlines()
    assert title.strip() == "targets"
    assert heading.split()[:3] == ["target", "group", "target"]
    assert [row.split()[:5] for row in rows] == [
        ["sec/fleet", "fw-a", "10.9.1.10", "us-east-1a", "healthy"],
        ["sec/fleet", "fw-b", "10.9.1.11", "us-east-1a", "healthy"],
    ]


@pytest.mark.slow
def test_why_targets_are_not_healthy() -> None:
    """Nobody listens; nobody answers; and a load balancer of whose targets none is healthy uses them all the same."""
    file = inspected()
    del file["instances"]["fw-a"]["programs"]
    file["instances"]["fw-b"]["programs"]["one-arm"] = {**ONE_ARM, "ready": None}
    del file["vpcs"]["sec"]["security_groups"]["fw"]["ingress"][1]
    file["vpcs"]["sec"]["security_groups"]["fw"]["ingress"] += [
        {"protocol": "tcp", "ports": 80, "source": "10.9.9.0/24"}
    ]
    file["vpcs"]["sec"]["security_groups"]["health"] = {
        "description": "checks only",
        "ingress": [{"protocol": "tcp", "ports": 80, "source": "10.9.2.0/24"}],
    }
    file["instances"]["fw-a"]["security_groups"] = ["health"]
    fleet(file)["health_check"]["interval"] = 10  # seconds in which we see how they begin
    with Lab.from_dict(file) as lab:
        assert states(lab) == {"fw-a": "initial", "fw-b": "initial"}
        assert reasons(lab)["fw-a"] == "Elb.InitialHealthChecking"
        eventually(lambda: set(states(lab).values()) == {"unhealthy"}, "both are unhealthy", deadline_s=60)
        assert reasons(lab) == {"fw-a": "Target.FailedHealthChecks", "fw-b": "Target.Timeout"}
        lab_id = lab.status()["lab_id"]
        assert len(checkers(lab)) == 1
    assert not commands(lab_id)


def test_a_second_zone_is_added_to_a_running_lab(lab: Lab) -> None:
    file = inspected()
    sec = file["vpcs"]["sec"]
    sec["subnets"]["lb-b"] = {"cidr": "10.9.3.0/24", "availability_zone": "b"}
    sec["gateway_load_balancers"]["lb"].update(subnets=["lb", "lb-b"], cross_zone=True)
    group = sec["security_groups"]["fw"]["ingress"]
    group += [{**rule, "source": "10.9.3.0/24"} for rule in group]
    with Conversation(lab, "server", "10.0.2.10", 9000) as line:
        assert line.works()
        lab.apply(file)
        assert line.works()
        eventually(lambda: len(checkers(lab)) == 2, "each zone has a checker")
        await_states(lab, {"fw-a": "healthy", "fw-b": "healthy"})  # in the eyes of both
        lab.apply(inspected())
        assert line.works()
    eventually(lambda: len(checkers(lab)) == 1, "its checker has ended")


def test_a_killed_lab_leaves_no_checker() -> None:
    lab = Lab.from_dict(inspected())
    lab.up()
    try:
        facts = lab.status()
        os.kill(facts["pid"], signal.SIGKILL)
    finally:
        lab.down()
    assert not commands(facts["lab_id"])
    assert not names_of(facts["lab_id"])
    assert not lab.folder.exists()

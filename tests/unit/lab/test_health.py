"""Who checks whom, and what results make of a target."""

from __future__ import annotations

import timeit

import pytest

from dataplane.load import load
from dataplane.topology import Topology
from dataplane.topology.runtime_state import HEALTHY, INITIAL, TargetHealth
from lab.health import CHECKING, NOT_IN_USE, ZONE_NOT_ENABLED, HealthBook, Result, matches

LAB = """\
version: 1
vpcs:
  sec:
    cidr: 10.9.0.0/16
    subnets:
      a: {{cidr: 10.9.1.0/24, availability_zone: a}}
      b: {{cidr: 10.9.2.0/24, availability_zone: b}}
      c: {{cidr: 10.9.3.0/24, availability_zone: c}}
    gateway_load_balancers:
      lb: {{subnets: [a, b], target_group: fleet, cross_zone: {cross_zone}}}
    target_groups:
      fleet:
        targets: [{targets}]
        health_check: {{protocol: {protocol}, interval: 5, timeout: 2, healthy_threshold: 3, unhealthy_threshold: 2}}
      spare: {{targets: [fw-c]}}
instances:
  fw-a: {{vpc: sec, subnet: a, private_ip: 10.9.1.20}}
  fw-b: {{vpc: sec, subnet: b, private_ip: 10.9.2.20}}
  fw-c: {{vpc: sec, subnet: c, private_ip: 10.9.3.20}}
"""
A, B, C = (("sec", "fleet", f"fw-{zone}") for zone in "abc")
AT_A, AT_B = "sec/lb/a", "sec/lb/b"
OPEN, REFUSED = Result(kind="open"), Result(kind="failed", detail="connection refused")


def topology(*, targets: str = "fw-a, fw-b", cross_zone: bool = False, protocol: str = "TCP") -> Topology:
    text = LAB.format(targets=targets, cross_zone=str(cross_zone).lower(), protocol=protocol)
    return load(text, file_name="lab.yaml").topology()


def book(*, targets: str = "fw-a, fw-b", cross_zone: bool = False, protocol: str = "TCP") -> HealthBook:
    made = HealthBook()
    made.configure(topology(targets=targets, cross_zone=cross_zone, protocol=protocol))
    return made


def test_what_was_known_before_holds_until_checks_say_otherwise() -> None:
    """Of targets that there are from the beginning: all who check them begin with that."""
    unwell = TargetHealth(state="unhealthy", reason="Target.Timeout", description="Request timed out")
    made = HealthBook({A: unwell, B: HEALTHY})
    made.configure(topology(targets="fw-a", cross_zone=True))
    assert made.health_of(A) == unwell
    made.configure(topology(cross_zone=True))
    assert (made.health_of(A), made.health_of(B)) == (unwell, INITIAL)
    for checker in (AT_A, AT_B):
        assert [made.heard(checker, A, OPEN) for _ in range(2)] == [False, False]
    assert (made.heard(AT_A, A, OPEN), made.heard(AT_B, A, OPEN)) == (False, True), "three times, as from any illness"
    assert made.health_of(A) == HEALTHY


def test_who_was_in_nobody_s_use_before_begins_anew() -> None:
    made = HealthBook({A: NOT_IN_USE, B: TargetHealth(state="initial", reason="Elb.InitialHealthChecking")})
    made.configure(topology())
    assert (made.health_of(A), made.health_of(B)) == (INITIAL, INITIAL)


def test_each_node_checks_the_targets_it_may_send_to() -> None:
    zonal = book(targets="fw-a, fw-b, fw-c")
    assert [job.target for job in zonal.jobs(AT_A)] == [A]
    assert [job.target for job in zonal.jobs(AT_B)] == [B]
    across = book(targets="fw-a, fw-b, fw-c", cross_zone=True)
    assert [job.target for job in across.jobs(AT_A)] == [A, B]
    assert across.jobs("sec/lb/c") == ()
    (job,) = zonal.jobs(AT_A)
    assert job.to_json() == {
        "target": A,
        "address": "10.9.1.20",
        "protocol": "TCP",
        "port": 80,
        "path": "/",
        "interval_s": 5,
        "timeout_s": 2,
    }


@pytest.mark.parametrize("cross_zone", [False, True])
def test_a_target_outside_the_vpc_is_checked_by_every_node(cross_zone: bool) -> None:
    """It is in no zone (``all``), so nodes of all zones may send to it."""
    text = LAB.format(targets="10.200.1.1, 10.9.2.99", cross_zone=str(cross_zone).lower(), protocol="TCP")
    made = HealthBook()
    made.configure(load(text.replace("fleet:\n", "fleet:\n        target_type: ip\n"), file_name="lab.yaml").topology())
    outside, near = ("sec", "fleet", "10.200.1.1"), ("sec", "fleet", "10.9.2.99")
    assert [job.target for job in made.jobs(AT_A)] == [outside, *([near] if cross_zone else [])]
    assert [job.target for job in made.jobs(AT_B)] == [outside, near]
    assert [job.address for job in made.jobs(AT_B)] == ["10.200.1.1", "10.9.2.99"]


def test_states_have_the_reason_codes_of_describe_target_health() -> None:
    """https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html"""
    told = [(each.state, each.reason) for each in (INITIAL, CHECKING, NOT_IN_USE, ZONE_NOT_ENABLED, HEALTHY)]
    assert told == [
        ("initial", "Elb.RegistrationInProgress"),
        ("initial", "Elb.InitialHealthChecking"),
        ("unused", "Target.NotInUse"),
        ("unused", "Target.NotInUse"),
        ("healthy", ""),
    ]


def test_targets_that_nobody_may_use() -> None:
    health = book(targets="fw-a, fw-c").health()
    assert health == {A: INITIAL, C: ZONE_NOT_ENABLED, ("sec", "spare", "fw-c"): NOT_IN_USE}


def test_one_success_makes_a_new_target_healthy() -> None:
    found = book()
    assert found.is_waiting()
    assert found.heard(AT_A, A, OPEN)
    assert found.health()[A] == TargetHealth(state="healthy")
    assert found.health()[B] == INITIAL
    assert found.is_waiting()


def test_failures_in_a_row_make_a_target_unhealthy_and_successes_healthy_again() -> None:
    found = book()
    assert found.heard(AT_A, A, REFUSED)
    assert found.health()[A] == CHECKING
    assert found.heard(AT_A, A, REFUSED)
    gone = TargetHealth(
        state="unhealthy",
        reason="Target.FailedHealthChecks",
        description="Health checks failed (connection refused)",
    )
    assert found.health()[A] == gone
    assert [found.heard(AT_A, A, result) for result in (OPEN, OPEN, REFUSED, OPEN, OPEN)] == [False] * 5
    assert found.heard(AT_A, A, OPEN)
    assert found.health()[A].state == "healthy"
    assert not found.heard(AT_A, A, REFUSED)
    assert not found.heard(AT_A, A, OPEN)  # which begins the count anew
    assert not found.heard(AT_A, A, REFUSED)
    assert found.heard(AT_A, A, REFUSED)


def test_an_unhealthy_target_may_change_its_reason() -> None:
    found = book()
    for result in (REFUSED, REFUSED, Result(kind="timeout")):
        found.heard(AT_A, A, result)
    assert found.health()[A] == TargetHealth(
        state="unhealthy", reason="Target.Timeout", description="Request timed out"
    )


@pytest.mark.parametrize("protocol", ["HTTP", "HTTPS"])
@pytest.mark.parametrize(
    ("status", "state"), [(200, "healthy"), (399, "healthy"), (400, "unhealthy"), (503, "unhealthy")]
)
def test_http_needs_the_right_status(protocol: str, status: int, state: str) -> None:
    found = book(protocol=protocol)
    for _ in range(2):
        found.heard(AT_A, A, Result(kind="status", status=status))
    health = found.health()[A]
    assert health.state == state
    if state == "unhealthy":
        assert health.reason == "Target.ResponseCodeMismatch"
        assert health.description == f"Health checks failed with these codes: [{status}]"


def test_a_target_is_as_well_as_its_least_contented_checker_says() -> None:
    found = book(cross_zone=True)
    found.heard(AT_A, A, OPEN)
    assert found.health()[A] == INITIAL
    found.heard(AT_B, A, OPEN)
    assert found.health()[A].state == "healthy"
    for _ in range(2):
        found.heard(AT_B, A, REFUSED)
    assert found.health()[A].state == "unhealthy"


def test_a_target_that_some_node_has_not_checked_yet_is_still_being_registered() -> None:
    """It is as well as its least contented checker says: one that has not begun is behind one that has."""
    found = book(cross_zone=True)
    found.heard(AT_A, A, REFUSED)
    assert found.health()[A] == INITIAL
    found.heard(AT_B, A, REFUSED)
    assert found.health()[A] == CHECKING


def test_a_node_that_begins_to_check_a_target_knows_nothing_of_it_yet() -> None:
    """Each counts by itself, whatever others have found."""
    found = book()
    found.heard(AT_A, A, OPEN)
    found.configure(topology(cross_zone=True))
    assert found.health()[A] == INITIAL
    assert found.heard(AT_B, A, OPEN)
    assert found.health()[A] == HEALTHY


def test_what_stays_keeps_what_is_known_of_it() -> None:
    found = book()
    found.heard(AT_A, A, OPEN)
    found.heard(AT_B, B, OPEN)
    before = found.copy()
    found.configure(topology(targets="fw-a"))
    assert found.health() == {A: TargetHealth(state="healthy"), ("sec", "spare", "fw-c"): NOT_IN_USE}
    assert not found.heard(AT_B, B, REFUSED)  # a result that comes late
    found.configure(topology(targets="fw-a, fw-b"))
    assert (found.health()[A].state, found.health()[B]) == ("healthy", INITIAL)
    assert before.health()[B].state == "healthy"


@pytest.mark.parametrize(
    ("matcher", "good", "bad"), [("200", [200], [201]), ("200-299", [200, 299], [300, 199]), ("200,202", [202], [201])]
)
def test_matchers(matcher: str, good: list[int], bad: list[int]) -> None:
    assert all(matches(matcher, status) for status in good)
    assert not any(matches(matcher, status) for status in bad)


def test_as_many_targets_as_there_can_be_are_looked_at_in_no_time() -> None:
    """Each target once, and not each target for each."""
    addresses = ", ".join(f"10.{200 + number // 250}.1.{number % 250 + 1}" for number in range(299))
    text = LAB.format(targets=addresses, cross_zone="true", protocol="TCP").replace(
        "fleet:\n", "fleet:\n        target_type: ip\n"
    )
    made = HealthBook()
    made.configure(load(text, file_name="lab.yaml").topology())

    def look() -> None:
        assert len(made.health()) == 300
        for job in made.jobs(AT_A):
            made.heard(AT_A, job.target, OPEN)

    assert min(timeit.repeat(look, number=1, repeat=3)) < 1

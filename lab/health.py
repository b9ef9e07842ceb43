"""The health of targets: who checks whom, and what the results of checks make of a target. No clock, no socket.

Each node of a load balancer that may send to a target checks it (`lab.health_checker` is what runs there). Each counts
by itself, and a target is as well as the least contented of them says:

    initial ── one success ──> healthy <── healthy_threshold successes in a row ──┐
       └─────── unhealthy_threshold failures in a row ──────────────────────> unhealthy
                                   (from healthy as well)

States, reason codes and descriptions are those of DescribeTargetHealth:
https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html
https://docs.aws.amazon.com/elasticloadbalancing/latest/gateway/health-checks.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from dataplane.model.target_group import HealthCheck, PlacedTarget, TargetGroup
from dataplane.topology import Topology
from dataplane.topology.runtime_state import HEALTHY, INITIAL, TargetHealth, TargetKey

CHECKING = TargetHealth(
    state="initial", reason="Elb.InitialHealthChecking", description="Initial health checks in progress"
)
NOT_IN_USE = TargetHealth(
    state="unused",
    reason="Target.NotInUse",
    description="Target group is not configured to receive traffic from the load balancer",
)
ZONE_NOT_ENABLED = replace(
    NOT_IN_USE, description="Target is in an Availability Zone that is not enabled for the load balancer"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one checker does over and over: one target."""

    target: TargetKey
    address: str
    protocol: Literal["TCP", "HTTP", "HTTPS"]
    port: int
    path: str
    interval_s: float
    timeout_s: float

    def to_json(self) -> dict[str, Any]:
        """For the checker."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a checker found."""

    kind: Literal["open", "status", "timeout", "failed"]
    """open: the connection was made. status: so it was, and an HTTP status came. timeout: nothing came in time.
    failed: the connection was refused or broken, or what came was not HTTP."""
    status: int = 0
    detail: str = ""
    """In words, for `vpclab targets`."""


@dataclass(frozen=True, slots=True)
class _Course:
    """One target in the eyes of one checker."""

    health: TargetHealth = INITIAL
    in_a_row: int = 0
    """Results in a row that speak against `health`."""


def judge(check: HealthCheck, result: Result) -> TargetHealth:
    """What one result says by itself: healthy, or unhealthy and why."""
    if result.kind == "timeout":
        return _unhealthy("Target.Timeout", "Request timed out", result)
    if result.kind == "failed":
        return _unhealthy("Target.FailedHealthChecks", "Health checks failed", result)
    if check.protocol != "TCP" and not matches(check.matcher, result.status):
        text = f"Health checks failed with these codes: [{result.status}]"
        return _unhealthy("Target.ResponseCodeMismatch", text, result)
    return HEALTHY


def matches(matcher: str, status: int) -> bool:
    """Whether an HTTP status is one of ``200``, ``200-399``, ``200,202``."""
    for part in matcher.split(","):
        first, _, last = part.strip().partition("-")
        if int(first) <= status <= int(last or first):
            return True
    return False


class HealthBook:
    """All that is known of the targets of a lab."""

    def __init__(self, known: Mapping[TargetKey, TargetHealth] | None = None) -> None:
        """`known`: how targets were when somebody kept the book before; all their checkers begin with that."""
        self._known = dict(known or {})
        self._groups: dict[tuple[str, str], TargetGroup] = {}
        self._unused: dict[TargetKey, TargetHealth] = {}
        self._courses: dict[TargetKey, dict[str, _Course]] = {}
        """By target, then by checker."""
        self._jobs: dict[str, tuple[Job, ...]] = {}

    def copy(self) -> HealthBook:
        """The same knowledge, to go back to."""
        other = HealthBook(self._known)
        other._groups, other._unused = self._groups, self._unused
        other._courses = {target: dict(courses) for target, courses in self._courses.items()}
        other._jobs = self._jobs
        return other

    def configure(self, topology: Topology) -> None:
        """Take a topology over; what is known of pairs of checker and target that stay is kept."""
        groups: dict[tuple[str, str], TargetGroup] = {}
        unused: dict[TargetKey, TargetHealth] = {}
        jobs: dict[str, list[Job]] = {}
        for vpc, declared in topology.lab.vpcs.items():
            for name, group in declared.target_groups.items():
                groups[vpc, name] = group
                for target in group.placed(topology, vpc):
                    unused[vpc, name, target.name] = NOT_IN_USE
            for name, balancer in declared.gateway_load_balancers.items():
                chosen = groups.get((vpc, balancer.target_group))
                if chosen is None:
                    continue
                nodes = {zone: node.subnet.name for zone, node in topology.balancer_nodes(vpc, name).items()}
                for target in chosen.placed(topology, vpc):
                    key = (vpc, balancer.target_group, target.name)
                    checkers = list(_checkers(nodes, target, balancer.cross_zone))
                    for subnet in checkers:
                        jobs.setdefault(f"{vpc}/{name}/{subnet}", []).append(_job(key, target, chosen.health_check))
                    if checkers:
                        unused.pop(key, None)
                    else:
                        unused[key] = ZONE_NOT_ENABLED
        self._groups, self._unused = groups, unused
        self._jobs = {checker: tuple(each) for checker, each in jobs.items()}
        before, self._courses = self._courses, {}
        for checker, each in self._jobs.items():
            for job in each:
                course = before.get(job.target, {}).get(checker) or self._first(job.target)
                self._courses.setdefault(job.target, {})[checker] = course
        self._known.clear()  # who is registered later was not meant

    def _first(self, target: TargetKey) -> _Course:
        known = self._known.get(target)
        return _Course(known) if known is not None and known.state in _CHECKED else _Course()

    def jobs(self, checker: str) -> tuple[Job, ...]:
        """What the checker in a node (``VPC/BALANCER/SUBNET``) has to do."""
        return self._jobs.get(checker, ())

    def heard(self, checker: str, target: TargetKey, result: Result) -> bool:
        """Take a result down; whether the health of the target is another one now. Results about others are nothing."""
        courses = self._courses.get(target, {})
        course = courses.get(checker)
        if course is None:
            return False
        check = self._groups[target[0], target[1]].health_check
        after = _after(course, check, judge(check, result))
        if after == course:
            return False
        before = _combined(courses)
        courses[checker] = after
        return _combined(courses) != before

    def health(self) -> dict[TargetKey, TargetHealth]:
        """Every registered target."""
        return {**self._unused, **{target: _combined(courses) for target, courses in self._courses.items()}}

    def health_of(self, target: TargetKey) -> TargetHealth:
        """A target that some node checks."""
        return _combined(self._courses[target])

    def is_waiting(self) -> bool:
        """Whether some check was not made even once."""
        return any(course.health == INITIAL for courses in self._courses.values() for course in courses.values())


def _combined(courses: Mapping[str, _Course]) -> TargetHealth:
    """A target in the eyes of all its checkers."""
    found = [course.health for course in courses.values()]
    return min(found, key=lambda health: (_WORST_FIRST.index(health.state), health == CHECKING))


_WORST_FIRST = ("unhealthy", "initial", "healthy")
_CHECKED = ("unhealthy", "healthy")


def _after(course: _Course, check: HealthCheck, said: TargetHealth) -> _Course:
    """A course after one more result, which by itself says `said`."""
    if said.state == course.health.state:
        return _Course(said)  # the reason may be another one
    is_first = course.health.state == "initial"
    if said.state == "unhealthy":
        needed = check.unhealthy_threshold
    else:
        needed = 1 if is_first else check.healthy_threshold
    if course.in_a_row + 1 >= needed:
        return _Course(said)
    return _Course(CHECKING if is_first else course.health, course.in_a_row + 1)


def _checkers(nodes: dict[str, str], target: PlacedTarget, cross_zone: bool) -> Iterator[str]:
    """Of the nodes of a load balancer (zone -> subnet), those that may send to a target."""
    if target.zone and target.zone not in nodes:
        return
    for zone, subnet in nodes.items():
        if cross_zone or not target.zone or target.zone == zone:
            yield subnet


def _job(key: TargetKey, target: PlacedTarget, check: HealthCheck) -> Job:
    return Job(
        target=key,
        address=str(target.address),
        protocol=check.protocol,
        port=check.port,
        path=check.path,
        interval_s=check.interval,
        timeout_s=check.timeout,
    )


def _unhealthy(reason: str, text: str, result: Result) -> TargetHealth:
    description = f"{text} ({result.detail})" if result.detail else text
    return TargetHealth(state="unhealthy", reason=reason, description=description)

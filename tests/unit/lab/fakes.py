"""A lab's text, and fakes of the kernel's side of a running one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dataplane.errors import LabError
from lab.connections import Sockets
from lab.node_plan import NodePlan
from lab.node_status import Adopted, NodeChange

LAB = """\
version: 1
vpcs:
  v:
    cidr: 10.0.0.0/16
    subnets: {{s: {{cidr: 10.0.1.0/24, availability_zone: a}}}}
instances:
{instances}
"""


def lab_text(**addresses: str) -> str:
    rows = [f"  {name}: {{vpc: v, subnet: s, private_ip: {address}}}" for name, address in addresses.items()]
    return LAB.format(instances="\n".join(rows))


def balanced_text() -> str:
    """A load balancer whose target is instance a."""
    return lab_text(a="10.0.1.10").replace(
        "instances:",
        """\
    gateway_load_balancers: {lb: {subnets: [s], target_group: fleet}}
    target_groups: {fleet: {targets: [a]}}
instances:""",
    )


class FakeWorker:
    """Knows which descriptor is attached to which port."""

    def __init__(self, engine: object) -> None:
        self.ports: dict[int, int] = {}
        self.clock_offset_ms = 0
        self.running = False

    def attach(self, port: int, descriptor: int) -> None:
        assert port not in self.ports
        self.ports[port] = descriptor

    def detach(self, port: int) -> None:
        self.ports.pop(port, None)  # like the real one: a port that is not attached is fine

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False

    def set_clock_offset(self, ms: int) -> None:
        self.clock_offset_ms = ms

    def now_ms(self) -> int:
        return 1_000_000 + self.clock_offset_ms


class FakeRuntime:
    """Knows which nodes there are; `failing` names the step that the operating system refuses."""

    def __init__(self, state: object) -> None:
        self.plans: dict[str, NodePlan] = {}
        self.failing = ""
        self.missing: frozenset[str] = frozenset()
        """Nodes that cannot be made again when the lab is taken over."""
        self.closed = self.left = False
        self.lingered = 0
        self.lingers = False
        self._next = 100

    def _step(self, what: str) -> None:
        if what == self.failing:
            raise LabError(f"refused: {what}")

    def _descriptors(self, plan: NodePlan) -> dict[int, int]:
        self._next += 1
        return {interface.port: self._next for interface in plan.interfaces}

    def add_nodes(self, plans: Iterable[NodePlan]) -> dict[int, int]:
        self._step("add")
        wanted = list(plans)
        self.plans |= {plan.name: plan for plan in wanted}
        return {port: number for plan in wanted for port, number in self._descriptors(plan).items()}

    def remove_nodes(self, names: Iterable[str]) -> None:
        for name in list(names):
            del self.plans[name]
        self._step("remove")

    def detached_by(self, plan: NodePlan) -> tuple[int, ...]:
        return ()

    def update_node(self, plan: NodePlan) -> NodeChange:
        if self.plans[plan.name] != plan:
            self._step(f"update {plan.name} to {plan.interfaces[0].addresses[0][0]}")
        self.plans[plan.name] = plan
        return NodeChange(attached={}, detached=())

    def taps(self) -> dict[int, int]:
        return {}

    def start_programs(self) -> None: ...

    def wait_ready(self) -> None: ...

    def adopt(self, plans: Iterable[NodePlan]) -> Adopted:
        there = [plan for plan in plans if plan.name not in self.missing]
        return Adopted(taps=self.add_nodes(there), lost=["eth0 of a has no network any more"], missing=self.missing)

    def sockets(self) -> tuple[dict[str, Sockets], dict[str, str]]:
        self._step("sockets")
        return {}, {"b": "Too many open files"}

    def linger(self) -> bool:
        self.lingered += 1
        self.lingers = True
        return True

    def stop_lingering(self) -> None:
        self.lingers = False

    def be_patient(self) -> None: ...

    def let_go(self) -> None:
        self.left = True

    def close(self) -> None:
        self.closed = True


class FakeState:
    name = "fake"
    path = Path("no folder")

    def __init__(self) -> None:
        self.written: dict[str, Any] = {}
        self.writes: list[str] = []
        self.full = False

    def read(self, name: str) -> Any:
        return self.written.get(name)

    def write(self, name: str, value: Any) -> None:
        if self.full:
            raise LabError(f"{name} cannot be written")
        self.writes.append(name)
        self.written[name] = value

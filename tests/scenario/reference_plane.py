"""The reference engine where a scenario expects a `DataPlane`."""

from __future__ import annotations

from typing import Any

from dataplane.observe.records import Count, Flow, Window
from dataplane.program import Direction, Path
from dataplane.reference import ReferencePlane


class ReferenceDataPlane(ReferencePlane):
    """What scenarios ask of the fast engine, asked of the reference engine."""

    @property
    def engine(self) -> ReferenceDataPlane:
        return self

    def sessions(self) -> list[dict[str, Any]]:  # type: ignore[override]
        found = []
        for session in super().sessions():
            flow = session.flow
            ends = (int(flow.source), int(flow.destination), flow.protocol, flow.source_port, flow.destination_port)
            forward = (flow.source.version, *ends)
            found.append({"kind": session.kind, "owner": session.owner, "forward": forward, "state": session.stage})
        return found

    def record_flows(self, **_: int) -> None:
        """It always does."""

    def take_flow_records(self, *, unfinished: bool) -> tuple[int, dict[int, Window]]:
        assert unfinished
        windows: dict[int, Window] = {}
        for each, counted in self.router.records.found.items():
            direction = Direction.EGRESS if each.leaves else Direction.INGRESS
            ends = each.source, each.destination, each.protocol, each.source_port, each.destination_port
            flow = Flow(each.interface, direction, each.refused, *ends, Path(each.path))
            times = counted.first_ms, counted.last_ms
            count = Count(counted.packets, counted.bytes, *times, counted.tcp_flags)
            windows.setdefault(each.window, Window()).count(flow, count)
        self.router.records.found.clear()
        return self.now_ms // 60_000, windows

    def statistics(self) -> dict[str, int]:
        return {"fragments_waiting": self.fragments_waiting, "sessions": len(self.sessions())}

    def counters(self) -> dict[int, dict[str, Any]]:
        return {port: {"reasons": dict(reasons)} for port, reasons in self.drops.items()}

    def selfcheck(self) -> None:
        """Nothing to check: what it remembers is what it is."""

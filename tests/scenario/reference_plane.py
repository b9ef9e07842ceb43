"""The reference engine where a scenario expects a `DataPlane`."""

from __future__ import annotations

from typing import Any

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

    def statistics(self) -> dict[str, int]:
        return {"fragments_waiting": self.fragments_waiting, "sessions": len(self.sessions())}

    def counters(self) -> dict[int, dict[str, Any]]:
        return {port: {"reasons": dict(reasons)} for port, reasons in self.drops.items()}

    def selfcheck(self) -> None:
        """Nothing to check: what it remembers is what it is."""

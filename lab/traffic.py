"""What goes through a running lab: counters of one moment. Two of them, and the time between, are rates."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any

from dataplane.limits import NAT_PORTS
from dataplane.picture import Ways
from dataplane.verdict import Reason
from lab import sight, tables

if TYPE_CHECKING:
    from lab.running import RunningLab

_FLOWS = 500
"""Flows of one sample: those that had a packet last."""


def sample(lab: RunningLab, *, ways: bool = False) -> dict[str, Any]:
    """Counters of interfaces, drops by reason, NAT gateways and flows, as they are now.

    With `ways`, also of flows by the link of a picture that they go over.
    """
    now_s = time.monotonic()
    counted = lab.data_plane.engine.counters()
    sessions = lab.data_plane.engine.sessions()
    interfaces = [
        {"node": name, "device": interface.device, **sight.counters(counted.get(interface.port))}
        for name, plan in lab.plans.items()
        for interface in plan.interfaces
    ]
    drops: Counter[str] = Counter()
    for row in counted.values():
        drops.update({Reason(number).name: count for number, count in row["reasons"].items()})
    return {
        "time_s": now_s,
        "interfaces": interfaces,
        "drops": dict(drops),
        "gateways": _gateways(lab, sessions),
        "flows": tables.flows(lab.data_plane, limit=_FLOWS, sessions=sessions),
        "remembered": dict(Counter(session["kind"] for session in sessions)),
        **({"ways": list(_ways(lab, sessions))} if ways else {}),
    }


def _ways(lab: RunningLab, sessions: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Flows that interfaces and NAT gateways remember and that a drawn route takes out of the subnet: the latest."""
    drawn = Ways(lab.topology)
    for session in tables.latest(sessions, "group", "nat")[:_FLOWS]:
        owner = lab.data_plane.names[session["owner"]].path
        family, source, destination, protocol, *_ = session["forward"]
        if session["kind"] == "nat":
            out = _address(*session["reply"][:2])  # which may be of another family (NAT64)
        else:
            caller, called = _address(family, source), _address(family, destination)
            out = called if drawn.is_own(owner, caller) else caller
        link = drawn.link(owner, out)
        if link is not None:
            yield {
                "link": " -> ".join(link),
                "flow": f"{owner} {protocol} {tables.ends(session['forward'])}",
                "packets": list(session["packets"]),
                "bytes": list(session["bytes"]),
                "age_s": session["age_ms"] / 1000,
            }


def _address(family: int, number: int) -> IPv4Address | IPv6Address:
    return IPv4Address(number) if family == 4 else IPv6Address(number)


def _gateways(lab: RunningLab, sessions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """NAT gateways, each with how many ports the destination uses that has the most.

    A port may be used once for each protocol, destination address and destination port.
    """
    used: dict[str, Counter[str]] = defaultdict(Counter)
    for row in tables.translations(lab.data_plane, lab.topology, sessions=sessions):
        used[row["gateway"]][f"{row['protocol']} {row['outside']}"] += 1
    rows = []
    for gateway in tables.gateways(lab.data_plane, lab.topology):
        mine = used[gateway["gateway"]]
        destination, ports = next(iter(mine.most_common(1)), (None, 0))
        rows.append(
            {
                "gateway": gateway["gateway"],
                "connections": sum(mine.values()),
                "ports": ports,
                "ports_to": destination,
                "ports_limit": len(NAT_PORTS) * len(gateway["private"]),
                "metrics": gateway["metrics"],
            }
        )
    return rows

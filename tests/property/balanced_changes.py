"""What somebody, or health checks, do to load balancers, targets and endpoints while packets go through them."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

from tests.property.balanced_labs import ADDRESSES, STATES, STICKINESS, TARGETS
from tests.property.lab_packets import Draw

Lab = dict[str, Any]
GUARD = ("vpcs", "guard")
"""What is there in a lab with load balancers."""


def _group(draw: Draw, lab: Lab) -> tuple[str, Lab]:
    groups = lab["vpcs"]["guard"]["target_groups"]
    name = draw(st.sampled_from(["fleet", "fleet", "addresses"]))
    return name, groups[name]


def health(draw: Draw, lab: Lab) -> None:
    """The health of a target changes, or of all of a group."""
    name, group = _group(draw, lab)
    if not group["targets"]:
        return  # nobody is left whose health could change
    chosen = group["targets"] if draw(st.integers(0, 3)) == 0 else [draw(st.sampled_from(group["targets"]))]
    state = draw(st.sampled_from([*STATES, "unhealthy"]))
    kept = [row for row in lab["runtime"]["health"] if row[1] != name or row[2] not in chosen]
    lab["runtime"] = {**lab["runtime"], "health": [*kept, *(["guard", name, target, state] for target in chosen)]}


def fail(draw: Draw, lab: Lab, group: str, name: str) -> Lab:
    """The lab with a target that has become unhealthy, or is registered no more; mostly its flows leave it."""
    other = copy.deepcopy(lab)
    declared = other["vpcs"]["guard"]["target_groups"][group]
    if draw(st.integers(0, 3)):
        declared |= {"on_deregistration": "rebalance", "on_unhealthy": "rebalance"}
        declared["targets"] = sorted({*declared["targets"], *(TARGETS if group == "fleet" else ADDRESSES[:2])})
        other["runtime"]["health"] = [row for row in lab["runtime"]["health"] if row[1] != group]
    if name in declared["targets"] and draw(st.integers(0, 3)) == 0:
        declared["targets"].remove(name)
    else:
        kept = [row for row in other["runtime"]["health"] if row[1:3] != [group, name]]
        other["runtime"]["health"] = [*kept, ["guard", group, name, "unhealthy"]]
    return other


def target(draw: Draw, lab: Lab) -> None:
    """A target is deregistered, or registered."""
    name, group = _group(draw, lab)
    one = draw(st.sampled_from(sorted(TARGETS) if name == "fleet" else sorted(set(ADDRESSES))))
    if one in group["targets"]:
        group["targets"].remove(one)
    else:
        group["targets"].append(one)


def cross_zone(draw: Draw, lab: Lab) -> None:
    """Nodes may use targets of other zones from now on, or may not."""
    balancer = lab["vpcs"]["guard"]["gateway_load_balancers"][draw(st.sampled_from(["first", "second"]))]
    balancer["cross_zone"] = not balancer["cross_zone"]


def resets(draw: Draw, lab: Lab) -> None:
    """Ends of TCP are told from now on, or are not; flows may be idle for another time."""
    balancer = lab["vpcs"]["guard"]["gateway_load_balancers"][draw(st.sampled_from(["first", "second"]))]
    balancer["send_tcp_reset"] = not balancer["send_tcp_reset"]
    balancer["tcp_idle_timeout"] = draw(st.sampled_from([60, 350]))


def acceptance(draw: Draw, lab: Lab) -> None:
    """An endpoint is accepted, rejected, or waits again."""
    paths = _endpoints(lab)
    if not paths:
        return
    path = draw(st.sampled_from(sorted(paths)))
    forget(lab, path)
    becomes = draw(st.sampled_from(["accepted", "accepted", "rejected", ""]))
    if becomes:
        service = lab["vpcs"]["guard"]["endpoint_services"][paths[path].removeprefix("guard/")]
        service.setdefault(becomes, []).append(path)


def stickiness(draw: Draw, lab: Lab) -> None:
    """What decides about the target is something else."""
    _, group = _group(draw, lab)
    group["stickiness"] = draw(st.sampled_from(STICKINESS))


def failover(draw: Draw, lab: Lab) -> None:
    """Flows leave targets that fail, or stay."""
    _, group = _group(draw, lab)
    other = "no_rebalance" if group["on_unhealthy"] == "rebalance" else "rebalance"
    group |= {"on_deregistration": other, "on_unhealthy": other}


def endpoint(draw: Draw, lab: Lab) -> None:
    """An endpoint is gone: routes to it lead nowhere."""
    paths = sorted(_endpoints(lab))
    if not paths:
        return
    path = draw(st.sampled_from(paths))
    vpc, _, name = path.partition("/")
    forget(lab, path)
    del lab["vpcs"][vpc]["gateway_load_balancer_endpoints"][name]
    for table in lab["vpcs"][vpc]["route_tables"].values():
        for route in table.get("routes", ()):
            if route["target"] == f"vpc-endpoint:{name}":
                route["target"] = "blackhole"


def gateway_endpoint(draw: Draw, lab: Lab) -> None:
    """A gateway endpoint is for other route tables."""
    declared = lab["vpcs"]["shop"]["gateway_endpoints"][draw(st.sampled_from(["objects", "tables"]))]
    declared["route_tables"] = draw(st.sampled_from([["private", "public"], ["private"], []]))


def forget(lab: Lab, begin: str) -> None:
    """No service knows endpoints whose path begins so."""
    for service in lab["vpcs"].get("guard", {}).get("endpoint_services", {}).values():
        for listed in ("accepted", "rejected"):
            service[listed] = [path for path in service.get(listed, ()) if not path.startswith(begin)]


def _endpoints(lab: Lab) -> dict[str, str]:
    """Endpoints, with the service of each."""
    return {
        f"{vpc}/{name}": each["service"]
        for vpc, declared in lab["vpcs"].items()
        for name, each in declared.get("gateway_load_balancer_endpoints", {}).items()
    }

"""What somebody does to a lab while packets cross it: one thing taken away, put back, moved or set otherwise.

A change that AWS would refuse is refused when the lab is loaded, and nothing changes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from hypothesis import strategies as st

from tests.property import balanced_changes
from tests.property.lab_packets import Draw

Lab = dict[str, Any]


def changed(draw: Draw, lab: Lab, kinds: Collection[str] = ()) -> tuple[str, Lab]:
    """What was changed, and the lab after it: the same lab, where what would be changed is not there.

    `kinds`: those of `CHANGES` that it may be; all of them when there are none.
    """
    other = copy.deepcopy(lab)
    kind = draw(st.sampled_from(sorted(kinds or CHANGES)))
    change = CHANGES[kind]
    if not _is_there(lab, change.needs):
        return kind, lab
    change.make(draw, other)
    return kind, other


def _is_there(lab: Lab, path: tuple[str, ...]) -> bool:
    """Whether a lab has something."""
    for key in path:
        if key not in lab:
            return False
        lab = lab[key]
    return True


def _present(lab: Lab) -> list[str]:
    """Instances of `shop` that somebody may do something to; one may have been taken away before."""
    return [name for name in "abcd" if name in lab["instances"]]


class Change(NamedTuple):
    """Something that can be done to a lab."""

    make: Callable[[Draw, Lab], None]
    needs: tuple[str, ...] = ()
    """What must be there."""


def _rule(draw: Draw, lab: Lab) -> None:
    """A group loses a rule, or all it allows, or gets one for everything."""
    side, end = draw(st.sampled_from([("ingress", "source"), ("egress", "destination")]))
    group = lab["vpcs"]["shop"]["security_groups"][draw(st.sampled_from(["one", "two", "open"]))]
    rules = group.get(side)
    if rules:
        del rules[draw(st.integers(0, len(rules) - 1))]
    elif rules is None:
        group[side] = []
    else:
        group[side] = [{"protocol": "all", end: draw(st.sampled_from(["0.0.0.0/0", "::/0", "10.0.0.0/8"]))}]


def _groups(draw: Draw, lab: Lab) -> None:
    who = draw(st.sampled_from(_present(lab)))
    lab["instances"][who]["security_groups"] = [draw(st.sampled_from(["one", "two", "open"]))]


def _route(draw: Draw, lab: Lab) -> None:
    """A route is gone, or leads nowhere."""
    tables = lab["vpcs"]["shop"]["route_tables"]
    routes = tables[draw(st.sampled_from(sorted(tables)))].get("routes")
    if routes:
        at = draw(st.integers(0, len(routes) - 1))
        if draw(st.booleans()):
            del routes[at]
        else:
            routes[at]["target"] = "blackhole"


def _table(draw: Draw, lab: Lab) -> None:
    """A subnet gets another route table."""
    subnet = lab["vpcs"]["shop"]["subnets"][draw(st.sampled_from(["public", "private", "plain", "shared"]))]
    subnet["route_table"] = draw(st.sampled_from(["public", "private"]))


def _acl(draw: Draw, lab: Lab) -> None:
    subnet = lab["vpcs"]["shop"]["subnets"][draw(st.sampled_from(["public", "private", "plain"]))]
    if subnet.pop("network_acl", None) is None:
        subnet["network_acl"] = "edge"


def _acl_rule(draw: Draw, lab: Lab) -> None:
    """An ACL rule is gone, or says the opposite."""
    rules = lab["vpcs"]["shop"]["network_acls"]["edge"][draw(st.sampled_from(["ingress", "egress"]))]
    if rules:
        at = draw(st.integers(0, len(rules) - 1))
        if draw(st.booleans()):
            del rules[at]
        else:
            rules[at]["action"] = "deny" if rules[at]["action"] == "allow" else "allow"


def _peering(draw: Draw, lab: Lab) -> None:
    lab["peerings"]["p"]["status"] = draw(st.sampled_from(["active", "active", "deleted"]))


def _check(draw: Draw, lab: Lab) -> None:
    lab["instances"][draw(st.sampled_from(_present(lab)))]["source_dest_check"] = draw(st.booleans())


def _elastic(draw: Draw, lab: Lab) -> None:
    """An Elastic IP moves, or comes and goes."""
    instances = lab["instances"]
    present = _present(lab)
    holder = next((name for name in present if instances[name].get("elastic_ip") == "203.0.113.20"), None)
    if holder is not None:
        del instances[holder]["elastic_ip"]
    if holder is None or draw(st.booleans()):
        instances[draw(st.sampled_from(present))]["elastic_ip"] = "203.0.113.20"


def _address(draw: Draw, lab: Lab) -> None:
    """A secondary address moves from one interface of its subnet to the other."""
    a, b = lab["instances"]["a"], lab["instances"]["b"]
    for one, other in ((a, b), (b, a)):
        if "10.0.1.12" in one.get("secondary_private_ips", ()):
            one["secondary_private_ips"].remove("10.0.1.12")
            other.setdefault("secondary_private_ips", []).append("10.0.1.12")
            return
    a.setdefault("secondary_private_ips", []).append("10.0.1.12")


def _instance(draw: Draw, lab: Lab) -> None:
    """An instance and its VPC are gone, which nobody else minds."""
    lab["vpcs"].pop("twin", None)
    lab["instances"].pop("t", None)
    balanced_changes.forget(lab, "twin/")


def _nat(draw: Draw, lab: Lab) -> None:
    """The NAT gateway is gone: routes to it lead nowhere; another time it may be back."""
    shop = lab["vpcs"]["shop"]
    if shop.pop("nat_gateways", None) is not None:
        for table in shop["route_tables"].values():
            for route in table.get("routes", ()):
                if route["target"].startswith("nat-gateway:"):
                    route["target"] = "blackhole"


def _attachment(draw: Draw, lab: Lab) -> None:
    """A network interface is detached, or attached."""
    spare = lab["vpcs"]["shop"]["network_interfaces"]["spare"]
    if spare.pop("attachment", None) is None:
        spare["attachment"] = {"instance": draw(st.sampled_from("ab")), "device_index": 2}


CHANGES: dict[str, Change] = {
    "group-rule": Change(_rule),
    "groups": Change(_groups),
    "route": Change(_route),
    "route-table": Change(_table),
    "acl": Change(_acl),
    "acl-rule": Change(_acl_rule),
    "peering": Change(_peering),
    "source-check": Change(_check),
    "elastic-ip": Change(_elastic),
    "address": Change(_address),
    "instance": Change(_instance),
    "nat-gateway": Change(_nat),
    "attachment": Change(_attachment),
    "health": Change(balanced_changes.health, balanced_changes.GUARD),
    "target": Change(balanced_changes.target, balanced_changes.GUARD),
    "cross-zone": Change(balanced_changes.cross_zone, balanced_changes.GUARD),
    "acceptance": Change(balanced_changes.acceptance, balanced_changes.GUARD),
    "stickiness": Change(balanced_changes.stickiness, balanced_changes.GUARD),
    "failover": Change(balanced_changes.failover, balanced_changes.GUARD),
    "endpoint": Change(balanced_changes.endpoint, balanced_changes.GUARD),
    "resets": Change(balanced_changes.resets, balanced_changes.GUARD),
    "gateway-endpoint": Change(balanced_changes.gateway_endpoint, ("vpcs", "shop", "gateway_endpoints")),
}

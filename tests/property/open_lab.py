"""A lab where nearly everything passes, with as many kinds of tables on the way as there are, and what breaks it.

Every change is one that a flow which goes on as before would go on wrongly after.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tests.property.lab_packets import Draw

Lab = dict[str, Any]
ADDRESSES = {
    "a": "10.0.1.10",
    "b": "10.0.2.10",
    "c": "10.0.3.10",
    "w": "10.0.4.10",
    "d": "10.1.1.10",
    "site": "198.51.100.10",
}
PUBLIC = {"a": "203.0.113.20", "w": "203.0.113.22"}
PORTS = (53, 99, 443)
VPCS = {"shop", "store", "guard"}
FLOWS = tuple(
    (
        source,
        PUBLIC.get(to, ADDRESSES[to]) if source == "site" else ADDRESSES[to],
        port,
        "tcp" if port == 443 else "udp",
    )
    for source in ADDRESSES
    for to in ADDRESSES
    if source != to and (source != "site" or to in PUBLIC)
    for port in PORTS
)
"""Who, to which address, to which port, by what."""
BLOCKS = ("0.0.0.0/0", "10.0.0.0/8", "10.0.1.0/24", "10.0.2.10/32", "10.1.0.0/16", "198.51.100.0/24")


def open_lab() -> Lab:
    """Two peered VPCs, one with a gateway to the internet, a NAT gateway, and an endpoint of a balancer in a third."""
    anything = {"protocol": "all", "cidr": "0.0.0.0/0", "action": "allow"}
    acl = [{"rule": 10 * n, **anything, "protocol": "udp", "ports": str(port)} for n, port in enumerate(PORTS, 1)]
    acl.append({"rule": 900, **anything})
    tracked = [{"protocol": "udp", "ports": "0-65535", "source": block} for block in BLOCKS[1:]]
    tracked.append({"protocol": "tcp", "ports": "443", "source": "prefix-list:known"})
    loose = [{"protocol": "all", "source": "0.0.0.0/0"}]
    some = [{"protocol": "udp", "ports": str(port), "source": "0.0.0.0/0"} for port in PORTS]
    groups = {"tracked": {"ingress": tracked}, "loose": {"ingress": loose}, "some": {"ingress": some}}
    out, peer = {"destination": "0.0.0.0/0", "target": "internet-gateway"}, "peering:link"
    shop: dict[str, Any] = {
        "cidr": "10.0.0.0/16",
        "internet_gateway": {"route_table": "edge"},
        "nat_gateways": {"out": {"subnet": "public", "elastic_ip": "203.0.113.30"}},
        "subnets": {
            "public": {"cidr": "10.0.1.0/24", "route_table": "public", "network_acl": "edge"},
            "private": {"cidr": "10.0.2.0/24", "route_table": "private"},
            "plain": {"cidr": "10.0.3.0/24", "route_table": "private", "network_acl": "edge"},
            "watched": {"cidr": "10.0.4.0/24", "route_table": "watched"},
            "ends": {"cidr": "10.0.5.0/24", "route_table": "public"},
        },
        "route_tables": {
            "public": {"routes": [out, {"destination": "10.1.0.0/16", "target": peer}]},
            "private": {
                "routes": [
                    {"destination": "0.0.0.0/0", "target": "nat-gateway:out"},
                    {"destination": "10.1.0.0/16", "target": peer},
                ]
            },
            "watched": {"routes": [{"destination": "0.0.0.0/0", "target": "vpc-endpoint:ep"}]},
            "edge": {"routes": [{"destination": "10.0.4.0/24", "target": "vpc-endpoint:ep"}]},
        },
        "network_acls": {"edge": {"ingress": acl, "egress": list(acl)}},
        "security_groups": groups,
        "gateway_load_balancer_endpoints": {"ep": {"service": "guard/inspect", "subnet": "ends"}},
        "flow_logs": {"all": {}},
    }
    return {
        "version": 1,
        "prefix_lists": {"known": {"max_entries": 9, "entries": [{"cidr": block} for block in BLOCKS[2:4]]}},
        "vpcs": {
            "shop": shop,
            "store": {
                "cidr": "10.1.0.0/16",
                "subnets": {"one": {"cidr": "10.1.1.0/24", "route_table": "back"}},
                "route_tables": {"back": {"routes": [{"destination": "10.0.0.0/16", "target": peer}]}},
                "security_groups": {"loose": {"ingress": loose}},
            },
            "guard": {
                "cidr": "10.9.0.0/16",
                "subnets": {"fw": {"cidr": "10.9.1.0/24"}},
                "security_groups": {"loose": {"ingress": loose}},
                "gateway_load_balancers": {"first": {"subnets": ["fw"], "target_group": "fleet"}},
                "target_groups": {"fleet": {"targets": ["fw1", "fw2"]}},
                "endpoint_services": {"inspect": {"gateway_load_balancer": "first", "acceptance_required": False}},
            },
        },
        "peerings": {"link": {"requester": "shop", "accepter": "store"}},
        "instances": {
            "a": _instance("shop", "public", "a", "tracked", elastic_ip=PUBLIC["a"]),
            "b": _instance("shop", "private", "b", "some"),
            "c": _instance("shop", "plain", "c", "loose"),
            "w": _instance("shop", "watched", "w", "loose", elastic_ip=PUBLIC["w"]),
            "d": _instance("store", "one", "d", "loose"),
            **{
                f"fw{n}": {"vpc": "guard", "subnet": "fw", "private_ip": f"10.9.1.2{n}", "security_groups": ["loose"]}
                for n in (1, 2)
            },
        },
        "internet": {"hosts": {"site": {"address": ADDRESSES["site"]}}},
        "runtime": {"health": [], "former": []},
    }


def _instance(vpc: str, subnet: str, name: str, group: str, **more: Any) -> dict[str, Any]:
    placed = {"vpc": vpc, "subnet": subnet, "private_ip": ADDRESSES[name], "security_groups": [group]}
    return {**placed, **more}


def _rules(draw: Draw, lab: Lab) -> None:
    """A group has a rule less, or one more."""
    rules = lab["vpcs"]["shop"]["security_groups"][draw(st.sampled_from(["tracked", "loose", "some"]))]["ingress"]
    if rules and draw(st.integers(0, 2)):
        del rules[draw(st.integers(0, len(rules) - 1))]
    else:
        rules.append({"protocol": "udp", "ports": "0-65535", "source": draw(st.sampled_from(BLOCKS))})


def _acl(draw: Draw, lab: Lab) -> None:
    """An ACL has a rule less, or one more that lets something not pass."""
    rules = lab["vpcs"]["shop"]["network_acls"]["edge"][draw(st.sampled_from(["ingress", "egress"]))]
    if rules and draw(st.integers(0, 2)) == 0:
        del rules[draw(st.integers(0, len(rules) - 1))]
        return
    number = draw(st.sampled_from([5, 6, 15, 500]))
    if number not in [rule["rule"] for rule in rules]:
        ports = draw(st.sampled_from(["0-65535", *map(str, PORTS)]))
        block = draw(st.sampled_from(BLOCKS))
        rules.append({"rule": number, "protocol": "udp", "ports": ports, "cidr": block, "action": "deny"})
        rules.sort(key=lambda rule: int(rule["rule"]))


def _route(draw: Draw, lab: Lab) -> None:
    """A route is gone, leads nowhere, or there is one more."""
    tables = {**lab["vpcs"]["shop"]["route_tables"], **lab["vpcs"]["store"]["route_tables"]}
    name = draw(st.sampled_from(sorted(tables)))
    routes = tables[name]["routes"]
    what = draw(st.sampled_from(["gone", "nowhere", "more"]))
    if what == "more":
        more = draw(st.sampled_from(["198.51.100.10/32", "10.1.1.0/24", "198.51.0.0/16"]))
        if name != "edge" and more not in [route["destination"] for route in routes]:
            routes.append({"destination": more, "target": "blackhole"})
    elif routes:
        at = draw(st.integers(0, len(routes) - 1))
        if what == "gone":
            del routes[at]
        else:
            routes[at] = {**routes[at], "target": "blackhole"}


def _tables(draw: Draw, lab: Lab) -> None:
    """A subnet gets another route table, or another ACL."""
    subnet = lab["vpcs"]["shop"]["subnets"][draw(st.sampled_from(["public", "private", "plain", "watched"]))]
    if draw(st.booleans()):
        subnet["route_table"] = draw(st.sampled_from(["public", "private", "watched"]))
    elif subnet.pop("network_acl", None) is None:
        subnet["network_acl"] = "edge"


def _known(draw: Draw, lab: Lab) -> None:
    """A prefix list has an entry less, or one more."""
    entries = lab["prefix_lists"]["known"]["entries"]
    block = draw(st.sampled_from(BLOCKS))
    if {"cidr": block} in entries:
        entries.remove({"cidr": block})
    else:
        entries.append({"cidr": block})


def _health(draw: Draw, lab: Lab) -> None:
    """A target fails, or recovers; mostly flows leave those that fail."""
    if draw(st.integers(0, 3)):
        lab["vpcs"]["guard"]["target_groups"]["fleet"] |= {
            "on_deregistration": "rebalance",
            "on_unhealthy": "rebalance",
        }
    target = draw(st.sampled_from(["fw1", "fw2"]))
    kept = [row for row in lab["runtime"]["health"] if row[2] != target]
    state = draw(st.sampled_from(["unhealthy", "unhealthy", "healthy", "draining"]))
    lab["runtime"] = {**lab["runtime"], "health": [*kept, ["guard", "fleet", target, state]]}


def _stickiness(draw: Draw, lab: Lab) -> None:
    group = lab["vpcs"]["guard"]["target_groups"]["fleet"]
    group["stickiness"] = draw(st.sampled_from(["source_ip_dest_ip", "source_ip_dest_ip_proto"]))


def _failover(draw: Draw, lab: Lab) -> None:
    """What becomes of flows whose target fails."""
    group = lab["vpcs"]["guard"]["target_groups"]["fleet"]
    way = draw(st.sampled_from(["rebalance", "no_rebalance"]))
    group |= {"on_deregistration": way, "on_unhealthy": way}


def _timeouts(draw: Draw, lab: Lab) -> None:
    """An interface forgets sooner."""
    who = lab["instances"][draw(st.sampled_from("abcw"))]
    seconds = {"udp_timeout": draw(st.sampled_from([30, 45, 60])), "tcp_established_timeout": 60}
    who["connection_tracking"] = seconds


def _settings(draw: Draw, lab: Lab) -> None:
    lab["settings"] = {
        "internet_gateway_ttl": draw(st.sampled_from(["decrement", "keep"])),
        "peering_ttl": draw(st.sampled_from(["decrement", "keep"])),
        "balancer_closing_timeout": draw(st.sampled_from([5, 400])),
        "icmp_timeout": draw(st.sampled_from([5, 100])),
    }


def _wholes(draw: Draw, lab: Lab) -> None:
    """What is packed as a whole, and all is walked again."""
    what = draw(st.sampled_from(["check", "group", "peering", "address", "logs"]))
    if what == "check":
        lab["instances"][draw(st.sampled_from("abcd"))]["source_dest_check"] = draw(st.booleans())
    elif what == "group":
        lab["instances"][draw(st.sampled_from("abcw"))]["security_groups"] = [draw(st.sampled_from(["loose", "some"]))]
    elif what == "peering":
        lab["peerings"]["link"]["status"] = draw(st.sampled_from(["active", "deleted"]))
    elif what == "address":
        lab["instances"]["a"].pop("elastic_ip", None)
    else:
        lab["vpcs"]["shop"].pop("flow_logs", None)


OFTEN = ("rules", "acl", "acl", "route", "tables", "known", "health", "health")
"""Changes that leave much alone, and so are tried more often."""
CHANGES: dict[str, Callable[[Draw, Lab], None]] = {
    "rules": _rules,
    "acl": _acl,
    "route": _route,
    "tables": _tables,
    "known": _known,
    "health": _health,
    "stickiness": _stickiness,
    "failover": _failover,
    "timeouts": _timeouts,
    "settings": _settings,
    "wholes": _wholes,
}

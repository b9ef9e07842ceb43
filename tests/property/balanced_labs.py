"""Gateway load balancers, their targets and endpoints, and gateway endpoints, put into a drawn lab.

VPC guard has the appliances, two balancers and services for both. Endpoints lie in subnets of their own: in shop (two,
the packets of one perhaps led on to the other), in store, in twin, which has shop's addresses, and in guard itself.
Routes of subnets and of the internet gateway are turned to them, so that what a NAT gateway, an egress-only gateway or
a peering does happens before or behind an inspection.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.property.lab_packets import Draw

Lab = dict[str, Any]
TARGETS = {"fw1": "10.8.1.21", "fw2": "10.8.1.22", "fw3": "10.8.2.23"}
"""Appliances by name: two in zone a, one in zone b."""
ADDRESSES = ("10.8.1.21", "10.8.2.23", "10.1.1.10", "10.1.1.10", "10.0.3.10", "10.8.1.99")
"""Of targets by address: also one in the peer VPC, one that no route leads to, and one that nobody has."""
STATES = ("initial", "healthy", "healthy", "unhealthy", "unhealthy", "draining")
STICKINESS = ("5_tuple", "source_ip_dest_ip_proto", "source_ip_dest_ip")
SERVICES = ("guard/inspection", "guard/deeper")
MANAGED = ("prefix-list:com.amazonaws.us-east-1.s3", "prefix-list:com.amazonaws.us-east-1.dynamodb")
DEFAULTS = ("0.0.0.0/0", "::/0")
WIDE = [{"protocol": "all", "source": block} for block in DEFAULTS]
SHOP_ROUTES = (
    ("private", "0.0.0.0/0"),
    ("private", "::/0"),
    ("private", "10.0.1.0/24"),
    ("private", "2001:db8:10:1::/64"),
    ("private", "10.1.0.0/16"),
    ("public", "0.0.0.0/0"),
    ("public", "0.0.0.0/0"),
    ("public", "::/0"),
    ("public", "10.0.2.0/24"),
    ("public", "10.0.3.0/24"),
    ("public", "2001:db8:10:2::/64"),
    ("edge", "10.0.1.0/24"),
    ("edge", "10.0.2.0/24"),
    ("edge", "2001:db8:10:1::/64"),
    ("edge", "2001:db8:10:2::/64"),
)
"""Routes that may lead to an endpoint: the table and the destination."""


def few(draw: Draw, chances: int) -> bool:
    """True once in so many times."""
    return draw(st.integers(0, chances - 1)) == chances - 1


def add_balancers(draw: Draw, lab: Lab) -> None:
    """Put everything of this module into a lab drawn by `wide_labs`."""
    far = "accepter_region" in lab["peerings"]["p"]
    six = not few(draw, 8)
    offers: dict[str, Any] = {}
    lab["vpcs"]["guard"] = _guard(draw, offers, six=six)
    lab["instances"] |= _appliances(draw)
    lab["peerings"]["q"] = {"requester": "guard", "accepter": "store", "status": "active"}
    lab["vpcs"]["store"]["route_tables"]["data"]["routes"].append({"destination": "10.8.0.0/16", "target": "peering:q"})
    if far:
        lab["peerings"]["q"]["accepter_region"] = lab["peerings"]["p"]["accepter_region"]
    _inspect_shop(draw, lab["vpcs"]["shop"], offers, six=six)
    _inspect_twin(draw, lab["vpcs"]["twin"], offers, six=six)
    if not far:
        _inspect_store(draw, lab["vpcs"]["store"], offers)
    for path, (service, accepted) in offers.items():
        declared = lab["vpcs"]["guard"]["endpoint_services"][service.removeprefix("guard/")]
        if accepted != "pending":
            declared.setdefault(accepted, []).append(path)
    lab["runtime"] = runtime(draw, lab)


def add_services(draw: Draw, lab: Lab) -> None:
    """Put S3 and DynamoDB into a lab, and gateway endpoints for them."""
    lab["aws_services"] = {"s3": {}, "dynamodb": {}}
    shop, twin, store = (lab["vpcs"][name] for name in ("shop", "twin", "store"))
    tables = draw(st.sampled_from([["private", "public"]] * 4 + [["private"], ["public"]]))
    shop["gateway_endpoints"] = {"objects": {"service": "s3", "route_tables": tables}}
    shop["gateway_endpoints"]["tables"] = {"service": "dynamodb", "route_tables": tables}
    if not few(draw, 4):
        twin["gateway_endpoints"] = {"objects": {"service": "s3", "route_tables": ["main"]}}
    if "accepter_region" not in lab["peerings"]["p"] and draw(st.booleans()):
        store["gateway_endpoints"] = {"objects": {"service": "s3", "route_tables": ["data"]}}
    if few(draw, 3):
        own = {"destination": "52.216.0.0/15", "target": draw(st.sampled_from(["blackhole", "nat-gateway:nat"]))}
        shop["route_tables"]["private"]["routes"].append(own)
    for name in ("one", "two"):
        rule = {"protocol": draw(st.sampled_from(["all", "tcp"])), "source": draw(st.sampled_from(MANAGED))}
        if rule["protocol"] == "tcp":
            rule["ports"] = "0-65535"
        group = shop["security_groups"][name]
        group["ingress"].append(rule)
        if "egress" in group:
            group["egress"].append({("destination" if k == "source" else k): v for k, v in rule.items()})


# -- the provider


def _guard(draw: Draw, offers: Lab, *, six: bool) -> Lab:
    """The VPC of the appliances."""
    both = draw(st.booleans())
    one: Lab = {"subnets": ["fw-a", "fw-b"] if both or few(draw, 3) else ["fw-a"], "target_group": "fleet"}
    two: Lab = {"subnets": ["fw-a", "fw-b"], "target_group": "addresses"}
    for balancer in (one, two):
        balancer |= {"cross_zone": draw(st.booleans()), "send_tcp_reset": not few(draw, 3)}
        if draw(st.booleans()):
            balancer["tcp_idle_timeout"] = draw(st.sampled_from([60, 60, 350, 6000]))
        if not six:
            balancer["dualstack"] = False
    least = 1 if few(draw, 4) else 2
    fleet = draw(st.lists(st.sampled_from([*TARGETS, "fw1", "fw3"]), min_size=least, max_size=3, unique=True))
    addresses = draw(st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=3, unique=True))
    groups = {
        "fleet": {"targets": fleet, **_attributes(draw)},
        "addresses": {"target_type": "ip", "targets": addresses, **_attributes(draw)},
    }
    routes = [{"destination": "10.1.0.0/16", "target": "peering:q"}]
    found: Lab = {
        "cidr": "10.8.0.0/16",
        "subnets": {
            "fw-a": {"cidr": "10.8.1.0/24", "availability_zone": "a", "route_table": "fw"},
            "fw-b": {"cidr": "10.8.2.0/24", "availability_zone": "b", "route_table": "fw"},
            "own": {"cidr": "10.8.3.0/24", "availability_zone": "b"},
        },
        "route_tables": {"fw": {"routes": routes}},
        "security_groups": _appliance_groups(draw),
        "gateway_load_balancers": {"first": one, "second": two},
        "target_groups": groups,
        "endpoint_services": {
            name: {"gateway_load_balancer": balancer, "acceptance_required": True, "allowed_principals": ["*"]}
            for name, balancer in (("inspection", "first"), ("deeper", "second"))
        },
    }
    if few(draw, 3):
        found["network_acls"] = {"fw": _acl(draw)}
        found["subnets"]["fw-a"]["network_acl"] = "fw"
    if few(draw, 3):  # packets to targets meet an endpoint themselves
        found["gateway_load_balancer_endpoints"] = {"own": {"service": "guard/deeper", "subnet": "own"}}
        offers["guard/own"] = ("guard/deeper", "accepted")
        if draw(st.booleans()):
            routes.append({"destination": "10.8.2.0/24", "target": "vpc-endpoint:own"})
        else:
            routes[0]["target"] = "vpc-endpoint:own"
        if draw(st.booleans()):
            found["subnets"]["own"]["route_table"] = "own"
            found["route_tables"]["own"] = {"routes": [{"destination": "10.1.0.0/16", "target": "peering:q"}]}
    return found


def _attributes(draw: Draw) -> Lab:
    failover = draw(st.sampled_from(["no_rebalance", "rebalance", "rebalance"]))
    return {
        "stickiness": draw(st.sampled_from(STICKINESS)),
        "on_deregistration": failover,
        "on_unhealthy": failover,
        "deregistration_delay": draw(st.sampled_from([0, 60, 300])),
    }


def _appliance_groups(draw: Draw) -> Lab:
    narrow = [{"protocol": "udp", "ports": 6081, "source": "10.8.0.0/16"}]
    drawn = draw(st.sampled_from([WIDE, WIDE, *[narrow] * 5, [{**narrow[0], "source": "10.8.1.0/24"}], []]))
    found: Lab = {"fw": {"description": "appliances", "ingress": drawn}}
    if few(draw, 8):
        found["fw"]["egress"] = [{"protocol": "udp", "ports": "0-65535", "destination": "10.8.1.0/24"}]
    return found


def _appliances(draw: Draw) -> Lab:
    found: Lab = {}
    for name, address in TARGETS.items():
        home = "fw-b" if address.startswith("10.8.2.") else "fw-a"
        found[name] = {"vpc": "guard", "subnet": home, "private_ip": address, "security_groups": ["fw"]}
        if few(draw, 4):
            found[name]["source_dest_check"] = False
    return found


def _acl(draw: Draw) -> Lab:
    """What holds something up, of packets to targets and of those that come back."""

    def side() -> list[Lab]:
        some = {
            "rule": 1,
            "protocol": "udp",
            "ports": draw(st.sampled_from(["6081-6081", "49152-57343"])),
            "cidr": draw(st.sampled_from(["10.8.2.0/24", "10.1.0.0/16", "10.0.0.0/8"])),
            "action": draw(st.sampled_from(["allow", "deny"])),
        }
        return [some, {"rule": 2, "protocol": "all", "cidr": "0.0.0.0/0", "action": "allow"}]

    return {"ingress": side(), "egress": side()}


def runtime(draw: Draw, lab: Lab) -> Lab:
    """How targets are, and who was one before (`topology.runtime_state`), as data."""
    health, former = [], []
    for group, declared in lab["vpcs"]["guard"]["target_groups"].items():
        healthy = draw(st.booleans())
        for target in declared["targets"]:
            if not healthy or few(draw, 4):
                health.append(["guard", group, target, draw(st.sampled_from(STATES))])
    left = sorted(set(TARGETS) - set(lab["vpcs"]["guard"]["target_groups"]["fleet"]["targets"]))
    if left and draw(st.booleans()):
        zone = "us-east-1b" if left[0] == "fw3" else "us-east-1a"
        former.append(["guard", "fleet", left[0], TARGETS[left[0]], zone, draw(st.booleans()), 301_000])
    return {"health": health, "former": former}


# -- those who use it


def _inspect_shop(draw: Draw, shop: Lab, offers: Lab, *, six: bool) -> None:
    shop["subnets"] |= {
        "gwlbe": {"cidr": "10.0.7.0/24", "ipv6_cidr": "2001:db8:10:7::/64", "route_table": "inspected"},
        "again": {"cidr": "10.0.8.0/24", "availability_zone": "a", "route_table": "through"},
    }
    if few(draw, 4):
        shop["subnets"]["gwlbe"]["network_acl"] = "edge"
    _offer(draw, shop, offers, "shop/inspect", "gwlbe", SERVICES[0])
    _offer(draw, shop, offers, "shop/again", "again", SERVICES[1])
    out = draw(st.sampled_from(["internet-gateway", "internet-gateway", "nat-gateway:nat", "vpc-endpoint:again"]))
    out6 = draw(st.sampled_from(["internet-gateway", "internet-gateway", "egress-only-internet-gateway"]))
    if six and few(draw, 4):
        out6 = "vpc-endpoint:again"
    onward = draw(st.sampled_from(["internet-gateway", "internet-gateway", "nat-gateway:nat"]))
    shop["route_tables"] |= {
        "inspected": {"routes": [_route(DEFAULTS[0], out), _route(DEFAULTS[1], out6)]},
        "through": {"routes": [_route(DEFAULTS[0], onward), _route(DEFAULTS[1], "internet-gateway")]},
    }
    for table in ("inspected", "through"):
        if draw(st.booleans()):
            shop["route_tables"][table]["routes"].append(_route("10.1.0.0/16", "peering:p"))
    for table, destination in draw(st.lists(st.sampled_from(SHOP_ROUTES), min_size=4, max_size=9, unique=True)):
        if table in shop["route_tables"] and (six or ":" not in destination):
            endpoint = "again" if few(draw, 4) else "inspect"
            lead(shop["route_tables"][table]["routes"], destination, f"vpc-endpoint:{endpoint}")


def _inspect_store(draw: Draw, store: Lab, offers: Lab) -> None:
    store["subnets"]["gwlbe"] = {"cidr": "10.1.7.0/24", "route_table": "inspected"}
    _offer(draw, store, offers, "store/inspect", "gwlbe", draw(st.sampled_from(SERVICES)))
    back = draw(st.sampled_from(["peering:p", "peering:p", "nat-gateway:back"]))
    store["route_tables"]["inspected"] = {"routes": [_route("10.0.0.0/16", back)]}
    ways = [("data", "10.1.2.0/24"), ("deep", "10.1.1.0/24"), ("data", "10.0.0.0/16"), ("deep", "10.0.0.0/16")]
    for table, destination in draw(st.lists(st.sampled_from(ways), max_size=3, unique=True)):
        lead(store["route_tables"][table]["routes"], destination, "vpc-endpoint:inspect")


def _inspect_twin(draw: Draw, twin: Lab, offers: Lab, *, six: bool) -> None:
    main = twin["route_tables"]["main"]["routes"]
    twin["subnets"]["gwlbe"] = {
        "cidr": "10.0.7.0/24",
        "ipv6_cidr": "2001:db8:30:7::/64",
        "route_table": "inspected",
    }
    twin["route_tables"]["inspected"] = {"routes": [dict(route) for route in main]}
    _offer(draw, twin, offers, "twin/inspect", "gwlbe", SERVICES[0])
    for route in main:
        if draw(st.booleans()) and (six or ":" not in route["destination"]):
            route["target"] = "vpc-endpoint:inspect"
    if "internet_gateway" in twin and draw(st.booleans()):
        twin["internet_gateway"]["route_table"] = "edge"
        twin["route_tables"]["edge"] = {"routes": [_route("10.0.1.0/24", "vpc-endpoint:inspect")]}


def _offer(draw: Draw, vpc: Lab, offers: Lab, path: str, subnet: str, service: str) -> None:
    name = path.partition("/")[2]
    vpc.setdefault("gateway_load_balancer_endpoints", {})[name] = {"service": service, "subnet": subnet}
    offers[path] = (service, draw(st.sampled_from([*["accepted"] * 14, "rejected", "pending"])))


def _route(destination: str, target: str) -> dict[str, str]:
    return {"destination": destination, "target": target}


def lead(routes: list[dict[str, str]], destination: str, target: str) -> None:
    """Have a table lead somewhere, instead of where it led before."""
    for route in routes:
        if route["destination"] == destination:
            route["target"] = target
            return
    routes.append(_route(destination, target))

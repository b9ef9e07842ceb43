"""Labs with every construct there is.

`strategies.labs` draws rules and routes of one fixed shape densely; here the shape itself is drawn: several VPCs (some
with the same blocks), secondary blocks and addresses, further interfaces, attached or not, prefix lists, main tables,
default groups, assigned addresses, peerings in every state and between Regions, routes more specific than local,
propagated ones, tables of the internet gateway, NAT gateways of both kinds with further addresses, NAT64, egress-only
gateways, timeouts and settings. Load balancers and endpoints come from `balanced_labs`.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.property.balanced_labs import add_balancers, add_services, few
from tests.property.lab_packets import Draw
from tests.property.strategies import HOSTS, PORTS

Lab = dict[str, Any]
PEERING_STATES = ("active", "active", "active", "active", "deleted", "pending-acceptance")
BLOCKS = ("0.0.0.0/0", "10.0.0.0/16", "10.0.1.0/24", "10.0.2.10/32", "198.51.100.10/32", "203.0.113.0/24")
BLOCKS6 = ("::/0", "2001:db8:10:2::/64", "2001:db8:99::10/128", "64:ff9b::/96")
NEAR = ("198.51.100.77/32", "198.51.100.0/28", "10.9.0.0/16")
NAT64 = "64:ff9b::/96"

SETTINGS: dict[str, tuple[Any, ...]] = {
    "internet_gateway_ttl": ("decrement", "keep"),
    "peering_ttl": ("keep", "decrement"),
    "inter_region_too_big": ("answer", "silent"),
    "arp_for_unassigned": ("silent", "router"),
    "tcp_opening_timeout": (10, 120),
    "tcp_closing_timeout": (5, 90),
    "icmp_timeout": (5, 100),
    "nat_closing_timeout": (5, 400),
    "egress_only_tcp_timeout": (60, 400),
    "egress_only_other_timeout": (30, 400),
    "fragment_timeout": (5, 60),
    "balancer_closing_timeout": (5, 400),
}
TRACKING: dict[str, tuple[int, ...]] = {
    "tcp_established_timeout": (60, 350),
    "udp_stream_timeout": (60, 179),
    "udp_timeout": (45, 60),
}


def _traffic(draw: Draw, *, six: bool = False) -> dict[str, Any]:
    protocol = draw(st.sampled_from(["tcp", "udp", "icmpv6" if six else "icmp", "all", "all", 47]))
    found: dict[str, Any] = {"protocol": protocol}
    if protocol in ("tcp", "udp"):
        first = draw(st.sampled_from(PORTS))
        last = draw(st.sampled_from([p for p in PORTS if p >= first]))
        found["ports"] = draw(st.sampled_from(["0-65535", f"{first}-{last}"]))
    elif protocol in ("icmp", "icmpv6") and draw(st.booleans()):
        kind = draw(st.sampled_from([128, 129, 1, 3] if six else [0, 3, 8, 11]))
        found["icmp"] = {"type": kind, "code": draw(st.sampled_from([-1, 0, 3, 4]))}
    return found


def group_rules(draw: Draw, name: str, end: str, references: list[str]) -> list[dict[str, Any]]:
    """Up to four rules of one side of the security group called `name`."""
    rules: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(0, 4))):
        peer = draw(st.sampled_from([*references, "0.0.0.0/0"] if draw(st.integers(0, 2)) else [*BLOCKS, *BLOCKS6]))
        peer = "self" if peer == f"group:{name}" else peer
        is_wide = peer in references and draw(st.integers(0, 2))
        rule = {**({"protocol": "all"} if is_wide else _traffic(draw, six=peer in BLOCKS6)), end: peer}
        if rule not in rules:
            rules.append(rule)
    return rules


def groups(draw: Draw, references: list[str]) -> Lab:
    """Groups one and two, drawn, and one that is open to everybody."""
    found: Lab = {}
    for name in ("one", "two"):
        found[name] = {"description": name, "ingress": group_rules(draw, name, "source", references)}
        if few(draw, 3):
            found[name]["egress"] = group_rules(draw, name, "destination", references)
    anywhere = [{"protocol": "all", "source": block} for block in ("0.0.0.0/0", "::/0")]
    return found | {"open": {"description": "open", "ingress": anywhere}}


def acl(draw: Draw) -> Lab:
    """A network ACL; mostly what no drawn rule names is allowed."""

    def side() -> list[dict[str, Any]]:
        found = []
        for number in draw(st.lists(st.sampled_from([1, 90, 100, 110, 32766]), unique=True, max_size=3)):
            cidr = draw(st.sampled_from([*BLOCKS, *BLOCKS6]))
            action = draw(st.sampled_from(["allow", "deny"]))
            found.append({"rule": number, **_traffic(draw, six=cidr in BLOCKS6), "cidr": cidr, "action": action})
        for number, cidr in ((200, "0.0.0.0/0"), (201, "::/0")):
            if not few(draw, 6):
                found.append({"rule": number, "protocol": "all", "cidr": cidr, "action": "allow"})
        return draw(st.permutations(found))

    return {"ingress": side(), "egress": side()}


EXTRA = (
    ("198.51.100.77/32", "blackhole"),
    ("198.51.100.0/24", "instance:d"),
    ("198.51.100.10/32", "network-interface:spare"),
    ("prefix-list:near", "network-interface:b/eth1"),
    ("prefix-list:near", "internet-gateway"),
    ("169.254.0.0/16", "internet-gateway"),
    ("10.0.0.0/8", "peering:p"),
    ("2001:db8:20::/56", "peering:p"),
    ("2001:db8:20::/56", "peering:p"),
    ("2001:db8:99::10/128", "blackhole"),
    ("10.0.3.0/24", "nat-gateway:nat"),
    ("10.0.3.0/24", "instance:d"),
    ("10.0.0.0/16", "network-interface:b/eth1"),
    ("100.64.0.0/16", "nat-gateway:inner"),
    ("100.64.0.0/16", "nat-gateway:inner"),
    ("100.64.0.0/16", "nat-gateway:nat"),
    ("fd00::/8", "internet-gateway"),
    ("64:ff9b::c633:640a/128", "nat-gateway:nat"),
)


def routes(draw: Draw, *always: tuple[str, str]) -> list[dict[str, str]]:
    """Those with a target (empty: none), and up to three more."""
    found = [{"destination": destination, "target": target} for destination, target in always if target]
    for destination, target in draw(st.lists(st.sampled_from(EXTRA), max_size=3, unique=True)):
        if destination not in [each["destination"] for each in found]:
            found.append({"destination": destination, "target": target})
    return found


def propagated(draw: Draw) -> list[dict[str, str]]:
    """What a route server has learned: beside static routes, equal to them, and inside the VPC."""
    learned = [
        ("10.9.0.0/16", "instance:d"),
        ("198.51.100.0/24", "network-interface:b/eth0"),
        ("198.51.100.77/32", "network-interface:second"),
        ("0.0.0.0/0", "instance:d"),
        ("::/0", "instance:a"),
        ("10.0.3.0/24", "network-interface:b/eth0"),
        ("2001:db8:99::/48", "instance:a"),
    ]
    chosen = draw(st.lists(st.sampled_from(learned), max_size=2, unique=True))
    return [{"destination": destination, "target": target} for destination, target in chosen]


def edge_routes(draw: Draw) -> list[dict[str, str]]:
    """Routes of the internet gateway's own table."""
    blocks = ["10.0.0.0/16", "10.0.1.0/24", "10.0.2.0/24", "10.0.3.0/24", "100.64.1.0/24", "2001:db8:10::/56"]
    blocks += ["10.0.1.0/24", "2001:db8:10:1::/64", "2001:db8:10:2::/64"]
    targets = ["instance:a", "instance:a", "network-interface:second", "blackhole"]
    targets += ["network-interface:b/eth0"] * 3 + ["instance:d"] * 2
    chosen = draw(st.lists(st.sampled_from(blocks), min_size=1, max_size=3, unique=True))
    whole = ("10.0.0.0/16", "2001:db8:10::/56")
    targets += ["network-interface:spare"]
    return [
        {"destination": each, "target": draw(st.sampled_from(["local", *targets] if each in whole else targets))}
        for each in chosen
    ]


def member(draw: Draw) -> Lab:
    """What an interface has of its own: groups, check, timeouts."""
    chosen = draw(st.sampled_from([["open"], ["open"], ["one"], ["one"], ["one", "two"], ["one", "open"], ["two"], []]))
    found: Lab = {"security_groups": chosen} if chosen else {}
    if few(draw, 4):
        found["source_dest_check"] = False
    if draw(st.booleans()):
        limits = {key: draw(st.sampled_from(values)) for key, values in TRACKING.items() if draw(st.booleans())}
        found["connection_tracking"] = limits
    return found


def _shop(draw: Draw, references: list[str]) -> Lab:
    default = draw(st.sampled_from(["nat-gateway:nat", "nat-gateway:nat", "internet-gateway", "blackhole"]))
    default6 = draw(st.sampled_from(["egress-only-internet-gateway"] * 3 + ["internet-gateway", ""]))
    to_store = draw(st.sampled_from(["peering:p", "nat-gateway:inner", "nat-gateway:inner", "nat-gateway:nat", ""]))
    nat64 = draw(st.sampled_from(["nat-gateway:nat", "nat-gateway:nat", "nat-gateway:inner", ""]))
    public_nat64 = draw(st.sampled_from(["nat-gateway:nat", ""]))
    nat: Lab = {
        "subnet": draw(st.sampled_from(["public", "public", "public", "plain"])),
        "elastic_ip": "203.0.113.10",
    }
    if draw(st.booleans()):
        nat |= {"secondary_private_ips": ["10.0.1.6"], "secondary_elastic_ips": ["203.0.113.11"], "subnet": "public"}
    inner: Lab = {"subnet": draw(st.sampled_from(["public", "plain"])), "connectivity": "private"}
    if inner["subnet"] == "plain" and draw(st.booleans()):
        inner["secondary_private_ips"] = ["10.0.3.6", "10.0.3.7"]
    subnets: Lab = {
        "public": {
            "cidr": "10.0.1.0/24",
            "ipv6_cidr": "2001:db8:10:1::/64",
            "route_table": "public",
            "map_public_ip_on_launch": draw(st.booleans()),
        },
        "private": {"cidr": "10.0.2.0/24", "ipv6_cidr": "2001:db8:10:2::/64", "route_table": "private"},
        "plain": {"cidr": "10.0.3.0/24", "route_table": draw(st.sampled_from(["public", "public", "private"]))},
        "shared": {"cidr": "100.64.1.0/24", "route_table": "public"},
    }
    if few(draw, 4):
        del subnets["plain"]["route_table"]
    for name in ("public", "private", "plain"):
        if few(draw, 4):
            subnets[name]["network_acl"] = "edge"
    public = [("0.0.0.0/0", "internet-gateway"), ("::/0", "internet-gateway"), (NAT64, public_nat64)]
    public.append(("10.1.0.0/16", draw(st.sampled_from(["peering:p", "peering:p", ""]))))
    private = [("0.0.0.0/0", default), ("::/0", default6), (NAT64, nat64), ("10.1.0.0/16", to_store)]
    edge = draw(st.booleans())
    return {
        "cidr": "10.0.0.0/16",
        "secondary_cidrs": ["100.64.0.0/16"],
        "ipv6_cidrs": ["2001:db8:10::/56"],
        "internet_gateway": {"route_table": "edge"} if edge else {},
        "egress_only_internet_gateway": {},
        "subnets": subnets,
        "route_tables": {
            "public": {"routes": routes(draw, *public), "propagated_routes": propagated(draw)},
            "private": {
                "main": draw(st.booleans()),
                "routes": routes(draw, *private),
                "propagated_routes": propagated(draw),
            },
            **({"edge": {"routes": edge_routes(draw)}} if edge else {}),
        },
        "network_acls": {"edge": acl(draw)},
        "security_groups": groups(draw, references),
        "nat_gateways": {"nat": nat, "inner": inner},
        "network_interfaces": {
            "second": {
                "subnet": "private",
                "private_ips": ["10.0.2.21", "10.0.2.22"],
                "ipv6_addresses": ["2001:db8:10:2::21"],
                "elastic_ips": {"10.0.2.22": "203.0.113.22"},
                "attachment": {"instance": "b", "device_index": 1},
                **member(draw),
            },
            "spare": {"subnet": "public", "private_ips": ["10.0.1.31"], "elastic_ips": {"10.0.1.31": "203.0.113.31"}},
        },
    }


def _store(draw: Draw, references: list[str]) -> Lab:
    back = [("10.0.0.0/16", "peering:p"), ("2001:db8:10::/56", "peering:p"), ("0.0.0.0/0", "peering:p")]
    kept = [(destination, target if draw(st.booleans()) else "") for destination, target in back]
    return {
        "cidr": "10.1.0.0/16",
        "ipv6_cidrs": ["2001:db8:20::/56"],
        "subnets": {
            "data": {"cidr": "10.1.1.0/24", "ipv6_cidr": "2001:db8:20:1::/64", "route_table": "data"},
            "deep": {"cidr": "10.1.2.0/24", "route_table": "deep"},
        },
        "route_tables": {
            "data": {"routes": [{"destination": each, "target": target} for each, target in kept if target]},
            "deep": {"routes": [{"destination": "10.0.0.0/16", "target": "nat-gateway:back"}]},
        },
        "nat_gateways": {"back": {"subnet": "data", "connectivity": "private"}},
        "security_groups": groups(draw, references),
    }


def _twin(draw: Draw) -> Lab:
    """A VPC with shop's block, and one or both of the gateways."""
    has = draw(st.sampled_from(["both", "internet", "egress-only"]))
    found: Lab = {
        "cidr": "10.0.0.0/16",
        "ipv6_cidrs": ["2001:db8:30::/56"],
        "subnets": {"public": {"cidr": "10.0.1.0/24", "ipv6_cidr": "2001:db8:30:1::/64"}},
        "route_tables": {"main": {"routes": []}},
    }
    out = found["route_tables"]["main"]["routes"]
    if has != "internet":
        found["egress_only_internet_gateway"] = {}
        out.append({"destination": "::/0", "target": "egress-only-internet-gateway"})
    if has != "egress-only":
        found["internet_gateway"] = {}
        found["subnets"]["public"]["map_public_ip_on_launch"] = True
        out.append({"destination": "0.0.0.0/0", "target": "internet-gateway"})
        six = "::/0" if has == "internet" else "2001:db8:99::77/128"
        out.append({"destination": six, "target": "internet-gateway"})
    return found


@st.composite
def wide_labs(draw: st.DrawFn) -> Lab:
    """A lab file, as the plain structure it is written from."""
    state = draw(st.sampled_from(PEERING_STATES))
    far = few(draw, 3)
    references = ["self", "group:one", "group:two", "prefix-list:near"]
    known_peer = not far and state in ("active", "deleted")
    peering: Lab = {"requester": "shop", "accepter": "store", "status": state}
    if far:
        peering["accepter_region"] = "eu-west-1"

    def instance(vpc: str, subnet: str, address: str, **more: Any) -> Lab:
        own = member(draw) if vpc != "twin" else {"security_groups": ["default"]}
        return {"vpc": vpc, "subnet": subnet, "private_ip": address, **own, **more}

    lab: Lab = {
        "version": 1,
        "name": "wide",
        "quotas": {"elastic_ips_per_region": 9},
        "settings": {key: draw(st.sampled_from(values)) for key, values in SETTINGS.items() if few(draw, 3)},
        "prefix_lists": {"near": {"entries": [{"cidr": each} for each in NEAR]}},
        "vpcs": {
            "shop": _shop(draw, [*references, *["group:store/one"] * 4] if known_peer else references),
            "store": _store(draw, [*references, *["group:shop/one"] * 4] if known_peer else references),
            "twin": _twin(draw),
        },
        "peerings": {"p": peering},
        "instances": {
            "a": instance(
                "shop", "public", "10.0.1.10", ipv6_address="2001:db8:10:1::10", elastic_ip="203.0.113.20",
                secondary_private_ips=["10.0.1.12"],
            ),
            "b": instance("shop", "public", "10.0.1.11"),
            "c": instance("shop", "private", "10.0.2.10", ipv6_address="2001:db8:10:2::10"),
            "d": instance("shop", "plain", "10.0.3.10"),
            "e": instance("store", "data", "10.1.1.10", ipv6_address="2001:db8:20:1::10"),
            "f": instance("shop", "shared", "100.64.1.10"),
            "g": instance("store", "deep", "10.1.2.10"),
            "t": instance("twin", "public", "10.0.1.10", ipv6_address="2001:db8:30:1::10"),
        },
        "internet": {"hosts": {name: {"address": four, "ipv6_address": six} for name, (four, six) in HOSTS.items()}},
    }  # fmt: skip
    if draw(st.booleans()):
        add_balancers(draw, lab)
    if few(draw, 3):
        add_services(draw, lab)
    for vpc in ("shop", "store", "twin"):
        if draw(st.integers(0, 3)):
            lab["vpcs"][vpc]["flow_logs"] = {"log": _flow_log(draw, lab, vpc)}
    return lab


def _flow_log(draw: st.DrawFn, lab: Lab, vpc: str) -> Lab:
    declared = lab["vpcs"][vpc]
    subnets = [{"subnet": name} for name in declared["subnets"]]
    interfaces = [{"network_interface": f"{n}/eth0"} for n, each in lab["instances"].items() if each["vpc"] == vpc]
    gateways = [{"network_interface": f"nat-gateway:{name}"} for name in declared.get("nat_gateways", {})]
    return draw(st.sampled_from([{}, {}, *subnets, *interfaces, *gateways]))

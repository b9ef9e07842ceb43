"""Whole networks, drawn: valid lab files of one to three VPCs with what usually is in them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from dataplane.load import load_topology
from dataplane.topology import Topology

_PORTS = (22, 53, 80, 443, 1024, 5432, 65535)
_EVERYTHING = ("0.0.0.0/0", "::/0")
_SUBNETS = ("public", "private", "data")


def topologies() -> st.SearchStrategy[Topology]:
    """Networks, read and checked: what `lab_files` draws, loaded."""
    return lab_files().map(lambda lab: load_topology(json.dumps(lab), file_name="drawn.yaml"))


@st.composite
def lab_files(draw: st.DrawFn) -> dict[str, Any]:
    """Lab files as plain structures (``json.dumps`` makes a lab file's text of one); each is valid.

    VPCs ``vpc0`` to ``vpc2``, some with the same CIDR blocks, each with subnets ``public`` (always), ``private`` and
    ``data``; in each subnet an instance ``vpc0-public`` and so on, sometimes a second, ``vpc0-public-b``. Drawn too:
    IPv6, internet and NAT gateways, peerings in several states, security groups with references, network ACLs, routes
    and blackholes, Elastic IPs, source/destination checks. Hosts ``host0`` and ``host1`` are on the internet.
    """
    count = draw(st.integers(1, 3))
    overlapping = draw(st.integers(0, 4)) == 4
    vpcs: dict[str, Any] = {}
    instances: dict[str, Any] = {}
    for n in range(count):
        vpcs[f"vpc{n}"] = _vpc(draw, n, 0 if overlapping else n, instances)
    peerings: dict[str, Any] = {}
    if not overlapping:
        for n in range(count - 1):
            if draw(st.integers(0, 3)) < 3:
                peerings[f"peer{n}"] = _peering(draw, vpcs, n)
    return {
        "version": 1,
        "name": "drawn",
        "quotas": {"elastic_ips_per_region": 50},
        "vpcs": vpcs,
        "peerings": peerings,
        "instances": instances,
        "internet": {
            "hosts": {
                "host0": {"address": "198.51.100.10", "ipv6_address": "2001:db8:ffff::10"},
                "host1": {"address": "198.51.100.77"},
            }
        },
    }


def _vpc(draw: st.DrawFn, n: int, block: int, instances: dict[str, Any]) -> dict[str, Any]:
    names = _SUBNETS[: draw(st.integers(1, 3))]
    has_gateway = draw(st.integers(0, 3)) > 0
    has_nat = has_gateway and len(names) > 1 and draw(st.booleans())
    has_ipv6 = draw(st.booleans())
    vpc: dict[str, Any] = {"cidr": f"10.{block}.0.0/16", "security_groups": _groups(draw, has_ipv6)}
    if has_ipv6:
        vpc["ipv6_cidrs"] = [f"2001:db8:{n}::/56"]
    if has_gateway:
        vpc["internet_gateway"] = {}
    if has_nat:
        vpc["nat_gateways"] = {"nat": {"subnet": "public", "elastic_ip": f"203.0.113.{10 + n}"}}
    has_acl = draw(st.booleans())
    if has_acl:
        vpc["network_acls"] = {"edge": {"ingress": _acl(draw), "egress": _acl(draw)}}
    subnets: dict[str, Any] = {}
    for at, name in enumerate(names, 1):
        subnets[name] = {"cidr": f"10.{block}.{at}.0/24", "availability_zone": "ab"[at % 2], "route_table": name}
        if has_ipv6:
            subnets[name]["ipv6_cidr"] = f"2001:db8:{n}:{at}::/64"
        if has_acl and draw(st.booleans()):
            subnets[name]["network_acl"] = "edge"
        for nth, suffix in enumerate(("", "-b")[: draw(st.integers(1, 2))]):
            instances[f"vpc{n}-{name}{suffix}"] = _instance(
                draw, n, name, f"10.{block}.{at}.{10 + nth}", f"2001:db8:{n}:{at}::{10 + nth}" if has_ipv6 else "",
                f"203.0.113.{20 + 10 * n + 2 * at + nth}" if has_gateway and name == "public" else "",
            )  # fmt: skip
    vpc["subnets"] = subnets
    vpc["route_tables"] = {name: {"routes": _routes(draw, name, has_gateway, has_nat, has_ipv6)} for name in names}
    return vpc


def _instance(draw: st.DrawFn, n: int, subnet: str, address: str, address6: str, elastic_ip: str) -> dict[str, Any]:
    groups = draw(st.lists(st.sampled_from(["web", "app", "open"]), min_size=1, max_size=2, unique=True))
    found: dict[str, Any] = {"vpc": f"vpc{n}", "subnet": subnet, "private_ip": address, "security_groups": groups}
    if address6:
        found["ipv6_address"] = address6
    if elastic_ip and draw(st.booleans()):
        found["elastic_ip"] = elastic_ip
    if draw(st.integers(0, 7)) == 7:
        found["source_dest_check"] = False
    return found


def _routes(draw: st.DrawFn, name: str, has_gateway: bool, has_nat: bool, has_ipv6: bool) -> list[dict[str, str]]:
    targets = {
        "public": ["internet-gateway"] if has_gateway else [],
        "private": (["nat-gateway:nat", "nat-gateway:nat"] if has_nat else []) + ["blackhole"],
        "data": ["blackhole"],
    }[name]
    routes = []
    if targets and draw(st.integers(0, 3)) < 3:
        routes.append({"destination": "0.0.0.0/0", "target": draw(st.sampled_from(targets))})
    if has_ipv6 and has_gateway and name == "public":
        routes.append({"destination": "::/0", "target": "internet-gateway"})
    if draw(st.integers(0, 4)) == 4:
        routes.append({"destination": "198.51.100.77/32", "target": "blackhole"})
    return routes


def _peering(draw: st.DrawFn, vpcs: dict[str, Any], n: int) -> dict[str, Any]:
    """A peering of VPCs n and n + 1, with routes over it on both sides, or one, or none."""
    for here, there in ((n, n + 1), (n + 1, n)):
        for table in vpcs[f"vpc{here}"]["route_tables"].values():
            if draw(st.integers(0, 3)) < 3:
                table["routes"].append({"destination": f"10.{there}.0.0/16", "target": f"peering:peer{n}"})
    status = draw(st.sampled_from(["active", "active", "active", "pending-acceptance", "deleted"]))
    return {"requester": f"vpc{n}", "accepter": f"vpc{n + 1}", "status": status}


def _traffic(draw: st.DrawFn) -> dict[str, Any]:
    protocol = draw(st.sampled_from(["tcp", "tcp", "udp", "icmp", "all"]))
    if protocol not in ("tcp", "udp"):
        return {"protocol": protocol}
    ends = sorted(draw(st.tuples(st.sampled_from(_PORTS), st.sampled_from(_PORTS))))
    return {"protocol": protocol, "ports": f"{ends[0]}-{ends[1]}"}


def _rules(draw: st.DrawFn, group: str, end: str, most: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    itself = draw(st.sampled_from(["self", f"group:{group}"]))  # two names of one: AWS takes no rule twice
    other = "group:app" if group == "web" else "group:web"
    for _ in range(draw(st.integers(0, most))):
        peers = ["0.0.0.0/0", "10.0.0.0/8", "10.0.1.0/24", "198.51.100.10/32", itself, other]
        rule = {**_traffic(draw), end: draw(st.sampled_from(peers))}
        if rule not in found:
            found.append(rule)
    return found


def _groups(draw: st.DrawFn, has_ipv6: bool) -> dict[str, Any]:
    groups: dict[str, Any] = {}
    for name in ("web", "app"):
        groups[name] = {"description": name, "ingress": _rules(draw, name, "source", 3)}
        if draw(st.integers(0, 3)) == 3:
            groups[name]["egress"] = _rules(draw, name, "destination", 2)
    anywhere = _EVERYTHING if has_ipv6 else _EVERYTHING[:1]
    groups["open"] = {
        "description": "everything in, everything out",
        "ingress": [{"protocol": "all", "source": block} for block in anywhere],
    }
    return groups


def _acl(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = []
    for number in draw(st.lists(st.sampled_from([90, 100, 110]), max_size=2, unique=True)):
        block = draw(st.sampled_from(["0.0.0.0/0", "10.0.0.0/16", "10.0.2.0/24", "198.51.100.0/24"]))
        action = draw(st.sampled_from(["allow", "deny"]))
        found.append({"rule": number, **_traffic(draw), "cidr": block, "action": action})
    for number, block in zip((200, 201), _EVERYTHING, strict=True):
        if draw(st.integers(0, 5)) < 5:
            found.append({"rule": number, "protocol": "all", "cidr": block, "action": "allow"})
    return found

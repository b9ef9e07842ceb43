"""Rows about routes, NAT gateways and translations. Sessions and counters are played by a fake data plane."""

from __future__ import annotations

from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dataplane.engine import DataPlane
from dataplane.load import load_topology
from dataplane.names import Names
from dataplane.topology import Topology
from lab import tables
from lab.control import RequestError

LAB = """
version: 1
prefix_lists:
  offices: {entries: [{cidr: 192.0.2.0/24}]}
vpcs:
  v:
    cidr: 10.0.0.0/16
    ipv6_cidrs: ["2001:db8:a::/56"]
    internet_gateway: {route_table: edge}
    subnets:
      public: {cidr: 10.0.1.0/24, route_table: public}
      private: {cidr: 10.0.2.0/24, ipv6_cidr: "2001:db8:a:2::/64", route_table: private}
      inspection: {cidr: 10.0.3.0/24}
    route_tables:
      edge: {routes: [{destination: 10.0.1.0/24, target: "instance:fw"}]}
      public: {routes: [{destination: 0.0.0.0/0, target: internet-gateway}]}
      private:
        routes:
          - {destination: 0.0.0.0/0, target: "nat-gateway:nat"}
          - {destination: "prefix-list:offices", target: "instance:fw"}
          - {destination: 198.51.100.0/24, target: blackhole}
        propagated_routes:
          - {destination: 172.16.0.0/12, target: "instance:fw"}
          - {destination: 10.0.9.0/24, target: "instance:fw"}
    nat_gateways:
      nat: {subnet: public, elastic_ip: 203.0.113.10, private_ip: 10.0.1.5,
        secondary_private_ips: [10.0.1.6], secondary_elastic_ips: [203.0.113.11]}
      inner: {subnet: inspection, connectivity: private, private_ip: 10.0.3.5}
instances:
  fw: {vpc: v, subnet: inspection, private_ip: 10.0.3.10, source_dest_check: false}
"""

V4, V6 = (int(ip_address(text)) for text in ("10.0.2.10", "2001:db8:a:2::10"))
FAR, OWN, EMBEDDED = (int(ip_address(text)) for text in ("198.51.100.10", "10.0.1.6", "64:ff9b::c633:640a"))


@pytest.fixture(scope="module")
def topology() -> Topology:
    return load_topology(LAB, file_name="tables.yaml")


def plane(*sessions: dict[str, Any]) -> DataPlane:
    names = Names()
    owner = names.intern("nat-gateway", "v/nat")
    times = {"kind": "nat", "owner": owner, "state": "open", "age_ms": 9000, "limit_ms": 350_000}
    every = [{**times, "idle_ms": index, **session} for index, session in enumerate(sessions)]
    return cast(
        "DataPlane",
        SimpleNamespace(
            names=names,
            engine=SimpleNamespace(sessions=lambda: every),
            nat_metrics=lambda: {"v/nat": {"IdleTimeoutCount": 3}, "v/inner": {"IdleTimeoutCount": 0}},
        ),
    )


def test_translations_of_both_families(topology: Topology) -> None:
    rows = tables.translations(
        plane(
            {"forward": (4, V4, FAR, 6, 40000, 80), "reply": (4, FAR, OWN, 6, 80, 2000)},
            {"forward": (6, V6, EMBEDDED, 17, 40001, 53), "reply": (4, FAR, OWN, 17, 53, 2001)},
        ),
        topology,
    )
    shown = [tuple(row[key] for key in ("protocol", "inside", "translated", "public", "outside")) for row in rows]
    assert shown == [
        ("tcp", "10.0.2.10:40000", "10.0.1.6:2000", "203.0.113.11", "198.51.100.10:80"),
        ("udp", "[2001:db8:a:2::10]:40001", "10.0.1.6:2001", "203.0.113.11", "198.51.100.10:53"),
    ]


def test_flows_of_groups_and_gateways(topology: Topology) -> None:
    data_plane = plane()
    names = data_plane.names
    forward, reply = (6, V6, EMBEDDED, 17, 5, 53), (6, EMBEDDED, V6, 17, 53, 5)
    common = {"forward": forward, "reply": reply, "packets": (1, 2), "bytes": (100, 200), "state": "stream"}
    times = {"age_ms": 3000, "limit_ms": 180_000}
    sessions = [
        {"kind": "group", "owner": names.intern("interface", "fw/eth0"), "rule": 0, "idle_ms": 2, **common, **times},
        {
            "kind": "flow",
            "owner": names.intern("egress-only-internet-gateway", "v"),
            "rule": 0,
            "idle_ms": 1,
            **common,
            **times,
        },
        {"kind": "nat", "owner": 1, "rule": 0, "idle_ms": 0, **common, **times},
    ]
    data_plane.engine.sessions = lambda: sessions  # type: ignore[method-assign]
    rows = tables.flows(data_plane, limit=10)
    assert [row["owner"] for row in rows] == ["egress-only-internet-gateway v", "fw/eth0"]
    assert rows[0]["original"] == "[2001:db8:a:2::10]:5 > [64:ff9b::c633:640a]:53"
    assert len(tables.flows(data_plane, limit=1)) == 1
    times_told = {key: rows[1][key] for key in ("age_s", "idle_s", "expires_s")}
    assert times_told == {"age_s": 3.0, "idle_s": 0.002, "expires_s": 179.998}, "a flow dies of silence, not of age"


def test_a_balanced_flow_has_a_target_and_a_cookie_of_32_bits(topology: Topology) -> None:
    """Eight digits, as traces show it: with fewer nobody finds the one in the other."""
    data_plane = plane()
    names = data_plane.names
    ends = {"forward": (4, V4, FAR, 6, 5, 80), "reply": (4, FAR, V4, 6, 80, 5), "packets": (1, 0), "bytes": (40, 0)}
    session = {"kind": "balancer", "owner": names.intern("vpc-endpoint", "v/gwlb"), "rule": 0, "cookie": 0x1A, **ends}
    session |= {
        "target": names.intern("target", "v/fleet fw"),
        "state": "open",
        "age_ms": 1,
        "idle_ms": 1,
        "limit_ms": 2,
    }
    data_plane.engine.sessions = lambda: [session]  # type: ignore[method-assign]
    [row] = tables.flows(data_plane, limit=10)
    assert (row["owner"], row["target"], row["cookie"], row["rule"]) == (
        "vpc-endpoint v/gwlb",
        "v/fleet fw",
        "0000001a",
        None,
    )


def test_gateways_show_all_their_addresses_and_their_counters(topology: Topology) -> None:
    public, private = tables.gateways(plane(), topology)
    assert public == {
        "gateway": "v/nat",
        "subnet": "v/public",
        "connectivity": "public",
        "private": ["10.0.1.5", "10.0.1.6"],
        "public": ["203.0.113.10", "203.0.113.11"],
        "metrics": {"IdleTimeoutCount": 3},
    }
    assert (private["gateway"], private["connectivity"], private["public"]) == ("v/inner", "private", [])


def test_public_addresses_are_of_whoever_has_the_private_one_in_that_vpc() -> None:
    twins = load_topology(
        """
version: 1
vpcs:
  left: &vpc {cidr: 10.0.0.0/16, internet_gateway: {}, subnets: {s: {cidr: 10.0.1.0/24}}}
  right: {<<: *vpc, nat_gateways: {nat: {subnet: s, elastic_ip: 203.0.113.22, private_ip: 10.0.1.5}}}
instances:
  a: {vpc: left, subnet: s, private_ip: 10.0.1.10, elastic_ip: 203.0.113.20}
  b: {vpc: right, subnet: s, private_ip: 10.0.1.10, elastic_ip: 203.0.113.21}
""",
        file_name="tables.yaml",
    )
    shown = {(row["public"], row["gateway"], row["private"], row["of"]) for row in tables.mappings(twins)}
    assert shown == {
        ("203.0.113.20", "left", "10.0.1.10", "interface a/eth0"),
        ("203.0.113.21", "right", "10.0.1.10", "interface b/eth0"),
        ("203.0.113.22", "right", "10.0.1.5", "nat-gateway right/nat"),
    }


def test_routes_say_where_they_come_from_and_who_uses_them(topology: Topology) -> None:
    rows = {row["destination"]: row for row in tables.routes(topology, "v/private")}
    origins = {destination: row["origin"] for destination, row in rows.items()}
    assert origins == {
        "0.0.0.0/0": "static",
        "10.0.0.0/16": "local",
        "2001:db8:a::/56": "local",
        "192.0.2.0/24": "prefix-list:offices",
        "198.51.100.0/24": "static",
        "172.16.0.0/12": "propagated",
        "10.0.9.0/24": "propagated",
    }
    states = {row["destination"]: row["state"] for row in rows.values() if row["state"] != "active"}
    assert states == {"198.51.100.0/24": "blackhole", "10.0.9.0/24": "not used"}, "local wins inside the VPC"
    assert {tuple(row["subnets"]) for row in rows.values()} == {("private",)}
    assert {row["gateway"] for row in rows.values()} == {None}


def test_a_propagated_route_beside_a_static_one_is_there_and_not_used() -> None:
    """Of two routes to one destination the static one is taken (VPC guide, "Route priority")."""
    both = LAB.replace("destination: 172.16.0.0/12", "destination: 198.51.100.0/24")
    rows = tables.routes(load_topology(both, file_name="tables.yaml"), "v/private")
    found = [(row["origin"], row["state"]) for row in rows if row["destination"] == "198.51.100.0/24"]
    assert found == [("static", "blackhole"), ("propagated", "not used")]


def test_a_gateway_table_names_its_gateway(topology: Topology) -> None:
    rows = tables.routes(topology, "v/edge")
    assert {(tuple(row["subnets"]), row["gateway"]) for row in rows} == {((), "internet-gateway")}
    assert [row["target"] for row in rows if row["destination"] == "10.0.1.0/24"] == ["instance:fw"]


def test_no_such_table(topology: Topology) -> None:
    with pytest.raises(RequestError, match=r"no route table 'v/x'; there is .*v/edge"):
        tables.routes(topology, "v/x")

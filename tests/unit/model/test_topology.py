"""The resolved lab as a whole, over labs drawn at random."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dataplane.compile import compile_program
from tests.unit.model.building import instance, lab, peered, problems, program, topology, vpc

GROUPS = ("web", "app", "default")


@st.composite
def labs(draw: st.DrawFn) -> dict[str, Any]:
    """Sections of a lab that is right: two VPCs, perhaps peered, with what their routes and groups can refer to."""
    dual = draw(st.booleans())
    subnets: dict[str, Any] = {}
    for number in range(draw(st.integers(1, 4))):
        subnet: dict[str, Any] = {"cidr": f"10.0.{number}.0/24", "availability_zone": draw(st.sampled_from("ab"))}
        if dual and draw(st.booleans()):
            subnet["ipv6_cidr"] = f"2001:db8:0:{number}::/64"
            subnet["assign_ipv6_address_on_creation"] = draw(st.booleans())
        subnet["map_public_ip_on_launch"] = draw(st.booleans())
        subnet["network_acl"] = draw(st.sampled_from(["edge", None]))
        subnet["route_table"] = draw(st.sampled_from(["main", "other", None]))
        subnets[f"s{number}"] = subnet
    names = st.sampled_from(sorted(subnets))
    sources = st.sampled_from(["0.0.0.0/0", "::/0", "self", "group:web", "group:app", "prefix-list:partners"])
    shop = vpc(
        internet_gateway={},
        ipv6_cidrs=["2001:db8::/56"] if dual else [],
        subnets=subnets,
        nat_gateways={"nat": {"subnet": draw(names), "elastic_ip": "203.0.113.10"}},
        network_acls={"edge": {"ingress": [{"rule": 1, "protocol": "all", "cidr": "::/0", "action": "allow"}]}},
        security_groups={
            name: {
                "ingress": [
                    {"protocol": "icmpv6" if source == "::/0" else "icmp", "source": source}
                    for source in draw(st.sets(sources))
                    if source != f"group:{name}"  # it is self
                ],
                "egress": draw(st.sampled_from([None, []])),
            }
            for name in ("web", "app")
        },
    )
    targets = st.sampled_from(["internet-gateway", "nat-gateway:nat", "peering:link", "blackhole", "instance:i0"])
    shop["route_tables"] = {
        table: {
            "routes": [
                {"destination": destination, "target": draw(targets)}
                for destination in draw(st.sets(st.sampled_from(["0.0.0.0/0", "10.1.0.0/16", "prefix-list:partners"])))
            ]
        }
        for table in ("main", "other")
    }
    declared = peered()
    declared["vpcs"]["shop"] = shop
    declared["peerings"]["link"]["status"] = draw(st.sampled_from(["active", "deleted"]))
    declared["prefix_lists"] = {"partners": {"entries": [{"cidr": "198.51.100.0/24"}, {"cidr": "192.0.2.0/24"}]}}
    declared["instances"] = {
        f"i{number}": instance(draw(names), security_groups=sorted(draw(st.sets(st.sampled_from(GROUPS)))))
        for number in range(draw(st.integers(1, 5)))
    }
    declared["internet"] = {"hosts": {"visitor": {"address": "198.51.100.77"}}}
    return declared


@given(labs())
def test_a_lab_that_is_right_lowers_to_a_sound_program_that_compiles(declared: dict[str, Any]) -> None:
    assert problems(lab(**declared)) == []
    compile_program(program(**declared), generation=1)


@given(labs())
def test_no_private_address_is_given_twice_in_a_vpc(declared: dict[str, Any]) -> None:
    placed = topology(**declared)
    for name in placed.lab.vpcs:
        addresses = [a for each in placed.interfaces_of_vpc(name) for a in (*each.addresses4, *each.addresses6)]
        assert len(set(addresses)) == len(addresses)
        routers = {address for home in placed.subnets.values() if home.vpc == name for address in home.routers}
        assert not routers & set(addresses)


@given(labs())
def test_every_interface_is_in_its_subnet(declared: dict[str, Any]) -> None:
    for each in topology(**declared).interfaces:
        for address in (*each.addresses4, *each.addresses6):
            assert any(address in cidr for cidr in each.subnet.cidrs)


@given(labs())
def test_the_same_lab_is_the_same_program(declared: dict[str, Any]) -> None:
    assert program(**declared).nodes == program(**declared).nodes
    assert program(**declared).interfaces == program(**declared).interfaces


def test_interfaces_are_found_by_path_and_by_name() -> None:
    eni = {"subnet": "one", "attachment": {"instance": "fw", "device_index": 1}}
    placed = topology(
        vpcs={"shop": vpc(network_interfaces={"eni": eni, "spare": {"subnet": "one"}})}, instances={"fw": instance()}
    )
    paths = [getattr(placed.find_interface("shop", name), "path", None) for name in ("fw/eth1", "eni", "spare", "x")]
    assert paths == ["fw/eth1", "fw/eth1", "shop/spare", None]
    assert placed.find_interface("shop", "fw") is None

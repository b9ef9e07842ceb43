from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest

from dataplane.model._placed import link_local, mac_of
from dataplane.program import Drop, Emit, GroupSession, Guard
from dataplane.verdict import Reason
from tests.unit.model.building import chain, expect, instance, lab, problems, program, routes, shape, topology, vpc


def sections(**fields: Any) -> dict[str, Any]:
    """VPC shop with instances fw (zone a) and web (zone b), and one network interface, eni, of these fields."""
    declared = vpc(
        internet_gateway={},
        subnets={
            "one": {"cidr": "10.0.1.0/24"},
            "near": {"cidr": "10.0.2.0/24"},
            "far": {"cidr": "10.0.3.0/24", "availability_zone": "b"},
        },
        network_interfaces={"eni": {"subnet": "near", **fields}},
    )
    return {
        "vpcs": {"shop": declared, "store": vpc("10.1.0.0/16")},
        "instances": {"fw": instance(), "web": instance("far"), "other": instance(vpc="store")},
    }


def to(name: str, index: int = 1) -> dict[str, Any]:
    return {"instance": name, "device_index": index}


@pytest.mark.parametrize(
    ("fields", "path", "code", "words"),
    [
        ({"subnet": "neer"}, ".subnet", "InvalidSubnetID.NotFound", "did you mean near?"),
        ({"security_groups": ["x"]}, ".security_groups[0]", "InvalidGroup.NotFound", "there is default"),
        ({"attachment": to("fww")}, ".attachment.instance", "InvalidInstanceID.NotFound", "did you mean fw?"),
        ({"attachment": to("fw", 0)}, ".attachment.device_index", "InvalidParameterValue", "own first interface"),
        ({"attachment": to("fw", 15)}, ".attachment.device_index", "InvalidParameterValue", "from 1 to 14"),
        ({"attachment": to("other")}, ".attachment.instance", "InvalidParameterCombination", "is in VPC store"),
        ({"attachment": to("web")}, ".attachment.instance", "InvalidParameterCombination", "one Availability Zone"),
        ({"private_ips": ["10.0.1.9"]}, ".private_ips[0]", "InvalidParameterValue", "it is in subnet one"),
        ({"private_ips": ["10.9.1.9"]}, ".private_ips[0]", "InvalidParameterValue", "from 10.0.2.4 to 10.0.2.254"),
        ({"private_ips": ["10.0.2.3"]}, ".private_ips[0]", "InvalidParameterValue", "reserved by AWS"),
        ({"private_ips": ["10.0.2.255"]}, ".private_ips[0]", "InvalidParameterValue", "reserved by AWS"),
        ({"private_ips": ["10.0.2.9", "10.0.2.9"]}, ".private_ips[1]", "InvalidIPAddress.InUse", "private_ips[0]"),
        ({"ipv6_addresses": ["2001:db8::9"]}, ".ipv6_addresses[0]", "InvalidParameterCombination", "no IPv6 block"),
        (
            {"private_ips": ["10.0.2.9"], "elastic_ips": {"10.0.2.10": "203.0.113.9"}},
            ".elastic_ips.10.0.2.10",
            "InvalidParameterValue",
            "it has 10.0.2.9",
        ),
    ],
)
def test_what_aws_refuses(fields: dict[str, Any], path: str, code: str, words: str) -> None:
    expect(lab(**sections(**fields)), f"vpcs.shop.network_interfaces.eni{path}", code, words)


def test_a_device_index_is_there_once() -> None:
    declared = sections(attachment=to("fw"))
    declared["vpcs"]["shop"]["network_interfaces"]["again"] = {"subnet": "one", "attachment": to("fw")}
    path = "vpcs.shop.network_interfaces.again.attachment.device_index"
    expect(lab(**declared), path, "InvalidParameterValue", "has eni at device index 1 already")


def test_an_address_in_use_elsewhere() -> None:
    declared = sections(private_ips=["10.0.2.9"])
    declared["instances"]["x"] = instance("near", private_ip="10.0.2.9")
    words = "in use already, at vpcs.shop.network_interfaces.eni.private_ips[0]"
    expect(lab(**declared), "instances.x.private_ip", "InvalidIPAddress.InUse", words)


def test_several_elastic_ips() -> None:
    public = {"10.0.2.9": "203.0.113.9", "10.0.2.10": "203.0.113.10"}
    declared = sections(private_ips=["10.0.2.9", "10.0.2.10"], elastic_ips=public, attachment=to("fw"))
    placed = topology(**declared)
    eni = placed.find_interface("shop", "eni")
    assert eni is not None
    assert placed.public_addresses_of(eni) == {IPv4Address(k): IPv4Address(v) for k, v in public.items()}


def test_a_subnet_that_assigns_ipv6_addresses_gives_one_to_it_too() -> None:
    declared = sections()
    declared["vpcs"]["shop"]["ipv6_cidrs"] = ["2001:db8::/56"]
    six = {"ipv6_cidr": "2001:db8:0:2::/64", "assign_ipv6_address_on_creation": True}
    declared["vpcs"]["shop"]["subnets"]["near"] |= six
    eni = topology(**declared).find_interface("shop", "eni")
    assert eni is not None
    assert [str(address) for address in eni.addresses6] == ["2001:db8:0:2::4"]


@pytest.mark.parametrize("attached", [True, False])
def test_the_elastic_ip_of_an_interface_that_is_not_attached_leads_nowhere(attached: bool) -> None:
    fields = {"attachment": to("fw")} if attached else {}
    made = program(**sections(private_ips=["10.0.2.9"], elastic_ips={"10.0.2.9": "203.0.113.9"}, **fields))
    translation = (IPv4Address("10.0.2.9"), IPv4Address("203.0.113.9"))
    assert made.maps["internet-gateway:shop"] == ([translation] if attached else [])
    assert routes(made, "internet") == {"203.0.113.9/32": "internet-gateway:shop/in"}


def test_interfaces_of_an_instance_by_device_index() -> None:
    declared = sections(attachment=to("fw", 3))
    declared["vpcs"]["shop"]["network_interfaces"]["second"] = {"subnet": "one", "attachment": to("fw", 1)}
    found = topology(**declared).interfaces_of("fw")
    assert [(each.path, each.device) for each in found] == [
        ("fw/eth0", "eth0"),
        ("fw/eth1", "eth1"),
        ("fw/eth3", "eth3"),
    ]


def test_both_ways_with_and_without_the_check() -> None:
    checked, unchecked = (program(**sections(attachment=to("fw"), source_dest_check=check)) for check in (True, False))
    assert shape(checked, "interface:fw/eth1/out")[:4] == ["Guard", "Guard SOURCE_CHECK", "GroupSession", "Bridge"]
    # the second guard takes its groups from what it forwards for others
    assert shape(unchecked, "interface:fw/eth1/out")[:4] == ["Guard", "Guard", "GroupSession", "Bridge"]
    assert shape(checked, "interface:fw/eth1/in") == [
        "Filter ACL_INGRESS",
        "GroupSession",
        "Guard DESTINATION_CHECK",
        "Emit",
    ]
    assert shape(unchecked, "interface:fw/eth1/in") == ["Filter ACL_INGRESS", "GroupSession", "Emit"]


def test_its_own_router_is_asked_before_anything_else() -> None:
    lowered = program(**sections(attachment=to("fw")))
    first = chain(lowered, "interface:fw/eth1/out")[0]
    assert isinstance(first, Guard)
    assert (first.otherwise, first.negate) == ("subnet:shop/near/router", True)
    assert [str(each) for each in lowered.sets[first.table]] == ["10.0.2.1/32"]


def test_own_addresses_are_all_of_them() -> None:
    lowered = program(**sections(attachment=to("fw"), private_ips=["10.0.2.9", "10.0.2.10"]))
    assert [str(each) for each in lowered.sets["interface:fw/eth1"]] == ["10.0.2.9/32", "10.0.2.10/32"]


def test_an_interface_in_the_program() -> None:
    lowered = program(**sections(attachment=to("fw"), private_ips=["10.0.2.9"]))
    interface = lowered.interfaces["interface:fw/eth1"]
    assert interface.port == interface.number == lowered.names.find("interface", "fw/eth1")
    assert (str(lowered.names[interface.realm]), str(lowered.names[interface.subnet])) == (
        "vpc shop",
        "subnet shop/near",
    )
    assert str(lowered.names[interface.zone]) == "availability-zone us-east-1a"
    assert (interface.mtu, str(interface.address4), str(interface.router4)) == (9001, "10.0.2.9", "10.0.2.1")
    (context,) = [each for each in lowered.contexts if each.number == interface.number]
    assert (context.entry, context.neighbours) == ("interface:fw/eth1/out", "subnet:shop/near")
    emit, session = chain(lowered, "interface:fw/eth1/in")[-1], chain(lowered, "interface:fw/eth1/in")[1]
    assert isinstance(emit, Emit)
    assert isinstance(session, GroupSession)
    assert (emit.interface, session.policy) == ("interface:fw/eth1", "interface:fw/eth1")


def test_an_interface_that_is_not_attached_keeps_its_address_and_drops() -> None:
    lowered = program(**sections(private_ips=["10.0.2.9"]))
    assert routes(lowered, "vpc:shop/hosts")["10.0.2.9/32"] == "network-interface:shop/eni/in"
    assert {each.rule for each in lowered.fibs["vpc:shop/hosts"] if str(each.prefix) == "10.0.2.9/32"} == {0}
    drop = lowered.nodes["network-interface:shop/eni/in"]
    assert isinstance(drop, Drop)
    assert drop.reason is Reason.PORT_DOWN
    assert "network-interface:shop/eni" not in lowered.interfaces
    assert problems(lab(**sections(private_ips=["10.0.2.9"]))) == []


def test_the_address_of_an_interface_that_is_not_attached_is_not_free_for_the_router_to_answer() -> None:
    """`arp_for_unassigned` is about addresses that nobody has."""
    lowered = program(**sections(private_ips=["10.0.2.9"]), settings={"arp_for_unassigned": "router"})
    answers = {str(prefix): mac for prefix, mac in lowered.neighbours["subnet:shop/near"]}
    assert answers["10.0.2.9/32"] is None
    assert answers["10.0.2.0/24"] == answers["10.0.2.1/32"] is not None


def test_macs_follow_from_names_alone() -> None:
    before = topology(**sections(attachment=to("fw")))
    declared = sections(attachment=to("fw"), private_ips=["10.0.2.77"])
    declared["instances"]["a"] = instance()
    after = topology(**declared)
    macs = {each.path: each.mac for each in after.interfaces}
    assert all(macs[each.path] == each.mac for each in before.interfaces)
    assert all(mac[0] == 2 and len(mac) == 6 for mac in macs.values())


def test_a_mac_that_is_taken_is_not_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def colliding(path: str, attempt: int = 0) -> bytes:
        return mac_of("same", attempt)

    monkeypatch.setattr("dataplane.topology.placing.mac_of", colliding)
    placed = topology(**sections())
    assert len({each.mac for each in placed.interfaces}) == len(placed.interfaces)


def test_link_local_address_of_a_mac() -> None:
    assert str(link_local(bytes.fromhex("021122334455"))) == "fe80::11:22ff:fe33:4455"

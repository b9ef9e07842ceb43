from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.model.building import expect, instance, lab, problems, program, topology, vpc

DUAL = vpc(
    ipv6_cidrs=["2001:db8::/56"],
    subnets={
        "one": {"cidr": "10.0.1.0/28", "ipv6_cidr": "2001:db8:0:1::/64"},
        "auto": {"cidr": "10.0.2.0/24", "ipv6_cidr": "2001:db8:0:2::/64", "assign_ipv6_address_on_creation": True},
    },
)


@pytest.mark.parametrize(
    ("fields", "key", "code", "words"),
    [
        ({"vpc": "shp"}, "vpc", "InvalidVpcID.NotFound", "did you mean shop?"),
        ({"subnet": "on"}, "subnet", "InvalidSubnetID.NotFound", "did you mean one?"),
        ({"private_ip": "10.0.1.0"}, "private_ip", "InvalidParameterValue", "reserved by AWS"),
        ({"private_ip": "10.0.1.15"}, "private_ip", "InvalidParameterValue", "reserved by AWS"),
        ({"private_ip": "10.0.1.16"}, "private_ip", "InvalidParameterValue", "from 10.0.1.4 to 10.0.1.14"),
        ({"private_ip": "10.0.2.9"}, "private_ip", "InvalidParameterValue", "it is in subnet auto"),
        ({"secondary_private_ips": ["10.0.1.1"]}, "secondary_private_ips[0]", "InvalidParameterValue", "reserved"),
        ({"ipv6_address": "2001:db8:0:1::3"}, "ipv6_address", "InvalidParameterValue", "reserved by AWS"),
        (
            {"ipv6_address": "2001:db8:0:1:ffff:ffff:ffff:ffff"},
            "ipv6_address",
            "InvalidParameterValue",
            "reserved by AWS",
        ),
        ({"ipv6_address": "2001:db8:0:2::9"}, "ipv6_address", "InvalidParameterValue", "it is in subnet auto"),
        ({"security_groups": ["web"]}, "security_groups[0]", "InvalidGroup.NotFound", "there is default"),
        ({"environment": {"A": "\0"}}, "environment.A", "", "NUL"),
        ({"programs": {"x": {"command": []}}}, "programs.x.command", "", "no program to run"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], key: str, code: str, words: str) -> None:
    expect(lab(vpcs={"shop": DUAL}, instances={"web": instance(**fields)}), f"instances.web.{key}", code, words)


def test_two_instances_with_one_address() -> None:
    instances = {"a": instance(private_ip="10.0.1.9"), "b": instance(private_ip="10.0.1.9")}
    declared = lab(vpcs={"shop": DUAL}, instances=instances)
    expect(declared, "instances.b.private_ip", "InvalidIPAddress.InUse", "at instances.a.private_ip")


def test_what_is_not_written_down_is_the_lowest_free_address() -> None:
    placed = topology(
        vpcs={"shop": DUAL},
        instances={
            "a": instance(),
            "b": instance(private_ip="10.0.1.5"),
            "c": instance(secondary_private_ips=["10.0.1.7"]),
            "d": instance(),
            "e": instance("auto"),
            "f": instance("auto", ipv6_address="2001:db8:0:2::4"),
            "g": instance("auto"),
        },
    )
    found = {
        each.instance: [str(address) for address in (*each.addresses4, *each.addresses6)] for each in placed.interfaces
    }
    assert found == {
        "a": ["10.0.1.4"],
        "b": ["10.0.1.5"],
        "c": ["10.0.1.6", "10.0.1.7"],
        "d": ["10.0.1.8"],
        "e": ["10.0.2.4", "2001:db8:0:2::5"],
        "f": ["10.0.2.5", "2001:db8:0:2::4"],
        "g": ["10.0.2.6", "2001:db8:0:2::6"],
    }


def test_the_first_interface_is_called_eth0() -> None:
    lowered = program(vpcs={"shop": DUAL}, instances={"web": instance(ipv6_address="2001:db8:0:1::9")})
    interface = lowered.interfaces["interface:web/eth0"]
    assert lowered.names[interface.number].path == "web/eth0"
    assert (str(interface.address6), str(interface.router6)) == ("2001:db8:0:1::9", "2001:db8:0:1::1")


@given(st.lists(st.one_of(st.none(), st.integers(4, 14)), max_size=13))
def test_addresses_given_never_collide_and_are_never_reserved(wanted: list[int | None]) -> None:
    taken: set[int] = set()
    instances = {}
    for number, last in enumerate(wanted):
        fields = {} if last is None or last in taken else {"private_ip": f"10.0.1.{last}"}
        taken |= {last} if fields and last is not None else set()
        instances[f"i{number}"] = instance(**fields)
    declared = lab(vpcs={"shop": DUAL}, instances=instances)
    found = problems(declared)
    if len(instances) > 11:  # a /28 has 16 addresses, and AWS keeps 5
        assert [each.code for each in found] == ["InsufficientFreeAddressesInSubnet"] * (len(instances) - 11)
        return
    assert found == []
    placed = topology(vpcs={"shop": DUAL}, instances=instances)
    addresses = [each.addresses4[0] for each in placed.interfaces]
    assert len(set(addresses)) == len(addresses)
    assert all(4 <= int(address) % 256 <= 14 for address in addresses)


@pytest.mark.parametrize("attach", ["tap:tap0", "tap:fw.a-1", "netns:/run/netns/fw", "netns:/proc/1/ns/net"])
def test_devices_that_may_be_attached(attach: str) -> None:
    assert problems(lab(vpcs={"shop": DUAL}, instances={"a": instance(attach=attach)})) == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"attach": "tap0"}, "no device"),
        ({"attach": "bridge:br0"}, "no device"),
        ({"attach": "tap:"}, "name of a device"),
        ({"attach": "tap:sixteen-letters-"}, "name of a device"),
        ({"attach": "tap:a/b"}, "name of a device"),
        ({"attach": "tap:.."}, "name of a device"),
        ({"attach": "tap:a%d"}, "name of a device"),
        ({"attach": "netns:fw"}, "not absolute"),
        ({"attach": "tap:t", "programs": {"x": {"command": ["true"]}}}, "no namespace for its programs"),
        ({"attach": "tap:t", "environment": {"A": "b"}}, "no namespace for its environment"),
    ],
)
def test_what_cannot_be_attached(fields: dict[str, Any], words: str) -> None:
    (problem,) = problems(lab(vpcs={"shop": DUAL}, instances={"a": instance(**fields)}))
    assert problem.path == "instances.a.attach"
    assert words in problem.message


def test_a_tap_device_is_one_interface() -> None:
    second = {"subnet": "one", "attachment": {"instance": "a", "device_index": 1}}
    shop = {**DUAL, "network_interfaces": {"eni": second}}
    assert problems(lab(vpcs={"shop": shop}, instances={"a": instance(attach="netns:/run/netns/a")})) == []
    (problem,) = problems(lab(vpcs={"shop": shop}, instances={"a": instance(attach="tap:t")}))
    assert (problem.path, problem.hint) == ("instances.a.attach", "attach a netns")


def test_a_device_is_one_instance() -> None:
    twice = {name: instance(attach="tap:t") for name in ("a", "b")}
    (problem,) = problems(lab(vpcs={"shop": DUAL}, instances=twice))
    assert (problem.path, problem.message) == ("instances.b.attach", "tap:t is instance a already")

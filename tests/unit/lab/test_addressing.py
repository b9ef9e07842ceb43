from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from lab import addressing, netlink
from lab.node_plan import InterfacePlan, NodePlan, same_interfaces


def interface(device: str, *addresses: tuple[str, int], port: int = 1, **options: object) -> InterfacePlan:
    chosen: dict[str, object] = {
        "gateway4": IPv4Address("10.0.1.1"),
        "gateway6": IPv6Address("fe80::1"),
        "mac": bytes.fromhex("02aabbccddee"),
        **options,
    }
    parsed = tuple((ip_address(text), length) for text, length in addresses)
    return InterfacePlan(port=port, device=device, addresses=parsed, **chosen)  # type: ignore[arg-type]


def routes(*interfaces: InterfacePlan) -> list[str]:
    plan = NodePlan(name="web", interfaces=interfaces)
    indexes = {i.device: number for number, i in enumerate(interfaces, 2)}
    return [message.what for message in addressing.route_messages(plan, indexes).values()]


def addresses(*interfaces: InterfacePlan) -> list[str]:
    plan = NodePlan(name="web", interfaces=interfaces)
    indexes = {i.device: number for number, i in enumerate(interfaces, 2)}
    return [message.what for message in addressing.address_messages(plan, indexes).values()]


def test_link_local_address_of_the_rfc_example() -> None:
    # RFC 4291, appendix A: the universal/local bit is inverted and FFFE put in the middle.
    assert addressing.link_local(bytes.fromhex("34567 89abcde".replace(" ", ""))) == IPv6Address(
        "fe80::3656:78ff:fe9a:bcde"
    )


def test_one_interface_has_one_default_route_per_family_and_no_rules() -> None:
    assert routes(interface("eth0", ("10.0.1.10", 24), ("2001:db8::10", 64))) == [
        "route 0.0.0.0/0 in table 254",
        "route ::/0 in table 254",
    ]


def test_a_family_without_address_or_gateway_has_no_route() -> None:
    assert routes(interface("eth0", ("10.0.1.10", 24))) == ["route 0.0.0.0/0 in table 254"]
    assert routes(interface("eth0", ("10.0.1.10", 24), gateway4=None)) == []


def test_with_several_interfaces_each_address_leaves_by_its_own() -> None:
    found = routes(
        interface("eth0", ("10.0.1.10", 24)),
        interface("eth1", ("10.0.2.10", 24), ("10.0.2.11", 24), port=2, gateway4=IPv4Address("10.0.2.1")),
    )
    assert found == [
        "route 0.0.0.0/0 in table 254",
        "route 10.0.1.0/24 in table 1000",
        "route 0.0.0.0/0 in table 1000",
        "rule from 10.0.1.10 to table 1000",
        "route 10.0.2.0/24 in table 1001",
        "route 0.0.0.0/0 in table 1001",
        "rule from 10.0.2.10 to table 1001",
        "rule from 10.0.2.11 to table 1001",
    ]


def test_only_ipv6_interfaces_get_a_link_local_address() -> None:
    assert addresses(interface("eth0", ("10.0.1.10", 24))) == ["address 10.0.1.10/24"]
    assert addresses(interface("eth0", ("2001:db8::10", 128))) == [
        "address 2001:db8::10/128",
        "address fe80::aa:bbff:fecc:ddee/64",
    ]


def test_interfaces_are_the_same_when_device_and_port_are() -> None:
    old = NodePlan(name="fw", interfaces=(interface("eth0", port=1), interface("eth1", port=2)))
    new = NodePlan(name="fw", interfaces=(interface("eth0", port=1), interface("eth1", port=3)))
    assert same_interfaces(old, new) == {"eth0": 1}


@pytest.mark.parametrize("length", [30, 31, 32])
def test_only_networks_with_room_for_one_have_a_broadcast_address(length: int) -> None:
    body = netlink.address(2, IPv4Address("10.0.0.1"), length).body
    assert (struct.pack("=HH", 8, 4) in body) == (length < 31)


def test_ipv6_addresses_are_not_tentative() -> None:
    body = netlink.address(2, IPv6Address("2001:db8::1"), 64).body
    assert struct.pack("=HHI", 8, 8, 0x82) in body  # IFA_FLAGS: IFA_F_PERMANENT, IFA_F_NODAD

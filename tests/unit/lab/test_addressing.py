"""What kernels of nodes are told of their interfaces, and what they hold after changes; the kernel is a fake."""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from lab import addressing, netlink
from lab.netlink import Message, Netlink
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


class FakeKernel(Netlink):
    """Holds addresses, routes and rules, as a namespace does; refuses what a kernel refuses."""

    def __init__(self, *holds: str) -> None:
        self.holds = set(holds)
        self.fewest_addresses = 1 << 30
        """At any moment since it was looked at."""

    def commit(self, messages: Sequence[Message], *, ignore: frozenset[int] = frozenset()) -> None:
        for message in messages:
            code = self._take(message)
            if code and code not in ignore:
                raise OSError(code, message.what)
            addresses = sum(each.startswith("address ") for each in self.holds)
            self.fewest_addresses = min(self.fewest_addresses, addresses)

    def _take(self, message: Message) -> int:
        if message.kind in (netlink._DELADDR, netlink._DELROUTE, netlink._DELRULE):
            if message.what not in self.holds:
                return errno.EADDRNOTAVAIL if message.kind == netlink._DELADDR else errno.ESRCH
            self.holds.remove(message.what)
        elif message.kind != netlink._NEWLINK:
            if message.what in self.holds and message.flags & netlink._EXCLUDE:
                return errno.EEXIST
            self.holds.add(message.what)
        return 0


ETH0 = interface("eth0", ("10.0.1.10", 24), ("2001:db8:1::10", 64))
OTHER0 = interface("eth0", ("10.0.1.77", 24))
ETH1 = interface("eth1", ("10.0.2.10", 24), port=2, gateway4=IPv4Address("10.0.2.1"))
PLANS = {"one": (ETH0,), "other": (OTHER0,), "two": (ETH0, ETH1), "changed": (OTHER0, ETH1), "turned": (ETH1, ETH0)}


def configured(interfaces: tuple[InterfacePlan, ...], attach: str = "") -> addressing.Configuration:
    return NodePlan(name="web", interfaces=interfaces, attach=attach), {
        each.device: 1 + each.port for each in interfaces
    }


def fresh(interfaces: tuple[InterfacePlan, ...], attach: str = "") -> set[str]:
    """What a namespace holds that was never another one."""
    kernel = FakeKernel()
    addressing.configure(kernel, *configured(interfaces, attach), alias=None if attach else "web")
    return kernel.holds


@pytest.mark.parametrize("attach", ["", "netns:/run/netns/x"])
@pytest.mark.parametrize("new", PLANS)
@pytest.mark.parametrize("old", PLANS)
def test_after_a_change_there_is_what_there_would_be_without_one(old: str, new: str, attach: str) -> None:
    """And never a moment without an address: a kernel would forget all its routes."""
    kernel = FakeKernel("address 192.0.2.1/24", "rule from 192.0.2.1 to table 7")
    addressing.configure(kernel, *configured(PLANS[old], attach), alias=None if attach else "web")
    kernel.fewest_addresses = 1 << 30
    addressing.reconfigure(kernel, [configured(PLANS[old], attach)], configured(PLANS[new], attach))
    assert kernel.holds == fresh(PLANS[new], attach) | {"address 192.0.2.1/24", "rule from 192.0.2.1 to table 7"}
    assert kernel.fewest_addresses > 1, "that of somebody else does not count"


def test_a_change_that_failed_half_way_is_undone_from_both() -> None:
    kernel = FakeKernel()
    addressing.configure(kernel, *configured(PLANS["one"]), alias="web")
    kernel.holds |= fresh(PLANS["two"])
    addressing.reconfigure(kernel, [configured(PLANS["two"]), configured(PLANS["one"])], configured(PLANS["one"]))
    assert kernel.holds == fresh(PLANS["one"])


def test_routes_of_somebody_else_are_not_replaced_in_a_namespace_that_is_not_ours() -> None:
    for attach, refused in (("", False), ("netns:/run/netns/x", True)):
        kernel = FakeKernel("route 0.0.0.0/0 in table 254")
        if refused:
            with pytest.raises(FileExistsError):
                addressing.configure(kernel, *configured(PLANS["one"], attach), alias=None)
        else:
            addressing.configure(kernel, *configured(PLANS["one"], attach), alias="web")
            assert kernel.holds == fresh(PLANS["one"])


def test_rules_that_a_killed_lab_left_are_no_obstacle() -> None:
    """In a namespace that is not ours they outlive the devices that they were for."""
    attach = "netns:/run/netns/x"
    left = {each for each in fresh(PLANS["two"], attach) if each.startswith("rule ")}
    assert len(left) == 3
    kernel = FakeKernel(*left)
    addressing.configure(kernel, *configured(PLANS["two"], attach), alias=None)
    assert kernel.holds == fresh(PLANS["two"], attach)


@pytest.mark.parametrize("devices", ["eth0 eth1", "eth1", ""])
def test_what_was_given_is_taken_and_nothing_else(devices: str) -> None:
    """Of a device that is gone, the addresses and routes are gone; its rules are not."""
    attach = "netns:/run/netns/x"
    kernel = FakeKernel("address 192.0.2.1/24", "rule from 192.0.2.1 to table 7")
    plan, indexes = configured(PLANS["two"], attach)
    addressing.configure(kernel, plan, indexes, alias=None)
    there = {device: indexes[device] for device in devices.split()}
    rules = {each for each in kernel.holds if each.startswith("rule ")}
    of_devices = {each.what for each in addressing.address_messages(plan, there).values()}
    of_devices |= {each.what for each in addressing.route_messages(plan, there).values()}
    kernel.holds &= rules | of_devices | {"address 192.0.2.1/24"}
    addressing.unconfigure(kernel, [(plan, there)])
    assert kernel.holds == {"address 192.0.2.1/24", "rule from 192.0.2.1 to table 7"}


def test_an_address_that_is_alone_on_its_link_has_no_route_to_itself() -> None:
    found = routes(interface("eth0", ("198.51.100.10", 32), ("2001:db8::10", 128)), ETH1)
    assert not [each for each in found if "198.51.100.10/32" in each or "2001:db8::10/128" in each]


def test_two_addresses_of_one_subnet_have_one_route_to_it() -> None:
    found = routes(interface("eth0", ("10.0.1.10", 24), ("10.0.1.11", 24)), ETH1)
    assert found.count("route 10.0.1.0/24 in table 1000") == 1

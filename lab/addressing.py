"""What the kernel of a node is told about its interfaces: sysctls, links, addresses, routes and rules.

The kernel must never do the router's work: it does not forward, does not accept redirects or router
advertisements, and answers ARP only for the interface that was asked. It takes addresses as they are given:
no duplicate address detection, no autoconfiguration, no router solicitations.

A node without IPv6 addresses has IPv6 off on its interfaces (not on loopback), so that it sends nothing nobody
asked for. One with IPv6 addresses also has the link-local address that RFC 4291 (2.5.6, appendix A) derives from the
MAC, as instances have.

With one interface there is one routing table. With several, packets are routed by the address they come *from*
(one table and one rule per address), so that replies leave by the interface that was asked; packets without
a source address yet follow the main table, whose default route is the first interface's.

In a namespace that is not ours (`NodePlan.attach`) no route is replaced: one that is in the way is somebody else's, and
EEXIST is raised.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv6Address, ip_network

from lab import netlink
from lab.netlink import Message, Netlink
from lab.node_plan import InterfacePlan, NodePlan

Configuration = tuple[NodePlan, dict[str, int]]
"""A plan, and the interface indexes of its devices."""
FIRST_TABLE = 1000
"""Routing table of the first interface; also the priority of its rules."""

_SYSCTL4 = {
    "ip_forward": "0",  # a new namespace inherits this from the host, and hosts with containers forward
    "ip_unprivileged_port_start": "0",
    "conf/all/rp_filter": "0",
    "conf/default/rp_filter": "0",
    "conf/all/accept_redirects": "0",
    "conf/default/accept_redirects": "0",
    "conf/all/send_redirects": "0",
    "conf/default/send_redirects": "0",
    "conf/all/arp_ignore": "1",
    "conf/all/arp_announce": "2",
    "conf/all/promote_secondaries": "1",  # removing one address must not take others of its subnet away
    "conf/default/promote_secondaries": "1",
}
_SYSCTL6 = {
    "conf/all/forwarding": "0",
    "conf/default/forwarding": "0",
    "conf/default/accept_ra": "0",
    "conf/default/autoconf": "0",
    "conf/default/accept_dad": "0",
    "conf/default/dad_transmits": "0",
    "conf/default/router_solicitations": "0",
    "conf/default/accept_redirects": "0",
    "conf/default/addr_gen_mode": "1",  # none: the link-local address is ours to give
}


def write_sysctls(plan: NodePlan, *, last_group: int) -> None:
    """Set the current network namespace up; before devices are made, so that they get the defaults.

    Groups 0 to `last_group` may ping without privileges. Raises OSError; a kernel without IPv6 is one
    (EAFNOSUPPORT) only when the plan has IPv6 addresses.
    """
    ipv4 = os.open("/proc/sys/net/ipv4", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name, value in _SYSCTL4.items():
            _write(ipv4, name, value)
        _write(ipv4, "ping_group_range", f"0 {last_group}")
    finally:
        os.close(ipv4)
    uses_ipv6 = has_ipv6(plan)
    try:
        ipv6 = os.open("/proc/sys/net/ipv6", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        if uses_ipv6:
            raise OSError(errno.EAFNOSUPPORT, "the kernel has no IPv6", plan.name) from None
        return
    try:
        for name, value in _SYSCTL6.items():
            _write(ipv6, name, value)
        _write(ipv6, "conf/default/disable_ipv6", "0" if uses_ipv6 else "1")
    finally:
        os.close(ipv6)


def write_device_sysctls(plan: NodePlan) -> None:
    """Set the devices of a node up in a network namespace that is not ours, whose other settings are not ours either.

    Before they are up. Raises OSError.
    """
    names = {name.removeprefix("conf/default/"): value for name, value in _SYSCTL6.items() if "/default/" in name}
    del names["forwarding"]
    names["disable_ipv6"] = "0" if has_ipv6(plan) else "1"
    root = os.open("/proc/sys/net", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for interface in plan.interfaces:
            for name, value in names.items():
                _write(root, f"ipv6/conf/{interface.kernel_device}/{name}", value)
    except FileNotFoundError:
        if has_ipv6(plan):
            raise OSError(errno.EAFNOSUPPORT, "the kernel has no IPv6", plan.name) from None
    finally:
        os.close(root)


def switch_ipv6(devices: Sequence[str], *, on: bool) -> None:
    """Turn IPv6 of devices of the current network namespace on or off ("default": of those that are yet to come)."""
    root = os.open("/proc/sys/net", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for device in devices:
            _write(root, f"ipv6/conf/{device}/disable_ipv6", "0" if on else "1")
    except FileNotFoundError:
        if on:
            raise OSError(errno.EAFNOSUPPORT, "the kernel has no IPv6") from None
    finally:
        os.close(root)


def has_ipv6(plan: NodePlan) -> bool:
    """Whether any interface has an IPv6 address."""
    return any(value.version == 6 for interface in plan.interfaces for value, _ in interface.addresses)


def link_local(mac: bytes) -> IPv6Address:
    """The modified EUI-64 link-local address of a MAC (RFC 4291, appendix A)."""
    return IPv6Address(b"\xfe\x80" + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:])


def configure(rtnl: Netlink, plan: NodePlan, indexes: dict[str, int], *, alias: str | None) -> None:
    """Tell a namespace everything about its interfaces, whose devices exist (name -> index).

    `alias` is for its loopback device; None leaves that alone, in a namespace that is not ours. There, rules of a lab
    that was killed may be left: unlike routes, they do not go with a device.
    """
    if plan.attach:
        rtnl.commit(list(route_messages(plan, {}, remove=True).values()), ignore=netlink.GONE)
    messages = [] if alias is None else [netlink.set_link(1, alias=alias, up=True)]
    messages += [
        netlink.set_link(indexes[interface.device], mac=interface.mac, mtu=interface.mtu, up=True)
        for interface in plan.interfaces
    ]
    rtnl.commit([*messages, *address_messages(plan, indexes).values(), *route_messages(plan, indexes).values()])


def reconfigure(rtnl: Netlink, old: Sequence[Configuration], new: Configuration) -> None:
    """Change a namespace that holds (parts of) old configurations to a new one.

    New addresses come before old ones go, so that a device is never without one: the kernel would forget all its
    routes. At the end everything is given again, because some routes go with the address they name, and an IPv6
    address that only changed its prefix length goes with the old length.
    """
    plan, indexes = new
    links = [netlink.set_link(indexes[i.device], mac=i.mac, mtu=i.mtu, up=True) for i in plan.interfaces]
    addresses, routes = address_messages(plan, indexes), route_messages(plan, indexes)
    rtnl.commit([*links, *addresses.values()])
    gone: dict[object, Message] = {}
    for each in old:
        gone |= route_messages(*each, remove=True)
    for each in old:
        gone |= address_messages(*each, remove=True)
    kept = addresses.keys() if plan.attach else addresses.keys() | routes.keys()
    rtnl.commit([message for key, message in gone.items() if key not in kept], ignore=netlink.GONE)
    if plan.attach:  # all that is ours is gone: what is in the way now is not
        rtnl.commit(list(addresses.values()))
        rtnl.commit(list(routes.values()))
        return
    # A rule cannot be replaced: the same rule again is refused as EEXIST, which is as good.
    rtnl.commit([*addresses.values(), *routes.values()], ignore=frozenset({errno.EEXIST}))


def unconfigure(rtnl: Netlink, configurations: Sequence[Configuration]) -> None:
    """Take what `configure` gave from a namespace that goes on without us, whose devices may be gone already."""
    gone: dict[object, Message] = {}
    for each in configurations:
        gone |= route_messages(*each, remove=True)
        gone |= address_messages(*each, remove=True)
    rtnl.commit(list(gone.values()), ignore=netlink.GONE)


def address_messages(plan: NodePlan, indexes: dict[str, int], *, remove: bool = False) -> dict[object, Message]:
    """The addresses of a plan, each with a key that says whether two plans mean the same."""
    messages: dict[object, Message] = {}
    for interface in plan.interfaces:
        index = indexes.get(interface.device)
        if index is None:  # the device is not there: what it had went with it
            continue
        addresses = list(interface.addresses)
        if any(value.version == 6 for value, _ in addresses):
            addresses.append((link_local(interface.mac), 64))
        for value, length in addresses:
            key = (index, value, length)
            messages[key] = netlink.address(index, value, length, remove=remove)
    return messages


def route_messages(plan: NodePlan, indexes: dict[str, int], *, remove: bool = False) -> dict[object, Message]:
    """The routes and rules of a plan, each with a key that says whether two plans mean the same."""
    messages: dict[object, Message] = {}
    make = functools.partial(netlink.route, replace=not plan.attach, remove=remove)
    several = len(plan.interfaces) > 1
    for position, interface in enumerate(plan.interfaces):
        index = indexes.get(interface.device)
        table = FIRST_TABLE + position
        if position == 0 and index is not None:
            messages |= _defaults(interface, index, netlink.TABLE_MAIN, make)
        if several and index is not None:
            messages |= _connected(interface, index, table, make)
            messages |= _defaults(interface, index, table, make)
        if several and (remove or index is not None):  # a device that is gone took its routes with it, but no rule
            for value, _ in interface.addresses:
                messages["rule", value, table] = netlink.source_rule(value, table, priority=table, remove=remove)
    return messages


def _defaults(
    interface: InterfacePlan, index: int, table: int, make: Callable[..., Message]
) -> Iterator[tuple[object, Message]]:
    for anywhere, gateway in ((ip_network("0.0.0.0/0"), interface.gateway4), (ip_network("::/0"), interface.gateway6)):
        source = next((value for value, _ in interface.addresses if value.version == anywhere.version), None)
        if gateway is not None and source is not None:
            key = (anywhere, index, gateway, source, table)
            yield key, make(anywhere, index, gateway=gateway, source=source, table=table)


def _connected(
    interface: InterfacePlan, index: int, table: int, make: Callable[..., Message]
) -> Iterator[tuple[object, Message]]:
    seen = set()
    for value, length in interface.addresses:
        network = ip_network((value, length), strict=False)
        if length < value.max_prefixlen and network not in seen:
            seen.add(network)
            key = (network, index, value, table)
            yield key, make(network, index, source=value, table=table)


def _write(folder: int, name: str, value: str) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)

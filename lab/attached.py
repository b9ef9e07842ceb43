"""Nodes in network namespaces that are not ours: the user brings them, or a device (`NodePlan.attach`).

What is ours there are the devices and what the kernel is told about them. They are not persistent, so they go with
their descriptors, however the lab ends. Nothing marks the namespace as the lab's, no process in it is ended, and no
setting of it is changed that is not a device's of ours.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from dataplane.errors import LabError
from lab import addressing, netlink
from lab.netlink import Netlink
from lab.node_plan import NodePlan, is_tap
from lab.tap import open_tap


@contextlib.contextmanager
def network_of(plan: NodePlan, start_network: int | None) -> Iterator[int | None]:
    """A descriptor of the network namespace that a node is attached to; None for nodes that get their own.

    Raises LabError when there is none, or it may not be entered.
    """
    if not plan.attach:
        yield None
        return
    if is_tap(plan.attach):
        if start_network is None:
            raise LabError(f"instance {plan.name}: attach: {plan.attach} needs root: run sudo vpclab up")
        yield start_network
        return
    path = plan.attach.partition(":")[2]
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _refusal(plan, path, error) from error
    try:
        yield descriptor
    except OSError as error:
        if error.filename != "setns":
            raise
        raise _refusal(plan, path, error) from error
    finally:
        os.close(descriptor)


def _refusal(plan: NodePlan, path: str, error: OSError) -> LabError:
    """Why a network namespace cannot be entered, and what to do."""
    if error.errno == errno.ENOENT:
        why = f"there is no network namespace {path}; make it first, for example: ip netns add NAME"
    elif error.errno in (errno.EPERM, errno.EACCES):
        why = f"{path} cannot be entered: it is another user's; run vpclab as root, or leave attach out"
    else:
        why = f"{path} cannot be entered: it is no network namespace ({error.strerror})"
    return LabError(f"instance {plan.name}: {why}")


def make_devices(plan: NodePlan, rtnl: Netlink, taps: dict[int, int]) -> dict[str, int]:
    """Make the devices of a node in the current network namespace, and configure them; descriptors go to `taps`.

    A TAP device that is there already is the user's, and used as it is. Returns the index of each. Raises OSError, and
    LabError where more can be said.
    """
    indexes = {}
    for interface in plan.interfaces:
        name = interface.kernel_device
        try:
            taps[interface.port] = make_device(plan, name)
        except FileExistsError:
            taps[interface.port] = _take_over(plan, name)
            return {interface.device: rtnl.index(name)}
        indexes[interface.device] = rtnl.index(name)
    if is_tap(plan.attach):
        rtnl.commit([netlink.set_link(indexes[i.device], mac=i.mac, mtu=i.mtu, up=True) for i in plan.interfaces])
    else:
        addressing.write_device_sysctls(plan)
        try:
            with naming_routes(plan):
                addressing.configure(rtnl, plan, indexes, alias=None)
        except BaseException:
            addressing.unconfigure(rtnl, [(plan, indexes)])  # the devices go by themselves, rules do not
            raise
    return indexes


def make_device(plan: NodePlan, name: str) -> int:
    """Make a device that goes with its descriptor, which is returned. Raises FileExistsError when there is one.

    Raises LabError instead where it cannot be ours.
    """
    try:
        return open_tap(name, persistent=False)
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.EEXIST):
            raise
        if not is_tap(plan.attach):
            raise LabError(f"instance {plan.name}: {plan.attach} has a device {name} already") from error
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from error


@contextlib.contextmanager
def naming_routes(plan: NodePlan) -> Iterator[None]:
    """Say of a route that is in the way of ours which it is, and what to do."""
    try:
        yield
    except OSError as error:
        if not plan.attach or error.errno != errno.EEXIST or not str(error.filename).startswith("route "):
            raise
        where, what = plan.attach.partition(":")[2], str(error.filename).replace("table 254", "table main")
        raise LabError(
            f"instance {plan.name}: {where} has a {what} already, and the instance needs its own: "
            "remove it, or give it a larger metric, so that it rests while the lab is up "
            "(for example: ip route add default via GATEWAY metric 2000)"
        ) from error


def _take_over(plan: NodePlan, name: str) -> int:
    try:
        return open_tap(name, existing=True)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise LabError(f"instance {plan.name}: the TAP device {name} is in use by another program") from error
        if error.errno == errno.EINVAL:
            raise LabError(f"instance {plan.name}: {name} is no TAP device with one queue") from error
        raise

"""What a spawner does for the daemon that takes its lab over (`lab.handover`): what only the dead one had is had again.

The trouble of one node is not the others': what cannot be had of it again is told, and all the rest handed over.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Mapping

from dataplane.errors import LabError
from lab.connections import Sockets, read_sockets
from lab.node import Node, Site, reopen, tcp_tables
from lab.scarcity import said

_BUSY_S, _BUSY_PAUSE_S = 1.0, 0.01
"""So long a daemon that was killed may take to let go of devices, and how often to look."""
_WHY = {
    errno.EBUSY: "a program in it holds its other end",
    errno.ENODEV: "it has been deleted or replaced",
    errno.EINVAL: "it has been deleted or replaced",
}
"""What root in an instance has done to a device."""


def open_again(site: Site, nodes: Iterable[Node]) -> tuple[dict[int, int], dict[int, str]]:
    """Open the TAP devices of nodes once more: port -> descriptor, and port -> a line for those that cannot be opened.

    Only those have no network. Raises LabError when there is none that can, for another reason than what root inside
    has done to it: then it can be tried again.
    """
    taps: dict[int, int] = {}
    end = time.monotonic() + _BUSY_S
    try:
        while True:
            refused = [(node, reopen(site, node, taps)) for node in nodes]
            busy = any(error.errno == errno.EBUSY for _, errors in refused for error in errors.values())
            if not busy or time.monotonic() > end:
                break
            time.sleep(_BUSY_PAUSE_S)
    except BaseException:
        for descriptor in taps.values():
            os.close(descriptor)
        raise
    strange = [error for _, errors in refused for error in errors.values() if error.errno not in _WHY]
    if strange and not taps:
        raise LabError(f"no device of the lab can be opened again: {said(strange[0])}")
    lost = {
        node.ports[device]: f"{device} of {node.plan.name} has no network any more: "
        f"{_WHY.get(error.errno or 0) or said(error)}"
        for node, errors in refused
        for device, error in errors.items()
    }
    return taps, lost


def read_all_sockets(site: Site, nodes: Mapping[str, Node]) -> tuple[dict[str, Sockets], dict[str, str]]:
    """The TCP sockets of each node, by name, and of those whose cannot be read, why."""
    found, unread = {}, {}
    for name, node in nodes.items():
        try:
            found[name] = read_sockets(tcp_tables(site, node))
        except OSError as error:
            unread[name] = said(error)
        except ValueError as error:
            unread[name] = str(error)
    return found, unread

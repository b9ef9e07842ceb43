"""Which link of a picture packets go over that leave an interface: by its subnet's routes, the longest prefix wins."""

from __future__ import annotations

from dataplane.model._cidr import Address, Network
from dataplane.picture.drawing import key_of_target
from dataplane.topology import Topology


class Ways:
    """The routes of a topology as a picture has them."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._interfaces = {each.path: each for each in topology.interfaces}
        self._tables: dict[tuple[str, str], list[tuple[Network, str]]] = {}

    def is_own(self, interface: str, address: Address) -> bool:
        """Whether an address is one of an interface's, given as ``app/eth0`` or, of a NAT gateway, ``shop/nat``."""
        found = self._interfaces.get(interface)
        return found is not None and address in (*found.addresses4, *found.addresses6)

    def link(self, interface: str, destination: Address) -> tuple[str, str] | None:
        """Source and target of the link from an interface to a destination; None when no drawn route leads there.

        What stays in its subnet goes by no route: routes that lead elsewhere from there are for other subnets.
        """
        found = self._interfaces.get(interface)
        if found is None:
            return None
        subnet = found.subnet
        if any(destination in block for block in subnet.cidrs):
            return None
        matching = [
            (prefix.prefixlen, key)
            for prefix, key in self._table(subnet.vpc, subnet.route_table)
            if prefix.version == destination.version and destination in prefix
        ]
        target = max(matching, default=(0, ""))[1]
        return (f"routes {subnet.path}", target) if target else None

    def _table(self, vpc: str, name: str) -> list[tuple[Network, str]]:
        """Prefixes of a table, each with the place that it leads to; an empty text for local."""
        if (vpc, name) not in self._tables:
            declared = self._topology.vpc(vpc).all_route_tables()[name]
            self._tables[vpc, name] = [
                (route.prefix, "" if route.target.word == "local" else key_of_target(self._topology, vpc, route.target))
                for route in declared.effective(self._topology, vpc, name)
            ]
        return self._tables[vpc, name]

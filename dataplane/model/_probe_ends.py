"""From where to where a check goes: names and addresses of a lab file, resolved as its nodes would resolve them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from dataplane.model._cidr import Address
from dataplane.model._fields import did_you_mean
from dataplane.model._known_names import names_seen_from

if TYPE_CHECKING:
    from dataplane.topology import Topology


@dataclass(frozen=True, slots=True)
class Ends:
    """Who reaches whom, ``app -> web``: nodes by name or address, on the left also an interface such as ``fw/eth1``."""

    source: str
    destination: str

    @classmethod
    def parse(cls, value: object) -> Ends:
        """Read two ends.

        Raises:
            ValueError: not two with an arrow between them.
        """
        parts = [part.strip() for part in str(value).split("->")]
        if len(parts) != 2 or not all(parts) or any(" " in part for part in parts):
            raise ValueError(f"{value} does not say who reaches whom; write FROM -> TO, for example app -> web")
        return cls(*parts)

    def __str__(self) -> str:
        return f"{self.source} -> {self.destination}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """An interface that a node sends from."""

    node: str
    path: str
    """``web/eth0``."""
    vpc: str | None
    """None: it is on the internet."""
    address4: Address | None
    address6: Address | None

    def address(self, version: int) -> Address | None:
        """What it sends from in a family."""
        return self.address4 if version == 4 else self.address6


def find_sender(topology: Topology, text: str) -> Sender:
    """Return the interface that a node name, an interface or an address means.

    Raises:
        ValueError: none, or several; ``what is wrong; what to write``.
    """
    senders = list(senders_of(topology))
    name, slash, _ = text.partition("/")
    mine = [each for each in senders if each.path == text or (not slash and each.node == name)]
    if mine:
        return mine[0]
    try:
        wanted = ip_address(text)
    except ValueError:
        names = dict.fromkeys(each.path if slash else each.node for each in senders)
        raise ValueError(f"no node is called {text}; {did_you_mean(text, names)}") from None
    public = {each.public: (each.vpc, each.private) for each in topology.public_addresses}
    vpc, inside = public.get(wanted, (None, wanted)) if wanted.version == 4 else (None, wanted)
    found = [each for each in senders if inside in (each.address4, each.address6) and vpc in (None, each.vpc)]
    if not found:
        raise ValueError(f"no node sends from {text}; write the name of one")
    if len(found) > 1:
        raise ValueError(f"several nodes send from {text}; write {' or '.join(each.node for each in found)}")
    return found[0]


def senders_of(topology: Topology) -> Iterator[Sender]:
    """Yield every interface that a node of the user's sends from, in the order of the lab file."""
    for name, instance in topology.lab.instances.items():
        for each in topology.interfaces_of(name):
            yield Sender(
                node=name,
                path=each.path,
                vpc=instance.vpc,
                address4=next(iter(each.addresses4), None),
                address6=next(iter(each.addresses6), None),
            )
    for name, host in topology.hosts.items():
        yield Sender(node=name, path=host.path, vpc=None, address4=host.address, address6=host.ipv6_address)


def find_destination(topology: Topology, sender: Sender, text: str, version: int | None) -> Address:
    """Return the address that a name or an address means to a sender: as in its ``/etc/hosts``, IPv4 first.

    `version` is the family wanted, if one is.

    Raises:
        ValueError: nothing; ``what is wrong; what to write``.
    """
    try:
        return ip_address(text)
    except ValueError:
        book = names_seen_from(topology, sender.vpc)
    known = [each for each in book.get(text, ()) if version in (None, each.version) and sender.address(each.version)]
    if known:
        return min(known, key=lambda each: each.version)
    nodes = {each.node for each in senders_of(topology)}
    if text not in book and text not in nodes:
        raise ValueError(f"no node is called {text}; {did_you_mean(text, sorted(nodes))}")
    family = f"IPv{version}" if version else "common"
    raise ValueError(f"{sender.node} knows no {family} address of {text}; write the address that is meant")

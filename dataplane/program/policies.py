"""Policies: what is remembered of flows, for how long, and who may open one."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Idle limits of tracked flows, in milliseconds."""

    tcp_established: int
    tcp_opening: int
    tcp_closing: int
    udp_single: int
    udp_stream: int
    icmp: int
    other: int

    @classmethod
    def of_gateway(cls, *, tcp: int, closing: int, other: int) -> Timeouts:
        """Those of a gateway that tells TCP (open or not, and closing) from everything else."""
        return cls(
            tcp_established=tcp,
            tcp_opening=tcp,
            tcp_closing=closing,
            udp_single=other,
            udp_stream=other,
            icmp=other,
            other=other,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPolicy:
    """What one interface admits; `owner` is the interface's number.

    `egress` and `ingress` are labels of `Program.filters`: the rules of all groups of the interface, in one list that
    interfaces with the same groups share. Any that matches admits; there is no order.
    """

    owner: int
    egress: str
    ingress: str
    timeouts: Timeouts


@dataclass(frozen=True, slots=True, kw_only=True)
class NatPolicy:
    """Many-to-one translation; `owner` is the gateway's number, `addresses` its own inside addresses."""

    owner: int
    addresses: tuple[IPv4Address, ...]
    port_first: int
    port_last: int
    per_destination: int
    """Most simultaneous flows per own address towards one destination (address, port, protocol)."""
    prefix6: IPv6Network | None = None
    """A /96: IPv6 packets to it are translated to IPv4, to the address in their last 32 bits (RFC 6052)."""
    timeouts: Timeouts


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowPolicy:
    """What a FlowGate remembers; `owner` is the number of the object it belongs to."""

    owner: int
    timeouts: Timeouts

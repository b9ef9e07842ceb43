"""What tests expect of a packet: it gets there, or the network drops it, for a reason and by an object or rule.

Both are checks of the lab (`vpclab.Lab.check`): one real packet from the node's own kernel, and the verdict on this
very packet, or on the answer to it, by the engine that decided. Silence proves neither.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dataplane.analysis.told import story
from dataplane.errors import VpclabError
from dataplane.names import Name
from dataplane.verdict import REASON_TEXT, Reason
from vpclab.lab import Lab
from vpclab.node import Node

_DEFAULT_PORT = 80
_PATIENCE_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What became of a packet, and of the answer to it."""

    check: str
    """What was asked, e.g. ``can app -> db tcp 5432``."""
    found: str
    """``answered``, ``blocked`` (by the network), ``arrived`` (and nobody answered), ``lost`` or ``unsent``."""
    why: str
    """One line: what decided, or what is missing."""
    refused: bool
    """It was answered by a TCP reset: the way is open, and nobody listens."""
    reason: Reason
    """Why the network dropped it; `Reason.NONE` when it did not."""
    by: Name | None
    """The object that dropped it."""
    rule: Name | None
    """The rule of it that decided; None when it was the lack of one."""
    groups: tuple[str, ...]
    """The security groups none of whose rules allowed it, as ``VPC/NAME``."""
    source_seen: str | None
    """The source address that the destination saw."""
    passed: tuple[str, ...]
    """What it passed on its way: ``nat-gateway:shop/nat``, ``instance:fw``, ..."""
    row: Mapping[str, Any] = field(repr=False)
    """Everything, as `Lab.check` gives it."""

    @property
    def story(self) -> str:
        """Its way, hop by hop, as far as it came."""
        return "\n".join(story(self.row))

    @property
    def deciders(self) -> tuple[str, ...]:
        """The names of what dropped it, as `is_by` compares them."""
        names = [name for name in (self.by, self.rule) if name is not None]
        names += [Name("security-group", group) for group in self.groups]
        return tuple(str(name) for name in names)

    def is_by(self, text: str) -> bool:
        """Whether `text` names what dropped it: an object, a rule, or a security group none of whose rules allowed it.

        ``shop/edge``, ``network-acl shop/edge``, ``shop/edge ingress 90`` and ``shop/edge ingress 90 deny tcp 22 from
        0.0.0.0/0`` all mean the same entry: a text means what begins with its words.
        """
        named = [each for name in self.deciders for each in (name, name.partition(" ")[2])]
        return any(f"{name} ".startswith(f"{text} ") for name in named)


def expect_reachable(
    lab: Lab,
    source: Node | str,
    destination: Node | str,
    port: int | None = None,
    *,
    protocol: str | int = "tcp",
    via: str | Sequence[str] = (),
    source_seen: str | None = None,
    packet_size: int | None = None,
    patience_s: float = _PATIENCE_S,
) -> Proof:
    """Prove that a packet arrives and the answer comes back; AssertionError, with its way, when that is not so.

    Args:
        lab: a running lab.
        source: a node, its name, an interface or an address of one.
        destination: a node, its name, or an address.
        port: destination port of TCP or UDP; 80 when not given.
        protocol: ``tcp``, ``udp``, ``icmp``, ``icmpv6`` or a number.
        via: what it must pass, in order: ``nat-gateway:shop/nat``, ``instance:fw``, ...
        source_seen: the source address that the destination must see.
        packet_size: bytes of the whole IP packet, which must not be fragmented on its way; not for TCP.
        patience_s: seconds that a packet on its way may show no sign of life; only what nobody decides takes so long.

    Raises:
        ConfigurationError: no such node, address or protocol, or nothing is called as `via` says.
    """
    __tracebackhide__ = True
    asked = {
        "via": [via] if isinstance(via, str) else list(via),
        "source_seen": source_seen,
        "packet_size": packet_size,
    }
    wanted = {key: value for key, value in asked.items() if value}
    try:
        proof, holds = _prove(lab, "can", source, destination, port, protocol, patience_s, wanted)
    except (ValueError, VpclabError) as error:
        raise error.with_traceback(None) from None  # what was asked is wrong, not where we noticed
    if not holds:
        raise AssertionError(_text(proof, f"not so: {proof.why}"))
    return proof


def expect_dropped(
    lab: Lab,
    source: Node | str,
    destination: Node | str,
    port: int | None = None,
    *,
    protocol: str | int = "tcp",
    reason: Reason | str | None = None,
    by: str | None = None,
    packet_size: int | None = None,
    patience_s: float = _PATIENCE_S,
) -> Proof:
    """Prove that the network drops a packet, or the answer to it; AssertionError, with its way, when that is not so.

    Args:
        reason: why; a `Reason` or its name.
        by: what dropped it (see `Proof.is_by`).
        lab, source, destination, port, protocol, packet_size, patience_s: as of `expect_reachable`.

    Raises:
        ConfigurationError: no such node, address or protocol.
        ValueError: there is no such reason.
    """
    __tracebackhide__ = True
    asked = {} if packet_size is None else {"packet_size": packet_size}
    try:
        wanted = None if reason is None else _reason(reason)
        proof, holds = _prove(lab, "cannot", source, destination, port, protocol, patience_s, asked)
    except (ValueError, VpclabError) as error:
        raise error.with_traceback(None) from None
    if not holds:
        raise AssertionError(_text(proof, f"not so: {proof.why}"))
    if wanted is not None and proof.reason is not wanted:
        text = REASON_TEXT[proof.reason].text
        raise AssertionError(_text(proof, f"so it is, but for {proof.reason.name} ({text}), not {wanted.name}"))
    if by is not None and not proof.is_by(by):
        raise AssertionError(_text(proof, f"so it is, but by {', '.join(proof.deciders)}, not by {by!r}"))
    return proof


def _prove(
    lab: Lab,
    claim: str,
    source: Node | str,
    destination: Node | str,
    port: int | None,
    protocol: str | int,
    patience_s: float,
    wanted: Mapping[str, Any],
) -> tuple[Proof, bool]:
    """What became of a packet, and whether the claim holds."""
    ends = (each.name if isinstance(each, Node) else each for each in (source, destination))
    check: dict[str, Any] = {claim: " -> ".join(ends), "protocol": protocol, **wanted}
    if port is not None or str(protocol).lower() in ("tcp", "udp", "6", "17"):
        check["port"] = _DEFAULT_PORT if port is None else port
    [row] = lab.check([check], patience_s=patience_s)
    dropped = row["dropped"] or {"reason": "NONE", "object": None, "rule": None, "groups": []}
    proof = Proof(
        check=row["check"],
        found=row["found"],
        why=row["why"],
        refused=row["refused"],
        reason=Reason[dropped["reason"]],
        by=_name(dropped["object"]),
        rule=_name(dropped["rule"]),
        groups=tuple(dropped["groups"]),
        source_seen=row["source_seen"],
        passed=tuple(row["passed"]),
        row=row,
    )
    return proof, row["holds"]


def _name(value: Mapping[str, str] | None) -> Name | None:
    return None if value is None else Name(**value)


def _reason(reason: Reason | str) -> Reason:
    if isinstance(reason, Reason):
        return reason
    try:
        return Reason[reason]
    except KeyError:
        near = difflib.get_close_matches(reason.upper(), Reason.__members__, n=3) or list(Reason.__members__)[1:]
        raise ValueError(f"no drop reason is called {reason!r}; {', '.join(near)}") from None


def _text(proof: Proof, what: str) -> str:
    """A failure: what was claimed, what is the case, and the way of the packet."""
    return f"{proof.check}: {what}\n\n{proof.story}"

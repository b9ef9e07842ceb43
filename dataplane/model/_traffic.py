"""What a rule of a security group or a network ACL says about a packet besides its addresses.

Both number protocols as IANA does, compare ports with the destination port, and give ICMP a type and a code
(https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_IpPermission.html and .../API_CreateNetworkAclEntry.html).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypedDict

from dataplane.errors import Problem
from dataplane.model._fields import doc

PROTOCOLS = {"all": -1, "icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58}
"""The names AWS knows; other protocols have numbers only."""
_NAMES = {number: name for name, number in PROTOCOLS.items()}
ICMPV6 = 58
ICMP = (1, ICMPV6)


@dataclass(frozen=True, slots=True)
class Protocol:
    """``tcp``, ``udp``, ``icmp``, ``icmpv6``, ``all`` or a number from 0 to 255."""

    number: int
    """-1 is all."""

    @classmethod
    def parse(cls, value: object) -> Protocol:
        """Read a name or a number.

        Raises:
            ValueError: neither.
        """
        if isinstance(value, str) and value in PROTOCOLS:
            return cls(PROTOCOLS[value])
        if isinstance(value, str) and value.isascii() and value.isdigit() and value == str(int(value)):
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255:
            return cls(value)
        if value == -1:
            raise ValueError("-1 is no protocol here; write all")
        raise ValueError(f"{value} is no protocol; write {', '.join(PROTOCOLS)} or a number from 0 to 255")

    def __str__(self) -> str:
        return _NAMES.get(self.number, str(self.number))

    @property
    def has_ports(self) -> bool:
        """TCP and UDP."""
        return self.number in (6, 17)


@dataclass(frozen=True, slots=True)
class PortRange:
    """A destination port (``80``) or a range of them (``1024-65535``)."""

    first: int
    last: int

    @classmethod
    def parse(cls, value: object) -> PortRange:
        """Read a port or a range.

        Raises:
            ValueError: neither, or the wrong way round.
        """
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise ValueError(f"{value} is no port; write 80 or 1024-65535")
        if value == -1 or (isinstance(value, str) and value.lower() in ("all", "any")):
            raise ValueError(f"{value} is no port or range of ports; all ports are 0-65535")
        first, dash, last = (part.strip() for part in str(value).partition("-"))
        ends = (first, last) if dash else (first, first)
        if not all(end.isascii() and end.isdigit() and int(end) <= 65535 for end in ends):
            raise ValueError(f"{value} is no port or range of ports; write numbers, 80 or 1024-65535, from 0 to 65535")
        found = cls(int(ends[0]), int(ends[1]))
        if any(end != str(int(end)) for end in ends):
            raise ValueError(f"a number of {value} begins with a zero; write {found}")
        if found.first > found.last:
            raise ValueError(f"the range {value} is the wrong way round; write {last}-{first}")
        return found

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True, kw_only=True)
class IcmpMatch:
    """Type and code of ICMP or ICMPv6."""

    type: int = field(default=-1, metadata=doc("ICMP type, 0 to 255; -1 for any", 8))
    code: int = field(default=-1, metadata=doc("ICMP code, 0 to 255; -1 for any", -1))


class RuleFields(TypedDict):
    """The part of a `dataplane.program.Rule` that says which traffic it matches."""

    protocol: int
    ports: tuple[int, int] | None
    icmp: tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Common to the rules of security groups and network ACLs."""

    protocol: Protocol = field(
        metadata=doc("tcp, udp, icmp, icmpv6, all, or an IANA protocol number from 0 to 255", "tcp")
    )
    ports: PortRange | None = field(
        default=None,
        metadata=doc("destination port or range of ports; for tcp and udp only, and required there", "1024-65535"),
    )
    icmp: IcmpMatch | None = field(
        default=None, metadata=doc("type and code, for icmp and icmpv6 only; all of them when left out")
    )

    def check_traffic(self, *, without_ports: str) -> Iterator[Problem]:
        """Yield what AWS would refuse, or would accept and ignore; `without_ports`: its code for a lack of ports."""
        if self.protocol.has_ports and self.ports is None:
            yield Problem("ports", f"a {self.protocol} rule needs ports", without_ports, "all ports are 0-65535")
        if self.ports is not None and not self.protocol.has_ports:
            yield Problem("ports", f"ports mean nothing for protocol {self.protocol}", "", "leave ports out")
        if self.icmp is None:
            return
        if self.protocol.number not in ICMP:
            yield Problem("icmp", f"an ICMP type means nothing for protocol {self.protocol}", "", "leave icmp out")
        for name, value in (("type", self.icmp.type), ("code", self.icmp.code)):
            if not -1 <= value <= 255:
                yield Problem(
                    f"icmp.{name}",
                    f"{value} is no ICMP {name}",
                    "InvalidParameterValue",
                    "write -1 for any, or 0 to 255",
                )
        if self.icmp.type == -1 and self.icmp.code != -1:
            yield Problem("icmp.code", "any type goes with any code only", "InvalidParameterValue", "write code: -1")

    def in_words(self) -> str:
        """Return, for example, ``tcp 80``, ``icmp type 8`` or ``all``."""
        words = str(self.protocol)
        if self.ports is not None:
            words += f" {self.ports}"
        if self.icmp is not None and self.icmp.type != -1:
            words += f" type {self.icmp.type}"
            words += f" code {self.icmp.code}" if self.icmp.code != -1 else ""
        return words

    def rule_fields(self) -> RuleFields:
        """Return what the lowered rule matches."""
        return {
            "protocol": self.protocol.number,
            "ports": None if self.ports is None else (self.ports.first, self.ports.last),
            "icmp": None if self.icmp is None else (self.icmp.type, self.icmp.code),
        }

"""Who talks to whom: what packets of one conversation have in common, and those that answer them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dataplane.reference.checksum import Address


@dataclass(frozen=True, slots=True)
class Flow:
    """Who talks to whom: for TCP and UDP by ports; for ICMP both ports are the identifier.

    `query` is the type of ICMP request it is about (256 and up: of a message that is neither request nor reply), and
    `is_reply` tells replies, which never answer each other, from requests.
    """

    protocol: int
    source: Address
    source_port: int
    destination: Address
    destination_port: int
    query: int = 0
    is_reply: bool = False

    def reversed(self) -> Flow:
        """The same flow as seen in the packets that answer."""
        return replace(
            self,
            source=self.destination,
            source_port=self.destination_port,
            destination=self.source,
            destination_port=self.source_port,
            is_reply=self.query > 0 and not self.is_reply,
        )

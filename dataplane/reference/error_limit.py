"""How often the network says what is wrong with somebody's packets: ICMP errors are paid for, out of a bucket each.

RFC 4443, 2.4 (f), demands a limit and recommends a token bucket; RFC 1812, 4.3.2.8, wants one that can be set.
AWS says nothing of it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

AT_ONCE = 1_000
TOKENS_PER_MS = 1


@dataclass(slots=True)
class _Bucket:
    tokens: int
    filled_ms: int


class ErrorLimit:
    """The buckets of all ports.

    Args:
        at_once: tokens that one holds.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._buckets: dict[int, _Bucket] = {}
        self.withheld: Counter[int] = Counter()
        """Errors that were too many, by port."""

    def may_tell(self, port: int, now_ms: int) -> bool:
        """Whether one more error about a packet of `port` may be sent; if so it is paid for."""
        bucket = self._buckets.setdefault(port, _Bucket(self._at_once, now_ms))
        bucket.tokens = min(self._at_once, bucket.tokens + TOKENS_PER_MS * (now_ms - bucket.filled_ms))
        bucket.filled_ms = now_ms
        if bucket.tokens == 0:
            self.withheld[port] += 1
            return False
        bucket.tokens -= 1
        return True

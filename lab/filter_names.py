"""Names in filters of captures: nodes of the lab become addresses, and nobody else's name is looked up.

libpcap would ask this machine's resolver for them, which knows nothing of the lab, and may keep the daemon waiting.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence

_WORD = re.compile(r"[\\A-Za-z0-9:_][\w.:-]*")
_NUMERIC = re.compile(r"[0-9][0-9a-fA-Fx.-]*|[0-9a-fA-Fx:.]*:[0-9a-fA-F:.]*")
_NOBODY = "192.0.2.1"
"""Stands for an unknown name, so that libpcap can tell what else is wrong: an address of documentation (RFC 5737)."""
_LANGUAGE = """
dst src link fddi tr wlan slip ether arp rarp ip ip6 tcp sctp udp icmp icmp6 igmp igrp pim vrrp carp radio ah esp ppp
atalk aarp decnet lat sca moprc mopdl iso esis es-is isis is-is clnp l1 l2 iih lsp snp csnp psnp stp ipx netbeui host
net netmask mask port portrange proto protochain gateway type subtype direction dir addr1 addr2 addr3 addr4 address1
address2 address3 address4 ra ta less greater byte broadcast multicast and or not len length inbound outbound ifindex
vlan mpls pppoed pppoes geneve vxlan llc on ifname tcpflags icmptype icmpcode icmp6type icmp6code
"""
_KEYWORDS = frozenset(_LANGUAGE.split())
_CONSTANTS = ("tcp-", "icmp-", "icmp6-")
_PROTOCOLS_FOLLOW = frozenset({"proto", "protochain", "type", "subtype"})


def with_addresses(text: str, nodes: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """The filter with nodes' addresses in place of their names, and the first name that is no node's, or ""."""
    before = unknown = ""

    def replaced(found: re.Match[str]) -> str:
        nonlocal before, unknown
        word, last = found[0], before
        before = word
        if word.startswith("\\") or _NUMERIC.fullmatch(word) or word in _KEYWORDS or word.startswith(_CONSTANTS):
            return word
        if last in _PROTOCOLS_FOLLOW or last in ("port", "portrange"):
            return word
        addresses = nodes.get(word, ())
        if addresses:
            return addresses[0] if len(addresses) == 1 else f"({' or '.join(addresses)})"
        if _is_service(word):
            return word
        unknown = unknown or word
        return _NOBODY

    return _WORD.sub(replaced, text), unknown


def _is_service(word: str) -> bool:
    try:
        socket.getservbyname(word)
    except OSError:
        return False
    return True

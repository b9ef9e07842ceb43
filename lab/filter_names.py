"""Names in filters of captures: nodes of the lab become addresses, and nobody else's name is looked up.

libpcap would ask this machine's resolver for them, which knows nothing of the lab, and may keep the daemon waiting.
"""

from __future__ import annotations

import re
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
_CODES_FOLLOW = frozenset({"port", "portrange", "proto", "protochain", "type", "subtype"})
_ENDS = "src dst ra ta addr1 addr2 addr3 addr4 address1 address2 address3 address4"
_HOSTS_FOLLOW = frozenset({"host", "net", "gateway", *_ENDS.split()})
"""What the names behind a word mean: libpcap looks those of codes up in its own tables, and those of hosts in the DNS.
It goes on until another such word comes: ``port http or https``."""


def with_addresses(text: str, nodes: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """The filter with nodes' addresses in place of their names, and the first name that is no node's, or ""."""
    unknown = ""
    is_code = False

    def replaced(found: re.Match[str]) -> str:
        nonlocal unknown, is_code
        word = found[0]
        if word in _KEYWORDS:
            is_code = word in _CODES_FOLLOW or (is_code and word not in _HOSTS_FOLLOW)
            return word
        if is_code or _NUMERIC.fullmatch(word) or word.startswith(_CONSTANTS):
            return word
        name = word.removeprefix("\\")  # which makes a name of a keyword
        addresses = nodes.get(name, ())
        if addresses:
            return addresses[0] if len(addresses) == 1 else f"({' or '.join(addresses)})"
        unknown = unknown or name
        return _NOBODY

    return _WORD.sub(replaced, text), unknown

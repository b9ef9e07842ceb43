"""Which probes are on their way together, and what a kernel that refuses says."""

from __future__ import annotations

import socket
from typing import Any

from dataplane.model.check import Resolved
from dataplane.topology import Topology
from lab.checking import TOGETHER, _turns
from lab.probing import Probe, kinds_of
from tests.unit.model.building import instance, topology, vpc

SHOP: dict[str, Any] = {
    "vpcs": {"shop": vpc()},
    "instances": {name: instance(private_ip=f"10.0.1.{n}") for n, name in enumerate("abcd", start=10)},
}


def resolved(*checks: dict[str, Any]) -> tuple[Topology, list[Resolved]]:
    declared = topology(**SHOP, checks=list(checks))
    return declared, [each.resolve(declared) for each in declared.lab.checks]


def claim(ends: str, protocol: Any = 50, **fields: Any) -> dict[str, Any]:
    return {"can": ends, "protocol": protocol, **fields}


def test_what_has_ports_goes_together_and_not_too_many_at_once() -> None:
    declared, probes = resolved(*[claim("a -> b", "tcp", port=80)] * (TOGETHER + 1), claim("b -> a", "icmp"))
    assert [len(turn) for turn in _turns(declared, probes, apart=False)] == [TOGETHER, 2]
    assert [len(turn) for turn in _turns(declared, probes, apart=True)] == [TOGETHER, 2]


def test_what_has_no_ports_and_may_open_the_way_goes_last() -> None:
    declared, probes = resolved(claim("a -> b"), {"cannot": "b -> a", "protocol": 50}, claim("a -> b", "icmp"))
    assert _turns(declared, probes, apart=False) == [[1, 2], [0]]


def test_apart_no_node_has_two_of_a_protocol_without_ports_at_once() -> None:
    declared, probes = resolved(
        claim("a -> b"), claim("b -> a"), claim("c -> d"), claim("d -> a"), claim("a -> b", 47), claim("a -> b", "icmp")
    )
    assert _turns(declared, probes, apart=True) == [[5], [0, 2, 4], [1], [3]]


def test_what_the_kernel_does_not_make_or_send_is_said() -> None:
    _, [tcp, *_] = resolved(claim("a -> b", "tcp", port=80))
    refused = Probe(tcp, PermissionError(1, "Operation not permitted"))
    refused.send()
    assert (refused.error, refused.source_port) == ("Operation not permitted", 0)
    refused.close()
    elsewhere = Probe(tcp, socket.socket())  # 10.0.1.10 is not of this machine
    elsewhere.send()
    assert elsewhere.error == "10.0.1.10: Cannot assign requested address"
    elsewhere.close()


def test_sockets_that_can_send_it() -> None:
    _, probes = resolved(
        claim("a -> b", "tcp", port=1), claim("a -> b", "udp", port=1), claim("a -> b", "icmp"), claim("a -> b", 50)
    )
    assert [[kind[1:] for kind in kinds_of(each)] for each in probes] == [
        [(socket.SOCK_STREAM, 0)],
        [(socket.SOCK_DGRAM, 0)],
        [(socket.SOCK_DGRAM, 1), (socket.SOCK_RAW, 1)],
        [(socket.SOCK_RAW, 50)],
    ]

from __future__ import annotations

from typing import Any

import pytest

from dataplane.program import Timeouts
from tests.unit.model.building import expect, instance, lab, program, vpc


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("tcp_established_timeout", (59, 432_001)),
        ("udp_stream_timeout", (59, 181)),
        ("udp_timeout", (29, 61)),
    ],
)
def test_timeouts_aws_refuses(key: str, values: tuple[int, int]) -> None:
    for value in values:
        declared = lab(vpcs={"shop": vpc()}, instances={"web": instance(connection_tracking={key: value})})
        expect(declared, f"instances.web.connection_tracking.{key}", "InvalidParameterValue", "AWS's default is")


def timeouts(**fields: Any) -> Timeouts:
    return program(vpcs={"shop": vpc()}, **fields).group_policies["interface:web/eth0"].timeouts


def test_defaults_are_those_aws_documents() -> None:
    assert timeouts(instances={"web": instance()}) == Timeouts(
        tcp_established=432_000_000,
        tcp_opening=60_000,
        tcp_closing=60_000,
        udp_single=30_000,
        udp_stream=180_000,
        icmp=30_000,
        other=600_000,
    )


def test_each_interface_has_its_own() -> None:
    mine = {"tcp_established_timeout": 60, "udp_stream_timeout": 61, "udp_timeout": 31}
    found = timeouts(
        instances={"web": instance(connection_tracking=mine)},
        settings={"tcp_opening_timeout": 1, "tcp_closing_timeout": 2, "icmp_timeout": 3},
    )
    assert (found.tcp_established, found.udp_stream, found.udp_single) == (60_000, 61_000, 31_000)
    assert (found.tcp_opening, found.tcp_closing, found.icmp) == (1_000, 2_000, 3_000)


def test_further_interfaces_have_theirs() -> None:
    second = {
        "subnet": "one",
        "attachment": {"instance": "web", "device_index": 1},
        "connection_tracking": {"udp_timeout": 40},
    }
    policies = program(
        vpcs={"shop": vpc(network_interfaces={"second": second})}, instances={"web": instance()}
    ).group_policies
    limits = {label: policy.timeouts.udp_single for label, policy in policies.items()}
    assert limits == {"interface:web/eth0": 30_000, "interface:web/eth1": 40_000}

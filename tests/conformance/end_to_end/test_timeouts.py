"""How long security groups remember, when the lab's clock jumps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.behaviours import behaviour
from tests.conformance.end_to_end.labs import running
from tests.e2e.conversation import datagrams
from vpclab import Lab

pytestmark = pytest.mark.e2e
SECTION = "Connection tracking"

LAB = """
version: 1
name: timeouts
vpcs:
  main:
    cidr: 10.0.0.0/16
    subnets:
      a: {cidr: 10.0.1.0/24}
    security_groups:
      caller: {description: nobody may call it}
      called:
        description: DNS, for callers
        ingress: [{protocol: udp, ports: 53, source: "group:caller"}]
        egress: [{protocol: udp, ports: 53, destination: "group:caller"}]
instances:
  default: {vpc: main, subnet: a, private_ip: 10.0.1.10, security_groups: [caller]}
  patient:
    vpc: main
    subnet: a
    private_ip: 10.0.1.11
    security_groups: [caller]
    connection_tracking: {udp_timeout: 60, udp_stream_timeout: 120}
  server:
    vpc: main
    subnet: a
    private_ip: 10.0.1.20
    security_groups: [called]
    connection_tracking: {udp_timeout: 60, udp_stream_timeout: 180}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running(LAB) as lab:
        yield lab


@behaviour(
    "The answer to a single UDP request is late after 30 idle seconds, within a stream of UDP after 180",
    end_to_end=True,
)
def test_default_timeouts_of_udp(lab: Lab) -> None:
    with datagrams(lab, "default", "server", "10.0.1.20", 53) as line:
        assert line.ask()
        assert line.answer()
        lab.clock.advance(31)
        assert line.answer_is_lost(), "one exchange is forgotten after 30 s"
    with datagrams(lab, "default", "server", "10.0.1.20", 53) as line:
        for _ in range(2):
            assert line.ask()
            assert line.answer()
        lab.clock.advance(150)
        assert line.answer(), "a stream is not"
        lab.clock.advance(181)
        assert line.answer_is_lost()


@behaviour("The idle timeouts of UDP, single and stream, are set per interface", end_to_end=True)
def test_timeouts_of_an_interface(lab: Lab) -> None:
    with datagrams(lab, "patient", "server", "10.0.1.20", 53) as line:
        assert line.ask()
        lab.clock.advance(35)
        assert line.answer(), "60 s here"
        for _ in range(2):
            assert line.ask()
            assert line.answer()
        lab.clock.advance(90)
        assert line.answer(), "a stream: 120 s here"
        lab.clock.advance(121)
        assert line.answer_is_lost()

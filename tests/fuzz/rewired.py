"""A program that no lab is lowered to: gateways guard against packets that no lab leads to them, and have many ports.

Each way that is added here ends at a guard of the lab `beyond.yaml`: from the internet with a private source, or to a
public address that nobody has; and on from a peering to an internet gateway, or to a NAT gateway. The NAT gateway has
so few ports that they run out, and a few more than it may use towards one destination.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from itertools import cycle

from dataplane.model.internet_gateway import INTERNET
from dataplane.program import Program, Route

NOBODY = IPv4Network("203.0.113.99/32")
"""A public address that the internet believes to be at the gateway."""
ONWARD = IPv4Network("10.1.9.0/29")
"""Addresses of VPC store that lead on from it, by its internet gateway and by its NAT gateway in turn."""
ANYBODY = IPv4Network("0.0.0.0/0")
SPOOFING = ("internet-host:far", "internet-host:near")
"""Hosts that may send from any address."""
PORTS, PER_DESTINATION = 4, 3


def rewired(program: Program) -> Program:
    """The program with those ways."""
    internet, hosts = program.fibs[INTERNET], program.fibs["vpc:store/hosts"]
    ways = cycle(("internet-gateway:store/out", "nat-gateway:store/nat/own"))
    onward = [Route(prefix=prefix, node=next(ways), rule=0) for prefix in ONWARD.subnets(new_prefix=32)]
    policies = {
        label: replace(policy, port_last=policy.port_first + PORTS - 1, per_destination=PER_DESTINATION)
        for label, policy in program.nat_policies.items()
    }
    return replace(
        program,
        fibs={
            **program.fibs,
            INTERNET: [*internet, Route(prefix=NOBODY, node="internet-gateway:store/in", rule=0)],
            "vpc:store/hosts": [*hosts, *onward],
        },
        sets={**program.sets, **{label: [ANYBODY] for label in SPOOFING}},
        nat_policies=policies,
    )

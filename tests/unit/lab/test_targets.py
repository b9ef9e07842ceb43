"""Whose addresses the targets of a load balancer are."""

from __future__ import annotations

from typing import Any

from dataplane.topology import Topology
from lab.targets import devices
from tests.unit.model.building import topology
from tests.unit.model.inspection import inspected

OTHER = {
    "cidr": "172.16.0.0/16",
    "subnets": {"all": {"cidr": "172.16.1.0/24"}},
}


def declared(targets: list[str], **sections: Any) -> Topology:
    """A fleet of these addresses, and a VPC `other` in which fw-3 has 172.16.1.9."""
    file = inspected({"group": {"target_type": "ip", "targets": targets}}, **sections)
    file["vpcs"]["other"] = OTHER
    file["instances"]["fw-1"]["secondary_private_ips"] = ["10.9.1.25"]
    file["instances"]["fw-3"] = {"vpc": "other", "subnet": "all", "private_ip": "172.16.1.9"}
    return topology(**file)


def found(made: Topology) -> dict[str, tuple[str, str]]:
    return {
        name: (str(address), interface.instance) for name, (address, interface) in devices(made, "sec", "gw").items()
    }


def test_several_targets_may_be_addresses_of_one_interface() -> None:
    assert found(declared(["10.9.1.21", "10.9.1.25"])) == {
        "10.9.1.21": ("10.9.1.21", "fw-1"),
        "10.9.1.25": ("10.9.1.25", "fw-1"),
    }


def test_interfaces_of_vpcs_that_are_not_connected_are_others() -> None:
    assert found(declared(["172.16.1.9"])) == {}
    peered = {"link": {"requester": "sec", "accepter": "other"}}
    assert found(declared(["172.16.1.9"], peerings=peered)) == {"172.16.1.9": ("172.16.1.9", "fw-3")}

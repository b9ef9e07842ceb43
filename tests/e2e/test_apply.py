"""`apply`: one swap; what it does not touch goes on as if nothing had happened."""

from __future__ import annotations

import copy
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from dataplane.errors import ConfigurationError
from tests.conformance.behaviours import behaviour
from tests.e2e.conversation import Conversation
from vpclab import Lab

SHOP: dict[str, Any] = {
    "version": 1,
    "name": "apply",
    "vpcs": {
        "v": {
            "cidr": "10.0.0.0/16",
            "internet_gateway": {},
            "subnets": {
                "public": {"cidr": "10.0.1.0/24", "route_table": "public"},
                "private": {"cidr": "10.0.2.0/24", "route_table": "private"},
            },
            "route_tables": {
                "public": {"routes": [{"destination": "0.0.0.0/0", "target": "internet-gateway"}]},
                "private": {"routes": [{"destination": "0.0.0.0/0", "target": "nat-gateway:nat"}]},
            },
            "nat_gateways": {"nat": {"subnet": "public", "elastic_ip": "203.0.113.10"}},
            "security_groups": {
                "server": {
                    "description": "echo for the private subnet",
                    "ingress": [{"protocol": "tcp", "ports": 7777, "source": "10.0.2.0/24"}],
                }
            },
        }
    },
    "instances": {
        "client": {"vpc": "v", "subnet": "private", "private_ip": "10.0.2.10"},
        "server": {"vpc": "v", "subnet": "public", "private_ip": "10.0.1.10", "security_groups": ["server"]},
    },
    "internet": {"hosts": {"example": {"address": "198.51.100.10"}}},
}


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab.from_dict(SHOP) as running:
        yield running


def changed(**instances: Any) -> dict[str, Any]:
    new = copy.deepcopy(SHOP)
    new["instances"] |= instances
    return new


def test_connections_through_groups_and_nat_survive_what_does_not_touch_them(lab: Lab) -> None:
    with (
        Conversation(lab, "server", "10.0.1.10", 7777) as inside,
        Conversation(lab, "example", "198.51.100.10", 80) as out,
    ):
        assert inside.works()
        assert out.works()
        assert out.seen_as == "203.0.113.10"
        new = changed(extra={"vpc": "v", "subnet": "private", "private_ip": "10.0.2.11"})
        new["vpcs"]["other"] = {"cidr": "10.9.0.0/16"}
        plan = lab.apply(new, dry_run=True)
        assert any("extra" in str(change) for change in plan)
        assert "extra" not in lab.nodes
        lab.apply(new)
        assert inside.works()
        assert out.works()
        assert lab["extra"].ping("198.51.100.10")
        lab.apply(SHOP)
        assert "extra" not in lab.nodes
        assert inside.works()
        assert out.works()


def test_a_tracked_connection_outlives_its_rule_and_a_new_one_is_refused(lab: Lab) -> None:
    with Conversation(lab, "server", "10.0.1.10", 7777) as tracked:
        assert tracked.works()
        new = copy.deepcopy(SHOP)
        new["vpcs"]["v"]["security_groups"]["server"]["ingress"] = []
        lab.apply(new)
        assert tracked.works()
        with pytest.raises(TimeoutError):
            lab["client"].connect("10.0.1.10", 7777, timeout_s=1)


@behaviour("A network ACL that is changed cuts tracked connections too", end_to_end=True)
def test_an_acl_cuts_connections_at_once(lab: Lab) -> None:
    with Conversation(lab, "server", "10.0.1.10", 7777) as cut:
        assert cut.works()
        cut.near.settimeout(1)
        cut.far.settimeout(1)
        new = copy.deepcopy(SHOP)
        new["vpcs"]["v"]["network_acls"] = {"closed": {}}
        new["vpcs"]["v"]["subnets"]["public"]["network_acl"] = "closed"
        lab.apply(new)
        assert not cut.works()
        cut.near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def test_a_wrong_file_changes_nothing(lab: Lab) -> None:
    new = changed(bad={"vpc": "v", "subnet": "nowhere"})
    new["vpcs"]["v"]["subnets"]["public"]["cidr"] = "10.0.2.0/24"
    before = lab.routes()
    with pytest.raises(ConfigurationError) as caught:
        lab.apply(new)
    assert len(caught.value.problems) >= 2
    assert lab.routes() == before
    assert set(lab.nodes) == {"client", "server", "example"}
    assert lab["client"].ping("198.51.100.10")

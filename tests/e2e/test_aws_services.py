"""S3 as a machine with programs: reached through a gateway endpoint, by the names that clients use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conversation import is_silent
from vpclab import Lab


def lab_file() -> dict[str, Any]:
    return {
        "version": 1,
        "name": "services",
        "region": "eu-west-1",
        "vpcs": {
            "v": {
                "cidr": "10.0.0.0/16",
                "subnets": {
                    "in": {"cidr": "10.0.1.0/24", "route_table": "in"},
                    "out": {"cidr": "10.0.2.0/24", "route_table": "out"},
                },
                "route_tables": {"in": {"routes": []}, "out": {"routes": []}},
                "gateway_endpoints": {"s3": {"service": "s3", "route_tables": ["in"]}},
            }
        },
        "instances": {
            "client": {"vpc": "v", "subnet": "in", "private_ip": "10.0.1.10"},
            "other": {"vpc": "v", "subnet": "out", "private_ip": "10.0.2.10"},
        },
        "aws_services": {
            "s3": {"programs": {"http": {"command": ["python3", "-m", "http.server", "80"], "ready": {"tcp": 80}}}}
        },
    }


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.from_dict(lab_file()) as lab:
        yield lab


def test_a_service_is_a_node(lab: Lab) -> None:
    assert list(lab.nodes) == ["client", "other", "s3"]
    (service,) = [node for node in lab.status()["nodes"] if node["kind"] == "aws-service"]
    assert service["name"] == "s3"
    assert lab["s3"].public_addresses == (lab["s3"].address,)


def test_clients_reach_it_by_its_names_and_are_seen_by_their_own_address(lab: Lab) -> None:
    for name in ("s3", "s3.eu-west-1.amazonaws.com"):
        done = lab["client"].run(["curl", "-sf", "-m", "20", f"http://{name}/"], check=True)
        assert "<" in done.stdout
        assert lab.address_of(name, source="client") == lab["s3"].address
    assert lab["client"].ping("s3")
    with open(lab.folder / "nodes" / "s3" / "http.log") as log:
        assert "10.0.1.10 - -" in log.read()


def test_without_the_endpoint_there_is_no_way(lab: Lab) -> None:
    assert is_silent(lab, "other", lab["s3"].address, 80)
    assert not lab.trace("other", "s3", port=80).reachable
    assert lab.trace("client", "s3", port=80).reachable

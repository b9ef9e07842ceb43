"""A lab whose client and server talk through a gateway load balancer, for tests to change as they like."""

from __future__ import annotations

import copy
import json
from typing import Any

from tests.e2e.lab.stage import eventually
from vpclab import Lab

ONE_ARM = {"command": ["sh", "-c", 'exec python3 "$VPCLAB_APPLIANCES/one_arm.py" --drop tcp:23'], "ready": {"tcp": 80}}
SERVER = {"command": ["python3", "-m", "http.server", "80"], "ready": {"tcp": 80}}

_LAB: dict[str, Any] = {
    "version": 1,
    "name": "inspected",
    "vpcs": {
        "app": {
            "cidr": "10.0.0.0/16",
            "subnets": {
                "client": {"cidr": "10.0.1.0/24", "availability_zone": "a", "route_table": "client"},
                "server": {"cidr": "10.0.2.0/24", "availability_zone": "a", "route_table": "server"},
                "endpoint": {"cidr": "10.0.3.0/24", "availability_zone": "a"},
            },
            "route_tables": {
                "client": {"routes": [{"destination": "10.0.2.0/24", "target": "vpc-endpoint:inspect"}]},
                "server": {"routes": [{"destination": "10.0.1.0/24", "target": "vpc-endpoint:inspect"}]},
            },
            "gateway_load_balancer_endpoints": {"inspect": {"service": "sec/firewalls", "subnet": "endpoint"}},
            "security_groups": {
                "open": {"description": "all", "ingress": [{"protocol": "all", "source": "0.0.0.0/0"}]}
            },
        },
        "sec": {
            "cidr": "10.9.0.0/16",
            "subnets": {
                "fw": {"cidr": "10.9.1.0/24", "availability_zone": "a"},
                "lb": {"cidr": "10.9.2.0/24", "availability_zone": "a"},
            },
            "gateway_load_balancers": {
                "lb": {"subnets": ["lb"], "private_ips": {"lb": "10.9.2.20"}, "target_group": "fleet"}
            },
            "target_groups": {
                "fleet": {
                    "targets": ["fw-a", "fw-b"],
                    "deregistration_delay": 60,
                    "health_check": {
                        "protocol": "HTTP",
                        "interval": 5,
                        "timeout": 2,
                        "healthy_threshold": 2,
                        "unhealthy_threshold": 2,
                    },
                }
            },
            "endpoint_services": {"firewalls": {"gateway_load_balancer": "lb", "acceptance_required": False}},
            "security_groups": {
                "fw": {
                    "description": "what comes from the load balancer",
                    "ingress": [
                        {"protocol": "udp", "ports": 6081, "source": "10.9.2.0/24"},
                        {"protocol": "tcp", "ports": 80, "source": "10.9.2.0/24"},
                    ],
                }
            },
        },
    },
    "instances": {
        "client": {"vpc": "app", "subnet": "client", "private_ip": "10.0.1.10", "security_groups": ["open"]},
        "server": {
            "vpc": "app",
            "subnet": "server",
            "private_ip": "10.0.2.10",
            "security_groups": ["open"],
            "programs": {"http": SERVER},
        },
        **{
            name: {
                "vpc": "sec",
                "subnet": "fw",
                "private_ip": address,
                "security_groups": ["fw"],
                "programs": {"one-arm": ONE_ARM},
            }
            for name, address in (("fw-a", "10.9.1.10"), ("fw-b", "10.9.1.11"))
        },
    },
}


def inspected() -> dict[str, Any]:
    """The lab, as a lab file has it."""
    return copy.deepcopy(_LAB)


def fleet(lab_file: dict[str, Any]) -> dict[str, Any]:
    """Its target group."""
    found: dict[str, Any] = lab_file["vpcs"]["sec"]["target_groups"]["fleet"]
    return found


def counters(lab: Lab, name: str) -> dict[str, Any]:
    """What an appliance has counted."""
    page = lab[name].run(["curl", "-s", "-m", "20", "http://127.0.0.1/counters"], check=True).stdout
    found: dict[str, Any] = json.loads(page)
    return found


def states(lab: Lab) -> dict[str, str]:
    """State of each target."""
    return {row["target"]: row["state"] for row in lab.targets()}


def await_states(lab: Lab, wanted: dict[str, str], *, deadline_s: float = 90) -> None:
    """Wait until every target's state is this."""
    eventually(lambda: states(lab) == wanted, f"targets are {wanted}", deadline_s=deadline_s)


def await_health(lab: Lab) -> None:
    """Wait until every target is healthy."""
    eventually(lambda: set(states(lab).values()) == {"healthy"}, "all targets are healthy", deadline_s=90)


def program(lab: Lab, node: str) -> int:
    """Process id of the first program of a node."""
    (found,) = [each for each in lab.status()["nodes"] if each["name"] == node]
    return int(found["programs"][0]["pid"])


def reasons(lab: Lab) -> dict[str, str]:
    """Reason code of each target that has one."""
    return {row["target"]: row["reason"] for row in lab.targets() if row["reason"]}

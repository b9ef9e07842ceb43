"""A lab with a gateway load balancer, as sections of a lab file: VPC sec inspects what VPC app sends and gets."""

from __future__ import annotations

from typing import Any

BALANCER = "vpcs.sec.gateway_load_balancers.gw"
GROUP = "vpcs.sec.target_groups.fleet"
SERVICE = "vpcs.sec.endpoint_services.inspect"
ENDPOINT = "vpcs.app.gateway_load_balancer_endpoints.ep"
ROUTE = "vpcs.app.route_tables.web.routes[0]"


def security(
    *,
    balancer: dict[str, Any] | None = None,
    group: dict[str, Any] | None = None,
    service: dict[str, Any] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """The VPC of the load balancer: 10.9.0.0/16, subnets fw-a and fw-b in zones a and b."""
    return {
        "cidr": "10.9.0.0/16",
        "subnets": {
            "fw-a": {"cidr": "10.9.1.0/24"},
            "fw-b": {"cidr": "10.9.2.0/24", "availability_zone": "b"},
            "fw-c": {"cidr": "10.9.3.0/24", "availability_zone": "c"},
        },
        "gateway_load_balancers": {"gw": {"subnets": ["fw-a", "fw-b"], "target_group": "fleet", **(balancer or {})}},
        "target_groups": {"fleet": {"targets": ["fw-1", "fw-2"], **(group or {})}},
        "endpoint_services": {
            "inspect": {"gateway_load_balancer": "gw", "acceptance_required": False, **(service or {})}
        },
        **fields,
    }


def app(
    *, endpoint: dict[str, Any] | None = None, route: dict[str, Any] | None = None, **fields: Any
) -> dict[str, Any]:
    """The VPC that is inspected: 10.0.0.0/16, subnets web and ends (of the endpoint), both in zone a."""
    first = {"destination": "0.0.0.0/0", "target": "vpc-endpoint:ep", **(route or {})}
    return {
        "cidr": "10.0.0.0/16",
        "internet_gateway": {"route_table": "edge"},
        "subnets": {
            "web": {"cidr": "10.0.1.0/24", "route_table": "web"},
            "ends": {"cidr": "10.0.2.0/24", "route_table": "ends"},
            "far": {"cidr": "10.0.3.0/24", "availability_zone": "c"},
        },
        "route_tables": {
            "web": {"routes": [first]},
            "ends": {"routes": [{"destination": "0.0.0.0/0", "target": "internet-gateway"}]},
            "edge": {"routes": [{"destination": "10.0.1.0/24", "target": "vpc-endpoint:ep"}]},
        },
        "gateway_load_balancer_endpoints": {"ep": {"service": "sec/inspect", "subnet": "ends", **(endpoint or {})}},
        **fields,
    }


def inspected(sec: dict[str, Any] | None = None, shop: dict[str, Any] | None = None, **sections: Any) -> dict[str, Any]:
    """The whole lab; `sec` and `shop` are arguments of `security` and `app`."""
    return {
        "vpcs": {"sec": security(**(sec or {})), "app": app(**(shop or {}))},
        "instances": {
            "fw-1": {"vpc": "sec", "subnet": "fw-a", "private_ip": "10.9.1.21"},
            "fw-2": {"vpc": "sec", "subnet": "fw-b", "private_ip": "10.9.2.22"},
            "web": {"vpc": "app", "subnet": "web", "private_ip": "10.0.1.30"},
        },
        **sections,
    }

"""Endpoint services: who may connect an endpoint to one, where, and what an endpoint is worth until it is accepted."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP, UDP

from dataplane.verdict import Reason
from tests.conformance.behaviours import behaviour
from tests.conformance.labs import accepted, changed, refused
from tests.conformance.sources import privatelink_guide
from tests.scenario.gwlb import APP, APP_OUTSIDE, DB, FAR, LAB, delivered, send_back, through
from tests.scenario.network import Network

SECTION = "Endpoints"

CONFIGURE = privatelink_guide("configure-endpoint-service")
CREATE = privatelink_guide("create-gateway-load-balancer-endpoint-service")
ENDPOINTS = privatelink_guide("gateway-load-balancer-endpoints")

QUERY = IP(src=APP, dst=DB) / UDP(sport=5000, dport=53)
AT = "vpcs.shop.gateway_load_balancer_endpoints.inspect"
AUTOMATIC, MANUAL = "acceptance_required: false", "acceptance_required: true"
ELSEWHERE = changed(LAB, ("  shop:\n", '  shop:\n    account: "210987654321"\n'))
"""VPC shop is of another account than the service."""


@behaviour(
    "Until its provider accepts an endpoint, what is routed to it is dropped, from whichever side", source=CONFIGURE
)
def test_pending() -> None:
    network = Network(changed(LAB, (AUTOMATIC, MANUAL)))
    for node, packet in (("app", QUERY), ("far", IP(src=FAR, dst=APP_OUTSIDE) / TCP(flags="S"))):
        result = network.send(node, packet)
        assert (result.reason, result.sent) == (Reason.ENDPOINT_UNAVAILABLE, ())


@behaviour("An endpoint that was accepted works, others of the service still do not", source=CONFIGURE)
def test_accepted() -> None:
    network = Network(changed(LAB, (AUTOMATIC, f'{MANUAL}, accepted: ["shop/inspect"]')))
    assert through(network, "app", QUERY).to == "db"
    assert network.send("app2", QUERY).reason is Reason.ENDPOINT_UNAVAILABLE


@behaviour("A service may accept by itself", source=CREATE)
def test_automatic() -> None:
    network = Network(LAB)
    assert through(network, "app", QUERY).to == "db"
    assert through(network, "app2", QUERY).to == "db2"


@behaviour("An endpoint that was rejected drops what is routed to it, new flows and those it had", source=CONFIGURE)
def test_rejected() -> None:
    network = Network(LAB)
    got = delivered(network.send("app", QUERY))
    network.apply(changed(LAB, (AUTOMATIC, f'{AUTOMATIC}, rejected: ["shop/inspect"]')))
    assert network.send("app", QUERY).reason is Reason.ENDPOINT_UNAVAILABLE
    assert send_back(network, got).sent == ()
    assert through(network, "app2", QUERY).to == "db2"


@behaviour("Only principals that a service allows connect endpoints: everybody, or accounts", source=CONFIGURE)
@pytest.mark.parametrize("principal", ["*", "210987654321", "arn:aws:iam::210987654321:root"])
def test_principals(principal: str) -> None:
    everybody = 'allowed_principals: ["*"]'
    accepted(changed(ELSEWHERE, (everybody, f'allowed_principals: ["{principal}"]')))
    for others in ("[]", '["111122223333"]'):
        found = refused(changed(ELSEWHERE, (everybody, f"allowed_principals: {others}")))
        assert found == {(f"{AT}.service", "InvalidServiceName")}


@behaviour("The service's own account needs no permission", silent=True, source=CONFIGURE)
def test_own_account() -> None:
    accepted(changed(LAB, ('allowed_principals: ["*"]', "allowed_principals: []")))


@behaviour("A service is offered in the zones of its load balancer, and endpoints are in these only", source=ENDPOINTS)
def test_zones() -> None:
    subnet = 'gwlbe: {cidr: 10.0.1.0/24, ipv6_cidr: "2001:db8:10:1::/64", availability_zone: '
    accepted(changed(LAB, (f"{subnet}a", f"{subnet}b")))
    assert refused(changed(LAB, (f"{subnet}a", f"{subnet}c"))) == {(f"{AT}.subnet", "InvalidParameter")}


@behaviour("An endpoint uses the load balancer's node in its own zone", source=ENDPOINTS)
def test_node_of_its_zone() -> None:
    subnet = 'gwlbe: {cidr: 10.0.1.0/24, ipv6_cidr: "2001:db8:10:1::/64", availability_zone: '
    network = Network(changed(LAB, (f"{subnet}a", f"{subnet}b")))
    got = delivered(network.send("app", QUERY))
    assert (got.source, got.target) == ("10.9.2.10", "fw3")
    assert send_back(network, got).to == "db"


@behaviour("A VPC has one endpoint of a service in each zone", source=ENDPOINTS)
def test_one_in_each_zone() -> None:
    endpoint = "private_ip: 10.0.1.10, id: vpce-0f583215d2e66b39c}\n"
    second = "      second: {service: security/inspection, subnet: more}\n"
    subnet = "      data: {cidr: 10.0.3.0/24, ipv6"
    for zone, fits in (("a", False), ("b", True)):
        more = f"      more: {{cidr: 10.0.4.0/24, availability_zone: {zone}}}\n"
        text = changed(LAB, (endpoint, endpoint + second), (subnet, more + subnet))
        if fits:
            accepted(text)
        else:
            at = "vpcs.shop.gateway_load_balancer_endpoints.second.subnet"
            assert refused(text) == {(at, "DuplicateSubnetsInSameZone")}


@behaviour("A service is known in its own Region only", source=CREATE)
def test_region() -> None:
    peering = "peerings: {p: {requester: security, accepter: shop, accepter_region: eu-west-1}}\ninstances:\n"
    assert (f"{AT}.service", "InvalidServiceName") in refused(changed(LAB, ("instances:\n", peering)))


@behaviour("A consumer may have the addresses of its provider: they never meet", silent=True, source=CREATE)
def test_overlap() -> None:
    """Here the appliances' VPC is 10.0.0.0/16 too; the node has the endpoint's very address."""
    network = Network(changed(LAB, ("10.9.", "10.0.")))
    got = delivered(network.send("app", QUERY))
    assert (got.source, got.packet.src) == ("10.0.1.10", APP)
    assert send_back(network, got).to == "db"

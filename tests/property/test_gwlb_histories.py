"""Both engines live through the same histories of labs with gateway load balancers and gateway endpoints."""

from __future__ import annotations

import pytest

from tests.property.disagreements import IncomparableError
from tests.property.gwlb_histories import History
from tests.scenario import test_gateway_endpoints, test_gwlb_routes
from tests.scenario.gwlb import LAB, balancer, group

REBALANCE = {"on_deregistration": "rebalance", "on_unhealthy": "rebalance"}
LABS = {
    "plain": LAB,
    "cross-zone": balancer(cross_zone="true"),
    "resets": balancer(send_tcp_reset="true", tcp_idle_timeout=60),
    "two-tuple": group(stickiness="source_ip_dest_ip"),
    "three-tuple": group(stickiness="source_ip_dest_ip_proto"),
    "rebalance": group(**REBALANCE),
    "two-tuple-rebalance": group(stickiness="source_ip_dest_ip", **REBALANCE),
    "nat": test_gwlb_routes.NAT,
    "nat-behind": test_gwlb_routes.with_nat(
        test_gwlb_routes.TO_ENDPOINT, test_gwlb_routes.TO_INTERNET, test_gwlb_routes.TO_NAT, "10.0.2.0/24"
    ),
    "peer": test_gwlb_routes.PEERED,
    "far-peer": test_gwlb_routes.FAR_AWAY,
    "services": test_gateway_endpoints.LAB,
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("lab", LABS)
def test_engines_agree(lab: str, seed: int) -> None:
    history = History(LABS[lab], seed)
    try:
        history.play(40)
    except IncomparableError:
        assert history.sent

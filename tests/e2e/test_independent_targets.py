"""Targets that are not ours: a kernel that only turns packets round, and one on scapy's GENEVE layer.

So what the load balancer writes is read, and what it reads is written, by somebody who knows nothing of it.
https://aws.amazon.com/blogs/networking-and-content-delivery/integrate-your-custom-logic-or-appliance-with-aws-gateway-load-balancer/
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.behaviours import behaviour
from tests.e2e.conversation import Conversation, connects, datagrams
from tests.e2e.inspected import fleet, inspected, states
from tests.e2e.lab.stage import eventually
from vpclab import Lab

BALANCER, SERVER, SERVER6 = "10.9.2.20", "10.0.2.10", "2001:db8:1:2::10"
HAIRPIN = f"""
echo 1 > /proc/sys/net/ipv4/ip_forward
PATH=$PATH:/usr/sbin
nft -f - <<'END'
table ip turn {{
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    ip saddr {BALANCER} udp dport 6081 dnat to {BALANCER}:6081
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    ip daddr {BALANCER} udp dport 6081 masquerade
  }}
}}
END
exec python3 -m http.server 80
"""
TARGETS = {
    "kernel": ["sh", "-c", HAIRPIN],
    "scapy": [sys.executable, str(Path(__file__).with_name("scapy_target.py")), "80"],
}


@pytest.fixture(scope="module", params=TARGETS)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with Lab.from_dict(behind(TARGETS[request.param])) as lab:
        eventually(lambda: set(states(lab).values()) == {"healthy"}, "the target is healthy", deadline_s=90)
        yield lab


def test_a_check_through_a_slow_target_is_one_packet() -> None:
    """The second SYN, after a second, would begin another flow while the reset that answers the first is inside."""
    with Lab.from_dict(behind([*TARGETS["scapy"], "0.7"])) as lab:
        eventually(lambda: set(states(lab).values()) == {"healthy"}, "the target is healthy", deadline_s=90)
        [row] = lab.check([{"can": "client -> server", "port": 9999}], patience_s=30.0)
    assert (row["found"], row["refused"]) == ("answered", True), row["why"]
    endpoint = "vpc-endpoint:app/inspect"
    assert [each for each in row["passed"] if not each.startswith("instance:")] == [endpoint, endpoint]


def behind(command: list[str]) -> dict[str, Any]:
    """A lab with one target, which runs a command; client and server have IPv6 too."""
    file = inspected()
    fleet(file)["targets"] = ["fw-a"]
    del file["instances"]["fw-b"]
    file["instances"]["fw-a"]["programs"] = {"target": {"command": command, "ready": {"tcp": 80}}}
    app = file["vpcs"]["app"]
    app["ipv6_cidrs"] = ["2001:db8:1::/56"]
    app["security_groups"]["open"]["ingress"].append({"protocol": "all", "source": "::/0"})
    for number, name in enumerate(("client", "server"), start=1):
        app["subnets"][name]["ipv6_cidr"] = f"2001:db8:1:{number}::/64"
        file["instances"][name]["ipv6_address"] = f"2001:db8:1:{number}::10"
        target = {"destination": f"2001:db8:1:{3 - number}::/64", "target": "vpc-endpoint:inspect"}
        app["route_tables"][name]["routes"].append(target)
    return file


@behaviour(
    "An appliance that only turns packets round, without knowing GENEVE, works behind a load balancer", end_to_end=True
)
def test_tcp(lab: Lab) -> None:
    with Conversation(lab, "server", SERVER, 9000) as line:
        for _ in range(20):
            assert line.works()
    assert connects(lab, "client", SERVER, 80)


def test_udp_in_fragments(lab: Lab) -> None:
    """Fragments of 9001 bytes would be dropped, as on AWS: an endpoint takes 8500, and tells nobody."""
    for name in ("client", "server"):
        lab[name].run(["ip", "link", "set", "eth0", "mtu", "1500"], check=True)
    with datagrams(lab, "client", "server", SERVER, 9000) as line:
        assert line.ask(bytes(range(256)) * 30), "in fragments"
        assert line.answer(bytes(20000)), "in fragments"


@pytest.mark.parametrize("address", [SERVER, SERVER6])
def test_ping_of_either_family(lab: Lab, address: str) -> None:
    for name in ("client", "server"):
        lab[name].run(["ip", "link", "set", "eth0", "mtu", "9001"], check=True)
    assert lab["client"].ping(address).received == 1
    assert "ttl=62" in lab["client"].ping(address).output
    assert lab["client"].ping(address, size_bytes=8000, dont_fragment=True).received == 1


def test_tcp_over_ipv6(lab: Lab) -> None:
    with Conversation(lab, "server", SERVER6, 9001) as line:
        assert line.works()

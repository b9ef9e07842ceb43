"""The appliances of `lab/appliances` at work: real traffic of real kernels through them."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.conversation import Conversation, is_silent
from tests.e2e.inspected import await_states, counters, inspected
from tests.e2e.lab.stage import best_of, eventually, is_done_within, need, rates
from vpclab import Lab

TWO_ARM = {
    "command": ["sh", "-c", 'exec python3 "$VPCLAB_APPLIANCES/two_arm.py" --drop tcp:23'],
    "ready": {"tcp": 80},
}
EVERYTHING = [{"protocol": "all", "source": "0.0.0.0/0"}, {"protocol": "all", "source": "::/0"}]
WEB = {"command": ["python3", "-m", "http.server", "--bind", "::", "80"], "ready": {"tcp": 80}}


def two_armed() -> dict[str, Any]:
    """A client without an internet gateway, whose traffic leaves by the second interface of an appliance."""
    anywhere = [
        {"destination": "0.0.0.0/0", "target": "vpc-endpoint:out"},
        {"destination": "::/0", "target": "vpc-endpoint:out"},
    ]
    internet = [
        {"destination": "0.0.0.0/0", "target": "internet-gateway"},
        {"destination": "::/0", "target": "internet-gateway"},
    ]
    return {
        "version": 1,
        "name": "two-armed",
        "vpcs": {
            "app": {
                "cidr": "10.0.0.0/16",
                "ipv6_cidrs": ["2001:db8:0:0::/56"],
                "subnets": {
                    "client": {"cidr": "10.0.1.0/24", "ipv6_cidr": "2001:db8:0:1::/64", "route_table": "client"},
                    "endpoint": {"cidr": "10.0.2.0/24", "ipv6_cidr": "2001:db8:0:2::/64"},
                },
                "route_tables": {"client": {"routes": anywhere}},
                "gateway_load_balancer_endpoints": {"out": {"service": "sec/egress", "subnet": "endpoint"}},
                "security_groups": {"open": {"description": "all", "ingress": EVERYTHING}},
            },
            "sec": {
                "cidr": "10.9.0.0/16",
                "ipv6_cidrs": ["2001:db8:9:0::/56"],
                "internet_gateway": {},
                "subnets": {
                    "inside": {"cidr": "10.9.1.0/24"},
                    "outside": {"cidr": "10.9.2.0/24", "ipv6_cidr": "2001:db8:9:2::/64", "route_table": "outside"},
                },
                "route_tables": {"outside": {"routes": internet}},
                "gateway_load_balancers": {"lb": {"subnets": ["inside"], "target_group": "fleet"}},
                "target_groups": {"fleet": {"targets": ["fw"]}},
                "endpoint_services": {"egress": {"gateway_load_balancer": "lb", "acceptance_required": False}},
                "security_groups": {"open": {"description": "all", "ingress": EVERYTHING}},
                "network_interfaces": {
                    "outside": {
                        "subnet": "outside",
                        "private_ips": ["10.9.2.10"],
                        "ipv6_addresses": ["2001:db8:9:2::10"],
                        "elastic_ips": {"10.9.2.10": "203.0.113.9"},
                        "security_groups": ["open"],
                        "source_dest_check": False,
                        "attachment": {"instance": "fw", "device_index": 1},
                    }
                },
            },
        },
        "instances": {
            "client": {
                "vpc": "app",
                "subnet": "client",
                "private_ip": "10.0.1.10",
                "ipv6_address": "2001:db8:0:1::10",
                "security_groups": ["open"],
            },
            "fw": {
                "vpc": "sec",
                "subnet": "inside",
                "private_ip": "10.9.1.10",
                "security_groups": ["open"],
                "programs": {"two-arm": TWO_ARM},
            },
        },
        "internet": {
            "hosts": {
                "example": {
                    "address": "198.51.100.10",
                    "ipv6_address": "2001:db8:ffff::10",
                    "programs": {"web": WEB},
                }
            }
        },
    }


@pytest.fixture(scope="module")
def two_arm() -> Iterator[Lab]:
    need("nft")
    with Lab.from_dict(two_armed()) as lab:
        yield lab


@pytest.fixture(scope="module")
def one_arm() -> Iterator[Lab]:
    with Lab.from_dict(inspected()) as lab:
        yield lab


def slowest(lab: Lab, client: str, server: str, *options: str, enough: float) -> float:
    """Bits per second in the slowest half second of a stream; of several, where a busy machine makes one stall."""
    need("iperf3")
    return best_of(lambda: min(iperf(lab, client, server, *options)), enough)


def iperf(lab: Lab, client: str, server: str, *options: str) -> list[float]:
    """Bits per second of each half second."""
    with lab[server].popen(["iperf3", "-s", "-1"]) as listening:
        eventually(lambda: lab[server].run(["sh", "-c", "ss -ltn | grep :5201"]).returncode == 0, "iperf3 listens")
        address = lab.address_of(server, source=client)
        done = lab[client].run(["iperf3", "-c", address, "-t", "2", "-i", "0.5", "-J", *options])
        listening.wait(60)
    assert done.returncode == 0, done.stdout + done.stderr
    return rates(json.loads(done.stdout))


@pytest.mark.parametrize("options", [[], ["-R"], ["-P", "4"]], ids=["there", "back", "four"])
def test_one_arm_carries_tcp_without_a_stall(one_arm: Lab, options: list[str]) -> None:
    assert slowest(one_arm, "client", "server", *options, enough=10e6) > 10e6


def test_one_arm_carries_packets_of_all_sizes(one_arm: Lab) -> None:
    for size in (0, 1, 1000, 8472):
        assert one_arm["client"].ping("server", size_bytes=size, dont_fragment=True), size
    for name in ("client", "server"):
        one_arm[name].run(["ip", "link", "set", "eth0", "mtu", "1500"], check=True)
    assert one_arm["client"].ping("server", size_bytes=20000)  # in fragments
    for name in ("client", "server"):
        one_arm[name].run(["ip", "link", "set", "eth0", "mtu", "9001"], check=True)


def test_two_arm_leaves_with_its_own_address(two_arm: Lab) -> None:
    await_states(two_arm, {"fw": "healthy"})
    with Conversation(two_arm, "example", "198.51.100.10", 9000) as line:
        assert line.works()
        assert line.seen_as == "203.0.113.9"
        before = counters(two_arm, "fw")
        assert line.works()
        after = counters(two_arm, "fw")
        assert after["returned"] > before["returned"]
        assert after["flows"] == before["flows"]


def reasons(lab: Lab, node: str) -> dict[str, int]:
    """What packets of a node's first interface have died of, and how many."""
    [found] = [each for each in lab.status()["nodes"] if each["name"] == node]
    counted: dict[str, int] = found["interfaces"][0]["counters"]["reasons"]
    return counted


def test_two_arm_carries_ipv6_and_errors_but_no_fragments_of_its_own(two_arm: Lab) -> None:
    assert two_arm["client"].ping("2001:db8:ffff::10")
    done = two_arm["client"].run(["curl", "-sf", "-m", "20", "http://[2001:db8:ffff::10]/"])
    assert "<" in done.stdout
    assert two_arm["client"].ping("198.51.100.10")
    # Too large for the internet: the gateway says so to the appliance's address, and the client hears of it.
    assert "mtu = 1500" in two_arm["client"].ping("198.51.100.10", size_bytes=5000).output
    # In fragments from now on. The appliance's kernel cuts the answer once more, and no load balancer carries what
    # appliances have cut (Elastic Load Balancing FAQ).
    assert not two_arm["client"].ping("198.51.100.10", size_bytes=5000, timeout_s=1)
    assert reasons(two_arm, "fw").get("GENEVE_FRAGMENT")
    ttl = two_arm["client"].run(["ping", "-n", "-c1", "-W3", "-t2", "198.51.100.10"])
    assert "Time to live exceeded" in ttl.stdout, ttl.stdout


def test_two_arm_carries_tcp_without_a_stall(two_arm: Lab) -> None:
    assert slowest(two_arm, "client", "example", enough=5e6) > 5e6
    assert slowest(two_arm, "client", "example", "-R", enough=5e6) > 5e6


def test_two_arm_drops_by_rule_and_begins_no_flow(two_arm: Lab) -> None:
    assert is_silent(two_arm, "client", "198.51.100.10", 23)
    eventually(lambda: counters(two_arm, "fw")["dropped"].get("tcp:23"), "it is counted")
    before = counters(two_arm, "fw")["returned"]
    with pytest.raises(ConnectionRefusedError):  # by the appliance's kernel: the packet is its own
        two_arm["example"].connect("203.0.113.9", 9, timeout_s=5)
    assert counters(two_arm, "fw")["returned"] == before


def test_two_arm_is_back_soon_and_tidies_up(two_arm: Lab) -> None:
    with Conversation(two_arm, "example", "198.51.100.10", 9000) as line:
        assert line.works()
        # Well below a second where nothing else runs; it starts some ten programs, which wait where much does.
        assert is_done_within(3, two_arm["fw"].restart)
        assert line.works()  # the kernel remembers the translation, and the client's next packet tells the way
    rules = two_arm["fw"].run(["ip", "rule"]).stdout
    assert rules.count("lookup 601") == 1
    assert two_arm["fw"].run(["nft", "list", "tables"]).stdout.count("vpclab_two_arm") == 1


def test_two_arm_that_is_away_refuses_nothing_that_is_under_way(two_arm: Lab) -> None:
    """Its kernel gets answers meanwhile, and must not take them for its own, which nobody here listens for."""
    with Conversation(two_arm, "example", "198.51.100.10", 9001) as line:
        assert line.works()
        line.far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sent = 0
        with ThreadPoolExecutor(1) as other:
            restarted = other.submit(two_arm["fw"].restart)
            while not restarted.done():
                sent += line.far.send(b"x")  # a segment each at first, and then what the kernel sends again
                time.sleep(0.01)
            restarted.result()
        line.near.sendall(b"on")
        assert line.far.recv(2) == b"on"
        assert line.near.makefile("rb").read(sent) == b"x" * sent

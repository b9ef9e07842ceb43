"""Whole lab files: what is loaded, what is reported, how fast."""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from dataplane.errors import ConfigurationError
from dataplane.load import load, load_topology

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))

SHOP = """\
version: 1
vpcs:
  shop:
    cidr: 10.0.0.0/16
    internet_gateway: {}
    subnets:
      public: {cidr: 10.0.1.0/24, route_table: public}
      private: {cidr: 10.0.2.0/24}
    route_tables:
      public:
        routes:
          - {destination: 10.9.0.0/16, target: blackhole}
          - {destination: 0.0.0.0/0, target: internet-gateway}
instances:
  web: {vpc: shop, subnet: public, private_ip: 10.0.1.10}
  app: {vpc: shop, subnet: private}
internet:
  hosts:
    example: {address: 198.51.100.10}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_topology(text, file_name="lab.yaml")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_loads_without_a_problem(path: Path) -> None:
    assert load_topology(path).lab.name == path.stem


def test_what_is_loaded() -> None:
    loaded = load(SHOP)
    assert loaded.lab_file.vpcs["shop"].cidr == IPv4Network("10.0.0.0/16")
    assert loaded.lab_file.instances["web"].private_ip == IPv4Address("10.0.1.10")
    assert list(loaded.lab_file.instances) == ["web", "app"]
    assert loaded.marks.locate("instances.web.private_ip") == (15, 48)
    assert loaded.topology().lab is loaded.lab_file


def test_json_loads_too() -> None:
    assert load('{"version": 1, "vpcs": {"shop": {"cidr": "10.0.0.0/16"}}}\n').lab_file.vpcs.keys() == {"shop"}


def test_problems_of_the_topology_have_their_places() -> None:
    text = SHOP.replace("target: internet-gateway", "target: nat-gateway:nat").replace("10.0.1.10", "10.0.2.10")
    text = text.replace("10.0.2.0/24}", "10.0.1.128/25}")
    found = problems(text)
    assert len(found) == 3
    assert found[0].startswith("lab.yaml:8:23: vpcs.shop.subnets.private.cidr: ")
    assert "[InvalidSubnet.Conflict]" in found[0]
    assert found[1].startswith("lab.yaml:13:46: vpcs.shop.route_tables.public.routes[1].target: ")
    assert found[2].startswith("lab.yaml:15:48: instances.web.private_ip: ")


def test_topology_problems_join_those_of_loading_where_they_cannot_be_false() -> None:
    """The host's key is unknown, but whatever it should have been, the two subnets overlap."""
    text = SHOP.replace("10.0.2.0/24}", "10.0.1.128/25}").replace("{address:", "{adress:")
    found = problems(text)
    assert [line.partition(": ")[0] for line in found] == ["lab.yaml:8:23", "lab.yaml:19:15"]


def test_one_slip_is_not_drowned_in_its_consequences() -> None:
    """An unread subnet makes an instance homeless, but that is not what is wrong."""
    (found,) = problems(SHOP.replace("public: {cidr: 10.0.1.0/24,", "public: {cidr: 10.0.1/24,"))
    assert found.startswith("lab.yaml:7:22: vpcs.shop.subnets.public.cidr: 10.0.1/24 is no IPv4 CIDR block")


@pytest.mark.parametrize(
    ("unread", "route", "path"),
    [
        (
            "prefix_lists: {corp: {entries: [{cidr: 10.0.0.0}]}}",
            '{destination: "prefix-list:corp", target: blackhole}',
            "prefix_lists.corp.entries[0].cidr",
        ),
        (
            "aws_services: {dynamodb: {address: nowhere}}",
            '{destination: "prefix-list:com.amazonaws.us-east-1.dynamodb", target: blackhole}',
            "aws_services.dynamodb.address",
        ),
        (
            "peerings: {link: {requester: shop, accepter: 1}}",
            '{destination: 10.9.0.0/16, target: "peering:link"}',
            "peerings.link.accepter",
        ),
    ],
)
def test_what_a_route_names_is_not_missed_when_it_could_not_be_read(unread: str, route: str, path: str) -> None:
    text = SHOP.replace("{destination: 10.9.0.0/16, target: blackhole}", route) + unread + "\n"
    assert route in text
    assert [line.split(": ")[1] for line in problems(text)] == [path]


def test_a_group_that_is_called_like_an_instance_is_none() -> None:
    """What is unread of the instance says nothing about who carries the group."""
    text = SHOP.replace("    route_tables:", "    security_groups: {app: {}}\n    route_tables:")
    text = text.replace("10.0.1.10}", "10.0.2.10, security_groups: [app]}").replace("subnet: private}", "subnet: }")
    assert {line.split(": ")[1] for line in problems(text)} == {"instances.app.subnet", "instances.web.private_ip"}


def test_problems_of_yaml_come_with_those_of_loading() -> None:
    text = SHOP.replace("  app:", "  web:").replace("version: 1", "version: 2")
    found = problems(text)
    assert found[0] == "lab.yaml:1:10: version: 2 is not 1; write 1"
    assert found[1].startswith("lab.yaml:16:3: instances.web: the key is written twice, first at line 15, column 3")


def test_a_list_of_gateways_is_refused_because_a_vpc_has_one() -> None:
    (found,) = problems(SHOP.replace("internet_gateway: {}", "internet_gateway: [{}, {}]"))
    assert "there is one at most" in found


def test_constructs_we_lack_are_named() -> None:
    (found,) = problems(SHOP.replace("    internet_gateway: {}", "    internet_gateway: {}\n    vpn_gateway: {}"))
    assert found.startswith("lab.yaml:6:5: vpcs.shop.vpn_gateway: vpn_gateway is no key here; ")
    (found,) = problems(SHOP + "transit_gateways: {}\n")
    assert "lab.yaml:20:1: transit_gateways: transit_gateways is no key here" in found


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        load_topology(tmp_path / "no.yaml")


def large(instances: int) -> str:
    """A lab of one VPC and so many instances, each with a program, in block style."""
    lines = ["version: 1", "vpcs:", "  big:", "    cidr: 10.0.0.0/16", "    subnets:"]
    lines += [f"      s{i}: {{cidr: 10.0.{i}.0/24}}" for i in range(instances // 200 + 1)]
    lines += ["    security_groups:", "      web:", "        ingress:"]
    lines += ["          - {protocol: tcp, ports: 80, source: 0.0.0.0/0}", "instances:"]
    for i in range(instances):
        subnet, host = divmod(i, 200)
        lines += [f"  i{i}:", "    vpc: big", f"    subnet: s{subnet}", f"    private_ip: 10.0.{subnet}.{10 + host}"]
        lines += ["    security_groups: [web]", "    programs:", "      http:"]
        lines += ['        command: [python3, -m, http.server, "80"]', "        ready: {tcp: 80}"]
        lines += ["        restart: always"]
    return "\n".join(lines) + "\n"


def test_a_thousand_instances_load_in_seconds() -> None:
    text = large(1_000)
    begin = time.process_time()
    topology = load_topology(text)
    elapsed = time.process_time() - begin
    assert len(topology.lab.instances) == 1_000
    assert elapsed < 6  # about 1.5 s on a laptop


def test_a_thousand_wrong_instances_are_reported_in_seconds() -> None:
    begin = time.process_time()
    found = problems(large(1_000).replace("private_ip: 10.0", "private_ip: 10.9"))
    assert len(found) >= 1_000
    assert time.process_time() - begin < 12

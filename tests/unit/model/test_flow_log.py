"""Flow logs: what is refused, what they watch, and the points in front of the gates."""

from __future__ import annotations

from typing import Any

import pytest

from dataplane.model.flow_log import ABSENT, DEFAULT_FORMAT, VERSION_OF, FlowLog
from dataplane.names import Names
from dataplane.observe.aws_ids import aws_id
from dataplane.observe.flow_log_lines import watched_interfaces
from dataplane.program import Direction, Point
from tests.unit.model.building import expect, instance, lab, peered, problems, program, topology, vpc
from tests.unit.model.inspection import inspected

PATH = "vpcs.shop.flow_logs.log"


def sections(log: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A VPC with an instance, a NAT gateway and a flow log."""
    own = vpc(
        internet_gateway={},
        subnets={"one": {"cidr": "10.0.1.0/24"}, "two": {"cidr": "10.0.2.0/24"}},
        nat_gateways={"out": {"subnet": "two", "elastic_ip": "203.0.113.9"}},
        flow_logs={} if log is None else {"log": log},
        **fields,
    )
    return {"vpcs": {"shop": own}, "instances": {"web": instance()}}


@pytest.mark.parametrize(
    ("log", "path", "code", "words"),
    [
        ({"subnet": "onne"}, "subnet", "InvalidSubnetID.NotFound", "did you mean one?"),
        ({"network_interface": "web/eth1"}, "network_interface", "InvalidNetworkInterfaceID.NotFound", "web/eth0"),
        (
            {"network_interface": "nat-gateway:oot"},
            "network_interface",
            "InvalidNetworkInterfaceID.NotFound",
            "did you mean nat-gateway:out?",
        ),
        (
            {"subnet": "one", "network_interface": "web/eth0"},
            "network_interface",
            "InvalidParameter",
            "watches one thing",
        ),
        ({"max_aggregation_interval": 300}, "max_aggregation_interval", "InvalidParameter", "write 60 or 600"),
        ({"file_format": "parquet"}, "file_format", "", "plain text only"),
        ({"folder": ""}, "folder", "", "no name"),
        ({"log_format": "srcaddr dstaddr"}, "log_format", "InvalidParameter", "no list of fields"),
        ({"log_format": "${srcaddr} and ${dstaddr}"}, "log_format", "InvalidParameter", "no list of fields"),
        ({"log_format": "${srcadr}"}, "log_format", "InvalidParameter", "did you mean srcaddr?"),
        ({"log_format": "${srcaddr} ${srcaddr}"}, "log_format", "InvalidParameter", "written twice"),
        ({"log_format": "${ecs-task-id}"}, "log_format", "", "no record has ecs-task-id: Amazon ECS"),
        ({"log_format": "${resource-id}"}, "log_format", "", "no record has resource-id: regional NAT gateways"),
    ],
)
def test_what_is_refused(log: dict[str, Any], path: str, code: str, words: str) -> None:
    expect(lab(**sections(log)), f"{PATH}.{path}", code, words)


@pytest.mark.parametrize("name", sorted(ABSENT))
def test_fields_of_what_does_not_exist_are_refused_by_name(name: str) -> None:
    [problem] = problems(lab(**sections({"log_format": f"${{{name}}}"})))
    assert name in problem.message


@pytest.mark.parametrize("name", sorted(VERSION_OF))
def test_every_other_field_is_there(name: str) -> None:
    assert problems(lab(**sections({"log_format": f"${{{name}}}"}))) == []


@pytest.mark.parametrize(
    ("fields", "version"),
    [("srcaddr", 2), ("srcaddr vpc-id", 3), ("region srcaddr", 4), ("traffic-path vpc-id", 5), ("reject-reason", 8)],
)
def test_the_version_is_the_highest_of_its_fields(fields: str, version: int) -> None:
    assert FlowLog(log_format=" ".join(f"${{{each}}}" for each in fields.split())).version == version


def test_without_a_format_it_is_the_default_one_of_version_2() -> None:
    assert FlowLog().fields == (
        *("version", "account-id", "interface-id", "srcaddr", "dstaddr", "srcport", "dstport", "protocol", "packets"),
        *("bytes", "start", "end", "action", "log-status"),
    )
    assert (FlowLog().version, FlowLog().log_format) == (2, DEFAULT_FORMAT)


@pytest.mark.parametrize(
    ("log", "watched"),
    [
        ({}, ["web/eth0", "shop/out"]),
        ({"subnet": "one"}, ["web/eth0"]),
        ({"subnet": "two"}, ["shop/out"]),
        ({"network_interface": "web/eth0"}, ["web/eth0"]),
        ({"network_interface": "nat-gateway:out"}, ["shop/out"]),
    ],
)
def test_what_is_watched_has_a_point_on_either_side(log: dict[str, Any], watched: list[str]) -> None:
    built = topology(**sections(log))
    found = built.vpc("shop").flow_logs["log"].interfaces(built, "shop")
    assert sorted(each.path for each in found) == sorted(watched)
    lowered = program(**sections(log))
    points = [node for node in lowered.nodes.values() if isinstance(node, Point)]
    sides = {(lowered.names[node.object].path, node.direction) for node in points}
    assert sides == {(path, way) for path in watched for way in (Direction.EGRESS, Direction.INGRESS)}


def test_without_flow_logs_there_is_no_point() -> None:
    assert not any(isinstance(node, Point) for node in program(**sections()).nodes.values())


def test_a_declared_interface_may_be_called_by_its_name() -> None:
    more = {"more": {"subnet": "one", "attachment": {"instance": "web", "device_index": 1}}}
    for name in ("more", "web/eth1"):
        built = topology(**sections({"network_interface": name}, network_interfaces=more))
        [found] = built.vpc("shop").flow_logs["log"].interfaces(built, "shop")
        assert found.path == "web/eth1"


@pytest.mark.parametrize(
    ("vpc_name", "word", "homes"),
    [("app", "vpc-endpoint:ep", ["ends"]), ("sec", "gateway-load-balancer:gw", ["fw-a", "fw-b"])],
)
def test_interfaces_of_endpoints_and_load_balancers_are_called_by_what_they_belong_to(
    vpc_name: str, word: str, homes: list[str]
) -> None:
    """A load balancer has one in each of its subnets, and a flow log for it watches them all."""
    declared = inspected()
    declared["vpcs"][vpc_name]["flow_logs"] = {"log": {"network_interface": word}}
    built = topology(**declared)
    found = built.vpc(vpc_name).flow_logs["log"].interfaces(built, vpc_name)
    assert [each.subnet.name for each in found] == homes
    assert {f"{each.kind}:{each.wanted.name}" for each in found} == {word}
    assert problems(lab(**declared)) == []
    wrong = {"log": {"network_interface": f"{word}x"}}
    declared["vpcs"][vpc_name]["flow_logs"] = wrong
    path = f"vpcs.{vpc_name}.flow_logs.log.network_interface"
    expect(lab(**declared), path, "InvalidNetworkInterfaceID.NotFound", f"did you mean {word}?")


def test_an_interface_of_no_instance_says_so_in_its_records() -> None:
    """Flow log records: instance-id is "-" unless an instance of yours is associated with the interface."""
    spare = {
        "spare": {"subnet": "one"},
        "more": {"subnet": "one", "attachment": {"instance": "web", "device_index": 1}},
    }
    declared = sections({"log_format": "${instance-id} ${log-status}"}, network_interfaces=spare)
    built = topology(**declared)
    log, names = built.vpc("shop").flow_logs["log"], Names()
    for each in log.interfaces(built, "shop"):
        names.intern(each.kind, each.path)
    watched = watched_interfaces(built, names, "shop", log)
    told = {names[number].path: each.facts["instance-id"] for number, each in watched.items()}
    web = aws_id("i", "web")
    assert told == {"web/eth0": web, "web/eth1": web, "shop/spare": "-", "shop/out": "-"}
    assert told["web/eth0"].startswith("i-")


def test_records_name_the_region_and_zone_of_their_own_vpc() -> None:
    """A peering may have its accepter in another Region."""
    declared = peered()
    store = declared["vpcs"]["store"]
    store["subnets"]["one"]["availability_zone"] = "b"
    store["flow_logs"] = {"log": {"log_format": "${region} ${az-id}"}}
    declared["peerings"]["link"]["accepter_region"] = "eu-west-1"
    declared["instances"] = {"db": {"vpc": "store", "subnet": "one"}}
    built, names = topology(**declared), Names()
    number = names.intern("interface", "db/eth0")
    facts = watched_interfaces(built, names, "store", built.vpc("store").flow_logs["log"])[number].facts
    assert (facts["region"], facts["az-id"]) == ("eu-west-1", "euw1-az2")

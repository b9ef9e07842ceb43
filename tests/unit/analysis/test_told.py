"""Results as text, JUnit XML and JSON."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

from dataplane.analysis.told import as_junit, document, row_of, story
from dataplane.load import load_topology
from tests.unit.analysis.claims import decided, example, the_result


def test_the_story_names_every_decider_and_ends_with_the_verdict() -> None:
    result = the_result("quickstart", "can: visitor -> web, port: 22")
    assert list(story(row_of(result))) == [
        "visitor/eth0 sends tcp 198.51.100.77:40000 > 203.0.113.20:22",
        "    internet               routes (203.0.113.20/32 -> internet-gateway:shop)",
        "    internet-gateway shop  translates",
        "    vpc shop               routes (interface web/eth0)",
        f"  => {result.why}",
    ]


def test_the_story_follows_translations_and_the_answer() -> None:
    lines = list(story(row_of(the_result("quickstart", "cannot: app -> example, port: 80"))))
    assert "  => arrives at interface example/eth0 as tcp 203.0.113.10:1024 > 198.51.100.10:80" in lines
    assert "example/eth0 answers tcp 198.51.100.10:80 > 203.0.113.10:1024" in lines
    assert lines[-1] == "  => answered, seen as 203.0.113.10"


def test_what_arrives_as_it_was_sent_and_what_a_router_answers() -> None:
    lines = list(story(row_of(the_result("quickstart", "can: app -> web, protocol: icmp"))))
    assert "  => arrives at interface web/eth0" in lines
    assert "web/eth0 answers icmp 10.0.1.10 > 10.0.2.10" in lines
    assert "  => arrives at interface app/eth0" in lines
    served = list(story(row_of(the_result("quickstart", "can: app -> 10.0.2.1, protocol: icmp"))))
    assert served[0] == "app/eth0 sends icmp 10.0.2.10 > 10.0.2.1"
    assert served[-2:] == ["  => answered by the router", "  => answered"]


def test_junit_has_a_case_for_each_check_and_the_story_of_each_failure() -> None:
    results = decided(
        example("quickstart", "can: visitor -> web, port: 80", "can: visitor -> web, port: 22, because: a < b & c")
    )
    suite = ET.fromstring(
        as_junit([row_of(each) for each in results], name="quickstart", file="lab.yaml", seconds=1.25)
    )
    assert suite.attrib == {
        "name": "vpclab check",
        "tests": "2",
        "failures": "1",
        "errors": "0",
        "time": "1.250",
    }
    [inner] = suite
    counts = {"tests": "2", "failures": "1", "errors": "0", "time": "1.250"}
    assert (inner.tag, inner.attrib) == (
        "testsuite",
        {"name": "quickstart", "file": "lab.yaml", "skipped": "0", **counts},
    )
    good, bad = suite.iter("testcase")
    assert good.get("file") == "lab.yaml"
    assert (good.get("name"), list(good)) == ("1. can visitor -> web tcp 80", [])
    assert bad.get("classname") == "vpclab.quickstart"
    failure = bad.find("failure")
    assert failure is not None
    assert failure.get("type") == "blocked"
    assert failure.get("message") == results[1].why
    assert failure.text is not None
    assert "because a < b & c\nvisitor/eth0 sends" in failure.text


def test_junit_is_xml_whatever_a_file_says() -> None:
    result = the_result("quickstart", "can: visitor -> web, port: 22")
    strange = "\x00\x1b[31m ]]> \ud800 \ufffe <&>\"'"
    odd = replace(result, check=replace(result.check, because=strange), why=strange)
    failure = ET.fromstring(as_junit([row_of(odd)], name="l", file="f", seconds=0)).find(".//failure")
    assert failure is not None
    assert failure.get("message") == "??[31m ]]> ? ? <&>\"'"


def test_json_holds_what_was_asked() -> None:
    asked = (
        "can: app -> example, protocol: udp, port: 53, packet_size: 1400, because: names are looked up",
        "cannot: visitor -> web, protocol: icmp",
    )
    first, second = (row_of(each) for each in decided(example("quickstart", *asked)))
    keys = (
        "number",
        "check",
        "claim",
        "from",
        "to",
        "source",
        "destination",
        "protocol",
        "port",
        "packet_size",
        "because",
    )
    assert [first[key] for key in keys] == [
        1, "can app -> example udp 53 of 1400 bytes", "can", "app", "example", "10.0.2.10", "198.51.100.10", 17, 53,
        1400, "names are looked up",
    ]  # fmt: skip
    assert [second[key] for key in keys] == [
        2, "cannot visitor -> web icmp", "cannot", "visitor", "web", "198.51.100.77", "203.0.113.20", 1, None, None, "",
    ]  # fmt: skip
    assert (first["holds"], first["assumed"], first["source_port"]) == (True, [], 40000)
    assert (second["holds"], second["found"], second["source_seen"]) == (True, "blocked", None)
    assert second["dropped"]["groups"] == ["shop/web"]
    there, back = first["legs"]
    assert (there["answer"], back["answer"], there["sender"]["path"]) == (False, True, "app/eth0")
    assert (there["verdict"], there["reason"], there["packet"]) == (
        "FORWARD", "NONE", "udp 10.0.2.10:40000 > 198.51.100.10:53"
    )  # fmt: skip
    assert there["received"] == "udp 203.0.113.10:1024 > 198.51.100.10:53"
    [leg] = second["legs"]
    assert (leg["receiver"], leg["received"], leg["reason"]) == (None, None, "GROUP_INGRESS")
    assert row_of(the_result("inspection", "can: customer -> web, port: 80"))["assumed"] == ["fw"]
    assert not document([first, {**second, "holds": False}], file="lab.yaml", how="packets")["holds"]


def test_json_holds_what_decided() -> None:
    results = decided(example("quickstart", "cannot: visitor -> web, port: 22", "can: app -> example, port: 80"))
    found = json.loads(json.dumps(document([row_of(each) for each in results], file="lab.yaml", how="static")))
    assert (found["version"], found["holds"], found["decided_by"], found["file"]) == (1, True, "static", "lab.yaml")
    blocked, reached = found["checks"]
    assert blocked["dropped"] == {
        "answer": False,
        "object": {"kind": "network-acl", "path": "shop/edge"},
        "rule": {"kind": "acl-rule", "path": "shop/edge ingress 90 deny tcp 22 from 0.0.0.0/0"},
        "groups": [],
        "reason": "ACL_INGRESS",
        "text": "denied by the network ACL on the way into the subnet",
        "aws_code": "SUBNET_ACL_RESTRICTION",
    }
    assert (reached["dropped"], reached["found"], reached["source_seen"]) == (None, "answered", "203.0.113.10")
    assert (reached["refused"], blocked["refused"]) == (False, False)
    assert reached["passed"] == ["nat-gateway:shop/nat", "internet-gateway:shop"]
    assert [leg["receiver"]["path"] for leg in reached["legs"]] == ["example/eth0", "app/eth0"]


SHARED = """
version: 1
vpcs:
  far: {cidr: 100.64.0.0/16, subnets: {s: {cidr: 100.64.1.0/24, route_table: t}},
    route_tables: {t: {routes: [{destination: 10.0.0.0/16, target: "peering:p"}]}}}
  near:
    cidr: 10.0.0.0/16
    internet_gateway: {}
    subnets: {s: {cidr: 10.0.1.0/24, route_table: t}}
    route_tables: {t: {routes: [{destination: 0.0.0.0/0, target: internet-gateway}]}}
    security_groups: {open: {ingress: [{protocol: all, source: 0.0.0.0/0}]}}
peerings: {p: {requester: far, accepter: near}}
instances:
  a: {vpc: far, subnet: s, private_ip: 100.64.1.10}
  b: {vpc: near, subnet: s, private_ip: 10.0.1.10, elastic_ip: 203.0.113.10, security_groups: [open]}
checks: [{cannot: a -> 10.0.1.10, port: 80}]
"""


def test_the_code_of_an_answer_is_that_of_where_the_answer_goes() -> None:
    """To 100.64.0.0/10 (RFC 6598), though what it answers went to 10.0.0.0/8 (RFC 1918)."""
    [row] = [row_of(each) for each in decided(load_topology(SHARED, file_name="lab.yaml"))]
    assert (row["dropped"]["answer"], row["dropped"]["reason"]) == (True, "PRIVATE_DESTINATION")
    assert "RFC6598" in row["dropped"]["aws_code"]


TWO_GROUPS = """
version: 1
vpcs:
  v:
    cidr: 10.0.0.0/16
    subnets: {s: {cidr: 10.0.1.0/24}}
    security_groups: {quiet: {ingress: [{protocol: udp, ports: 53, source: 0.0.0.0/0}]}, silent: {}}
instances:
  a: {vpc: v, subnet: s, private_ip: 10.0.1.10, security_groups: [quiet]}
  b: {vpc: v, subnet: s, private_ip: 10.0.1.11, security_groups: [quiet, silent]}
checks: [{cannot: a -> b, port: 80}]
"""


def test_a_rule_that_stopped_it_is_named_and_no_other() -> None:
    """Rule * is the last of a network ACL: it is not what a numbered rule denied."""
    numbered, last = decided(
        example("quickstart", "cannot: visitor -> web, port: 22", "cannot: visitor -> web, port: 443")
    )
    by, code = "DROPPED by network-acl shop/edge", "[SUBNET_ACL_RESTRICTION]"
    text = "denied by the network ACL on the way into the subnet"
    assert numbered.why == f"{by}: acl-rule shop/edge ingress 90 deny tcp 22 from 0.0.0.0/0: {text} {code}"
    assert last.why == f"{by} (rule *, as no other matches): {text} {code}"


def test_all_groups_that_were_looked_at_in_vain_are_named() -> None:
    """The rules of all groups of an interface hold together, so none of them has one that allows it."""
    [result] = decided(load_topology(TWO_GROUPS, file_name="lab.yaml"))
    assert row_of(result)["dropped"]["groups"] == ["v/quiet", "v/silent"]
    assert "DROPPED by interface b/eth0 (security groups v/quiet, v/silent)" in result.why

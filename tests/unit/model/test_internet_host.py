from __future__ import annotations

from typing import Any

import pytest

from tests.unit.model.building import expect, instance, lab, program, routes, shape, topology, vpc


def hosts(**declared: Any) -> dict[str, Any]:
    return {"internet": {"hosts": declared}}


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.0.1", "100.64.0.1", "127.0.0.1", "0.0.0.0", "240.0.0.1"])
def test_its_address_is_public(address: str) -> None:
    expect(lab(**hosts(visitor={"address": address})), "internet.hosts.visitor.address", "", "no public address")


@pytest.mark.parametrize("address", ["fe80::1", "fd00::1", "::1", "ff02::1"])
def test_its_ipv6_address_is_global(address: str) -> None:
    declared = lab(**hosts(visitor={"address": "198.51.100.1", "ipv6_address": address}))
    expect(declared, "internet.hosts.visitor.ipv6_address", "", "no global unicast address")


def test_its_ipv6_address_is_of_no_vpc() -> None:
    host = {"address": "198.51.100.1", "ipv6_address": "2001:db8::1"}
    declared = lab(vpcs={"shop": vpc(ipv6_cidrs=["2001:db8::/56"])}, **hosts(visitor=host))
    expect(declared, "internet.hosts.visitor.ipv6_address", "", "inside 2001:db8::/56 of VPC shop")


def test_its_address_is_nobody_elses() -> None:
    two = hosts(a={"address": "198.51.100.1"}, b={"address": "198.51.100.1"})
    expect(lab(**two), "internet.hosts.b.address", "", "host a has 198.51.100.1 already")
    six = {"ipv6_address": "2001:db8::1"}
    two = hosts(a={"address": "198.51.100.1", **six}, b={"address": "198.51.100.2", **six})
    expect(lab(**two), "internet.hosts.b.ipv6_address", "", "host a has 2001:db8::1 already")


def test_its_address_is_no_elastic_ip() -> None:
    declared = lab(
        vpcs={"shop": vpc(internet_gateway={})},
        instances={"web": instance(elastic_ip="198.51.100.1")},
        **hosts(visitor={"address": "198.51.100.1"}),
    )
    words = "the Elastic IP at instances.web.elastic_ip"
    expect(declared, "internet.hosts.visitor.address", "", words)


def test_its_name_is_no_instances() -> None:
    declared = lab(vpcs={"shop": vpc()}, instances={"x": instance()}, **hosts(x={"address": "198.51.100.1"}))
    expect(declared, "internet.hosts.x", "", "an instance is called x too")


def test_its_programs_and_environment_are_checked() -> None:
    bad = {"address": "198.51.100.1", "programs": {"x": {"command": ["a"], "working_directory": "srv"}}}
    expect(lab(**hosts(a=bad)), "internet.hosts.a.programs.x.working_directory", "", "begin it with /")
    bad = {"address": "198.51.100.1", "environment": {"A": "\0"}}
    expect(lab(**hosts(a=bad)), "internet.hosts.a.environment.A", "", "NUL")


def test_both_ways() -> None:
    lowered = program(**hosts(visitor={"address": "198.51.100.77", "ipv6_address": "2001:db8::77"}))
    assert shape(lowered, "internet-host:visitor/out") == ["Guard SOURCE_CHECK", "Lookup OUTSIDE_NO_ROUTE"]
    assert shape(lowered, "internet-host:visitor/in") == ["Emit"]
    interface = lowered.interfaces["internet-host:visitor"]
    assert (interface.mtu, interface.groups, interface.subnet) == (1500, (), 0)
    assert str(lowered.names[interface.realm]) == "internet internet"
    assert interface.port == lowered.names.find("interface", "visitor/eth0")
    assert routes(lowered, "internet") == {
        "198.51.100.77/32": "internet-host:visitor/in",
        "2001:db8::77/128": "internet-host:visitor/in",
    }


def test_the_router_answers_for_everybody_but_itself() -> None:
    declared = hosts(visitor={"address": "198.51.100.77"})
    placed = topology(**declared).host("visitor")
    known = {str(prefix): mac for prefix, mac in program(**declared).neighbours["internet-host:visitor"]}
    assert placed.path == "visitor/eth0"
    assert placed.router_link_local.is_link_local
    assert known == {"198.51.100.77/32": placed.mac, "0.0.0.0/0": placed.router_mac, "::/0": placed.router_mac}


def test_no_node_is_called_what_the_internet_is_called_in_captures() -> None:
    words = "what the internet itself is called"
    expect(lab(**hosts(internet={"address": "198.51.100.1"})), "internet.hosts.internet", "", words)
    declared = lab(vpcs={"shop": vpc()}, instances={"internet": instance()})
    expect(declared, "instances.internet", "", words)

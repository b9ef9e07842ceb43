"""Pictures: places in their places, links between places that there are, and the same text for the same file."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.load import load_topology
from dataplane.picture import Link, Mark, Picture, Place, Ways, dot, draw, mermaid
from dataplane.picture.examples_page import examples_page, first_paragraph
from dataplane.topology import Topology
from tests.property.quick_load import topology_of
from tests.property.wide_labs import wide_labs
from tests.scenario.labs import SHOP
from vpclab.testing import topologies

EXAMPLES = Path(__file__).parents[3] / "examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))


def picture_of(text: str) -> Picture:
    return draw(load_topology(text, file_name="lab.yaml"))


def links(picture: Picture) -> set[tuple[str, str, str]]:
    return {(link.source, link.target, link.label) for link in picture.links}


def assert_sound(picture: Picture) -> None:
    """Keys are unique, containers nest as at AWS, links lead from place to place, and nothing is lost in JSON."""
    kinds = {place.key: place.kind for place in picture.places}
    assert len(kinds) == len(picture.places)
    order = ["", "region", "vpc", "availability-zone", "subnet"]
    for place in picture.places:
        above = kinds[place.inside] if place.inside else ""
        if place.kind in order:
            assert above == order[order.index(place.kind) - 1], place
        elif place.kind in ("instance", "network-interface", "routes", "nat-gateway", "vpc-endpoint"):
            assert above == "subnet", place
    assert {end for link in picture.links for end in (link.source, link.target)} <= kinds.keys()
    assert Picture.from_json(json.loads(json.dumps(picture.to_json()))) == picture


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_example_can_be_drawn(file: Path) -> None:
    topology = load_topology(file)
    picture = draw(topology, name=file.stem)
    assert_sound(picture)
    titles = {place.title for place in picture.places}
    assert {*topology.lab.instances, *topology.hosts} <= titles
    assert mermaid(picture) == mermaid(draw(load_topology(file), name=file.stem))
    assert dot(picture) == dot(draw(load_topology(file), name=file.stem))


@settings(max_examples=30)
@given(st.one_of(topologies(), wide_labs().map(topology_of)))
def test_every_network_can_be_drawn(topology: Topology) -> None:
    """Each route leads to a place: a construct that routes may lead to must be drawn."""
    picture = draw(topology)
    assert_sound(picture)
    assert mermaid(picture).count("subgraph ") == sum(line.strip() == "end" for line in mermaid(picture).splitlines())
    assert dot(picture).count("{") == dot(picture).count("}")


def test_what_is_in_a_picture() -> None:
    picture = picture_of(SHOP)
    found = {place.key: place for place in picture.places}
    assert found["region us-east-1"].title == "Region us-east-1"
    assert found["vpc shop"].lines == ("10.0.0.0/16 2001:db8:10::/56",)
    assert found["subnet shop/public"].inside == "availability-zone shop/us-east-1a"
    assert found["instance web"].lines == ("10.0.1.10 = 203.0.113.20", "2001:db8:10:1::10", "groups web")
    assert found["nat-gateway shop/nat"].inside == "subnet shop/public"
    assert found["nat-gateway shop/nat"].lines == ("10.0.1.5 = 203.0.113.10",)
    assert found["peering shop-store"].inside == "region us-east-1"
    assert links(picture) == {
        ("internet", "internet-host example", ""),
        ("internet", "internet-host visitor", ""),
        ("internet-gateway shop", "internet", ""),
        ("routes shop/public", "internet-gateway shop", "0.0.0.0/0, ::/0"),
        ("routes shop/public", "peering shop-store", "10.1.0.0/16"),
        ("routes shop/private", "nat-gateway shop/nat", "0.0.0.0/0"),
        ("routes shop/private", "peering shop-store", "10.1.0.0/16"),
        ("routes shop/private", "blackhole shop", "198.51.100.128/25"),
        ("routes store/data", "peering shop-store", "10.0.0.0/16"),
    }


def test_routes_to_what_does_not_carry_are_dashed() -> None:
    picture = picture_of(SHOP.replace("status: active", "status: deleted"))
    assert {link.target for link in picture.links if not link.active} == {"peering shop-store", "blackhole shop"}
    assert 'routes_store_data -.->|"10.0.0.0/16 (blackhole)"| peering_shop_store' in mermaid(picture)
    assert 'routes_store_data -> peering_shop_store [label="10.0.0.0/16", style=dashed, color=red];' in dot(picture)
    assert 'peering_shop_store{{"peering shop-store<br/>shop - store<br/>deleted"}}' in mermaid(picture)


def test_a_subnet_without_routes_says_so() -> None:
    routes = 'data: {routes: [{destination: 10.0.0.0/16, target: "peering:shop-store"}]}'
    assert routes in SHOP
    picture = picture_of(SHOP.replace(routes, "data: {}"))
    found = {place.key: place for place in picture.places}
    assert "routes data: local only" in found["subnet store/data"].lines
    assert "routes store/data" not in found


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        (
            "gwlb-two-az",
            ("vpc-endpoint one/inspect-a", "gateway-load-balancer security/fleet-eu-central-1a", "security/firewalls"),
        ),
        ("gwlb-two-az", ("gateway-load-balancer security/fleet-eu-central-1b", "instance fw-b1", "firewalls")),
        ("gwlb-two-az", ("internet-gateway one", "vpc-endpoint one/inspect-a", "edge: 10.90.1.0/24")),
        ("gateway-endpoint", ("vpc-endpoint shop/s3", "aws-service s3", "")),
        ("gateway-endpoint", ("routes shop/private", "vpc-endpoint shop/s3", "com.amazonaws.eu-central-1.s3")),
        ("inspection", ("internet-gateway site", "instance fw", "edge: 10.60.1.0/24")),
        ("ipv6-egress", ("egress-only-internet-gateway lab", "internet", "")),
    ],
    ids=lambda value: value if isinstance(value, str) else value[1],
)
def test_links_of_the_examples(file: str, wanted: tuple[str, str, str]) -> None:
    found = links(draw(load_topology(EXAMPLES / f"{file}.yaml")))
    assert wanted in found, sorted(found)


def test_a_balancer_without_cross_zone_uses_targets_of_its_zone() -> None:
    found = links(draw(load_topology(EXAMPLES / "gwlb-two-az.yaml")))
    assert ("gateway-load-balancer security/fleet-eu-central-1a", "instance fw-b1", "firewalls") not in found


@pytest.mark.parametrize(("region", "inside"), [("us-east-1", "region us-east-1"), ("eu-central-1", "")])
def test_a_peering_between_regions_is_in_neither(region: str, inside: str) -> None:
    picture = picture_of(f"""
version: 1
region: us-east-1
vpcs:
  a: {{cidr: 10.0.0.0/16}}
  b: {{cidr: 10.1.0.0/16}}
peerings: {{p: {{requester: a, accepter: b, accepter_region: {region}}}}}
""")
    [peering] = [place for place in picture.places if place.kind == "peering"]
    assert peering.inside == inside


def test_an_endpoint_sends_to_the_node_of_its_zone() -> None:
    found = links(draw(load_topology(EXAMPLES / "gwlb-two-az.yaml")))
    used = {(source, target[-1]) for source, target, _ in found if source.startswith("vpc-endpoint ")}
    assert used == {
        ("vpc-endpoint one/inspect-a", "a"),
        ("vpc-endpoint one/inspect-b", "b"),
        ("vpc-endpoint two/inspect-a", "a"),
    }


def test_further_interfaces_are_beside_their_instance() -> None:
    text = SHOP.replace(
        "    nat_gateways:",
        "    network_interfaces:\n"
        "      side: {subnet: public, attachment: {instance: web, device_index: 1}}\n"
        "      spare: {subnet: public}\n"
        "    nat_gateways:",
        1,
    )
    picture = picture_of(text)
    found = {place.key: place for place in picture.places}
    assert found["network-interface web/eth1"].inside == "subnet shop/public"
    assert ("instance web", "network-interface web/eth1", "") in links(picture)
    assert "not attached" in found["network-interface shop/spare"].lines


def test_many_destinations_of_one_route_are_counted() -> None:
    many = "".join(f"\n          - {{destination: 192.0.{n}.0/24, target: internet-gateway}}" for n in range(6))
    picture = picture_of(SHOP.replace("          - {destination: 0.0.0.0/0, target: internet-gateway}", many[1:], 1))
    assert ("routes shop/public", "internet-gateway shop", "192.0.0.0/24, 192.0.1.0/24, 192.0.2.0/24, 4 more") in links(
        picture
    )


def test_marks_are_written_where_they_belong() -> None:
    picture = picture_of(SHOP).marked(
        {"instance web": Mark(("sent 1 Mbit/s", "dropped 3 NO_ROUTE"), alarm=True), "instance nobody": Mark(("x",))}
    )
    assert list(picture.marks) == ["instance web"]
    assert_sound(picture)
    assert 'groups web<br/>sent 1 Mbit/s<br/>dropped 3 NO_ROUTE"]' in mermaid(picture)
    assert mermaid(picture).endswith("class instance_web alarm\n")
    assert 'NO_ROUTE", shape=box, style=solid, color=red, penwidth=2];' in dot(picture)
    assert "alarm" not in mermaid(picture_of(SHOP))


def test_links_are_marked_too() -> None:
    key = "routes shop/private -> nat-gateway shop/nat"
    picture = picture_of(SHOP).marked({key: Mark(("1 Mbit/s", "2 flows"), alarm=True), "a -> b": Mark(("x",))})
    assert list(picture.marks) == [key]
    assert_sound(picture)
    assert '-->|"0.0.0.0/0<br/>1 Mbit/s<br/>2 flows"| nat_gateway_shop_nat' in mermaid(picture)
    assert 'label="0.0.0.0/0\\n1 Mbit/s\\n2 flows"' in dot(picture)
    assert "class" not in mermaid(picture), "a link has none"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_whatever_leaves_a_subnet_goes_over_a_link_that_is_drawn(file: Path) -> None:
    topology = load_topology(file)
    ways, drawn = Ways(topology), {link.key for link in draw(topology).links}
    destinations: list[IPv4Address | IPv6Address] = [each.public for each in topology.public_addresses]
    for host in topology.hosts.values():
        destinations += [each for each in (host.address, host.ipv6_address) if each is not None]
    for interface in topology.interfaces:
        destinations += [*interface.addresses4, *interface.addresses6]
    found = {
        link
        for interface in topology.interfaces
        for destination in destinations
        if (link := ways.link(interface.path, destination)) is not None
    }
    assert found
    assert {" -> ".join(link) for link in found} <= drawn
    assert ways.link("nobody/eth0", destinations[0]) is None


def test_the_longest_prefix_says_which_link() -> None:
    topology = load_topology(SHOP, file_name="lab.yaml")
    ways = Ways(topology)
    web, db = (topology.find_interface(vpc, path) for vpc, path in (("shop", "web/eth0"), ("store", "db/eth0")))
    assert web is not None
    assert db is not None
    assert ways.link("web/eth0", db.addresses4[0]) == ("routes shop/public", "peering shop-store")
    assert ways.link("web/eth0", IPv4Address("198.51.100.10")) == ("routes shop/public", "internet-gateway shop")
    assert ways.link("db/eth0", IPv4Address("198.51.100.10")) is None
    assert ways.link("web/eth0", web.addresses4[0]) is None, "inside of the VPC no route leads away"
    assert ways.link("web/eth0", web.subnet.cidr[99]) is None
    assert ways.is_own("web/eth0", web.addresses4[0])
    assert not ways.is_own("web/eth0", db.addresses4[0])
    assert not ways.is_own("nobody/eth0", web.addresses4[0])


def crowd(titles: Sequence[str]) -> Picture:
    """A picture whose names ask for trouble."""
    places = [Place(key=f"instance {title}", kind="instance", title=title) for title in titles]
    return Picture(
        name='a "name"', places=tuple(places), links=(Link(source=places[0].key, target=places[1].key, label='"<#'),)
    )


def test_texts_escape_what_means_something_to_them() -> None:
    picture = crowd(['"quoted"', "back\\slash", "a<b>#c", "a-b", "a_b", "a.b"])
    names = re.findall(r"^  (\w+)\[", mermaid(picture), re.MULTILINE)
    assert len(names) == len(set(names)) == 6
    assert '["#quot;quoted#quot;"]' in mermaid(picture)
    assert '["a#lt;b#gt;#35;c"]' in mermaid(picture)
    assert '-->|"#quot;#lt;#35;"|' in mermaid(picture)
    assert r'label="\"quoted\""' in dot(picture)
    assert r'label="back\\slash"' in dot(picture)


def test_graphviz_draws_them() -> None:
    for picture in (crowd(['"quoted"', "back\\slash"]), *(draw(load_topology(file), name=file.stem) for file in FILES)):
        done = subprocess.run(
            ["dot", "-Tsvg"], input=dot(picture), capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stderr == ""
        assert done.stdout.count('class="cluster"') == sum(
            place.kind in ("region", "vpc", "availability-zone", "subnet") for place in picture.places
        )
        assert done.stdout.count('class="edge"') == len(picture.links)


def test_pictures_of_other_versions_are_refused() -> None:
    with pytest.raises(ValueError, match="picture of version 2, this is version 1"):
        Picture.from_json({**picture_of(SHOP).to_json(), "version": 2})


def test_the_page_of_examples_has_them_all() -> None:
    page = examples_page(EXAMPLES)
    assert re.findall(r"(?m)^## (.+)$", page) == [file.stem for file in FILES]
    assert page.count("```mermaid\nflowchart LR\n") == len(FILES)
    assert "Three tiers in two Availability Zones: the layout most applications on AWS begin with." in page


def test_the_first_paragraph_of_a_lab_file() -> None:
    assert first_paragraph("# One\n# two.\n#\n# More.\nversion: 1\n") == "One\ntwo."
    assert first_paragraph("# One.\n#   a drawing\n") == "One."
    assert first_paragraph("version: 1\n") == ""


def test_what_stays_in_a_subnet_goes_by_none_of_its_routes() -> None:
    """A route for the subnet's own block is for packets that come from elsewhere to its route table."""
    text = """
version: 1
name: l
vpcs:
  shop:
    cidr: 10.0.0.0/16
    subnets: {a: {cidr: 10.0.1.0/24, route_table: a}, f: {cidr: 10.0.3.0/24}}
    route_tables:
      a:
        routes:
          - {destination: 10.0.1.0/24, target: "instance:fw"}
          - {destination: 10.0.3.0/24, target: "instance:fw"}
instances:
  app: {vpc: shop, subnet: a, private_ip: 10.0.1.10}
  fw: {vpc: shop, subnet: f, private_ip: 10.0.3.10, source_dest_check: false}
"""
    ways = Ways(load_topology(text, file_name="lab.yaml"))
    assert ways.link("app/eth0", IPv4Address("10.0.1.11")) is None
    assert ways.link("app/eth0", IPv4Address("10.0.3.10")) == ("routes shop/a", "instance fw")

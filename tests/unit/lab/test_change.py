"""Plans of `apply`: what differs between two lab files."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network

from lab.change import Change, changes, made_at_last
from tests.unit.model.building import instance, lab, vpc


@dataclass(frozen=True)
class Rule:
    ports: str
    source: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class SecurityGroup:
    description: str = ""
    ingress: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class Internet:
    hosts: dict[str, SecurityGroup] = field(default_factory=dict)


@dataclass(frozen=True)
class LabFile:
    name: str = "lab"
    cidr: IPv4Network = field(default=IPv4Network("10.0.0.0/16"))
    security_groups: dict[str, SecurityGroup] = field(default_factory=dict)
    internet: Internet = Internet()
    environment: dict[str, str] = field(default_factory=dict)
    gateway: Rule | None = None


WEB = SecurityGroup("web", (Rule("80", "0.0.0.0/0"),))


def test_equal_files_differ_in_nothing() -> None:
    assert changes(LabFile(security_groups={"web": WEB}), LabFile(security_groups={"web": WEB})) == []


def test_things_that_come_and_go_are_added_and_removed() -> None:
    found = changes(LabFile(security_groups={"web": WEB}), LabFile(internet=Internet({"example": SecurityGroup()})))
    assert found == [
        Change(action="remove", kind="security-group", path="security_groups.web"),
        Change(action="add", kind="security-group", path="internet.hosts.example"),
    ]


def test_a_change_is_reported_at_the_nearest_named_thing() -> None:
    other = SecurityGroup("web servers", (Rule("443"), Rule("80", "0.0.0.0/0")))
    [found] = changes(LabFile(security_groups={"web": WEB}), LabFile(security_groups={"web": other}))
    assert found == Change(
        action="change",
        kind="security-group",
        path="security_groups.web",
        detail="description: web -> web servers; ingress: + ports 443",
    )


def test_changes_of_the_file_itself() -> None:
    found = changes(LabFile(), LabFile(cidr=IPv4Network("10.1.0.0/16"), environment={"A": "1"}, gateway=Rule("1", "x")))
    assert found == [
        Change(
            action="change",
            kind="lab-file",
            path="",
            detail="cidr: 10.0.0.0/16 -> 10.1.0.0/16; environment: {} -> {A: 1}; gateway: none -> ports 1 source x",
        )
    ]


def test_entries_in_another_order_are_a_change() -> None:
    one = LabFile(security_groups={"web": SecurityGroup("", (Rule("1"), Rule("2")))})
    two = LabFile(security_groups={"web": SecurityGroup("", (Rule("2"), Rule("1")))})
    assert [change.detail for change in changes(one, two)] == ["ingress: other order"]


def test_things_in_another_order_are_a_change_because_addresses_are_given_in_order() -> None:
    groups = {"a": WEB, "b": SecurityGroup()}
    [found] = changes(LabFile(security_groups=groups), LabFile(security_groups=dict(reversed(groups.items()))))
    assert (found.kind, found.detail) == ("lab-file", "security_groups: other order")


def test_an_entry_that_changes_shows_what_goes_and_what_comes() -> None:
    other = SecurityGroup("web", (Rule("80", "10.0.0.0/8", ("a", "b")),))
    [found] = changes(LabFile(security_groups={"web": WEB}), LabFile(security_groups={"web": other}))
    assert found.detail == "ingress: - ports 80 source 0.0.0.0/0, + ports 80 source 10.0.0.0/8 tags [a, b]"


def test_nodes_that_could_not_be_made_are_added_where_they_stand() -> None:
    declared = lab(
        vpcs={"shop": vpc()},
        instances={"app": instance(), "web": instance()},
        internet={"hosts": {"site": {"address": "198.51.100.10"}, "other": {"address": "198.51.100.11"}}},
        aws_services={"s3": {"prefixes": ["203.0.113.0/24"]}, "sqs": {"prefixes": ["203.0.113.0/25"]}},
    )
    found = [(each.action, each.kind, each.path) for each in made_at_last(declared, {"web", "site", "s3", "gone"})]
    assert found == [
        ("add", "instance", "instances.web"),
        ("add", "internet-host", "internet.hosts.site"),
        ("add", "aws-service", "aws_services.s3"),
    ]

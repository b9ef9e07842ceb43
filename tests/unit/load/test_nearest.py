"""The word somebody probably meant."""

import pytest

from dataplane.load.nearest import did_you_mean, nearest

KNOWN = ["cidr", "ipv6_cidr", "availability_zone", "route_table", "network_acl"]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("cird", "cidr"),
        ("AvailabilityZone", "availability_zone"),
        ("availability-zone", "availability_zone"),
        ("routeTable", "route_table"),
        ("route_tabel", "route_table"),
        ("transit_gateway", None),
        ("", None),
        ("x" * 1_000_000, None),
    ],
)
def test_nearest(word: str, meant: str | None) -> None:
    assert nearest(word, KNOWN) == meant
    assert did_you_mean(word, KNOWN) == (f"did you mean {meant}?" if meant else "")

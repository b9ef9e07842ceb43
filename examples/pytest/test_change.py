"""A lab of its own for each test, declared in code, and changed while it runs."""

from vpclab.testing import lab_fixture

TOWN = {
    "version": 1,
    "name": "town",
    "vpcs": {
        "town": {
            "cidr": "10.50.0.0/16",
            "subnets": {"main": {"cidr": "10.50.1.0/24", "availability_zone": "a"}},
            "security_groups": {
                "closed": {"ingress": []},
                "open": {"ingress": [{"protocol": "tcp", "ports": 443, "source": "group:closed"}]},
            },
        }
    },
    "instances": {
        "one": {"vpc": "town", "subnet": "main", "security_groups": ["closed"]},
        "two": {"vpc": "town", "subnet": "main", "security_groups": ["closed"]},
    },
}

town = lab_fixture(TOWN, scope="function")


def test_a_group_can_be_opened_while_the_lab_runs(town, assert_reachable, assert_dropped):
    assert_dropped(town["one"], "two", 443, by="security-group town/closed")
    two = {**TOWN["instances"]["two"], "security_groups": ["open"]}
    town.apply({**TOWN, "instances": {**TOWN["instances"], "two": two}})
    assert_reachable(town["one"], "two", 443)


def test_the_next_test_has_a_new_lab(town, assert_dropped):
    assert_dropped(town["one"], "two", 443, by="security-group town/closed")

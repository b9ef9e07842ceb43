"""`apply` and nodes: they come, go and change in place, with their addresses, interfaces and programs."""

from __future__ import annotations

import copy
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.e2e.conftest import EXAMPLES
from vpclab import ConfigurationError, Lab, LabError, Reason

QUICKSTART: dict[str, Any] = YAML(typ="safe").load(EXAMPLES / "quickstart.yaml")


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab.load(EXAMPLES / "quickstart.yaml") as lab:
        yield lab


@pytest.fixture
def wanted() -> dict[str, Any]:
    return copy.deepcopy(QUICKSTART)


def serve(lab: Lab, node: str, port: int) -> socket.socket:
    listener = lab[node].socket()
    listener.bind(("", port))
    listener.listen()
    listener.settimeout(20)
    return listener


def talk(one: socket.socket, other: socket.socket) -> None:
    one.sendall(b"ping")
    assert other.recv(4) == b"ping"
    other.sendall(b"pong")
    assert one.recv(4) == b"pong"


def test_a_dry_run_says_what_would_change_and_changes_nothing(lab: Lab, wanted: dict[str, Any]) -> None:
    wanted["vpcs"]["shop"]["security_groups"]["web"]["ingress"] = []
    del wanted["instances"]["db"], wanted["checks"]
    changes = lab.apply(wanted, dry_run=True)
    assert {(change["action"], change["path"]) for change in changes} >= {
        ("change", "vpcs.shop.security_groups.web"),
        ("remove", "instances.db"),
    }
    assert "db" in lab.nodes
    assert lab.trace("visitor", "web", port=80).reachable


def test_the_same_file_changes_nothing(lab: Lab) -> None:
    assert lab.apply(EXAMPLES / "quickstart.yaml") == []


def test_connections_survive_a_change_that_does_not_touch_them(lab: Lab, wanted: dict[str, Any]) -> None:
    with serve(lab, "app", 8080) as listener, lab["web"].connect("app", 8080) as client:
        server, _ = listener.accept()
        with server:
            talk(client, server)
            wanted["vpcs"]["store"]["route_tables"]["main"]["routes"] = []
            del wanted["instances"]["db"], wanted["checks"]
            wanted["instances"]["new"] = {"vpc": "shop", "subnet": "private", "security_groups": ["web"]}
            lab.apply(wanted)
            talk(client, server)
            assert "db" not in lab.nodes
            assert lab["new"].ping("example")
    assert lab.trace("web", "10.1.1.10").forward.reason is not Reason.NONE


def test_a_new_rule_opens_a_port_at_once(lab: Lab, wanted: dict[str, Any]) -> None:
    with pytest.raises(TimeoutError):
        lab["visitor"].connect("web", 8443, timeout_s=0.3)
    rule = {"protocol": "tcp", "ports": 8443, "source": "0.0.0.0/0"}
    wanted["vpcs"]["shop"]["security_groups"]["web"]["ingress"].append(rule)
    assert [change["path"] for change in lab.apply(wanted)] == ["vpcs.shop.security_groups.web"]
    with pytest.raises(ConnectionRefusedError):
        lab["visitor"].connect("web", 8443)


def test_nodes_change_their_address_in_place(lab: Lab, wanted: dict[str, Any]) -> None:
    wanted["instances"]["app"]["private_ip"] = "10.0.2.77"
    lab.apply(wanted)
    assert lab["app"].addresses == ("10.0.2.77",)
    assert lab["web"].ping("app")
    assert lab["app"].ping("example")
    assert not lab["web"].ping("10.0.2.10", timeout_s=1)


def test_interfaces_come_and_go(lab: Lab, wanted: dict[str, Any]) -> None:
    wanted["vpcs"]["shop"]["network_interfaces"] = {
        "second": {
            "subnet": "public",
            "private_ips": ["10.0.1.99"],
            "security_groups": ["web"],
            "attachment": {"instance": "web", "device_index": 1},
        }
    }
    lab.apply(wanted)
    assert ", ".join(lab["web"].addresses) == "10.0.1.10, 10.0.1.99"
    assert lab["app"].ping("10.0.1.99")
    assert lab.trace("web/eth1", "app").forward.hops[0].object.path == "web/eth1"
    lab.apply(QUICKSTART)
    assert ", ".join(lab["web"].addresses) == "10.0.1.10"
    assert not lab["app"].ping("10.0.1.99", timeout_s=1)
    assert lab["app"].ping("web")


def test_a_wrong_file_adds_no_node(lab: Lab, wanted: dict[str, Any]) -> None:
    wanted["instances"]["app"]["subnet"] = "nowhere"
    wanted["instances"]["extra"] = {"vpc": "shop", "subnet": "private"}
    with pytest.raises(ConfigurationError, match="nowhere"):
        lab.apply(wanted)
    assert "extra" not in lab.nodes
    assert lab["app"].ping("web")


def test_a_new_program_that_fails_is_told_and_the_network_stays(lab: Lab, wanted: dict[str, Any]) -> None:
    wanted["instances"]["extra"] = {
        "vpc": "shop",
        "subnet": "private",
        "programs": {"bad": {"command": ["no-such-program"], "ready": {"tcp": 1}}},
    }
    with pytest.raises(LabError, match="applied, but program extra/bad"):
        lab.apply(wanted)
    assert "extra" in lab.nodes
    lab.apply(QUICKSTART)
    assert "extra" not in lab.nodes


def test_programs_are_started_with_their_new_command(lab: Lab, wanted: dict[str, Any]) -> None:
    wanted["instances"]["app"]["programs"] = {
        "http": {"command": ["python3", "-m", "http.server", "8080"], "ready": {"tcp": 8080}}
    }
    lab.apply(wanted)
    lab["web"].connect("app", 8080).close()
    lab.apply(QUICKSTART)
    with pytest.raises(ConnectionRefusedError):
        lab["web"].connect("app", 8080)

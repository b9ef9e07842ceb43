"""The gateway endpoint example does what its comments say, with real kernels and programs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ruamel.yaml import YAML

from dataplane.verdict import Reason
from tests.conformance.behaviours import behaviour
from tests.e2e.conftest import EXAMPLES
from tests.e2e.conversation import SILENCE_S, datagrams, is_silent
from vpclab import Lab

S3, NAME = "52.216.0.10", "s3.eu-central-1.amazonaws.com"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.load(EXAMPLES / "gateway-endpoint.yaml") as lab:
        yield lab


@behaviour("An instance without a public address reaches S3 through a gateway endpoint", end_to_end=True)
def test_curl_reaches_s3_by_its_name(lab: Lab) -> None:
    done = lab["app"].run(["curl", "-sS", "--max-time", "20", f"http://{NAME}/"], check=True)
    assert "Directory listing" in done.stdout
    assert lab["app"].ping(S3).received == 1


@behaviour("Behind a gateway endpoint the service sees the private address of who calls", end_to_end=True)
def test_s3_sees_the_private_address(lab: Lab) -> None:
    with lab["s3"].sniffer() as line:
        lab["app"].connect(S3, 80).close()
        frame = next(line.frames(1, where=lambda f: f[12:14] == b"\x08\x00" and f[23] == 6))
    assert frame[26:30] == bytes([10, 95, 1, 10])


def test_subnets_of_other_tables_and_peers_have_no_way(lab: Lab) -> None:
    assert is_silent(lab, "job", S3, 80)
    assert lab.trace("job", S3, protocol="tcp", port=80).forward.reason is Reason.NO_ROUTE
    assert is_silent(lab, "ext", S3, 80)
    assert lab.trace("ext", S3, protocol="tcp", port=80).forward.reason is Reason.PEER_DESTINATION


def test_only_what_an_endpoint_takes(lab: Lab) -> None:
    trace = lab.trace("app", S3, protocol="udp", port=53)
    assert trace.forward.reason is Reason.GROUP_EGRESS, "its group names TCP and ping"
    file = YAML(typ="safe", pure=True).load(EXAMPLES / "gateway-endpoint.yaml")
    file["instances"]["open"] = {
        "vpc": "shop",
        "subnet": "private",
        "private_ip": "10.95.1.11",
        "security_groups": ["job"],
    }
    lab.apply(file)
    try:
        assert lab["open"].ping(S3).received == 1
        with datagrams(lab, "open", "s3", S3, 53) as line:
            line.near.sendto(b"question", line.address)
            line.far.settimeout(SILENCE_S)
            with pytest.raises(TimeoutError):
                line.far.recv(1)
        trace = lab.trace("open", S3, protocol="udp", port=53)
        assert trace.forward.reason is Reason.ENDPOINT_PROTOCOL, "though its group lets everything out"
    finally:
        lab.apply(EXAMPLES / "gateway-endpoint.yaml")
    assert not lab["s3"].ping("10.95.1.10", timeout_s=0.5), "services answer, and do not ask"

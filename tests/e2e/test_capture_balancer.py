"""A capture of a load balancer, read by another program."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.inspected import fleet, inspected
from tests.e2e.lab.stage import eventually, need
from vpclab import Lab

INNER, OUTER = "gwlb:sec/lb/inner", "gwlb:sec/lb/outer"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.from_dict(inspected()) as lab:
        yield lab


def tshark(file: Path, display: str, *fields: str) -> list[list[str]]:
    """These fields of each packet that a display filter finds."""
    command = [need("tshark"), "-r", str(file), "-n", "-Y", display, "-T", "fields"]
    for field in fields:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_both_sides_of_an_appliance_in_one_file(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "balancer.pcapng"
    command = [
        sys.executable,
        "-P",
        "-m",
        "vpclab",
        "--lab",
        lab.name,
        "capture",
        "gwlb:lb",
        "-c",
        "8",
        "-w",
        str(file),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as recording:
        assert recording.stderr is not None
        assert recording.stderr.readline() == f"capturing {INNER}, {OUTER} to {file}; Ctrl-C stops\n"
        eventually(lambda: file.stat().st_size > 0, "the file has begun")
        assert lab["client"].ping("server")
        assert recording.stderr.readline() == f"8 packets in {file}\n"
        assert recording.wait(10) == 0
    # Request and answer, each to the appliance and back.
    seen = tshark(file, "geneve", "frame.interface_name", "ip.src", "ip.dst", "udp.dstport", "geneve.option.class")
    assert len(seen) == 4
    for interface, source, destination, port, options in seen:
        assert interface == OUTER
        assert port == "6081"
        assert "10.9.2.20" in (source.split(",")[0], destination.split(",")[0])
        assert options.split(",") == ["0x0108"] * 3
    inner = tshark(file, f'frame.interface_name == "{INNER}"', "ip.src", "ip.dst", "icmp.type", "frame.comment")
    assert [row[:3] for row in inner] == [
        ["10.0.1.10", "10.0.2.10", "8"],
        ["10.0.1.10", "10.0.2.10", "8"],
        ["10.0.2.10", "10.0.1.10", "0"],
        ["10.0.2.10", "10.0.1.10", "0"],
    ]
    [target] = {target_of(row[3]) for row in inner}
    assert target in ("fw-a", "fw-b")
    assert [row[3].partition(";")[0] for row in inner] == [
        f"FORWARD to interface {target}/eth0",
        "FORWARD to interface server/eth0",
        f"FORWARD to interface {target}/eth0",
        "FORWARD to interface client/eth0",
    ]


def target_of(comment: str) -> str:
    [target] = [part.removeprefix("target ") for part in comment.split("; ") if part.startswith("target ")]
    return target


def dual_stack_with_two_addresses() -> dict[str, Any]:
    """Both targets are addresses of one interface, and what is inspected has IPv6 as well."""
    file = inspected()
    fleet(file).update(targets=["10.9.1.10", "10.9.1.15"], target_type="ip")
    del file["instances"]["fw-b"]
    file["instances"]["fw-a"]["secondary_private_ips"] = ["10.9.1.15"]
    app = file["vpcs"]["app"]
    app["ipv6_cidrs"] = ["2001:db8:0:0::/56"]
    for number, name in enumerate(("client", "server"), 1):
        app["subnets"][name]["ipv6_cidr"] = f"2001:db8:0:{number}::/64"
        file["instances"][name]["ipv6_address"] = f"2001:db8:0:{number}::10"
        other = f"2001:db8:0:{3 - number}::/64"
        app["route_tables"][name]["routes"].append({"destination": other, "target": "vpc-endpoint:inspect"})
    app["security_groups"]["open"]["ingress"].append({"protocol": "all", "source": "::/0"})
    return file


def test_each_packet_is_there_once_with_the_target_that_it_was_for(tmp_path: Path) -> None:
    file = tmp_path / "balancer.pcapng"
    with Lab.from_dict(dual_stack_with_two_addresses()) as lab, file.open("wb", buffering=0) as stream:
        recording = threading.Thread(
            target=lab.capture, args=("gwlb:lb",), kwargs={"stream": stream, "count": 96, "seconds": 60}
        )
        recording.start()
        eventually(lambda: file.stat().st_size > 0, "the file has begun")
        for _ in range(6):
            assert lab["client"].ping("10.0.2.10")
            assert lab["client"].ping("2001:db8:0:2::10")
        recording.join()
    told = ("icmp.type", "icmp.ident", "icmpv6.type", "icmpv6.echo.identifier")
    outer = tshark(file, "geneve", "ip.src", "ip.dst", "frame.comment", "geneve.options", *told)
    assert {target_of(row[2]) for row in outer} == {"10.9.1.10", "10.9.1.15"}
    for source, destination, comment, *_ in outer:
        ends = {source.split(",")[0], destination.split(",")[0]}
        assert ends == {"10.9.2.20", target_of(comment)}
    # Each request and each answer goes to the target and comes back, and no packet is there more than once.
    assert len(outer) == 48
    way = [tuple(each.split(",")[0] for each in (row[0], row[1])) + tuple(row[3:]) for row in outer]
    assert len(way) == len(set(way))
    six = tshark(file, f'frame.interface_name == "{INNER}" && ipv6', "ipv6.src", "ipv6.dst", "icmpv6.type")
    assert sorted(map(tuple, six)) == [
        *[("2001:db8:0:1::10", "2001:db8:0:2::10", "128")] * 12,
        *[("2001:db8:0:2::10", "2001:db8:0:1::10", "129")] * 12,
    ]

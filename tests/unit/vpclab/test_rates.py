"""Rates are differences of two samples over the time between them, and `top` shows them."""

from __future__ import annotations

import io
import time
from typing import Any
from unittest.mock import Mock

import pytest
from rich.console import Console

from vpclab.cli import pictures, rates
from vpclab.cli.pictures import look


def interface(node: str, packets: int, octets: int, reasons: dict[str, int], device: str = "eth0") -> dict[str, Any]:
    return {
        "node": node,
        "device": device,
        "sent_packets": packets,
        "sent_bytes": octets,
        "received_packets": packets // 2,
        "received_bytes": octets // 2,
        "reasons": reasons,
    }


def flow(port: int, packets: tuple[int, int], octets: tuple[int, int], age_s: float = 60.0) -> dict[str, Any]:
    ends = {"owner": "app/eth0", "protocol": "tcp", "original": f"10.0.2.10:{port} > 198.51.100.10:80"}
    return {**ends, "packets": packets, "bytes": octets, "age_s": age_s}


def way(link: str, port: int, packets: int, age_s: float = 60.0) -> dict[str, Any]:
    counted = {"packets": (packets, packets), "bytes": (100 * packets, 0), "age_s": age_s}
    return {"link": link, "flow": f"app/eth0 6 {port}", **counted}


def gateway(attempts: int, sent: int, dropped: int) -> dict[str, Any]:
    metrics = {"ConnectionAttemptCount": attempts, "BytesOutToDestination": sent, "BytesOutToSource": 2 * sent}
    metrics |= {"ErrorPortAllocation": dropped, "PacketsDropCount": dropped}
    return {
        "gateway": "shop/nat",
        "connections": 7,
        "ports": 5,
        "ports_to": "tcp 198.51.100.10:80",
        "ports_limit": 64512,
        "metrics": metrics,
    }


BEFORE: dict[str, Any] = {
    "time_s": 100.0,
    "interfaces": [interface("app", 10, 1000, {"NO_ROUTE": 3}), interface("web", 5, 500, {})],
    "drops": {"NO_ROUTE": 3},
    "gateways": [gateway(1, 1000, 0)],
    "flows": [flow(1, (10, 10), (1000, 1000)), flow(2, (1, 1), (40, 40))],
    "remembered": {"group": 2},
    "ways": [way("a -> b", 1, 10), way("a -> c", 2, 10)],
}
AFTER: dict[str, Any] = {
    "time_s": 102.0,
    "interfaces": [
        interface("app", 30, 251_000, {"NO_ROUTE": 3, "GROUP_EGRESS": 4}),
        interface("web", 5, 500, {}),
        interface("new", 2, 200, {}, "eth1"),
    ],
    "drops": {"NO_ROUTE": 3, "GROUP_EGRESS": 4},
    "gateways": [gateway(3, 26_000, 2)],
    "flows": [flow(1, (20, 20), (126_000, 1000)), flow(2, (1, 1), (40, 40)), flow(3, (1, 0), (60, 0), 1.0)],
    "remembered": {"group": 3, "nat": 7},
    "ways": [way("a -> b", 1, 30), way("a -> c", 2, 10), way("a -> b", 3, 5, 1.0), way("a -> c", 4, 99)],
}


def test_interfaces() -> None:
    app, web, new = rates.interface_rates(BEFORE, AFTER)
    assert (app["sent_packets_s"], app["sent_bits_s"], app["received_packets_s"]) == (10, 1_000_000, 5)
    assert (app["dropped_s"], app["drops"]) == (2, {"GROUP_EGRESS": 4}), "what was there before does not count"
    assert (web["sent_packets_s"], web["drops"]) == (0, {})
    assert (new["device"], new["sent_packets_s"]) == ("eth1", 1), "a new one counts from 0"


def test_drops_and_gateways() -> None:
    assert rates.drop_rates(BEFORE, AFTER) == [
        {"reason": "GROUP_EGRESS", "dropped_s": 2, "dropped": 4},
        {"reason": "NO_ROUTE", "dropped_s": 0, "dropped": 3},
    ]
    [nat] = rates.gateway_rates(BEFORE, AFTER)
    assert (nat["connections"], nat["ports"], nat["ports_limit"], nat["ports_to"]) == (
        7,
        5,
        64512,
        "tcp 198.51.100.10:80",
    )
    assert (nat["attempts_s"], nat["out_bits_s"], nat["in_bits_s"], nat["no_port"]) == (1, 100_000, 200_000, 2)


def test_flows_that_had_packets_meanwhile_the_largest_first() -> None:
    first, third = rates.flow_rates(BEFORE, AFTER)
    assert (first["original"], first["packets_s"], first["bits_s"]) == ("10.0.2.10:1 > 198.51.100.10:80", 10, 500_000)
    assert (third["original"], third["packets_s"], third["bits_s"]) == ("10.0.2.10:3 > 198.51.100.10:80", 0.5, 240)


def test_flows_that_are_older_than_the_earlier_sample_and_not_in_it_are_left_out() -> None:
    """It holds the latest flows only: what one that became one of these had before, nobody knows."""
    late = {**AFTER, "flows": [flow(8, (1000, 1000), (10**6, 10**6), 2.2), flow(9, (2, 2), (80, 80), 2.0)]}
    [found] = rates.flow_rates(BEFORE, late)
    assert (found["original"], found["packets_s"]) == ("10.0.2.10:9 > 198.51.100.10:80", 2)


def test_what_began_anew_counts_from_zero() -> None:
    """A connection of the same ends, an interface that was taken away and came back: no rate is below zero."""
    again = {
        **AFTER,
        "interfaces": [interface("app", 4, 400, {"NO_ROUTE": 1})],
        "gateways": [gateway(0, 500, 0)],
        "drops": {"NO_ROUTE": 1},
        "flows": [flow(1, (3, 1), (120, 40), 1.5), flow(2, (2, 2), (80, 8), 60.0)],
    }
    [app] = rates.interface_rates(BEFORE, again)
    assert (app["sent_packets_s"], app["sent_bits_s"], app["drops"]) == (2, 1600, {"NO_ROUTE": 1})
    assert rates.gateway_rates(BEFORE, again)[0]["out_bits_s"] == 2000
    assert rates.drop_rates(BEFORE, again) == [{"reason": "NO_ROUTE", "dropped_s": 0.5, "dropped": 1}]
    assert {row["original"]: (row["packets_s"], row["bits_s"]) for row in rates.flow_rates(BEFORE, again)} == {
        "10.0.2.10:1 > 198.51.100.10:80": (2, 640),
        "10.0.2.10:2 > 198.51.100.10:80": (1, 32),
    }


def test_marks_of_a_picture() -> None:
    found = rates.marks(BEFORE, AFTER)
    assert found["instance app"].lines == (
        "sent 1 Mbit/s, 10 packets/s",
        "received 500 kbit/s, 5 packets/s",
        "dropped 4 GROUP_EGRESS",
    )
    assert found["instance app"] == found["internet-host app"]
    assert found["instance app"].alarm
    assert found["network-interface new/eth1"].lines == (
        "sent 800 bit/s, 1 packets/s",
        "received 400 bit/s, 0.5 packets/s",
    )
    assert not found["network-interface new/eth1"].alarm
    assert found["nat-gateway shop/nat"].lines == ("7 connections", "out 100 kbit/s, in 200 kbit/s", "dropped 2")
    assert found["a -> b"].lines == ("10 kbit/s, 25 packets/s, 2 flows",)
    assert "a -> c" not in found
    assert not [key for key in found if "web" in key], "nothing is written where nothing goes on"


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0, "0 bit/s"),
        (0.04, "0 bit/s"),
        (0.5, "0.5 bit/s"),
        (1.04, "1 bit/s"),
        (9.94, "9.9 bit/s"),
        (9.96, "10 bit/s"),
        (999.4, "999 bit/s"),
        (999.6, "1 kbit/s"),
        (1_250_000, "1.2 Mbit/s"),
        (34e9, "34 Gbit/s"),
        (5e12, "5000 Gbit/s"),
    ],
)
def test_rates_as_people_write_them(rate: float, text: str) -> None:
    assert rates.bits(rate) == text


def shown(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=200, highlight=False).print(look("[x]", before, after))
    return [" ".join(line.split()) for line in stream.getvalue().splitlines()]


def test_a_look_of_top() -> None:
    lines = shown(BEFORE, AFTER)
    assert lines[0] == "lab [x]: 1 Mbit/s, 11 packets/s, 2 dropped/s; remembered: 3 group, 7 nat"
    assert "app/eth0 1 Mbit/s 10 500 kbit/s 5 2 GROUP_EGRESS" in lines
    assert "GROUP_EGRESS 2 4" in lines
    assert "shop/nat 7 5 of 64512 tcp 198.51.100.10:80 1 100 kbit/s 200 kbit/s 2 2" in lines
    assert "10.0.2.10:1 > 198.51.100.10:80 tcp app/eth0 500 kbit/s 10" in lines
    assert len(lines) < 24, "it fits a terminal"


def test_what_a_gateway_dropped_before_is_not_of_this_time() -> None:
    before, after = ({"time_s": moment, "gateways": [gateway(1, 0, lost)]} for moment, lost in ((1.0, 5), (2.0, 7)))
    [row] = rates.gateway_rates(before, after)
    assert (row["no_port"], row["dropped"]) == (2, 2)


def test_each_look_is_about_the_time_since_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not about all of it: what went by before is over."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    samples = [{**BEFORE, "interfaces": [], "drops": {}, "flows": [], "gateways": []} for _ in range(4)]
    for moment, (sample, octets) in enumerate(zip(samples, (0, 125_000, 125_000, 250_000), strict=True)):
        sample |= {"time_s": float(moment), "interfaces": [interface("app", octets // 1000, octets, {})]}
    lab = Mock(traffic=Mock(side_effect=samples))
    lab.name = "x"
    stream = io.StringIO()
    for shown_then in pictures._looks(lab, 1.0, 3):
        Console(file=stream, width=200, highlight=False).print(shown_then)
    heads = [line for line in stream.getvalue().splitlines() if line.startswith("lab x: ")]
    assert [head.split(",")[0] for head in heads] == ["lab x: 1 Mbit/s", "lab x: 0 bit/s", "lab x: 1 Mbit/s"]
    assert slept == [1.0] * 3


def test_a_look_at_a_quiet_lab() -> None:
    empty = {**AFTER, "drops": {}, "gateways": [], "flows": [], "remembered": {}, "interfaces": []}
    assert shown(empty, {**empty, "time_s": 103.0})[0] == "lab [x]: 0 bit/s, 0 packets/s, 0 dropped/s; remembered: none"


def test_two_samples_of_one_moment_divide_by_nothing() -> None:
    assert rates.interface_rates(BEFORE, BEFORE)[0]["sent_packets_s"] == 0

"""The quickstart lab keeps what the README promises, with real kernels and real programs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP

from dataplane.verdict import Reason
from tests.conformance.behaviours import behaviour
from vpclab import Lab

EXAMPLE, WEB_PUBLIC, NAT_PUBLIC = "198.51.100.10", "203.0.113.20", "203.0.113.10"


def open_ports(report: str) -> dict[str, str]:
    """Port or protocol -> state, for the lines of nmap's report that say open."""
    return dict(re.findall(r"^(\d+(?:/\w+)?)\s+(open\S*)", report, re.MULTILINE))


def test_app_reaches_the_internet_through_the_nat_gateway(quickstart: Lab) -> None:
    done = quickstart["app"].run(["curl", "-sS", "--max-time", "20", f"http://{EXAMPLE}/"])
    assert done.returncode == 0, done.stderr
    assert "<" in done.stdout
    logs = [path.read_text() for path in Path(quickstart.folder).rglob("*.log") if "example" in str(path)]
    assert any(NAT_PUBLIC in log for log in logs), "the server must have seen the NAT gateway's Elastic IP"
    assert not any("10.0.2.10" in log for log in logs)


def test_db_reaches_web_over_the_peering(quickstart: Lab) -> None:
    assert all(quickstart["db"].ping("10.0.1.10") for _ in range(2))


def test_db_cannot_reach_the_internet_and_the_trace_names_the_table(quickstart: Lab) -> None:
    assert not quickstart["db"].ping(EXAMPLE, timeout_s=1)
    trace = quickstart.trace("db", EXAMPLE, protocol="icmp")
    assert trace.forward.reason is Reason.NO_ROUTE
    assert str(trace.forward.object).startswith("route-table store/")


def test_tcp_scan_from_the_internet_finds_port_80_and_nothing_else(quickstart: Lab) -> None:
    scan = [
        "nmap",
        "-n",
        "-Pn",
        "-sS",
        "-p-",
        "--max-retries",
        "1",
        "--min-rate",
        "15000",
        "--host-timeout",
        "120s",
        WEB_PUBLIC,
    ]
    report = quickstart["visitor"].run(scan, timeout_s=150, check=True).stdout
    # At that rate a busy machine may lose both of its questions.
    assert set(open_ports(report)) <= {"80/tcp"}, report
    assert set(re.findall(r"^\d+/tcp\s+(\S+)", report, re.MULTILINE)) <= {"open"}, report
    scan = ["nmap", "-n", "-Pn", "-sS", "-p79-81", "--max-retries", "9", WEB_PUBLIC]
    report = quickstart["visitor"].run(scan, timeout_s=150, check=True).stdout
    assert open_ports(report) == {"80/tcp": "open"}, report


def test_udp_scan_from_the_internet_finds_nothing(quickstart: Lab) -> None:
    scan = ["nmap", "-n", "-Pn", "-sU", "-p1-100", "--reason", "--max-retries", "1", "--min-rate", "200", WEB_PUBLIC]
    report = quickstart["visitor"].run(scan, timeout_s=120, check=True).stdout
    # nmap cannot tell silence from an open port: nothing may have answered
    assert all(state == "open|filtered" for state in open_ports(report).values()), report
    assert "port-unreach" not in report, report
    assert "udp-response" not in report, report


def test_protocol_scan_from_the_internet_finds_tcp_only(quickstart: Lab) -> None:
    scan = ["nmap", "-n", "-Pn", "-sO", "--max-retries", "1", "--min-rate", "200", WEB_PUBLIC]
    report = quickstart["visitor"].run(scan, timeout_s=120, check=True).stdout
    answered = {number for number, state in open_ports(report).items() if state == "open"}
    assert answered <= {"6"}, report
    assert "proto-unreach" not in report, report


def test_web_sees_the_visitors_address(quickstart: Lab) -> None:
    with quickstart["web"].sniffer() as line:
        quickstart["visitor"].connect(WEB_PUBLIC, 80).close()
        frames = list(line.frames(1, 3.0, where=lambda f: f[23:24] == b"\x06"))
    packet = IP(frames[0][14:])
    assert (packet.src, packet.dst, packet[TCP].dport) == ("198.51.100.77", "10.0.1.10", 80)


def test_jumbo_packet_crosses_subnets_with_its_ttl(quickstart: Lab) -> None:
    app = quickstart["app"]
    with quickstart["web"].sniffer() as line:
        result = app.ping("10.0.1.10", size_bytes=8973, dont_fragment=True)
        frames = list(line.frames(1, 3.0, where=lambda f: f[23:24] == b"\x01"))
    assert result.received == 1, result.output
    packet = IP(frames[0][14:])
    assert (len(packet), packet.ttl) == (9001, 64)


def test_too_big_for_the_internet_is_told_by_the_subnets_router(quickstart: Lab) -> None:
    web = quickstart["web"]
    answer = web.sr1(IP(src="10.0.1.10", dst=EXAMPLE, flags="DF") / ICMP(id=77) / bytes(1572), 3.0)
    assert answer is not None
    assert (answer.src, answer[ICMP].type, answer[ICMP].code, answer[ICMP].nexthopmtu) == ("10.0.1.1", 3, 4, 1500)


def test_without_df_it_arrives_in_fragments(quickstart: Lab) -> None:
    with quickstart["example"].sniffer() as line:
        quickstart["web"].send(IP(src="10.0.1.10", dst=EXAMPLE, id=4242) / UDP(sport=9, dport=9) / bytes(1572))
        frames = list(line.frames(2, 3.0, where=lambda f: f[18:20] == (4242).to_bytes(2)))
    packets = [IP(frame[14:]) for frame in frames]
    assert [(p.src, len(p) <= 1500, p.frag) for p in packets] == [(WEB_PUBLIC, True, 0), (WEB_PUBLIC, True, 185)]


@behaviour(
    "A packet of 1600 bytes with DF for the internet is answered by the subnet's router with a next-hop MTU of 1500",
    item=9,
    end_to_end=True,
)
def test_path_mtu_discovery_of_a_real_kernel(quickstart: Lab) -> None:
    """A 100 kB answer through the internet gateway: web's kernel learns 1500 from 10.0.1.1 and goes on."""
    report = quickstart["web"].run(["tracepath", "-n", EXAMPLE], timeout_s=60).stdout
    assert re.search(r"10\.0\.1\.1\s.*pmtu 1500", report), report


def test_traceroute_shows_the_nat_gateway_and_nothing_of_the_vpc(quickstart: Lab) -> None:
    report = (
        quickstart["app"].run(["traceroute", "-n", "-I", "-w", "5", "-q", "1", "-m", "4", EXAMPLE], timeout_s=60).stdout
    )
    hops = re.findall(r"^\s*\d+\s+(\S+)", report, re.MULTILINE)
    nat = next(a for a in hops if a != "*")
    assert nat.startswith("10.0.1."), report
    assert EXAMPLE in hops, report


@pytest.mark.parametrize("name", ["web", "app", "db", "example", "visitor"])
def test_names_resolve_in_every_node(quickstart: Lab, name: str) -> None:
    assert quickstart[name].run(["hostname"]).stdout.strip() == name
    assert quickstart[name].run(["getent", "hosts", "localhost"]).returncode == 0


def test_curl_by_name(quickstart: Lab) -> None:
    done = quickstart["app"].run(
        ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{remote_ip}", "--max-time", "20", "http://web/"]
    )
    assert done.stdout == "200 10.0.1.10", done.stderr

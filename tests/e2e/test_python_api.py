"""What `from vpclab import Lab` promises: labs, nodes, packets, the clock."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import time
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether

from lab.state import LabState
from tests.e2e.conftest import EXAMPLES
from tests.e2e.lab.stage import eventually
from vpclab import ConfigurationError, Lab, LabError, Reason, RequestError, Verdict

SMALL: dict[str, Any] = {
    "version": 1,
    "name": "small",
    "vpcs": {
        "v": {
            "cidr": "10.0.0.0/16",
            "subnets": {"s": {"cidr": "10.0.1.0/24", "availability_zone": "a"}},
            "security_groups": {
                "open": {"ingress": [{"protocol": "all", "source": "0.0.0.0/0"}]},
            },
        }
    },
    "instances": {
        "a": {"vpc": "v", "subnet": "s", "private_ip": "10.0.1.10", "security_groups": ["open"]},
        "b": {
            "vpc": "v",
            "subnet": "s",
            "private_ip": "10.0.1.11",
            "security_groups": ["open"],
            "environment": {"COLOUR": "blue"},
        },
    },
}


def test_a_lab_declared_in_code_runs_and_is_gone_afterwards() -> None:
    with Lab.from_dict(SMALL) as lab:
        assert lab["a"].ping("b")
        assert lab["a"].ping(lab["b"])
        assert lab["a"].addresses == ("10.0.1.10",)
        assert [node.name for node in lab] == ["a", "b"]
        assert lab.name in Lab.running()
        folder = lab.folder
        pid = lab.status()["pid"]
    assert not folder.exists()
    assert lab.name not in Lab.running()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(LabError, match="not running"):
        lab.status()
    lab.down()


def test_declarations_may_hold_addresses_and_networks() -> None:
    lab = Lab.from_dict({**SMALL, "vpcs": {"v": {**SMALL["vpcs"]["v"], "cidr": IPv4Network("10.0.0.0/16")}}})
    assert lab.name.startswith("small-")


def test_a_wrong_declaration_starts_nothing() -> None:
    with pytest.raises(ConfigurationError, match="colour"):
        Lab.from_dict({**SMALL, "colour": "blue"})


def test_two_labs_of_one_file_run_side_by_side() -> None:
    with Lab.from_dict(SMALL) as one, Lab.from_dict(SMALL) as two:
        assert one.name != two.name
        assert one["a"].ping("b")
        assert two["a"].ping("b")
        with one["b"].sniffer() as line:
            assert two["a"].ping("b")
            assert list(line.frames(1, 0.2, where=lambda frame: frame[12:14] == b"\x08\x00")) == []


def test_a_lab_ends_with_the_process_it_belongs_to() -> None:
    code = (
        "import sys, time; sys.path[:0] = sys.argv[1:]\n"
        f"from vpclab import Lab\nlab = Lab.from_dict({SMALL!r})\n"
        "lab.up(); print(lab.name, flush=True); time.sleep(60)"
    )
    paths = [path for path in sys.path if path]
    with subprocess.Popen([sys.executable, "-c", code, *paths], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        name = child.stdout.readline().strip()
        assert LabState(name).is_running()
        os.kill(child.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while LabState(name).path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_unknown_nodes_are_named_with_the_nearest(quickstart: Lab) -> None:
    with pytest.raises(RequestError, match="did you mean web"):
        quickstart["wbe"]
    with pytest.raises(RequestError, match="did you mean web"):
        quickstart["app"].ping("wbe")


def test_run_and_popen_see_the_node(quickstart: Lab) -> None:
    app = quickstart["app"]
    assert app.run(["hostname"]).stdout.strip() == "app"
    assert app.run(["cat"], input="hello").stdout == "hello"
    assert app.run(["sh", "-c", "exit 7"]).returncode == 7
    with pytest.raises(subprocess.CalledProcessError):
        app.run(["false"], check=True)
    with pytest.raises(FileNotFoundError):
        app.run(["no-such-program"])
    with pytest.raises(subprocess.TimeoutExpired):
        app.run(["sleep", "30"], timeout_s=0.2)
    with app.popen(["sh", "-c", "read line; echo got $line"], stdin=-1, stdout=-1, text=True) as child:
        assert child.communicate("it", timeout=5)[0] == "got it\n"


def test_connect_gives_a_real_connection(quickstart: Lab) -> None:
    with quickstart["visitor"].connect("web", 80) as line:
        assert line.getpeername() == ("203.0.113.20", 80)
        assert line.getsockname()[0] == "198.51.100.77"
        line.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert line.recv(8) == b"HTTP/1.0"
    with pytest.raises(ConnectionRefusedError):
        quickstart["app"].connect("example", 81)
    with pytest.raises(TimeoutError):
        quickstart["visitor"].connect("web", 81, timeout_s=0.3)


def test_sockets_of_a_node_serve_others(quickstart: Lab) -> None:
    web, app = quickstart["web"], quickstart["app"]
    with app.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("10.0.2.10", 8080))
        listener.listen()
        with web.connect("app", 8080) as client:
            accepted, peer = listener.accept()
            with accepted:
                assert peer[0] == "10.0.1.10"
                client.sendall(b"x")
                assert accepted.recv(1) == b"x"


def test_sr1_answers_in_kind(quickstart: Lab) -> None:
    app = quickstart["app"]
    syn = IP(src="10.0.2.10", dst="10.0.1.10") / TCP(sport=31000, dport=80, flags="S", seq=7)
    answer = app.sr1(syn)
    assert isinstance(answer, IP)
    assert (answer[TCP].flags, answer[TCP].ack) == ("SA", 8)
    again = app.sr1(bytes(IP(bytes(syn / b"")).copy()))
    assert isinstance(again, bytes)
    assert IP(again)[TCP].dport == 31000
    assert app.sr1(IP(src="10.0.2.10", dst="10.0.1.10") / TCP(sport=31001, dport=81), timeout_s=0.3) is None


def test_sr1_takes_icmp_errors_for_answers(quickstart: Lab) -> None:
    answer = quickstart["app"].sr1(IP(src="10.0.2.10", dst="198.51.100.77") / UDP(sport=32000, dport=33434))
    assert (answer[ICMP].type, answer[ICMP].code) == (3, 3)


def test_frames_are_sent_as_they_are(quickstart: Lab) -> None:
    app = quickstart["app"]
    asked = Ether(src=app.mac, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, psrc="10.0.2.10", pdst="10.0.2.1")
    with app.sniffer() as line:
        app.send(asked)
        [answer] = line.frames(1, where=lambda frame: frame[12:14] == b"\x08\x06")
    assert Ether(answer)[ARP].psrc == "10.0.2.1"
    with pytest.raises(OSError, match="Message too long"):
        app.send(bytes(IP(dst="10.0.1.10") / (b"x" * 9000)))
    with pytest.raises(LabError, match="no interface 'eth1'"):
        app.sniff(interface="eth1")


def is_icmp(frame: bytes) -> bool:
    return frame[12:14] == b"\x08\x00" and frame[23] == 1


def test_what_came_in_time_is_there_for_who_reads_late(quickstart: Lab) -> None:
    with quickstart["web"].sniffer() as line:
        assert all(quickstart["app"].ping("web") for _ in range(3))
        assert len(list(line.frames(0, 0.0, where=is_icmp))) == 3
        assert list(line.frames(0, 0.0, where=is_icmp)) == []


def test_a_slow_reader_comes_to_an_end_though_frames_do_not(quickstart: Lab) -> None:
    def slowly(frame: bytes) -> bool:
        time.sleep(0.02)  # longer than it takes the next frame to come
        return is_icmp(frame)

    ping = ["ping", "-n", "-q", "-i", "0.002", "10.0.1.10"]
    with quickstart["web"].sniffer() as line, quickstart["app"].popen(ping, stdout=subprocess.DEVNULL) as endless:
        try:
            assert list(line.frames(1, 10.0, where=is_icmp)), "it runs"
            assert list(line.frames(0, 0.2, where=slowly))
            assert endless.poll() is None
        finally:
            endless.terminate()


def test_sniffed_checksums_are_complete(quickstart: Lab) -> None:
    web = quickstart["web"]
    with web.sniffer() as line:
        quickstart["app"].connect("web", 80).close()
        [frame] = line.frames(1, where=lambda frame: frame[23] == 6)
    packet = IP(frame[14:])
    found = packet[TCP].chksum
    del packet[TCP].chksum
    assert IP(bytes(packet))[TCP].chksum == found


def test_capture_writes_pcapng(quickstart: Lab) -> None:
    stream = io.BytesIO()
    with quickstart["app"].popen(["ping", "-c", "200", "-i", "0.1", "10.0.1.10"], stdout=subprocess.DEVNULL) as ping:
        assert quickstart["app"].capture(stream, count=4, seconds=60) == 4
        ping.terminate()
    assert stream.getvalue()[:4] == b"\x0a\x0d\x0d\x0a"


def test_traces_start_at_nodes_interfaces_and_addresses(quickstart: Lab) -> None:
    by_name = quickstart.trace("app", "web", port=80)
    assert by_name.reachable
    assert quickstart.trace("app/eth0", "10.0.1.10", port=80).forward == by_name.forward
    assert quickstart.trace("10.0.2.10", quickstart["web"], port=80).forward == by_name.forward
    assert quickstart.trace("203.0.113.20", "app", protocol="icmp").forward.hops[0].object.path == "web/eth0"
    for source, text in (("10.9.9.9", "no node"), ("app/eth7", "no interface"), ("host", "not part of the lab")):
        with pytest.raises(RequestError, match=text):
            quickstart.trace(source, "web")
    with pytest.raises(RequestError, match="no such protocol"):
        quickstart.trace("app", "web", protocol="nonsense")
    with pytest.raises(RequestError, match="must be from 0 to 65535"):
        quickstart.trace("app", "web", port=70000)


def test_a_trace_changes_nothing(quickstart: Lab) -> None:
    before = {flow["original"] for flow in quickstart.flows()}
    assert quickstart.trace("app", "example", port=80, source_port=4711).reachable
    assert {flow["original"] for flow in quickstart.flows()} - before == set()
    assert not any("4711" in row["inside"] for row in quickstart.nat()["translations"])


def test_a_trace_says_whose_rules_were_looked_at_in_vain(quickstart: Lab) -> None:
    walk = quickstart.trace("visitor", "web", protocol="icmp").forward
    assert (walk.verdict, walk.reason, walk.note) == (Verdict.DROP, Reason.GROUP_INGRESS, "security group shop/web")
    walk = quickstart.trace("visitor", "web", port=22).forward
    assert walk.rule is not None
    assert walk.rule.path.startswith("shop/edge ingress 90 deny")


def test_flows_and_translations_show_both_tuples_and_the_rule(quickstart: Lab) -> None:
    with quickstart["app"].connect("example", 80) as line:
        port = line.getsockname()[1]

        def seen() -> list[dict[str, Any]]:
            return [flow for flow in quickstart.flows() if flow["original"].startswith(f"10.0.2.10:{port} ")]

        # `connect` returns when SYN+ACK is there: the last packet of the handshake may still be on its way.
        eventually(lambda: [flow["state"] for flow in seen()] == ["open"], "the handshake is over", deadline_s=10)
        [flow] = seen()
        assert (flow["owner"], flow["protocol"]) == ("app/eth0", "tcp")
        assert flow["reply"] == f"198.51.100.10:80 > 10.0.2.10:{port}"
        assert flow["rule"].startswith("shop/app egress")
        [row] = [row for row in quickstart.nat()["translations"] if row["inside"] == f"10.0.2.10:{port}"]
        assert (row["gateway"], row["public"], row["outside"]) == ("shop/nat", "203.0.113.10", "198.51.100.10:80")


def test_routes_are_the_effective_ones(quickstart: Lab) -> None:
    rows = {(row["table"], row["destination"]): row for row in quickstart.routes()}
    assert rows["shop/private", "0.0.0.0/0"]["target"] == "nat-gateway:nat"
    assert rows["store/main", "10.1.0.0/16"]["target"] == "local"
    assert rows["store/main", "10.0.0.0/16"]["subnets"] == ["data"]
    with pytest.raises(RequestError, match="no route table 'shop/x'"):
        quickstart.routes("shop/x")


def test_the_clock_only_moves_forward() -> None:
    with Lab.load(EXAMPLES / "quickstart.yaml") as lab, lab["app"].connect("example", 80) as line:
        port = line.getsockname()[1]
        assert lab.clock.offset_s == 0
        assert lab.clock.advance(320) == 320  # the clock runs on meanwhile
        assert [row for row in lab.nat()["translations"] if row["inside"].endswith(f":{port}")]
        assert lab.clock.advance(31) == 351
        assert not [row for row in lab.nat()["translations"] if row["inside"].endswith(f":{port}")]
        with pytest.raises(RequestError, match="forward only"):
            lab.clock.advance(-1)

"""A data plane with flow logs, whose clock is stepped by hand."""

from __future__ import annotations

import gzip

from scapy.layers.inet import IP, UDP

from dataplane.engine import DataPlane
from dataplane.load import load_topology
from dataplane.observe.aws_ids import aws_id
from lab.flow_logs import FOLDER, FlowLogs
from lab.state import LabState

BEGIN_S = 1_700_000_400
"""Lab time 0: a full ten minutes of Unix time."""
WEB, DB = (aws_id("eni", f"interface {name}/eth0") for name in ("web", "db"))


def text(logs: str) -> str:
    return f"""
version: 1
vpcs:
  v:
    cidr: 10.0.0.0/16
    subnets: {{s: {{cidr: 10.0.1.0/24, availability_zone: a}}}}
    security_groups: {{closed: {{description: nobody may come in}}}}
    flow_logs: {{{logs}}}
instances:
  web: {{vpc: v, subnet: s, private_ip: 10.0.1.10}}
  db: {{vpc: v, subnet: s, private_ip: 10.0.1.20, security_groups: [closed]}}
"""


class Logged:
    """A data plane with flow logs, whose clock is stepped by hand."""

    def __init__(self, logs: str, **room: int) -> None:
        self.state = LabState("logged")
        self.state.acquire()
        self.plane = DataPlane(load_topology(text(logs), file_name="test.yaml"))
        if room:
            record = self.plane.record_flows
            self.plane.record_flows = lambda **given: record(**{**given, **room})  # type: ignore[method-assign]
        self.logs = FlowLogs(self.state, self.plane, epoch_ms=BEGIN_S * 1000)
        self.lost = self.logs.lost
        self.logs.configure()

    def send(self, second: float, count: int = 1, sport: int = 5) -> None:
        port = self.plane.port("web/eth0")
        packet = IP(src="10.0.1.10", dst="10.0.1.20") / UDP(sport=sport, dport=6) / bytes(72)
        interface, peer = self.plane.interface(port), self.plane.interface(self.plane.port("db/eth0"))
        frame = peer.mac + interface.mac + b"\x08\0" + bytes(packet)
        self.plane.process([frame] * count, [port] * count, round(second * 1000))

    def wait(self, second: float) -> None:
        self.plane.advance(round(second * 1000))
        self.logs.collect()

    def change(self, lab_file: str) -> None:
        """Change over to another lab file, as `vpclab apply` does."""
        self.plane.apply(load_topology(lab_file, file_name="test.yaml"))
        self.logs.configure()

    def files(self) -> dict[str, list[str]]:
        """By key: lines of all files."""
        found = {}
        folder = self.state.path / FOLDER
        for path in sorted(folder.rglob("*.log*")):
            content = path.read_bytes()
            plain = gzip.decompress(content) if path.suffix == ".gz" else content
            found[str(path.relative_to(folder))] = plain.decode().splitlines()
        return found

    def lines(self) -> list[str]:
        return [line for content in self.files().values() for line in content[1:]]


FORMAT = 'log_format: "${interface-id} ${packets} ${start} ${end} ${flow-direction} ${action} ${log-status}"'


def row(interface: str, packets: int, first: int, last: int, way: str, action: str = "ACCEPT") -> str:
    return f"{interface} {packets} {BEGIN_S + first} {BEGIN_S + last} {way} {action} OK"

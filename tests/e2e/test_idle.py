"""What a lab costs while nothing happens in it."""

from __future__ import annotations

import time
from pathlib import Path

from lab.state import LabState
from vpclab import Lab

INSTANCES = 100
WINDOW_S, LIMIT_S = 2.0, 60.0


def busy_s(pid: int) -> float:
    """Processor time of all threads of a process."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def test_an_idle_lab_of_a_hundred_instances_takes_less_than_a_hundredth_of_a_processor() -> None:
    """Once their kernels have introduced themselves to the network, which takes them some seconds."""
    subnet = {"cidr": "10.0.0.0/24", "ipv6_cidr": "2001:db8:0:1::/64", "assign_ipv6_address_on_creation": True}
    vpc = {"cidr": "10.0.0.0/16", "ipv6_cidrs": ["2001:db8::/56"], "subnets": {"many": subnet}}
    instances = {f"i{number}": {"vpc": "v", "subnet": "many"} for number in range(INSTANCES)}
    with Lab.from_dict({"version": 1, "name": "idle", "vpcs": {"v": vpc}, "instances": instances}) as lab:
        daemon = LabState(lab.name).read_daemon()
        assert daemon is not None
        pid, end = int(daemon["pid"]), time.monotonic() + LIMIT_S
        while True:
            before, began = busy_s(pid), time.monotonic()
            time.sleep(WINDOW_S)  # what is measured is a time
            share = (busy_s(pid) - before) / (time.monotonic() - began)
            if share < 0.01:
                break
            assert time.monotonic() < end, f"{share:.1%} of a processor"

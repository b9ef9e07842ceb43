"""What is fuzzed: each target takes octets, whatever they are, and raises only for what must not happen."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.fuzz import aimed, captures, lab_files, observed, ports, requests, returned, tables


class Target(NamedTuple):
    """One of them.

    `share`: how much of the time it gets, as a proportion. `traced`: packages of Python whose lines are told to the
    fuzzer; compiled modules tell by themselves.
    """

    run: Callable[[bytes], None]
    share: int
    longest: int
    traced: tuple[str, ...] = ()


TARGETS: dict[str, Target] = {
    "packets": Target(aimed.play, share=4, longest=1024),
    "geneve": Target(returned.play, share=2, longest=512),
    "observed": Target(observed.play, share=2, longest=1024),
    "lab_files": Target(
        lab_files.play, share=1, longest=1024, traced=("dataplane.load", "dataplane.model", "dataplane.topology")
    ),
    "ports": Target(ports.play, share=1, longest=512),
    "tables": Target(tables.play, share=1, longest=512),
    "captures": Target(
        captures.play, share=1, longest=1024, traced=("lab.pcapng", "lab.replay", "lab.capture", "vpclab.cli.captures")
    ),
    "requests": Target(requests.play, share=1, longest=512, traced=("lab.", "dataplane.trac", "dataplane.engine")),
}

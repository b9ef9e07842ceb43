"""vpclab: a cloud network you can ping.

A userspace packet router that behaves like the data plane of an AWS VPC, with real programs in real network
namespaces around it::

    from vpclab import Lab

    with Lab.load("lab.yaml") as lab:
        assert lab["app"].ping("web")
        print(lab["app"].run(["curl", "-s", "http://web/"]).stdout)
        assert not lab.trace("db", "198.51.100.10", port=80).reachable

What is listed in `__all__` is the public API; everything else may change without notice.
"""

from dataplane.errors import ConfigurationError, LabError, LimitError, Problem, VpclabError
from dataplane.names import Name
from dataplane.trace import Action, Hop, Packet, Step, Trace, Walk
from dataplane.trace_text import render
from dataplane.verdict import REASON_TEXT, Reason, Verdict
from lab.control import ImpostorError, NotRunningError, RequestError
from lab.gc import NotRemovedError
from vpclab.clock import Clock
from vpclab.lab import Lab
from vpclab.node import Node, PingResult
from vpclab.version import installed_version

__all__ = [
    "REASON_TEXT",
    "Action",
    "Clock",
    "ConfigurationError",
    "Hop",
    "ImpostorError",
    "Lab",
    "LabError",
    "LimitError",
    "Name",
    "Node",
    "NotRemovedError",
    "NotRunningError",
    "Packet",
    "PingResult",
    "Problem",
    "Reason",
    "RequestError",
    "Step",
    "Trace",
    "Verdict",
    "VpclabError",
    "Walk",
    "__version__",
    "render",
]


def __getattr__(name: str) -> str:
    if name == "__version__":
        return installed_version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Tests of your own network: with real packets in pytest, and properties without root or namespaces.

**Real packets.** The package is a pytest plugin: with a ``lab.yaml`` beside the tests, the fixtures `lab`,
`assert_reachable`, `assert_dropped`, `clock` and `capture` are there (see `vpclab.testing.plugin`)::

    def test_only_the_app_reaches_the_database(assert_reachable, assert_dropped):
        assert_reachable("app", "db", 5432)
        assert_dropped("web", "db", 5432, reason="GROUP_INGRESS", by="shop/db")

`lab_fixture` makes a fixture of any lab file, or of a lab declared in code, with the scope you want.

**Properties.** A lab file says what a network should do; a property says what it must never do, whatever is sent::

    from hypothesis import given
    from vpclab.testing import MemoryNetwork, Sending, packets

    NETWORK = MemoryNetwork.load("lab.yaml")
    DATA = NETWORK.nodes_in("data")

    @given(packets(NETWORK.topology, senders=NETWORK.internet_hosts))
    def test_no_packet_from_the_internet_reaches_data(sending: Sending) -> None:
        result = NETWORK.fresh().send(sending.node, sending.packet)
        assert not result.reached & DATA, result

`MemoryNetwork` is the packet path of a lab without the lab: the same compiled tables decide, but packets go in and come
out as bytes, and time passes when you say so. `packets` draws what to send from the edges of what the lab file
declares: first and last addresses of its blocks and those beside them, ports at the ends of its rules, sizes around the
MTUs. `topologies` and `lab_files` draw whole networks, for code that has to work on any. What draws needs Hypothesis:
``pip install hypothesis``.

What `__all__` lists is public API. Nothing is imported before it is used: pytest loads this package wherever vpclab is
installed, in test runs that have nothing to do with it, too.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataplane.verdict import Cause
    from vpclab.testing.drawn_packets import Sending, packets
    from vpclab.testing.drawn_topologies import lab_files, topologies
    from vpclab.testing.expectations import Proof
    from vpclab.testing.fixtures import lab_fixture
    from vpclab.testing.memory_network import Delivery, MemoryNetwork, Result
    from vpclab.testing.recording import Recording

__all__ = [
    "Cause",
    "Delivery",
    "MemoryNetwork",
    "Proof",
    "Recording",
    "Result",
    "Sending",
    "lab_files",
    "lab_fixture",
    "packets",
    "topologies",
]

_HOMES = {
    "dataplane.verdict": ("Cause",),
    "vpclab.testing.drawn_packets": ("Sending", "packets"),
    "vpclab.testing.drawn_topologies": ("lab_files", "topologies"),
    "vpclab.testing.fixtures": ("lab_fixture",),
    "vpclab.testing.memory_network": ("Delivery", "MemoryNetwork", "Result"),
    "vpclab.testing.expectations": ("Proof",),
    "vpclab.testing.recording": ("Recording",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_HOME_OF[name]), name)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] == "hypothesis":
            raise ImportError(f"vpclab.testing.{name} needs Hypothesis: pip install hypothesis") from error
        raise

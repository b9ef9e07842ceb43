"""Property tests of your own network: thousands of packets, no root, no namespaces.

A lab file says what a network should do; a property says what it must never do, whatever is sent::

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
MTUs. `topologies` and `lab_files` draw whole networks, for code that has to work on any.

It needs Hypothesis: ``pip install 'vpclab[testing]'``. What `__all__` lists is public API.
"""

try:
    import hypothesis as _hypothesis  # noqa: F401
except ImportError as error:
    raise ImportError("vpclab.testing needs Hypothesis: pip install 'vpclab[testing]'") from error

from dataplane.verdict import Cause
from vpclab.testing.drawn_packets import Sending, packets
from vpclab.testing.drawn_topologies import lab_files, topologies
from vpclab.testing.memory_network import Delivery, MemoryNetwork, Result

__all__ = ["Cause", "Delivery", "MemoryNetwork", "Result", "Sending", "lab_files", "packets", "topologies"]

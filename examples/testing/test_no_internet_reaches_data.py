"""What this network must never do, whoever sends what: a property test with vpclab.testing.

Needs neither root nor namespaces. In the checkout, as vpclab is on no package index::

    pip install '.[testing]' pytest
    pytest examples/testing/test_no_internet_reaches_data.py

Change the source of the database's rule in lab.yaml to 0.0.0.0/0: the test fails and shows the one packet that gets in.
"""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from vpclab.testing import MemoryNetwork, Sending, packets

NETWORK = MemoryNetwork.load(Path(__file__).with_name("lab.yaml"))
DATA = NETWORK.nodes_in("data")
FROM_INTERNET = packets(NETWORK.topology, senders=NETWORK.internet_hosts)
FROM_WEB = packets(NETWORK.topology, senders=["web"], destinations=["10.30.2.10"])


@settings(max_examples=300, deadline=None)
@given(st.lists(FROM_INTERNET, min_size=1, max_size=4))
def test_no_packet_from_the_internet_reaches_data(sendings: list[Sending]) -> None:
    """Not the first, and none after it either."""
    network = NETWORK.fresh()
    for sending in sendings:
        result = network.send(sending.node, sending.packet)
        assert not result.reached & DATA, f"{sending} is {result}"


def test_web_reaches_data() -> None:
    """A network that lets nobody in would keep the promise above, too."""
    reached = []

    @settings(max_examples=200, deadline=None, database=None)
    @given(FROM_WEB)
    def collect(sending: Sending) -> None:
        reached.append(bool(NETWORK.fresh().send(sending.node, sending.packet).reached & DATA))

    collect()
    assert any(reached)

"""The pytest plugin: labs as fixtures, and assertions about real packets.

It is loaded wherever vpclab is installed (``-p no:vpclab.testing.plugin`` leaves it out). Fixtures:

    lab                 the lab of the ``lab.yaml`` beside the test module or above, one per module; for others, make a
                        fixture of this or another name with `vpclab.testing.lab_fixture`
    assert_reachable    a packet gets there, and the answer back
    assert_dropped      the network drops a packet, or the answer to it: why, and by which object or rule
    clock               the lab's clock: ``clock.advance(350)``
    capture             ``with capture("web") as seen: ...``, then ``seen.frames``, ``seen.packets``, ``seen.file``

The assertions take nodes (``lab["web"]``) as well as names; names are those of `lab`. Both send one real packet from
the node's own kernel and learn from the lab what became of this packet and of the answer to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from dataplane.verdict import Reason
    from vpclab.clock import Clock
    from vpclab.lab import Lab
    from vpclab.node import Node
    from vpclab.testing.expectations import Proof
    from vpclab.testing.recording import Recording

LAB_FILE = "lab.yaml"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option and the setting by which labs are required."""
    what = "fail tests that use a lab where none can run, instead of skipping them"
    parser.getgroup("vpclab").addoption("--require-labs", action="store_true", default=False, help=what)
    parser.addini("require_labs", what, type="bool", default=False)


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The running lab of the ``lab.yaml`` beside this test module, or above: ``lab["web"].run([...])``, ``.ping``, ...

    One per module. Other files, labs declared in code, other scopes: `vpclab.testing.lab_fixture`.
    """
    from vpclab.testing.fixtures import running

    root, beside = request.config.rootpath, request.path.parent
    folders = [beside, *(each for each in beside.parents if each.is_relative_to(root))]
    found = next((each / LAB_FILE for each in folders if (each / LAB_FILE).is_file()), None)
    if found is None:
        pytest.fail(
            f"fixture 'lab': no {LAB_FILE} beside {request.path.name} or above; write one, or say which file:"
            " from vpclab.testing import lab_fixture; lab = lab_fixture('network.yaml')",
            pytrace=False,
        )
    yield from running(found, request.config)


@pytest.fixture
def clock(lab: Lab) -> Clock:
    """The clock of `lab`: ``clock.advance(350)`` lets seconds pass for timeouts of flows; it never goes back."""
    return lab.clock


@pytest.fixture
def assert_reachable(request: pytest.FixtureRequest) -> Callable[..., Proof]:
    """``assert_reachable("app", "db", 5432)``: the packet arrives, and the answer comes back.

    A port where nobody listens is reachable, too (`Proof.refused`). Further arguments are those of
    `vpclab.testing.expectations.expect_reachable`: ``protocol="icmp"``, ``via="nat-gateway:shop/nat"``,
    ``source_seen="203.0.113.10"``.
    """

    def reach(source: Node | str, destination: Node | str, port: int | None = None, **options: Any) -> Proof:
        __tracebackhide__ = True
        from vpclab.testing import expectations

        return expectations.expect_reachable(_lab_of(request, source), source, destination, port, **options)

    return reach


@pytest.fixture
def assert_dropped(request: pytest.FixtureRequest) -> Callable[..., Proof]:
    """``assert_dropped("web", "db", 5432, reason="GROUP_INGRESS", by="shop/db")``: the network drops the packet.

    Or the answer to it. Silence proves nothing: the lab has to say that it dropped this very packet, and by what.

    ``reason`` is a `vpclab.Reason` or its name; ``by`` is what decided: an object (``shop/edge``), a rule (``shop/edge
    ingress 90``), or a security group none of whose rules allowed it (``shop/db``).
    """

    def drop(
        source: Node | str,
        destination: Node | str,
        port: int | None = None,
        *,
        reason: Reason | str | None = None,
        by: str | None = None,
        **options: Any,
    ) -> Proof:
        __tracebackhide__ = True
        from vpclab.testing import expectations

        lab = _lab_of(request, source)
        return expectations.expect_dropped(lab, source, destination, port, reason=reason, by=by, **options)

    return drop


@pytest.fixture
def capture(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Recording]:
    """``with capture("web") as seen: ...``: record an interface; a failed test says where the pcapng file is."""

    def record(node: Node | str, *, interface: str = "eth0") -> Recording:
        __tracebackhide__ = True
        from dataplane.errors import VpclabError
        from vpclab.testing.recording import Recording

        lab = _lab_of(request, node)
        try:
            place = lab[node] if isinstance(node, str) else node
        except VpclabError as error:
            raise error.with_traceback(None) from None
        number = len(list(tmp_path.glob("*.pcapng")))
        file = tmp_path / f"{place.name}-{interface}-{number}.pcapng"
        file.touch()
        request.node.add_report_section("call", "packets", str(file))
        return Recording(place, file, interface=interface)

    return record


def _lab_of(request: pytest.FixtureRequest, node: Node | str) -> Lab:
    """The lab that a node is in; a name is one of `lab`'s."""
    if isinstance(node, str):
        found: Lab = request.getfixturevalue("lab")
        return found
    return node.lab

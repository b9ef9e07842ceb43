"""NAT64 on both engines: drawn labs with a translator, and packets of both families that meet it."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from dataplane.load import load_topology
from tests.property.disagreements import IncomparableError
from tests.property.nat64_labs import labs
from tests.property.nat64_packets import answers, complaints, pieces, requests
from tests.property.pairing import Pair
from tests.property.test_memo import TYPES

WAITS = (1, 29_999, 30_000, 60_000, 349_999, 350_000)


def play(pair: Pair, data: st.DataObject) -> None:
    """One drawn step."""
    kind = data.draw(
        st.sampled_from(["request", "request", "request", "answer", "answer", "pieces", "error", "error", "wait"])
    )
    if kind == "wait":
        pair.advance(data.draw(st.sampled_from(WAITS)))
        return
    if kind == "request" or not pair.emitted:
        node = data.draw(st.sampled_from(["six", "six", "six", "seven", "near", "old", "example"]))
        port = pair.fast.port(f"{node}/eth0")
        version, packet = data.draw(requests(node))
        sent = TYPES[version] + packet
    else:
        port, frame = pair.emitted[-1 - data.draw(st.integers(0, 8)) % len(pair.emitted)]
        if frame[12:14] not in TYPES.values():
            return
        if kind == "pieces":
            interface = pair.fast.interface(port)
            ether = interface.router_mac + interface.mac
            if found := data.draw(pieces(frame)):
                pair.send(port, [ether + piece for piece in found])
            return
        sent = data.draw(answers(frame) if kind == "answer" else complaints(frame))
    interface = pair.fast.interface(port)
    pair.send(port, [interface.router_mac + interface.mac + sent] * data.draw(st.sampled_from([1, 1, 1, 2])))


def kind_of(frame: bytes) -> tuple[int, int, int]:
    """Family, protocol and (ICMP) type of what is in a frame."""
    if frame[12:14] == TYPES[6]:
        return 6, frame[20], frame[54] if frame[20] == 58 else 0
    return 4, frame[23], frame[34] if frame[23] == 1 else 0


@given(lab=labs(), data=st.data())
def test_both_engines_agree_on_nat64(lab: dict[str, Any], data: st.DataObject) -> None:
    pair = Pair(load_topology(json.dumps(lab), file_name="nat64.yaml"))
    with contextlib.suppress(IncomparableError):
        for _ in range(data.draw(st.integers(1, 12), label="steps")):
            play(pair, data)
    for kind in {kind_of(frame) for _, frame in pair.emitted}:
        event(f"family, protocol, type {kind}")

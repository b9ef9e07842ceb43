"""Who reaches whom by what: the answers to questions that stand for all, spread over everybody they stand for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dataplane.analysis.classes import Question, addresses_of_sender
from dataplane.analysis.course import Found
from dataplane.analysis.told import Row
from dataplane.topology import Topology
from dataplane.trace import protocol_name

_UNDECIDED = (Found.ARRIVED, Found.LOST, Found.UNSENT)


def derive(topology: Topology, asked: Sequence[Question], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return a line for every two nodes and address: what reaches, what nobody could tell, and what stops the rest.

    `rows` are the results of `asked`, in the same order: one for each kind of traffic.
    """
    grouped: dict[tuple[int, int, int], list[tuple[Question, Row]]] = {}
    for question, row in zip(asked, rows, strict=True):
        kinds = id(question.sender), id(question.receiver), question.way
        grouped.setdefault(kinds, []).append((question, row))
    lines = []
    for those in grouped.values():
        first = those[0][0]
        told = {
            "reaches": _reaching(those, (Found.ANSWERED,)),
            "undecided": _reaching(those, _UNDECIDED),
            "stopped": _stoppers(those),
        }
        for sender in first.sender.members:
            for receiver in first.receiver.members:
                if sender.node != receiver.node:
                    address = list(addresses_of_sender(topology, receiver))[first.way]
                    lines.append({"from": sender.path, "to": receiver.path, "address": str(address), **told})
    order = {each.path: index for index, each in enumerate(_members(asked))}
    return sorted(lines, key=lambda line: (order[line["from"]], order[line["to"]]))


def _members(asked: Sequence[Question]) -> Iterator[Any]:
    for question in asked:
        yield from (*question.sender.members, *question.receiver.members)


def _reaching(those: Sequence[tuple[Question, Row]], found: Sequence[Found]) -> list[dict[str, Any]]:
    """Protocols with their ranges of ports, lowest first; those without ports have none."""
    ranges: dict[int, list[tuple[int, int]]] = {}
    for question, row in those:
        if row["found"] in found:
            ranges.setdefault(row["protocol"], []).extend(question.traffic.ports)
    return [{"protocol": each, "ports": _joined(ports)} for each, ports in ranges.items()]


def _joined(ranges: Sequence[tuple[int, int]]) -> list[list[int]]:
    found: list[list[int]] = []
    for first, last in sorted(ranges):
        if found and found[-1][1] == first - 1:
            found[-1][1] = last
        else:
            found.append([first, last])
    return found


def _stoppers(those: Sequence[tuple[Question, Row]]) -> list[str]:
    """What stops the rest, each once, what stops most kinds of traffic first."""
    why = [row["why"] for _, row in those if row["found"] == Found.BLOCKED]
    return sorted(dict.fromkeys(why), key=lambda each: -why.count(each))


def in_words(kinds: Sequence[Row]) -> str:
    """Kinds of traffic as people write them: ``tcp 80, 8000-8999; icmp``; ``-`` for none."""
    return "; ".join(_kind(each) for each in kinds) or "-"


def _kind(kind: Row) -> str:
    ports = [str(first) if first == last else f"{first}-{last}" for first, last in kind["ports"]]
    name = protocol_name(kind["protocol"])
    if ports == ["1-65535"]:
        return f"{name} all"
    return f"{name} {', '.join(ports)}" if ports else name

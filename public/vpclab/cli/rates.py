"""Rates of a lab, from two of its samples (`Lab.traffic`), and how rates are written."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataplane.picture import Mark

Sample = Mapping[str, Any]
Row = Mapping[str, Any]
_LATE_S = 0.1
"""How long after the time of a sample its flows may have been read."""
_COUNTED = ("sent_packets", "sent_bytes", "received_packets", "received_bytes")


def interface_rates(before: Sample, after: Sample) -> list[dict[str, Any]]:
    """Per interface: packets and bits a second both ways, and what its packets died of meanwhile, by reason."""
    seconds = _seconds(before, after)
    old = {(row["node"], row["device"]): row for row in before["interfaces"]}
    rows = []
    for row in after["interfaces"]:
        was = old.get((row["node"], row["device"]), {})
        drops = _grown(was.get("reasons", {}), row["reasons"])
        grown = _since(was, {name: row[name] for name in _COUNTED})
        rows.append(
            {
                "node": row["node"],
                "device": row["device"],
                "sent_packets_s": grown["sent_packets"] / seconds,
                "sent_bits_s": 8 * grown["sent_bytes"] / seconds,
                "received_packets_s": grown["received_packets"] / seconds,
                "received_bits_s": 8 * grown["received_bytes"] / seconds,
                "dropped_s": sum(drops.values()) / seconds,
                "drops": drops,
            }
        )
    return rows


def drop_rates(before: Sample, after: Sample) -> list[dict[str, Any]]:
    """Per reason: packets a second and since the lab came up; the most frequent first."""
    seconds, grown = _seconds(before, after), _grown(before["drops"], after["drops"])
    rows = [
        {"reason": reason, "dropped_s": grown.get(reason, 0) / seconds, "dropped": count}
        for reason, count in after["drops"].items()
    ]
    return sorted(rows, key=lambda row: (-row["dropped_s"], -row["dropped"], row["reason"]))


def gateway_rates(before: Sample, after: Sample) -> list[dict[str, Any]]:
    """Per NAT gateway: connections, ports in use, bits a second both ways, and what went wrong meanwhile."""
    seconds = _seconds(before, after)
    old = {row["gateway"]: row["metrics"] for row in before["gateways"]}
    rows = []
    for row in after["gateways"]:
        grown = _grown(old.get(row["gateway"], {}), row["metrics"])
        rows.append(
            {
                "gateway": row["gateway"],
                "connections": row["connections"],
                "ports": row["ports"],
                "ports_limit": row["ports_limit"],
                "ports_to": row["ports_to"],
                "attempts_s": grown.get("ConnectionAttemptCount", 0) / seconds,
                "out_bits_s": 8 * grown.get("BytesOutToDestination", 0) / seconds,
                "in_bits_s": 8 * grown.get("BytesOutToSource", 0) / seconds,
                "no_port": grown.get("ErrorPortAllocation", 0),
                "dropped": grown.get("PacketsDropCount", 0),
            }
        )
    return rows


def flow_rates(before: Sample, after: Sample) -> list[dict[str, Any]]:
    """Flows that had packets meanwhile: packets and bits a second, both ways together; the largest first.

    A flow that was not in the earlier sample, which holds the latest only, but is older than that, is left out: nobody
    knows how much of it is new.
    """
    rows = [
        {"owner": row["owner"], "protocol": row["protocol"], "original": row["original"], **grown}
        for row, grown in _flow_rates(before["flows"], after["flows"], _seconds(before, after), _flow)
    ]
    return sorted(rows, key=lambda row: (-row["bits_s"], row["owner"], row["original"]))


def link_rates(before: Sample, after: Sample) -> dict[str, dict[str, float]]:
    """Per link that flows went over meanwhile, by its key in a picture: flows, packets and bits a second, both ways."""
    found: dict[str, dict[str, float]] = {}
    rows = _flow_rates(before["ways"], after["ways"], _seconds(before, after), lambda row: row["flow"])
    for row, grown in rows:
        sums = found.setdefault(row["link"], {"flows": 0, "packets_s": 0.0, "bits_s": 0.0})
        sums["flows"] += 1
        for name, rate in grown.items():
            sums[name] += rate
    return found


def _flow_rates(
    before: Sequence[Row], after: Sequence[Row], seconds: float, identity: Callable[[Row], Hashable]
) -> Iterator[tuple[Row, dict[str, float]]]:
    old = {identity(row): row for row in before}
    for row in after:
        was = old.get(identity(row))
        if was is None or row["age_s"] < was["age_s"]:  # a new one; of the same ends, if there was one before
            if row["age_s"] > seconds + _LATE_S:
                continue
            was = {"packets": (0, 0), "bytes": (0, 0)}
        packets, octets = sum(row["packets"]) - sum(was["packets"]), sum(row["bytes"]) - sum(was["bytes"])
        if packets > 0:
            yield row, {"packets_s": packets / seconds, "bits_s": 8 * octets / seconds}


def marks(before: Sample, after: Sample) -> dict[str, Mark]:
    """What to write into the picture of a lab: what its nodes, NAT gateways and routes carry, and what is dropped.

    Both samples are with ways. Over a route go the flows that the interfaces of its subnet remember.
    """
    from dataplane.picture import Mark  # late, as in vpclab.lab

    found: dict[str, Mark] = {}
    for row in interface_rates(before, after):
        lines = [
            f"{word} {bits(row[f'{word}_bits_s'])}, {count(row[f'{word}_packets_s'])} packets/s"
            for word in ("sent", "received")
            if row[f"{word}_packets_s"] > 0
        ]
        lines += [f"dropped {number} {reason}" for reason, number in row["drops"].items()]
        if lines:
            # the first interface of a node is drawn as the node, whatever it is
            first = row["device"] == "eth0"
            kinds = ("instance", "internet-host", "aws-service") if first else ("network-interface",)
            name = row["node"] if first else f"{row['node']}/{row['device']}"
            found |= {f"{kind} {name}": Mark(tuple(lines), alarm=bool(row["drops"])) for kind in kinds}
    for row in gateway_rates(before, after):
        lines = [f"{row['connections']} connections"] if row["connections"] else []
        if row["out_bits_s"] or row["in_bits_s"]:
            lines.append(f"out {bits(row['out_bits_s'])}, in {bits(row['in_bits_s'])}")
        lines += [f"dropped {row['dropped']}"] if row["dropped"] else []
        if lines:
            found[f"nat-gateway {row['gateway']}"] = Mark(tuple(lines), alarm=bool(row["dropped"]))
    for link, sums in link_rates(before, after).items():
        flows = f"{sums['flows']:.0f} flow" + ("s" if sums["flows"] > 1 else "")
        found[link] = Mark((f"{bits(sums['bits_s'])}, {count(sums['packets_s'])} packets/s, {flows}",))
    return found


def bits(rate: float) -> str:
    """Bits a second as people say it: ``0 bit/s``, ``1.2 Mbit/s``, ``34 Gbit/s``."""
    for unit in ("bit/s", "kbit/s", "Mbit/s"):
        if rate < 999.5:
            return f"{count(rate)} {unit}"
        rate /= 1000
    return f"{count(rate)} Gbit/s"


def count(rate: float) -> str:
    """A number of a second: one decimal below ten, unless that is 0."""
    return f"{rate:.1f}" if 0.05 <= rate < 9.95 and round(rate, 1) != round(rate) else f"{rate:.0f}"


def _seconds(before: Sample, after: Sample) -> float:
    return float(max(after["time_s"] - before["time_s"], 1e-3))


def _grown(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """By how much each counter has grown; those that have not are left out."""
    return {name: number for name, number in _since(before, after).items() if number > 0}


def _since(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """What each counter counted meanwhile. One that is lower than before began anew: what it says is of this time."""
    found = {}
    for name, number in after.items():
        was = before.get(name, 0)
        found[name] = number - was if number >= was else number
    return found


def _flow(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["owner"], row["protocol"], row["original"]

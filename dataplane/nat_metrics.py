"""What a NAT gateway counts, under the names of CloudWatch.

https://docs.aws.amazon.com/vpc/latest/userguide/metrics-dimensions-nat-gateway.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def metrics_of(row: Mapping[str, Any]) -> dict[str, int]:
    """CloudWatch's metrics from one row of `Engine.gateways`.

    "Source" is who opened a connection through the gateway, "Destination" the far end; "In" is what arrived at the
    gateway, "Out" what left it.
    """
    arrived, left = row["packets_in"], row["packets_out"]
    return {
        "ActiveConnectionCount": row["active"],
        "BytesInFromDestination": row["bytes_in"][1],
        "BytesInFromSource": row["bytes_in"][0],
        "BytesOutToDestination": row["bytes_out"][0],
        "BytesOutToSource": row["bytes_out"][1],
        "ConnectionAttemptCount": row["attempts"],
        "ConnectionEstablishedCount": row["established"],
        "ErrorPortAllocation": row["exhausted"],
        "IdleTimeoutCount": row["timed_out"],
        "PacketsDropCount": sum(arrived) - sum(left),
        "PacketsInFromDestination": arrived[1],
        "PacketsInFromSource": arrived[0],
        "PacketsOutToDestination": left[0],
        "PacketsOutToSource": left[1],
    }

"""What flow log files are called, and in which folders they are: as AWS writes them to S3.

https://docs.aws.amazon.com/vpc/latest/userguide/flow-logs-s3-path.html
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import blake2b

from dataplane.model.flow_log import FlowLog

PERIOD_S = 300
"""A file has records that end within these five minutes, and is called by their beginning."""


def file_key(log: FlowLog, *, account: str, region: str, log_id: str, begin_s: int, content: bytes) -> str:
    """The key of a file with records that end in the five minutes from `begin_s` (Unix time)."""
    at = datetime.fromtimestamp(begin_s, UTC)
    parts = {
        "aws-account-id": account,
        "aws-service": "vpcflowlogs",
        "aws-region": region,
        "year": f"{at:%Y}",
        "month": f"{at:%m}",
        "day": f"{at:%d}",
    }
    if log.per_hour_partition:
        parts["hour"] = f"{at:%H}"
    folders = [f"{key}={value}" if log.hive_compatible_partitions else value for key, value in parts.items()]
    digest = blake2b(content, digest_size=4).hexdigest()
    name = f"{account}_vpcflowlogs_{region}_{log_id}_{at:%Y%m%dT%H%MZ}_{digest}.log{'.gz' if log.gzip else ''}"
    return "/".join(["AWSLogs", *folders, name])

"""The version of vpclab, as installed."""

from __future__ import annotations


def installed_version() -> str:
    """What the installation says; ``0+unknown`` in a tree that was never installed."""
    from importlib.metadata import PackageNotFoundError, version  # late: it reads like mail, with all that takes

    try:
        return version("vpclab")
    except PackageNotFoundError:
        return "0+unknown"

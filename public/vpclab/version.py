"""The version of vpclab, as installed."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("vpclab")
except PackageNotFoundError:  # run from a tree that was never installed
    __version__ = "0+unknown"

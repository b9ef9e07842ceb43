"""Entry point of the command `vpclab` and of `python -m vpclab`."""

from __future__ import annotations

from vpclab.cli import cli


def main() -> None:
    """Run the command line and exit with its status."""
    cli(prog_name="vpclab")


if __name__ == "__main__":
    main()

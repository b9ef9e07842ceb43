"""The command `vpclab`: one module per group of verbs.

Exit status: 0 ok, 1 a check failed or the destination is unreachable, 2 bad input, 3 trouble with the lab or
the operating system. `exec` and `shell` exit with the status of what they ran.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from dataplane.errors import VpclabError
from vpclab.cli import captures, checks, learn, lifecycle, nodes, observe, pictures
from vpclab.cli.output import complain
from vpclab.cli.selection import Selection
from vpclab.version import __version__

EXIT_INTERRUPTED = 130


class VpclabGroup(click.Group):
    """A group whose errors are one line on standard error and an exit status, never a traceback.

    With ``--debug`` the traceback is shown.
    """

    debug = False

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command and exit."""
        extra["standalone_mode"] = False
        try:
            status = super().main(*args, **extra)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            click.echo("vpclab: interrupted", err=True)
            sys.exit(EXIT_INTERRUPTED)
        except BrokenPipeError:
            # The reader (`| head`) has what it wanted; keep the interpreter from complaining at exit.
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
            sys.exit(0)
        except VpclabError as error:
            if self.debug:
                raise
            complain(error)
            sys.exit(error.exit_code)
        sys.exit(status if isinstance(status, int) else 0)


@click.group(cls=VpclabGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--lab", "lab_name", metavar="NAME", help="Which running lab; not needed while only one runs.")
@click.option("--debug", is_flag=True, help="Show the Python traceback of an error.")
@click.version_option(__version__, prog_name="vpclab")
@click.pass_context
def cli(context: click.Context, lab_name: str | None, debug: bool) -> None:
    """A cloud network you can ping: an AWS VPC on this machine, with real packets."""
    context.obj = Selection(lab_name)
    if isinstance(context.command, VpclabGroup):
        context.command.debug = debug


for _module in (lifecycle, nodes, captures, observe, checks, pictures, learn):
    for _command in _module.COMMANDS:
        cli.add_command(_command)

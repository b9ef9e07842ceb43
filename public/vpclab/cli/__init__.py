"""The command `vpclab`: one module per group of verbs.

Exit status: 0 ok, 1 a check failed or the destination is unreachable, 2 bad input, 3 trouble with the lab or
the operating system. `exec` and `shell` exit with the status of what they ran.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from dataplane.errors import LabError, VpclabError
from lab.scarcity import said
from vpclab.cli.output import complain
from vpclab.cli.selection import Selection
from vpclab.version import installed_version

EXIT_INTERRUPTED = 130
MODULE_OF = {
    **dict.fromkeys(("capture", "replay"), "captures"),
    **dict.fromkeys(("check", "verify"), "checks"),
    **dict.fromkeys(("learn",), "learn"),
    **dict.fromkeys(("up", "down", "apply", "validate", "status", "report", "gc", "labs", "version"), "lifecycle"),
    **dict.fromkeys(("exec", "shell", "ping", "restart"), "nodes"),
    **dict.fromkeys(("trace", "routes", "nat", "flows", "flow-logs", "targets", "clock"), "observe"),
    **dict.fromkeys(("graph", "top"), "pictures"),
}
"""Verb: the module it is in. Only that one is imported: `vpclab exec` should begin as soon as a shell would."""


class VpclabGroup(click.Group):
    """A group whose errors are one line on standard error and an exit status, never a traceback.

    With ``--debug`` the traceback is shown.
    """

    debug = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs there are."""
        return sorted(MODULE_OF)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb of this name."""
        module = MODULE_OF.get(cmd_name)
        if module is None:
            return None
        verbs: tuple[click.Command, ...] = importlib.import_module(f"vpclab.cli.{module}").COMMANDS
        return next(verb for verb in verbs if verb.name == cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that the first word names; for one that is misspelled, with the one that was probably meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from dataplane.load.nearest import did_you_mean  # late: verbs that are there need it not

            hint = did_you_mean(args[0], MODULE_OF)
            if not hint:
                raise
            raise click.UsageError(f"{error.message.rstrip('.')}; {hint}", ctx) from None

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
        except (VpclabError, OSError) as error:
            if self.debug:
                raise
            refusal = error if isinstance(error, VpclabError) else LabError(said(error))
            complain(refusal)
            sys.exit(refusal.exit_code)
        sys.exit(status if isinstance(status, int) else 0)


def _tell_version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(f"vpclab, version {installed_version()}")
        context.exit()


@click.group(cls=VpclabGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--lab", "lab_name", metavar="NAME", help="Which running lab; not needed while only one runs.")
@click.option("--debug", is_flag=True, help="Show the Python traceback of an error.")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_tell_version, help="Show it.")
@click.pass_context
def cli(context: click.Context, lab_name: str | None, debug: bool) -> None:
    """A cloud network you can ping: an AWS VPC on this machine, with real packets."""
    context.obj = Selection(lab_name)
    if isinstance(context.command, VpclabGroup):
        context.command.debug = debug

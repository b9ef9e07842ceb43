"""Verbs of the lessons: learn list, start, hint, verify."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dataplane.errors import LabError
from vpclab.cli.checks import print_results
from vpclab.cli.output import complain, format_option, show
from vpclab.lab import Lab

if TYPE_CHECKING:
    from vpclab.learn import Lesson

_WIDTH = 100


class LessonName(click.ParamType["Lesson"]):
    """A lesson, by name or by number."""

    name = "lesson"

    def convert(self, value: object, parameter: click.Parameter | None, context: click.Context | None) -> Lesson:
        """The lesson."""
        from dataplane.load.nearest import did_you_mean  # late, like all of the lessons: most verbs need none
        from vpclab.learn.lessons import LESSONS, find

        found = find(str(value))
        if found is None:
            hint = did_you_mean(str(value), [each.name for each in LESSONS]) or "vpclab learn list shows them"
            self.fail(f"there is no lesson {value!r}; {hint}", parameter, context)
        return found


_lesson_argument = click.argument("lesson", type=LessonName())


@click.group()
def learn() -> None:
    """Ten broken labs: see what fails, find out why, put it right, have it proven."""


@learn.command("list")
@format_option
def list_(output: str) -> None:
    """The lessons, and how far you are."""
    from vpclab.learn.lessons import LESSONS
    from vpclab.learn.progress import progress

    rows = []
    for number, lesson in enumerate(LESSONS, start=1):
        so_far = progress(lesson.name)
        rows.append(
            {
                "number": number,
                "lesson": lesson.name,
                "title": lesson.title,
                "hints_seen": so_far.hints,
                "hints": len(lesson.hints) + 1,
                "solved": so_far.solved,
                "seen": f"{so_far.hints} of {len(lesson.hints) + 1}",
            }
        )
    columns = {"": "number", "lesson": "lesson", "what is noticed": "title", "hints": "seen", "solved": "solved"}
    show([{k: v for k, v in row.items() if output == "table" or k != "seen"} for row in rows], columns, output)


@learn.command()
@_lesson_argument
@click.option("--file", type=click.Path(dir_okay=False, path_type=Path), help="Where to copy it; LESSON.yaml here.")
@click.option("--no-lab", is_flag=True, help="Only copy the file; start nothing.")
def start(lesson: Lesson, file: Path | None, no_lab: bool) -> None:
    """Copy the broken lab file of LESSON to where you are, and start the lab.

    A file that is there already is kept, and used. Hints begin with the first again.

    Exit 3 when the lab cannot be started: the lesson can be solved all the same, by `--static` checks.
    """
    from vpclab.learn.progress import begin

    file = file or Path(f"{lesson.name}.yaml")
    is_new = not file.exists()
    if is_new:
        _write(file, lesson.broken)
    begin(lesson.name)
    click.echo(f"{lesson.title}\n\n{lesson.picture}\n\n{_wrapped(lesson.symptom)}\n")
    click.echo(f"{file}: {'the broken lab' if is_new else 'was there already, and is used as it is'}")
    problem = None if no_lab else _up(lesson, file)
    is_up = lesson.name in Lab.running()
    click.echo("\nTry:")
    in_lab = f"vpclab --lab {lesson.name}" if len(Lab.running()) > 1 else "vpclab"
    if is_up:
        steps = [(each.replace("vpclab", in_lab, 1), "") for each in lesson.see_it]
        steps += [(f"{in_lab} check", "what does not hold, and why")]
    else:
        steps = [(f"vpclab check {file} --static", "what does not hold, and why"), (f"vpclab up {file}", "the lab")]
    steps += [(f"vpclab learn hint {lesson.name}", "and again, for the next one")]
    steps += [(f"{in_lab} apply {file}", "when you have changed it")] if is_up else []
    own = "" if file == Path(f"{lesson.name}.yaml") else f" {file}"
    steps += [(f"vpclab learn verify {lesson.name}{own}", "whether that solves it")]
    steps += [(f"vpclab down {lesson.name}", "at the end")] if is_up else []
    for command, what in steps:
        click.echo(f"  {command:<52}  {what}".rstrip())
    if problem is not None:
        raise problem


def _up(lesson: Lesson, file: Path) -> LabError | None:
    """Start the lab; why it cannot be started."""
    if lesson.name in Lab.running():
        click.echo(f"lab {lesson.name} is running already")
        return None
    lab = Lab.load(file, name=lesson.name)
    try:
        trouble = lab.up(detached=True)
    except LabError as error:
        click.echo("the lab could not be started: see below")
        return error
    click.echo(f"lab {lesson.name} is up{f', but {trouble}' if trouble else ''}")
    return None


@learn.command()
@_lesson_argument
@click.option("--again", is_flag=True, help="Show those seen so far, and no further one.")
def hint(lesson: Lesson, again: bool) -> None:
    """Show the next hint of LESSON; the last one is the answer."""
    from vpclab.learn.progress import next_hint, progress

    there_are = len(lesson.hints) + 1
    if again:
        seen = progress(lesson.name).hints
        if not seen:
            click.echo(f"no hint of {lesson.name} has been shown yet")
        shown = range(1, seen + 1)
    else:
        last = next_hint(lesson.name, there_are)
        shown = range(last, last + 1)
    for rung in shown:
        click.echo(f"hint {rung} of {there_are}:")
        if rung <= len(lesson.hints):
            click.echo(_wrapped(lesson.hints[rung - 1]))
        else:
            click.echo(f"{lesson.diff}\n\n{_wrapped(lesson.why)}")


@learn.command()
@_lesson_argument
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--static", is_flag=True, help="Decide by the rules of FILE alone: no lab, no root, no packets.")
def verify(lesson: Lesson, file: Path | None, static: bool) -> None:
    """Prove whether FILE (LESSON.yaml here) solves LESSON, in a lab of its own.

    The checks are the lesson's own, whatever FILE says of checks.

    Exit 0 when it is solved, 1 when it is not, 2 when FILE is wrong, 3 when the lab is in trouble.
    """
    from vpclab.learn.progress import solve
    from vpclab.learn.verify import decide, prove

    file = file or Path(f"{lesson.name}.yaml")
    if not file.exists():
        raise click.UsageError(f"{file} is not there; vpclab learn start {lesson.name} makes it, or name your file")
    if static and lesson.task is not None:
        raise click.UsageError(
            f"rules alone do not decide {lesson.name}: it takes the kernels at both ends; leave out --static"
        )
    found = decide(lesson, file) if static else prove(lesson, file)
    print_results(found.rows, how="by its rules alone, without packets" if static else "with real packets")
    if lesson.task is not None:
        click.echo(f"\n{lesson.task.node}: {' '.join(lesson.task.command)}\n  => {found.task or 'done'}")
    if not found.solved:
        click.echo(f"\nnot solved yet; vpclab learn hint {lesson.name} helps")
        sys.exit(1)
    click.echo(f"\nsolved\n\n{_wrapped(lesson.why)}")
    try:
        solve(lesson.name)
    except LabError as error:  # it is solved all the same
        complain(error)


def _write(file: Path, text: str) -> None:
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise LabError(f"{file}: {error.strerror}") from error


def _wrapped(text: str) -> str:
    return click.wrap_text(text, _WIDTH)


COMMANDS = (learn,)

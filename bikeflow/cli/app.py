"""The `bikeflow` command: its subcommands, and how errors become messages and exit codes.

Exit codes: 0 done, 1 the check or the work failed, 2 wrong usage or configuration, 130 interrupted. To add a command,
write a module beside this one with a function of its name, and add a line to `COMMANDS`. A module is imported when its
command runs, so that `--help` stays quick.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from bikeflow import __version__
from bikeflow.core.errors import BikeflowError, ConfigError

if TYPE_CHECKING:
    from types import ModuleType

COMMANDS = {
    "run": "Run the service until SIGTERM or Ctrl-C.",
    "demo": "Show everything on a simulated city, with no network.",
    "check-config": "Show the settings in force, and their origins.",
    "fetch": "Fetch one snapshot of each system and store it.",
    "backfill": "Process the raw files of a range of days.",
    "refresh": "Publish the analytics database once.",
    "verify": "Prove that no line was lost and none counted twice.",
    "forget": "Remove what was made of raw files that have disappeared.",
    "status": "Show how things stand; exit 1 while something fails.",
    "systems": "List the configured systems, and how each is doing.",
    "compare": "Compare two sources of the same city.",
    "reload": "Make the running service take over a changed configuration.",
    "query": "Ask the published database; without SQL, show what it holds.",
    "summary": "Sum up all history, by day and by station.",
    "density": "Show the grid cells with the most bikes.",
    "forecast": "Show where a bike, or a dock, will be missing soon.",
    "service-levels": "Show for how long stations were empty and full.",
    "polls": "Show what the newest polls of a feed came to.",
    "catalog": "Tell what every table means, or every column of one.",
    "lineage": "Tell what each table is made of.",
    "probe": "Look at a GBFS feed before adding it.",
    "map": "Write the map with its last day as one HTML file.",
    "dlq": "Work on the dead letters: lines that were rejected, and why.",
    "alerts": "Test the channels through which alerts are sent.",
}


class Command(TyperCommand):
    """A command whose help names an argument without its type in Python's words."""

    def get_help(self, ctx: Any) -> str:
        """The help as text."""
        return super().get_help(ctx).replace(" <str>", "")


class Commands(TyperGroup):
    """The table of commands, each of which is imported only to be run or to show its own help."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, or the group of commands, of that name; None where there is none."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module = _imported(f"bikeflow.cli.{cmd_name.replace('-', '_')}")
        group: typer.Typer | None = getattr(module, "app", None)
        if group is None:
            group = typer.Typer(rich_markup_mode=None, add_completion=False)
            group.command(cmd_name, cls=Command)(getattr(module, module.__name__.rpartition(".")[2]))
        return typer.main.get_command(group)

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        """Write their summaries."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _imported(name: str) -> ModuleType:
    from bikeflow.runtime.memory import configure_allocators, freeze_gc

    if name in sys.modules:
        return sys.modules[name]
    configure_allocators()
    with freeze_gc():
        return import_module(name)


# plain help: rich alone would take longer to import than all the rest of `bikeflow --help`
app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bikeflow {__version__}")
        raise typer.Exit


@app.callback()
def bikeflow(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Turn a bike-share feed into an analytics database: one service, from the feed to DuckDB."""


def main() -> None:
    """Run the command line and exit; expected errors end as one line on stderr for each problem."""
    try:
        app()
    except ConfigError as error:
        _fail(error, 2)
    except BikeflowError as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        _flush()


def _fail(error: BikeflowError, code: int) -> None:
    from bikeflow.cli.results import printable
    from bikeflow.runtime.log import ends_in_journal

    priority = "<3>" if ends_in_journal(sys.stderr) else ""
    for line in str(error).split("\n"):
        # it may quote the feed, or a file's name
        typer.echo(f"{priority}error: {printable(line)}", err=True)
    sys.exit(code)


def _flush() -> None:
    """Write what is buffered now: a reader that has gone (`bikeflow query ... | head`) is no error to speak of."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # the interpreter flushes once more at exit, and would complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

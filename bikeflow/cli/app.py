"""The `bikeflow` command: its subcommands, and how errors become messages and exit codes.

Exit codes: 0 done, 1 the check or the work failed, 2 wrong usage or configuration, 130 interrupted. To add a command,
write a module beside this one and register its function below; it imports what it needs when it runs, so that `--help`
stays quick.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from bikeflow import __version__
from bikeflow.cli import alerts, dlq
from bikeflow.cli.backfill import backfill
from bikeflow.cli.catalog import catalog
from bikeflow.cli.check_config import check_config
from bikeflow.cli.demo import demo
from bikeflow.cli.density import density
from bikeflow.cli.fetch import fetch
from bikeflow.cli.lineage import lineage
from bikeflow.cli.map import map_command
from bikeflow.cli.probe import probe
from bikeflow.cli.query import query
from bikeflow.cli.refresh import refresh
from bikeflow.cli.reload import reload
from bikeflow.cli.run import run
from bikeflow.cli.status import status
from bikeflow.cli.summary import summary
from bikeflow.cli.verify import verify
from bikeflow.core.errors import BikeflowError, ConfigError

# plain help: rich alone would take longer to import than all the rest of `bikeflow --help`
app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Command(TyperCommand):
    """A command whose help names an argument without its type in Python's words."""

    def get_help(self, ctx: Any) -> str:
        """The help as text."""
        return super().get_help(ctx).replace(" <str>", "")


for command in (
    run,
    demo,
    check_config,
    fetch,
    backfill,
    refresh,
    verify,
    status,
    reload,
    query,
    summary,
    density,
    catalog,
    lineage,
    probe,
):
    app.command(cls=Command)(command)
app.command("map")(map_command)
app.add_typer(dlq.app, name="dlq")
app.add_typer(alerts.app, name="alerts")


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

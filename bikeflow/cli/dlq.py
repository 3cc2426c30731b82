"""`bikeflow dlq`: the rejected lines, which wait in the lake to be looked at, tried again or dropped."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from bikeflow.cli import options
from bikeflow.cli.progress import progress
from bikeflow.cli.scope import First, Last, SystemId, chosen_scope
from bikeflow.cli.store import existing_store
from bikeflow.core.errors import ConfigError

if TYPE_CHECKING:
    from bikeflow.core.model import Partition
    from bikeflow.lake.dead_letters import Counts, Selection
    from bikeflow.segments.dead_letters import Letter
    from bikeflow.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Work on the dead letters: lines that were rejected, and why.")
Check = Annotated[
    str | None, typer.Option("--check", metavar="CHECK", help="Only this check, such as range, type or field_count.")
]
Source = Annotated[
    str | None, typer.Option("--source", metavar="TEXT", help="Only raw files whose key contains this text.")
]
Limit = Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Show at most N dead letters.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


@app.command("list")
def list_(
    first: First = None,
    last: Last = None,
    system: SystemId = None,
    check: Check = None,
    source: Source = None,
    config: options.Config = None,
    overrides: options.Overrides = None,
    data_dir: options.DataDir = None,
    as_json: options.Json = False,
) -> None:
    """Count the dead letters by day, check and column.

    Files that can't be read at all are counted, too. --check dropped counts those that were dropped.
    """
    from bikeflow.cli.results import echo

    settings = options.start(config, overrides, data_dir)
    counts = options.complete(_count(settings, _selection(settings, first, last, system, check, source)))
    rows = [
        {
            "system_id": partition.system_id,
            "partition": str(partition.day),
            "check": name,
            "column": column,
            **dataclasses.asdict(count),
        }
        for (partition, name, column), count in sorted(counts.items())
    ]
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    form = "{partition}  {check:<12} {column:<24} {dead_letters:>8} in {files} files"
    if len(settings.all_systems) > 1:
        form = "{system_id:<16} " + form
    for row in rows:
        echo(form.format(**row))
    if unreadable := sum(count.unreadable_files for count in counts.values()):
        typer.echo(f"{unreadable} files can't be read at all: one dead letter stands for each")
    typer.echo(f"{sum(count.dead_letters for count in counts.values())} dead letters" if rows else "no dead letters")


@app.command()
def show(
    first: First = None,
    last: Last = None,
    system: SystemId = None,
    check: Check = None,
    source: Source = None,
    limit: Limit = 20,
    config: options.Config = None,
    overrides: options.Overrides = None,
    data_dir: options.DataDir = None,
    as_json: options.Json = False,
) -> None:
    """Show dead letters one by one, newest file first. Each tells where, why, and the line itself."""
    from bikeflow.cli.results import echo

    settings = options.start(config, overrides, data_dir)
    letters = options.complete(_newest(settings, _selection(settings, first, last, system, check, source), limit))
    for letter in letters:
        echo(json.dumps(letter, ensure_ascii=False) if as_json else _text(letter))
    if not letters and not as_json:
        typer.echo("no dead letters")


@app.command()
def replay(
    first: First = None,
    last: Last = None,
    system: SystemId = None,
    check: Check = None,
    source: Source = None,
    config: options.Config = None,
    overrides: options.Overrides = None,
    data_dir: options.DataDir = None,
    as_json: options.Json = False,
) -> None:
    """Process the raw files of dead letters again.

    Today's rules apply: what passes now becomes rows. It can be repeated: what is still rejected stays, once. --check
    dropped brings dropped dead letters back.
    """
    settings = options.start(config, overrides, data_dir)
    selection = _selection(settings, first, last, system, check, source)
    from bikeflow.service import work

    with progress("replay", "files") as tell:
        result = options.complete(work.replay(settings, selection, tell))
    if as_json:
        typer.echo(json.dumps(result))
    else:
        typer.echo(
            f"{result['files']} raw files processed again: {result['dead_letters_before']} dead letters before,"
            f" {result['dead_letters_after']} now"
        )
    failed = result["failed_partitions"]
    for partition, error in failed.items():
        typer.echo(f"error: {partition}: {error}", err=True)
    if failed:
        raise typer.Exit(1)


@app.command()
def drop(
    first: First = None,
    last: Last = None,
    system: SystemId = None,
    check: Check = None,
    source: Source = None,
    yes: Yes = False,
    config: options.Config = None,
    overrides: options.Overrides = None,
    data_dir: options.DataDir = None,
    as_json: options.Json = False,
) -> None:
    """Drop dead letters for good. Their number is kept, so that `verify` still proves that no line was lost.

    Raw files are never touched: a replay with --check dropped brings the dead letters back.
    """
    if check == "dropped":
        raise ConfigError("--check dropped: these are dropped already")
    settings = options.start(config, overrides, data_dir)
    selection = _selection(settings, first, last, system, check, source)
    if not yes:
        _ask(settings, selection)
    files, letters = options.complete(_drop(settings, selection))
    typer.echo(
        json.dumps({"files": files, "dead_letters": letters})
        if as_json
        else f"{letters} dead letters of {files} raw files dropped"
    )


def _selection(
    settings: Settings, first: str | None, last: str | None, system: str | None, check: str | None, source: str | None
) -> Selection:
    from bikeflow.lake.dead_letters import Selection

    return Selection(chosen_scope(settings, first, last, system), check, source or "")


def _ask(settings: Settings, selection: Selection) -> None:
    count = sum(group.dead_letters for group in options.complete(_count(settings, selection)).values())
    if not sys.stdin.isatty():
        raise ConfigError(f"this drops {count} dead letters; say --yes")
    typer.confirm(f"Drop {count} dead letters?", abort=True)


def _text(letter: Letter) -> str:
    place = f"{letter['source_key']}:{letter['line_number'] or 'whole file'}"
    # The line comes from outside: shown as JSON text, it can't move the terminal's cursor.
    line = json.dumps(letter["raw_line"], ensure_ascii=False)
    return f"{place}\n  {letter['check']}: {letter['message']}\n  {line}"


async def _count(settings: Settings, selection: Selection) -> dict[tuple[Partition, str, str], Counts]:
    from bikeflow.lake import dead_letters

    async with existing_store(settings) as store:
        return await dead_letters.count(store, settings.all_systems, selection)


async def _newest(settings: Settings, selection: Selection, limit: int) -> list[Letter]:
    from bikeflow.lake import dead_letters

    async with existing_store(settings) as store:
        return await dead_letters.newest(store, settings.all_systems, selection, limit)


async def _drop(settings: Settings, selection: Selection) -> tuple[int, int]:
    from bikeflow.lake import dead_letters

    async with existing_store(settings) as store:
        return await dead_letters.drop(store, settings.all_systems, selection)

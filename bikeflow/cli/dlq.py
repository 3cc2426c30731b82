"""`bikeflow dlq`: the rejected lines, which wait in the lake to be looked at, tried again or dropped."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from functools import partial
from typing import Annotated

import typer

from bikeflow.cli.options import Days, Given, Json, grouped
from bikeflow.cli.progress import progress
from bikeflow.cli.results import echo, echo_json, fail_of_partitions, tell_missing
from bikeflow.cli.sources import in_store
from bikeflow.core.errors import ConfigError
from bikeflow.feeds import layout_of
from bikeflow.ingest.dead_letters import count_unusable
from bikeflow.lake import dead_letters
from bikeflow.lake.dead_letters import Selection
from bikeflow.segments.dead_letters import Letter
from bikeflow.service import work
from bikeflow.settings import Settings
from bikeflow.store.base import Store

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Work on the dead letters: lines that were rejected, and why."
)
Limit = Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Show at most N dead letters.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


@dataclasses.dataclass(frozen=True)
class Letters(Days):
    """Which dead letters are meant."""

    check: Annotated[
        str | None,
        typer.Option("--check", metavar="CHECK", help="Only this check, such as range, type or field_count."),
    ] = None
    source: Annotated[
        str | None, typer.Option("--source", metavar="TEXT", help="Only raw files whose key contains this text.")
    ] = None

    def selection(self, settings: Settings) -> Selection:
        """The selection that the options name; raises `ConfigError`."""
        return Selection(self.scope(settings), self.check, self.source or "")


@app.command("list")
@grouped
def list_(letters: Letters, given: Given, as_json: Json = False) -> None:
    """Count the dead letters by day, check and column.

    Files that can't be read at all are counted, too. --check dropped counts those that were dropped.
    """
    settings = given.start()
    systems, selection = settings.all_systems, letters.selection(settings)
    counts = in_store(settings, lambda store: dead_letters.count(store, systems, selection))
    unusable = 0 if selection.check or selection.source else in_store(settings, partial(_unusable, settings, selection))
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
        echo_json(rows)
        return
    form = "{partition}  {check:<12} {column:<24} {dead_letters:>8} in {files} files"
    if len(systems) > 1:
        form = "{system_id:<16} " + form
    for row in rows:
        echo(form.format(**row))
    if unreadable := sum(count.unreadable_files for count in counts.values()):
        typer.echo(f"{unreadable} files can't be read at all: one dead letter stands for each")
    if unusable:
        typer.echo(
            f"{unusable} downloads were no feed document: they are kept in dlq/feed/, and a replay tries them again"
        )
    typer.echo(f"{sum(count.dead_letters for count in counts.values())} dead letters" if rows else "no dead letters")


@app.command()
@grouped
def show(letters: Letters, given: Given, limit: Limit = 20, as_json: Json = False) -> None:
    """Show dead letters one by one, newest file first. Each tells where, why, and the line itself."""
    settings = given.start()
    systems, selection = settings.all_systems, letters.selection(settings)
    found = in_store(settings, lambda store: dead_letters.newest(store, systems, selection, limit))
    for letter in found:
        echo(json.dumps(letter, ensure_ascii=False) if as_json else _text(letter))
    if not found and not as_json:
        typer.echo("no dead letters")


@app.command()
@grouped
def replay(letters: Letters, given: Given, as_json: Json = False) -> None:
    """Process the raw files of dead letters again.

    Downloads that were no feed document, and are one for today's version, become raw files first. Today's rules apply:
    what passes now becomes rows. It can be repeated: what is still rejected stays, once. --check dropped brings dropped
    dead letters back.
    """
    settings = given.start()
    selection = letters.selection(settings)
    with progress("replay", "files") as tell:
        result = asyncio.run(work.replay(settings, selection, tell))
    if as_json:
        echo_json(result)
    else:
        typer.echo(
            f"{result['files']} raw files processed again: {result['dead_letters_before']} dead letters before,"
            f" {result['dead_letters_after']} now"
        )
        if result["documents_filed"] or result["documents_left"]:
            typer.echo(
                f"{result['documents_filed']} unusable documents filed as raw files, {result['documents_left']} are"
                " still unusable"
            )
        tell_missing(result["missing_raw_files"])
    fail_of_partitions(result["failed_partitions"])


@app.command()
@grouped
def drop(letters: Letters, given: Given, yes: Yes = False, as_json: Json = False) -> None:
    """Drop dead letters for good. Their number is kept, so that `verify` still proves that no line was lost.

    Raw files are never touched: a replay with --check dropped brings the dead letters back.
    """
    if letters.check == "dropped":
        raise ConfigError("--check dropped: these are dropped already")
    settings = given.start()
    systems, selection = settings.all_systems, letters.selection(settings)
    if not yes:
        counts = in_store(settings, lambda store: dead_letters.count(store, systems, selection))
        total = sum(count.dead_letters for count in counts.values())
        if not sys.stdin.isatty():
            raise ConfigError(f"this drops {total} dead letters; say --yes")
        typer.confirm(f"Drop {total} dead letters?", abort=True)
    files, dropped = in_store(settings, lambda store: dead_letters.drop(store, systems, selection))
    if as_json:
        echo_json({"files": files, "dead_letters": dropped})
    else:
        typer.echo(f"{dropped} dead letters of {files} raw files dropped")


async def _unusable(settings: Settings, selection: Selection, store: Store) -> int:
    """The number of downloads that were no feed document."""
    systems = [system for system in settings.all_systems if selection.scope.has(system.id)]
    return sum([await count_unusable(store, layout_of(system), selection.scope) for system in systems])


def _text(letter: Letter) -> str:
    place = f"{letter['source_key']}:{letter['line_number'] or 'whole file'}"
    # The line comes from outside: shown as JSON text, it can't move the terminal's cursor.
    line = json.dumps(letter["raw_line"], ensure_ascii=False)
    return f"{place}\n  {letter['check']}: {letter['message']}\n  {line}"

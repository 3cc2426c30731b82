"""`bikeflow dlq`: the rejected lines, which wait in the lake to be looked at, tried again or dropped."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bikeflow.cli import options
from bikeflow.cli.days import First, Last, days
from bikeflow.cli.letters import LetterFile, Selection, find_letters
from bikeflow.cli.progress import progress
from bikeflow.cli.store import existing_store
from bikeflow.errors import ConfigError, NotFound
from bikeflow.transform.dead_letters import DROPPED, is_of_whole_file

if TYPE_CHECKING:
    from bikeflow.settings import Settings
    from bikeflow.store import Store

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
    check: Check = None,
    source: Source = None,
    config: options.Config = None,
    overrides: options.Overrides = None,
    data_dir: options.DataDir = None,
    as_json: options.Json = False,
) -> None:
    """Count dead letters by day, check and column, and unreadable files.

    --check dropped counts those that were dropped.
    """
    settings = options.start(config, overrides, data_dir)
    counts = options.complete(_count(settings, Selection(days(first, last), check, source)))
    rows = [
        {"partition": day, "check": name, "column": column, **dataclasses.asdict(count)}
        for (day, name, column), count in sorted(counts.items())
    ]
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        typer.echo("{partition}  {check:<12} {column:<24} {dead_letters:>8} in {files} files".format(**row))
    if unreadable := sum(row["unreadable_files"] for row in rows):
        typer.echo(f"{unreadable} files can't be read at all: one dead letter stands for each")
    typer.echo(f"{sum(row['dead_letters'] for row in rows)} dead letters" if rows else "no dead letters")


@app.command()
def show(
    first: First = None,
    last: Last = None,
    check: Check = None,
    source: Source = None,
    limit: Limit = 20,
    config: options.Config = None,
    overrides: options.Overrides = None,
    data_dir: options.DataDir = None,
    as_json: options.Json = False,
) -> None:
    """Show dead letters one by one, newest file first. Each tells where, why, and the line itself."""
    settings = options.start(config, overrides, data_dir)
    letters = options.complete(_newest(settings, Selection(days(first, last), check, source), limit))
    for letter in letters:
        typer.echo(json.dumps(letter, ensure_ascii=False) if as_json else _text(letter))
    if not letters and not as_json:
        typer.echo("no dead letters")


@app.command()
def replay(
    first: First = None,
    last: Last = None,
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
    selection = Selection(days(first, last), check, source)
    settings = options.start(config, overrides, data_dir)
    with progress("replay", "files") as tell:
        result = options.complete(run_replay(settings, selection, tell))
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
    selection = Selection(days(first, last), check, source)
    if check == "dropped":
        raise ConfigError("--check dropped: these are dropped already")
    settings = options.start(config, overrides, data_dir)
    if not yes:
        _ask(settings, selection)
    files, letters = options.complete(run_drop(settings, selection))
    typer.echo(
        json.dumps({"files": files, "dead_letters": letters})
        if as_json
        else f"{letters} dead letters of {files} raw files dropped"
    )


async def run_replay(settings: Settings, selection: Selection, tell: Callable[[int, int], None]) -> dict[str, Any]:
    """Mark the raw files of the selection as to be processed, and process their days; returns what `--json` prints."""
    from bikeflow.lock import exclusive
    from bikeflow.pipeline import open_pipeline

    with exclusive(settings.data_dir):
        async with open_pipeline(settings) as pipeline:
            await pipeline.reconciler.reconcile()
            found = [file async for file in find_letters(pipeline.store, pipeline.layout, selection)]
            keys = {file.raw_key for file in found}
            pipeline.ledger.files.process_again(keys)
            wanted = {file.partition for file in found}
            await pipeline.process(wanted.__contains__, len(found), tell)
            await pipeline.publish()
            failing = {str(row["partition"]): str(row["error"]) for row in pipeline.ledger.runs.failing()}
            everything = Selection(selection.days, source=selection.source)
            now = [file async for file in find_letters(pipeline.store, pipeline.layout, everything)]
            return {
                "files": len(found),
                "dead_letters_before": sum(len(file.letters) for file in found),
                "dead_letters_after": sum(len(file.letters) for file in now if file.raw_key in keys),
                "failed_partitions": failing,
            }


async def run_drop(settings: Settings, selection: Selection) -> tuple[int, int]:
    """Replace the selected dead letters by summaries; returns the numbers of files and of letters.

    It needs no lock: each file is replaced by one PUT, and a service that writes the same file writes a right one too.
    """
    from bikeflow.layout import Layout
    from bikeflow.transform import dead_letters

    layout, files, letters = Layout(settings.storage.prefix), 0, 0
    async with existing_store(settings) as store:
        async for file in find_letters(store, layout, selection):
            lines = await _lines(store, file)
            content = dead_letters.drop(file.letters, selection.holds, lines, dt.datetime.now(dt.UTC))
            if content is not None:
                await store.put(file.key, content)
                files, letters = files + 1, letters + len(file.selected)
    return files, letters


async def _lines(store: Store, file: LetterFile) -> int:
    """The data lines of a raw file that can't be read at all; 0 where nobody needs to know."""
    from bikeflow.feeds.text import decode
    from bikeflow.transform.document import count_records

    if all(letter["line_number"] is not None for letter in file.selected):
        return 0
    try:
        return count_records(decode((await store.get(file.raw_key)).data))
    except NotFound:  # the next reconciliation removes its dead letters as well
        return 0


def _ask(settings: Settings, selection: Selection) -> None:
    count = sum(group.dead_letters for group in options.complete(_count(settings, selection)).values())
    if not sys.stdin.isatty():
        raise ConfigError(f"this drops {count} dead letters; say --yes")
    typer.confirm(f"Drop {count} dead letters?", abort=True)


def _text(letter: dict[str, Any]) -> str:
    place = f"{letter['source_key']}:{letter['line_number'] or 'whole file'}"
    # The line comes from outside: shown as JSON text, it can't move the terminal's cursor.
    line = json.dumps(letter["raw_line"], ensure_ascii=False)
    return f"{place}\n  {letter['check']}: {letter['message']}\n  {line}"


@dataclass(slots=True)
class _Counts:
    """Dead letters of one day, check and column: how many, of how many files, of how many that can't be read at all."""

    dead_letters: int = 0
    files: int = 0
    unreadable_files: int = 0


async def _count(settings: Settings, selection: Selection) -> dict[tuple[str, str, str], _Counts]:
    from bikeflow.layout import Layout

    counts: defaultdict[tuple[str, str, str], _Counts] = defaultdict(_Counts)
    async with existing_store(settings) as store:
        async for file in find_letters(store, Layout(settings.storage.prefix), selection):
            groups = set()
            for letter in file.selected:
                group = (str(file.partition), letter["check"], letter["column"] or "-")
                counts[group].dead_letters += letter.get(DROPPED, 1)
                counts[group].unreadable_files += is_of_whole_file(letter)
                groups.add(group)
            for group in groups:
                counts[group].files += 1
    return counts


async def _newest(settings: Settings, selection: Selection, limit: int) -> list[dict[str, Any]]:
    from bikeflow.layout import Layout

    found: list[dict[str, Any]] = []
    async with existing_store(settings) as store:
        async for file in find_letters(store, Layout(settings.storage.prefix), selection, newest_first=True):
            found += file.selected
            if len(found) >= limit:
                break
    return found[:limit]

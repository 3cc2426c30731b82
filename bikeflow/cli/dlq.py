"""`bikeflow dlq`: the rejected lines, which wait in the lake for somebody to look at them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bikeflow.cli import options
from bikeflow.cli.days import Days, First, Last, days

if TYPE_CHECKING:
    from bikeflow.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Look at the dead letters: lines that were rejected, and why.")
Check = Annotated[str | None, typer.Option("--check", help="Only this check, such as range, type or field_count.")]
Source = Annotated[str | None, typer.Option("--source", help="Only raw files whose key contains this text.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="At most so many dead letters.")]


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
    """Count the dead letters by day, check and column."""
    settings = options.start(config, overrides, data_dir)
    counts = asyncio.run(_count(settings, days(first, last), check, source))
    rows = [
        {"partition": day, "check": name, "column": column, "dead_letters": count, "files": files}
        for (day, name, column), (count, files) in sorted(counts.items(), key=lambda item: str(item[0]))
    ]
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        typer.echo("{partition}  {check:<12} {column:<24} {dead_letters:>8} in {files} files".format(**row))
    typer.echo(f"{sum(count for count, _ in counts.values())} dead letters" if rows else "no dead letters")


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
    """Show dead letters one by one, newest file first: where, why, and the line itself."""
    settings = options.start(config, overrides, data_dir)
    letters = asyncio.run(_newest(settings, days(first, last), check, source, limit))
    for letter in letters:
        typer.echo(json.dumps(letter, ensure_ascii=False) if as_json else _text(letter))
    if not letters and not as_json:
        typer.echo("no dead letters")


def _text(letter: dict[str, Any]) -> str:
    place = f"{letter['source_key']}:{letter['line_number'] or 'whole file'}"
    # The line comes from outside: shown as JSON text, it can't move the terminal's cursor.
    line = json.dumps(letter["raw_line"], ensure_ascii=False)
    return f"{place}\n  {letter['check']}: {letter['message']}\n  {line}"


async def _count(
    settings: Settings, wanted: Days, check: str | None, source: str | None
) -> dict[tuple[str, str, str], tuple[int, int]]:
    letters: Counter[tuple[str, str, str]] = Counter()
    files: dict[tuple[str, str, str], set[str]] = {}
    async for day, letter in _letters(settings, wanted, check, source, newest_first=False):
        group = (day, letter["check"], letter["column"] or "-")
        letters[group] += 1
        files.setdefault(group, set()).add(letter["source_key"])
    return {group: (count, len(files[group])) for group, count in letters.items()}


async def _newest(
    settings: Settings, wanted: Days, check: str | None, source: str | None, limit: int
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async for _, letter in _letters(settings, wanted, check, source, newest_first=True):
        found.append(letter)
        if len(found) == limit:
            break
    return found


async def _letters(
    settings: Settings, wanted: Days, check: str | None, source: str | None, *, newest_first: bool
) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Day and content of each dead letter that the filters let through."""
    from bikeflow.layout import Layout
    from bikeflow.store import open_store

    layout = Layout(settings.storage.prefix)
    async with open_store(settings.storage, settings.data_dir) as store:
        infos = [info async for page in store.pages(layout.dead_letters) for info in page]
        for info in sorted(infos, key=lambda item: item.key, reverse=newest_first):
            raw = layout.raw_key_of(info.key)
            day = info.key.removeprefix(layout.dead_letters).split("/")[0]
            if (source and source not in raw) or not _is_wanted(day, wanted):
                continue
            for line in (await store.get(info.key)).data.splitlines():
                letter = json.loads(line)
                if check in (None, letter["check"]):
                    yield day, letter


def _is_wanted(day: str, wanted: Days) -> bool:
    import datetime as dt

    try:
        return dt.date.fromisoformat(day) in wanted
    except ValueError:
        return False

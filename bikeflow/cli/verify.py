"""`bikeflow verify`: prove that no line was lost and none counted twice, and put right what is wrong."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from bikeflow.cli import options
from bikeflow.cli.days import Days, First, Last, days
from bikeflow.cli.progress import progress
from bikeflow.cli.store import existing_store

if TYPE_CHECKING:
    from bikeflow.pipeline import Pipeline
    from bikeflow.settings import Settings
    from bikeflow.store import Store
    from bikeflow.verifier import Finding, Report, Verifier

FINDINGS_SHOWN = 20
Sample = Annotated[
    int,
    typer.Option("--sample", min=0, metavar="N", help="Parse so many raw files of each day again, others each time."),
]
Full = Annotated[bool, typer.Option("--full", help="Parse all raw files again.")]
Repair = Annotated[
    bool, typer.Option("--repair", help="Write what is wrong again from the raw files; the service must not run.")
]
Tell = Callable[[int, int], None]


def verify(
    first: First = None,
    last: Last = None,
    sample: Sample = 1,
    full: Full = False,
    repair: Repair = False,
    config: options.Config = None,
    overrides: options.Overrides = None,
    data_dir: options.DataDir = None,
    as_json: options.Json = False,
) -> None:
    """Prove that no line was lost and none counted twice.

    From the lake itself: data lines = rows + rejected lines, for every raw file; exit 1 where not. It also compares
    rows and dead letters with a fresh parse of raw files, checks each Parquet file and its footer, and compares the
    published database with the lake. After a repair, the exit code tells of what is still wrong.
    """
    wanted = days(first, last)
    settings = options.start(config, overrides, data_dir)
    with progress("verify", "files") as tell:
        work = repaired_lake if repair else verified_lake
        report, repaired = options.complete(work(settings, wanted, None if full else sample, tell))
    if as_json:
        document = {
            "proved": report.proved,
            **dataclasses.asdict(report),
            "repaired": [dataclasses.asdict(item) for item in repaired],
        }
        typer.echo(json.dumps(document, ensure_ascii=False))
    else:
        _print(report, repaired)
    if not report.proved:
        raise typer.Exit(1)


async def verified_lake(
    settings: Settings, wanted: Days, sample: int | None, tell: Tell
) -> tuple[Report, list[Finding]]:
    """Verify, and change nothing: `sample` raw files of a day are parsed again, or all (None)."""
    async with existing_store(settings) as store:
        return await _verifier(settings, store, sample).verify(wanted.__contains__, tell), []


async def repaired_lake(
    settings: Settings, wanted: Days, sample: int | None, tell: Tell
) -> tuple[Report, list[Finding]]:
    """Verify and put right, as nobody else may work there meanwhile; returns what is left, and what was wrong."""
    from bikeflow.lock import exclusive

    async with existing_store(settings) as store:
        with exclusive(settings.data_dir):
            verifier = _verifier(settings, store, sample)
            report = await verifier.verify(wanted.__contains__, tell)
            if not report.findings:
                return report, []
            found = report.findings
            await _write_again(settings, found)
            report.findings = await verifier.again(found)
    return report, [item for item in found if item not in report.findings]


async def _write_again(settings: Settings, findings: list[Finding]) -> None:
    """All days that anything was found in, from their raw files; and the copies and the database from those.

    Raw files are left alone. A copy of a Parquet file goes only where all of its raw files are there; one that can't be
    read, and that no segment has taken the place of, gets a name that no glob finds.
    """
    import asyncio
    import shutil

    from bikeflow.pipeline import open_pipeline

    if any(finding.kind.startswith(("copy_", "database_")) for finding in findings):
        for name in ("mirror", "warehouse"):
            await asyncio.to_thread(shutil.rmtree, settings.data_dir / name, ignore_errors=True)
    concerned = {item.partition for item in findings if not item.kind.startswith(("copy_", "database_", "misplaced_"))}
    async with open_pipeline(settings) as pipeline:
        await pipeline.reconciler.reconcile()
        for finding in findings:
            if finding.kind == "misplaced_parquet":
                await _remove_copy(pipeline, finding.key)
        for day in sorted(concerned):
            await asyncio.to_thread(pipeline.ledger.files.write_again, day)
        await pipeline.process(concerned.__contains__)
        for finding in findings:
            if finding.kind == "unreadable_parquet":
                await _set_aside(pipeline, finding.key)
        await pipeline.refresher.refresh_once()


async def _remove_copy(pipeline: Pipeline, key: str) -> None:
    """Delete a Parquet file that lies in the wrong place, if its rows can be made again from raw files."""
    import asyncio

    from bikeflow.errors import NotFound
    from bikeflow.provenance import NotOurs, read_provenance

    try:
        footer = await read_provenance(pipeline.store, key)
    except NotFound:
        return
    if isinstance(footer, NotOurs):
        return
    known = await asyncio.to_thread(pipeline.ledger.files.raw_files, [record.key for record in footer.files])
    if all(record.key in known for record in footer.files if record.rows):
        await pipeline.store.delete(key)


async def _set_aside(pipeline: Pipeline, key: str) -> None:
    """Rename a file that can't be read and has the name of one of ours: nothing in it is lost."""
    from bikeflow.errors import NotFound
    from bikeflow.provenance import NotOurs, read_provenance

    if not pipeline.layout.is_named_like_segment(key):
        return
    try:
        if await read_provenance(pipeline.store, key) is NotOurs.DAMAGED:
            await pipeline.store.put(f"{key}.damaged", (await pipeline.store.get(key)).data)
            await pipeline.store.delete(key)
    except NotFound:
        return


def _verifier(settings: Settings, store: Store, sample: int | None) -> Verifier:
    from bikeflow.layout import Layout
    from bikeflow.verifier import Verifier
    from bikeflow.verifier.published import PublishedDatabase

    database = PublishedDatabase(settings)
    return Verifier(
        store,
        Layout(settings.storage.prefix),
        settings.rules,
        sample=sample,
        database=database if database.is_owed else None,
    )


def _print(report: Report, repaired: list[Finding]) -> None:
    for line in _counted(report):
        typer.echo(line)
    for title, findings in (("repaired: ", repaired), ("", report.findings)):
        for finding in findings[:FINDINGS_SHOWN]:
            typer.echo(f"{title}{finding.kind}: {finding.key}: {finding.message}")
        if len(findings) > FINDINGS_SHOWN:
            typer.echo(f"... and {len(findings) - FINDINGS_SHOWN} more; --json shows all")
    if report.proved:
        typer.echo("proved: nothing lost, nothing twice")
    else:
        typer.echo("not proved: see above" if report.findings else "nothing to verify: there is no raw file")


def _counted(report: Report) -> Iterator[str]:
    yield f"{report.raw_files} raw files, {report.lines:,} lines = {report.rows:,} rows + {report.rejected:,} rejected"
    compared = f"its rows and {report.tables} tables and views" if report.tables else "its rows"
    published = "there is no database here" if report.published is None else f"the database was compared: {compared}"
    yield f"{report.parsed_again} of them were parsed again; {published}"
    if report.unreadable_files:
        yield f"{report.unreadable_files} raw files can't be read at all: `bikeflow dlq list` counts them"
    if report.other_rules:
        yield (
            f"{report.other_rules} files were written under other rules than today's: `bikeflow backfill --force`"
            " rewrites them"
        )
    if report.foreign:
        yield f"{report.foreign} Parquet files of another program were left out"
    if others := report.other_objects:
        yield f"{len(others)} objects below raw/ are no snapshots, such as {others[0]}"

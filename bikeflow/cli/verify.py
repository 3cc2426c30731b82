"""`bikeflow verify`: prove that no line was lost and none counted twice, and put right what is wrong."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from bikeflow.cli import options
from bikeflow.cli.days import Days, First, Last, days
from bikeflow.cli.progress import progress

if TYPE_CHECKING:
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
    rows with a fresh parse of raw files, the schema of every file, and the published database with the lake. After a
    repair, the exit code tells of what is still wrong.
    """
    wanted = days(first, last)
    settings = options.start(config, overrides, data_dir)
    with progress("verify", "files") as tell:
        work = repaired_lake if repair else verified_lake
        report, repaired = options.complete(work(settings, wanted, None if full else sample, tell))
    if as_json:
        document = {**dataclasses.asdict(report), "repaired": [dataclasses.asdict(item) for item in repaired]}
        typer.echo(json.dumps(document, ensure_ascii=False))
    else:
        _print(report, repaired)
    if report.findings:
        raise typer.Exit(1)


async def verified_lake(
    settings: Settings, wanted: Days, sample: int | None, tell: Tell
) -> tuple[Report, list[Finding]]:
    """Verify, and change nothing: `sample` raw files of a day are parsed again, or all (None)."""
    from bikeflow.store import open_store

    async with open_store(settings.storage, settings.data_dir) as store:
        return await _verifier(settings, store, sample).verify(wanted.__contains__, tell), []


async def repaired_lake(
    settings: Settings, wanted: Days, sample: int | None, tell: Tell
) -> tuple[Report, list[Finding]]:
    """Verify and put right, as nobody else may work there meanwhile; returns what is left, and what was wrong."""
    from bikeflow.lock import exclusive
    from bikeflow.store import open_store

    with exclusive(settings.data_dir):
        async with open_store(settings.storage, settings.data_dir) as store:
            verifier = _verifier(settings, store, sample)
            report = await verifier.verify(wanted.__contains__, tell)
            if not report.findings:
                return report, []
            found = report.findings
            await _write_again(settings, found)
            report.findings = await verifier.again(found)
    return report, [item for item in found if item not in report.findings]


async def _write_again(settings: Settings, findings: list[Finding]) -> None:
    """All days that anything was found in, from their raw files; and the copies and the database from those."""
    import asyncio
    import shutil

    from bikeflow.pipeline import open_pipeline

    if any(finding.kind.startswith(("copy_", "database_")) for finding in findings):
        for name in ("mirror", "warehouse"):
            await asyncio.to_thread(shutil.rmtree, settings.data_dir / name, ignore_errors=True)
    concerned = {item.partition for item in findings if not item.kind.startswith(("copy_", "database_"))}
    async with open_pipeline(settings) as pipeline:
        for finding in findings:
            if finding.kind == "misplaced_parquet":
                await pipeline.store.delete(finding.key)
        await pipeline.reconciler.reconcile()
        for day in sorted(concerned):
            await asyncio.to_thread(pipeline.ledger.files.write_again, day)
        await pipeline.process(concerned.__contains__)
        await pipeline.refresher.refresh_once()


def _verifier(settings: Settings, store: Store, sample: int | None) -> Verifier:
    from bikeflow.layout import Layout
    from bikeflow.ledger import FILE_NAME
    from bikeflow.verifier import Verifier
    from bikeflow.verifier.published import PublishedDatabase
    from bikeflow.warehouse.warehouse import published_path

    path = published_path(settings.warehouse, settings.data_dir)
    # A lake can be verified from any machine; where a service has worked, its database is part of what it owes.
    here = path.exists() or (settings.data_dir / FILE_NAME).exists()
    return Verifier(
        store,
        Layout(settings.storage.prefix),
        settings.rules,
        sample=sample,
        database=PublishedDatabase(path, settings.data_dir) if here else None,
    )


def _print(report: Report, repaired: list[Finding]) -> None:
    typer.echo(
        f"{report.raw_files} raw files, {report.lines:,} lines = {report.rows:,} rows + {report.rejected:,} rejected"
    )
    published = "there is no database here" if report.published is None else "the published database was compared"
    typer.echo(f"{report.parsed_again} of them were parsed again, {published}")
    if report.foreign:
        typer.echo(f"{report.foreign} Parquet files of another program were left out")
    for title, findings in (("repaired: ", repaired), ("", report.findings)):
        for finding in findings[:FINDINGS_SHOWN]:
            typer.echo(f"{title}{finding.kind}: {finding.key}: {finding.message}")
        if len(findings) > FINDINGS_SHOWN:
            typer.echo(f"... and {len(findings) - FINDINGS_SHOWN} more; --json shows all")
    typer.echo("not proved: see above" if report.findings else "proved: nothing lost, nothing twice")

"""`bikeflow verify`: prove that no line was lost and none counted twice."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from bikeflow.cli import options
from bikeflow.cli.days import Days, First, Last, days
from bikeflow.cli.progress import progress

if TYPE_CHECKING:
    from bikeflow.settings import Settings
    from bikeflow.verifier import Report

FINDINGS_SHOWN = 20


def verify(
    first: First = None,
    last: Last = None,
    config: options.Config = None,
    overrides: options.Overrides = None,
    data_dir: options.DataDir = None,
    as_json: options.Json = False,
) -> None:
    """Prove from the lake itself that data lines = rows + rejected lines, for every raw file; exit 1 where not."""
    wanted = days(first, last)
    settings = options.start(config, overrides, data_dir)
    with progress("verify", "files") as tell:
        report = options.complete(_verify(settings, wanted, tell))
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(report), ensure_ascii=False))
    else:
        _print(report)
    if report.findings:
        raise typer.Exit(1)


async def _verify(settings: Settings, wanted: Days, tell: Callable[[int, int], None]) -> Report:
    from bikeflow.layout import Layout
    from bikeflow.store import open_store
    from bikeflow.verifier import Verifier

    async with open_store(settings.storage, settings.data_dir) as store:
        return await Verifier(store, Layout(settings.storage.prefix)).verify(wanted.__contains__, tell)


def _print(report: Report) -> None:
    typer.echo(
        f"{report.raw_files} raw files, {report.lines:,} lines = {report.rows:,} rows + {report.rejected:,} rejected"
    )
    if report.foreign:
        typer.echo(f"{report.foreign} Parquet files of another program were left out")
    for finding in report.findings[:FINDINGS_SHOWN]:
        typer.echo(f"{finding.kind}: {finding.key}: {finding.message}")
    if len(report.findings) > FINDINGS_SHOWN:
        typer.echo(f"... and {len(report.findings) - FINDINGS_SHOWN} more; --json shows all")
    typer.echo("not proved: see above" if report.findings else "proved: nothing lost, nothing twice")

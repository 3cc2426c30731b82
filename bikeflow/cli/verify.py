"""`bikeflow verify`: prove that no line was lost and none counted twice, and put right what is wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Annotated

import typer

from bikeflow.cli.options import Days, Given, Json, grouped
from bikeflow.cli.progress import progress
from bikeflow.cli.results import echo, echo_json
from bikeflow.cli.sources import in_store
from bikeflow.service.work import audit
from bikeflow.verifier import Finding, Report

FINDINGS_SHOWN = 20
Sample = Annotated[
    int,
    typer.Option("--sample", min=0, metavar="N", help="Parse so many raw files of each day again, others each time."),
]
Full = Annotated[bool, typer.Option("--full", help="Parse all raw files again.")]
Repair = Annotated[
    bool, typer.Option("--repair", help="Write what is wrong again from the raw files; the service must not run.")
]


@grouped
def verify(
    days: Days, given: Given, sample: Sample = 1, full: Full = False, repair: Repair = False, as_json: Json = False
) -> None:
    """Prove that no line was lost and none counted twice.

    From the lake itself: data lines = rows + rejected lines, for every raw file; exit 1 where not. It also compares
    rows and dead letters with a fresh parse of raw files, checks each Parquet file and its footer, and compares the
    published database with the lake. After a repair, the exit code tells of what is still wrong.
    """
    settings = given.start()
    scope = days.scope(settings)
    several = sum(scope.has(system.id) for system in settings.all_systems) > 1
    with progress("verify", "systems" if several else "files") as tell:
        number = None if full else sample
        report, repaired = in_store(
            settings, lambda store: audit(settings, store, scope, sample=number, tell=tell, repair=repair)
        )
    if as_json:
        fixed = [dataclasses.asdict(item) for item in repaired]
        echo_json({"proved": report.proved, **dataclasses.asdict(report), "repaired": fixed})
    else:
        _print(report, repaired)
    if not report.proved:
        raise typer.Exit(1)


def _print(report: Report, repaired: list[Finding]) -> None:
    for line in _counted(report):
        echo(line)
    for title, findings in (("repaired: ", repaired), ("", report.findings)):
        for finding in findings[:FINDINGS_SHOWN]:
            echo(f"{title}{finding.kind}: {finding.key}: {finding.message}")
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
    if report.polls:
        yield f"{report.polls:,} polls were due and are recorded"
        if report.unpolled_files:
            yield (
                f"{report.unpolled_files} raw files have no poll: others put them there, or the record was lost;"
                " coverage is known from the files themselves"
            )
    else:
        yield "there is no record of polls: coverage is known from the raw files themselves"
    yield f"{report.parsed_again} of them were parsed again; {published}"
    if report.unwritten:
        yield f"{report.unwritten} more are so new that they need not be in Parquet yet (processing.write_seconds)"
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

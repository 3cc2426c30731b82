"""`bikeflow backfill`: process what lies in the lake, for any range of days."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Annotated

import typer

from bikeflow.cli.options import Days, Given, Json, grouped
from bikeflow.cli.progress import progress
from bikeflow.cli.results import echo_json, fail_of_partitions, tell_missing
from bikeflow.service import work

MOST_WORKERS = 64
"""As the settings allow; so many segments are given to a cluster at a time where the configuration does not say."""

Force = Annotated[bool, typer.Option("--force", help="Process raw files again that are already processed.")]
Engine = Annotated[
    str | None,
    typer.Option("--engine", metavar="inline|process|dask", help="Where segments are built (processing.engine)."),
]
Scheduler = Annotated[
    str | None, typer.Option("--scheduler", metavar="ADDRESS", help="The Dask scheduler (processing.scheduler).")
]
Workers = Annotated[
    int | None, typer.Option("--workers", metavar="N", help="Work on N days at a time (default: one per core).")
]
Memory = Annotated[
    str | None, typer.Option("--memory", metavar="AMOUNT", help="Memory to use, such as 2GiB (default: half of all).")
]


@grouped
def backfill(
    days: Days,
    given: Given,
    force: Force = False,
    engine: Engine = None,
    scheduler: Scheduler = None,
    workers: Workers = None,
    memory: Memory = None,
    as_json: Json = False,
) -> None:
    """Process the raw files of a range of days. What is processed already is left alone, so it can be repeated."""
    short = {"engine": engine, "scheduler": scheduler, "workers": workers, "memory_limit": memory}
    named = [f"processing.{key}={value}" for key, value in short.items() if value is not None]
    settings = given.start(*named, *_all_cores(given, named))
    scope = days.scope(settings)
    with progress("backfill", "files") as tell:
        result = asyncio.run(work.backfill(settings, scope, force=force, tell=tell))
    if as_json:
        echo_json(result)
    else:
        typer.echo(
            f"{result['files']} raw files processed in {result['seconds']:.1f} s; the lake holds {result['raw_files']}"
            f" raw files with {result['rows']:,} rows and {result['rejected']:,} rejected lines"
        )
        tell_missing(result["missing_raw_files"])
    fail_of_partitions(result["failed_partitions"])


def _all_cores(given: Given, named: Sequence[str]) -> list[str]:
    """A service leaves cores to others, a backfill takes them all, unless the configuration says how many."""
    loaded = given.load(*named)
    if loaded.origins["processing.workers"] != "default":
        return []
    cores = len(os.sched_getaffinity(0))
    workers = MOST_WORKERS if loaded.settings.processing.engine == "dask" else min(max(cores, 2), MOST_WORKERS)
    return [f"processing.workers={workers}"]

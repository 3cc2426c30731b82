"""`bikeflow backfill`: process what lies in the lake, for any range of days."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bikeflow.cli import options
from bikeflow.cli.days import Days, First, Last, days
from bikeflow.cli.progress import progress

if TYPE_CHECKING:
    from bikeflow.settings import Settings

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


def backfill(
    first: First = None,
    last: Last = None,
    force: Force = False,
    engine: Engine = None,
    scheduler: Scheduler = None,
    workers: Workers = None,
    memory: Memory = None,
    config: options.Config = None,
    overrides: options.Overrides = None,
    data_dir: options.DataDir = None,
    as_json: options.Json = False,
) -> None:
    """Process the raw files of a range of days. What is processed already is left alone, so it can be repeated."""
    from bikeflow.cli.results import printable

    wanted = days(first, last)
    short = {"engine": engine, "scheduler": scheduler, "workers": workers, "memory_limit": memory}
    given = [*(overrides or ()), *(f"processing.{key}={value}" for key, value in short.items() if value is not None)]
    settings = options.start(config, [*given, *_all_cores(config, given, data_dir)], data_dir)
    with progress("backfill", "files") as tell:
        result = options.complete(run_backfill(settings, wanted, force=force, tell=tell))
    if as_json:
        typer.echo(json.dumps(result))
    else:
        typer.echo(
            f"{result['files']} raw files processed in {result['seconds']:.1f} s; the lake holds {result['raw_files']}"
            f" raw files with {result['rows']:,} rows and {result['rejected']:,} rejected lines"
        )
    failed = result["failed_partitions"]
    for partition, error in failed.items():
        typer.echo(f"error: {partition}: {printable(error)}", err=True)
    if failed:
        raise typer.Exit(1)


def _all_cores(config: Path | None, overrides: list[str], data_dir: Path | None) -> list[str]:
    """A service leaves cores to others, a backfill takes them all, unless the configuration says how many."""
    loaded = options.load(config, overrides, data_dir)
    if loaded.origins["processing.workers"] != "default":
        return []
    cores = len(os.sched_getaffinity(0))
    workers = MOST_WORKERS if loaded.settings.processing.engine == "dask" else min(max(cores, 2), MOST_WORKERS)
    return [f"processing.workers={workers}"]


async def run_backfill(
    settings: Settings, wanted: Days, *, force: bool, tell: Callable[[int, int], None], holds_lock: bool = False
) -> dict[str, Any]:
    """Reconcile with the lake, process the range, refresh the database; returns what `--json` prints.

    `holds_lock` says that the caller holds `data_dir` already.
    """
    from bikeflow.memory import lasting

    with lasting():
        from bikeflow.lock import exclusive
        from bikeflow.pipeline import open_pipeline

    started = time.monotonic()
    with contextlib.nullcontext() if holds_lock else exclusive(settings.data_dir):
        async with open_pipeline(settings) as pipeline:
            files = pipeline.ledger.files
            await pipeline.reconciler.reconcile()
            if force:
                files.process_again(files.keys(wanted.first, wanted.last))
            total = files.dirty_files(wanted.first, wanted.last)
            if total:
                await pipeline.engine.ready()
            await pipeline.process(wanted.__contains__, total, tell)
            await pipeline.publish()
            left = files.dirty_files(wanted.first, wanted.last)
            failing = {str(row["partition"]): str(row["error"]) for row in pipeline.ledger.runs.failing()}
            return {
                "files": total - left,
                "seconds": round(time.monotonic() - started, 3),
                **files.totals(),
                "failed_partitions": failing,
            }

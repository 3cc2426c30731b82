"""`bikeflow fetch`: one snapshot, once."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import typer

from bikeflow.cli import options

if TYPE_CHECKING:
    from bikeflow.fetcher import FetchOutcome
    from bikeflow.settings import Settings


def fetch(
    config: options.Config = None,
    overrides: options.Overrides = None,
    data_dir: options.DataDir = None,
    as_json: options.Json = False,
) -> None:
    """Fetch one snapshot and store it. `bikeflow backfill` or the service processes it."""
    from bikeflow.cli.results import echo

    settings = options.start(config, overrides, data_dir)
    outcome, waiting = options.complete(_fetch(settings))
    if as_json:
        typer.echo(json.dumps({**dataclasses.asdict(outcome), "waiting_in_spool": waiting}, default=str))
    else:
        echo(f"{outcome.outcome}: {outcome.key or outcome.error or settings.feed.url}")
    if waiting:
        typer.echo(
            f"error: the store did not take {waiting} snapshots; they wait on this disk for the next try", err=True
        )
    if waiting or outcome.error:
        raise typer.Exit(1)


async def _fetch(settings: Settings) -> tuple[FetchOutcome, int]:
    from bikeflow.lock import exclusive, refuse_demo
    from bikeflow.pipeline import open_pipeline

    with exclusive(settings.data_dir):
        refuse_demo(settings.data_dir)
        async with open_pipeline(settings) as pipeline:
            outcome = await pipeline.fetcher.fetch_once()
            await pipeline.delivery.drain()
            return outcome, pipeline.delivery.spool.depth

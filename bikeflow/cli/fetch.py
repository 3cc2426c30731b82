"""`bikeflow fetch`: one snapshot, once."""

from __future__ import annotations

import asyncio
import dataclasses

import typer

from bikeflow.cli.options import Given, Json, SystemId, chosen_systems, grouped
from bikeflow.cli.results import echo, echo_json
from bikeflow.service import work


@grouped
def fetch(given: Given, system: SystemId = None, as_json: Json = False) -> None:
    """Fetch one snapshot of each system and store it. `bikeflow backfill` or the service processes it.

    --json prints one object a line and system.
    """
    settings = given.start()
    systems = chosen_systems(settings, system)
    fetched = asyncio.run(work.fetch(settings, [item.id for item in systems]))
    for one, (outcome, waiting) in zip(systems, fetched, strict=True):
        if as_json:
            echo_json({**dataclasses.asdict(outcome), "waiting_in_spool": waiting})
        else:
            name = f"{one.id}: " if len(settings.all_systems) > 1 else ""
            echo(f"{name}{outcome.outcome}: {outcome.key or outcome.error or one.feed.url}")
        if waiting:
            told = f"the store did not take {waiting} snapshots; they wait on this disk for the next try"
            typer.echo(f"error: {told}", err=True)
    if any(waiting or outcome.error for outcome, waiting in fetched):
        raise typer.Exit(1)

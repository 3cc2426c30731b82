"""`bikeflow fetch`: one snapshot, once."""

from __future__ import annotations

import dataclasses
import json

import typer

from bikeflow.cli import options
from bikeflow.cli.scope import SystemId, chosen_systems


def fetch(
    system: SystemId = None,
    config: options.Config = None,
    overrides: options.Overrides = None,
    data_dir: options.DataDir = None,
    as_json: options.Json = False,
) -> None:
    """Fetch one snapshot of each system and store it. `bikeflow backfill` or the service processes it.

    --json prints one object a line and system.
    """
    from bikeflow.cli.results import echo

    settings = options.start(config, overrides, data_dir)
    systems = chosen_systems(settings, system)
    from bikeflow.service import work

    fetched = options.complete(work.fetch(settings, [item.id for item in systems]))
    for one, (outcome, waiting) in zip(systems, fetched, strict=True):
        if as_json:
            typer.echo(json.dumps({**dataclasses.asdict(outcome), "waiting_in_spool": waiting}, default=str))
        else:
            name = f"{one.id}: " if len(settings.all_systems) > 1 else ""
            echo(f"{name}{outcome.outcome}: {outcome.key or outcome.error or one.feed.url}")
        if waiting:
            told = f"the store did not take {waiting} snapshots; they wait on this disk for the next try"
            typer.echo(f"error: {told}", err=True)
    if any(waiting or outcome.error for outcome, waiting in fetched):
        raise typer.Exit(1)

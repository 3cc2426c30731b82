"""`bikeflow refresh`: bring the analytics database up to date, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from bikeflow.cli import options

if TYPE_CHECKING:
    from pathlib import Path

    from bikeflow.settings import Settings


def refresh(
    config: options.Config = None, overrides: options.Overrides = None, data_dir: options.DataDir = None
) -> None:
    """Publish the analytics database once. A missing or damaged one is rebuilt from the lake."""
    path = options.complete(_refresh(options.start(config, overrides, data_dir)))
    typer.echo(f"published {path}")


async def _refresh(settings: Settings) -> Path:
    from bikeflow.lock import exclusive
    from bikeflow.pipeline import open_pipeline

    with exclusive(settings.data_dir):
        async with open_pipeline(settings) as pipeline:
            await pipeline.reconciler.reconcile()
            await pipeline.publish()
            return pipeline.database_path

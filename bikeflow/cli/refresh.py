"""`bikeflow refresh`: bring the analytics database up to date, once."""

from __future__ import annotations

import typer

from bikeflow.cli import options


def refresh(
    config: options.Config = None, overrides: options.Overrides = None, data_dir: options.DataDir = None
) -> None:
    """Publish the analytics database once. A missing or damaged one is rebuilt from the lake."""
    settings = options.start(config, overrides, data_dir)
    from bikeflow.service import work

    path = options.complete(work.refresh(settings))
    typer.echo(f"published {path}")

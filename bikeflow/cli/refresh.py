"""`bikeflow refresh`: bring the analytics database up to date, once."""

from __future__ import annotations

import asyncio

import typer

from bikeflow.cli.options import Given, grouped
from bikeflow.service import work


@grouped
def refresh(given: Given) -> None:
    """Publish the analytics database once. A missing or damaged one is rebuilt from the lake."""
    path = asyncio.run(work.refresh(given.start()))
    typer.echo(f"published {path}")

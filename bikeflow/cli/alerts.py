"""`bikeflow alerts`: the channels by which people are told that something is wrong."""

from __future__ import annotations

import asyncio

import typer

from bikeflow.cli.options import Given, Json, grouped
from bikeflow.cli.results import echo_json
from bikeflow.core.errors import BikeflowError
from bikeflow.health.alerts.channel import send
from bikeflow.health.alerts.messages import trial
from bikeflow.settings.problems import ways_to_give_secret

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Test the channels through which alerts are sent.")


@app.callback()
def alerts() -> None:
    """Keep `test` a command of its own, however few there are."""


@app.command()
@grouped
def test(given: Given, as_json: Json = False) -> None:
    """Send a test message to every channel. It tells which of them took it; exit 1 where one did not."""
    settings = given.settings.alerts
    if not settings.targets:
        raise BikeflowError(f"no channel is configured: {ways_to_give_secret('alerts.urls')}")
    answers = asyncio.run(send(trial(), settings))
    if as_json:
        echo_json(answers, indent=2)
    else:
        typer.echo("\n".join(f"{target}: {reason or 'sent'}" for target, reason in answers.items()))
    if any(answers.values()):
        raise typer.Exit(1)

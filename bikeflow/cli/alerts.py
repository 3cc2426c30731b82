"""`bikeflow alerts`: the channels by which people are told that something is amiss."""

from __future__ import annotations

import json

import typer

from bikeflow.cli import options
from bikeflow.errors import BikeflowError

app = typer.Typer(no_args_is_help=True, help="Test the channels through which alerts are sent.")


@app.callback()
def alerts() -> None:
    """Keep `test` a command of its own, however few there are."""


@app.command()
def test(
    config: options.Config = None,
    overrides: options.Overrides = None,
    data_dir: options.DataDir = None,
    as_json: options.Json = False,
) -> None:
    """Send a test message to every channel. It tells which of them took it; exit 1 where one did not."""
    from bikeflow.alerts.channel import send
    from bikeflow.alerts.messages import trial
    from bikeflow.settings.problems import ways_to_give_secret

    settings = options.load(config, overrides, data_dir).settings.alerts
    if not settings.targets:
        raise BikeflowError(f"no channel is configured: {ways_to_give_secret('alerts.urls')}")
    answers = options.complete(send(trial(), settings))
    if as_json:
        typer.echo(json.dumps(answers, ensure_ascii=False, indent=2))
    else:
        typer.echo("\n".join(f"{target}: {reason or 'sent'}" for target, reason in answers.items()))
    if any(answers.values()):
        raise typer.Exit(1)

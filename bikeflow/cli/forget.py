"""`bikeflow forget`: remove what was made of raw files that are missing from the store."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from functools import partial
from typing import Annotated

import typer

from bikeflow.cli.options import Days, Given, Json, grouped
from bikeflow.cli.results import echo, echo_json, fail_of_partitions
from bikeflow.core.errors import ConfigError
from bikeflow.ledger.missing import Missing
from bikeflow.service import work

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


@grouped
def forget(days: Days, given: Given, yes: Yes = False, as_json: Json = False) -> None:
    """Remove what was made of raw files that have disappeared.

    That is their rows and dead letters. It works whether the service runs or not. Raw files that are there are never
    touched; those that return later are processed as new ones.
    """
    if days.first is None or days.last is None:
        raise ConfigError("say of which days, with --from and --to")
    settings = given.start()
    result = asyncio.run(work.forget(settings, days.scope(settings), partial(_agreed, yes=yes, quiet=as_json)))
    if as_json:
        echo_json(result)
    else:
        count, process_id = sum(result["forgotten"].values()), result["process_id"]
        by_whom = f"; process {process_id} removes what was made of them" if process_id and count else ""
        typer.echo(f"{count:,} missing raw files forgotten{by_whom}")
    fail_of_partitions(result["failed_partitions"])


def _agreed(found: Mapping[str, Missing], *, yes: bool, quiet: bool) -> bool:
    """Ask whether to remove what was made of these; raises `ConfigError` where there is no terminal to ask on."""
    if not quiet:
        for system_id, missing in found.items():
            echo(f"{system_id}: {missing.count:,} missing raw files of {missing.where}")
    if yes or not found:
        return True
    total = sum(missing.count for missing in found.values())
    if not sys.stdin.isatty():
        raise ConfigError(f"this removes all rows and dead letters of {total:,} missing raw files; say --yes")
    return typer.confirm(f"Remove all rows and dead letters of {total:,} missing raw files?", abort=True)

"""`bikeflow polls`: what the newest polls of a feed came to."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bikeflow.cli.options import Given, Json, SystemId, grouped
from bikeflow.cli.results import write_json, write_table
from bikeflow.cli.sources import connected

NEWEST = """
SELECT {columns}
FROM feed_polls
WHERE NOT {bad_only} OR outcome NOT IN ('stored', 'unchanged', 'not_modified')
ORDER BY due_at DESC
LIMIT {count}
"""
SHOWN = "due_at, polls, outcome, reason, status, round(epoch(finished_at - started_at), 2) AS seconds, bytes, error"


@grouped
def polls(
    given: Given,
    last: Annotated[int, typer.Option("--last", min=1, metavar="N", help="So many of the newest.")] = 20,
    bad: Annotated[bool, typer.Option("--bad", help="Only those that did not tell the state of the system.")] = False,
    system: SystemId = None,
    as_json: Json = False,
) -> None:
    """Show what the newest polls of a feed came to.

    The newest is first. Polls that did not happen for the same reason are one line: `polls` tells how many. Times are
    UTC.
    """
    query = NEWEST.format(columns="*" if as_json else SHOWN, bad_only=bad, count=last)
    with connected(given.settings, system) as connection:
        (write_json if as_json else write_table)(connection.execute(query), sys.stdout)

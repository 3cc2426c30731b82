"""`python -m tests.soak [--kills N] [--minutes M] [--seed S]`: the long runs.

Every call to the store fails once, in every way; then a service is killed over and over; then the way to its store
breaks at random, in every way. All rows are counted.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import shutil
import tempfile
from pathlib import Path

import typer

from bikeflow.runtime import log
from bikeflow.settings.sections import LogSettings
from tests.faults.test_nth_operation import fails_everywhere
from tests.soak.kills import soak
from tests.soak.storms import storms
from tests.support.chaos import KINDS
from tests.support.s3server import rclone


def main() -> None:
    """Run the soak and print what came of it; exits with 1 where a row was lost or doubled."""
    arguments = argparse.ArgumentParser(prog="make soak", description=__doc__)
    arguments.add_argument("--kills", type=int, default=500, help="so many kills")
    arguments.add_argument("--minutes", type=float, default=60, help="so long random faults of the storage")
    arguments.add_argument("--seed", type=int, default=random.randrange(10**6), help="which random choices")
    arguments.add_argument("--no-calls", action="store_true", help="leave out the failing of every call to the store")
    arguments.add_argument("--s3", action="store_true", help="keep the lake in a bucket of a real S3 server")
    given = arguments.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="bikeflow-soak-"))
    typer.echo(f"in {directory}, which stays where something is found")
    if not given.no_calls:
        asyncio.run(_fail_every_call(directory))
    typer.echo(f"seed {given.seed}: {given.kills} kills, {given.minutes:g} minutes of storage faults")
    with rclone(directory) as server:
        if given.kills:
            place = server if given.s3 else None
            run = soak(directory / "kills", kills=given.kills, seed=given.seed, server=place, tell=typer.echo)
            typer.echo("\n".join(asyncio.run(run).lines()))
        if given.minutes:
            weather = storms(
                directory / "storms", minutes=given.minutes, seed=given.seed, server=server, tell=typer.echo
            )
            typer.echo("\n".join(asyncio.run(weather).lines()))
    shutil.rmtree(directory)


async def _fail_every_call(directory: Path) -> None:
    with (directory / "calls.log").open("w") as stderr:
        log.configure(LogSettings(level="error"), stderr=stderr)
        for kind, restart in itertools.product(KINDS, (False, True)):
            failed = await fails_everywhere(directory / f"{kind}-{restart}", kind, restart=restart)
            goes_on = "a new process takes over" if restart else "the same process goes on"
            typer.echo(f"{failed} calls failed ({kind}; {goes_on}): each time the same lake and the same answers")


if __name__ == "__main__":
    main()

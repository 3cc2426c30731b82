"""`python -m tests.soak [--kills N] [--minutes M] [--seed S]`: kill a service over and over, then count."""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
from pathlib import Path

import typer

from tests.soak.kills import soak


def main() -> None:
    """Run the soak and print what came of it; exits with 1 where a row was lost or doubled."""
    arguments = argparse.ArgumentParser(prog="make soak", description=__doc__)
    arguments.add_argument("--kills", type=int, default=500, help="so many kills at least")
    arguments.add_argument("--minutes", type=float, default=0, help="so long at least")
    arguments.add_argument("--seed", type=int, default=random.randrange(10**6), help="which random choices")
    arguments.add_argument("--keep", type=Path, help="work in this new directory and leave it")
    given = arguments.parse_args()
    typer.echo(f"seed {given.seed}: {given.kills} kills, {given.minutes:g} minutes at least")
    with tempfile.TemporaryDirectory(prefix="bikeflow-soak-") as temporary:
        directory = given.keep or Path(temporary)
        tally = asyncio.run(
            soak(
                directory,
                kills=given.kills,
                minutes=given.minutes,
                seed=given.seed,
                tell=typer.echo,
            )
        )
    typer.echo("\n".join(tally.lines()))


if __name__ == "__main__":
    main()

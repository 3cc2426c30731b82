"""`bikeflow demo`: everything on a simulated city, with no network and no account."""

from __future__ import annotations

import asyncio
import datetime as dt
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import duckdb
import typer

from bikeflow.cli.progress import progress
from bikeflow.cli.results import write_table
from bikeflow.core.scope import Scope
from bikeflow.http.client import ADDRESS_FILE, ask_status
from bikeflow.runtime import log
from bikeflow.service import work
from bikeflow.service.daemon import serve
from bikeflow.service.demo import REPEATS, SEED, demo_directory, demo_settings, refusing_reloads, write_history
from bikeflow.settings import Settings
from bikeflow.settings.sections import LogSettings
from bikeflow.simulator import City, serve_feed

DataDir = Annotated[Path, typer.Option("--data-dir", metavar="DIR", help="Where the demo's lake and database go.")]
Interval = Annotated[
    float, typer.Option("--interval", min=1, metavar="SECONDS", help="Seconds between two live snapshots.")
]
Speed = Annotated[
    float, typer.Option("--speed", min=1, metavar="FACTOR", help="How many times faster the live city moves.")
]
Once = Annotated[bool, typer.Option("--once", help="End after the history instead of going live.")]

START_SECONDS = 0.2
TOLD_EVERY_SECONDS = 10.0
FIRST_QUERY = """
SELECT name, bikes, total_docks AS docks, strftime(timestamp, '%H:%M:%S') AS at
FROM wrm_stations_latest ORDER BY bikes DESC, name LIMIT 5
"""


def demo(data_dir: DataDir = Path("data/demo"), interval: Interval = 2, speed: Speed = 60, once: Once = False) -> None:
    """Show everything on a simulated city, with no network.

    First a day of history, then live until Ctrl-C. Its directory is its own: the next demo deletes all that lies there.
    """
    log.configure(LogSettings(level="warning"))
    asyncio.run(_demo(data_dir, interval, speed, once=once))


async def _demo(data_dir: Path, interval: float, speed: float, *, once: bool) -> None:
    with refusing_reloads(data_dir), demo_directory(data_dir):
        city, now, started = City(SEED), dt.datetime.now(dt.UTC), time.monotonic()
        async with serve_feed(city.accelerated(speed, since=now), repeats=REPEATS) as url:
            settings = demo_settings(data_dir, url, interval)
            typer.echo(
                f"A simulated city: {len(city.stations)} stations and their free bikes. First, a day of its history."
            )
            with progress("writing raw files", "files") as tell:
                await write_history(settings, city, now, tell)
            with progress("processing them  ", "files") as tell:
                done = await work.backfill(settings, Scope(), force=False, tell=tell, holds_lock=True)
            typer.echo(
                f"{done['raw_files']} snapshots, {done['rows']:,} rows, {done['rejected']} rejected lines:"
                f" a database after {time.monotonic() - started:.1f} s. The stations with the most bikes now:\n"
            )
            with duckdb.connect(settings.data_dir / "analytics.duckdb", read_only=True) as connection:
                connection.execute("USE wrm_analytics")
                write_table(connection.execute(FIRST_QUERY), sys.stdout)
            _tell_what_next(data_dir, live=not once)
            if not once:
                await _live(settings, interval, speed)


async def _live(settings: Settings, interval: float, speed: float) -> None:
    typer.echo(
        f"Now live: a snapshot every {interval:g} s of a city that moves {speed:g} times faster. Ctrl-C ends it.\n"
    )
    teller = asyncio.create_task(_tell_how_it_is(settings.data_dir))
    try:
        await serve(settings, holds_lock=True)
    finally:
        teller.cancel()
    typer.echo(f"The demo has ended; the next one deletes {settings.data_dir}.")


async def _tell_how_it_is(data_dir: Path) -> None:
    """The dashboard's address and sentence as soon as there is one, and again and again: it stays in sight."""
    while True:
        status = await asyncio.to_thread(ask_status, data_dir)
        if status is None or status["state"] == "starting":
            await asyncio.sleep(START_SECONDS)
            continue
        url = (data_dir / ADDRESS_FILE).read_text(encoding="utf-8").strip()
        try:
            typer.echo(f"In your browser: {url}  {status['sentence']}")
        except OSError:  # the terminal has been closed
            return
        await asyncio.sleep(TOLD_EVERY_SECONDS)


def _tell_what_next(data_dir: Path, *, live: bool) -> None:
    program = Path(sys.executable).with_name("bikeflow")
    if program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
    where = f"--data-dir {shlex.quote(str(data_dir))}"
    sql = "SELECT name, bikes, spaces FROM wrm_stations_latest LIMIT 5"
    typer.echo(
        f"\nWhere things lie, until the next demo deletes them:\n"
        f"  {data_dir / 'lake'}  raw files, both Parquet layers, dead letters\n"
        f"  {data_dir / 'analytics.duckdb'}  the database: open it with any DuckDB, at any time\n"
        f"\nWhat to type {'in another terminal' if live else 'next'}:\n"
        f'  {program} query {where} "{sql}"\n'
        f"  {program} status {where}\n"
        f"  {program} dlq show {where}\n"
        f"  {program} verify {where}\n"
    )

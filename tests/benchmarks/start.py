"""How long a start takes: of the command line, and of the service on an archive of one year until it is ready."""

from __future__ import annotations

import asyncio
import datetime as dt
import statistics
import sys
import time
from pathlib import Path

import aiohttp

from bikeflow.core.model import UTC
from bikeflow.simulator import NO_ODDITIES, City
from tests.benchmarks.day import write_day
from tests.benchmarks.measuring import Row, memory_mb, rounded, run
from tests.support import feedserver
from tests.support.service import running

DAYS = 365
FILES_A_DAY = 288
BIKEFLOW = [sys.executable, "-m", "bikeflow"]


def measure(folder: Path, runs: int) -> dict[str, object]:
    """Medians over several starts; ready is what /readyz says, after the first fetch, poll and refresh."""
    help_seconds = [run([*BIKEFLOW, "--help"]).wall for _ in range(max(runs, 3))]
    data_dir = folder / "data"
    city = City(7, stations=15, free_bikes=5, oddities=NO_ODDITIES)
    today = dt.datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for number in range(DAYS):
        write_day(data_dir / "lake", today - dt.timedelta(days=DAYS - number), FILES_A_DAY, city)
    backfill = run([*BIKEFLOW, "backfill", "--data-dir", str(data_dir)])
    starts = [asyncio.run(_start(data_dir, city)) for _ in range(max(runs, 3))]
    rows: list[Row] = [
        {"what": "bikeflow --help", "seconds": rounded(statistics.median(help_seconds), 3)},
        {"what": "service started", "seconds": rounded(statistics.median(start[0] for start in starts), 3)},
        {"what": "service ready", "seconds": rounded(statistics.median(start[1] for start in starts), 3)},
        {"what": "backfill of the year", "seconds": rounded(backfill.wall)},
    ]
    memory = round(statistics.median(start[2] for start in starts))
    return {
        "what": f"an archive of {DAYS} days with {DAYS * FILES_A_DAY:,} raw files; {memory} MB when ready",
        "memory_mb": memory,
        "rows": rows,
    }


async def _start(data_dir: Path, city: City) -> tuple[float, float, float]:
    """Seconds from exec to the event `started` and to readiness, and the memory in MB by then."""
    async with feedserver.serve() as feed, aiohttp.ClientSession() as client:
        feed.answers(feedserver.Reply(body=city.snapshot(dt.datetime.now(UTC)).encode()))
        begun = time.perf_counter()
        async with running(data_dir, feed.url, settings={"feed.interval_seconds": 60}) as service:
            url = await service.url()
            await service.logged("event=started")
            started = time.perf_counter() - begun
            while True:
                async with client.get(f"{url}/readyz") as answer:
                    if answer.status == 200:
                        break
                await asyncio.sleep(0.02)
            ready = time.perf_counter() - begun
            memory = memory_mb(service.process.pid)
            await service.stop()
    return started, ready, memory

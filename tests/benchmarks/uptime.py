"""What a snapshot costs a service that stays up: one after the other is put, as soon as the one before is visible."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from pathlib import Path

from bikeflow.core.layout import Layout
from bikeflow.core.model import UTC
from bikeflow.simulator import City
from tests.benchmarks.day import PREFIX
from tests.benchmarks.measuring import Row, cpu_seconds, proportional_mb, put, rounded, visible
from tests.support import feedserver
from tests.support.service import running

HOURS = 8
AN_HOUR = 120
EVERY_SECONDS = 30


def measure(folder: Path, runs: int) -> dict[str, object]:
    """CPU, time and memory for each hour of a day, with snapshots of some 150 lines; ten polls a second among it."""
    del runs  # one long run says more than several
    rows = asyncio.run(_long_run(folder / "data"))
    return {"what": "snapshots one by one beside a service that stays up; means of each hour of the day", "rows": rows}


async def _long_run(data_dir: Path) -> list[Row]:
    city, layout, rows = City(7, stations=100, free_bikes=50), Layout(PREFIX), list[Row]()
    midnight = dt.datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    async with feedserver.serve() as feed:
        feed.answers(feedserver.Reply(status=404))
        options = {"watcher.poll_seconds": 0.1, "feed.interval_seconds": 3600}
        async with running(data_dir, feed.url, settings=options) as service:
            await service.logged("event=reconciled")
            pid = service.process.pid
            for hour in range(HOURS):
                used, begun = cpu_seconds(pid), time.perf_counter()
                for number in range(AN_HOUR):
                    at = midnight + dt.timedelta(hours=hour, seconds=number * EVERY_SECONDS)
                    put(data_dir / "lake" / layout.raw_key(at), city.snapshot(at))
                    await visible(service, at)
                seconds = time.perf_counter() - begun
                rows.append(
                    {
                        "hour": hour,
                        "cpu_ms": round((cpu_seconds(pid) - used) / AN_HOUR * 1000),
                        "visible_after_s": rounded(seconds / AN_HOUR),
                        "pss_mb": round(proportional_mb(pid)),
                    }
                )
    return rows

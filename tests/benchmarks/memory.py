"""Memory over a long run: thousands of snapshots, put beside a running service as fast as it takes them."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from pathlib import Path

from bikeflow.core.layout import Layout
from bikeflow.core.model import UTC
from bikeflow.simulator import City
from tests.benchmarks.day import PREFIX
from tests.benchmarks.measuring import Row, cpu_seconds, memory_mb, proportional_mb, put, rounded, visible
from tests.support import feedserver
from tests.support.service import running

SNAPSHOTS = 10_000
LOOKS = (1_000, 2_500, 5_000, 7_500, 10_000)
AT_ONCE = 20
EVERY_SECONDS = 30


def measure(folder: Path, runs: int) -> dict[str, object]:
    """Memory of the service after so many snapshots of some 150 lines, which cover days that end with today."""
    del runs  # one long run says more than several
    rows = asyncio.run(_long_run(folder / "data"))
    growth = float(rows[-1]["rss_mb"]) - float(rows[0]["rss_mb"])
    return {
        "what": f"{SNAPSHOTS:,} snapshots through one service; growth after the first thousand: {growth:.0f} MB",
        "rows": rows,
    }


async def _long_run(data_dir: Path) -> list[Row]:
    city, layout, rows = City(7, stations=100, free_bikes=50), Layout(PREFIX), list[Row]()
    now = dt.datetime.now(UTC).replace(microsecond=0)
    first = now - dt.timedelta(seconds=SNAPSHOTS * EVERY_SECONDS)
    async with feedserver.serve() as feed:
        feed.answers(feedserver.Reply(status=404))
        options = {"watcher.poll_seconds": 0.1, "feed.interval_seconds": 3600, "processing.seal_after_minutes": 0}
        async with running(data_dir, feed.url, settings=options) as service:
            await service.logged("event=reconciled")
            begun = time.perf_counter()
            for start in range(0, SNAPSHOTS, AT_ONCE):
                for number in range(start, start + AT_ONCE):
                    at = first + dt.timedelta(seconds=number * EVERY_SECONDS)
                    put(data_dir / "lake" / layout.raw_key(at), city.snapshot(at))
                await visible(service, at)
                if start + AT_ONCE in LOOKS:
                    pid = service.process.pid
                    rows.append(
                        {
                            "snapshots": start + AT_ONCE,
                            "rss_mb": round(memory_mb(pid)),
                            "pss_mb": round(proportional_mb(pid)),
                            "cpu_s": rounded(cpu_seconds(pid)),
                            "seconds": rounded(time.perf_counter() - begun),
                        }
                    )
    return rows

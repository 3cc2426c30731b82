"""What the service takes while nothing happens: CPU seconds and memory over a minute."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path

from bikeflow.core.model import UTC
from tests.benchmarks.day import write_day
from tests.benchmarks.measuring import cpu_seconds, memory_mb, proportional_mb, rounded
from tests.support import feedserver
from tests.support.service import running

SECONDS = 60
FILES = 288


def measure(folder: Path, runs: int) -> dict[str, object]:
    """One minute with the default intervals, after a day of history was processed; the feed does not change."""
    midnight = dt.datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    write_day(folder / "data/lake", midnight - dt.timedelta(days=1), FILES)
    rows = [asyncio.run(_minute(folder / "data")) for _ in range(max(runs // 3, 1))]
    return {"what": f"{SECONDS} s of a service at rest, polls each 5 s, a fetch each minute", "rows": rows}


async def _minute(data_dir: Path) -> dict[str, str | float]:
    async with feedserver.serve() as feed:
        feed.answers(feedserver.Reply(status=304))
        options = {"feed.interval_seconds": 60, "watcher.poll_seconds": 5}
        async with running(data_dir, feed.url, settings=options) as service:
            sql = "SELECT count(DISTINCT s3_source_key) FROM wrm_analytics.wrm_history"
            await service.until(lambda: service.query(sql) == FILES, "the day's files")
            await asyncio.sleep(5)
            pid = service.process.pid
            before = cpu_seconds(pid)
            await asyncio.sleep(SECONDS)
            return {
                "cpu_s": rounded(cpu_seconds(pid) - before),
                "rss_mb": round(memory_mb(pid)),
                "pss_mb": round(proportional_mb(pid)),
            }

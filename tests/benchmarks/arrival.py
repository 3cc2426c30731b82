"""One arriving snapshot at several points of a day: CPU of the service, and the time from PUT to visible."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path

from bikeflow.core.model import UTC
from tests.benchmarks.day import FILES, PREFIX, write_day
from tests.benchmarks.measuring import Row, cpu_seconds, memory_mb, rounded, visible
from tests.support import feedserver
from tests.support.service import running
from tests.support.wrm import wrm_layout

POINTS = ((1, 60), (120, 60), (288, 60), (1000, 60), (FILES, 60), (FILES, 15))
"""Which file of the day, and `processing.segment_minutes`: 120 and the last are the ends of an hour and a quarter."""
ARRIVALS = 5
AT_REST_SECONDS = 2
SETTLING_SECONDS = 0.5


def measure(folder: Path, runs: int) -> dict[str, object]:
    """Medians over several arrivals at each point of yesterday, which is not sealed; the watchers poll every 100 ms.

    A service for each point, side by side, and an arrival at each in turn: so a machine that is slower for a minute is
    so for all of them.
    """
    midnight = dt.datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    write_day(folder / "day", midnight - dt.timedelta(days=1))
    arrivals = ARRIVALS * max(runs // 3, 1)
    rows = asyncio.run(_measured(folder, arrivals))
    return {"what": f"one snapshot put beside a running service; medians of {arrivals} arrivals", "rows": rows}


async def _measured(folder: Path, arrivals: int) -> list[Row]:
    names = sorted(path.relative_to(folder / "day") for path in (folder / "day").glob("**/*.txt"))
    async with contextlib.AsyncExitStack() as stack:
        feed = await stack.enter_async_context(feedserver.serve())
        feed.answers(feedserver.Reply(status=404))
        points = [_Point(folder, names, position, minutes, arrivals) for position, minutes in POINTS]
        for point in points:
            await stack.enter_async_context(point.running(feed.url))
        for _ in range(arrivals):
            for point in points:
                await point.arrive()
        return [point.row() for point in points]


class _Point:
    """A service that has the files before a point of the day, and what the next ones cost it."""

    def __init__(self, folder: Path, names: list[Path], position: int, minutes: int, arrivals: int) -> None:
        before = max(position - arrivals, 0)
        self._position, self._minutes = position, minutes
        self._source, self._data_dir = folder / "day", folder / f"at-{position}-{minutes}"
        self._present, self._coming = names[:before], iter(names[before:])
        self._seconds: list[float] = []
        self._cpu: list[float] = []

    @contextlib.asynccontextmanager
    async def running(self, feed_url: str) -> AsyncIterator[None]:
        """While its service runs, which has taken in what was there before."""
        for name in self._present:
            self._put(name)
        options = {
            "watcher.poll_seconds": 0.1,
            "feed.interval_seconds": 3600,
            "processing.segment_minutes": self._minutes,
            "processing.seal_after_minutes": 2 * 24 * 60,
        }
        async with running(self._data_dir, feed_url, settings=options) as self._service:
            await self._service.logged("event=reconciled")
            await self._service.until(self._is_up_to_date, "the files that were there")
            yield

    async def arrive(self) -> None:
        """Put the next file, and wait until its rows are published."""
        name, pid = next(self._coming), self._service.process.pid
        taken_at = wrm_layout(PREFIX).snapshot_time(name.name)
        assert taken_at is not None
        at_rest = await self._cpu_a_second()
        used, started = cpu_seconds(pid), time.perf_counter()
        self._put(name)
        await visible(self._service, taken_at)
        self._seconds.append(time.perf_counter() - started)
        await asyncio.sleep(SETTLING_SECONDS)
        used = cpu_seconds(pid) - used
        self._cpu.append(used - at_rest * (time.perf_counter() - started))

    def row(self) -> Row:
        """The medians."""
        return {
            "file": self._position,
            "segment_minutes": self._minutes,
            "visible_after_s": rounded(statistics.median(self._seconds)),
            "cpu_ms": round(statistics.median(self._cpu) * 1000),
            "memory_mb": round(memory_mb(self._service.process.pid)),
        }

    def _put(self, name: Path) -> None:
        target = self._data_dir / "lake" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(self._source / name, target)

    def _is_up_to_date(self) -> bool:
        files = self._service.query("SELECT count(DISTINCT s3_source_key) FROM wrm_analytics.wrm_history")
        return bool(files == len(self._present))

    async def _cpu_a_second(self) -> float:
        """What the service uses while nothing arrives, ten polls a second among it, to be taken off."""
        used, started = cpu_seconds(self._service.process.pid), time.perf_counter()
        await asyncio.sleep(AT_REST_SECONDS)
        return (cpu_seconds(self._service.process.pid) - used) / (time.perf_counter() - started)

"""One arriving snapshot at several points of a day: CPU of the service, and the time from PUT to visible."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import statistics
import time
from pathlib import Path

import duckdb

from bikeflow.model import UTC
from tests.benchmarks.day import FILES, write_day
from tests.benchmarks.measuring import Row, cpu_seconds, memory_mb, rounded
from tests.support import feedserver
from tests.support.service import Service, running

POSITIONS = (1, 120, 288, 1000, FILES)
"""The first and the 120th are the ends of the first hour, as the last is the end of the last."""
ARRIVALS = 5
AT_REST_SECONDS = 2
VISIBLE = "SELECT count(*) FROM wrm_analytics.wrm_stations_latest WHERE file_timestamp = ?"


def measure(folder: Path, runs: int) -> dict[str, object]:
    """Medians over several arrivals at each position of the day that is today; the watcher polls every 100 ms."""
    today = dt.datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    write_day(folder / "day", today)
    arrivals = ARRIVALS * max(runs // 3, 1)
    rows = [asyncio.run(_position(folder, position, arrivals)) for position in POSITIONS]
    return {"what": f"one snapshot put beside a running service; medians of {arrivals} arrivals", "rows": rows}


async def _position(folder: Path, position: int, arrivals: int) -> Row:
    names = sorted(path.relative_to(folder / "day") for path in (folder / "day").glob("**/*.txt"))
    before = max(position - arrivals, 0)
    data_dir = folder / f"at-{position}"
    for name in names[:before]:
        _link(folder / "day" / name, data_dir / "lake" / name)
    seconds: list[float] = []
    cpu: list[float] = []
    async with feedserver.serve() as feed:
        feed.answers(feedserver.Reply(status=404))
        options = {"watcher.poll_seconds": 0.1, "feed.interval_seconds": 3600}
        async with running(data_dir, feed.url, settings=options) as service:
            await service.logged("event=reconciled")
            await service.until(lambda: _is_up_to_date(service, before), "the files that were there")
            for name in names[before : before + arrivals]:
                at_rest = await _cpu_a_second(service)
                used, started = cpu_seconds(service.process.pid), time.perf_counter()
                _link(folder / "day" / name, data_dir / "lake" / name)
                await _visible(service, name)
                seconds.append(time.perf_counter() - started)
                await asyncio.sleep(0.5)
                used = cpu_seconds(service.process.pid) - used
                cpu.append(used - at_rest * (time.perf_counter() - started))
            memory = memory_mb(service.process.pid)
    return {
        "file": position,
        "visible_after_s": rounded(statistics.median(seconds)),
        "cpu_ms": round(statistics.median(cpu) * 1000),
        "memory_mb": round(memory),
    }


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.link(source, target)


def _is_up_to_date(service: Service, files: int) -> bool:
    return bool(service.query("SELECT count(DISTINCT s3_source_key) FROM wrm_analytics.wrm_history") == files)


async def _visible(service: Service, name: Path) -> None:
    at = dt.datetime.strptime(name.stem[-19:], "%Y-%m-%d_%H-%M-%S")  # noqa: DTZ007 - naive UTC, as in the database
    while True:
        with duckdb.connect(service.database, read_only=True) as connection:
            row = connection.execute(VISIBLE, [at]).fetchone()
        if row and row[0]:
            return
        await asyncio.sleep(0.01)


async def _cpu_a_second(service: Service) -> float:
    """What the service uses while nothing arrives, ten polls a second among it, to be taken off."""
    used, started = cpu_seconds(service.process.pid), time.perf_counter()
    await asyncio.sleep(AT_REST_SECONDS)
    return (cpu_seconds(service.process.pid) - used) / (time.perf_counter() - started)

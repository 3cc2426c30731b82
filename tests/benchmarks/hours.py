"""A day of many GBFS systems in an hour: whether memory, files or the work for a poll grow.

The service and the made-up world (`world_server.py`) are processes whose clock runs faster (`tests.support.fastclock`).
CPU and memory are as in real time. Delays are not: what takes a second takes `factor` seconds of that clock. So nothing
here says how late a poll is or how fresh the database; `world` measures that.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import os
import re
import sqlite3
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bikeflow.core.model import UTC
from tests.benchmarks.measuring import Row, cpu_seconds, own_mb, proportional_mb, rounded
from tests.benchmarks.world_process import WorldProcess, world
from tests.benchmarks.world_proof import files, prove, raw_objects
from tests.support.fastclock import FastClock
from tests.support.preload import built
from tests.support.service import Service, running, starved_seconds

BEGIN = dt.datetime(2030, 3, 6, 18, tzinfo=UTC)
"""A Wednesday evening: the midnights of all time zones and the sealing of the day come while it runs."""
SETTLED_HOURS = 3
"""What grows is judged after them."""
LOOK_SECONDS = 5.0
"""Of real time, between two looks at the memory and the metrics."""
ZONES = ("UTC", "Europe/Warsaw", "America/New_York", "Asia/Tokyo", "Australia/Sydney", "Asia/Kolkata", "America/Lima")
SETTINGS = {
    "feed.interval_seconds": 300,
    "watcher.poll_seconds": 60,
    "warehouse.debounce_seconds": 60,
    # what is busy for a second of real time must not count as late
    "feed.timeout_seconds": 600,
    "daemon.shutdown_seconds": 3600,
    "log.format": "logfmt",
}
SHOWN = (
    "until", "polls", "stored", "cpu_share", "starved_share", "cpu_ms_a_poll", "refreshes", "refresh_s",
    "own_low_mb", "own_mb", "pss_mb", "pss_peak_mb", "threads", "descriptors", "series", "ledger_rows", "poll_rows",
    "files", "files_mb", "lake_files", "lake_kb_a_snapshot",
)  # fmt: skip
"""What is shown of each hour; `own_low_mb` is between two refreshes, `files` are those that are not the lake's.

`refresh_s` are real seconds; `starved_share` is the part of the time for which threads waited for a processor.
"""
_FETCHED = re.compile(r"event=fetched outcome=(\S+)")
_REFRESHED = re.compile(r"event=refreshed .*duration_seconds=(\S+)")
_TROUBLE = re.compile(r" level=(warning|error|critical) event=(\S+)")


@dataclass(frozen=True)
class Options:
    """How many systems, for how many hours, and how many times as fast as real time."""

    systems: int = 50
    hours: int = 24
    factor: int = 30


def measure(folder: Path, runs: int, options: Options = Options()) -> dict[str, object]:
    """One long run, with all figures: by the hour, what grows, and at the end. Raises SystemExit without a compiler."""
    del runs
    library = built("fastclock.c", folder)
    if library is None:
        raise SystemExit("hours: needs Linux and a C compiler: apt-get install gcc libc6-dev")
    clock = FastClock(library, options.factor, BEGIN)
    hours, figures = asyncio.run(_measured(folder, options, clock))
    what = (
        f"{options.systems} GBFS systems every {SETTINGS['feed.interval_seconds']} s, {options.hours} hours from"
        f" {BEGIN:%A %H:%M} UTC on, {options.factor} times as fast as real time: true in CPU and memory, not in delays"
    )
    return {
        "what": what,
        "rows": [{name: hour[name] for name in SHOWN} for hour in hours],
        "growth": _growth(hours),
        "end": [{"what": name, "value": value} for name, value in figures.items()],
        "hours": hours,
    }


async def _measured(folder: Path, options: Options, clock: FastClock) -> tuple[list[Row], dict[str, float]]:
    config, data_dir, variables = folder / "config.toml", folder / "data", clock.variables
    async with world(options.systems, variables) as serving:
        tables = [{**table, "timezone": ZONES[i % len(ZONES)]} for i, table in enumerate(serving.tables)]
        settings = {"systems": tables, **SETTINGS}
        async with running(data_dir, "", config=config, settings=settings, variables=variables) as service:
            day = _Day(service, serving, clock)
            await day.watch(options.hours)
            totals = day.totals()
            code = await service.stop()
            log = service.log()
        served = (await serving.stop())["served"]
    raw = raw_objects(files(data_dir / "lake"))
    trouble = Counter(f"log_{level}_{event}" for level, event in _TROUBLE.findall(log))
    proof = await prove(served, raw, config, data_dir / "analytics.duckdb", variables=variables)
    return day.hours, {**totals, "exit_code": code, **trouble, **proof}


class _Day:
    """The service at work, and what is seen of it in each hour."""

    def __init__(self, service: Service, serving: WorldProcess, clock: FastClock) -> None:
        self.hours: list[Row] = []
        self._service, self._pid, self._world_pid, self._clock = service, service.process.pid, serving.pid, clock
        self._began, self._log_read = time.monotonic(), 0
        self._stored = 0

    async def watch(self, hours: int) -> None:
        """Look at it until the time is over."""
        await self._service.logged("event=started")
        url = await self._service.url()
        async with aiohttp.ClientSession(url) as session:
            for hour in range(1, hours + 1):
                end, before, began = BEGIN + dt.timedelta(hours=hour), self._accounts(), time.monotonic()
                own, memory = list[float](), list[float]()
                series = 0
                while rest := self._clock.real_seconds_until(end):
                    own.append(own_mb(self._pid))
                    memory.append(proportional_mb(self._pid))
                    async with session.get("/metrics") as answer:
                        series = sum(not line.startswith("#") for line in (await answer.text()).splitlines())
                    await asyncio.sleep(min(rest, LOOK_SECONDS))
                seconds = time.monotonic() - began
                cpu, starved = (now - then for now, then in zip(self._accounts(), before, strict=True))
                row = {
                    "until": f"{end:%H:%M}",
                    **self._work(cpu, seconds),
                    "starved_share": rounded(starved / seconds),
                    "own_low_mb": rounded(min(own), 1),
                    "own_mb": rounded(statistics.median(own), 1),
                    "pss_mb": rounded(statistics.median(memory), 1),
                    "pss_peak_mb": rounded(max(memory), 1),
                    **self._held(),
                    "series": series,
                    **await asyncio.to_thread(self._disk),
                }
                self.hours.append(row)
                # it takes an hour: not for nothing if it ends early
                print(json.dumps(row), file=sys.stderr, flush=True)

    def totals(self) -> dict[str, float]:
        """Of the whole day."""
        return {
            "minutes": rounded((time.monotonic() - self._began) / 60),
            "polls": sum(int(hour["polls"]) for hour in self.hours),
            "stored": self._stored,
            "database_mb": rounded(self._service.database.stat().st_size / 1e6),
        }

    def _accounts(self) -> tuple[float, float]:
        """CPU seconds so far, and those for which a thread was ready and got no processor."""
        return cpu_seconds(self._pid), starved_seconds(self._pid)

    def _work(self, used: float, seconds: float) -> Row:
        """What the log tells of the hour, and the CPU for it; times in real seconds."""
        log = self._service.log()
        new, self._log_read = log[self._log_read :], len(log)
        outcomes = _FETCHED.findall(new)
        refreshes = [float(text) / self._clock.factor for text in _REFRESHED.findall(new)]
        self._stored += outcomes.count("stored")
        return {
            "polls": len(outcomes),
            "stored": outcomes.count("stored"),
            "cpu_share": rounded(used / seconds),
            "world_cpu_s": rounded(cpu_seconds(self._world_pid)),
            "cpu_ms_a_poll": rounded(1000 * used / max(len(outcomes), 1), 1),
            "refreshes": len(refreshes),
            "refresh_s": rounded(statistics.fmean(refreshes or [0.0]), 3),
        }

    def _held(self) -> Row:
        process = Path(f"/proc/{self._pid}")
        return {"threads": len(list((process / "task").iterdir())),
                "descriptors": len(list((process / "fd").iterdir()))}  # fmt: skip

    def _disk(self) -> Row:
        """Files and MB below `data_dir` by kind, and rows by table."""
        data_dir = self._service.data_dir
        count, size = Counter[str](), Counter[str]()
        for kind, length in _by_kind(data_dir):
            count[kind] += 1
            size[kind] += length
        lake = [kind for kind in count if kind.startswith("lake_")]
        rows = {name: _rows(data_dir / f"{name}.sqlite") for name in ("ledger", "polls")}
        return {
            "files": sum(count.values()) - sum(count[kind] for kind in lake),
            "files_mb": rounded((sum(size.values()) - sum(size[kind] for kind in lake)) / 1e6),
            "lake_files": sum(count[kind] for kind in lake),
            "lake_kb_a_snapshot": rounded(sum(size[kind] for kind in lake) / max(self._stored, 1) / 1e3),
            "ledger_rows": sum(rows["ledger"].values()),
            "poll_rows": sum(rows["polls"].values()),
            **{f"{kind}_files": number for kind, number in sorted(count.items())},
            **{f"{kind}_mb": rounded(length / 1e6) for kind, length in sorted(size.items())},
            **{f"{name}_{table}_rows": n for name, tables in rows.items() for table, n in tables.items()},
        }


def _by_kind(data_dir: Path) -> Iterator[tuple[str, int]]:
    """Each file's kind (`mirror`, `ledger`, `lake_raw`) and bytes; some vanish while we look."""
    for folder, _, names in os.walk(data_dir):
        first, *rest = Path(folder).relative_to(data_dir).parts or ("",)
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                length = (Path(folder) / name).stat().st_size
                kind = f"lake_{rest[2]}" if first == "lake" else first or name.partition(".")[0]
                yield kind, length


def _rows(database: Path) -> dict[str, int]:
    """The rows of each table of an SQLite file."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}


def _growth(hours: Sequence[Row]) -> list[Row]:
    """Of each figure: its mean soon after the start and at the end, and by how much an hour it grows in between."""
    settled = hours[SETTLED_HOURS:]
    if len(settled) < 2 * SETTLED_HOURS:
        return []
    found: list[Row] = []
    for name in dict.fromkeys(name for hour in settled for name in hour):
        values = [hour.get(name, 0) for hour in settled]
        numbers = [value for value in values if not isinstance(value, str)]
        if len(numbers) == len(values):
            slope = statistics.linear_regression(range(len(numbers)), numbers).slope
            found.append({
                "what": name,
                f"hours {SETTLED_HOURS + 1} to {2 * SETTLED_HOURS}": rounded(statistics.fmean(numbers[:SETTLED_HOURS])),
                f"last {SETTLED_HOURS} hours": rounded(statistics.fmean(numbers[-SETTLED_HOURS:])),
                "more each hour": rounded(slope, 3),
            })  # fmt: skip
    return found

"""A world of GBFS systems in one process: late polls, time to the database, memory, CPU, requests, and the proof.

The world is `world_server.py`, in a process of its own; what was lost is counted by `world_proof.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.benchmarks.measuring import Row, cpu_seconds, proportional_mb, rounded
from tests.benchmarks.world_process import world
from tests.benchmarks.world_proof import Raw, Served, files, named, objects, prove, query, raw_objects
from tests.support.s3server import S3Server, rclone
from tests.support.service import Service, running

INTERVAL_SECONDS = 60.0
LOOK_SECONDS = 0.5
"""How often it is looked for a new publication: times to it are measured too long by so much at most."""
CORES = 2
NEWEST = "SELECT system_id, max(file_timestamp) FROM main.open_raw_files GROUP BY ALL"
_FETCHED = re.compile(r"timestamp=(\S+) .*event=fetched outcome=(\S+) .*duration_seconds=(\S+) .*system=(\S+)")


@dataclass(frozen=True)
class Options:
    """How many systems, for how many minutes, and whether the lake lies on an S3 server."""

    systems: int = 200
    minutes: float = 30
    s3: bool = False


def measure(folder: Path, runs: int, options: Options = Options()) -> dict[str, object]:
    """One long run, with all figures."""
    del runs
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(rclone(folder)) if options.s3 else None
        figures = asyncio.run(_measured(folder, options, server))
    rows: list[Row] = [{"what": name, "value": value} for name, value in figures.items()]
    lake = "an S3 server" if options.s3 else "a local lake"
    what = f"{options.systems} GBFS systems every {INTERVAL_SECONDS:g} s for {options.minutes:g} minutes, {lake}"
    return {"what": what, "rows": rows, "figures": figures}


async def _measured(folder: Path, options: Options, s3: S3Server | None) -> dict[str, float]:
    storage, config = s3.settings() if s3 else None, folder / "config.toml"
    async with world(options.systems) as serving:
        settings = {
            "systems": serving.tables,
            "feed.interval_seconds": INTERVAL_SECONDS,
            "watcher.poll_seconds": 5,
            "log.format": "logfmt",
        }
        async with running(folder / "data", "", config=config, settings=settings, storage=storage) as service:
            os.sched_setaffinity(service.process.pid, sorted(os.sched_getaffinity(0))[:CORES])
            run = _Run(service, serving.pid, options)
            await run.watch()
            code = await service.stop()
            log = service.log()
        told = await serving.stop()
    lake = dict(objects(s3, storage) if s3 and storage else files(folder / "data" / "lake"))
    raw = raw_objects(lake.items())
    return {
        **run.figures(log, told, raw),
        "objects": len(lake),
        "objects_mb": rounded(sum(map(len, lake.values())) / 1e6),
        "exit_code": code,
        **await prove(told["served"], raw, config, folder / "data/analytics.duckdb", storage),
    }


class _Run:
    """The service at work: what is seen of it while it is."""

    def __init__(self, service: Service, world_pid: int, options: Options) -> None:
        self._service, self._world_pid, self._options = service, world_pid, options
        self._began = time.monotonic()
        self._newest: dict[str, list[tuple[dt.datetime, float]]] = {}
        """Of each system, which snapshot was the newest from when on (Unix time)."""
        self._peak_mb = self._first_mb = self._seconds = self._cpu = self._world_cpu = self._start_seconds = 0.0
        self._requests: dict[str, float] = {}
        self._publications = 0

    async def watch(self) -> None:
        """Look at the database, the memory and the accounts until the time is over."""
        service, pid = self._service, self._service.process.pid
        await service.logged("event=started")
        self._start_seconds = time.monotonic() - self._began
        used, world_used, began = cpu_seconds(pid), cpu_seconds(self._world_pid), time.monotonic()
        publishing = asyncio.create_task(self._watch_publications())
        while (passed := time.monotonic() - began) < self._options.minutes * 60:
            self._peak_mb = max(self._peak_mb, proportional_mb(pid))
            if passed < 2 * INTERVAL_SECONDS:
                self._first_mb = self._peak_mb
            await asyncio.sleep(2)
        publishing.cancel()
        self._seconds = time.monotonic() - began
        self._cpu, self._world_cpu = cpu_seconds(pid) - used, cpu_seconds(self._world_pid) - world_used
        self._requests = await _store_requests(await service.url())

    async def _watch_publications(self) -> None:
        seen = 0
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            database = self._service.database
            if not database.exists() or database.stat().st_ino == seen:
                continue
            seen, now = database.stat().st_ino, time.time()
            self._publications += 1
            for system, newest in await asyncio.to_thread(query, database, NEWEST):
                times = self._newest.setdefault(system, [])
                if newest is not None and (not times or newest > times[-1][0]):
                    times.append((newest, now))

    def figures(self, log: str, told: Mapping[str, Any], raw: Raw) -> dict[str, float]:
        """All that was measured; times in seconds."""
        fetched = _FETCHED.findall(log)
        outcomes = [outcome for _, outcome, *_ in fetched]
        late, missed = _lateness(fetched)
        delays = self._delays(told["served"], raw)
        stored, minutes = max(outcomes.count("stored"), 1), self._seconds / 60
        return {
            "systems": self._options.systems,
            "minutes": rounded(minutes),
            "start_s": rounded(self._start_seconds),
            "polls": len(fetched),
            **{f"polls_{outcome}": outcomes.count(outcome) for outcome in sorted(set(outcomes))},
            "polls_missed": missed,
            **_percentiles("late", late),
            **_percentiles("published", delays),
            "snapshots_not_seen_published": sum(map(len, told["served"].values())) - len(delays),
            "publications": self._publications,
            "memory_peak_mb": round(self._peak_mb),
            "memory_first_minutes_mb": round(self._first_mb),
            "cpu_share": rounded(self._cpu / self._seconds),
            "cpu_ms_a_snapshot": rounded(1000 * self._cpu / stored, 1),
            "world_cpu_share": rounded(self._world_cpu / self._seconds),
            **{f"{name}_a_minute": rounded(count / minutes, 1) for name, count in sorted(self._requests.items())},
        }

    def _delays(self, served: Served, raw: Raw) -> list[float]:
        """Seconds from the answer that first held a state until the database had its snapshot, or a newer one."""
        found = []
        for key, (state, _) in raw.items():
            system, at = named(key)
            seen = next((since for newest, since in self._newest.get(system, ()) if newest >= at), None)
            began = served[system].get(str(state))
            if seen is not None and began is not None:
                found.append(seen - began)
        return found


def _lateness(fetched: Sequence[tuple[str, str, str, str]]) -> tuple[list[float], int]:
    """How late each poll began on its system's grid (its phase: the earliest poll's), and how many were left out."""
    begins: dict[str, list[float]] = {}
    for at, _, seconds, system in fetched:
        begins.setdefault(system, []).append(dt.datetime.fromisoformat(at).timestamp() - float(seconds))
    late, missed = [], 0
    for _, *times in begins.values():  # the first comes soon after the start, whatever the grid
        if times:
            rounds = [round((moment - times[0]) / INTERVAL_SECONDS) for moment in times]
            offsets = [moment - number * INTERVAL_SECONDS for moment, number in zip(times, rounds, strict=True)]
            late += [offset - min(offsets) for offset in offsets]
            missed += rounds[-1] + 1 - len(times)
    return late, missed


def _percentiles(name: str, values: Sequence[float]) -> dict[str, float]:
    if len(values) < 2:
        return {}
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {
        f"{name}_p50_s": rounded(cuts[49]),
        f"{name}_p99_s": rounded(cuts[98]),
        f"{name}_max_s": rounded(max(values)),
    }


async def _store_requests(url: str) -> dict[str, float]:
    """Requests to the store so far, by kind."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as answer:
        text = await answer.text()
    found: dict[str, float] = {}
    for operation, count in re.findall(r'bikeflow_store_requests_total{operation="(\w+)",.*} (\S+)', text):
        found[operation] = found.get(operation, 0) + float(count)
    return found

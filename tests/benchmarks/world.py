"""A world of GBFS systems in one process: late polls, time to the database, memory, CPU, requests, and the proof.

The world is `world_server.py`, in a process of its own. What was lost is counted without bikeflow's code: every state
that a system has served must lie in a raw object of the lake, and every record of a raw object in the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import io
import json
import os
import re
import statistics
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import duckdb

from bikeflow.settings.sections import StorageSettings
from tests.benchmarks.measuring import Row, cpu_seconds, proportional_mb, rounded
from tests.support.s3server import S3Server, rclone
from tests.support.service import Service, environment, running

INTERVAL_SECONDS = 60.0
LOOK_SECONDS = 0.5
"""How often it is looked for a new publication: times to it are measured too long by so much at most."""
CORES = 2
NEWEST = "SELECT system_id, max(file_timestamp) FROM main.open_raw_files GROUP BY ALL"
ROWS = "SELECT s3_source_key, count(*) FROM analytics.history GROUP BY ALL"
MAIN = ("station_status.json", "vehicle_status.json", "free_bike_status.json")
_FETCHED = re.compile(r"timestamp=(\S+) .*event=fetched outcome=(\S+) .*duration_seconds=(\S+) .*system=(\S+)")
_NAME = re.compile(r"/(s\d+)_([\d-]+_[\d-]+)\.zip$")


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
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.benchmarks.world_server", str(options.systems),
        stdout=asyncio.subprocess.PIPE, limit=2**30,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        tables = json.loads(await process.stdout.readline())
        for table in tables:
            del table["main"]
        settings = {
            "systems": tables,
            "feed.interval_seconds": INTERVAL_SECONDS,
            "watcher.poll_seconds": 5,
            "log.format": "logfmt",
        }
        async with running(folder / "data", "", config=config, settings=settings, storage=storage) as service:
            os.sched_setaffinity(service.process.pid, sorted(os.sched_getaffinity(0))[:CORES])
            run = _Run(service, process.pid, options)
            await run.watch()
            code = await service.stop()
            log = service.log()
        process.terminate()
        told = json.loads(await process.stdout.readline())
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    objects = dict(_objects(s3, storage) if s3 and storage else _files(folder / "data" / "lake"))
    raw = {key: _read(data) for key, data in objects.items() if _NAME.search(key)}
    database = folder / "data/analytics.duckdb"
    figures = {
        **run.figures(log, told, raw),
        "objects": len(objects),
        "objects_mb": rounded(sum(map(len, objects.values())) / 1e6),
        "exit_code": code,
        "records_waiting_at_stop": _missing(raw, database),
    }
    await _bikeflow(config, storage, "backfill")  # what the stop left to the next start
    report = json.loads(await _bikeflow(config, storage, "verify", "--full", "--json"))
    lost = _lost(told["served"], raw, database)
    return {**figures, **lost, "verify_findings": len(report["findings"]), "verify_rejected": report["rejected"]}


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
            for system, newest in await asyncio.to_thread(_query, database, NEWEST):
                times = self._newest.setdefault(system, [])
                if newest is not None and (not times or newest > times[-1][0]):
                    times.append((newest, now))

    def figures(self, log: str, told: Mapping[str, Any], raw: Mapping[str, tuple[int, int]]) -> dict[str, float]:
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

    def _delays(self, served: Mapping[str, Mapping[str, float]], raw: Mapping[str, tuple[int, int]]) -> list[float]:
        """Seconds from the answer that first held a state until the database had its snapshot, or a newer one."""
        found = []
        for key, (state, _) in raw.items():
            system, at = _named(key)
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


def _files(lake: Path) -> Iterator[tuple[str, bytes]]:
    for path in lake.rglob("*"):
        if path.is_file():
            yield str(path.relative_to(lake)), path.read_bytes()


def _objects(server: S3Server, storage: StorageSettings) -> Iterator[tuple[str, bytes]]:
    client = server.client()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=storage.bucket):
        for entry in page.get("Contents", ()):
            yield entry["Key"], client.get_object(Bucket=storage.bucket, Key=entry["Key"])["Body"].read()


def _read(data: bytes) -> tuple[int, int]:
    """The state that a raw object holds, and the number of its records."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        found = [json.loads(archive.read(name))["data"] for name in MAIN if name in archive.namelist()]
    arrays = [content.get("stations") or content.get("bikes") or content.get("vehicles") or [] for content in found]
    return found[0]["state"], sum(map(len, arrays))


def _named(key: str) -> tuple[str, dt.datetime]:
    """The system and the time of a raw object."""
    match = _NAME.search(key)
    assert match is not None
    return match[1], dt.datetime.strptime(match[2], "%Y-%m-%d_%H-%M-%S")  # noqa: DTZ007 - as the database has it


def _lost(
    served: Mapping[str, Mapping[str, float]], raw: Mapping[str, tuple[int, int]], database: Path
) -> dict[str, float]:
    """States that were served and are in no raw object, and records of raw objects that are not in the database."""
    kept: dict[str, set[int]] = {}
    for key, (state, _) in raw.items():
        kept.setdefault(_named(key)[0], set()).add(state)
    states = {(system, int(state)) for system, found in served.items() for state in found}
    return {
        "states_served": len(states),
        "states_lost": sum(state not in kept.get(system, ()) for system, state in states),
        "records": sum(records for _, records in raw.values()),
        "records_lost": _missing(raw, database),
        "rows_of_no_raw_file": sum(count for key, count in _query(database, ROWS) if key not in raw),
    }


def _missing(raw: Mapping[str, tuple[int, int]], database: Path) -> int:
    """By how much the rows of each raw object in the database differ from its records."""
    rows = dict(_query(database, ROWS))
    return sum(abs(records - rows.get(key, 0)) for key, (_, records) in raw.items())


async def _bikeflow(config: Path, storage: StorageSettings | None, command: str, *arguments: str) -> bytes:
    """What a command prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bikeflow", command, "--config", str(config), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, **environment(storage)},
    )  # fmt: skip
    output, _ = await process.communicate()
    return output


def _query(database: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(database, read_only=True) as connection:
        return connection.execute(sql).fetchall()

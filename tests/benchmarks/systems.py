"""Many systems in one process against one system polled as often in all, and with two systems in trouble among them."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import re
import statistics
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import duckdb

from bikeflow.core.model import UTC
from bikeflow.simulator import NO_ODDITIES, City, serve_feed
from tests.benchmarks.measuring import Row, cpu_seconds, rounded
from tests.support import feedserver
from tests.support.service import Service, running

SYSTEMS = 20
EVERY_SECONDS = 20.0
MINUTES = 3
"""How long each service is measured."""
TROUBLE = (feedserver.Reply(wait_seconds=600), feedserver.Reply(b"\xff\x00garbage," * 1_000_000))
"""A server that never answers, and one that sends 10 MB that are no feed, each time."""
LOOK_SECONDS = 0.05
VISIBLE = "SELECT system_id, max(file_timestamp) FROM analytics.stations_latest GROUP BY system_id"

_TIME = r"timestamp=(\S+) "
_FETCHED = re.compile(rf"{_TIME}.*event=fetched .*duration_seconds=(\S+) .*system=(\S+)")
_STORED = re.compile(rf"{_TIME}.*event=fetched outcome=stored key=\S*_([\d-]+_[\d-]+)\.txt.* system=(\S+)")
_REFRESHED = re.compile(rf"{_TIME}.*event=refreshed .*duration_seconds=(\S+)")
Moment = tuple[str, dt.datetime]
"""A snapshot: its system and the time of its raw file."""


def measure(folder: Path, runs: int) -> dict[str, object]:
    """Services side by side, so that a machine that is slower for a minute is so for all of them."""
    del runs  # one long run says more than several
    scenarios = [
        _Scenario(folder, f"{SYSTEMS} systems", SYSTEMS, EVERY_SECONDS),
        _Scenario(folder, "one system, as many snapshots", 1, EVERY_SECONDS / SYSTEMS),
        _Scenario(folder, f"{SYSTEMS} systems, and two in trouble", SYSTEMS, EVERY_SECONDS, TROUBLE),
    ]
    rows = asyncio.run(_side_by_side(scenarios))
    what = f"{MINUTES:g} minutes with a snapshot of 750 lines each second"
    return {"what": f"{what}; lateness of polls, and from fetched to visible, of the systems in order", "rows": rows}


async def _side_by_side(scenarios: Sequence[_Scenario]) -> list[Row]:
    return list(await asyncio.gather(*(scenario.measured() for scenario in scenarios)))


class _Scenario:
    """A service with so many systems in order, and some in trouble beside them."""

    def __init__(
        self, folder: Path, name: str, systems: int, every_seconds: float, trouble: Sequence[feedserver.Reply] = ()
    ) -> None:
        self._name, self._data_dir = name, folder / name.replace(" ", "-").replace(",", "") / "data"
        self._systems, self._every, self._trouble = systems, every_seconds, trouble
        self._visible: dict[Moment, dt.datetime] = {}

    async def measured(self) -> Row:
        """Run the service for the time, and look at its log, its database and the operating system's accounts."""
        async with contextlib.AsyncExitStack() as stack:
            tables = [table async for table in self._tables(stack)]
            self._data_dir.parent.mkdir(parents=True)
            config = self._data_dir.parent / "config.toml"
            settings = {"systems": tables, "feed.interval_seconds": self._every, "feed.timeout_seconds": 10}
            service = await stack.enter_async_context(running(self._data_dir, "", config=config, settings=settings))
            await service.told("refreshed", 1)
            pid = service.process.pid
            used, begun = cpu_seconds(pid), dt.datetime.now(UTC)
            watching = asyncio.create_task(self._watch(service))
            await asyncio.sleep(MINUTES * 60)
            used = cpu_seconds(pid) - used
            peak_mb = _peak_mb(pid)
            watching.cancel()
            return self._row(service.log(), begun, used, peak_mb)

    async def _tables(self, stack: contextlib.AsyncExitStack) -> AsyncIterator[dict[str, object]]:
        for number in range(self._systems):
            city = City(number + 1, stations=235, free_bikes=513, oddities=NO_ODDITIES)
            url = await stack.enter_async_context(serve_feed(city.snapshot))
            yield {"id": f"city{number}", "url": url}
        for number, reply in enumerate(self._trouble):
            server = await stack.enter_async_context(feedserver.serve())
            server.answers(reply)
            yield {"id": f"trouble{number}", "url": server.url}

    async def _watch(self, service: Service) -> None:
        """Note when each system's newest snapshot becomes visible."""
        seen = 0
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if service.database.stat().st_ino != seen:
                seen, now = service.database.stat().st_ino, dt.datetime.now(UTC)
                for system, newest in await asyncio.to_thread(_newest, service.database):
                    self._visible.setdefault((system, newest.replace(tzinfo=UTC)), now)

    def _row(self, log: str, begun: dt.datetime, cpu: float, peak_mb: float) -> Row:
        stored = [at for at, *_ in _STORED.findall(log) if _parsed(at) > begun]
        delays, refreshes = self._delays(log, begun), [float(s) for at, s in _REFRESHED.findall(log)]
        late, missed = self._lateness(log)
        return {
            "what": self._name,
            "snapshots": len(stored),
            "cpu_ms": round(cpu / len(stored) * 1000),
            "peak_mb": round(peak_mb),
            "polls": len(late),
            "missed": missed,
            "late_p99_s": rounded(statistics.quantiles(late, n=100)[98]),
            "late_max_s": rounded(max(late)),
            "visible_s": rounded(statistics.median(delays)),
            "visible_max_s": rounded(max(delays)),
            "refreshes": len(refreshes),
            "refresh_s": rounded(statistics.median(refreshes)),
        }

    def _delays(self, log: str, begun: dt.datetime) -> list[float]:
        """Seconds from fetched to visible; a snapshot is visible with the first publication of it or a later one."""
        found = []
        for at, name, system in _STORED.findall(log):
            time = dt.datetime.strptime(name, "%Y-%m-%d_%H-%M-%S").replace(tzinfo=UTC)
            later = [seen for (other, newest), seen in self._visible.items() if other == system and newest >= time]
            if _parsed(at) > begun and later:
                found.append((min(later) - _parsed(at)).total_seconds())
        return found

    def _lateness(self, log: str) -> tuple[list[float], int]:
        """How late each poll of the systems in order began on its grid, and how many were left out."""
        begins: dict[str, list[float]] = {}
        for at, seconds, system in _FETCHED.findall(log):
            if system.startswith("city"):
                begins.setdefault(system, []).append(_parsed(at).timestamp() - float(seconds))
        late, missed = [], 0
        for _, *times in begins.values():  # the first is made at once, whatever the grid
            # The grid's phase: no poll is early.
            rounds = [round((time - times[0]) / self._every) for time in times]
            phase = min(time - number * self._every for time, number in zip(times, rounds, strict=True))
            late += [time - number * self._every - phase for time, number in zip(times, rounds, strict=True)]
            missed += rounds[-1] + 1 - len(times)
        return late, missed


def _newest(database: Path) -> list[tuple[str, dt.datetime]]:
    with duckdb.connect(database, read_only=True) as connection:
        return connection.execute(VISIBLE).fetchall()


def _parsed(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def _peak_mb(pid: int) -> float:
    """The most resident memory that the process had."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000

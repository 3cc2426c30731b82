"""A whole scenario in one process: snapshots arrive, others interfere, days are written, sealed and published.

What happens outside (`ROUNDS`) always happens, in the same order; the pipeline's own work between may fail at any
point, and goes on in the next round as its roles would at their next tick, or in a new process.
"""

from __future__ import annotations

import copy
import datetime as dt
import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from bikeflow.core.errors import BikeflowError
from bikeflow.core.model import UTC
from bikeflow.service.pipeline import Pipeline, open_pipeline
from bikeflow.settings import Settings
from bikeflow.settings.sections import FeedSettings, ProcessingSettings, RetrySettings, StorageSettings
from bikeflow.store import Store, open_store
from tests.support.chaos import ChaosStore
from tests.support.oracle import PREFIX, Oracle, Verdict, local_lake
from tests.support.pipelines import process_dirty, wrm_lane
from tests.support.wrm import wrm_layout

LAYOUT = wrm_layout(PREFIX)
SETTLING_ROUNDS = 3
NEVER_MINUTES = 43_200
PHASES = ((NEVER_MINUTES, (0, 1)), (0, (2, 3)))
"""After how many minutes a day is sealed, and the rounds: at first the days are not over, and so cut into hours."""
_FIRST_DAY = dt.datetime.combine(dt.datetime.now(UTC).date() - dt.timedelta(days=5), dt.time(), UTC)
_TABLES = ("wrm_stations_latest", "wrm_stations_enhanced_data", "wrm_stations_only")


def at(hour: int, minute: int, day: int = 1) -> dt.datetime:
    """A time of the scenario."""
    return _FIRST_DAY + dt.timedelta(days=day - 1, hours=hour, minutes=minute)


class World:
    """One lake and one `data_dir` with an oracle; `chaos` is the store that the pipeline works with."""

    def __init__(self, data_dir: Path, chaos: Callable[[Store], ChaosStore] = ChaosStore) -> None:
        self.data_dir = data_dir
        self.oracle = Oracle()
        self.settings = Settings(
            data_dir=data_dir, feed=FeedSettings(url="http://127.0.0.1:9/"), retry=RetrySettings(attempts=1)
        )
        self.failures: list[str] = []
        """What went wrong in the pipeline's work so far."""
        self.promised: set[str] = set()
        self.chaos: ChaosStore
        self._make_chaos = chaos

    def copy(self, data_dir: Path, chaos: Callable[[Store], ChaosStore] | None = None) -> World:
        """The same world once more, with its lake and local files as they are now."""
        shutil.copytree(self.data_dir, data_dir)
        other = World(data_dir, chaos or self._make_chaos)
        other.oracle, other.promised = copy.deepcopy(self.oracle), set(self.promised)
        return other

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """The store, open for the whole scenario, however often the process in it begins anew."""
        async with open_store(StorageSettings(), self.data_dir) as store:
            self.chaos = self._make_chaos(store)
            yield

    @asynccontextmanager
    async def process(self, seal_after_minutes: float = 0) -> AsyncIterator[Pipeline]:
        """A process's life: the pipeline over the chaos store."""
        processing = ProcessingSettings(seal_after_minutes=seal_after_minutes)
        settings = self.settings.model_copy(update={"processing": processing})
        with _opening(self.chaos):
            async with open_pipeline(settings) as pipeline:
                yield pipeline

    async def spool(self, pipeline: Pipeline, time: dt.datetime) -> None:
        """The fetcher has downloaded a snapshot: from here on it is promised."""
        number, text = self.oracle.snapshot()
        self.promised.add(await wrm_lane(pipeline).delivery.accept(time, f"{number:016x}", text.encode()))

    async def put(self, time: dt.datetime) -> None:
        """Somebody else puts a raw file in the lake, or another in its place."""
        key = LAYOUT.raw_key(time)
        await self.chaos.inner.put(key, self.oracle.put_file(key))

    async def delete(self, time: dt.datetime) -> None:
        """Somebody else deletes a raw file."""
        await self.chaos.inner.delete(LAYOUT.raw_key(time))
        del self.oracle.put[LAYOUT.raw_key(time)]

    async def happen(self, number: int, pipeline: Pipeline) -> None:
        """What happens outside at the beginning of a round."""
        match number:
            case 0:
                await self.spool(pipeline, at(18, 0))
                await self.spool(pipeline, at(18, 30))
                await self.put(at(19, 10))
            case 1:
                await self.spool(pipeline, at(18, 45))
                await self.put(at(19, 10))
                await self.put(at(7, 0, day=2))
            case 2:
                await self.put(at(18, 15))
                await self.put(at(20, 0))
            case 3:
                await self.delete(at(18, 15))
                await self.delete(at(20, 0))
                await self.put(at(8, 0))

    async def work(self, pipeline: Pipeline, *, publish: bool) -> bool:
        """One round of the pipeline's own work; False where something in it failed."""
        lane = wrm_lane(pipeline)
        try:
            failed = not await lane.delivery.drain()
            await lane.watcher.poll()
            await lane.reconciler.reconcile()
            failed |= await self._process(pipeline)
            await lane.reconciler.seal_finished_days(quiet=dt.timedelta(0))
            failed |= await self._process(pipeline)
            if publish:
                await pipeline.shared.refresher.refresh_once()
        except BikeflowError as error:
            self.failures.append(str(error))
            return False
        return not failed

    async def run(self, *, restart: bool, first_phase: int = 0) -> None:
        """The whole scenario (what is left of it), then undisturbed rounds in which everything has to come right.

        After a failure the same process goes on, to the end of the phase or of all, or a new one.
        """
        for phase in PHASES[first_phase:-1]:
            await self.run_phase(phase, restart=restart)
        await self.run_phase(PHASES[-1], restart=restart, settle=not restart)
        if restart:
            async with self.process(0) as pipeline:
                await self.settle(pipeline)

    async def run_phase(
        self, phase: tuple[float, tuple[int, ...]], *, restart: bool = False, settle: bool = False
    ) -> None:
        """The rounds of one phase, each process's life as long as nothing goes wrong, or to the end."""
        seal_after_minutes, rounds = phase[0], list(phase[1])
        while rounds:
            async with self.process(seal_after_minutes) as pipeline:
                good = True
                while rounds and (good or not restart):
                    number = rounds.pop(0)
                    await self.happen(number, pipeline)
                    good = await self.work(pipeline, publish=number in (1, 3))
                if settle:
                    await self.settle(pipeline)

    async def settle(self, pipeline: Pipeline) -> None:
        """Work until nothing is left to do; the service itself needs no more than this after a fault."""
        lane = wrm_lane(pipeline)
        await self.chaos.settle()
        for _ in range(SETTLING_ROUNDS):
            good = await self.work(pipeline, publish=False)
            if good and not lane.index.files.dirty_partitions() and not lane.delivery.spool.depth:
                break
        await pipeline.shared.refresher.refresh_once()

    def audit(self) -> Verdict:
        """The oracle's word on lake and database."""
        log = "\n".join(f"event=fetched outcome=stored key={key}" for key in self.promised)
        return self.oracle.audit(local_lake(self.data_dir), self.data_dir / "analytics.duckdb", log)

    def state(self) -> dict[str, object]:
        """Everything that must not depend on what went wrong: objects byte for byte, and the database's answers."""
        state: dict[str, object] = {key: _without_clock(key, data) for key, data in local_lake(self.data_dir).items()}
        with duckdb.connect(self.data_dir / "analytics.duckdb", read_only=True) as database:
            for table in _TABLES:
                rows = database.execute(f"SELECT * FROM wrm_analytics.{table}").fetchall()
                state[table] = sorted(rows, key=str)
        return state

    async def _process(self, pipeline: Pipeline) -> bool:
        errors = [run.error for run in await process_dirty(pipeline) if run.error]
        self.failures += errors
        return bool(errors)


@contextmanager
def _opening(store: Store) -> Iterator[None]:
    """Let `open_pipeline` get this store instead of one that it opens."""

    @asynccontextmanager
    async def give(*_: object) -> AsyncIterator[Store]:
        yield store

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bikeflow.service.shared.open_store", give)
        yield


def _without_clock(key: str, data: bytes) -> Any:
    if not key.endswith(".jsonl"):
        return data
    return [{**json.loads(line), "rejected_at": None} for line in data.splitlines()]

"""A day without storage: what is fetched waits on the disk, across restarts, and all of it arrives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bikeflow.errors import Transient
from bikeflow.settings.sections import FeedSettings
from bikeflow.simulator import City
from tests.faults.scenario import World, at
from tests.support.chaos import ChaosStore

SNAPSHOTS = 288
DAY_SECONDS = 86_400


class UnreachableStore(ChaosStore):
    """A store that nobody reaches while `down` is set."""

    down = False

    async def _call(self, name: str, work: Callable[[], Awaitable[Any]], *, changes: bool) -> Any:
        if self.down:
            raise Transient(f"{name}: nobody answers")
        return await super()._call(name, work, changes=changes)


async def test_a_day_without_storage_costs_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, UnreachableStore)
    async with world.opened():
        world.chaos.down = True  # type: ignore[attr-defined]
        for half in range(2):  # the service is started anew in the midst of it
            async with world.process() as pipeline:
                for number in range(half * SNAPSHOTS // 2, (half + 1) * SNAPSHOTS // 2):
                    await world.spool(pipeline, at(number * 24 // SNAPSHOTS, number * 5 % 60))
                assert not await world.work(pipeline, publish=True)
                assert pipeline.delivery.spool.depth == number + 1
                assert (fault := pipeline.vitals().delivery) is not None and "nobody answers" in fault.reason
        world.chaos.down = False  # type: ignore[attr-defined]
        async with world.process() as pipeline:
            assert await world.work(pipeline, publish=False), "the first attempt after it takes all"
            assert (pipeline.delivery.spool.depth, pipeline.vitals().delivery) == (0, None)
            await world.spool(pipeline, at(1, 0, day=2))
            await world.settle(pipeline)
    world.audit().assert_exactly_once()
    assert len(world.promised) == SNAPSHOTS + 1


def test_the_spool_holds_days_of_snapshots_at_the_default_interval() -> None:
    """Even of a city that is somewhat larger than the largest real snapshot, of 76,532 bytes."""
    city, feed = City(1, stations=400, free_bikes=450), FeedSettings()
    size = len(city.snapshot(at(12, 0)).encode())
    assert size > 76_532
    assert feed.spool_max_bytes / size * feed.interval_seconds > 7 * DAY_SECONDS

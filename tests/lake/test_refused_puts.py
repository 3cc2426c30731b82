"""A store that refuses to be written for a while, and what waits for it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from bikeflow.core.errors import Permanent
from bikeflow.core.model import PartitionJob
from bikeflow.lake.queue import PartitionQueue
from bikeflow.settings.sections import StorageSettings
from tests.support.lines import raw_file, station
from tests.support.road import open_road
from tests.support.wrm import wrm_day

DAY = dt.date(2100, 1, 1)  # not over: no sealing comes in between


async def test_a_partition_that_failed_of_refused_puts_is_tried_with_the_next_poll_after_one_that_works(
    tmp_path: Path,
) -> None:
    async with open_road(StorageSettings(), tmp_path) as road:
        queue = PartitionQueue(8)
        watcher = road.watcher(queue)
        await road.put_raw(f"dt={DAY}/wrm_stations_{DAY}_18-00-00.txt", raw_file(station(1)))
        await road.reconciler.reconcile()
        in_the_way = tmp_path / "lake" / road.layout.prefix / "processed"
        in_the_way.touch()
        run = await road.processor.process(PartitionJob(wrm_day(DAY)))
        assert run is not None and run.outcome == "failed"
        with pytest.raises(Permanent):
            await road.store.put(f"{road.layout.prefix}processed/probe", b"")
        await watcher.poll()
        assert queue.waiting == 0  # it failed lately
        in_the_way.unlink()
        watcher.store_works_again()
        await watcher.poll()
        assert queue.waiting == 1
        run = await road.processor.process(PartitionJob(wrm_day(DAY)))
        assert run is not None and run.outcome == "done"

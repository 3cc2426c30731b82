"""A pipeline whose roles' loops a test plays itself."""

from __future__ import annotations

from bikeflow.core.model import PartitionJob, Run
from bikeflow.service.lane import Lane
from bikeflow.service.pipeline import Pipeline
from tests.support.wrm import wrm


def wrm_lane(pipeline: Pipeline) -> Lane:
    """The lane of the one system `wrm`."""
    return pipeline.lanes[wrm().id]


async def process_dirty(pipeline: Pipeline) -> list[Run]:
    """Process whatever is dirty, system by system."""
    processor = pipeline.shared.processor
    dirty = [day for lane in pipeline.lanes.values() for day in lane.index.files.dirty_partitions()]
    runs = [await processor.process(PartitionJob(day)) for day in dirty]
    return [run for run in runs if run is not None]


async def whole_road(pipeline: Pipeline) -> list[Run]:
    """Reconcile, process whatever is dirty, publish; gives the runs."""
    await pipeline.reconcile()
    runs = await process_dirty(pipeline)
    await pipeline.shared.refresher.refresh_once()
    return runs

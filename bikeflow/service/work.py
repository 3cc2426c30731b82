"""Work on a lake without the service: what `backfill`, `refresh`, `fetch` and `dlq replay` do."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from bikeflow.core.model import FetchOutcome
from bikeflow.core.scope import Scope
from bikeflow.lake import dead_letters
from bikeflow.lake.dead_letters import Selection
from bikeflow.runtime.lock import exclusive, refuse_demo
from bikeflow.service.lane import Lane
from bikeflow.service.pipeline import Pipeline, open_pipeline
from bikeflow.settings import Settings

Tell = Callable[[int, int], None]
"""Told of raw files done and in all."""


@contextlib.asynccontextmanager
async def reconciled(settings: Settings, *, holds_lock: bool = False) -> AsyncIterator[Pipeline]:
    """A pipeline whose ledger agrees with the lake; `holds_lock` says that the caller holds `data_dir` already."""
    with contextlib.nullcontext() if holds_lock else exclusive(settings.data_dir):
        async with open_pipeline(settings) as pipeline:
            await pipeline.reconcile()
            yield pipeline


async def backfill(
    settings: Settings, scope: Scope, *, force: bool, tell: Tell, holds_lock: bool = False
) -> dict[str, Any]:
    """Reconcile with the lake, process the scope, refresh the database; returns what `--json` prints."""
    started = time.monotonic()
    async with reconciled(settings, holds_lock=holds_lock) as pipeline:
        indices = [index.files for name, index in pipeline.shared.ledger.systems.items() if scope.has(name)]
        if force:
            for files in indices:
                files.write_again(scope.first, scope.last)
        total = sum(files.dirty_files(scope.first, scope.last) for files in indices)
        if total:
            await pipeline.shared.engine.ready()
        await pipeline.process(scope.__contains__, total, tell)
        await pipeline.publish()
        left = sum(files.dirty_files(scope.first, scope.last) for files in indices)
        return {
            "files": total - left,
            "seconds": round(time.monotonic() - started, 3),
            **pipeline.shared.ledger.totals(),
            "failed_partitions": failed_partitions(pipeline),
        }


async def refresh(settings: Settings) -> Path:
    """Publish the database from what is processed; returns its path."""
    async with reconciled(settings) as pipeline:
        await pipeline.publish()
        return pipeline.database_path


async def fetch(settings: Settings, systems: Sequence[str]) -> list[tuple[FetchOutcome, int]]:
    """Fetch and store one snapshot of each system; returns how each ended, and how many of its snapshots still wait."""
    with exclusive(settings.data_dir):
        refuse_demo(settings.data_dir)
        async with open_pipeline(settings) as pipeline:
            return [await _fetch(pipeline.lanes[system_id]) for system_id in systems]


async def _fetch(lane: Lane) -> tuple[FetchOutcome, int]:
    outcome = await lane.fetcher.fetch_once()
    await lane.delivery.drain()
    return outcome, lane.delivery.spool.depth


async def replay(settings: Settings, selection: Selection, tell: Tell) -> dict[str, Any]:
    """Process the raw files of dead letters again, and publish; returns what `--json` prints."""
    async with reconciled(settings) as pipeline:
        store, systems = pipeline.shared.store, settings.all_systems
        found = [file async for file in dead_letters.find(store, systems, selection)]
        for file in found:
            pipeline.lanes[file.system.id].index.files.process_again([file.raw_key])
        wanted = {file.partition for file in found}
        await pipeline.process(wanted.__contains__, len(found), tell)
        await pipeline.publish()
        keys = {file.raw_key for file in found}
        everything = Selection(selection.scope, source=selection.source)
        now = [file async for file in dead_letters.find(store, systems, everything)]
        return {
            "files": len(found),
            "dead_letters_before": sum(len(file.letters) for file in found),
            "dead_letters_after": sum(len(file.letters) for file in now if file.raw_key in keys),
            "failed_partitions": failed_partitions(pipeline),
        }


def failed_partitions(pipeline: Pipeline) -> dict[str, str]:
    """Why the last run of a partition failed, by the day; where there are several systems, by system and day."""
    several = len(pipeline.lanes) > 1
    rows = pipeline.shared.ledger.runs.failing()
    return {f"{row['system_id']} {row['day']}" if several else str(row["day"]): str(row["error"]) for row in rows}

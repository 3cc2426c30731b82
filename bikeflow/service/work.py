"""Work on a lake without the service: what `backfill`, `refresh`, `fetch`, `forget`, `dlq replay` and `verify` do."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bikeflow.core.errors import BikeflowError
from bikeflow.core.model import FetchOutcome, Partition
from bikeflow.core.scope import Scope
from bikeflow.feeds import format_of, layout_of
from bikeflow.ingest.dead_letters import Filed, file_usable
from bikeflow.lake import dead_letters
from bikeflow.lake.dead_letters import Selection
from bikeflow.ledger import FILE_NAME, Ledger, SystemIndex
from bikeflow.ledger.missing import Missing
from bikeflow.runtime.lock import exclusive, holder, refuse_demo
from bikeflow.segments.footer import Footer, NotOurs, read_provenance
from bikeflow.service.lane import Lane
from bikeflow.service.pipeline import Pipeline, open_pipeline
from bikeflow.settings import Settings
from bikeflow.settings.systems import System, place_of
from bikeflow.store.base import Store, if_found
from bikeflow.verifier import Finding, Progress, PublishedDatabase, Report, Verifier

_OF_THE_DATABASE = ("copy_", "database_")
"""How the kinds of findings begin that concern the database, not the lake."""
BUSY_SECONDS = 30.0
"""What a service may take to write an open segment whose time has come."""


@contextlib.asynccontextmanager
async def reconciled(settings: Settings, *, holds_lock: bool = False) -> AsyncIterator[Pipeline]:
    """A pipeline whose ledger agrees with the lake; `holds_lock` says that the caller holds `data_dir` already."""
    with contextlib.nullcontext() if holds_lock else exclusive(settings.data_dir):
        async with open_pipeline(settings) as pipeline:
            await pipeline.reconcile()
            yield pipeline


async def backfill(
    settings: Settings, scope: Scope, *, force: bool, tell: Progress, holds_lock: bool = False
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
            "missing_raw_files": _count_missing(pipeline, scope),
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
            fetched = [await _fetch(pipeline.lanes[system_id]) for system_id in systems]
            await pipeline.polls.flush()
            return fetched


async def _fetch(lane: Lane) -> tuple[FetchOutcome, int]:
    outcome = await lane.fetcher.fetch_once()
    await lane.delivery.drain()
    spool = lane.delivery.spool
    if spool.fault is not None:  # no later process can deliver it
        outcome = dataclasses.replace(outcome, outcome="lost", error=spool.fault.reason)
    return outcome, spool.depth - spool.in_memory


async def forget(settings: Settings, scope: Scope, agreed: Callable[[Mapping[str, Missing]], bool]) -> dict[str, Any]:
    """Remove what was made of the missing raw files of the scope, if who sees them has `agreed`; what `--json` prints.

    A service that is at work does so itself, with its next poll.
    """
    process_id = holder(settings.data_dir)
    if process_id is not None:
        systems = settings.all_systems
        layouts, minutes = [layout_of(system) for system in systems], settings.processing.segment_minutes
        with Ledger(settings.data_dir.absolute(), layouts, minutes, shared=True) as ledger:
            known = [
                system.id for system in systems if ledger.systems[system.id].knows(place_of(settings.storage, system))
            ]
            forgotten = _forget({name: ledger.systems[name] for name in known}, scope, agreed)
        return {"forgotten": forgotten, "process_id": process_id, "failed_partitions": {}}
    async with reconciled(settings) as pipeline:
        forgotten = _forget(pipeline.shared.ledger.systems, scope, agreed)
        if forgotten:
            await pipeline.process(scope.__contains__)
            await pipeline.reconcile()  # for their dead letters
            await pipeline.publish()
        return {"forgotten": forgotten, "process_id": None, "failed_partitions": failed_partitions(pipeline)}


def _forget(
    systems: Mapping[str, SystemIndex], scope: Scope, agreed: Callable[[Mapping[str, Missing]], bool]
) -> dict[str, int]:
    """Forget the missing raw files of each system; how many there were."""
    summaries = {name: index.missing.summary(scope) for name, index in systems.items() if scope.has(name)}
    found = {name: missing for name, missing in summaries.items() if missing is not None}
    return {name: systems[name].missing.forget(scope) for name in found} if agreed(found) else {}


async def replay(settings: Settings, selection: Selection, tell: Progress) -> dict[str, Any]:
    """Process the raw files of dead letters again, and publish; returns what `--json` prints.

    Documents that were unusable, and that the format understands now, become raw files first.
    """
    async with reconciled(settings) as pipeline:
        store, systems = pipeline.shared.store, settings.all_systems
        filed = await _file_documents(pipeline, selection)
        everything_found = [file async for file in dead_letters.find(store, systems, selection)]
        held = {key for index in pipeline.shared.ledger.systems.values() for key in index.missing.held()}
        found = [file for file in everything_found if file.raw_key not in held]
        for file in found:
            pipeline.lanes[file.system.id].index.files.process_again([file.raw_key])
        new = {Partition(name, day) for name, one in filed.items() for day in one.days}
        wanted = {file.partition for file in found} | new
        await pipeline.process(wanted.__contains__, len(found), tell)
        await pipeline.publish()
        keys = {file.raw_key for file in found}
        everything = Selection(selection.scope, source=selection.source)
        now = [file async for file in dead_letters.find(store, systems, everything)]
        return {
            "files": len(found),
            "dead_letters_before": sum(len(file.letters) for file in found),
            "dead_letters_after": sum(len(file.letters) for file in now if file.raw_key in keys),
            "missing_raw_files": len(everything_found) - len(found),
            "documents_filed": sum(one.documents for one in filed.values()),
            "documents_left": sum(one.left for one in filed.values()),
            "failed_partitions": failed_partitions(pipeline),
        }


async def _file_documents(pipeline: Pipeline, selection: Selection) -> dict[str, Filed]:
    """File unusable documents by system, unless only some dead letters are meant."""
    if selection.check is not None or selection.source:
        return {}
    filed = {
        name: await file_usable(pipeline.shared.store, lane.layout, format_of(lane.system), selection.scope)
        for name, lane in pipeline.lanes.items()
        if selection.scope.has(name)
    }
    if any(one.documents for one in filed.values()):
        await pipeline.reconcile()
    return filed


def _count_missing(pipeline: Pipeline, scope: Scope) -> int:
    """The raw files of the scope that are missing from the store, and whose rows are kept as they are."""
    indices = [index for name, index in pipeline.shared.ledger.systems.items() if scope.has(name)]
    return sum(missing.count for index in indices if (missing := index.missing.summary(scope)) is not None)


def failed_partitions(pipeline: Pipeline) -> dict[str, str]:
    """Why the last run of a partition failed, by the day; where there are several systems, by system and day."""
    several = len(pipeline.lanes) > 1
    rows = pipeline.shared.ledger.runs.failing()
    return {f"{row['system_id']} {row['day']}" if several else str(row["day"]): str(row["error"]) for row in rows}


async def audit(
    settings: Settings, store: Store, scope: Scope, *, sample: int | None, tell: Progress, repair: bool = False
) -> tuple[Report, list[Finding]]:
    """Verify: `sample` raw files of each day are parsed again, or all (None).

    With `repair`, under the lock of `data_dir`, what is found is put right. Returns what is (still) wrong, and what was
    repaired.
    """
    with exclusive(settings.data_dir) if repair else contextlib.nullcontext():
        database = PublishedDatabase(settings)
        verifier = Verifier(
            store,
            settings.all_systems,
            sample=sample,
            database=database if database.is_owed else None,
            unwritten_seconds=_unwritten_seconds(settings),
            known=partial(_known_raw_files, settings),
        )
        report = await verifier.verify(scope, tell)
        found = report.findings
        if repair and found:
            await _write_again(settings, found)
            report.findings = await verifier.again(found)
    return report, [item for item in found if item not in report.findings]


def _unwritten_seconds(settings: Settings) -> float:
    """How long a service that is at work may let an open segment wait, with time for the work itself; 0: not at all."""
    longest = settings.processing.write_seconds
    return longest + settings.watcher.poll_seconds + BUSY_SECONDS if longest and holder(settings.data_dir) else 0


def _known_raw_files(settings: Settings, system: System) -> Collection[str]:
    """The raw files that the ledger knows; none where there is no ledger of this lake that can be read."""
    if not (settings.data_dir / FILE_NAME).exists():
        return ()
    at_rest, minutes = holder(settings.data_dir) is None, settings.processing.segment_minutes
    try:
        with Ledger(settings.data_dir, [layout_of(system)], minutes, read_only=True, at_rest=at_rest) as ledger:
            index = ledger.systems[system.id]
            if index.knows(place_of(settings.storage, system)):
                return {*index.files.known_keys(), *index.missing.held()}
    except (BikeflowError, sqlite3.Error):  # damaged, or of another version: the service rebuilds it
        pass
    return ()


async def _write_again(settings: Settings, findings: Sequence[Finding]) -> None:
    """Write all days that anything was found in again from their raw files, then the copies and the database.

    Raw files are left alone. A copy of a Parquet file goes only where all of its raw files are there; one that can't be
    read, and that no segment has taken the place of, gets a name that no glob finds.
    """
    if any(finding.kind.startswith(_OF_THE_DATABASE) for finding in findings):
        for name in ("mirror", "warehouse"):
            await asyncio.to_thread(shutil.rmtree, settings.data_dir / name, ignore_errors=True)
    others = (*_OF_THE_DATABASE, "misplaced_", "polls_")
    concerned = {item.partition for item in findings if not item.kind.startswith(others)}
    async with reconciled(settings, holds_lock=True) as pipeline:
        store, lanes = pipeline.shared.store, pipeline.lanes
        for finding in findings:
            if finding.kind == "misplaced_parquet":
                await _remove_copy(store, lanes[finding.system_id], finding.key)
        for partition in sorted(concerned):
            await asyncio.to_thread(lanes[partition.system_id].index.files.write_again, partition.day, partition.day)
        await pipeline.process(concerned.__contains__)
        for finding in findings:
            if finding.kind == "unreadable_parquet":
                await _set_aside(store, lanes[finding.system_id], finding.key)
        await pipeline.shared.refresher.refresh_once()


async def _remove_copy(store: Store, lane: Lane, key: str) -> None:
    """Delete a Parquet file that lies in the wrong place, if its rows can be made again from raw files."""
    footer = await if_found(read_provenance(store, key, lane.layout.system_id))
    if not isinstance(footer, Footer):
        return
    known = await asyncio.to_thread(lane.index.files.raw_files, [record.key for record in footer.files])
    if all(record.key in known for record in footer.files if record.rows):
        await store.delete(key)


async def _set_aside(store: Store, lane: Lane, key: str) -> None:
    """Rename a file that can't be read and has the name of one of ours: nothing in it is lost."""
    if not lane.layout.is_named_like_segment(key):
        return
    found = await if_found(read_provenance(store, key, lane.layout.system_id))
    stored = await if_found(store.get(key)) if found is NotOurs.DAMAGED else None
    if stored is not None:
        await store.put(f"{key}.damaged", stored.data)
        await store.delete(key)

"""The audit of a lake and its database, and putting right what it finds: `bikeflow verify`."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Sequence

from bikeflow.core.scope import Scope
from bikeflow.runtime.lock import exclusive
from bikeflow.segments.footer import Footer, NotOurs, read_provenance
from bikeflow.service.lane import Lane
from bikeflow.service.work import reconciled
from bikeflow.settings import Settings
from bikeflow.store.base import Store, if_found
from bikeflow.verifier import Finding, Progress, PublishedDatabase, Report, Verifier

_OF_THE_DATABASE = ("copy_", "database_")


async def audit(
    settings: Settings, store: Store, scope: Scope, *, sample: int | None, tell: Progress, repair: bool = False
) -> tuple[Report, list[Finding]]:
    """Verify: `sample` raw files of each day are parsed again, or all (None).

    With `repair`, under the lock of `data_dir`, what is found is put right. Returns what is (still) wrong, and what was
    repaired.
    """
    with exclusive(settings.data_dir) if repair else contextlib.nullcontext():
        database = PublishedDatabase(settings)
        verifier = Verifier(store, settings.all_systems, sample=sample, database=database if database.is_owed else None)
        report = await verifier.verify(scope, tell)
        found = report.findings
        if repair and found:
            await _write_again(settings, found)
            report.findings = await verifier.again(found)
    return report, [item for item in found if item not in report.findings]


async def _write_again(settings: Settings, findings: Sequence[Finding]) -> None:
    """Write all days that anything was found in again from their raw files, then the copies and the database.

    Raw files are left alone. A copy of a Parquet file goes only where all of its raw files are there; one that can't be
    read, and that no segment has taken the place of, gets a name that no glob finds.
    """
    if any(finding.kind.startswith(_OF_THE_DATABASE) for finding in findings):
        for name in ("mirror", "warehouse"):
            await asyncio.to_thread(shutil.rmtree, settings.data_dir / name, ignore_errors=True)
    concerned = {item.partition for item in findings if not item.kind.startswith((*_OF_THE_DATABASE, "misplaced_"))}
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

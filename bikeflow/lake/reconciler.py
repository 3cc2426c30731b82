"""The ledger and the lake brought together: what the fast path can't see.

A full listing finds raw files that are late, out of order, overwritten or gone, and Parquet files and dead letters that
are missing or not ours. After the loss of the ledger the same pass rebuilds it from the footers of the Parquet files.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable, Collection
from dataclasses import asdict

from bikeflow.core.layout import Layout
from bikeflow.core.model import UTC, LakeReconciled, ObjectInfo, Partition, RawFile
from bikeflow.feeds.base import Format
from bikeflow.lake.layer_comparison import LayerComparison
from bikeflow.ledger import SystemIndex
from bikeflow.runtime.log import get_logger, new_trace_id
from bikeflow.store.base import Store, if_found

RESEAL_QUIET = dt.timedelta(minutes=10)
log = get_logger()


class Reconciler:
    """Makes the ledger agree with the whole lake of one system; reads only what differs.

    `trace_id` knows those of snapshots that are just being stored by this process; all others get a new one.
    """

    def __init__(
        self,
        store: Store,
        layout: Layout,
        index: SystemIndex,
        raw_format: Format,
        seal_after_minutes: float,
        *,
        trace_id: Callable[[str], str | None] = lambda key: None,
        tell: Callable[[LakeReconciled], None] = lambda event: None,
    ) -> None:
        self._trace_id = trace_id
        self._tell = tell
        self._store = store
        self._seal_after = dt.timedelta(minutes=seal_after_minutes)
        self._layout = layout
        self._index = index
        self._format = raw_format

    async def reconcile(self) -> LakeReconciled:
        """One full pass; raises what the store raises, and is then to be repeated."""
        started = time.monotonic()
        before = await asyncio.to_thread(self._index.files.known_keys)
        keys, changed, foreign = await self._list_raw()
        vanished = await self._vanished(before.keys() - keys)
        comparison = LayerComparison(self._store, self._layout, self._index, self._format)
        adopted, lost, foreign_parquet = await comparison.run()
        await self._compare_dead_letters()
        await asyncio.to_thread(self._index.files.set_reconciled, dt.datetime.now(UTC))
        result = LakeReconciled(
            system_id=self._layout.system_id,
            raw_files=len(keys),
            changed=changed,
            vanished=vanished,
            foreign=foreign + foreign_parquet,
            adopted=adopted,
            lost=lost,
            duration_seconds=round(time.monotonic() - started, 3),
        )
        self._tell(result)
        fields = asdict(result)
        log.info("reconciled", system=fields.pop("system_id"), **fields)
        return result

    async def seal_finished_days(self, quiet: dt.timedelta = RESEAL_QUIET, *, idle: bool = False) -> list[Partition]:
        """Days that are over, and whose late files had their time, become one segment each; returns those partitions.

        A sealed day is sealed again when late files came to it, and then none for a time of `quiet`.
        `idle` promises that no processor is at work.
        """
        now = dt.datetime.now(UTC)
        days = await asyncio.to_thread(self._index.files.days_to_seal, (now - self._seal_after).date(), now - quiet)
        for day in days:
            await asyncio.to_thread(self._index.files.seal, day, idle=idle)
        return days

    async def observe(self, infos: list[ObjectInfo]) -> list[RawFile]:
        """Enter listed objects in the ledger; returns the raw files that are new or changed."""
        _, changed = await asyncio.to_thread(self._enter, infos)
        return changed

    def _enter(self, infos: list[ObjectInfo]) -> tuple[list[str], list[RawFile]]:
        """The keys of all that are raw files, and those that are new or changed."""
        files = [file for info in infos if (file := self._layout.raw_file(info)) is not None]
        traced = [(file, self._trace_id(file.key) or new_trace_id()) for file in files]
        return [file.key for file in files], self._index.files.observe(traced)

    async def _list_raw(self) -> tuple[set[str], int, int]:
        keys: set[str] = set()
        listed = changed = 0
        async for page in self._store.pages(self._layout.raw):
            found, news = await asyncio.to_thread(self._enter, page)
            keys.update(found)
            listed, changed = listed + len(page), changed + len(news)
        return keys, changed, listed - len(keys)

    async def _vanished(self, missing: Collection[str]) -> int:
        """A listing alone never makes data disappear: each missing raw file is asked for by name."""
        gone = [key for key in sorted(missing) if await if_found(self._store.head(key)) is None]
        if gone:
            log.warning("raw_files_vanished", count=len(gone), first=gone[0], last=gone[-1])
            await asyncio.to_thread(self._index.files.forget, gone)
        return len(gone)

    async def _compare_dead_letters(self) -> None:
        before = await asyncio.to_thread(self._index.files.processed)
        listed: set[str] = set()
        async for page in self._store.pages(self._layout.dead_letters):
            listed.update(self._layout.raw_key_of(info.key) for info in page)
        await asyncio.to_thread(self._index.files.letters_found, listed)
        # A processor may have written dead letters during the listing: those must not look like old ones.
        after = await asyncio.to_thread(self._index.files.processed)
        unwanted = {key for key in listed if not before.get(key, True) and not after.get(key, True)}
        orphans = listed - (await asyncio.to_thread(self._index.files.known_keys)).keys()
        orphaned = {key for key in orphans if await if_found(self._store.head(key)) is None}
        for key in sorted(unwanted | orphaned):
            await self._store.delete(self._layout.dead_letter_key(key))
        missing = sorted(key for key, has_letters in before.items() if has_letters and key not in listed)
        if missing:
            log.warning("dead_letters_lost", count=len(missing), first=missing[0])
            await asyncio.to_thread(self._index.files.process_again, missing)

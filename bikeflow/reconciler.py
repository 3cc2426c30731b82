"""The ledger and the lake brought together: what the fast path can't see.

A full listing finds raw files that are late, out of order, overwritten or gone, and Parquet files and dead letters that
are missing or not ours. After the loss of the ledger the same pass rebuilds it from the footers of the Parquet files.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from bikeflow.errors import NotFound
from bikeflow.layer_comparison import LayerComparison
from bikeflow.layout import Layout
from bikeflow.ledger import Ledger
from bikeflow.log import get_logger
from bikeflow.model import UTC, LakeReconciled, ObjectInfo, RawFile
from bikeflow.store.base import Store

RESEAL_QUIET = dt.timedelta(minutes=10)
log = get_logger()


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What a pass found: raw files in all, those new or changed, gone; objects that are not ours; segments adopted."""

    raw_files: int
    changed: int
    vanished: int
    foreign: int
    adopted: int
    lost: int
    duration_seconds: float


class Reconciler:
    """Makes the ledger agree with the whole lake; reads only what differs.

    `trace_id` knows those of snapshots that are just being stored by this process; all others get a new one.
    """

    def __init__(
        self,
        store: Store,
        layout: Layout,
        ledger: Ledger,
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
        self._ledger = ledger

    async def reconcile(self) -> Reconciliation:
        """One full pass; raises what the store raises, and is then to be repeated."""
        started = time.monotonic()
        before = await asyncio.to_thread(self._ledger.files.known_keys)
        keys, changed, foreign = await self._list_raw()
        vanished = await self._vanished(before.keys() - keys)
        adopted, lost, foreign_parquet = await LayerComparison(self._store, self._layout, self._ledger).run()
        await self._compare_dead_letters()
        await asyncio.to_thread(self._ledger.files.set_reconciled, dt.datetime.now(UTC))
        result = Reconciliation(
            len(keys),
            changed,
            vanished,
            foreign + foreign_parquet,
            adopted,
            lost,
            round(time.monotonic() - started, 3),
        )
        self._tell(LakeReconciled(adopted, lost))
        log.info(
            "reconciled",
            raw_files=result.raw_files,
            changed=changed,
            vanished=vanished,
            foreign=result.foreign,
            adopted=adopted,
            lost=lost,
            duration_seconds=result.duration_seconds,
        )
        return result

    async def seal_finished_days(self, quiet: dt.timedelta = RESEAL_QUIET, *, idle: bool = False) -> list[dt.date]:
        """Days that are over, and whose late files had their time, become one segment each; returns those days.

        A sealed day is sealed again when late files came to it, and then none for a time of `quiet`.
        `idle` promises that no processor is at work.
        """
        now = dt.datetime.now(UTC)
        days = await asyncio.to_thread(self._ledger.files.unsealed, (now - self._seal_after).date(), now - quiet)
        for day in days:
            await asyncio.to_thread(self._ledger.files.seal, day, idle=idle)
        return days

    async def observe(self, infos: list[ObjectInfo]) -> list[RawFile]:
        """Enter listed objects in the ledger; returns the raw files that are new or changed."""
        _, changed = await asyncio.to_thread(self._enter, infos)
        return changed

    def _enter(self, infos: list[ObjectInfo]) -> tuple[list[str], list[RawFile]]:
        """The keys of all that are raw files, and those that are new or changed."""
        files = [file for info in infos if (file := self._layout.raw_file(info)) is not None]
        traced = [(file, self._trace_id(file.key) or new_trace_id()) for file in files]
        return [file.key for file in files], self._ledger.files.observe(traced)

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
        gone = [key for key in sorted(missing) if not await self._exists(key)]
        if gone:
            log.warning("raw_files_vanished", count=len(gone), first=gone[0], last=gone[-1])
            await asyncio.to_thread(self._ledger.files.forget, gone)
        return len(gone)

    async def _exists(self, key: str) -> bool:
        try:
            await self._store.head(key)
        except NotFound:
            return False
        return True

    async def _compare_dead_letters(self) -> None:
        expected, clean = await asyncio.to_thread(self._judged)
        listed: set[str] = set()
        async for page in self._store.pages(self._layout.dead_letters):
            listed.update(self._layout.raw_key_of(info.key) for info in page)
        await asyncio.to_thread(self._ledger.files.letters_found, listed)
        # A processor may have written dead letters during the listing: those must not look like old ones.
        _, still_clean = await asyncio.to_thread(self._judged)
        orphans = listed - (await asyncio.to_thread(self._ledger.files.known_keys)).keys()
        orphaned = {key for key in orphans if not await self._exists(key)}
        for key in sorted((listed & clean & still_clean) | orphaned):
            await self._store.delete(self._layout.dead_letter_key(key))
        missing = sorted(expected - listed)
        if missing:
            log.warning("dead_letters_lost", count=len(missing), first=missing[0])
            await asyncio.to_thread(self._ledger.files.process_again, missing)

    def _judged(self) -> tuple[set[str], set[str]]:
        """Raw files that gave dead letters, and those that were processed and gave none."""
        lettered = self._ledger.files.lettered_keys()
        return lettered, self._ledger.files.processed_keys() - lettered


def new_trace_id() -> str:
    """What follows a snapshot through all logs: 16 hexadecimal digits."""
    return secrets.token_hex(8)

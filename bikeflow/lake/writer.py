"""Has an engine build dirty segments, and tells the ledger what came of it.

The ledger is told last: a crash anywhere leaves the segment dirty, and the next run writes the same objects again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace

from bikeflow.core.model import RawFile, SchemaDrifted, SegmentObject
from bikeflow.ledger import Ledger
from bikeflow.ledger.files import SegmentWork
from bikeflow.runtime.log import get_logger, new_trace_id
from bikeflow.segments.builder import Built, RawFileChanged
from bikeflow.segments.engines import Engine

log = get_logger()


class SegmentWriter:
    """Keeps engine and ledger together; one instance serves all processors.

    `place` is given each enhanced file that was written by this process.
    """

    def __init__(
        self,
        engine: Engine,
        ledger: Ledger,
        tell: Callable[[SchemaDrifted], None] = lambda event: None,
        place: Callable[[SegmentObject, bytes], None] = lambda item, data: None,
    ) -> None:
        self._place = place
        self._tell = tell
        self._engine = engine
        self._ledger = ledger
        self._drifted: set[str] = set()
        self.files_parsed = 0
        """Raw files parsed for this process, for progress."""

    def fail_fast(self) -> None:
        """From now on try nothing again: what fails is left to the next run."""
        self._engine.fail_fast()

    async def write(self, work: SegmentWork) -> Built:
        """Bring the segment's files in the store up to date, then tell the ledger; raises what the engine raises."""
        try:
            built = await self._engine.build(work, self._count)
        except RawFileChanged as error:
            if error.current is not None:
                await asyncio.to_thread(self._observe, error.current)
            raise
        self._report_drift(work.segment.partition.system_id, built.drifted)
        await asyncio.to_thread(self._record, work, built)
        return replace(built, data=None)

    def _count(self, files: int) -> None:
        self.files_parsed += files

    def _record(self, work: SegmentWork, built: Built) -> None:
        files = self._ledger.systems[work.segment.partition.system_id].files
        if built.written.object is not None and built.data is not None:
            self._place(built.written.object, built.data)
        if built.vanished:
            files.forget(built.vanished)
        files.segment_written(work, built.objects, built.results)

    def _observe(self, current: RawFile) -> None:
        files = self._ledger.systems[current.partition.system_id].files
        files.observe([(current, new_trace_id())])

    def _report_drift(self, system_id: str, drifted: Iterable[tuple[str, tuple[str, ...]]]) -> None:
        """Unknown columns are logged once, not with every snapshot."""
        for key, columns in drifted:
            self._tell(SchemaDrifted(system_id, columns))
            new = sorted(set(columns) - self._drifted)
            if new:
                self._drifted.update(new)
                log.warning("schema_drifted", key=key, unknown_columns=", ".join(new))

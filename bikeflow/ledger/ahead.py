"""Open segments that are built, and published from this machine, but not written to the store yet.

With `processing.write_seconds`, a segment's files in the store are written at most so often. What has been built since
is known in memory only. A crash forgets it, but the ledger still has the segment as dirty: the next run builds it again
from the raw files, which are in the store.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bikeflow.core.model import Partition, Segment, SegmentObject

if TYPE_CHECKING:
    from bikeflow.ledger.files import FileResult


@dataclass(frozen=True, slots=True)
class Ahead:
    """An open segment as it was built last: its enhanced file on this machine, and what its raw files gave, by key.

    `wanted` is the generation that it fulfils.
    """

    wanted: int
    object: SegmentObject
    results: Mapping[str, FileResult]


class Unwritten:
    """Which segments of one system are ahead of the store, and when each was written there last.

    `write_seconds` may be changed at any time; 0, as at first, writes every segment at once.
    """

    def __init__(self) -> None:
        self.write_seconds = 0.0
        self._ahead: dict[Segment, Ahead] = {}
        self._written_at: dict[Segment, float] = {}

    def take_over(self, predecessor: Unwritten) -> None:
        """Go on with what another one knows."""
        self._ahead.update(predecessor._ahead)
        self._written_at.update(predecessor._written_at)

    def partitions(self) -> set[Partition]:
        """The days with segments that are ahead of the store."""
        return {segment.partition for segment in self._ahead}

    def get(self, segment: Segment) -> Ahead | None:
        """How far a segment is ahead of the store, if it is."""
        return self._ahead.get(segment)

    def may_wait(self, segment: Segment) -> bool:
        """Whether a segment was written to the store so lately that it need not be written now."""
        written_at = self._written_at.get(segment)
        return written_at is not None and not segment.sealed and time.monotonic() - written_at < self.write_seconds

    def waits(self, segment: Segment, wanted: int) -> bool:
        """Whether nothing is to be done for a segment now: it is built as it is `wanted`, and may wait."""
        ahead = self._ahead.get(segment)
        return ahead is not None and ahead.wanted == wanted and self.may_wait(segment)

    def built(self, segment: Segment, wanted: int, item: SegmentObject, results: Iterable[FileResult]) -> None:
        """A segment was built, and is published, but its files in the store are as they were."""
        self._ahead[segment] = Ahead(wanted, item, {result.record.key: result for result in results})

    def written(self, segment: Segment) -> None:
        """A segment's files in the store are up to date."""
        now = time.monotonic()
        self._ahead.pop(segment, None)
        self._written_at = {
            other: at for other, at in self._written_at.items() if now - at < self.write_seconds and other != segment
        }
        self._written_at[segment] = now

    def replaced(self, segment: Segment) -> None:
        """Somebody else has replaced a segment's files in the store: what was built here no longer counts."""
        self._ahead.pop(segment, None)
        self._written_at.pop(segment, None)

    def parse_again(self, keys: Collection[str]) -> None:
        """The rows of these raw files no longer count."""
        for segment, ahead in self._ahead.items():
            if not ahead.results.keys().isdisjoint(keys):
                kept = {key: result for key, result in ahead.results.items() if key not in keys}
                self._ahead[segment] = replace(ahead, results=kept)

    def parse_days_again(self, first: dt.date, last: dt.date) -> None:
        """No rows of a range of days count any longer."""
        for segment, ahead in self._ahead.items():
            if first <= segment.partition.day <= last:
                self._ahead[segment] = replace(ahead, results={})

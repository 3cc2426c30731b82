"""The ledger: a SQLite index of the lake under `data_dir`, rebuilt from the lake whenever it is lost.

Its methods are short and synchronous; roles call them through `asyncio.to_thread`.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from bikeflow.core.layout import Layout
from bikeflow.core.model import SegmentObject
from bikeflow.ledger.database import Database
from bikeflow.ledger.runs import RunLog
from bikeflow.ledger.system import SystemIndex

__all__ = ["FILE_NAME", "Ledger", "SystemIndex"]

FILE_NAME = "ledger.sqlite"


class Ledger:
    """One file with an index of each system, by its id, and what all systems share: runs.

    `read_only` and `at_rest` as for `Database`.
    """

    def __init__(
        self,
        data_dir: Path,
        layouts: Iterable[Layout],
        segment_minutes: int,
        *,
        read_only: bool = False,
        at_rest: bool = False,
    ) -> None:
        database = self._database = Database(data_dir / FILE_NAME, read_only=read_only, at_rest=at_rest)
        self.systems: Mapping[str, SystemIndex] = {
            layout.system_id: SystemIndex(database, layout, segment_minutes) for layout in layouts
        }
        self.runs = RunLog(database)

    def published_segments(self) -> list[SegmentObject] | None:
        """The enhanced files of all systems whose lake is known; None while none is."""
        found = [index.files.published_segments() for index in self.systems.values()]
        known = [segments for segments in found if segments is not None]
        return [segment for segments in known for segment in segments] if known else None

    def totals(self, day: dt.date | None = None) -> dict[str, int]:
        """Counts for `status` over all systems, of one day or of all; see `FileIndex.totals`."""
        counts: Counter[str] = Counter()
        for index in self.systems.values():
            counts.update(index.files.totals(day or dt.date.min, day or dt.date.max))
        return dict(counts)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""The ledger: a SQLite index of the lake under `data_dir`, rebuilt from the lake whenever it is lost.

Its methods are short and synchronous; roles call them through `asyncio.to_thread`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from bikeflow.layout import Layout
from bikeflow.ledger.database import Database
from bikeflow.ledger.feed import FeedMemory
from bikeflow.ledger.files import FileIndex
from bikeflow.ledger.objects import ObjectIndex
from bikeflow.ledger.reports import Reports
from bikeflow.ledger.runs import RunLog

FILE_NAME = "ledger.sqlite"


class Ledger:
    """One file, seen from four sides: raw files and segments, Parquet objects, runs, the feed.

    `read_only` and `at_rest` as for `Database`.
    """

    def __init__(
        self, data_dir: Path, layout: Layout, segment_minutes: int, *, read_only: bool = False, at_rest: bool = False
    ) -> None:
        self._database = Database(data_dir / FILE_NAME, read_only=read_only, at_rest=at_rest)
        self.files = FileIndex(self._database, layout, segment_minutes)
        self.objects = ObjectIndex(self._database, layout)
        self.runs = RunLog(self._database)
        self.reports = Reports(self._database)
        self.feed = FeedMemory(self._database)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

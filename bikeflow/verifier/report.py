"""What an audit comes to."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field

NO_DAY = dt.date.min
"""The partition of what belongs to none."""
Days = Callable[[dt.date], bool]
"""Which partitions are meant."""
Progress = Callable[[int, int], None]
"""Told of raw files done and in all."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not add up: `kind` is stable, for programs; `message` is for people."""

    kind: str
    key: str
    message: str

    @property
    def partition(self) -> dt.date:
        """The day that it belongs to, or `NO_DAY`."""
        return partition_of(self.key)


@dataclass(slots=True)
class Report:
    """What was counted, and what was found.

    `foreign` counts Parquet files that bikeflow did not write, `parsed_again` raw files whose rows were compared with a
    fresh parse, `published` the raw files whose rows were compared with the database's (None: there is no database).
    """

    raw_files: int = 0
    lines: int = 0
    rows: int = 0
    rejected: int = 0
    foreign: int = 0
    parsed_again: int = 0
    published: int | None = None
    findings: list[Finding] = field(default_factory=list)

    def find(self, kind: str, key: str, message: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(kind, key, message))


def partition_of(key: str) -> dt.date:
    """The day in a key, or `NO_DAY` where its folder is none."""
    try:
        return dt.date.fromisoformat(key.rsplit("/", 2)[-2].removeprefix("dt="))
    except (ValueError, IndexError):
        return NO_DAY

"""The result of an audit."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

from bikeflow.core.layout import NO_DAY, day_of
from bikeflow.core.model import Partition

Days = Callable[[dt.date], bool]
"""Tells whether a day is audited."""
Progress = Callable[[int, int], None]
"""Called with the number of raw files done, and of all."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not add up: `kind` is stable, for programs; `message` is for people.

    `system_id` is empty where it concerns all systems.
    """

    kind: str
    key: str
    message: str
    system_id: str = ""

    @property
    def partition(self) -> Partition:
        """The partition that it belongs to; its day may be `NO_DAY`."""
        return Partition(self.system_id, day_of(self.key))


@dataclass(slots=True)
class Report:
    """What was counted, and what was found.

    `unreadable_files` counts raw files that can't be read at all, `other_rules` those whose rows were flagged under
    other rules than today's, `foreign` Parquet files that bikeflow did not write. `other_objects` are keys below raw/
    that are no snapshots. `unwritten` counts raw files that are so new that they need not be in a Parquet file yet, and
    are not. `parsed_again` counts raw files whose rows and dead letters were compared with a fresh parse,
    `published` those whose rows were compared with the database's (None: there is no database), `tables` the tables and
    views of the database that were compared with ones made from the lake. `polls` counts the polls that are recorded,
    `unpolled_files` raw files that none of them names.
    """

    raw_files: int = 0
    lines: int = 0
    rows: int = 0
    rejected: int = 0
    unreadable_files: int = 0
    other_rules: int = 0
    foreign: int = 0
    unwritten: int = 0
    other_objects: list[str] = field(default_factory=list)
    parsed_again: int = 0
    published: int | None = None
    tables: int = 0
    polls: int = 0
    unpolled_files: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def proved(self) -> bool:
        """Whether there was something to prove, and nothing speaks against it."""
        return bool(self.raw_files) and not self.findings

    def find(self, kind: str, key: str, message: str, system_id: str = "") -> None:
        """Add a finding."""
        self.findings.append(Finding(kind, key, message, system_id))

    def add(self, other: Report, system_id: str) -> None:
        """Add what was counted and found of one system."""
        other.findings = [replace(item, system_id=system_id) for item in other.findings]
        for item in fields(self):
            if more := getattr(other, item.name):
                setattr(self, item.name, getattr(self, item.name) + more)


def concerns(wanted: Days, key: str) -> bool:
    """Whether to look at an object: one in no day's folder may hold the rows of any day."""
    day = day_of(key)
    return day == NO_DAY or wanted(day)

"""What a command is about: a range of days of some systems."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from bikeflow.core.model import Partition


@dataclass(frozen=True, slots=True)
class Scope:
    """The partitions from `first` to `last`, both included, of these systems (None: of all)."""

    first: dt.date = dt.date.min
    last: dt.date = dt.date.max
    systems: frozenset[str] | None = None

    def __contains__(self, partition: object) -> bool:
        return isinstance(partition, Partition) and self.has(partition.system_id) and self.has_day(partition.day)

    def has(self, system_id: str) -> bool:
        """Whether anything of this system is in it."""
        return self.systems is None or system_id in self.systems

    def has_day(self, day: dt.date) -> bool:
        """Whether anything of this day is in it."""
        return self.first <= day <= self.last

"""What the working database holds beside what partitions gave: runs, polls, and what follows from whole days."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import duckdb

from bikeflow.core.model import Partition
from bikeflow.ledger.runs import RunLog
from bikeflow.warehouse.days import Days
from bikeflow.warehouse.facts import take_over
from bikeflow.warehouse.forecasts import Forecasts
from bikeflow.warehouse.kept import KeptFiles
from bikeflow.warehouse.moved import MovedRows
from bikeflow.warehouse.polls import PollSource, PollTables
from bikeflow.warehouse.usual import Usual


@dataclass(frozen=True, slots=True)
class Updated:
    """The systems of which anything has changed, and whether a table has that changes once a day (`DAILY`)."""

    systems: set[str]
    daily: bool


class Tables:
    """These tables of an open working database, kept up to date together.

    `systems` are the configured ones with their time zones, `forecast_systems` those that are forecast.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        kept: KeptFiles,
        moved: MovedRows,
        facts: RunLog | None,
        polls: PollSource,
        systems: Mapping[str, str],
        forecast_systems: Mapping[str, str],
    ) -> None:
        self._connection = connection
        self._facts = facts
        self.polls = PollTables(connection, polls, moved)
        self._days = Days(connection, kept)
        self.usual = Usual(connection, kept, systems)
        self._forecasts = Forecasts(connection, kept, forecast_systems)

    def update(
        self,
        sealed: Mapping[Partition, str],
        changed: Mapping[Partition, bool],
        touched: AbstractSet[str],
        seconds: float | None,
    ) -> Updated:
        """Take over what has changed, in a transaction of the caller.

        `sealed` has the file in the mirror of each sealed partition. Of the `changed` partitions it is told whether
        they only had later snapshots added. Of the `touched` systems something has changed already. What is due once a
        day ends after `seconds`, and goes on with the next call; with None it goes on until all is done.
        """
        if self._facts is not None:
            take_over(self._connection, self._facts)
        systems, since = self.polls.update(changed)
        days = self._days.update(sealed, changed, since)
        read = [partition for partition, is_added in changed.items() if not is_added]
        systems |= self.usual.update(sealed, changed, read, since, seconds)
        before = self._forecasts.changes
        systems |= self._forecasts.update(sealed, days, touched | systems, seconds)
        return Updated(systems, daily=bool(days) or self._forecasts.changes != before)

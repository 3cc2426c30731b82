"""How the service is doing: what was seen of its roles, the verdict on each part, and the same in a sentence."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bikeflow.core.model import UTC, Fault, Vitals
from bikeflow.health.freshness import freshness
from bikeflow.health.observations import Observations
from bikeflow.health.readiness import Verdict, assess
from bikeflow.health.sentence import sentence, status_line, stopping_line
from bikeflow.settings import Settings


class Health:
    """The health of one service, from before its pipeline opens until after it has closed.

    `database` is the path of the published database.
    """

    def __init__(self, settings: Settings, database: Path) -> None:
        self.settings = settings
        self.seen = Observations()
        self.database = database
        self._stopping: Fault | None = None
        self._vitals: Callable[[], Vitals] | None = None

    def attach(self, vitals: Callable[[], Vitals]) -> None:
        """The pipeline is open; `vitals` tells how its roles are doing."""
        self._vitals = vitals

    def adopt(self, settings: Settings, database: Path, *, same_lake: bool) -> None:
        """Judge a pipeline with these settings from now on; what was seen of another lake is forgotten."""
        self.settings, self.database = settings, database
        self.seen.exports.clear()  # there may be other targets now; each reports with its next export
        if not same_lake:
            self.seen.forget_lake()

    def stopping(self) -> None:
        """The service is about to end: from now on no part is ready."""
        self._stopping = Fault(dt.datetime.now(UTC), "the service is stopping")

    def vitals(self) -> Vitals | None:
        """How the roles are doing now, or None while there are none."""
        return None if self._vitals is None else self._vitals()

    def verdict(self) -> Verdict:
        """What works now, part by part."""
        verdict = assess(self.seen, self.vitals(), self.settings, self.database, dt.datetime.now(UTC))
        return verdict if self._stopping is None else dict.fromkeys(verdict, self._stopping)

    def sentence(self) -> str:
        """How things stand now, in one sentence for people."""
        verdict, published = self.verdict(), self.seen.published
        stale = published is not None and bool(self.fresh(published.newest_snapshot)["stale"])
        return sentence(verdict, self.vitals(), self.seen, dt.datetime.now(UTC), stale=stale)

    def fresh(self, snapshot: dt.datetime | None) -> dict[str, Any]:
        """Whether data of this snapshot is the city as it is now; see `freshness`."""
        return freshness(snapshot, self.settings, self.seen, dt.datetime.now(UTC))

    def status_line(self) -> str:
        """The same for `systemctl status`: with the last fetch, the rejected lines and the storage."""
        if self._stopping is not None:
            return stopping_line(self.vitals())
        return status_line(self.verdict(), self.vitals(), self.seen, dt.datetime.now(UTC))

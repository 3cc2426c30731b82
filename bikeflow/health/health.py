"""How the service is doing: what was seen of its roles, the verdict on each part, and the same in a sentence.

And whether what is shown is the city as it is now, or as it was: old data is *stale*, and nothing calls it "now".
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bikeflow.core.model import UTC, Fault, Vitals
from bikeflow.health.observations import Observations
from bikeflow.health.readiness import Verdict, assess, lane_verdicts
from bikeflow.health.sentence import sentence, status_line, stopping_line
from bikeflow.settings import Settings

STALE_INTERVALS = 3
STALE_SECONDS = 60.0
"""The feed's interval may be a second; a snapshot's way to the page takes some."""


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
        places = {(system.id, system.prefix) for system in self.settings.all_systems}
        stay = {system.id for system in settings.all_systems if (system.id, system.prefix) in places}
        self.settings, self.database = settings, database
        self.seen.exports.clear()  # there may be other targets now; each reports with its next export
        self.seen.forget_others(stay)
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

    def lane_verdicts(self) -> Mapping[str, Mapping[str, Fault | None]]:
        """What works now of each system; empty while the pipeline is not open."""
        vitals = self.vitals()
        return {} if vitals is None else lane_verdicts(self.seen, vitals, self.settings, dt.datetime.now(UTC))

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


def stale_after_seconds(settings: Settings) -> float:
    """The age from which data is stale: three intervals of the feed, and a minute at least."""
    return max(STALE_INTERVALS * settings.shown_system.feed.interval_seconds, STALE_SECONDS)


def freshness(
    snapshot: dt.datetime | None, settings: Settings, seen: Observations | None, now: dt.datetime
) -> dict[str, Any]:
    """Whether data of this snapshot of the shown system is stale now, as JSON; `known_at` is until when it holds.

    That is the snapshot's time, or that of a later fetch that found the feed unchanged, unless the feed has given
    nothing new for so long that it counts as frozen. `seen` is None where no service is asked.
    """
    limit = stale_after_seconds(settings)
    if snapshot is None:
        return {"known_at": None, "stale": True, "stale_after_seconds": limit}
    known_at, unchanged_at = snapshot, seen.unchanged_since(settings.shown_system.id, snapshot) if seen else None
    if unchanged_at is not None:
        patience = max(settings.alerts.frozen_seconds, limit)
        known_at = max(min(unchanged_at, snapshot + dt.timedelta(seconds=patience)), snapshot)
    # A snapshot from the future (a clock was set back) says as little of now as an old one.
    stale = abs((now - known_at).total_seconds()) > limit
    return {"known_at": f"{known_at:%Y-%m-%dT%H:%M:%SZ}", "stale": stale, "stale_after_seconds": limit}

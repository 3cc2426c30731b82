"""Is what is shown the city as it is now, or as it was? Old data is *stale*, and nothing calls it "now"."""

from __future__ import annotations

import datetime as dt
from typing import Any

from bikeflow.settings import Settings
from bikeflow.surfaces.observations import Observations

STALE_INTERVALS = 3
STALE_SECONDS = 60.0
"""The feed's interval may be a second; a snapshot's way to the page takes some."""


def stale_after_seconds(settings: Settings) -> float:
    """The age from which data is stale: three intervals of the feed, and a minute at least."""
    return max(STALE_INTERVALS * settings.feed.interval_seconds, STALE_SECONDS)


def freshness(
    snapshot: dt.datetime | None, settings: Settings, seen: Observations | None, now: dt.datetime
) -> dict[str, Any]:
    """Whether data of this snapshot is stale now, as JSON; `known_at` is until when it is known to be the city's state.

    That is the snapshot's time, or that of a later fetch that found the feed unchanged, unless the feed has given
    nothing new for so long that it counts as frozen. `seen` is None where no service is asked.
    """
    limit = stale_after_seconds(settings)
    if snapshot is None:
        return {"known_at": None, "stale": True, "stale_after_seconds": limit}
    known_at, unchanged_at = snapshot, seen.unchanged_since(snapshot) if seen else None
    if unchanged_at is not None:
        patience = max(settings.alerts.frozen_seconds, limit)
        known_at = max(min(unchanged_at, snapshot + dt.timedelta(seconds=patience)), snapshot)
    # A snapshot from the future (a clock was set back) says as little of now as an old one.
    stale = abs((now - known_at).total_seconds()) > limit
    return {"known_at": f"{known_at:%Y-%m-%dT%H:%M:%SZ}", "stale": stale, "stale_after_seconds": limit}

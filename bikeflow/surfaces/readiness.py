"""Does it really work? One verdict a part, from what the roles tell and from how long they have been silent."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bikeflow.model import Fault, Vitals
from bikeflow.settings import Settings
from bikeflow.surfaces.observations import Observations

STALLED_SECONDS = 600.0
"""Jobs take seconds; a first look at a long archive, some minutes."""
_REFRESH_SECONDS = 10.0
_LISTING_SECONDS = 5.0

State = Literal["working", "starting", "failing"]
Verdict = Mapping[str, Fault | None]
"""What is wrong with each part, None where it works; ready means that all are None."""


@dataclass(frozen=True, slots=True)
class Limits:
    """For how long a part may be silent, in seconds, before it counts as broken: a little more than one interval."""

    fetch_seconds: float
    poll_seconds: float
    refresh_seconds: float
    stalled_seconds: float = STALLED_SECONDS

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Derived from the configured intervals; errors that the roles tell of need no limit."""
        interval = settings.feed.interval_seconds
        return cls(
            # A fetch may begin a tick late, try again all through its tick, and end with one last timeout.
            fetch_seconds=2 * interval + settings.feed.timeout_seconds,
            poll_seconds=2 * settings.watcher.poll_seconds + _LISTING_SECONDS,
            refresh_seconds=settings.warehouse.debounce_seconds + max(interval, _REFRESH_SECONDS),
        )


def assess(
    seen: Observations, vitals: Vitals | None, limits: Limits, database: Path, now: dt.datetime
) -> dict[str, Fault | None]:
    """The verdict at `now`; `vitals` is None as long as the pipeline is not open."""
    if vitals is None:
        starting = Fault(seen.started_at, "the service is starting")
        return dict.fromkeys(("fetching", "storing", "watching", "processing", "refreshing"), starting)
    return {
        "fetching": vitals.feed or seen.losing or _fetching(seen, limits, now),
        "storing": vitals.delivery,
        "watching": vitals.watcher or _watching(seen, vitals, limits, now),
        "processing": _processing(seen, vitals, limits, now),
        "refreshing": vitals.refresher or _refreshing(seen, limits, database, now),
    }


def state_of(seen: Observations, verdict: Verdict) -> State:
    """All works, something fails, or (`starting`) all that is amiss is what has not happened for the first time yet."""
    faults = [fault for fault in verdict.values() if fault is not None]
    if not faults:
        return "working"
    return "starting" if all(fault.since == seen.started_at for fault in faults) else "failing"


def verdict_document(
    verdict: Mapping[str, Fault | None], started_at: dt.datetime | None = None
) -> dict[str, dict[str, object]]:
    """The verdict as JSON: `{"fetching": {"works": false, "reason": ..., "since": ...}, ...}`.

    `"starting": true` is beside these where a part of the service that started then has not worked for the first time.
    """
    return {name: _part(fault, started_at) for name, fault in verdict.items()}


def _part(fault: Fault | None, started_at: dt.datetime | None) -> dict[str, object]:
    if fault is None:
        return {"works": True}
    part = {"works": False, "reason": fault.reason, "since": fault.since.strftime("%Y-%m-%dT%H:%M:%SZ")}
    return {**part, "starting": True} if fault.since == started_at else part


def _fetching(seen: Observations, limits: Limits, now: dt.datetime) -> Fault | None:
    if seen.last_fetch is None:
        return Fault(seen.started_at, "the first fetch has not ended yet")
    if _older(seen.last_fetch.at, limits.fetch_seconds, now):
        return Fault(seen.last_fetch.at, "no fetch has ended since")
    return None


def _watching(seen: Observations, vitals: Vitals, limits: Limits, now: dt.datetime) -> Fault | None:
    if vitals.polled_at is None:
        return Fault(seen.started_at, "the lake is being listed for the first time")
    # A full queue holds the watcher back: there is enough to do, and nothing is wrong with the store.
    if _older(vitals.polled_at, limits.poll_seconds, now) and not vitals.queue_full:
        return Fault(vitals.polled_at, "the store has not been looked at since")
    return None


def _processing(seen: Observations, vitals: Vitals, limits: Limits, now: dt.datetime) -> Fault | None:
    if seen.failing:
        faults = sorted(seen.failing.values(), key=lambda fault: fault.since)
        others = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return Fault(faults[0].since, f"{faults[0].reason}{others}")
    if vitals.queue_stalled_seconds > limits.stalled_seconds:
        jobs = vitals.queue_waiting + vitals.queue_in_flight
        return Fault(now - dt.timedelta(seconds=vitals.queue_stalled_seconds), f"none of {jobs} jobs has ended since")
    return None


def _refreshing(seen: Observations, limits: Limits, database: Path, now: dt.datetime) -> Fault | None:
    if seen.published is None:
        return Fault(seen.started_at, "the database has not been published yet")
    if seen.behind_since is not None and _older(seen.behind_since, limits.refresh_seconds, now):
        return Fault(seen.behind_since, "what was processed since is not published yet")
    if not database.exists():
        return Fault(seen.published.at, f"the published database {database} is gone; the next snapshot brings it back")
    return None


def _older(than: dt.datetime, seconds: float, now: dt.datetime) -> bool:
    return (now - than).total_seconds() > seconds

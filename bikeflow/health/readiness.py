"""Does it really work? One verdict a part, from what the roles tell and from how long they have been silent."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from bikeflow.core.model import Fault, LaneVitals, Vitals
from bikeflow.health.folding import folded, hosts_of
from bikeflow.health.observations import Observations
from bikeflow.settings import Settings
from bikeflow.settings.sections import FeedSettings

STALLED_SECONDS = 600.0
"""Jobs take seconds; a first look at a long archive, some minutes."""
WAITING_SECONDS = 60.0
"""For so long, and two intervals of its feed, a snapshot may wait for the store."""
_REFRESH_SECONDS = 10.0
_LISTING_SECONDS = 5.0

LANE_PARTS = ("fetching", "storing", "clock", "watching", "archive")
"""What has to work for each system by itself."""
PARTS = (*LANE_PARTS, "processing", "refreshing")
"""What has to work."""
State = Literal["working", "starting", "failing"]
Verdict = Mapping[str, Fault | None]
"""What is wrong with each part, None where it works; ready means that all are None."""


def assess(
    seen: Observations, vitals: Vitals | None, settings: Settings, database: Path, now: dt.datetime
) -> dict[str, Fault | None]:
    """The verdict at `now`; `vitals` is None as long as the pipeline is not open.

    A part may be silent for a little more than its interval before it counts as broken.
    """
    if vitals is None:
        return dict.fromkeys(PARTS, Fault(seen.started_at, "the service is starting"))
    verdicts = lane_verdicts(seen, vitals, settings, now)
    hosts = hosts_of(settings)
    longest = max(system.feed.interval_seconds for system in settings.all_systems)
    refresh_seconds = settings.warehouse.debounce_seconds + max(longest, _REFRESH_SECONDS)
    return {
        **{part: fold({name: one[part] for name, one in verdicts.items()}, hosts) for part in LANE_PARTS},
        "processing": _processing(seen, vitals, now),
        "refreshing": vitals.refresher or _refreshing(seen, refresh_seconds, database, now),
    }


def lane_verdicts(
    seen: Observations, vitals: Vitals, settings: Settings, now: dt.datetime
) -> dict[str, dict[str, Fault | None]]:
    """Of each system, what is wrong with each part that it has for itself."""
    feeds = {system.id: system.feed for system in settings.all_systems}
    look_seconds = 2 * settings.look_seconds + _LISTING_SECONDS
    return {
        name: {
            "fetching": lane.feed
            or lane.unspooled
            or seen.losing.get(name)
            or _fetching(seen, name, feeds.get(name), now),
            "storing": lane.delivery or _storing(lane, feeds.get(name), now),
            "clock": lane.clock,
            "watching": lane.watcher or _watching(seen, lane, look_seconds, now),
            "archive": lane.missing,
        }
        for name, lane in vitals.lanes.items()
    }


def fold(faults: Mapping[str, Fault | None], hosts: Mapping[str, str]) -> Fault | None:
    """The faults of several systems as one, since the oldest; it names systems, or hosts, where there are several."""
    found = sorted(((fault, name) for name, fault in faults.items() if fault), key=lambda item: item[0].since)
    if not found or len(faults) == 1:
        return found[0][0] if found else None
    counted = f"{len(found):,} of {len(faults):,} systems: " if len(found) > 1 else ""
    reason = f"{counted}{folded({name: fault.reason for fault, name in found}, hosts)}"
    return Fault(found[0][0].since, reason, len(found))


def state_of(seen: Observations, verdict: Verdict) -> State:
    """All works, something fails, or (`starting`) all faults are of what has not happened for the first time yet."""
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


def _fetching(seen: Observations, system_id: str, feed: FeedSettings | None, now: dt.datetime) -> Fault | None:
    last = seen.last_fetches.get(system_id)
    if last is None:
        return Fault(seen.started_at, "the first fetch has not ended yet")
    # A fetch may begin a tick late, try again all through its tick, and end with one last timeout.
    if _older(last.at, 2 * feed.interval_seconds + feed.timeout_seconds if feed else 0, now):
        return Fault(last.at, "no fetch has ended since")
    return None


def _storing(lane: LaneVitals, feed: FeedSettings | None, now: dt.datetime) -> Fault | None:
    """Whether snapshots wait for longer than it takes to store them, also where each single one gets there."""
    oldest_seconds = lane.spool_oldest_seconds
    if oldest_seconds <= WAITING_SECONDS + (2 * feed.interval_seconds if feed else 0):
        return None
    reason = f"{lane.spool_snapshots:,} snapshots wait for the store, the oldest since then"
    return Fault(now - dt.timedelta(seconds=oldest_seconds), reason)


def _watching(seen: Observations, lane: LaneVitals, seconds: float, now: dt.datetime) -> Fault | None:
    if lane.polled_at is None:
        return Fault(seen.started_at, "the lake is being listed for the first time")
    # A full queue holds the watcher back: there is enough to do, and nothing is wrong with the store.
    if _older(lane.polled_at, seconds, now) and not lane.queue_full:
        return Fault(lane.polled_at, "the store has not been looked at since")
    return None


def _processing(seen: Observations, vitals: Vitals, now: dt.datetime) -> Fault | None:
    if seen.failing:
        faults = sorted(seen.failing.values(), key=lambda fault: fault.since)
        others = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return Fault(faults[0].since, f"{faults[0].reason}{others}")
    if vitals.queue_stalled_seconds > STALLED_SECONDS:
        jobs = vitals.queue_waiting + vitals.queue_in_flight
        return Fault(now - dt.timedelta(seconds=vitals.queue_stalled_seconds), f"none of {jobs} jobs has ended since")
    return None


def _refreshing(seen: Observations, seconds: float, database: Path, now: dt.datetime) -> Fault | None:
    if seen.published is None:
        return Fault(seen.started_at, "the database has not been published yet")
    if seen.behind_since is not None and _older(seen.behind_since, seconds, now):
        return Fault(seen.behind_since, "what was processed since is not published yet")
    if not database.exists():
        return Fault(seen.published.at, f"the published database {database} is gone; the next snapshot brings it back")
    return None


def _older(than: dt.datetime, seconds: float, now: dt.datetime) -> bool:
    return (now - than).total_seconds() > seconds

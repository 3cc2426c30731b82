"""Which alert conditions hold now, judged by the state of each part and by recent events."""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Mapping

from bikeflow.core.model import UTC, Event, Fault, FetchFinished, LaneVitals, Run, RunFinished, SchemaDrifted, Vitals
from bikeflow.health.alerts.messages import Alert
from bikeflow.health.readiness import Verdict
from bikeflow.settings import Settings
from bikeflow.settings.systems import System

WINDOW = dt.timedelta(hours=1)
"""Over which the share of rejected lines is taken, and for which a drift of the schema counts."""
ENOUGH_LINES = 100
_PERCENT = 100


class Conditions:
    """Remembers the events that alerts depend on; `faults` gives the conditions that hold."""

    def __init__(self) -> None:
        self._began_at = dt.datetime.now(UTC)
        self._moved_at: dict[str, dt.datetime] = {}
        self._runs: deque[tuple[dt.datetime, Run]] = deque()
        self._drifted: dict[str, tuple[dt.datetime, str]] = {}
        self._since: dict[Alert, dt.datetime] = {}

    def observe(self, event: Event) -> None:
        """Take note of an event."""
        now = dt.datetime.now(UTC)
        match event:
            case FetchFinished() if event.outcome.outcome == "stored":
                self._moved_at[event.system_id] = event.at
            case RunFinished():
                self._runs.append((now, event.run))
            case SchemaDrifted():
                self._drifted[event.system_id] = (now, ", ".join(event.columns))

    def faults(
        self, settings: Settings, verdict: Verdict, vitals: Vitals | None, free_bytes: int, now: dt.datetime
    ) -> dict[Alert, Fault | None]:
        """All alerts, with None for what is well; `free_bytes` is the room on `data_dir`'s disk."""
        lanes, systems = vitals.lanes if vitals else {}, settings.all_systems
        only_one_is_silent = len(systems) == 1 and verdict.get("fetching") is not None
        while self._runs and now - self._runs[0][0] > WINDOW:
            self._runs.popleft()
        self._drifted = {name: seen for name, seen in self._drifted.items() if now - seen[0] <= WINDOW}
        drifts = {name: f"unknown columns: {columns}" for name, (_, columns) in self._drifted.items()}
        reasons: dict[Alert, str | None] = {
            "feed_frozen": None
            if only_one_is_silent
            else _named({system.id: self._frozen(settings, system, lanes.get(system.id), now) for system in systems}),
            "spool_filling": _named({system.id: _spool(settings, system, lanes.get(system.id)) for system in systems}),
            "dead_letters": _named({system.id: self._dead_letters(settings, system.id) for system in systems}),
            "disk_low": _disk(settings, free_bytes),
            "schema_drift": _named({system.id: drifts.get(system.id) for system in systems}),
        }
        faults: dict[Alert, Fault | None] = {
            "feed_silent": verdict.get("fetching"),
            "storage_unreachable": verdict.get("storing") or verdict.get("watching"),
            "clock_wrong": verdict.get("timing"),
            "raw_files_missing": verdict.get("keeping"),
            "runs_failing": verdict.get("processing"),
            "refresh_stuck": verdict.get("refreshing"),
        }
        for alert, reason in reasons.items():
            if reason is None:
                self._since.pop(alert, None)
                faults[alert] = None
            else:
                faults[alert] = Fault(self._since.setdefault(alert, now), reason)
        return faults

    def _frozen(self, settings: Settings, system: System, lane: LaneVitals | None, now: dt.datetime) -> str | None:
        moved_at = self._moved_at.get(system.id, self._began_at)
        patience = max(settings.alerts.frozen_seconds, 3 * system.feed.interval_seconds)
        if (lane is not None and lane.feed is not None) or (now - moved_at).total_seconds() < patience:
            return None
        return f"the feed has given nothing new since {moved_at:%Y-%m-%d %H:%M:%S} UTC"

    def _dead_letters(self, settings: Settings, system_id: str) -> str | None:
        runs = [run for _, run in self._runs if run.partition.system_id == system_id]
        lines, rejected = sum(run.lines for run in runs), sum(run.rejected for run in runs)
        limit = settings.alerts.dead_letter_percent
        if lines < ENOUGH_LINES or _PERCENT * rejected <= limit * lines:
            return None
        share = _PERCENT * rejected / lines
        return f"{rejected:,} of {lines:,} lines of the last hour were rejected: {share:.1f} %, above {limit:g} %"


def _named(reasons: Mapping[str, str | None]) -> str | None:
    """The reasons of all systems as one, which names its system where there are several."""
    found = [f"{name}: {reason}" if len(reasons) > 1 else reason for name, reason in reasons.items() if reason]
    return "; ".join(found) or None


def _spool(settings: Settings, system: System, lane: LaneVitals | None) -> str | None:
    share = _PERCENT * (lane.spool_bytes if lane else 0) / system.feed.spool_max_bytes
    if lane is None or share < settings.alerts.spool_percent:
        return None
    return f"{lane.spool_snapshots:,} snapshots wait for the store: {share:.0f} % of feed.spool_max_bytes"


def _disk(settings: Settings, free: int) -> str | None:
    if free >= settings.alerts.disk_free_bytes:
        return None
    return f"{free // 2**20:,} MiB are free for {settings.data_dir.absolute()}"

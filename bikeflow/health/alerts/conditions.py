"""Which alert conditions hold now, judged by the state of each part and by recent events."""

from __future__ import annotations

import datetime as dt
from collections import Counter, deque
from collections.abc import Callable, Mapping

from bikeflow.core.model import UTC, Event, Fault, FetchFinished, LaneVitals, Run, RunFinished, SchemaDrifted, Vitals
from bikeflow.health.alerts.messages import Alert
from bikeflow.health.folding import folded, hosts_of
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
        self._runs: deque[tuple[dt.datetime, str, int, int]] = deque()
        """Of each run of the last hour: its time and system, its lines, and those that were rejected."""
        self._lines: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._drifted: dict[str, tuple[dt.datetime, str]] = {}
        self._since: dict[Alert, dt.datetime] = {}

    def observe(self, event: Event) -> None:
        """Take note of an event."""
        now = dt.datetime.now(UTC)
        match event:
            case FetchFinished() if event.outcome.outcome == "stored":
                self._moved_at[event.system_id] = event.at
            case RunFinished():
                self._ran(now, event.run)
            case SchemaDrifted():
                self._drifted[event.system_id] = (now, ", ".join(event.columns))

    def faults(
        self, settings: Settings, verdict: Verdict, vitals: Vitals | None, free_bytes: int, now: dt.datetime
    ) -> dict[Alert, Fault | None]:
        """All alerts, with None for what is well; `free_bytes` is the room on `data_dir`'s disk."""
        lanes, systems, hosts = vitals.lanes if vitals else {}, settings.all_systems, hosts_of(settings)
        only_one_is_silent = len(systems) == 1 and verdict.get("fetching") is not None
        self._forget_runs(now)
        self._drifted = {name: seen for name, seen in self._drifted.items() if now - seen[0] <= WINDOW}
        drifts = {name: f"unknown columns: {columns}" for name, (_, columns) in self._drifted.items()}

        def named(judge: Callable[[System], str | None]) -> str | None:
            return _named({system.id: judge(system) for system in systems}, hosts)

        reasons: dict[Alert, str | None] = {
            "feed_frozen": None
            if only_one_is_silent
            else named(lambda system: self._frozen(settings, system, lanes.get(system.id), now)),
            "spool_filling": named(lambda system: _spool(settings, system, lanes.get(system.id))),
            "dead_letters": named(lambda system: self._dead_letters(settings, system.id)),
            "disk_low": _disk(settings, free_bytes),
            "schema_drift": named(lambda system: drifts.get(system.id)),
        }
        faults: dict[Alert, Fault | None] = {
            "feed_silent": verdict.get("fetching"),
            "storage_unreachable": verdict.get("storing") or verdict.get("watching"),
            "clock_wrong": verdict.get("clock"),
            "raw_files_missing": verdict.get("archive"),
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

    def _ran(self, now: dt.datetime, run: Run) -> None:
        self._forget_runs(now)
        system_id = run.partition.system_id
        self._runs.append((now, system_id, run.lines, run.rejected))
        self._lines[system_id] += run.lines
        self._rejected[system_id] += run.rejected

    def _forget_runs(self, now: dt.datetime) -> None:
        while self._runs and now - self._runs[0][0] > WINDOW:
            _, system_id, lines, rejected = self._runs.popleft()
            self._lines[system_id] -= lines
            self._rejected[system_id] -= rejected

    def _dead_letters(self, settings: Settings, system_id: str) -> str | None:
        lines, rejected = self._lines[system_id], self._rejected[system_id]
        limit = settings.alerts.dead_letter_percent
        if lines < ENOUGH_LINES or _PERCENT * rejected <= limit * lines:
            return None
        share = _PERCENT * rejected / lines
        return f"{rejected:,} of {lines:,} lines of the last hour were rejected: {share:.1f} %, above {limit:g} %"


def _named(reasons: Mapping[str, str | None], hosts: Mapping[str, str]) -> str | None:
    """The reasons of all systems as one, which names systems where there are several."""
    found = {name: reason for name, reason in reasons.items() if reason}
    return next(iter(found.values()), None) if len(reasons) == 1 else folded(found, hosts) or None


def _spool(settings: Settings, system: System, lane: LaneVitals | None) -> str | None:
    share = _PERCENT * (lane.spool_bytes if lane else 0) / system.feed.spool_max_bytes
    if lane is None or share < settings.alerts.spool_percent:
        return None
    return f"{lane.spool_snapshots:,} snapshots wait for the store: {share:.0f} % of feed.spool_max_bytes"


def _disk(settings: Settings, free: int) -> str | None:
    if free >= settings.alerts.disk_free_bytes:
        return None
    return f"{free // 2**20:,} MiB are free for {settings.data_dir.absolute()}"

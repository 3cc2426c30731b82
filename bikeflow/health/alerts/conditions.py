"""What is amiss now, alert by alert: from what the parts tell, and from what was seen of their events."""

from __future__ import annotations

import datetime as dt
import shutil
from collections import deque
from pathlib import Path

from bikeflow.core.model import UTC, Event, Fault, FetchFinished, RunFinished, SchemaDrifted, Vitals
from bikeflow.health.alerts.messages import Alert
from bikeflow.health.readiness import Verdict
from bikeflow.settings import Settings

WINDOW = dt.timedelta(hours=1)
"""Over which the share of rejected lines is taken, and for which a drift of the schema counts."""
ENOUGH_LINES = 100
_PERCENT = 100


class Conditions:
    """Listens to the roles; `faults` says what is amiss."""

    def __init__(self) -> None:
        self._moved_at = dt.datetime.now(UTC)
        self._good_since: dt.datetime | None = None
        self._runs: deque[tuple[dt.datetime, int, int]] = deque()
        self._drifted: tuple[dt.datetime, dt.datetime, str] | None = None
        self._since: dict[Alert, dt.datetime] = {}

    def observe(self, event: Event) -> None:
        """Take note of an event."""
        now = dt.datetime.now(UTC)
        match event:
            case FetchFinished() if event.outcome.outcome == "stored":
                self._moved_at = event.at
            case RunFinished():
                self._runs.append((now, event.run.lines, event.run.rejected))
            case SchemaDrifted():
                first = self._drifted[0] if self._drifted else now
                self._drifted = (first, now, ", ".join(event.columns))

    def faults(
        self, settings: Settings, verdict: Verdict, vitals: Vitals | None, free_bytes: int, now: dt.datetime
    ) -> dict[Alert, Fault | None]:
        """All alerts, with None for what is well; `free_bytes` is the room on `data_dir`'s disk."""
        reasons: dict[Alert, str | None] = {
            "feed_frozen": self._frozen(settings, now) if verdict.get("fetching") is None else None,
            "spool_filling": _spool(settings, vitals),
            "dead_letters": self._dead_letters(settings, now),
            "disk_low": _disk(settings, free_bytes),
            "schema_drift": self._drift(now),
        }
        faults: dict[Alert, Fault | None] = {
            "feed_silent": verdict.get("fetching"),
            "storage_unreachable": verdict.get("storing") or verdict.get("watching"),
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

    def _frozen(self, settings: Settings, now: dt.datetime) -> str | None:
        patience = max(settings.alerts.frozen_seconds, 3 * settings.feed.interval_seconds)
        if (now - self._moved_at).total_seconds() < patience:
            return None
        return f"the feed has given nothing new since {self._moved_at:%Y-%m-%d %H:%M:%S} UTC"

    def _dead_letters(self, settings: Settings, now: dt.datetime) -> str | None:
        while self._runs and now - self._runs[0][0] > WINDOW:
            self._runs.popleft()
        lines, rejected = sum(run[1] for run in self._runs), sum(run[2] for run in self._runs)
        limit = settings.alerts.dead_letter_percent
        if lines < ENOUGH_LINES or _PERCENT * rejected <= limit * lines:
            return None
        share = _PERCENT * rejected / lines
        return f"{rejected:,} of {lines:,} lines of the last hour were rejected: {share:.1f} %, above {limit:g} %"

    def _drift(self, now: dt.datetime) -> str | None:
        if self._drifted is None or now - self._drifted[1] > WINDOW:
            self._drifted = None
            return None
        return f"unknown columns: {self._drifted[2]}"


def free_bytes(data_dir: Path) -> int:
    """The room that is left on the disk of `data_dir`; blocks."""
    return shutil.disk_usage(data_dir).free


def _spool(settings: Settings, vitals: Vitals | None) -> str | None:
    share = _PERCENT * (vitals.spool_bytes if vitals else 0) / settings.feed.spool_max_bytes
    if vitals is None or share < settings.alerts.spool_percent:
        return None
    return f"{vitals.spool_snapshots:,} snapshots wait for the store: {share:.0f} % of feed.spool_max_bytes"


def _disk(settings: Settings, free: int) -> str | None:
    if free >= settings.alerts.disk_free_bytes:
        return None
    return f"{free // 2**20:,} MiB are free for {settings.data_dir.absolute()}"

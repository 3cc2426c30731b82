"""From conditions to messages: one for an incident, a reminder now and then, one when it is over."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import TypeAdapter

from bikeflow.core.model import Fault
from bikeflow.health.alerts.messages import Alert, Message, problem, recovery
from bikeflow.settings.sections import AlertsSettings

GROWN = 2
"""An incident that has so many times the systems that people were told of is told again before its time."""


@dataclass(slots=True)
class Incident:
    """One that is open: `told_at` is None until a message of it has arrived, `clear_since` while it lasts.

    `systems` have it, of which `told_systems` were told; `grown_since` is since when these are more than twice as many.
    """

    since: dt.datetime
    reason: str
    told_at: dt.datetime | None = None
    clear_since: dt.datetime | None = None
    systems: int = 1
    told_systems: int = 0
    grown_since: dt.datetime | None = None

    def note(self, fault: Fault, now: dt.datetime) -> None:
        """It is still so, and in so many systems."""
        self.reason, self.systems, self.clear_since = fault.reason, fault.systems, None
        grown = 0 < self.told_systems * GROWN <= self.systems
        self.grown_since = (self.grown_since or now) if grown else None

    def is_due(self, settings: AlertsSettings, now: dt.datetime) -> bool:
        """Whether people should be told of it, or told again: after a while, or when it has grown."""
        if self.told_at is None or _seconds(self.told_at, now) >= settings.cooldown_seconds:
            return True
        return self.grown_since is not None and _seconds(self.grown_since, now) >= settings.grace_seconds


_KEPT = TypeAdapter(dict[Alert, Incident])


class Incidents:
    """The open incidents; `due` gives the next message, and `told` has to follow when somebody has got it."""

    def __init__(self, incidents: dict[Alert, Incident] | None = None) -> None:
        self._open = incidents or {}

    @property
    def open(self) -> frozenset[Alert]:
        """What is wrong now, of which people were told or will be."""
        return frozenset(self._open)

    def observe(self, faults: Mapping[Alert, Fault | None], settings: AlertsSettings, now: dt.datetime) -> None:
        """Open what has lasted long enough, and note since when what is open has been well."""
        for alert, fault in faults.items():
            incident = self._open.get(alert)
            if fault is None:
                if incident is not None:
                    incident.clear_since = incident.clear_since or now
            elif incident is not None:
                incident.note(fault, now)
            elif _seconds(fault.since, now) >= settings.grace_seconds:
                self._open[alert] = Incident(fault.since, fault.reason, systems=fault.systems)

    def due(self, settings: AlertsSettings, now: dt.datetime) -> tuple[Alert, Message] | None:
        """A message that somebody should get now, or None."""
        for alert, incident in self._open.items():
            over = incident.clear_since
            if over is not None:
                if _seconds(over, now) >= settings.grace_seconds:
                    return alert, recovery(alert, incident.reason, incident.since, over)
            elif incident.is_due(settings, now):
                reminder = incident.told_at is not None
                return alert, problem(alert, incident.reason, incident.since, reminder=reminder)
        return None

    def told(self, alert: Alert, message: Message, now: dt.datetime) -> None:
        """This message has arrived."""
        if message.kind == "recovery":
            self._open.pop(alert, None)
        elif alert in self._open:
            incident = self._open[alert]
            incident.told_at, incident.told_systems, incident.grown_since = now, incident.systems, None

    def dump(self) -> str:
        """As JSON, to be kept across restarts."""
        return _KEPT.dump_json(self._open).decode()

    @classmethod
    def load(cls, text: str) -> Incidents:
        """From `dump`; raises ValueError for anything else."""
        return cls(_KEPT.validate_json(text))


def _seconds(since: dt.datetime, now: dt.datetime) -> float:
    return (now - since).total_seconds()

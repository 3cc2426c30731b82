"""What differs between two configurations, in words for the log."""

from __future__ import annotations

from operator import attrgetter

from bikeflow.settings.model import FIELDS, SECRETS, Settings, public_values
from bikeflow.settings.systems import public_url

_WITHOUT_PIPELINE = ("http", "log", "daemon", "alerts")
"""Sections that no role reads."""


def changes(old: Settings, new: Settings) -> dict[str, str]:
    """Each setting that differs, by its flat name, with `old -> new`; of secrets only that they have changed."""
    before, after = public_values(old), public_values(new)
    found: dict[str, str] = {}
    for key in FIELDS:
        value = attrgetter(key)
        if value(old) == value(new):
            continue
        values = [_shown(key, values[key]) for values in (before, after)]
        found[key] = "changed" if key in SECRETS or values[0] == values[1] else " -> ".join(values)
    return found


def concerns_pipeline(changed: dict[str, str]) -> bool:
    """Whether the roles must be restarted for these changes to take effect."""
    return any(key.partition(".")[0] not in _WITHOUT_PIPELINE for key in changed)


def _shown(key: str, value: object) -> str:
    if key == "feed.url":
        return public_url(str(value))
    if isinstance(value, list):  # of systems, whose URLs may hold one as well
        return ", ".join(table["id"] for table in value) or "none"
    return "none" if value is None else str(value) or '""'

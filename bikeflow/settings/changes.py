"""What differs between two configurations, in words for the log."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from bikeflow.settings.model import FIELDS, SECRETS, Settings, public_values
from bikeflow.settings.systems import public_url

LISTED_SYSTEMS, NAMED = 10, 3
"""So many systems are listed, before and after; of more only what differs, and of that so many by name."""
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
        if key == "systems" and max(len(old.systems), len(new.systems)) > LISTED_SYSTEMS:
            found[key] = _counted(old, new)
            continue
        values = [_shown(key, values[key]) for values in (before, after)]
        found[key] = "changed" if key in SECRETS or values[0] == values[1] else " -> ".join(values)
    return found


def concerns_pipeline(changed: dict[str, str]) -> bool:
    """Whether the roles must be restarted for these changes to take effect."""
    return any(key.partition(".")[0] not in _WITHOUT_PIPELINE for key in changed)


def _counted(old: Settings, new: Settings) -> str:
    """What differs between many systems, such as `1,500 systems: added ulm, changed nyc, oslo, wien and 2 more`."""
    before, after = ({table.id: table for table in settings.systems} for settings in (old, new))
    differences = {
        "added": after.keys() - before.keys(),
        "removed": before.keys() - after.keys(),
        "changed": {name for name in before.keys() & after.keys() if before[name] != after[name]},
    }
    told = [f"{what} {some(sorted(names))}" for what, names in differences.items() if names]
    return f"{len(after):,} systems: {', '.join(told) or 'in another order'}"


def some(names: Sequence[str]) -> str:
    """Names, of which no more than three are named where there are many: `a, b, c and 12 more`."""
    if len(names) <= NAMED + 1:
        return ", ".join(names)
    return f"{', '.join(names[:NAMED])} and {len(names) - NAMED:,} more"


def _shown(key: str, value: object) -> str:
    if key == "feed.url":
        return public_url(str(value))
    if isinstance(value, list):  # of systems, whose URLs may hold one as well
        return ", ".join(table["id"] for table in value) or "none"
    return "none" if value is None else str(value) or '""'

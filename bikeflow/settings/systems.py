"""The systems that are configured: each `[[systems]]` table with its defaults filled in, or the one system `wrm`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from pydantic import ValidationError

from bikeflow.settings.sections import FeedSettings, RulesSettings, StorageSettings, SystemSettings

WRM = "wrm"
"""The id of the one system that `[feed]`, `[rules]` and `storage.prefix` describe where there is no `[[systems]]`."""

WHOLE_WORLD = {"lat_min": -90.0, "lat_max": 90.0, "lon_min": -180.0, "lon_max": 180.0}
"""The service area of a system of another format whose configuration names none: the default one is Wrocław."""

_RESERVED = ("raw/", "processed/", "enhanced/", "dlq/", "polls/", "duckdb/")
"""What lies below a system's prefix: no other system's prefix may begin there."""


@dataclass(frozen=True, slots=True)
class System:
    """One bike-share system: everything that is its own.

    `prefix` is that of its keys in the lake (empty, or ending in a slash), `timezone` an IANA name.
    """

    id: str
    name: str
    format: str
    prefix: str
    timezone: str
    feed: FeedSettings
    rules: RulesSettings


def public_url(url: str) -> str:
    """The URL fit for logs and pages: without user name, password and query, which may hold secrets."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def place_of(storage: StorageSettings, system: System) -> str:
    """Where the system's lake lies: two settings that give the same name the same objects."""
    bucket = "" if storage.backend == "local" else f"{storage.endpoint_url} {storage.bucket} "
    return f"{storage.backend} {bucket}{system.prefix}"


def the_one_system(feed: FeedSettings, storage: StorageSettings, rules: RulesSettings) -> System:
    """The system of a configuration without `[[systems]]`."""
    name = "Wrocławski Rower Miejski"
    return System(WRM, name, "wrm", storage.prefix, "Europe/Warsaw", feed, rules)


def completed(table: SystemSettings, feed: FeedSettings, rules: RulesSettings) -> System:
    """A `[[systems]]` table with what it does not set taken from `[feed]` and `[rules]`.

    Raises ValueError where its rules and those of `[rules]` do not fit together.
    """
    own = {name: value for name in FeedSettings.model_fields if (value := getattr(table, name, None)) is not None}
    prefix = f"bike-data/{table.id}/" if table.prefix is None else table.prefix
    area = {} if table.format == WRM or rules.model_fields_set & WHOLE_WORLD.keys() else WHOLE_WORLD
    try:
        rules = RulesSettings.model_validate(rules.model_dump() | area | table.rules.model_dump(exclude_none=True))
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ValueError(f'systems: "{table.id}" with [rules]: {reason}') from None
    feed = feed.model_copy(update=own)
    return System(table.id, table.name or table.id, table.format, prefix, table.timezone, feed, rules)


def conflicts(systems: Iterable[System]) -> Iterator[str]:
    """What is wrong between systems: ids and prefixes that collide, one sentence each."""
    by_id: dict[str, System] = {}
    by_prefix: dict[str, System] = {}
    for system in systems:
        other = by_prefix.get(system.prefix)
        if system.id in by_id:
            yield f'two systems have the id "{system.id}"'
        elif other is not None:
            yield f'"{other.id}" and "{system.id}" have the same prefix "{system.prefix}"'
        by_id.setdefault(system.id, system)
        by_prefix.setdefault(system.prefix, system)
    for system in by_prefix.values():
        for above in _taken_folders(system.prefix):
            if (other := by_prefix.get(above)) is not None:
                yield f'the prefix "{system.prefix}" of "{system.id}" and "{other.prefix}" of "{other.id}" overlap'


def _taken_folders(prefix: str) -> list[str]:
    """The prefixes of systems that would take objects below `prefix` for their own."""
    ends = (found.start() for folder in _RESERVED for found in re.finditer(re.escape(folder), prefix))
    return [prefix[:end] for end in sorted(ends)]

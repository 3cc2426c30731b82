"""What a stranger wants to know of a GBFS system before adding it, from one snapshot."""

from __future__ import annotations

import datetime as dt
import json
import re
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bikeflow.core.model import Partition, RawFile
from bikeflow.feeds.base import RawContent
from bikeflow.feeds.gbfs.container import manifest, unpack
from bikeflow.feeds.gbfs.documents import SYSTEM, NotJson, localized, read_json, ttl_seconds
from bikeflow.feeds.gbfs.oddities import Oddity, oddities
from bikeflow.feeds.gbfs.parsing import parse_files, read_snapshot
from bikeflow.feeds.gbfs.values import Rejected, moment
from bikeflow.settings.sections import RulesSettings

USUAL_SECONDS = 60
LONGEST_SECONDS = 86_400
_MARGIN_DEGREES = 0.02
_LONGEST_ID = 63


@dataclass(frozen=True, slots=True)
class DocumentReport:
    """One document: `age_seconds` is that of its `last_updated`; None where it is unknown."""

    name: str
    url: str
    version: str | None
    bytes: int | None
    ttl_seconds: float | None
    age_seconds: float | None
    records: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Probe:
    """What one snapshot tells of a system; texts are None where the feed does not tell them."""

    url: str
    system_id: str | None
    name: str | None
    operator: str | None
    timezone: str | None
    licence: str | None
    contact: str | None
    version: str | None
    documents: tuple[DocumentReport, ...]
    stations: int
    vehicles: int
    rejected: int
    box: tuple[float, float, float, float] | None
    """South, west, north and east of everything that has a position."""
    oddities: tuple[Oddity, ...]

    @property
    def systems_block(self) -> str:
        """The `[[systems]]` table for the configuration file."""
        interval = max([USUAL_SECONDS, *(item.ttl_seconds or 0 for item in self.documents if "status" in item.name)])
        lines = [
            "[[systems]]",
            f"id = {_quoted(_id(self.system_id or self.name or 'system'))}",
            f"name = {_quoted(self.name or self.system_id or 'system')}",
            'format = "gbfs"',
            f"url = {_quoted(self.url)}",
            f"interval_seconds = {round(min(interval, LONGEST_SECONDS))}",
            f"timezone = {_quoted(self.timezone if self.timezone and _is_zone(self.timezone) else 'UTC')}",
        ]
        if self.box is not None:
            south, west, north, east = self.box
            lines.append(f"rules = {{ lat_min = {south}, lat_max = {north}, lon_min = {west}, lon_max = {east} }}")
        return "\n".join(lines)


def probe(url: str, data: bytes, at: dt.datetime) -> Probe:
    """Look at the raw object of a snapshot that was fetched from `url` at this time."""
    raw = RawFile("", Partition("", at.date()), at, len(data), "", at)
    snapshot, bodies = read_snapshot(data), unpack(data)
    (parsed,) = parse_files([RawContent(raw, "", data)], RulesSettings())
    documents = {name: _json(body) for name, body in bodies.items()}
    about = _mapping(_mapping(documents.get(SYSTEM)).get("data"))
    kinds = parsed.table["record_type"].to_pylist()
    places = zip(parsed.table["lat"].to_pylist(), parsed.table["lon"].to_pylist(), strict=True)
    reports = tuple(_document_report(entry, documents, bodies, snapshot.arrays, at) for entry in manifest(data))
    odd = oddities(snapshot.arrays, parsed.dead_letters, at)
    zone = localized(about.get("timezone"))
    if zone is None or not _is_zone(zone):
        odd.append(Oddity("no usable time zone", 1, (zone or "not told",)))
    return Probe(
        url=url,
        system_id=localized(about.get("system_id")),
        name=localized(about.get("name")),
        operator=_told(about, "operator"),
        timezone=zone,
        licence=_told(about, "license_id", "license_url"),
        contact=_told(about, "feed_contact_email", "email"),
        version=next((item.version for item in reports if item.version), None),
        documents=reports,
        stations=kinds.count("station"),
        vehicles=kinds.count("bike"),
        rejected=parsed.rejected,
        box=_box([place for place in places if place not in ((None, None), (0, 0))]),
        oddities=tuple(odd),
    )


def _document_report(
    entry: Mapping[str, object],
    documents: Mapping[str, Any],
    bodies: Mapping[str, bytes],
    arrays: Mapping[str, list[Any]],
    at: dt.datetime,
) -> DocumentReport:
    name = str(entry["name"])
    header = _mapping(documents.get(name))
    body = bodies.get(name)
    error = entry["error"]
    return DocumentReport(
        name=name,
        url=str(entry["url"]),
        version=localized(header.get("version")),
        bytes=None if body is None else len(body),
        ttl_seconds=ttl_seconds(header) if "ttl" in header else None,
        age_seconds=_age_seconds(header, at),
        records=len(arrays[name]) if name in arrays else None,
        error=None if error is None else str(error),
    )


def _age_seconds(header: Mapping[str, Any], at: dt.datetime) -> float | None:
    try:
        updated = moment(header, "last_updated")
    except Rejected:
        return None
    return None if updated is None else round(at.timestamp() - updated / 1_000_000, 1)


def _json(body: bytes) -> Any:
    try:
        return read_json(body)
    except NotJson:
        return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _told(about: Mapping[str, Any], *names: str) -> str | None:
    return next((text for name in names if (text := localized(about.get(name))) is not None), None)


def _box(places: list[tuple[float, float]]) -> tuple[float, float, float, float] | None:
    if not places:
        return None
    lats, lons = ([place[axis] for place in places] for axis in (0, 1))
    south, north = (round(value, 2) for value in (min(lats) - _MARGIN_DEGREES, max(lats) + _MARGIN_DEGREES))
    west, east = (round(value, 2) for value in (min(lons) - _MARGIN_DEGREES, max(lons) + _MARGIN_DEGREES))
    return max(south, -90.0), max(west, -180.0), min(north, 90.0), min(east, 180.0)


def _is_zone(name: str) -> bool:
    try:
        return bool(zoneinfo.ZoneInfo(name).key)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False


def _id(text: str) -> str:
    """An id that a configuration accepts."""
    return re.sub(r"[^a-z0-9_-]+", "_", text.lower()).strip("_-")[:_LONGEST_ID] or "system"


def _quoted(text: str) -> str:
    """A TOML string: JSON's escapes are among TOML's."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")

"""From GBFS records to rows: the mapping that README.md tells column by column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bikeflow.feeds.gbfs.documents import localized
from bikeflow.feeds.gbfs.values import Record, Rejected, degrees, identity, moment, real, share, truth, whole

_BICYCLES = ("bicycle", "cargo_bicycle")
_ELECTRIC = ("electric_assist", "electric")
Row = dict[str, Any]
"""The values of a row that are not null, by column; `timestamp` in microseconds since 1970 (UTC)."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a snapshot tells beside its records: stations' information by id, and which vehicle types are e-bikes."""

    information: Mapping[str, Record] = field(default_factory=dict)
    pedelecs: Mapping[str, bool] = field(default_factory=dict)


def context_of(information: list[Any], types: list[Any]) -> Context:
    """Of ids that are there twice, the first counts; what has no id is left out."""
    stations: dict[str, Record] = {}
    for item in information:
        if (key := _identity(item, "station_id")) is not None:
            stations.setdefault(key, item)
    pedelecs: dict[str, bool] = {}
    for item in types:
        if (key := _identity(item, "vehicle_type_id")) is not None and item.get("propulsion_type") is not None:
            electric = item["propulsion_type"] in _ELECTRIC and item.get("form_factor") in _BICYCLES
            pedelecs.setdefault(key, electric)
    return Context(stations, pedelecs)


def station_row(record: Record, context: Context) -> Row:
    """The row of a station; raises `Rejected`."""
    station_id = identity(record, "station_id")
    about = context.information.get(station_id, {})
    lat, lon = _position(about)
    renting = truth(record, "is_renting")
    return {
        "station_id": station_id,
        "name": localized(about.get("name")),
        "timestamp": moment(record, "last_reported"),
        "lat": lat,
        "lon": lon,
        "bikes": whole(record, "num_vehicles_available", "num_bikes_available"),
        "spaces": whole(record, "num_docks_available"),
        "installed": truth(record, "is_installed"),
        "locked": None if renting is None else not renting,
        "temporary": truth(about, "is_virtual_station"),
        "total_docks": whole(about, "capacity"),
        "pedelecs": _pedelecs_at(record, context),
        "record_type": "station",
        "is_returning": truth(record, "is_returning"),
        "bikes_disabled": whole(record, "num_vehicles_disabled", "num_bikes_disabled"),
        "docks_disabled": whole(record, "num_docks_disabled"),
    }


def vehicle_row(record: Record, context: Context) -> Row:
    """The row of a vehicle; raises `Rejected`."""
    vehicle_id = identity(record, "vehicle_id", "bike_id")
    station, kind = _identity(record, "station_id"), _identity(record, "vehicle_type_id")
    lat, lon = _position(record)
    if lat is None and station is not None:
        lat, lon = _position(context.information.get(station, {}))
    reserved, disabled = truth(record, "is_reserved"), truth(record, "is_disabled")
    pedelec = None if kind is None else context.pedelecs.get(kind)
    return {
        "station_id": vehicle_id,
        "timestamp": moment(record, "last_reported"),
        "lat": lat,
        "lon": lon,
        "bikes": _takeable(reserved, disabled, docked=station is not None),
        "locked": reserved,
        "pedelecs": None if pedelec is None else int(pedelec),
        "record_type": "bike",
        "battery_level": share(record.get("current_fuel_percent")),
        "vehicle_type": kind,
        "bikes_disabled": None if disabled is None else int(disabled),
        "range_meters": real(record, "current_range_meters"),
    }


def _takeable(reserved: bool | None, disabled: bool | None, *, docked: bool) -> int | None:
    """How many bikes a vehicle adds to those at stations: none while it stands at one, which counts it."""
    if docked or reserved or disabled:
        return 0
    return None if reserved is None or disabled is None else 1


def _position(record: Record) -> tuple[float | None, float | None]:
    """Latitude and longitude; one without the other is no position."""
    lat, lon = degrees(record, "lat", 90), degrees(record, "lon", 180)
    return (None, None) if lat is None or lon is None else (lat, lon)


def _pedelecs_at(record: Record, context: Context) -> int | None:
    """The e-bikes of a station, as far as every type that stands there is defined."""
    available = record.get("vehicle_types_available")
    if isinstance(available, list) and context.pedelecs:
        counts = [(context.pedelecs.get(_identity(item, "vehicle_type_id") or ""), _count(item)) for item in available]
        if all(count is not None and (pedelec is not None or count == 0) for pedelec, count in counts):
            return sum(count or 0 for pedelec, count in counts if pedelec)
    own = _count(record, "num_ebikes_available")
    kinds = record.get("num_bikes_available_types")
    if own is None and isinstance(kinds, dict):
        return next((count for name in ("ebike", "electric") if (count := _count(kinds, name)) is not None), None)
    return own


def _count(record: Any, name: str = "count") -> int | None:
    """A count that the row can do without: None where it can't be used."""
    try:
        return whole(record, name) if isinstance(record, dict) else None
    except Rejected:
        return None


def _identity(record: Any, name: str) -> str | None:
    """An id that the row can do without."""
    try:
        return identity(record, name) if isinstance(record, dict) else None
    except Rejected:
        return None

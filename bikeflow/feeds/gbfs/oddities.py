"""What is odd in a GBFS snapshot: counted, with examples."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bikeflow.feeds.base import DeadLetter
from bikeflow.feeds.gbfs.documents import INFORMATION, STATIONS, TYPES, VEHICLES, localized
from bikeflow.feeds.gbfs.values import Rejected, identity, moment

EXAMPLES = 3
_DAY_US = 86_400 * 1_000_000
_IDS = {INFORMATION: ("station_id",), STATIONS: ("station_id",), TYPES: ("vehicle_type_id",)}
_VEHICLE_IDS = ("vehicle_id", "bike_id")
_FLAGS = ("is_installed", "is_renting", "is_returning", "is_reserved", "is_disabled")
Arrays = Mapping[str, list[Any]]


@dataclass(frozen=True, slots=True)
class Oddity:
    """One kind of oddity: how often it is there, and some examples (ids, or values)."""

    what: str
    count: int
    examples: tuple[str, ...]


def oddities(arrays: Arrays, letters: Iterable[DeadLetter], now: dt.datetime) -> list[Oddity]:
    """All that is odd in a snapshot's arrays (by document), whose rejected records are `letters`."""
    found = [
        *_rejected(letters),
        *_empty(arrays),
        *_ids(arrays),
        *_stations(arrays),
        *_types(arrays),
        *_times(arrays, round(now.timestamp() * 1_000_000)),
    ]
    return [Oddity(what, len(items), tuple(dict.fromkeys(items))[:EXAMPLES]) for what, items in found if items]


Found = Iterator[tuple[str, list[str]]]


def _rejected(letters: Iterable[DeadLetter]) -> Found:
    groups: dict[str, list[str]] = {}
    for letter in letters:
        groups.setdefault(letter.message, []).append((letter.value or letter.raw_line)[:80])
    for message, values in groups.items():
        yield f"rejected: {message}", values


def _empty(arrays: Arrays) -> Found:
    yield "empty lists", [name for name, items in arrays.items() if not items]


def _ids(arrays: Arrays) -> Found:
    for name in (INFORMATION, TYPES):  # elsewhere such a record is rejected
        nameless = [str(item)[:80] for item in arrays.get(name, []) if _id(name, item) is None]
        yield f"{name}: a record without an id", nameless
    for name, items in arrays.items():
        ids = [key for item in items if (key := _id(name, item)) is not None]
        yield f"{name}: an id is there more than once", [key for key, count in Counter(ids).items() if count > 1]
        numbers = [str(item.get(field)) for item in _objects(items) for field in _fields(name)
                   if isinstance(item.get(field), int)]  # fmt: skip
        yield f"{name}: the id is a number, not a text", numbers
        wrong = [key for item in _objects(items) if (key := _id(name, item)) is not None
                 and any(type(item.get(flag)) is int for flag in _FLAGS)]  # fmt: skip
        yield f"{name}: truth values are 0 and 1", wrong
    information, status = _by_id(INFORMATION, arrays), _by_id(STATIONS, arrays)
    if INFORMATION in arrays and STATIONS in arrays:
        yield f"stations in {STATIONS} only", [key for key in status if key not in information]
        yield f"stations in {INFORMATION} only, which give no row", [key for key in information if key not in status]


def _stations(arrays: Arrays) -> Found:
    information, status = _by_id(INFORMATION, arrays), _by_id(STATIONS, arrays)
    yield "stations without a position", [key for key, item in information.items() if _place(item) is None]
    yield "stations at 0, 0", [key for key, item in information.items() if _place(item) == (0, 0)]
    yield "stations without a capacity", [key for key, item in information.items() if item.get("capacity") is None]
    names = {key: localized(item.get("name")) for key, item in information.items()}
    yield "stations without a name", [key for key, name in names.items() if name is None]
    repeated = {name for name, count in Counter(names.values()).items() if name is not None and count > 1}
    yield "stations that share their name", [name for name in names.values() if name in repeated]
    spaced = [name for name in names.values() if name is not None and " ".join(name.split()) != name]
    yield "names with odd white space", spaced
    yield "unknown numbers written as -1", [
        f"{key} {field}" for key, item in status.items() for field, value in item.items()
        if value == -1 and field.startswith("num_")
    ]  # fmt: skip
    yield (
        "stations that do not tell their free docks",
        [key for key, item in status.items() if item.get("num_docks_available") is None],
    )
    over = [(key, _bikes(item), information.get(key, {}).get("capacity")) for key, item in status.items()]
    yield "more vehicles than docks", [
        f"{key}: {bikes} of {docks}" for key, bikes, docks in over
        if isinstance(bikes, int) and isinstance(docks, int) and bikes > docks
    ]  # fmt: skip
    unplaced = [key for name in VEHICLES for key, item in _by_id(name, arrays).items()
                if _place(item) is None and item.get("station_id") is None]  # fmt: skip
    yield "vehicles without a position or station", unplaced


def _types(arrays: Arrays) -> Found:
    defined, status = _by_id(TYPES, arrays), _by_id(STATIONS, arrays)
    sums, used = [], []
    for key, item in status.items():
        available = item.get("vehicle_types_available")
        entries = _objects(available) if isinstance(available, list) else []
        counts = [entry["count"] for entry in entries if isinstance(entry.get("count"), int)]
        if entries and isinstance(_bikes(item), int) and sum(counts) != _bikes(item):
            sums.append(f"{key}: {sum(counts)} of {_bikes(item)}")
        used += [str(entry.get("vehicle_type_id")) for entry in entries]
    for name in VEHICLES:
        used += [str(kind) for item in _by_id(name, arrays).values() if (kind := item.get("vehicle_type_id"))]
    yield "counts by type that do not add up to the vehicles available", sums
    yield "vehicle types that are used and not defined", [kind for kind in dict.fromkeys(used) if kind not in defined]


def _times(arrays: Arrays, now: int) -> Found:
    reported: dict[str, int | None] = {}
    for name in (STATIONS, *VEHICLES):
        for key, item in _by_id(name, arrays).items():
            try:
                reported[key] = moment(item, "last_reported")
            except Rejected:
                continue
    yield "never reported, as far as is told", [key for key, at in reported.items() if at is None]
    stale = sorted((at, key) for key, at in reported.items() if at is not None and at < now - _DAY_US)
    yield "last reported more than a day ago", [f"{key}: {_stamp(at)}" for at, key in stale]
    ahead = [f"{key}: {_stamp(at)}" for key, at in reported.items() if at is not None and at > now + 300_000_000]
    yield "last reported in the future", ahead


def _stamp(microseconds: int) -> str:
    at = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=microseconds)
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _objects(items: Iterable[Any]) -> list[dict[str, Any]]:
    return [item for item in items if isinstance(item, dict)]


def _fields(name: str) -> tuple[str, ...]:
    return _IDS.get(name, _VEHICLE_IDS)


def _id(name: str, item: Any) -> str | None:
    try:
        return identity(item, *_fields(name)) if isinstance(item, dict) else None
    except Rejected:
        return None


def _by_id(name: str, arrays: Arrays) -> dict[str, dict[str, Any]]:
    """The records of a document by their ids; of those that share one, the last."""
    return {key: item for item in arrays.get(name, []) if (key := _id(name, item)) is not None}


def _bikes(item: Mapping[str, Any]) -> Any:
    value = item.get("num_vehicles_available")
    return item.get("num_bikes_available") if value is None else value


def _place(item: Mapping[str, Any]) -> tuple[Any, Any] | None:
    lat, lon = item.get("lat"), item.get("lon")
    return None if lat is None or lon is None else (lat, lon)

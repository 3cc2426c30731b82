"""Which stations of two systems are the same: by their id, their name, or their place."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

By = Literal["id", "name", "place"]
FARTHEST_METERS: Mapping[By, float] = {"id": 1_000.0, "name": 500.0, "place": 60.0}
"""How far apart two stations may lie that have this in common. One whose place is unknown lies near enough."""
_EARTH_METERS = 6_371_000
_METERS_A_DEGREE = 111_195
# Letters that Unicode does not take apart.
_LETTERS = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ß": "ss", "æ": "ae", "œ": "oe"})


@dataclass(frozen=True, slots=True)
class Station:
    """A station as one system shows it now; what it does not tell is None."""

    id: str
    name: str | None
    lat: float | None
    lon: float | None
    bikes: int | None


@dataclass(frozen=True, slots=True)
class Pair:
    """One station in both systems, and by what it was found."""

    first: Station
    second: Station
    by: By


def matched(first: Iterable[Station], second: Iterable[Station]) -> list[Pair]:
    """The stations that both systems have, each at most once: by id where that can be, else by name, else by place."""
    left, right, pairs = list(first), list(second), list[Pair]()
    ways: tuple[tuple[By, Callable[[list[Station], list[Station], By], list[Pair]]], ...] = (
        ("id", lambda one, other, by: _by_key(one, other, by, lambda station: station.id)),
        ("name", lambda one, other, by: _by_key(one, other, by, lambda station: plain(station.name))),
        ("place", _by_place),
    )
    for by, match in ways:
        found = match(left, right, by)
        pairs += found
        taken, others = {pair.first.id for pair in found}, {pair.second.id for pair in found}
        left = [station for station in left if station.id not in taken]
        right = [station for station in right if station.id not in others]
    return pairs


def plain(name: str | None) -> str:
    """A name without accents, case, punctuation and the number that some feeds put in front of it."""
    text = unicodedata.normalize("NFKD", (name or "").casefold().translate(_LETTERS))
    words = re.sub(r"[^\w\s]|_", " ", "".join(letter for letter in text if not unicodedata.combining(letter))).split()
    return " ".join(words[1:] if len(words) > 1 and words[0].isdecimal() else words)


def distance_meters(one: Station, other: Station) -> float | None:
    """How far two stations lie from each other; None where a place is unknown."""
    if None in (one.lat, one.lon, other.lat, other.lon):
        return None
    lat, lon, lat2, lon2 = (math.radians(value or 0.0) for value in (one.lat, one.lon, other.lat, other.lon))
    chord = math.sin((lat2 - lat) / 2) ** 2 + math.cos(lat) * math.cos(lat2) * math.sin((lon2 - lon) / 2) ** 2
    return 2 * _EARTH_METERS * math.asin(math.sqrt(min(chord, 1.0)))


def _by_key(first: list[Station], second: list[Station], by: By, key: Callable[[Station], str]) -> list[Pair]:
    """Pairs of stations with the same key, if it is unique in both systems and they are near each other."""
    left, right = _unique(first, key), _unique(second, key)
    both = [Pair(left[name], right[name], by) for name in left.keys() & right.keys() if name]
    return sorted((pair for pair in both if _near(pair)), key=lambda pair: pair.first.id)


def _unique(stations: list[Station], key: Callable[[Station], str]) -> dict[str, Station]:
    found: dict[str, list[Station]] = {}
    for station in stations:
        found.setdefault(key(station), []).append(station)
    return {name: some[0] for name, some in found.items() if len(some) == 1}


def _near(pair: Pair) -> bool:
    meters = distance_meters(pair.first, pair.second)
    return meters is None or meters <= FARTHEST_METERS[pair.by]


def _by_place(first: list[Station], second: list[Station], by: By) -> list[Pair]:
    """Those that are each other's nearest; the nearest pairs first."""
    cells: dict[tuple[int, int], list[Station]] = {}
    for station in second:
        for cell in _cells(station, 0):
            cells.setdefault(cell, []).append(station)
    near = [
        (meters, one.id, other.id, Pair(one, other, by))
        for one in first
        for cell in _cells(one, 1)
        for other in cells.get(cell, ())
        if (meters := distance_meters(one, other)) is not None and meters <= FARTHEST_METERS[by]
    ]
    pairs, taken, others = list[Pair](), set[str](), set[str]()
    for _, one_id, other_id, pair in sorted(near, key=lambda item: item[:3]):
        if one_id not in taken and other_id not in others:
            pairs.append(pair)
            taken.add(one_id)
            others.add(other_id)
    return pairs


def _cells(station: Station, around: int) -> list[tuple[int, int]]:
    """The cell of a station in a grid whose cells are wider than the farthest place, and those around it."""
    if station.lat is None or station.lon is None:
        return []
    width = 2 * FARTHEST_METERS["place"] / _METERS_A_DEGREE
    row = math.floor(station.lat / width)
    column = math.floor(station.lon * max(math.cos(math.radians(station.lat)), 0.01) / width)
    steps = range(-around, around + 1)
    return [(row + down, column + right) for down in steps for right in steps]

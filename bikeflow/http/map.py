"""The document behind the map: what is there now, and how it was hour by hour, as frames of the same form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
_DIGITS = 7


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest snapshot's time (None in an empty lake), stations, free bikes, and cells of the grid."""

    snapshot: str | None
    stations: list[Row]
    bikes: list[Row]
    cells: list[Row]


@dataclass(frozen=True, slots=True)
class Hours:
    """Means of the last day's hours, each row with the hour's beginning as `at` (seconds since 1970)."""

    stations: list[Row]
    cells: list[Row]


def map_document(latest: Latest, hours: Hours, fresh: Row) -> Row:
    """The document: `stations` and `bikes` with all that is known, `cells` as `[south, west, north, east]` by id.

    `frames` are the hours, oldest first, and at last the newest snapshot (`at` is null): bikes by station, and by cell.
    `fresh` says whether that is the city as it is now (`freshness`).
    """
    frames: dict[int, Row] = {}
    for kind, rows, key in (("stations", hours.stations, "station_id"), ("cells", hours.cells, "cell_id")):
        for row in rows:
            frame = frames.setdefault(row["at"], {"at": row["at"], "stations": {}, "cells": {}})
            frame[kind][row[key]] = row["bikes"]
    newest = {
        "at": None,
        "stations": {row["station_id"]: row["bikes"] for row in latest.stations},
        "cells": {row["cell_id"]: row["bikes"] for row in latest.cells},
    }
    return {
        "snapshot": latest.snapshot,
        **fresh,
        "stations": _placed(latest.stations),
        "bikes": _placed(latest.bikes),
        "cells": _bounds(hours.cells) | _bounds(latest.cells),
        "frames": [frames[at] for at in sorted(frames)] + [newest],
    }


def _placed(rows: Iterable[Row]) -> list[Row]:
    """Those that have a place on the map; what has no name is called by its id."""
    return [{**row, "name": row["name"] or row["station_id"]} for row in rows if row["lat"] is not None]


def _bounds(cells: Iterable[Row]) -> dict[str, list[float]]:
    edges = ("min_lat", "min_lon", "max_lat", "max_lon")
    return {cell["cell_id"]: [round(cell[edge], _DIGITS) for edge in edges] for cell in cells}

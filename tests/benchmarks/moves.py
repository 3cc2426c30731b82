"""Suspected trips and relocations of free bikes against what is known to have happened.

    python -m tests.benchmarks.moves REPLAY

REPLAY is a folder of raw WRM snapshots that were made of known trips: `raw/dt=…/`, `truth_trips.csv` (bike, start, end,
from, to) and `truth_moves.csv` (bike, gone, back, from, to: relocations). A place is the name of a station, or latitude
and longitude where a bike was left elsewhere: only between two of these has it an id in the feed.
"""

from __future__ import annotations

import csv
import datetime as dt
import json
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import duckdb

from tests.warehouse.expected_bikes import is_moved

ARCHIVE = Path("lake/bike-data/gen_info")
MOVES = "SELECT bike_id, began_at, ended_at, coalesce(suspected, 'null') FROM main.bike_moves"


@dataclass(frozen=True)
class Event:
    """A trip or a relocation; `free`: from a place off station to another one, `far`: more than 100 m away."""

    kind: str
    began_at: dt.datetime
    ended_at: dt.datetime
    free: bool
    far: bool


def measure(replay: Path) -> dict[str, object]:
    """What happened in the moves of each suspicion; of trips and relocations, how many were right and how many found.

    A suspicion is right where just one thing happened to the bike in the move's time, and it was that.
    """
    truth = events(replay)
    happened, right = defaultdict[str, Counter[str]](Counter), Counter[tuple[str, bool]]()
    for bike, began_at, ended_at, suspected in moves(replay):
        between = [one for one in truth[bike] if one.began_at < ended_at and one.ended_at > began_at]
        kinds = {one.kind for one in between}
        told = kinds.pop() if len(between) == 1 else f"several {'trips' if kinds == {'trip'} else 'things'}"
        happened[suspected][told] += 1
        if told == suspected:
            right[told, between[0].far] += 1
    free = Counter((one.kind, one.far) for some in truth.values() for one in some if one.free)
    scores = {}
    for kind in ("trip", "relocation"):
        found, all_of_it = right[kind, True] + right[kind, False], free[kind, True] + free[kind, False]
        scores[kind] = {
            "precision": _share(found, happened[kind].total()),
            "recall": _share(found, all_of_it),
            "happened": all_of_it,
            "recall_over_100_m": _share(right[kind, True], free[kind, True]),
            "happened_over_100_m": free[kind, True],
        }
    return {"what_happened_by_suspicion": {name: dict(counts) for name, counts in happened.items()}, **scores}


def moves(replay: Path) -> list[tuple[str, dt.datetime, dt.datetime, str]]:
    """What bikeflow makes of the raw files."""
    with tempfile.TemporaryDirectory() as directory:
        archive = Path(directory) / ARCHIVE
        archive.mkdir(parents=True)
        (archive / "raw").symlink_to((replay / "raw").absolute())
        command = [sys.executable, "-m", "bikeflow", "backfill", "--data-dir", directory]
        subprocess.run(command, check=True, capture_output=True)
        with duckdb.connect(Path(directory) / "analytics.duckdb", read_only=True) as reader:
            return reader.execute(MOVES).fetchall()


def events(replay: Path) -> dict[str, list[Event]]:
    """What happened to each bike, by its id in the feed."""
    found: dict[str, list[Event]] = defaultdict(list)
    for kind, name, columns in (
        ("trip", "truth_trips.csv", ("start", "end")),
        ("relocation", "truth_moves.csv", ("gone", "back")),
    ):
        with (replay / name).open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                here, there = _place(line["from"]), _place(line["to"])
                began_at, ended_at = (dt.datetime.fromisoformat(line[one]).replace(tzinfo=None) for one in columns)
                free = here is not None and there is not None
                far = here is not None and there is not None and is_moved(here, there)
                found[f"fb{line['bike']}"].append(Event(kind, began_at, ended_at, free, far))
    return found


def _place(text: str) -> dict[str, float] | None:
    """A place off station; None where it is a station's name."""
    try:
        lat, lon = map(float, text.split())
    except ValueError:
        return None
    return {"lat": lat, "lon": lon}


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 3) if whole else None


if __name__ == "__main__":
    json.dump(measure(Path(sys.argv[1])), sys.stdout, indent=2)
    print()

"""Days of a city whose every trip is known: real ones where this machine has them, and made-up ones."""

from __future__ import annotations

import csv
import datetime as dt
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.answers.lake import Lake
from tests.support.gbfs import REAL
from tests.support.lines import raw_file, station

TOOL = REAL.parents[1] / "tools/replay_wrm.py"
TRIPS = REAL.parent / "history/wrm_trips"
PLACES = [f"Plac {number}" for number in range(8)]
Trip = tuple[str, dt.datetime, dt.datetime, str, str]


def real(folder: Path, since: dt.date, days: int, every_seconds: int) -> Path:
    """Days of March 2023 or 2024 (UTC) in the form that `make_up` gives them."""
    trips, options = TRIPS / f"trips_{since:%Y-%m}.csv.zst", f"--from {since} --days {days} --every {every_seconds}"
    subprocess.run([sys.executable, TOOL, trips, folder, *options.split()], check=True, capture_output=True)
    return folder


def make_up(folder: Path, since: dt.date, days: int, every_seconds: int) -> Path:
    """Write `raw/dt=…/`, `truth_trips.csv` and `truth_moves.csv`: 40 bikes of 8 stations make short trips."""
    chance, start = Random(1), dt.datetime.combine(since, dt.time(), dt.UTC)
    end = start + dt.timedelta(days=days)
    counts = Counter(dict.fromkeys(PLACES, 5))
    trips = sorted(trip for number in range(40) for trip in _trips(chance, number, start, end))
    events = sorted([(trip[1], -1, trip[3]) for trip in trips] + [(trip[2], 1, trip[4]) for trip in trips])
    now = start
    while now < end:
        while events and events[0][0] <= now:
            _, step, place = events.pop(0)
            counts[place] += step
        lines = [station(19000 + number, name=name, bikes=f"{counts[name]}", spaces=f"{max(9 - counts[name], 0)}",
                         total_docks="9") for number, name in enumerate(PLACES)]  # fmt: skip
        path = folder / f"raw/dt={now:%Y-%m-%d}/wrm_stations_{now:%Y-%m-%d_%H-%M-%S}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(raw_file(*lines), encoding="utf-8")
        now += dt.timedelta(seconds=every_seconds)
    for name, rows in (("trips", trips), ("moves", [])):
        with (folder / f"truth_{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["bike", "start", "end", "from", "to"], *rows])
    return folder


def _trips(chance: Random, number: int, now: dt.datetime, end: dt.datetime) -> Iterator[Trip]:
    place = PLACES[number % len(PLACES)]
    while True:
        begun = now + dt.timedelta(seconds=chance.randrange(1, 7200))
        now, to = begun + dt.timedelta(seconds=chance.randrange(20, 1800)), chance.choice(PLACES)
        if begun >= end:
            return
        yield f"{number}", begun, now, place, to
        place = to


def lake_of(replay: Path, folder: Path, every_seconds: int) -> Lake:
    """A lake with the snapshots of a replay, each of which a poll has stored."""
    lake = Lake(folder)
    for path in sorted((replay / "raw").rglob("*.txt")):
        at = dt.datetime.strptime(f"{path.stem} +0000", "wrm_stations_%Y-%m-%d_%H-%M-%S %z")
        lake.put(lake.key(at), path.read_bytes())
        lake.poll(at, "stored", every_seconds, lake.key(at))
    return lake

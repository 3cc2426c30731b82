"""`python -m tests.benchmarks.forecast_replay FOLDER --zone Europe/Warsaw`: how good the forecast is on a recording.

FOLDER holds raw files of the WRM (`**/wrm_stations_*.txt`) or documents `station_status` of GBFS (`**/*.json`). Each of
the last days is forecast at every quarter of an hour from what came before that day, and held against what then
happened.
"""

from __future__ import annotations

import argparse
import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from bikeflow.forecast import QUARTERS, Flows, climatology, learn, rows, score_day, verdicts
from bikeflow.forecast.flows import Ints
from tests.benchmarks.__main__ import print_table
from tests.benchmarks.measuring import Row
from tests.benchmarks.recording import DAY, Recording, read

TARGETS = ("bike", "dock")
SHORT = {
    "horizon_minutes": "minutes",
    "skill_persistence": "persistence",
    "skill_calibrated_persistence": "calibrated",
    "skill_climatology": "climatology",
    "calibration_error": "ece",
}
"""Columns of the table; the skills stand under what they are against."""


def scored_day(recording: Recording, begin: int, flows: Flows) -> tuple[Ints, Ints]:
    """The sums for bikes and for docks of a day (UTC), forecast from `flows` at each quarter of an hour."""
    bikes, docks = np.full((2, QUARTERS, len(recording.stations)), np.nan)
    for quarter in range(QUARTERS):
        now = recording.at(begin + quarter * DAY // QUARTERS)
        if now is not None:
            bikes[quarter], docks[quarter] = recording.bikes[now], recording.docks(now, begin)
    day = dt.datetime.fromtimestamp(begin, dt.UTC).date()
    return score_day(learn(flows), climatology(flows), day, recording.zone, recording.stations, bikes, docks)


def joined(days: list[Flows]) -> Flows:
    """The rows of several days."""
    names = Flows.__dataclass_fields__
    return Flows(**{name: np.concatenate([getattr(day, name) for day in days]) for name in names})


def table(history: str, target: str, days: list[Ints]) -> Iterator[Row]:
    """A line for each horizon; `days_better` are those on which the forecast was better than all others."""
    of_days = zip(*map(verdicts, days), strict=True)
    for verdict, same in zip(verdicts(np.sum(days, axis=0)), of_days, strict=True):
        figures = {name: getattr(verdict, name) for name in verdict.__dataclass_fields__}
        skills = [(day.skill_persistence, day.skill_calibrated_persistence, day.skill_climatology) for day in same]
        yield {
            "history": history,
            "target": target,
            **{SHORT.get(name, name): round(value, 5) for name, value in figures.items() if value is not None},
            "days_better": sum(all(skill is not None and skill > 0 for skill in day) for day in skills),
        }


def main() -> None:
    """Print the scores for several lengths of history, and what lies behind those of the longest."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--zone", type=ZoneInfo, required=True, help="the time zone of the stations")
    arguments.add_argument("--days", type=int, default=7, help="how many days at the end are scored")
    arguments.add_argument("--history", type=int, nargs="+", default=[7, 14, 56], help="days to learn from, at most")
    arguments.add_argument("--without", type=_midnight, nargs="*", default=[], help="days that are not to be believed")
    given = arguments.parse_args()
    recording = read(given.folder, given.zone)
    whole_days = range(-(-int(recording.times[0]) // DAY) * DAY, int(recording.times[-1]) - DAY // 2, DAY)
    flows = {begin: recording.flows(begin) for begin in whole_days if begin not in given.without}
    print(f"{len(recording.times):,} snapshots of {len(recording.stations)} stations, {len(flows)} days")
    lines: list[Row] = []
    for most in given.history:
        started = time.process_time()
        scored = [
            scored_day(recording, begin, joined([flows[day] for day in flows if day < begin][-most:]))
            for begin in list(flows)[-given.days :]
        ]
        cost = (time.process_time() - started) / given.days / QUARTERS
        print(f"{most} days: {1000 * cost:.1f} ms of CPU for all forecasts of one moment, with learning and scoring")
        for target, days in zip(TARGETS, zip(*scored, strict=True), strict=True):
            lines.extend(table(f"{most} d", target, list(days)))
    print_table(lines)
    for target, days in zip(TARGETS, zip(*scored, strict=True), strict=True):
        print(f"\n{target}: what was forecast, and how often it happened")
        print_table(reliability(np.sum(days, axis=0)))
    behind = learn(joined(list(flows.values())[: -given.days]))
    print(f"\ntimes as many departures with 0, 1, 2… bikes: {behind.of_bikes.round(2)}")
    print(f"times as many arrivals with 0, 1, 2… spaces: {behind.of_spaces.round(2)}")


def reliability(scored: Ints) -> list[Row]:
    """A line for each horizon and bin: the mean of what was forecast, and how often it happened."""
    return [
        {
            "minutes": row["horizon_minutes"],
            "forecasts": row["forecasts"],
            "forecast": round(row["probability"] / row["forecasts"], 4),
            "happened": round(row["happened"] / row["forecasts"], 4),
        }
        for row in rows(scored)
    ]


def _midnight(day: str) -> int:
    return int(dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC).timestamp())


if __name__ == "__main__":
    main()

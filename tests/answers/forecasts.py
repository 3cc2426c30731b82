"""The forecast and its scores, by `bikeflow.forecast` over figures that plain Python makes of the life of a system."""

from __future__ import annotations

import datetime as dt
import math
from collections import defaultdict
from collections.abc import Iterable
from fractions import Fraction
from functools import cached_property
from statistics import median_low
from typing import Any

import numpy as np

from bikeflow.forecast import (
    DAYS_NEEDED,
    PLENTY,
    QUARTERS,
    Flows,
    Moment,
    climatology,
    docks_of,
    forecast,
    learn,
    rows,
    score_day,
    verdicts,
)
from tests.answers.lake import Lake
from tests.answers.reference import DAY, HOUR, SECOND, Life, State, as_time
from tests.answers.tables import assert_same

LEARNT_DAYS, SCORED_DAYS = 56, 28
TARGETS = ("bike", "dock")
NAMES = ("squared_error", "probability", "climatology_squared_error", "forecasts", "happened", "had", "kept")
SHOWN = [f"{target}_{minutes}" for target in TARGETS for minutes in (15, 30, 60)]


class Expected:
    """What is to be forecast and scored where these days (UTC) are finished."""

    def __init__(self, life: Life, finished: Iterable[dt.date]) -> None:
        self.life = life
        until = as_time(life.coverage.extent[1]).date()
        self.finished = sorted(day for day in finished if day <= until)

    @cached_property
    def flows(self) -> dict[dt.date, dict[tuple[Any, ...], list[int]]]:
        """By day, and by station, local weekday, hour, bikes and spaces: departures, arrivals, known microseconds."""
        found: dict[dt.date, dict[tuple[Any, ...], list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0, 0]))
        for (station, hour), lasted in self.life.lasted.items():
            for state, us in lasted.items():
                if state.bikes is not None and not state.is_out_of_service:
                    found[as_time(hour).date()][self._key(station, hour, state)][2] += us
        for station, at, before, after in self.life.changes:
            change = (after.bikes or 0) - (before.bikes or 0)
            if change:
                values = found[as_time(at).date()][self._key(station, at // HOUR * HOUR, before)]
                values[change > 0] += abs(change)
        return found

    def _key(self, station: str, hour: int, state: State) -> tuple[Any, ...]:
        at = as_time(hour).replace(tzinfo=dt.UTC).astimezone(self.life.zone)
        spaces = [PLENTY]
        spaces += [state.spaces] if state.spaces is not None else []
        spaces += [state.docks - (state.bikes or 0)] if state.docks else []
        free = 0 if state.is_full else max(1, min(spaces))
        return station, at.isoweekday(), at.hour, min(max(state.bikes or 0, 0), PLENTY), free

    @cached_property
    def docks(self) -> dict[dt.date, dict[str, int]]:
        """By day: the mean bikes and spaces of stations of which the feed tells no docks, while there are spaces."""
        found: dict[dt.date, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
        for (station, hour), lasted in self.life.lasted.items():
            for state, us in lasted.items():
                if state.bikes is not None and state.spaces and state.spaces > 0 and not (state.docks or 0) > 0:
                    values = found[as_time(hour).date()][station]
                    values[0] += (state.bikes + state.spaces) * us
                    values[1] += us
        return {
            day: {name: math.floor(total / us + 0.5) for name, (total, us) in values.items()}
            for day, values in found.items()
        }

    @cached_property
    def quarters(self) -> dict[dt.date, dict[tuple[str, int], State]]:
        """By day: the known state of each station in service at each quarter of an hour."""
        found: dict[dt.date, dict[tuple[str, int], State]] = defaultdict(dict)
        for station, stretches in self.life.stretches.items():
            for (since, until), state in stretches:
                for at in range(-(-since // (900 * SECOND)) * 900 * SECOND, until, 900 * SECOND):
                    if not state.is_out_of_service:
                        found[as_time(at).date()][station, at % DAY // (900 * SECOND)] = state
        return found

    def learnt(self, before: dt.date) -> tuple[Flows, int, dict[str, int]]:
        """What is learnt from for a day, on how many days anything was known, and the usual docks."""
        days = [day for day in self.finished if 0 < (before - day).days <= LEARNT_DAYS]
        some = [(key, values) for day in days for key, values in self.flows.get(day, {}).items()]
        names = ("station", "weekday", "hour", "bikes", "spaces")
        columns: dict[str, Any] = {
            name: np.array([key[i] for key, _ in some], dtype=np.int64 if i else object) for i, name in enumerate(names)
        }
        columns["departures"], columns["arrivals"] = (
            np.array([float(values[i]) for _, values in some]) for i in (0, 1)
        )
        columns["seconds"] = np.array([float(math.floor(values[2] / SECOND + 0.5)) for _, values in some])
        known = sum(any(values[2] >= SECOND / 2 for values in self.flows.get(day, {}).values()) for day in days)
        docks: dict[str, list[int]] = defaultdict(list)
        for day in days:
            for station, number in self.docks.get(day, {}).items():
                docks[station].append(number)
        return Flows(**columns), known, {name: median_low(found) for name, found in docks.items()}

    def status(self) -> tuple[int, dt.date | None]:
        """On how many of the days before which one anything is known."""
        before = self.finished[-1] + dt.timedelta(days=1) if self.finished else None
        return (self.learnt(before)[1] if before else 0), before

    def now(self) -> dict[str, dict[str, object]]:
        """By station: when the forecast is made, and the probabilities."""
        days, before = self.status()
        if before is None or days < DAYS_NEEDED:
            return {}
        flows, _, usual = self.learnt(before)
        known, extent = self.life.coverage.known, self.life.coverage.extent
        is_known = bool(known) and known[-1][1] == extent[1]
        at = max(self.life.latest_at, extent[1]) if is_known else self.life.latest_at
        states = {
            name: state
            for name, state in sorted(self.life.latest.items())
            if state.bikes is not None and not state.is_out_of_service
        }
        bikes, docks = _numbers(list(states), list(states.values()), usual)
        moment = Moment.of(as_time(at).replace(tzinfo=dt.UTC), self.life.zone)
        made = forecast(learn(flows), np.array([*states], dtype=object), bikes, docks, moment)
        chances = np.concatenate([made.bike, made.dock], axis=1).tolist()
        return {
            name: {"made_at": as_time(at), **dict(zip(SHOWN, map(_or_none, values), strict=True))}
            for name, values in zip(states, chances, strict=True)
        }

    @cached_property
    def sums(self) -> dict[tuple[dt.date, str], Any]:
        """By day and target, what came of the forecasts of the last days."""
        found: dict[tuple[dt.date, str], Any] = {}
        for day in self.finished:
            flows, days, usual = self.learnt(day)
            if (self.finished[-1] - day).days >= SCORED_DAYS or days < DAYS_NEEDED:
                continue
            states = self.quarters.get(day, {})
            names = sorted({name for name, _ in states})
            bikes, docks = np.full((2, QUARTERS, len(names)), np.nan)
            for (name, quarter), state in states.items():
                place = quarter, names.index(name)
                (bikes[place],), (docks[place],) = _numbers([name], [state], usual)
            stations = np.array(names, dtype=object)
            both = score_day(learn(flows), climatology(flows), day, self.life.zone, stations, bikes, docks)
            found |= {(day, target): of for target, of in zip(TARGETS, both, strict=True)}
        return found

    @property
    def totals(self) -> dict[str, Any]:
        """By target, the same of all these days."""
        return {
            target: np.sum([of for (_, name), of in self.sums.items() if name == target], axis=0)
            for target in sorted({name for _, name in self.sums})
        }

    def bins(self) -> dict[tuple[Any, ...], dict[str, object]]:
        """The rows of `forecast_bins`."""
        return {
            (target, row["horizon_minutes"], row["bin"]): {name: Fraction(row[name]) for name in NAMES}
            for target, of in self.totals.items()
            for row in rows(of)
        }

    def scores(self) -> dict[tuple[Any, ...], list[float | None]]:
        """The rows of `forecast_scores`; the day is None for all days together."""
        totals = {(None, target): of for target, of in self.totals.items()}
        return {
            (date, target, one.horizon_minutes): [
                getattr(one, name) for name in one.__dataclass_fields__ if name != "horizon_minutes"
            ]
            for (date, target), of in (*totals.items(), *self.sums.items())
            for one in verdicts(of)
            if one.forecasts
        }


def _numbers(names: list[str], states: list[State], usual: dict[str, int]) -> tuple[Any, Any]:
    """Bikes, and with how many of them the stations are full."""
    told = [
        (state.bikes, state.spaces, state.docks, usual.get(name)) for name, state in zip(names, states, strict=True)
    ]
    bikes, spaces, total_docks, usual_docks = np.array(told, dtype=np.float64).reshape(-1, 4).T
    return bikes, docks_of(bikes, spaces, total_docks, usual_docks)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def assert_forecast(lake: Lake, life: Life | None = None) -> None:
    """What is published of the forecast is what follows from the life of the system."""
    expected = Expected(life or lake.life(), {file.folder for file in lake.read if file.records})
    days, before = expected.status()
    status = "ready" if days >= DAYS_NEEDED else f"not enough history: {days} of {DAYS_NEEDED} days"
    assert lake.query("SELECT status, days, before_date, pending FROM forecast_status") == [(status, days, before, 0)]
    assert_same(lake.keyed, "station_forecast", ["station_id"], expected.now())
    assert_same(lake.keyed, "forecast_bins", ["target", "horizon_minutes", "bin"], expected.bins())
    scores = lake.keyed("SELECT date, target, horizon_minutes, * EXCLUDE (system_id, date, target, horizon_minutes)"
                        " FROM forecast_scores", 3)  # fmt: skip
    wanted = expected.scores()
    assert scores.keys() == wanted.keys()
    wrong = [
        (key, scores[key], values)
        for key, values in wanted.items()
        if not all(_same(*pair) for pair in zip(scores[key], values, strict=True))
    ]
    assert not wrong, f"forecast_scores: {len(wrong)} of {len(wanted)} differ, such as {wrong[0]}"


def _same(found: float | None, wanted: float | None) -> bool:
    if found is None or wanted is None:
        return found is wanted
    return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9)

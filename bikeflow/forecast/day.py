"""What came of the forecasts of a day: made again at each quarter of an hour, from what was known before that day."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np

from bikeflow.forecast.chain import forecast
from bikeflow.forecast.climatology import Climatology
from bikeflow.forecast.flows import HORIZONS, Floats, Ints, Moment, Names
from bikeflow.forecast.rates import Rates
from bikeflow.forecast.scores import BINS, SUMS, score

QUARTERS = 96
"""The quarters of an hour of a day (UTC)."""
_MINUTES = 15


def score_day(
    rates: Rates, usual: Climatology, day: dt.date, zone: ZoneInfo, stations: Names, bikes: Floats, docks: Floats
) -> tuple[Ints, Ints]:
    """The sums (`SUMS`, horizons, bins) of a day's forecasts of bikes, and of docks.

    `bikes` and `docks` (`docks_of`) are (`QUARTERS`, stations): the states at 0:00, 0:15 and so on (UTC); NaN is
    unknown. `rates` and `usual` must come from the days before, and `zone` is that of the stations. What lies beyond
    the day's end is not scored, so that each day is judged by itself.
    """
    has_bike = np.where(np.isnan(bikes), np.nan, bikes > 0)
    has_dock = np.where(np.isnan(bikes) | np.isnan(docks), np.nan, bikes < docks)
    midnight = dt.datetime.combine(day, dt.time(), dt.UTC)
    of_bikes, of_docks = np.zeros((2, len(SUMS), len(HORIZONS), BINS), dtype=np.int64)
    for quarter in range(QUARTERS):
        known = ~np.isnan(bikes[quarter])
        moment = Moment.of(midnight + dt.timedelta(minutes=_MINUTES * quarter), zone)
        made = forecast(rates, stations[known], bikes[quarter, known], docks[quarter, known], moment)
        usual_bike, usual_dock = usual.at(stations[known], moment)
        later_bike, later_dock = (_later(has, quarter)[known] for has in (has_bike, has_dock))
        of_bikes += score(made.bike, has_bike[quarter, known] > 0, later_bike, usual_bike)
        of_docks += score(made.dock, has_dock[quarter, known] > 0, later_dock, usual_dock)
    return of_bikes, of_docks


def _later(has: Floats, quarter: int) -> Floats:
    """Whether stations have it at the horizons (stations, horizons)."""
    later = np.full((has.shape[1], len(HORIZONS)), np.nan)
    for i, minutes in enumerate(HORIZONS):
        if quarter + minutes // _MINUTES < QUARTERS:
            later[:, i] = has[quarter + minutes // _MINUTES]
    return later

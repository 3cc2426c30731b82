"""The forecast: where the number of bikes of each station will be, as a birth-death chain with the station's rates.

Bikes come and leave one by one, independently (a queue M(t)/M(t)/1/docks whose rates change with the clock hour). How
likely each number of bikes is after a time follows from uniformization: as if the chain had jumps (some of which change
nothing) at one constant pace, so that the number of jumps is Poisson (Jensen 1953; Grassmann, Comput. Oper. Res. 4,
1977). It is exact but for a tail that is cut off where its weight is below `_TAIL`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bikeflow.forecast.flows import HORIZONS, PLENTY, Floats, Ints, Moment, Names, positions
from bikeflow.forecast.rates import Rates

_TAIL = 1e-7
_TINY = 1e-9
"""Events an hour that stand for none."""
_TOGETHER = 64
_MOST_JUMPS = 256.0
"""The Poisson weights of so many jumps still begin above the smallest number."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The probability that a station has a bike, and a dock: arrays (stations, horizons), in steps of 0.0001.

    `dock` is NaN where it is unknown with how many bikes a station is full.
    """

    bike: Floats
    dock: Floats


def forecast(rates: Rates, stations: Names, bikes: Floats, docks: Floats, moment: Moment) -> Forecast:
    """What to expect `HORIZONS` minutes after `moment`, when `stations` (ids) have `bikes`.

    `docks` is the number of bikes with which a station counts as full, NaN where that is unknown (`docks_of`). A
    station that `rates` does not know is taken for an average one of the city.
    """
    which = positions(rates.stations, stations)[:, np.newaxis]
    weekend = np.array([moment.weekday > 5, moment.next_weekday > 5], dtype=np.int64)
    hour = np.array([moment.hour, moment.next_hour])
    coming, leaving = rates.arrivals[which, weekend, hour], rates.departures[which, weekend, hour]
    bike, dock = np.empty((2, len(stations), len(HORIZONS)))
    # Stations of similar traffic are computed together: the busiest sets the number of steps for all of them.
    order = np.argsort((coming + leaving).max(axis=1), kind="stable")
    for begin in range(0, len(order), _TOGETHER):
        some = order[begin : begin + _TOGETHER]
        bike[some], dock[some] = _follow(
            rates, coming[some], leaving[some], bikes[some], docks[some, np.newaxis], moment.minutes_left
        )
    return Forecast(*(np.clip(chance, 0, 1).round(4) for chance in (bike, dock)))


def _follow(
    rates: Rates, coming: Floats, leaving: Floats, bikes: Floats, docks: Floats, minutes_left: float
) -> tuple[Floats, Floats]:
    """The chances of a bike and of a dock; `coming` and `leaving` have the rates of this hour and of the next one."""
    most = max(*rates.of_bikes, *rates.of_spaces) * max(coming.max(), leaving.max()) * max(HORIZONS) / 60
    reach = math.ceil(most + 6 * math.sqrt(most) + 6)
    # Columns are the numbers of bikes that there may be, around the one of now.
    counts = np.maximum(bikes, 0)[:, np.newaxis] + np.arange(-reach, reach + 1.0)
    of_bikes, of_spaces = rates.of_bikes[_state(counts)], rates.of_spaces[_state(docks - counts)]
    likely = np.zeros(counts.shape)
    likely[:, reach] = 1
    has_dock = np.where(np.isnan(docks), np.nan, counts < docks)
    bike, dock = np.empty((2, len(counts), len(HORIZONS)))
    for i, (begin, end) in enumerate(pairwise((0, *HORIZONS))):
        cut = min(max(minutes_left, begin), end)
        for slot, minutes in enumerate((cut - begin, end - cut)):
            if minutes:
                come, leave = coming[:, [slot]] * of_spaces, leaving[:, [slot]] * of_bikes
                likely = _advance(likely, come, leave, minutes / 60)
        bike[:, i] = (likely * (counts > 0)).sum(axis=1)
        dock[:, i] = (likely * has_dock).sum(axis=1)
    return bike, dock


def _state(numbers: Floats) -> Ints:
    """The state of a number of bikes or spaces; what is unknown is plenty."""
    return np.clip(np.nan_to_num(numbers, nan=PLENTY), 0, PLENTY).astype(np.int64)


def _advance(likely: Floats, coming: Floats, leaving: Floats, hours: float) -> Floats:
    """How likely each number of bikes is some hours later; all arrays are (stations, numbers), rates are per hour."""
    pace = np.maximum((coming + leaving).max(axis=1, keepdims=True), _TINY)
    more, less = coming[:, :-1] / pace, leaving[:, 1:] / pace
    same = np.ones(likely.shape)
    same[:, :-1] -= more
    same[:, 1:] -= less
    parts = math.ceil(pace.max(initial=0) * hours / _MOST_JUMPS)
    for _ in range(parts):
        jumps = pace * (hours / parts)
        weight = np.exp(-jumps)
        left, step, after = 1 - weight, 0, weight * likely
        while left.max() > _TAIL:
            # One jump more: to one bike more, one less, or to nowhere.
            here = likely * same
            here[:, 1:] += likely[:, :-1] * more
            here[:, :-1] += likely[:, 1:] * less
            likely, step = here, step + 1
            weight = weight * jumps / step
            left = left - weight
            after += weight * likely
        likely = after
    return likely

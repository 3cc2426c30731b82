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
_MOST_JUMPS = 256.0
"""The Poisson weights of so many jumps still begin above the smallest number."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The probability that a station has a bike, and a dock: arrays (stations, horizons), in steps of 0.0001.

    `dock` is NaN for a station of which nobody knows with how many bikes it is full.
    """

    bike: Floats
    dock: Floats


def forecast(rates: Rates, stations: Names, bikes: Floats, docks: Floats, moment: Moment) -> Forecast:
    """What to expect `HORIZONS` minutes after `moment`, when `stations` (ids) have `bikes`.

    `docks` is the number of bikes with which a station counts as full, NaN where that is unknown (`docks_of`). A
    station that `rates` does not know is taken for an average one of the city.
    """
    which = positions(rates.stations, stations)
    slots = ((moment.weekday, moment.hour), (moment.next_weekday, moment.next_hour))
    coming, leaving = (
        [table[which, int(weekday > 5), hour][:, np.newaxis] for weekday, hour in slots]
        for table in (rates.arrivals, rates.departures)
    )
    most = max(*rates.of_bikes, *rates.of_spaces) * max(rate.max(initial=0) for rate in coming + leaving)
    counts = _counts(bikes, most * max(HORIZONS) / 60)
    has_dock = np.where(np.isnan(docks)[:, np.newaxis], np.nan, counts < docks[:, np.newaxis])
    of_bikes = rates.of_bikes[_state(counts)]
    of_spaces = rates.of_spaces[_state(np.where(np.isnan(has_dock), PLENTY, docks[:, np.newaxis] - counts))]
    likely = np.zeros(counts.shape)
    likely[:, counts.shape[1] // 2] = 1
    bike, dock = np.empty((2, len(counts), len(HORIZONS)))
    for i, (begin, end) in enumerate(pairwise((0, *HORIZONS))):
        cut = min(max(moment.minutes_left, begin), end)
        for slot, minutes in enumerate((cut - begin, end - cut)):
            if minutes:
                likely = _advance(likely, coming[slot] * of_spaces, leaving[slot] * of_bikes, minutes / 60)
        bike[:, i] = (likely * (counts > 0)).sum(axis=1)
        dock[:, i] = (likely * has_dock).sum(axis=1)
    return Forecast(*(np.clip(chance, 0, 1).round(4) for chance in (bike, dock)))


def _state(numbers: Floats) -> Ints:
    return np.clip(numbers, 0, PLENTY).astype(np.int64)


def _counts(bikes: Floats, most: float) -> Floats:
    """A row for each station: the numbers of bikes around the one of now that `most` events on average can lead to."""
    reach = math.ceil(most + 6 * math.sqrt(most) + 6)
    around: Floats = np.maximum(bikes, 0)[:, np.newaxis] + np.arange(-reach, reach + 1.0)
    return around


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

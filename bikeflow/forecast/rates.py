"""The rates of departures and arrivals of each station, learnt from few weeks of data.

A few weeks give some events for each station and hour, too few to believe them alone. So a rate is built as a product,
from coarse to fine: the city's rate, its daily profile (on working days and on weekends), the station, the station's
profile. Each factor is (seen + a) / (expected + a), where the expectation comes from the coarser factors. That is the
mean of a gamma prior with mean 1 after Poisson counts, and `a` is estimated from how much the factors of one level
vary (empirical Bayes by the method of moments: Clayton and Kaldor, Biometrics 43, 1987).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bikeflow.forecast.flows import PLENTY, Floats, Flows, Ints, Names, positions, sums

_ROUNDS = 5
"""Rates and the factors of states depend on each other; after so many rounds they stand still."""
_PRIOR_EVENTS = 10.0
"""How many events the belief weighs that a state makes no difference."""
_MOST_AN_HOUR, _MOST_TIMES = 300.0, 4.0
"""No station is so busy, and no state makes so much of a difference: a feed that says so is wrong, and what is followed
of its stations would have no end."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Bikes an hour that leave and come, of `stations` (ids, sorted) on working days (0) and weekends (1), by hour.

    `departures` and `arrivals` have the shape (stations + 1, 2, 24); the last one is a station of which nothing is
    known. These are rates with plenty of bikes and spaces. With n bikes, departures are `of_bikes[min(n, PLENTY)]`
    times as many: the last bikes of a station leave less often than others. With n spaces, arrivals are
    `of_spaces[min(n, PLENTY)]` times as many: at a full station there are none if bikes need a dock, and nearly as many
    as at any other if they can be left beside it.
    """

    stations: Names
    departures: Floats
    arrivals: Floats
    of_bikes: Floats
    of_spaces: Floats


def learn(flows: Flows) -> Rates:
    """The rates behind what was seen; without any known time they are zero."""
    stations = np.unique(flows.station)
    shape = (len(stations), 2, 24)
    key = (positions(stations, flows.station), (flows.weekday > 5).astype(np.int64), flows.hour)
    cells = np.ravel_multi_index(key, shape)

    def table(state: Ints, values: Floats) -> Floats:
        return sums(cells * (PLENTY + 1) + state, values, (*shape, PLENTY + 1))

    bikes, spaces = (np.clip(numbers, 0, PLENTY) for numbers in (flows.bikes, flows.spaces))
    # Whole seconds are summed, so that the order of the rows does not matter.
    departures, of_bikes = _fit(table(bikes, flows.departures), table(bikes, flows.seconds * (bikes > 0)) / 3600)
    arrivals, of_spaces = _fit(table(spaces, flows.arrivals), table(spaces, flows.seconds) / 3600)
    of_bikes[0] = 0
    return Rates(stations, departures, arrivals, of_bikes, of_spaces)


def _fit(events: Floats, hours: Floats) -> tuple[Floats, Floats]:
    """Rates and the factors of states, of arrays (stations, 2, 24, states); the factor of the last state is 1."""
    factors = np.ones(events.shape[-1])
    for _ in range(_ROUNDS):
        rates = _rates(events.sum(axis=-1), hours @ factors)
        expected = (rates[:-1, ..., np.newaxis] * hours).sum(axis=(0, 1, 2))
        factors = (events.sum(axis=(0, 1, 2)) + _PRIOR_EVENTS) / (expected + _PRIOR_EVENTS)
        factors = np.minimum(factors / factors[-1], _MOST_TIMES)
    return np.minimum(rates, _MOST_AN_HOUR), factors


def _rates(events: Floats, hours: Floats) -> Floats:
    """Rates (stations + 1, 2, 24), from coarse to fine."""
    mean = events.sum() / hours.sum() if hours.any() else 0.0
    city = mean * _factors(events.sum(axis=0), mean * hours.sum(axis=0))
    of_stations = _factors(events.sum(axis=(1, 2)), (city * hours).sum(axis=(1, 2)))
    rates = city * of_stations[:, np.newaxis, np.newaxis]
    return np.concatenate([rates * _factors(events, rates * hours), city[np.newaxis]])


def _factors(seen: Floats, expected: Floats) -> Floats:
    """How many times more was seen than expected, drawn towards 1 as far as that may be chance."""
    # Poisson counts vary by what is expected, and by the square of it times the variance of the factors.
    squares = (expected**2).sum()
    variance = ((seen - expected) ** 2 - expected).sum() / squares if squares else 0.0
    prior_events = 1 / max(variance, 1e-6)
    return (seen + prior_events) / (expected + prior_events)

"""The usual share of time with a bike, and with a dock: the forecast that needs to know nothing of now."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bikeflow.forecast.flows import HORIZONS, Bools, Floats, Flows, Moment, Names, positions, sums


@dataclass(frozen=True, slots=True)
class Climatology:
    """The share of known time in which each of `stations` (ids, sorted) had a bike, and a dock, by hour of the week.

    The arrays have the shape (stations + 1, 7, 24); the last one is the whole city.
    """

    stations: Names
    bike: Floats
    dock: Floats

    def at(self, stations: Names, moment: Moment) -> tuple[Floats, Floats]:
        """The shares for `HORIZONS` after a moment, each (stations, horizons)."""
        which = positions(self.stations, stations)[:, np.newaxis]
        later = np.array(HORIZONS) >= moment.minutes_left
        weekday = np.where(later, moment.next_weekday, moment.weekday) - 1
        hour = np.where(later, moment.next_hour, moment.hour)
        return self.bike[which, weekday, hour], self.dock[which, weekday, hour]


def climatology(flows: Flows) -> Climatology:
    """The usual shares; where a station has no known time at an hour, its share of all time, else the city's."""
    stations = np.unique(flows.station)
    shape = (len(stations), 7, 24)
    cells = np.ravel_multi_index((positions(stations, flows.station), flows.weekday - 1, flows.hour), shape)

    def share(had: Bools) -> Floats:
        with_it, known = sums(cells, flows.seconds * had, shape), sums(cells, flows.seconds, shape)
        city = _ratio(with_it.sum(keepdims=True), known.sum(keepdims=True), np.zeros((1, 1, 1)))
        station = _ratio(with_it.sum(axis=(1, 2), keepdims=True), known.sum(axis=(1, 2), keepdims=True), city)
        hourly = _ratio(with_it, known, station)
        return np.concatenate([hourly, np.broadcast_to(city, (1, 7, 24))]).round(4)

    return Climatology(stations, share(flows.bikes > 0), share(flows.spaces > 0))


def _ratio(part: Floats, whole: Floats, otherwise: Floats) -> Floats:
    return np.where(whole > 0, part / np.maximum(whole, 1e-9), otherwise)

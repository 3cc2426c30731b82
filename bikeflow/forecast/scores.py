"""How good forecasts were, as sums that add up over days, against what one would say without a model.

*Persistence* says that what is now, stays. *Calibrated persistence* says how often what is now stays, for all stations
alike; it is taken from the very outcomes that are scored, which no real forecast could do. *Climatology* says the share
of time that the station had a bike (or dock) at that hour of the week. The Brier score is the mean squared error of a
probability against what happened (1 or 0), and the skill against another forecast is 1 - score / its score (Wilks,
Statistical Methods in the Atmospheric Sciences, 2011, chapter 8).

Sums are whole numbers, so that they are the same in whatever order they were added.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bikeflow.forecast.flows import HORIZONS, Bools, Floats, Ints, sums

SUMS = ("forecasts", "probability", "happened", "had", "kept", "squared_error", "climatology_squared_error")
"""What is summed: how many forecasts were made, the probabilities in steps of 0.0001, how many stations had a bike (or
dock) at the horizon, how many had it when the forecast was made, how many of these had it at the horizon, and squared
errors in steps of 0.00000001."""
BINS = 10
"""Forecasts are kept apart by probability: below 0.1, below 0.2, and so on; 1 belongs to the last bin."""
_STEPS = 10_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """How good the forecasts for a horizon were; None where nothing was scored, or where the other one is perfect.

    `base_rate` is how often a station had a bike (or dock). `calibration_error` is the mean distance, weighted by
    forecasts, between what was forecast and how often it happened, over the bins.
    """

    horizon_minutes: int
    forecasts: int
    base_rate: float | None
    brier: float | None
    skill_persistence: float | None
    skill_calibrated_persistence: float | None
    skill_climatology: float | None
    calibration_error: float | None


def score(probability: Floats, now: Bools, later: Floats, usual: Floats) -> Ints:
    """The sums (`SUMS`, horizons, bins) of some forecasts of bikes, or of docks.

    `probability`, `later` and `usual` (climatology) are (forecasts, horizons), `now` is (forecasts). `now` and `later`
    are whether the station has a bike (or dock); NaN in `later`, or in `probability`, is unknown and is left out.
    """
    known = ~(np.isnan(later) | np.isnan(probability))
    steps = _in_steps(np.where(known, probability, 0))
    happened = np.where(known, later, 0).astype(np.int64)
    had = np.broadcast_to(now[:, np.newaxis], known.shape)
    values = (
        np.ones_like(steps),
        steps,
        happened,
        had,
        had & (happened == 1),
        (steps - _STEPS * happened) ** 2,
        (_in_steps(usual) - _STEPS * happened) ** 2,
    )
    place = np.arange(len(HORIZONS)) * BINS + np.minimum(steps * BINS // _STEPS, BINS - 1)
    # Whole numbers stay exact in these floats up to 2**53: 90 million forecasts that are all wrong.
    shape = (len(HORIZONS), BINS)
    return np.array([sums(place[known], value[known], shape) for value in values]).astype(np.int64)


def _in_steps(probability: Floats) -> Ints:
    return np.rint(probability * _STEPS).astype(np.int64)


def rows(scored: Ints) -> Iterator[dict[str, float]]:
    """The sums as rows of a table, by horizon and bin, in plain units; bins without forecasts are left out."""
    for i, horizon in enumerate(HORIZONS):
        for place in np.flatnonzero(scored[0, i]):
            row = dict(zip(SUMS, map(int, scored[:, i, place]), strict=True))
            yield {
                "horizon_minutes": horizon,
                "bin": int(place),
                **row,
                "probability": row["probability"] / _STEPS,
                "squared_error": row["squared_error"] / _STEPS**2,
                "climatology_squared_error": row["climatology_squared_error"] / _STEPS**2,
            }


def verdicts(scored: Ints) -> list[Verdict]:
    """What the sums say, for each horizon."""
    return [_verdict(horizon, *scored[:, i]) for i, horizon in enumerate(HORIZONS)]


def _verdict(horizon: int, forecasts: Ints, probability: Ints, *others: Ints) -> Verdict:
    happened, had, kept, error, usual_error = (int(value.sum()) for value in others)
    total = int(forecasts.sum())
    if not total:
        return Verdict(horizon, 0, None, None, None, None, None, None)
    gained, lacked = happened - kept, total - had
    changed = (had - kept) + gained
    # The best constant for those that had it, and for those that had not: its squared error is n p (1 - p).
    calibrated = sum(part * (whole - part) / whole for part, whole in ((kept, had), (gained, lacked)) if whole)
    distance = np.abs(probability - _STEPS * others[0]).sum()
    brier = error / _STEPS**2 / total

    def skill(squared_error: float) -> float | None:
        return 1 - brier * total / squared_error if squared_error else None

    return Verdict(
        horizon,
        total,
        happened / total,
        brier,
        skill(changed),
        skill(calibrated),
        skill(usual_error / _STEPS**2),
        float(distance) / _STEPS / total,
    )

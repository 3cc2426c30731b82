"""Scores against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bikeflow.forecast import BINS, SUMS, Moment, climatology, rows, score, verdicts
from tests.forecast.test_rates import flows

UNKNOWN = float("nan")


def thrice(values: list[float]) -> np.ndarray:
    """The same for each horizon."""
    return np.repeat(np.array(values, dtype=np.float64)[:, np.newaxis], 3, axis=1)


NOW = np.array([True, True, True, False, False])
FORECAST, LATER, USUAL = thrice([0.9, 0.95, 0.6, 0.2, 0.1]), thrice([1, 1, 0, 1, 0]), thrice([0.5] * 5)


def test_scores_are_those_that_one_works_out_by_hand() -> None:
    sums = score(FORECAST, NOW, LATER, USUAL)
    assert dict(zip(SUMS, sums.sum(axis=2)[:, 0].tolist(), strict=True)) == {
        "forecasts": 5,
        "probability": 27_500,
        "happened": 3,
        "had": 3,
        "kept": 2,
        "squared_error": round((0.1**2 + 0.05**2 + 0.6**2 + 0.8**2 + 0.1**2) * 1e8),
        "climatology_squared_error": round(5 * 0.25 * 1e8),
    }
    verdict = verdicts(sums)[0]
    brier = (0.01 + 0.0025 + 0.36 + 0.64 + 0.01) / 5
    assert (verdict.horizon_minutes, verdict.forecasts, verdict.base_rate) == (15, 5, 0.6)
    assert verdict.brier == pytest.approx(brier)
    assert verdict.skill_persistence == pytest.approx(1 - brier / (2 / 5))
    # Of three that had it two kept it, of two that had not one got it: 3 × 2/3 × 1/3 + 2 × 1/2 × 1/2.
    assert verdict.skill_calibrated_persistence == pytest.approx(1 - brier / ((2 / 3 + 1 / 2) / 5))
    assert verdict.skill_climatology == pytest.approx(1 - brier / 0.25)
    # Bins: 0.1 and nothing; 0.2 and one; 0.6 and nothing; 0.9 with 0.95 and two.
    assert verdict.calibration_error == pytest.approx((0.1 + 0.8 + 0.6 + 0.15) / 5)


def test_the_table_has_a_row_for_each_horizon_and_bin_with_forecasts() -> None:
    table = list(rows(score(FORECAST, NOW, LATER, USUAL)))
    places = [(row["horizon_minutes"], row["bin"]) for row in table]
    assert places == [(minutes, place) for minutes in (15, 30, 60) for place in (1, 2, 6, 9)]
    assert table[3] == {
        "horizon_minutes": 15,
        "bin": 9,
        "forecasts": 2,
        "probability": 1.85,
        "happened": 2,
        "had": 2,
        "kept": 2,
        "squared_error": 0.0125,
        "climatology_squared_error": 0.5,
    }


def test_what_is_unknown_is_left_out() -> None:
    later, forecast = LATER.copy(), FORECAST.copy()
    later[0, 2] = later[1] = forecast[2] = UNKNOWN
    sums = score(forecast, NOW, later, USUAL)
    assert sums[0].sum(axis=1).tolist() == [3, 3, 2]
    left = [0, 3, 4]
    assert np.array_equal(sums[:, :2], score(FORECAST[left], NOW[left], LATER[left], USUAL[left])[:, :2])


def test_sums_are_the_same_in_whatever_parts_and_order_they_are_added() -> None:
    random = np.random.default_rng(16)
    forecast, usual = random.random((2, 4000, 3))
    later, now = (random.random((4000, 3)) < forecast).astype(np.float64), random.random(4000) < 0.5
    whole = score(forecast, now, later, usual)
    assert whole.shape == (len(SUMS), 3, BINS)
    order = random.permutation(4000)
    parts = [score(forecast[some], now[some], later[some], usual[some]) for some in np.array_split(order, 7)]
    assert np.array_equal(sum(parts), whole)
    assert max(verdict.calibration_error or 0 for verdict in verdicts(whole)) < 0.03


def test_certain_forecasts_lie_in_the_outer_bins() -> None:
    later = thrice([0, 1, 0, 0])
    sums = score(thrice([0, 1, 0.0999, 0.1]), later[:, 0] > 0, later, thrice([0] * 4))
    assert sums[0, 0].tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 1]


def test_without_forecasts_there_is_no_verdict() -> None:
    nothing = score(np.empty((0, 3)), np.empty(0, dtype=np.bool_), np.empty((0, 3)), np.empty((0, 3)))
    assert list(rows(nothing)) == []
    assert [(verdict.forecasts, verdict.brier) for verdict in verdicts(nothing)] == [(0, None)] * 3


def test_where_nothing_changes_there_is_no_skill_against_persistence() -> None:
    verdict = verdicts(score(thrice([1, 0]), np.array([True, False]), thrice([1, 0]), thrice([0.5, 0.5])))[0]
    assert (verdict.brier, verdict.skill_persistence, verdict.skill_climatology) == (0, None, 1)


def test_climatology_is_the_share_of_known_time() -> None:
    usual = climatology(
        flows(
            [
                ("a", 1, 7, 0, 5, 0, 0, 900),
                ("a", 1, 7, 1, 4, 0, 0, 1800),
                ("a", 1, 7, 5, 0, 0, 0, 900),
                ("a", 1, 8, 0, 5, 0, 0, 3600),
                ("b", 2, 8, 3, 3, 0, 0, 3600),
            ]
        )
    )
    bike, dock = usual.at(np.array(["a", "b", "new"]), Moment(1, 7, 30, 1, 8))
    assert bike[0].tolist() == [0.75, 0, 0]
    assert dock[0].tolist() == [0.75, 1, 1]
    # b has no known time on Mondays: its share of all time. Of a new station, only the city is known.
    assert bike[1].tolist() == [1, 1, 1]
    assert bike[2] == pytest.approx([round(6300 / 10_800, 4)] * 3)
    assert dock[2] == pytest.approx([round(9900 / 10_800, 4)] * 3)

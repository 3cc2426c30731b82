"""Days of real trips, and made-up ones where there are none: the tables, and what counts show of the trips."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from tests.answers.replays import TOOL, lake_of, make_up, real
from tests.answers.tables import assert_answers, assert_density
from tests.benchmarks import flows
from tests.benchmarks.measuring import Row

EVERY_SECONDS = 600


@pytest.mark.parametrize("since", [dt.date(2024, 3, 30), dt.date(2023, 3, 25)])
@pytest.mark.parametrize("replay", [make_up, *[real] * TOOL.exists()])
def test_over_the_change_of_the_clocks(replay: Callable[..., Path], since: dt.date, tmp_path: Path) -> None:
    lake = lake_of(replay(tmp_path / "replay", since, 2, EVERY_SECONDS), tmp_path / "city", EVERY_SECONDS)
    lake.publish()
    assert_answers(lake.keyed, lake.life())
    assert_density(lake.keyed, lake.density())


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("replay", [make_up, *[real] * TOOL.exists()])
def test_a_week_every_minute_over_the_change_of_the_clocks(replay: Callable[..., Path], tmp_path: Path) -> None:
    lake = lake_of(replay(tmp_path / "replay", dt.date(2024, 3, 25), 7, 60), tmp_path / "city", 60)
    lake.publish()
    assert_answers(lake.keyed, lake.life())
    assert_density(lake.keyed, lake.density())


def test_of_all_trips_counts_show_as_many_as_they_can(tmp_path: Path) -> None:
    """Every bike is at a station before its first trip, so that nothing happens but what the truth tells."""
    replay = make_up(tmp_path / "replay", dt.date(2024, 3, 30), 1, 60)
    seen, bound, *rarer = cast(list[Row], flows.measure(tmp_path / "city", replay)["rows"])
    figures = [name for name in seen if name != "what"]
    assert [seen[name] for name in figures] == [bound[name] for name in figures]
    assert 50 < float(seen["seen_departures_percent"]) < 100
    shares = [float(row["seen_departures_percent"]) for row in (bound, *rarer)]
    assert shares == sorted(shares, reverse=True) and len(set(shares)) == len(shares)

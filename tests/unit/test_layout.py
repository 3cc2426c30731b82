"""Keys and segments: composed and read back, and every moment of a day in exactly one segment."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bikeflow.layout import LAYERS, Layout, sealed_segment, segment_of, snapshot_time
from bikeflow.model import UTC, ObjectInfo

LAYOUT = Layout("bike-data/gen_info/")
DAY = dt.date(2025, 6, 1)
moments = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
lengths = st.sampled_from([minutes for minutes in range(1, 1441) if 1440 % minutes == 0])


def info(key: str, modified: dt.datetime = dt.datetime(2025, 6, 1, 7, 30, tzinfo=UTC)) -> ObjectInfo:
    return ObjectInfo(key, 1, "e", modified)


@given(moments)
def test_a_raw_key_is_read_back_as_it_was_composed(at: dt.datetime) -> None:
    at = at.replace(microsecond=0)
    raw = LAYOUT.raw_file(info(LAYOUT.raw_key(at)))
    assert raw is not None
    assert (raw.time, raw.partition) == (at, at.date())
    assert LAYOUT.raw_key_of(LAYOUT.dead_letter_key(raw.key)) == raw.key


@given(moments, lengths)
def test_every_moment_lies_in_exactly_one_segment_of_its_day(at: dt.datetime, minutes: int) -> None:
    segment = segment_of(at.date(), at, minutes)
    assert segment.start <= at.time() <= segment.end.replace(microsecond=999_999)
    span = dt.datetime.combine(DAY, segment.end) - dt.datetime.combine(DAY, segment.start)
    assert span == dt.timedelta(minutes=minutes, seconds=-1)
    for layer in LAYERS:
        assert LAYOUT.is_segment_key(layer, LAYOUT.segment_key(layer, segment))


@given(lengths)
def test_the_segments_of_a_day_have_different_keys_and_cover_it(minutes: int) -> None:
    midnight = dt.datetime.combine(DAY, dt.time(0), UTC)
    segments = {segment_of(DAY, midnight + dt.timedelta(minutes=n), minutes) for n in range(1440)}
    assert len({LAYOUT.segment_key("enhanced", segment) for segment in segments}) == len(segments) == 1440 // minutes


def test_a_time_outside_the_day_falls_in_its_first_or_last_segment() -> None:
    early, late = (dt.datetime(2025, 6, day, 12, tzinfo=UTC) for day in (1, 3))
    assert segment_of(dt.date(2025, 6, 2), early, 60).start == dt.time(0)
    assert segment_of(dt.date(2025, 6, 2), late, 60).end == dt.time(23, 59, 59)


def test_the_sealed_segment_takes_the_key_of_the_last_second() -> None:
    sealed = sealed_segment(DAY)
    assert sealed.sealed
    assert LAYOUT.segment_key("processed", sealed) == (
        "bike-data/gen_info/processed/all/dt=2025-06-01/all_processed_20250601_235959.parquet"
    )
    assert not segment_of(DAY, dt.datetime(2025, 6, 1, 23, 30, tzinfo=UTC), 60).sealed


def test_the_time_of_an_oddly_named_raw_file_is_its_last_modification() -> None:
    raw = LAYOUT.raw_file(info(f"{LAYOUT.raw}dt=2025-06-01/export.txt"))
    assert raw is not None
    assert raw.time == dt.datetime(2025, 6, 1, 7, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "name",
    ["a.txt", "dt=2025-06-01/a.csv", "dt=2025-06-01/.hidden.txt", "dt=2025-06-01/deeper/a.txt", "dt=2025-06-31/a.txt",
     "dt=2025-6-1/a.txt", "dt=today/a.txt", ""],
)  # fmt: skip
def test_a_foreign_object_below_raw_is_no_raw_file(name: str) -> None:
    assert LAYOUT.raw_file(info(f"{LAYOUT.raw}{name}")) is None


def test_a_name_with_an_impossible_time_has_none() -> None:
    assert snapshot_time("wrm_stations_2025-06-01_25-00-00.txt") is None

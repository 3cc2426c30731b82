"""Raw files are parsed in batches of bounded size."""

from __future__ import annotations

import datetime as dt

import pytest

from bikeflow.core.model import UTC, RawFile
from bikeflow.segments.builder import PARSED_BYTES, batches
from tests.support.wrm import wrm_day

NOON = dt.datetime(2025, 5, 31, 12, tzinfo=UTC)
MOST = PARSED_BYTES


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ([], []),
        ([1, 2, 3], [[1, 2, 3]]),
        ([MOST], [[MOST]]),
        ([MOST + 1], [[MOST + 1]]),
        ([MOST - 1, 1], [[MOST - 1, 1]]),
        ([MOST - 1, 2], [[MOST - 1], [2]]),
        ([1, MOST, 1], [[1], [MOST], [1]]),
        ([1, MOST - 2, 1, 1, MOST - 1], [[1, MOST - 2, 1], [1, MOST - 1]]),
    ],
)
def test_a_batch_is_as_large_as_it_may_be_and_never_empty(sizes: list[int], wanted: list[list[int]]) -> None:
    files = [RawFile(f"{number}", wrm_day(NOON.date()), NOON, size, "etag", NOON) for number, size in enumerate(sizes)]
    parts = list(batches(files, PARSED_BYTES))
    assert [[file.size for file in batch] for batch in parts] == wanted
    assert [file for batch in parts for file in batch] == files

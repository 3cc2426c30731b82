"""`make bench` prints a table whatever its rows have."""

from __future__ import annotations

import pytest

from tests.benchmarks.__main__ import print_table


def test_rows_may_lack_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([{"what": "first", "peak_mb": 362}, {"what": "second", "wall_s": 0.5, "peak_mb": 1000}])
    assert capsys.readouterr().out.splitlines() == [
        "  what    peak_mb  wall_s",
        "  first       362",
        "  second    1,000     0.5",
    ]

"""What a row is: the columns of both layers, the checks that a line must pass, and the flags of odd rows.

Column names, types and order are the contract's. A new validation rule is one `Check` in `row_checks`.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    import pandera.pandas as pandera

PACKED = "timestamp|gmt_local_diff_sec|gmt_servertime_diff_sec"
BATTERY = "givesbonus_acceptspedelecs_fbbattlevel"
WHOLE = ("bikes", "spaces", "total_docks", "pedelecs")
REAL = ("lat", "lon")
BOOLEAN = ("installed", "locked", "temporary")
REQUIRED = ("name", *REAL, "bikes", "spaces", *BOOLEAN, "total_docks", "pedelecs")
"""The columns that a header must name after the id and the packed column; `BATTERY` is optional."""

FLAGS = ("outside_service_area", "over_capacity", "future_timestamp", "stale_timestamp")
RECORD_TYPES = ("station", "bike", "unknown")

_COMMON = [
    pa.field("station_id", pa.string()),
    pa.field("name", pa.string()),
    pa.field("timestamp", pa.timestamp("us")),
    pa.field("gmt_local_diff_sec", pa.int64()),
    pa.field("gmt_servertime_diff_sec", pa.int64()),
    pa.field("lat", pa.float64()),
    pa.field("lon", pa.float64()),
    pa.field("bikes", pa.int64()),
    pa.field("spaces", pa.int64()),
    pa.field("installed", pa.bool_()),
    pa.field("locked", pa.bool_()),
    pa.field("temporary", pa.bool_()),
    pa.field("total_docks", pa.int64()),
    pa.field(BATTERY, pa.bool_()),
    pa.field("pedelecs", pa.int64()),
]
_SOURCE = [pa.field("s3_source_key", pa.string()), pa.field("file_timestamp", pa.timestamp("us"))]

PROCESSED = pa.schema([*_COMMON, *_SOURCE])
ENHANCED = pa.schema(
    [
        *_COMMON,
        pa.field("record_type", pa.string()),
        *_SOURCE,
        pa.field("date", pa.date32()),
        pa.field("processed_at", pa.timestamp("us")),
        pa.field("battery_level", pa.int64()),
        pa.field("quality_flags", pa.list_(pa.field("element", pa.string()))),
    ]
)

_TEXT = pa.dictionary(pa.int32(), pa.string())
ENCODED = pa.schema([field.with_type(_TEXT) if field.type == pa.string() else field for field in ENHANCED])
"""The enhanced layer in memory: its texts repeat, so they are dictionaries there. In Parquet they are plain strings."""


@cache
def row_checks() -> pandera.DataFrameSchema:
    """The Pandera schema of typed rows: what is impossible is rejected, what is odd passes.

    Imported on first use: Pandera takes most of a second, and only processors need it.
    """
    with _hidden("hypothesis"):
        import pandas as pd  # noqa: PLC0415 - on first use, see above
        import pandera.pandas as pandera  # noqa: PLC0415 - the same

        pandera.DataFrameSchema().validate(pd.DataFrame())  # it imports the rest with its first validation

    def at_least(low: int) -> pandera.Check:
        return pandera.Check.ge(low, name="range", error=f"must be at least {low}")

    def within(limit: int) -> pandera.Check:
        return pandera.Check.in_range(-limit, limit, name="range", error=f"must lie within -{limit} and {limit}")

    not_empty = pandera.Check(lambda text: text != "", name="required", error="must not be empty")
    return pandera.DataFrameSchema(
        {
            "station_id": pandera.Column(checks=not_empty),
            "name": pandera.Column(checks=not_empty),
            "lat": pandera.Column(float, within(90)),
            "lon": pandera.Column(float, within(180)),
            "bikes": pandera.Column("int64", at_least(0)),
            "spaces": pandera.Column("int64", at_least(0)),
            "total_docks": pandera.Column("int64", at_least(1)),
            "pedelecs": pandera.Column("int64", at_least(0)),
        }
    )


@contextlib.contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Meanwhile this module can't be imported, unless it was already.

    Pandera imports Hypothesis where it is installed, to make up test data: for each of our processes that would be half
    a second and 7 MB.
    """
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # Python's own way to forbid an import
    try:
        yield
    finally:
        sys.modules.pop(module, None)

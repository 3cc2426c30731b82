"""What a row is, whatever feed it comes from: the columns of both layers, and the flags of odd rows.

Column names, types and order are the contract's.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from bikeflow.core.layout import Layer

FLAGS = {  # in the order of their columns, with what these count
    "outside_service_area": "Rows outside the service area ([rules] lat_min to lon_max).",
    "over_capacity": "Rows with more bikes than docks (bikes > total_docks).",
    "future_timestamp": "Rows whose timestamp is later than their snapshot ([rules] future_seconds).",
    "stale_timestamp": "Rows whose timestamp is much older than their snapshot ([rules] stale_seconds).",
}
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
    pa.field("givesbonus_acceptspedelecs_fbbattlevel", pa.bool_()),
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
        pa.field("vehicle_type", pa.string()),
        pa.field("is_returning", pa.bool_()),
        pa.field("bikes_disabled", pa.int64()),
        pa.field("docks_disabled", pa.int64()),
        pa.field("range_meters", pa.float64()),
    ]
)
ADDED = ("vehicle_type", "is_returning", "bikes_disabled", "docks_disabled", "range_meters")
"""The last columns of the enhanced layer: files of a version that knew the WRM only lack them, where all are null."""

SCHEMAS: Mapping[Layer, pa.Schema] = {"processed": PROCESSED, "enhanced": ENHANCED}

_TEXT = pa.dictionary(pa.int32(), pa.string())
ENCODED = pa.schema([field.with_type(_TEXT) if field.type == pa.string() else field for field in ENHANCED])
"""The enhanced layer in memory: its texts repeat, so they are dictionaries there. In Parquet they are plain strings."""


def is_enhanced(schema: pa.Schema) -> bool:
    """Whether a file's schema is that of the enhanced layer, with or without the columns that were added to it."""
    return bool(schema.equals(ENHANCED) or schema.equals(_FORMER))


def completed(table: pa.Table) -> pa.Table:
    """The same rows with the columns that were added to the enhanced layer: null where the table lacks them."""
    for name in ADDED:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, ENCODED.field(name).type))
    return table


_FORMER = pa.schema([field for field in ENHANCED if field.name not in ADDED])

"""From typed rows to accepted rows: reject what is impossible, classify, flag what is odd.

Pure functions of a table; the rules are the contract's.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.errors
import pyarrow as pa
import pyarrow.compute as pc

from bikeflow.core.model import RawFile
from bikeflow.core.schema import ADDED, ENCODED, FLAGS, RECORD_TYPES
from bikeflow.feeds.wrm.checks import row_checks
from bikeflow.feeds.wrm.document import BATTERY, Rejected
from bikeflow.feeds.wrm.exact import MICRO, battery_level
from bikeflow.settings.sections import RulesSettings

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_FLAG_SETS = pa.array(
    [[flag for bit, flag in enumerate(FLAGS) if mask >> bit & 1] for mask in range(1 << len(FLAGS))],
    ENCODED.field("quality_flags").type,
)


def impossible(table: pa.Table) -> list[tuple[int, Rejected]]:
    """Positions of the rows that the Pandera schema refuses, and of those whose id was accepted earlier in the file."""
    found = _refused_by_schema(table)
    keep = np.ones(table.num_rows, dtype=bool)
    keep[list(found)] = False
    position = np.flatnonzero(keep)
    station = _one_chunk(table["station_id"])
    identity = table["document"].to_numpy() * (len(station.dictionary) + 1) + station.indices.to_numpy()
    repeated = pd.Series(identity[position]).duplicated().to_numpy()
    for row in position[repeated].tolist():
        value, message = table["station_id"][row].as_py(), "station_id was accepted earlier in the same file"
        found[row] = Rejected(message, check="unique", column="station_id", value=value)
    return sorted(found.items())


def enhanced(table: pa.Table, files: Sequence[RawFile], rules: RulesSettings) -> pa.Table:
    """Accepted typed rows as rows of the enhanced layer (columns `ENCODED`), in the same order."""
    document = table["document"].to_numpy()
    times = [round((file.time - _EPOCH) / dt.timedelta(microseconds=1)) for file in files]
    file_time = _per_row(times, document, pa.int64())
    battery = _one_chunk(table[BATTERY])
    is_true = pa.array([text == "true" for text in battery.dictionary.to_pylist()], pa.bool_())
    level = pa.array([battery_level(text) for text in battery.dictionary.to_pylist()], pa.int64())
    time = file_time.cast(pa.timestamp("us"))
    columns = {name: table[name] for name in table.column_names if name not in ("line", "document")}
    columns["timestamp"] = table["timestamp"].cast(pa.timestamp("us"))
    columns[BATTERY] = pc.fill_null(is_true.take(battery.indices), False)
    columns["record_type"] = _record_type(table)
    columns["s3_source_key"] = pa.DictionaryArray.from_arrays(
        pa.array(document.astype(np.int32)), pa.array([file.key for file in files])
    )
    columns["file_timestamp"] = time
    columns["date"] = _per_row([file.partition.day for file in files], document, pa.date32())
    # Not the wall clock: the same raw file always gives the same bytes. The ledger knows when it ran.
    columns["processed_at"] = time
    columns["battery_level"] = level.take(battery.indices)
    columns["quality_flags"] = _flags(table, file_time.to_numpy(), rules)
    columns.update({name: pa.nulls(table.num_rows, ENCODED.field(name).type) for name in ADDED})
    return pa.table([columns[name] for name in ENCODED.names], schema=ENCODED)


def _refused_by_schema(table: pa.Table) -> dict[int, Rejected]:
    schema = row_checks()
    frame = table.select(list(schema.columns)).to_pandas()
    try:
        schema.validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        cases = error.failure_cases
    else:
        return {}
    order = {name: position for position, name in enumerate(schema.columns)}
    first: dict[int, Rejected] = {}
    rows = zip(cases["index"], cases["column"], cases["check"], cases["failure_case"], strict=True)
    for row, column, text, value in sorted(rows, key=lambda case: (case[0], order[case[1]])):
        check = next(item for item in schema.columns[column].checks if text in (item.error, item.name))
        reason = Rejected(f"{column} {check.error}", check=str(check.name), column=column, value=str(value))
        first.setdefault(int(row), reason)
    return first


def _record_type(table: pa.Table) -> pa.Array:
    """Station, bike or unknown, by id and name."""
    station_id, name = _one_chunk(table["station_id"]), _one_chunk(table["name"])
    named_bike = pc.starts_with(name.dictionary, "BIKE").take(name.indices)
    digits = pc.match_substring_regex(station_id.dictionary, "^[0-9]+$").take(station_id.indices)
    is_station = pc.and_not(digits, named_bike)
    is_bike = pc.and_(pc.starts_with(station_id.dictionary, "fb").take(station_id.indices), named_bike)
    kind = pc.if_else(is_station, 0, pc.if_else(is_bike, 1, 2)).cast(pa.int32())
    return pa.DictionaryArray.from_arrays(kind, pa.array(RECORD_TYPES))


def _flags(table: pa.Table, file_time: npt.NDArray[np.int64], rules: RulesSettings) -> pa.Array:
    lat, lon = table["lat"].to_numpy(), table["lon"].to_numpy()
    inside = (lat >= rules.lat_min) & (lat <= rules.lat_max) & (lon >= rules.lon_min) & (lon <= rules.lon_max)
    over = table["bikes"].to_numpy() > table["total_docks"].to_numpy()
    ahead = (table["timestamp"].to_numpy().astype(np.float64) - file_time) / MICRO
    odd = {
        "outside_service_area": ~inside,
        "over_capacity": over,
        "future_timestamp": ahead > rules.future_seconds,
        "stale_timestamp": ahead < -rules.stale_seconds,
    }
    mask = sum(odd[flag].astype(np.int64) << bit for bit, flag in enumerate(FLAGS) if flag in odd)
    return _FLAG_SETS.take(pa.array(mask))


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array; where it has one chunk, as parsed, nothing is copied."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _per_row(values: Sequence[object], document: npt.NDArray[np.int64], kind: pa.DataType) -> pa.Array:
    return pa.array(values, kind).take(pa.array(document))

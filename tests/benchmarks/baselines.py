"""What a user would write instead of bikeflow: one day of raw files into one Parquet file, with no checks at all.

Run as a process: `python -m tests.benchmarks.baselines duckdb|pandas|pyarrow IN_DIR OUT.parquet`.
"""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path
from typing import Any

PACKED = "timestamp|gmt_local_diff_sec|gmt_servertime_diff_sec"
BATTERY = "givesbonus_acceptspedelecs_fbbattlevel"

DUCKDB = """
COPY (
    SELECT
        id AS station_id, name,
        make_timestamp(round(split_part(packed, '|', 1)::DOUBLE * 1e6)::BIGINT) AS timestamp,
        split_part(packed, '|', 2)::BIGINT AS gmt_local_diff_sec,
        split_part(packed, '|', 3)::BIGINT AS gmt_servertime_diff_sec,
        lat, lon, bikes, spaces, installed, locked, temporary, total_docks, battery, pedelecs,
        CASE WHEN regexp_full_match(id, '[0-9]+') AND NOT name LIKE 'BIKE%' THEN 'station'
             WHEN id LIKE 'fb%' AND name LIKE 'BIKE%' THEN 'bike' ELSE 'unknown' END AS record_type,
        parse_filename(filename) AS s3_source_key,
        strptime(parse_filename(filename)[14:32], '%Y-%m-%d_%H-%M-%S') AS file_timestamp
    FROM read_csv('{folder}/*.txt', auto_detect = false, header = true, delim = ',', quote = '"', escape = '"',
        filename = true, columns = {{'id': 'VARCHAR', 'packed': 'VARCHAR', 'name': 'VARCHAR', 'lat': 'DOUBLE',
        'lon': 'DOUBLE', 'bikes': 'BIGINT', 'spaces': 'BIGINT', 'installed': 'BOOLEAN', 'locked': 'BOOLEAN',
        'temporary': 'BOOLEAN', 'total_docks': 'BIGINT', 'battery': 'VARCHAR', 'pedelecs': 'BIGINT'}})
) TO '{out}' (FORMAT parquet, COMPRESSION zstd)
"""


def with_duckdb(folder: Path, out: Path) -> None:
    """One SQL statement, two threads."""
    import duckdb  # noqa: PLC0415 - each baseline pays for its own imports only

    with duckdb.connect() as connection:
        connection.execute("SET threads = 2; SET TimeZone = 'UTC'")
        connection.execute(DUCKDB.format(folder=folder, out=out))


def with_pandas(folder: Path, out: Path) -> None:
    """A loop over the files."""
    import pandas as pd  # noqa: PLC0415

    frames = []
    for path in sorted(folder.glob("*.txt")):
        frame = pd.read_csv(path, dtype={"#id": str, "name": str, BATTERY: str})
        packed = frame[PACKED].str.split("|", expand=True)
        frame["timestamp"] = pd.to_datetime(packed[0].astype(float), unit="s")
        frame["gmt_local_diff_sec"] = packed[1].astype("int64")
        frame["gmt_servertime_diff_sec"] = packed[2].astype("int64")
        frame = frame.drop(columns=PACKED).rename(columns={"#id": "station_id"})
        frame["s3_source_key"] = path.name
        frame["file_timestamp"] = pd.to_datetime(path.name[13:32], format="%Y-%m-%d_%H-%M-%S")
        frames.append(frame)
    rows = pd.concat(frames, ignore_index=True)
    is_named_bike = rows["name"].str.startswith("BIKE")
    rows["record_type"] = "unknown"
    rows.loc[rows["station_id"].str.isdigit() & ~is_named_bike, "record_type"] = "station"
    rows.loc[rows["station_id"].str.startswith("fb") & is_named_bike, "record_type"] = "bike"
    rows.to_parquet(out, index=False, compression="zstd")


def with_pyarrow(folder: Path, out: Path) -> None:
    """pyarrow.csv file by file, one table at the end."""
    import pyarrow.parquet as pq  # noqa: PLC0415

    pq.write_table(read_with_pyarrow(folder), out, compression="zstd")


def read_with_pyarrow(folder: Path) -> Any:
    """The files of a folder as one table."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415
    import pyarrow.csv as pcsv  # noqa: PLC0415

    options = pcsv.ConvertOptions(column_types={"#id": pa.string(), "name": pa.string(), BATTERY: pa.string()})
    tables = []
    for path in sorted(folder.glob("*.txt")):
        table = pcsv.read_csv(path, read_options=pcsv.ReadOptions(use_threads=False), convert_options=options)
        at = dt.datetime.strptime(path.name[13:32], "%Y-%m-%d_%H-%M-%S")  # noqa: DTZ007 - naive UTC, as in Parquet
        table = table.append_column("s3_source_key", pa.repeat(path.name, table.num_rows))
        tables.append(table.append_column("file_timestamp", pa.repeat(pa.scalar(at, pa.timestamp("us")), len(table))))
    rows = pa.concat_tables(tables).combine_chunks()
    packed = pc.split_pattern(rows[PACKED], "|")
    seconds = pc.cast(pc.list_element(packed, 0), pa.float64())
    rows = rows.append_column("timestamp", pc.cast(pc.round(pc.multiply(seconds, 1e6)), pa.int64()))
    rows = rows.append_column("gmt_local_diff_sec", pc.cast(pc.list_element(packed, 1), pa.int64()))
    rows = rows.append_column("gmt_servertime_diff_sec", pc.cast(pc.list_element(packed, 2), pa.int64()))
    named_bike = pc.starts_with(rows["name"], "BIKE")
    is_station = pc.and_not(pc.ascii_is_decimal(rows["#id"]), named_bike)
    is_bike = pc.and_(pc.starts_with(rows["#id"], "fb"), named_bike)
    kind = pc.if_else(is_station, "station", pc.if_else(is_bike, "bike", "unknown"))
    return rows.append_column("record_type", kind)


if __name__ == "__main__":
    {"duckdb": with_duckdb, "pandas": with_pandas, "pyarrow": with_pyarrow}[sys.argv[1]](
        Path(sys.argv[2]), Path(sys.argv[3])
    )

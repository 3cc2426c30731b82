"""Readers in other processes, without pause, while the database is refreshed again and again."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import duckdb
import pytest

from bikeflow.settings.sections import WarehouseSettings
from tests.support.parquet import Row, at, snapshot
from tests.warehouse.conftest import open_analytics

STATIONS = [str(number) for number in range(40)]

# Each round opens the database anew, as any tool would, and looks at tables and views. Every station has as many bikes
# as the snapshot's number, so that a mixture of two snapshots shows. A reader does not outlive tests that were killed.
OPENING = """
import duckdb, json, os, pathlib, sys
path, stop, parent = sys.argv[1], pathlib.Path(sys.argv[2]), os.getppid()
rounds, newest, torn = 0, None, 0
while os.getppid() == parent and (not stop.exists() or rounds < 5):
    with duckdb.connect(path, read_only=True) as connection:
        ask = lambda sql: connection.execute(sql).fetchall()
        seen, low, high, stations = ask("SELECT max(file_timestamp), min(bikes), max(bikes), count(*)"
                                        " FROM wrm_analytics.wrm_stations_latest")[0]
        told, counted = ask("SELECT newest_snapshot, stations FROM wrm_analytics.publication")[0]
        bikes, = ask("SELECT count(*) FROM wrm_analytics.wrm_bikes_latest WHERE file_timestamp = "
                     f"TIMESTAMP '{seen}'")[0]
        history = ask("SELECT file_timestamp, count(*) FROM wrm_analytics.wrm_history GROUP BY ALL ORDER BY 1")
        first = ask("SELECT file_timestamp FROM wrm_analytics.wrm_stations_enhanced_data LIMIT 1")[0][0]
    torn += low != high or stations != 40 or told != seen or counted != 40 or bikes != 2 or first != seen
    torn += any(count != 42 for _, count in history) or history[-1][0] != seen
    torn += newest is not None and seen < newest
    newest, rounds = seen, rounds + 1
print(json.dumps({"rounds": rounds, "torn": int(torn)}))
"""

# A tool that keeps its connection: to it, tables and views stay as they were.
HOLDING = """
import duckdb, json, os, pathlib, sys
path, stop, parent = sys.argv[1], pathlib.Path(sys.argv[2]), os.getppid()
rounds, torn = 0, 0
with duckdb.connect(path, read_only=True) as connection:
    ask = lambda: [connection.execute(f"FROM wrm_analytics.{name} ORDER BY ALL").fetchall()
                   for name in ("wrm_stations_latest", "wrm_history")]
    first = ask()
    while os.getppid() == parent and (not stop.exists() or rounds < 5):
        torn, rounds = torn + (ask() != first), rounds + 1
print(json.dumps({"rounds": rounds, "torn": int(torn)}))
"""


def numbered(number: int) -> list[Row]:
    time = at(12 + number // 30, number % 30 * 2)  # 200 of them end at 18:40
    return snapshot(time, *STATIONS, bikes=number) + snapshot(time, "fb1", "fb2")


@pytest.mark.parametrize("refreshes", [20, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.long])])
async def test_readers_in_other_processes_see_no_error_nor_a_torn_result(tmp_path: Path, refreshes: int) -> None:
    stop = tmp_path / "stop"
    async with open_analytics(tmp_path / "data", settings=WarehouseSettings(threads=1)) as analytics:
        hours: dict[int, list[Row]] = {}
        hours.setdefault(12, []).extend(numbered(0))
        await analytics.layer.put_hour(12, *hours[12])
        await analytics.refresh()
        readers = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", program, analytics.warehouse.path, stop),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            for program in (OPENING, HOLDING)
        ]
        try:
            for number in range(1, refreshes + 1):
                hour = 12 + number // 30
                hours.setdefault(hour, []).extend(numbered(number))
                await analytics.layer.put_hour(hour, *hours[hour])
                await analytics.refresh()
        finally:
            await asyncio.to_thread(stop.touch)
            results = [await reader.communicate() for reader in readers]
    for output, errors in results:
        assert errors == b""
        told = json.loads(output)
        assert told["torn"] == 0 and told["rounds"] >= 5


async def test_a_reader_that_never_lets_go_costs_no_more_room_with_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps the one file alive that it has opened, and former versions of segments are bounded whoever reads."""
    monkeypatch.setattr("bikeflow.warehouse.mirror.RETAINED_BYTES", 20_000)
    async with open_analytics(tmp_path / "data") as analytics:
        await analytics.layer.put_hour(12, *numbered(0))
        await analytics.refresh()
        with duckdb.connect(analytics.warehouse.path, read_only=True) as reader:
            sizes = []
            for number in range(1, 15):
                await analytics.layer.put_hour(12, *numbered(number))
                await analytics.refresh()
                sizes.append(local_bytes(analytics.data_dir))
            assert reader.execute("SELECT max(bikes) FROM wrm_analytics.wrm_stations_latest").fetchone() == (0,)
        assert max(sizes[7:]) <= max(sizes[:7]) + 20_000, sizes


def local_bytes(data_dir: Path) -> int:
    """Size of what lies beside the lake, without a log that DuckDB lets grow to 16 MB before it merges it."""
    files = [path for path in data_dir.rglob("*") if path.is_file() and path.suffix != ".wal"]
    return sum(path.stat().st_size for path in files if "lake" not in path.parts)

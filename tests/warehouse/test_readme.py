"""What the README tells people to ask the database works."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from bikeflow.cli.app import app
from tests.support.parquet import at, snapshot
from tests.warehouse.conftest import open_analytics

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").partition("## Query the database")[2]
QUERIES = README.partition("\n## ")[0]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a published database."""
    data_dir = tmp_path_factory.mktemp("readme") / "data"

    async def publish() -> None:
        async with open_analytics(data_dir) as analytics:
            await analytics.layer.put_hour(8, *snapshot(at(8), "1", "2", "fb1"))
            await analytics.refresh()

    asyncio.run(publish())
    return data_dir


@pytest.mark.parametrize("arguments", re.findall(r'bikeflow query ((?:--\w+ \w+ )?"[^"]+")', QUERIES))
def test_its_commands_give_rows(data_dir: Path, arguments: str) -> None:
    *options, sql, _ = re.split(r' ?"', arguments)
    result = CliRunner().invoke(app, ["query", *" ".join(options).split(), sql, "--data-dir", str(data_dir)])
    assert result.exit_code == 0, result.exception
    assert len(result.stdout.splitlines()) > 1


@pytest.mark.parametrize(
    "sql",
    [
        *re.findall(r'(?:analytics\.duckdb "|sql\(")([^"]+)"', QUERIES),
        *re.findall(r"(?ms)^SELECT .*?;", QUERIES.partition("```sql")[2]),
    ],
)
def test_its_queries_work_in_any_client(data_dir: Path, sql: str) -> None:
    with contextlib.closing(duckdb.connect(data_dir / "analytics.duckdb", read_only=True)) as reader:
        assert reader.execute(sql).fetchall()


def test_its_table_names_all_objects_but_those_that_others_are_made_of(data_dir: Path) -> None:
    rows = re.findall(r"(?m)^\| (`.*?) \| (.*?) \|", QUERIES)
    named = {"main": " ".join(main for main, _ in rows), "wrm_analytics": " ".join(" ".join(row) for row in rows)}
    with contextlib.closing(duckdb.connect(data_dir / "analytics.duckdb", read_only=True)) as reader:
        objects = reader.execute("SELECT schema_name, object FROM catalog WHERE column_name IS NULL").fetchall()
    parts = {
        "current_rows",
        "open_station_changes",
        "recent_station_changes",
        "day_ends",
        "moved_days",
        "station_changes",
        "station_parts",
        "station_spans",
        "station_totals",
        "snapshot_parts",
        "open_bike_changes",
        "recent_bike_changes",
        "open_raw_files",
        "recent_raw_files",
        "open_polls",
        "recent_polls",
        "pipeline_files_without_rows",
    }
    assert [item for item in objects if f"`{item[1]}`" not in named[item[0]] and item[1] not in parts] == []

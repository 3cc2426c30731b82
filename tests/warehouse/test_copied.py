"""The published database in another place than its files: the catalog tells which objects still work there."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from bikeflow.cli.app import app
from bikeflow.errors import BikeflowError
from tests.support.parquet import at, snapshot
from tests.warehouse.conftest import open_analytics


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the database in a data directory of its own; the files of the original are gone."""
    data_dir, elsewhere = tmp_path_factory.mktemp("original") / "data", tmp_path_factory.mktemp("copy")

    async def publish() -> None:
        async with open_analytics(data_dir) as analytics:
            await analytics.layer.put_hour(8, *snapshot(at(8), "1", "2", "fb1"))
            await analytics.layer.put_hour(9, *snapshot(at(9), "1", "2", "fb1"))
            await analytics.refresh()

    asyncio.run(publish())
    (data_dir / "analytics.duckdb").rename(elsewhere / "analytics.duckdb")
    data_dir.rename(data_dir.with_name("moved"))
    return elsewhere


def works(connection: duckdb.DuckDBPyConnection, name: str) -> bool:
    try:
        connection.execute(f"FROM wrm_analytics.{name}").fetchall()
    except duckdb.IOException:
        return False
    return True


def test_the_catalog_tells_which_objects_work_in_a_copy(copied: Path) -> None:
    with duckdb.connect(copied / "analytics.duckdb", read_only=True) as connection:
        told = connection.execute("SELECT object, needs_files FROM wrm_analytics.catalog WHERE column_name IS NULL")
        objects = dict(told.fetchall())
        assert {name: not works(connection, name) for name in objects} == objects
    assert objects["wrm_history"] and objects["station_hourly"]
    assert not any(objects[name] for name in ("wrm_stations_latest", "station_summary", "bike_density", "catalog"))


def test_people_are_told_too(copied: Path) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, [*arguments, "--data-dir", str(copied)])
        if result.exception is not None:
            raise result.exception
        return result.stdout

    text = run("catalog")
    assert "view of files" in text and "in a copy of the database on another machine" in text
    assert run("query", "SELECT count(*) AS n FROM wrm_stations_latest") == "n\n2\n"
    with pytest.raises(BikeflowError, match="bikeflow catalog") as caught:
        run("query", "FROM station_hourly")
    assert len(str(caught.value).splitlines()) == 2


def test_the_readme_names_the_right_ones(copied: Path) -> None:
    text = Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8")
    alone, _, rest = text.partition("A copy of the file on another machine")[2].partition("Views of history")
    beside = rest.partition("read Parquet files")[0]
    with duckdb.connect(copied / "analytics.duckdb", read_only=True) as connection:
        told = connection.execute("SELECT object, needs_files FROM wrm_analytics.catalog WHERE column_name IS NULL")
        objects = dict(told.fetchall())
    assert {objects[name] for name in re.findall(r"`(\w+)`", alone)} == {False}
    assert {objects[name] for name in re.findall(r"`(\w+)`", beside)} == {True}

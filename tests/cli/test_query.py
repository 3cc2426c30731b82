"""`bikeflow query`: what it prints, in which form, and what it refuses."""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import io
import json
import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from bikeflow.cli.app import app
from bikeflow.cli.demo import _tell_what_next
from bikeflow.core.errors import BikeflowError
from tests.support.parquet import at, row, snapshot
from tests.warehouse.conftest import open_analytics

HOSTILE = 'Rynek "1", [red]x[/red]\x1b[31m\n<b>'


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a published database of 100 stations and two bikes."""
    path = tmp_path_factory.mktemp("query") / "data"

    async def publish() -> None:
        async with open_analytics(path) as analytics:
            rows = snapshot(at(8), *(f"{number:03}" for number in range(1, 100)), "fb1", "fb2")
            await analytics.layer.put_hour(8, *rows, row("100", at(8), name=HOSTILE, quality_flags=["over_capacity"]))
            await analytics.refresh()

    asyncio.run(publish())
    return path


def run(data_dir: Path, *arguments: str, stdin: str = "") -> Result:
    """The command as a program in a pipe sees it, but in this process: starting one takes longer than any query."""
    return CliRunner().invoke(app, ["query", "--data-dir", str(data_dir), *arguments], input=stdin)


def answer(data_dir: Path, *arguments: str, stdin: str = "") -> str:
    result = run(data_dir, *arguments, stdin=stdin)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def refusal(data_dir: Path, *arguments: str) -> str:
    result = run(data_dir, *arguments)
    assert isinstance(result.exception, BikeflowError) and result.stdout == ""
    assert len(str(result.exception).splitlines()) <= 2
    return str(result.exception)


def on_terminal(data_dir: Path, columns: int, *arguments: str) -> list[str]:
    """What a terminal of that width shows."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "bikeflow", "query", "--data-dir", str(data_dir), *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={"PATH": os.environ["PATH"], "COLUMNS": str(columns), "TERM": "xterm"},
        )
    finally:
        os.close(theirs)
    shown = b""
    part = b"more"
    while part:
        try:
            part = os.read(ours, 65_536)
        except OSError:  # the other side has closed the terminal
            break
        shown += part
    os.close(ours)
    assert process.wait(120) == 0, shown
    assert b"\x1b[31m" not in shown  # a name can't paint the terminal
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).splitlines()


def parsed(text: str) -> Sequence[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_pipe_gets_csv(data_dir: Path) -> None:
    text = answer(data_dir, "SELECT station_id, name, timestamp, installed, battery_level, quality_flags"
                            " FROM wrm_stations_latest WHERE station_id IN ('001', '100') ORDER BY 1")  # fmt: skip
    assert text.startswith("station_id,name,timestamp,installed,battery_level,quality_flags\n001,")
    first, last = parsed(text)
    assert (first["timestamp"], first["installed"], first["battery_level"], first["quality_flags"]) == (
        "2025-06-01 07:59:55", "true", "", "[]",
    )  # fmt: skip
    assert (last["name"], last["quality_flags"]) == (HOSTILE, '["over_capacity"]')


def test_json_is_one_array_with_a_row_on_each_line(data_dir: Path) -> None:
    sql = (
        "SELECT name, quality_flags, DATE '2025-06-01' AS day, TIMESTAMPTZ '2025-06-01 10:00:00+02' AS at,"
        " 'nan'::DOUBLE AS nothing, 1.50::DECIMAL(5,2) AS part, sum(1) OVER () AS whole, {'a': [1]} AS nested"
        " FROM wrm_stations_latest WHERE station_id >= '099' ORDER BY station_id"
    )
    text = answer(data_dir, "--format", "json", sql)
    assert json.loads(text)[1] == {
        "name": HOSTILE,
        "quality_flags": ["over_capacity"],
        "day": "2025-06-01",
        "at": "2025-06-01T08:00:00+00:00",
        "nothing": None,
        "part": 1.5,
        "whole": 2,
        "nested": {"a": [1]},
    }
    assert len(text.splitlines()) == 4
    assert answer(data_dir, "--json", "FROM wrm_stations_latest WHERE false") == "[]\n"


def test_parquet_keeps_types(data_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "latest.parquet"
    assert answer(data_dir, "--out", str(out), "FROM wrm_stations_latest") == ""
    table = pq.read_table(out)
    assert table.num_rows == 100
    with duckdb.connect(data_dir / "analytics.duckdb", read_only=True) as reader:
        assert table.schema == reader.sql("FROM wrm_analytics.wrm_stations_latest").to_arrow_table().schema
    assert [path.name for path in tmp_path.iterdir()] == ["latest.parquet"]


def test_the_suffix_of_out_chooses_the_format(data_dir: Path, tmp_path: Path) -> None:
    for name, begin in (("a.csv", b"x\n1\n"), ("a.JSON", b'[\n{"x": 1}\n]'), ("a", b"x\n1\n"), ("a.parquet", b"PAR1")):
        answer(data_dir, "--out", str(tmp_path / name), "SELECT 1 AS x")
        assert (tmp_path / name).read_bytes().startswith(begin)
    answer(data_dir, "--out", str(tmp_path / "a.txt"), "SELECT 1 AS x")
    assert "1 row" in (tmp_path / "a.txt").read_text()
    answer(data_dir, "--format", "table", "--out", str(tmp_path / "a.csv"), "SELECT 1 AS x")
    assert "1 row" in (tmp_path / "a.csv").read_text()


@pytest.mark.parametrize("name", ["a.xlsx", "a.csv.gz", "a.geojson"])
def test_an_unknown_suffix_is_refused_with_those_that_are_known(data_dir: Path, tmp_path: Path, name: str) -> None:
    text = refusal(data_dir, "--out", str(tmp_path / name), "SELECT 1")
    assert f"can't write {Path(name).suffix}" in text and ".csv, .json, .parquet, .txt" in text
    assert not list(tmp_path.iterdir())
    answer(data_dir, "--format", "csv", "--out", str(tmp_path / name), "SELECT 1 AS x")
    assert (tmp_path / name).read_bytes() == b"x\n1\n"


def test_out_never_takes_the_place_of_a_device_and_a_dash_is_standard_output(data_dir: Path, tmp_path: Path) -> None:
    assert answer(data_dir, "--out", "-", "SELECT 1 AS x") == "x\n1\n"
    os.mkfifo(tmp_path / "pipe")
    assert "is not a file" in refusal(data_dir, "--out", str(tmp_path / "pipe"), "SELECT 1")
    assert (tmp_path / "pipe").is_fifo()


def test_control_characters_reach_files_and_pipes_but_never_a_terminal(data_dir: Path, tmp_path: Path) -> None:
    hostile = "SELECT chr(27) || '[31mred' || chr(155) || '2J' || chr(13) AS x"
    raw = "\x1b[31mred\x9b2J\r"
    assert answer(data_dir, "--format", "csv", hostile) == f'x\n"{raw}"\n'
    answer(data_dir, "--out", str(tmp_path / "a.csv"), hostile)
    assert (tmp_path / "a.csv").read_bytes() == f'x\n"{raw}"\n'.encode()
    assert json.loads(answer(data_dir, "--json", hostile)) == [{"x": raw}]
    shown = on_terminal(data_dir, 100, "--format", "csv", hostile)
    assert shown == ["x", '"\\u001b[31mred\\u009b2J\\u000d"']
    assert json.loads("".join(on_terminal(data_dir, 100, "--json", hostile))) == [{"x": raw}]


def test_nor_do_they_reach_a_terminal_in_names_of_columns_and_in_plans(data_dir: Path) -> None:
    name = "\x1b[31mred\x9b2J"
    one, many = (", ".join(f'{number} AS "{name}{number}"' for number in range(count)) for count in (1, 5))
    plans = f"EXPLAIN SELECT '{name}'; EXPLAIN ANALYZE SELECT '{name}' || name FROM wrm_stations_latest"
    shown = "".join(on_terminal(data_dir, 30, f"SELECT {one}; SELECT {many}; {plans}"))
    assert "\x9b" not in shown and "red" in shown


FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"]


def test_a_file_for_spreadsheets_has_no_formulas_and_a_pipe_gets_what_there_is(data_dir: Path, tmp_path: Path) -> None:
    given = [*FORMULAS, "-5", "+1.5e3", "a=1", "'=1", ""]
    listed = ", ".join("'" + text.replace("'", "''") + "'" for text in given)
    sql = f'SELECT unnest([{listed}]) AS "=x", -5 AS n, -1.5::DOUBLE AS d, [-1] AS l'
    assert [row["=x"] for row in parsed(answer(data_dir, "--format", "csv", sql))] == given
    out = tmp_path / "a.csv"
    answer(data_dir, "--out", str(out), sql)
    rows = list(csv.reader(io.StringIO(out.read_bytes().decode(), newline="")))
    assert rows[0] == ["'=x", "n", "d", "l"]
    assert [row[0] for row in rows[1:]] == [*(f"'{text}" for text in FORMULAS), "-5", "+1.5e3", "a=1", "'=1", ""]
    assert {tuple(row[1:]) for row in rows[1:]} == {("-5", "-1.5", "[-1]")}
    answer(data_dir, "--out", str(out), "--formulas", sql)
    assert [row["=x"] for row in parsed(out.read_bytes().decode())] == given
    assert "'=1+1" in answer(data_dir, "--format", "csv", "--no-formulas", sql)


def test_the_first_query_that_the_demo_suggests_shows_bikes(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _tell_what_next(data_dir, live=True)
    suggested = next(line for line in capsys.readouterr().out.splitlines() if " query " in line)
    _, _, arguments = suggested.partition(" query ")
    shown = on_terminal(data_dir, 120, *shlex.split(arguments))
    assert "bikes" in shown[1] and "do not fit" not in "".join(shown)


def test_a_terminal_gets_a_table_that_fits(data_dir: Path) -> None:
    lines = on_terminal(data_dir, 90, "FROM wrm_stations_latest ORDER BY station_id DESC")
    table = [line for line in lines if line[:1] in "│┃┏┡└"]
    assert all(len(line) <= 90 for line in table)
    assert len(table) == 60 + 4
    text = "\n".join(lines)
    assert "the first 60 rows are shown; --format csv gives all" in text
    assert "more columns do not fit" in text and "quality_flags" in text
    assert "[red]x[/red]\N{REPLACEMENT CHARACTER}[31m" in text


def test_without_sql_a_terminal_shows_what_there_is(data_dir: Path) -> None:
    text = "\n".join(on_terminal(data_dir, 100))
    for name in ("wrm_stations_latest", "wrm_bikes_latest", "wrm_stations_enhanced_data", "publication"):
        assert name in text
    assert "newest snapshot" in text and "main.history" in text


def test_sql_comes_from_standard_input_too(data_dir: Path) -> None:
    for arguments in ([], ["-"]):
        assert answer(data_dir, *arguments, stdin="SELECT count(*) AS n FROM wrm_bikes_latest;\n") == "n\n2\n"


def test_several_statements_give_all_results_as_tables_and_else_must_be_asked_one_by_one(
    data_dir: Path, tmp_path: Path
) -> None:
    sql = "SET VARIABLE x = 41; SELECT getvariable('x') + 1 AS answer; SET VARIABLE x = 1"
    assert answer(data_dir, sql) == "answer\n42\n"
    two = f"{sql}; SELECT getvariable('x') AS next"
    shown = answer(data_dir, "--format", "table", two)
    assert shown.index("answer") < shown.index("42") < shown.index("next") and shown.count("1 row") == 2
    for arguments in ([], ["--json"], ["--out", str(tmp_path / "a.csv")]):
        assert refusal(data_dir, *arguments, two).startswith("2 of these statements give rows")
    assert not list(tmp_path.iterdir())
    answer(data_dir, "--out", str(tmp_path / "a.txt"), two)
    assert (tmp_path / "a.txt").read_text().count("1 row") == 2


def test_the_usual_ways_to_look_around_work(data_dir: Path) -> None:
    assert "wrm_stations_latest" in answer(data_dir, "SHOW TABLES")
    assert "quality_flags" in answer(data_dir, "DESCRIBE wrm_history")
    assert "station_id" in answer(data_dir, "SUMMARIZE wrm_stations_latest")
    assert "READ_PARQUET" in answer(data_dir, "--format", "table", "EXPLAIN SELECT avg(bikes) FROM wrm_history")
    assert answer(data_dir, "PIVOT (SELECT 'a' AS k, 2 AS v) ON k USING sum(v)") == "a\n2\n"
    assert answer(data_dir, "SELECT count(*) AS n FROM wrm_analytics.wrm_history") == "n\n102\n"


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO main.station_summary FROM main.station_summary",
        "UPDATE main.station_summary SET observations = 0",
        "DELETE FROM main.station_summary",
        "DROP TABLE main.station_summary",
        "CREATE TABLE mine AS SELECT 1",
        "CREATE OR REPLACE VIEW wrm_history AS SELECT 1",
    ],
)
def test_the_database_is_never_written(data_dir: Path, sql: str) -> None:
    before = (data_dir / "analytics.duckdb").read_bytes()
    assert "query only reads" in refusal(data_dir, sql)
    assert (data_dir / "analytics.duckdb").read_bytes() == before


@pytest.mark.parametrize("sql", ["COPY wrm_bikes_latest TO 'x.csv'", "ATTACH 'x.duckdb'", "EXPORT DATABASE 'x'"])
def test_nor_is_anything_else(data_dir: Path, sql: str) -> None:
    assert "query only reads" in refusal(data_dir, sql)


def test_mistakes_are_told_in_a_line_or_two(data_dir: Path) -> None:
    assert refusal(data_dir, "SELEC 1") == 'Parser Error: syntax error at or near "SELEC"'
    assert "wrm_stations_latest" in refusal(data_dir, "FROM wrm_station_latest")
    assert "no statement" in refusal(data_dir, ";")
    assert "Conversion Error" in refusal(data_dir, "SELECT 'x'::INTEGER")


def test_a_mistake_ends_with_exit_code_1(data_dir: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "bikeflow", "query", "--data-dir", str(data_dir), "FROM nothing"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: Catalog Error: Table with name nothing does not exist!\n")


def test_before_the_first_publication_it_says_how_to_get_one(tmp_path: Path) -> None:
    assert "bikeflow run" in refusal(tmp_path, "SELECT 1")
    assert not list(tmp_path.iterdir())


def test_a_damaged_database_says_how_to_mend_it(tmp_path: Path) -> None:
    (tmp_path / "analytics.duckdb").write_text("no database")
    assert "bikeflow refresh" in refusal(tmp_path, "SELECT 1")


def test_an_output_that_cannot_be_written_is_no_traceback(data_dir: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "no" / "such" / "file.csv")
    assert "No such file" in refusal(data_dir, "--out", out, "SELECT 1")


def test_parquet_is_not_thrown_at_a_terminal(data_dir: Path) -> None:
    with pytest.raises(AssertionError, match="--out"):
        on_terminal(data_dir, 100, "--format", "parquet", "SELECT 1")


def test_large_results_stream(data_dir: Path) -> None:
    started = dt.datetime.now(dt.UTC)
    process = subprocess.Popen(
        [sys.executable, "-m", "bikeflow", "query", "--data-dir", str(data_dir), "FROM range(1_000_000_000)"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(3)] == [b"range\n", b"0\n", b"1\n"]
    process.stdout.close()
    process.wait(120)
    assert (dt.datetime.now(dt.UTC) - started).total_seconds() < 120

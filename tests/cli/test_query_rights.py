"""`bikeflow query` only reads, and only what the database names, whatever the SQL is."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_query import answer, refusal
from tests.support.parquet import at, snapshot
from tests.warehouse.conftest import open_analytics

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published database, in a directory whose name has characters that patterns give a meaning."""
    path = tmp_path_factory.mktemp("it's [a] b*") / "data"

    async def publish() -> None:
        async with open_analytics(path) as analytics:
            await analytics.layer.put_hour(8, *snapshot(at(8), "001", "002", "fb1"))
            await analytics.refresh()

    asyncio.run(publish())
    return path


def contents(root: Path) -> dict[Path, str]:
    """What lies below a directory."""
    return {path: hashlib.md5(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}


def mirrored(data_dir: Path) -> Path:
    """A file that the database names."""
    return next(data_dir.glob("mirror/enhanced/system_id=wrm/*/*.parquet"))


def test_what_the_database_names_is_read(data_dir: Path) -> None:
    assert answer(data_dir, "SELECT count(*) AS n FROM wrm_history") == "n\n3\n"
    assert answer(data_dir, "--system", "wrm", "SELECT count(*) AS n FROM wrm_history") == "n\n3\n"
    assert answer(data_dir, "PIVOT wrm_history ON record_type USING count(*) GROUP BY installed").count("\n") == 2
    assert "analyzed" in answer(data_dir, "--format", "csv", "EXPLAIN ANALYZE SELECT count(*) FROM wrm_history")
    assert "Total Time" in answer(data_dir, "--format", "csv", "EXPLAIN (ANALYZE) /* COPY */ FROM wrm_history")
    assert answer(data_dir, "SET VARIABLE x = 2; SELECT getvariable('x') AS x") == "x\n2\n"
    assert answer(data_dir, "USE main; SELECT count(*) AS n FROM publication") == "n\n1\n"


@pytest.mark.parametrize("of_one_system", [[], ["--system", "wrm"]])
@pytest.mark.parametrize(
    "sql",
    [
        "FROM read_text('{secret}')",
        "SELECT * FROM read_csv('{secret}')",
        "FROM glob('{home}/*')",
        "FROM query('FROM read_text(''{secret}'')')",
        "FROM read_text('{mirror}/../../../../../../../../../{secret}')",
        "FROM read_blob('/proc/self/environ')",
        "FROM read_text('https://127.0.0.1:1/')",
    ],
)
def test_no_other_file_is(data_dir: Path, tmp_path: Path, sql: str, of_one_system: list[str]) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the key is 42")
    filled = sql.format(secret=secret, home=tmp_path, mirror=mirrored(data_dir).parent)
    assert "42" not in refusal(data_dir, *of_one_system, filled)


@pytest.mark.parametrize("of_one_system", [[], ["--system", "wrm"]])
@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO '{out}'",
        "COPY (SELECT 1) TO '{mirrored}' (USE_TMP_FILE false)",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{mirrored}' (USE_TMP_FILE false)",
        "EXPLAIN (ANALYZE, FORMAT json) -- x\nCOPY (PIVOT (SELECT 1 AS a) ON a USING sum(a)) TO '{out}'",
        "EXPLAIN ANALYZE PIVOT (SELECT 1 AS a) ON a USING sum(a); COPY (SELECT 1) TO '{out}'",
        "PREPARE v AS COPY (SELECT 1) TO '{out}'; EXECUTE v",
        "CALL enable_logging('QueryLog', storage = 'file', storage_config = {{'path': '{out}'}})",
        "CALL enable_profiling(format = 'json', save_location = '{out}')",
        "SET profiling_output = '{out}'; SELECT 1",
        "SET enable_external_access = true; SELECT 1",
        "SET allowed_directories = ['/']; SELECT 1",
        "PRAGMA profiling_output = '{out}'; SELECT 1",
        "ATTACH '{out}'",
        "EXPORT DATABASE '{out}'",
        "INSTALL httpfs",
        "LOAD '{out}'",
        "CREATE TEMP TABLE x AS SELECT 1",
        "CREATE SECRET (TYPE s3)",
        "CHECKPOINT",
        "BEGIN",
    ],
)
def test_nothing_is_written_and_nothing_set(data_dir: Path, tmp_path: Path, sql: str, of_one_system: list[str]) -> None:
    before = contents(data_dir)
    assert refusal(data_dir, *of_one_system, sql.format(out=tmp_path / "out.json", mirrored=mirrored(data_dir)))
    assert not list(tmp_path.iterdir())
    assert contents(data_dir) == before


def test_a_refusal_says_what_is_allowed(data_dir: Path) -> None:
    for sql in ("PREPARE v AS SELECT 1", "EXPLAIN ANALYZE COPY (SELECT 1) TO 'x.csv'", "CALL pragma_version()"):
        text = refusal(data_dir, sql)
        assert "query only reads" in text and "SELECT" in text and "--out FILE" in text


@pytest.mark.parametrize("hidden", [False, True])
def test_logging_that_a_select_turns_on_writes_nothing(data_dir: Path, tmp_path: Path, hidden: bool) -> None:
    """In a process of its own: DuckDB 1.5 does not lock this setting, and may abort where it can't write its log."""
    name = "'FROM enable_' || 'logging(" if hidden else "FROM enable_logging("
    for path in (tmp_path / "log", mirrored(data_dir), mirrored(data_dir).parent):
        call = (
            f"'QueryLog', storage = 'file', storage_config = {{'path': '{str(path).replace(chr(39), chr(39) * 2)}'}})"
        )
        sql = f"FROM query({name}{call.replace(chr(39), chr(39) * 2)}')" if hidden else name + call
        before = contents(data_dir)
        command = [sys.executable, "-m", "bikeflow", "query", "--data-dir", str(data_dir), "-f", "table", sql]
        command[-1] += "; SELECT 1"
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert result.returncode != 0
        if not hidden:
            assert "enable_logging" in result.stderr and result.returncode == 1
        assert contents(data_dir) == before and not (tmp_path / "log").exists()

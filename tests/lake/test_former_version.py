"""An archive that commit 7458407 has left, the last version that knew one system only, is taken up as it is.

`tests/data/archive_of_7458407.tar.xz` was made by running that commit's `bikeflow run` over an S3 server: the four real
snapshots and one with bad lines (two sealed days), two snapshots fetched on 2026-11-28 (an open hour), then two more
while the server was gone. It holds `lake/`, `data_dir/` as the service left it, and `history.csv`: all rows as the same
commit published them after another start, with the server back.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from bikeflow.core.errors import Permanent
from bikeflow.core.layout import LAYERS
from bikeflow.core.schema import ADDED, ENHANCED
from bikeflow.service.pipeline import Pipeline, open_pipeline
from bikeflow.settings import Settings
from bikeflow.settings.sections import FeedSettings, StorageSettings
from bikeflow.warehouse import mirror
from tests.support import feedserver
from tests.support.pipelines import whole_road, wrm_lane
from tests.support.s3server import rclone
from tests.support.service import PATIENCE_SECONDS, environment, running

FILE = Path(__file__).parents[1] / "data/archive_of_7458407.tar.xz"
NOWHERE = FeedSettings(url="http://127.0.0.1:9/")
SNAPSHOTS = "SELECT count(DISTINCT s3_source_key) FROM wrm_analytics.wrm_history"
ALL = 9
BUCKET = "bikes"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The archive's folder."""
    with tarfile.open(FILE) as packed:
        packed.extractall(tmp_path / "archive", filter="data")
    return tmp_path / "archive"


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest, archive: Path) -> Iterator[StorageSettings]:
    """Where the archive's lake lies: in `data_dir`, or behind a server with the ETags that it was written with."""
    if request.param == "local":
        (archive / "lake").rename(archive / "data_dir/lake")
        yield StorageSettings()
        return
    with rclone(archive) as server:
        client = server.client()
        client.create_bucket(Bucket=BUCKET)
        files = [path for path in (archive / "lake").rglob("*") if path.is_file()]
        # As it came to be: what was made of raw files is younger than they are.
        for path in sorted(files, key=lambda path: ("raw" not in path.parts, path)):
            key = path.relative_to(archive / "lake").as_posix()
            client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
        yield server.settings(bucket=BUCKET)


async def versions(pipeline: Pipeline) -> dict[str, str]:
    """ETags of the lake's objects by key; in a local lake they change whenever a file is written."""
    pages = pipeline.shared.store.pages(wrm_lane(pipeline).layout.prefix)
    return {info.key: info.etag async for page in pages for info in page if not info.key.endswith(".duckdb")}


def copies(data_dir: Path) -> set[tuple[str, int]]:
    """Names of the mirror's files, each with its inode: files that are the same on the disk."""
    files = (data_dir / "mirror/enhanced").rglob("all_*.parquet")
    return {(f"{path.parent.name}/{path.name}", path.stat().st_ino) for path in files}


def local_files(data_dir: Path) -> set[Path]:
    """Parquet files that a database of the former version may name."""
    return {path for path in (data_dir / "mirror").rglob("*.parquet") if "system_id" not in str(path)}


def assert_same_rows(database: Path, archive: Path) -> None:
    """The database has all rows of the former version, once each, and no others; columns that it lacked are null."""
    columns = ", ".join(name for name in ENHANCED.names if name not in ADDED)
    with duckdb.connect(database, read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("CREATE TEMP TABLE expected AS FROM wrm_analytics.wrm_history LIMIT 0")
        connection.execute(f"COPY expected ({columns}) FROM '{archive / 'history.csv'}' (HEADER)")
        for one, other in (("expected", "wrm_analytics.wrm_history"), ("wrm_analytics.wrm_history", "expected")):
            assert connection.execute(f"FROM {one} EXCEPT ALL FROM {other}").fetchall() == []
        counted = connection.execute("SELECT system_id, count(*) FROM analytics.history GROUP BY ALL").fetchall()
        assert counted == connection.execute("SELECT 'wrm', count(*) FROM expected").fetchall()


async def verified(data_dir: Path, feed: FeedSettings, storage: StorageSettings) -> dict[str, Any]:
    """What `bikeflow verify --json` says after parsing every raw file again."""
    options = ["--set", f"feed.url={feed.url}", "--data-dir", str(data_dir), "--full", "--json"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bikeflow", "verify", *options,
        env={**os.environ, **environment(storage)}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    report: dict[str, Any] = json.loads(output)
    return report


async def test_what_the_former_version_left_is_taken_up_without_writing_or_parsing_it_again(
    archive: Path, storage: StorageSettings
) -> None:
    data_dir = archive / "data_dir"
    copied, waiting = copies(data_dir), sorted((data_dir / "spool").glob("*.txt"))
    async with open_pipeline(Settings(data_dir=data_dir, storage=storage, feed=NOWHERE)) as pipeline:
        lane, before = wrm_lane(pipeline), await versions(pipeline)
        assert await whole_road(pipeline) == []
        assert pipeline.shared.ledger.totals()["raw_files"] == ALL - len(waiting)
        if storage.backend == "s3":
            assert copies(data_dir) == copied
        assert await lane.delivery.drain()
        (run,) = await whole_road(pipeline)
        assert (run.outcome, run.files, pipeline.shared.processor.files_parsed) == ("done", 2, 2)
        assert_same_rows(pipeline.database_path, archive)
        after = await versions(pipeline)
    assert {key for key in before if after[key] != before[key]} == {
        f"{lane.layout.prefix}{layer}/all/dt=2026-11-28/all_{layer}_20261128_135959.parquet" for layer in LAYERS
    }
    names = [f"wrm_stations_{path.name.partition('.')[0]}" for path in waiting]
    assert {key.rpartition("/")[2].partition(".")[0] for key in after.keys() - before.keys()} == set(names)


async def test_readers_of_the_former_database_keep_its_files_until_there_is_a_new_one(
    archive: Path, storage: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = archive / "data_dir"
    named = local_files(data_dir)
    settings = Settings(data_dir=data_dir, storage=storage, feed=NOWHERE)
    (data_dir / "analytics.duckdb").rename(data_dir / "former.duckdb")
    (data_dir / "analytics.duckdb").mkdir()
    async with open_pipeline(settings) as pipeline:
        await pipeline.reconcile()
        with pytest.raises(Permanent, match="is a directory"):
            await pipeline.publish()
        assert local_files(data_dir) >= named
        (data_dir / "analytics.duckdb").rmdir()
        await pipeline.publish()
        # Who has opened the former one reads on for a while.
        assert {path for path in local_files(data_dir) if "kept" not in path.parts} == {
            path for path in named if "kept" not in path.parts
        }
        monkeypatch.setattr(mirror, "RETAINED_SECONDS", -1)
        await pipeline.publish()
        assert local_files(data_dir) == set()


async def test_the_service_takes_over_from_the_former_version_and_verify_proves_it(
    archive: Path, storage: StorageSettings
) -> None:
    data_dir = archive / "data_dir"
    (data_dir / "analytics.duckdb").unlink()  # it names the mirror's files by where they lay
    async with feedserver.serve() as feed:
        feed.answers(feedserver.Reply(status=503))  # what it answered would be the first snapshot of today
        async with running(data_dir, feed.url, storage=storage) as service:
            await service.sees(SNAPSHOTS, ALL)
            await service.logged("outcome=failed")
            assert await service.stop() == 0
            log = service.log()
        report = await verified(data_dir, FeedSettings(url=feed.url), storage)
    assert_same_rows(service.database, archive)
    assert (report["proved"], report["findings"], report["raw_files"]) == (True, [], ALL)
    assert "level=error" not in log

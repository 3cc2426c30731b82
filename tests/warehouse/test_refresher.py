"""The refresher role over a real lake, mirror and database."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog

from bikeflow.core.errors import Permanent, Transient
from bikeflow.core.layout import segment_of
from bikeflow.core.model import DatabasePublished, Run, RunFinished, SegmentObject
from bikeflow.settings.sections import RetrySettings, WarehouseSettings
from bikeflow.warehouse.refresher import Refresher
from tests.support.parquet import PARTITION, at, parquet, snapshot
from tests.support.s3server import S3Server
from tests.warehouse.conftest import Analytics, open_analytics

RETRY = RetrySettings(attempts=2, initial_seconds=0.01, max_seconds=0.05)
PATIENCE_SECONDS = 120.0


def run_of(hour: int) -> RunFinished:
    """A run over this hour's segment has ended."""
    traces = (f"trace-{hour}",)
    return RunFinished(
        Run(f"run-{hour}", PARTITION, at(hour), at(hour), "done", 1, 1, 1, 1, 0, None, traces), 0, {}, {}
    )


@dataclass
class Scene:
    """A refresher, what it works on, and what it has told."""

    analytics: Analytics
    refresher: Refresher
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    published: list[DatabasePublished] = field(default_factory=list)

    async def put(self, hour: int, *ids: str) -> None:
        """A segment is processed."""
        await self.analytics.layer.put_hour(hour, *snapshot(at(hour), *ids))
        self.refresher.wake(run_of(hour))

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(int(PATIENCE_SECONDS / 0.01)):
            if condition():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("waited in vain")

    def error(self) -> str | None:
        return self.refresher.last_error

    def stations(self) -> list[str]:
        return [station for (station,) in self.analytics.query("SELECT station_id FROM station_summary")]


def scene_of(
    analytics: Analytics,
    debounce_seconds: float = 0.0,
    segments: Callable[[], list[SegmentObject] | None] | None = None,
) -> Scene:
    published: list[DatabasePublished] = []
    refresher = Refresher(
        WarehouseSettings(debounce_seconds=debounce_seconds),
        RETRY,
        segments or (lambda: analytics.layer.wanted),
        analytics.mirror,
        analytics.warehouse,
        published.append,
    )
    return Scene(analytics, refresher, published=published)


@contextlib.asynccontextmanager
async def running(scene: Scene) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(scene.refresher.run(scene.stop))
    try:
        yield task
    finally:
        scene.stop.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await task


@pytest.fixture
async def analytics(tmp_path: Path) -> AsyncIterator[Analytics]:
    async with open_analytics(tmp_path / "data") as opened:
        yield opened


async def test_it_publishes_at_start_and_after_each_wake(analytics: Analytics) -> None:
    scene = scene_of(analytics)
    async with running(scene):
        await scene.until(lambda: len(scene.published) == 1)
        assert scene.stations() == []
        await scene.put(8, "1", "fb1")
        await scene.until(lambda: len(scene.published) == 2)
        assert scene.stations() == ["1"]
        publication = scene.refresher.published
        assert publication is not None and publication.newest_snapshot == at(8)
        assert [event.traces for event in scene.published] == [(), ("trace-8",)]
        assert abs((dt.datetime.now(dt.UTC) - scene.published[-1].at).total_seconds()) < PATIENCE_SECONDS
        await asyncio.sleep(0.2)
        assert len(scene.published) == 2


async def test_wakes_that_come_together_give_one_refresh(analytics: Analytics) -> None:
    scene = scene_of(analytics, debounce_seconds=0.3)
    async with running(scene):
        await scene.until(lambda: len(scene.published) == 1)
        for hour in range(5):
            await scene.analytics.layer.put_hour(hour, *snapshot(at(hour), str(hour)))
        for hour in range(5):
            scene.refresher.wake(run_of(hour))
        await scene.until(lambda: len(scene.published) == 2)
        assert scene.published[1].traces == tuple(f"trace-{hour}" for hour in range(5))
        assert scene.stations() == ["0", "1", "2", "3", "4"]


async def test_a_refresh_is_told_in_one_line(analytics: Analytics) -> None:
    scene = scene_of(analytics)
    await scene.put(8, "1", "2", "fb1")
    with structlog.testing.capture_logs() as lines:
        await scene.refresher.refresh_once()
        size = analytics.warehouse.path.stat().st_size
        await scene.refresher.refresh_once()
    (first, second) = lines
    told = {"event": "refreshed", "log_level": "info", "partitions_read": 1, "trace_id": "trace-8"}
    assert first.items() >= told.items()
    assert (first["segments"], first["rows"], first["stations"], first["bikes"]) == (1, 3, 2, 1)
    assert first["newest_snapshot"] == "2025-06-01T08:00:00Z"
    assert first["bytes"] == size
    assert 0 < first["duration_seconds"] < PATIENCE_SECONDS
    assert (second["partitions_read"], second["partitions_added_to"], second["traces"]) == (0, 0, 0)


async def test_a_failure_is_told_once_and_tried_again_until_it_works(analytics: Analytics) -> None:
    scene = scene_of(analytics)
    analytics.data_dir.mkdir(exist_ok=True)
    in_the_way = analytics.data_dir / "mirror"
    in_the_way.write_text("")
    with structlog.testing.capture_logs() as lines:
        async with running(scene):
            await scene.put(8, "1")
            await scene.until(lambda: any(line["event"] == "refresh_failed" for line in lines))
            await asyncio.sleep(4 * RETRY.max_seconds)
            assert "mirror" in (scene.error() or "")
            assert scene.published == []
            in_the_way.unlink()
            await scene.until(lambda: len(scene.published) == 1)
            assert scene.error() is None
            assert scene.published[0].traces == ("trace-8",)
            assert scene.stations() == ["1"]
    assert [line["log_level"] for line in lines if line["event"] == "refresh_failed"] == ["error"]


async def test_a_rotten_copy_that_was_read_at_the_start_is_replaced_and_so_is_what_was_made_of_it(
    tmp_path: Path, s3_server: S3Server
) -> None:
    async with open_analytics(tmp_path / "data", s3_server.settings()) as first:
        scene = scene_of(first)
        await scene.put(8, "1", "2")
        await scene.refresher.refresh_once()
        (path,) = first.mirror.files.values()
        rotten = parquet(segment_of(PARTITION, at(8), 60), snapshot(at(8), "1", "3"))
        assert len(rotten) == path.stat().st_size
        path.write_bytes(rotten)
        again = first.reopened()
        shutil.rmtree(first.data_dir / "warehouse")
        scene = scene_of(again)
        async with running(scene):
            await scene.until(lambda: bool(scene.published) and scene.stations() == ["1", "2"])
            await scene.until(lambda: again.mirror.is_checked)


async def test_readers_keep_the_last_database_while_refreshes_fail(analytics: Analytics) -> None:
    scene = scene_of(analytics)
    await scene.put(8, "1")
    await scene.refresher.refresh_once()
    directory = analytics.data_dir / "warehouse"
    analytics.warehouse.close()
    directory.rename(directory.with_name("away"))
    directory.write_text("")
    await scene.put(8, "1", "2")
    with pytest.raises(Transient, match="warehouse"):
        await scene.refresher.refresh_once()
    assert scene.stations() == ["1"]
    directory.unlink()
    await scene.refresher.refresh_once()
    assert scene.stations() == ["1", "2"]
    assert scene.published[-1].traces == ("trace-8",)


async def test_a_stop_publishes_what_is_pending_first(analytics: Analytics) -> None:
    scene = scene_of(analytics, debounce_seconds=30)
    async with running(scene):
        await scene.put(8, "1")
    assert scene.stations() == ["1"]
    assert len(scene.published) == 1


async def test_a_stop_does_not_wait_for_what_fails(analytics: Analytics) -> None:
    analytics.data_dir.mkdir(exist_ok=True)
    (analytics.data_dir / "mirror").write_text("")
    scene = scene_of(analytics)
    scene.stop.set()
    async with running(scene):
        pass
    assert scene.published == []
    assert scene.error()


async def test_a_mirror_that_vanishes_is_made_anew(analytics: Analytics) -> None:
    scene = scene_of(analytics)
    async with running(scene):
        await scene.put(8, "1")
        await scene.until(lambda: bool(scene.published) and scene.stations() == ["1"])
        for path in analytics.mirror.root.glob("*/*/*"):
            path.unlink()
        await scene.put(9, "2")
        await scene.until(lambda: scene.stations() == ["1", "2"])
        assert analytics.query("SELECT count(*) FROM wrm_history") == [(2,)]
        assert not list(analytics.data_dir.glob("**/*.damaged-*"))


async def test_a_copy_that_is_damaged_is_fetched_again(analytics: Analytics) -> None:
    scene = scene_of(analytics)
    await scene.put(8, *map(str, range(50)))
    await analytics.sync()
    (path,) = analytics.mirror.files.values()
    data = path.read_bytes()
    path.unlink()  # the lake's own file stays whole
    path.write_bytes(data[:100] + bytes(len(data) - 200) + data[-100:])
    await scene.refresher.refresh_once()
    assert len(scene.stations()) == 50
    assert path.read_bytes() == data


async def test_a_segment_that_is_damaged_in_the_lake_costs_only_itself(analytics: Analytics) -> None:
    scene = scene_of(analytics)
    await scene.put(8, "1")
    whole = parquet(segment_of(PARTITION, at(9), 60), snapshot(at(9), *map(str, range(50))))
    broken = whole[:100] + bytes(len(whole) - 200) + whole[-100:]
    await analytics.layer.put(segment_of(PARTITION, at(9), 60), [], data=broken)
    with structlog.testing.capture_logs() as lines:
        await scene.refresher.refresh_once()
    assert scene.stations() == ["1"]
    assert analytics.query("SELECT count(*) FROM wrm_history") == [(1,)]
    assert (lines[-1]["event"], lines[-1]["log_level"], lines[-1]["segments_damaged"]) == ("refreshed", "warning", 1)


async def test_nothing_is_published_while_the_ledger_does_not_know_the_segments(analytics: Analytics) -> None:
    known = False
    scene = scene_of(analytics, segments=lambda: analytics.layer.wanted if known else None)
    await analytics.layer.put_hour(8, *snapshot(at(8), "1"))
    async with running(scene):
        await asyncio.sleep(0.2)
        assert scene.published == [] and not analytics.warehouse.path.exists()
        known = True
        scene.refresher.wake()
        await scene.until(lambda: len(scene.published) == 1)
    assert scene.stations() == ["1"]


async def test_a_cancelled_refresh_ends_soon(analytics: Analytics) -> None:
    scene = scene_of(analytics)
    for hour in range(24):
        await scene.put(hour, *map(str, range(200)))
    task = asyncio.create_task(scene.refresher.run(scene.stop))
    await scene.until((analytics.data_dir / "warehouse" / "working.duckdb").exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    started = asyncio.get_running_loop().time()
    await asyncio.to_thread(analytics.warehouse.close)
    assert asyncio.get_running_loop().time() - started < 20
    assert scene.published == []


async def test_a_refresh_that_can_never_work_says_what_to_do(analytics: Analytics) -> None:
    analytics.warehouse.path.mkdir(parents=True)
    scene = scene_of(analytics)
    with pytest.raises(Permanent, match=r"set warehouse\.path"):
        await scene.refresher.refresh_once()

"""The mirror: exactly the wanted segments; only changes are touched, and readers under way are never disturbed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import duckdb
import pytest

from bikeflow.core.errors import Transient
from bikeflow.core.layout import segment_of
from bikeflow.core.model import Segment, SegmentObject
from bikeflow.settings.sections import StorageSettings
from bikeflow.store import open_store
from bikeflow.warehouse import Mirror, mirror
from bikeflow.warehouse.mirror import empty_file
from tests.support.parquet import DAY, PARTITION, EnhancedLayer, at, snapshot
from tests.support.wrm import wrm_layout
from tests.warehouse.conftest import Analytics

ANOTHER_FILE_SYSTEM = Path("/dev/shm")


def name(hour: int) -> Segment:
    return segment_of(PARTITION, at(hour), 60)


def rows(mirror: Mirror) -> list[tuple[str]]:
    """The stations of all rows in the mirror's current files."""
    files = [str(file) for file in mirror.files.values()]
    if not files:
        return []
    return duckdb.execute("SELECT station_id FROM read_parquet($1) ORDER BY ALL", [files]).fetchall()


def files_on_disk(mirror: Mirror) -> set[Path]:
    return set(mirror.root.glob("*/*/*")) - {empty_file(mirror.root)}


async def test_it_holds_the_wanted_files(either: Analytics) -> None:
    segments = {hour: await either.layer.put_hour(hour, *snapshot(at(hour), str(hour))) for hour in (8, 9)}
    change = await either.sync()
    assert (change.fetched, change.unavailable) == (2, 0)
    assert change.fetched_bytes == sum(segment.size for segment in segments.values())
    assert either.mirror.files.keys() == {name(8), name(9)}
    assert set(either.mirror.files.values()) == files_on_disk(either.mirror)
    for hour, segment in segments.items():
        assert either.mirror.files[name(hour)].read_bytes() == (await either.layer.store.get(segment.key)).data


async def test_only_what_changed_is_touched_and_no_file_ever_changes(either: Analytics) -> None:
    for hour in (8, 9):
        await either.layer.put_hour(hour, *snapshot(at(hour), "1"))
    await either.sync()
    before = dict(either.mirror.files)
    content = before[name(9)].read_bytes()
    await either.layer.put_hour(9, *snapshot(at(9), "1", "2"))
    assert (await either.sync()).fetched == 1
    assert either.mirror.files[name(8)] == before[name(8)]
    assert either.mirror.files[name(9)] != before[name(9)]
    assert before[name(9)].read_bytes() == content
    again = either.reopened()
    assert (await again.sync()).fetched == 0
    assert again.mirror.files == either.mirror.files


async def test_a_local_lakes_files_take_no_room_and_keep_what_was_mirrored(analytics: Analytics) -> None:
    segment = await analytics.layer.put_hour(8, *snapshot(at(8), "1"))
    await analytics.sync()
    source = analytics.layer.store.local_path(segment.key)
    assert source is not None and source.samefile(analytics.mirror.files[name(8)])
    await analytics.layer.put_hour(8, *snapshot(at(8), "2"))
    assert rows(analytics.mirror) == [("1",)]


@pytest.mark.skipif(not ANOTHER_FILE_SYSTEM.is_dir(), reason="needs a second file system")
async def test_across_file_systems_a_copy_serves(analytics: Analytics) -> None:
    elsewhere = ANOTHER_FILE_SYSTEM / f"bikeflow-test-{os.getpid()}"
    elsewhere.mkdir()
    try:
        analytics.data_dir.mkdir(exist_ok=True)
        (analytics.data_dir / "mirror").symlink_to(elsewhere)
        await analytics.layer.put_hour(8, *snapshot(at(8), "1"))
        assert (await analytics.sync()).fetched == 1
        assert (await analytics.reopened().sync()).fetched == 0
        assert rows(analytics.mirror) == [("1",)]
    finally:
        shutil.rmtree(elsewhere)


async def test_files_of_a_predecessor_in_the_same_folders_are_not_mirrored(either: Analytics) -> None:
    segment = await either.layer.put_hour(8, *snapshot(at(8), "1"))
    stored = await either.layer.store.get(segment.key)
    for other in ("all_enhanced_20250601_081500.parquet", "part-0.parquet"):
        await either.layer.store.put(f"{segment.key.rpartition('/')[0]}/{other}", stored.data)
    await either.sync()
    assert rows(either.mirror) == [("1",)]


async def test_a_removed_segment_goes_and_may_come_back(either: Analytics) -> None:
    for hour in (8, 9):
        await either.layer.put_hour(hour, *snapshot(at(hour), str(hour)))
    await either.sync()
    await either.layer.remove(segment_of(PARTITION, at(8), 60))
    await either.sync()
    assert rows(either.mirror) == [("9",)]
    await either.layer.put_hour(8, *snapshot(at(8), "8"))
    await either.sync()
    assert rows(either.mirror) == [("8",), ("9",)]


async def test_a_query_under_way_survives_the_sealing_of_a_day(analytics: Analytics) -> None:
    for hour in range(24):
        await analytics.layer.put_hour(hour, *(row for i in range(60) for row in snapshot(at(hour, i), *"123456789")))
    await analytics.sync()
    with duckdb.connect(config={"threads": 1}) as reader:
        reader.execute("SET streaming_buffer_size = '1KB'")
        files = [str(file) for file in analytics.mirror.files.values()]
        # a row at a time: DuckDB opens the later files only when it gets there
        query = reader.execute("SELECT station_id FROM read_parquet($1)", [files])
        count = len(query.fetchmany(10))
        await analytics.layer.seal()
        await analytics.sync()
        await analytics.mirror.prune()
        while batch := query.fetchmany(1_000):
            count += len(batch)
    assert count == len(rows(analytics.mirror)) == 24 * 60 * 9


@pytest.mark.parametrize("bound", ["RETAINED_SECONDS", "RETAINED_BYTES"])
async def test_former_versions_stay_for_a_while(
    analytics: Analytics, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    for number in range(3):
        await analytics.layer.put_hour(8, *snapshot(at(8), str(number)))
        await analytics.sync()
        await analytics.mirror.prune()
    assert len(files_on_disk(analytics.mirror)) == 3
    monkeypatch.setattr(mirror, bound, -1)
    await analytics.mirror.prune()
    assert files_on_disk(analytics.mirror) == set(analytics.mirror.files.values())
    await analytics.layer.remove(segment_of(PARTITION, at(8), 60))
    await analytics.sync()
    await analytics.mirror.prune()
    assert files_on_disk(analytics.mirror) == set()
    assert not (analytics.mirror.root / "system_id=wrm" / f"dt={DAY}").exists()


async def test_a_version_that_is_wanted_again_stays(analytics: Analytics, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = await analytics.layer.put_hour(8, *snapshot(at(8), "1"))
    for wanted in ([segment], [], [segment]):
        await analytics.mirror.sync(wanted)
        await analytics.mirror.prune()
    monkeypatch.setattr(mirror, "RETAINED_BYTES", -1)
    await analytics.mirror.prune()
    assert rows(analytics.mirror) == [("1",)]


async def test_the_oldest_former_versions_go_first(analytics: Analytics, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = []
    for number in range(5):
        segment = await analytics.layer.put_hour(8, *snapshot(at(8), str(number)))
        await analytics.sync()
        versions.append(analytics.mirror.files[name(8)])
        monkeypatch.setattr(mirror, "RETAINED_BYTES", 2 * segment.size)
        await analytics.mirror.prune()
    assert files_on_disk(analytics.mirror) == set(versions[-3:])


@pytest.mark.parametrize("damage", ["deleted", "truncated", "zeroed"])
async def test_a_damaged_or_missing_file_is_fetched_again(either: Analytics, damage: str) -> None:
    for hour in (8, 9):
        await either.layer.put_hour(hour, *snapshot(at(hour), str(hour)))
    await either.sync()
    path = either.mirror.files[name(8)]
    data = path.read_bytes()
    path.unlink()  # it may be a hard link of the lake's file
    if damage != "deleted":
        path.write_bytes(data[:-10] if damage == "truncated" else bytes(len(data)))
    again = either.reopened()
    assert (await again.sync()).fetched == 1
    assert path.read_bytes() == data


async def test_a_bit_that_has_rotten_in_the_middle_of_a_copy_is_noticed_after_the_start(either: Analytics) -> None:
    """A local lake has no second copy to compare with; there, `bikeflow verify --full` tells."""
    for hour in (8, 9):
        await either.layer.put_hour(hour, *snapshot(at(hour), str(hour)))
    await either.sync()
    assert either.mirror.is_checked, "what was just fetched needs no second look"
    path = either.mirror.files[name(8)]
    good = path.read_bytes()
    path.unlink()
    path.write_bytes(good[:100] + bytes([good[100] ^ 1]) + good[101:])
    again = either.reopened()
    await again.sync()
    damaged = []
    while not again.mirror.is_checked:
        damaged.append(await again.mirror.check_next())
    if again.layer.store.local_path(path.name) is None:
        assert sorted(damaged, key=str) == sorted([None, name(8)], key=str)
        assert (await again.sync()).fetched == 1
        assert path.read_bytes() == good
    else:
        assert damaged == []


async def test_strangers_in_the_mirror_are_never_counted(analytics: Analytics) -> None:
    await analytics.layer.put_hour(8, *snapshot(at(8), "1"))
    await analytics.sync()
    file = analytics.mirror.files[name(8)]
    shutil.copy(file, file.with_name("stranger.parquet"))
    file.with_name(f".{file.name}.part").write_text("left by a crash")
    file.with_name("folder").mkdir()
    again = analytics.reopened()
    await again.sync()
    assert rows(again.mirror) == [("1",)]
    assert files_on_disk(again.mirror) == {file, file.with_name("stranger.parquet")}


async def test_a_mirror_that_is_removed_under_way_is_made_anew(either: Analytics) -> None:
    for hour in (8, 9):
        await either.layer.put_hour(hour, *snapshot(at(hour), str(hour)))
    await either.sync()
    shutil.rmtree(either.mirror.root)
    either.mirror.distrust()
    assert (await either.sync()).fetched == 2
    assert rows(either.mirror) == [("8",), ("9",)]


async def test_where_the_store_has_something_else_the_mirror_keeps_what_it_has(either: Analytics) -> None:
    old = await either.layer.put_hour(8, *snapshot(at(8), "1"))
    await either.sync()
    never = SegmentObject(name(9), old.key.replace("085959", "095959"), "etag", 1_000)
    other = dataclasses.replace(old, etag="another", size=old.size + 1)
    change = await either.mirror.sync([other, never])
    assert (change.fetched, change.unavailable) == (0, 2)
    assert rows(either.mirror) == [("1",)]


async def test_what_is_no_whole_parquet_file_stays_out(either: Analytics) -> None:
    await either.layer.put_hour(8, *snapshot(at(8), "1"))
    await either.layer.put(segment_of(PARTITION, at(9), 60), [], data=b"PAR1" + bytes(1_000))
    assert (await either.sync()).unavailable == 1
    assert rows(either.mirror) == [("1",)]


async def test_a_discarded_file_is_fetched_once_more_and_then_left_out(analytics: Analytics) -> None:
    await analytics.layer.put_hour(8, *snapshot(at(8), "1"))
    for fetched in (1, 1, 0):
        assert (await analytics.sync()).fetched == fetched
        await analytics.mirror.discard([name(8)] if fetched else [])
        assert rows(analytics.mirror) == []
    await analytics.layer.put_hour(8, *snapshot(at(8), "2"))
    assert (await analytics.sync()).fetched == 1


@contextlib.asynccontextmanager
async def unreachable_store(tmp_path: Path) -> AsyncIterator[Mirror]:
    storage = {"backend": "s3", "bucket": "b", "access_key_id": "a", "secret_access_key": "s"}
    settings = StorageSettings.model_validate({**storage, "endpoint_url": "http://127.0.0.1:9", "region": "x"})
    async with open_store(settings, tmp_path) as store:
        yield Mirror(store, tmp_path)


async def test_a_store_that_fails_is_worth_another_attempt_and_costs_nothing(tmp_path: Path) -> None:
    async with open_store(StorageSettings(), tmp_path) as store:
        layer = EnhancedLayer(store, wrm_layout("bike-data/gen_info/"))
        first = await layer.put_hour(8, *snapshot(at(8), "1"))
        before = Mirror(store, tmp_path)
        await before.sync(layer.wanted)
    async with unreachable_store(tmp_path) as mirror:
        with pytest.raises(Transient):
            await mirror.sync([first, dataclasses.replace(first, key=first.key.replace("08", "09"))])
        assert (await mirror.sync([first])).fetched == 0
        assert rows(mirror) == [("1",)]


async def test_a_disk_that_fails_is_worth_another_attempt(analytics: Analytics) -> None:
    segment = await analytics.layer.put_hour(8, *snapshot(at(8), "1"))
    (analytics.data_dir / "mirror").write_text("in the way")
    with pytest.raises(Transient, match="mirror"):
        await analytics.mirror.sync([segment])
    (analytics.data_dir / "mirror").unlink()
    assert (await analytics.sync()).fetched == 1


async def test_many_partitions_are_fetched_side_by_side(either: Analytics) -> None:
    days = [DAY.replace(day=number) for number in range(1, 13)]
    for day in days:  # one by one: rclone answers 500 to some concurrent first PUTs below a new prefix
        await either.layer.put_hour(8, *snapshot(at(8, day=day), str(day.day)), day=day)
    assert (await either.sync()).fetched == 12
    assert len(rows(either.mirror)) == 12

"""The cache over a real S3 server: that an answer came from the disk shows when the object is gone from the store."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from bikeflow.core.errors import NotFound, Transient
from bikeflow.core.model import ObjectInfo
from bikeflow.store import ObjectCache, Store, open_store
from tests.store.conftest import Place
from tests.support.s3server import S3Server

pytestmark = pytest.mark.asyncio(loop_scope="session")

MiB = 1024 * 1024


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def place(s3_server: S3Server) -> AsyncIterator[Place]:
    settings = s3_server.settings()
    async with open_store(settings, Path()) as store:
        yield Place(store, settings.prefix)


@pytest.fixture
def cache(place: Place, tmp_path: Path) -> ObjectCache:
    return ObjectCache(place.store, tmp_path / "cache", MiB)


async def only_copied(store: Store, cache: ObjectCache, info: ObjectInfo) -> bytes | None:
    """The content if the cache has it without its store, else None."""
    await store.delete(info.key)
    try:
        return await cache.get(info)
    except NotFound:
        return None


def sizes(directory: Path) -> list[int]:
    return [path.stat().st_size for path in directory.iterdir()]


async def test_what_was_read_once_is_read_from_the_disk(place: Place, cache: ObjectCache) -> None:
    info = await place.store.put(place.key("x"), b"content")
    assert await cache.get(info) == b"content"
    assert await only_copied(place.store, cache, info) == b"content"


async def test_only_copies_of_what_was_listed_are_read_local(place: Place, cache: ObjectCache) -> None:
    infos = [await place.store.put(place.key(f"at-hand-{number}"), b"content") for number in range(3)]
    await cache.get(infos[0])
    await cache.get(infos[1])
    listed = [infos[0], replace(infos[1], etag="another"), infos[2]]
    assert await cache.read_local(listed) == {infos[0].key: b"content"}


async def test_what_was_written_need_not_be_read(place: Place, cache: ObjectCache) -> None:
    info = await place.store.put(place.key("x"), b"content")
    await cache.remember(info, b"content")
    assert await only_copied(place.store, cache, info) == b"content"


async def test_an_object_that_has_changed_since_is_transient_and_its_new_content_is_read_next(
    place: Place, cache: ObjectCache
) -> None:
    old = await place.store.put(place.key("x"), b"old content")
    new = await place.store.put(place.key("x"), b"new content")
    with pytest.raises(Transient, match="changed"):
        await cache.get(old)
    assert await cache.get(new) == b"new content"
    with pytest.raises(Transient, match="changed"):
        await cache.get(old)


async def test_copies_survive_a_restart(place: Place, cache: ObjectCache, tmp_path: Path) -> None:
    info = await place.store.put(place.key("x"), b"content")
    await cache.get(info)
    assert await only_copied(place.store, ObjectCache(place.store, tmp_path / "cache", MiB), info) == b"content"


@pytest.mark.parametrize("restart", [False, True])
async def test_the_least_recently_used_go_first_also_after_a_restart(
    place: Place, tmp_path: Path, restart: bool
) -> None:
    directory, body = tmp_path / "cache", os.urandom(100_000)
    room_for_four = ObjectCache(place.store, directory, 4 * 100_032)
    infos = [await place.store.put(place.key(f"{n}"), body) for n in range(6)]
    for info in infos[:4]:
        await room_for_four.get(info)
        await asyncio.sleep(0.01)  # the order is read from modification times after a restart
    await room_for_four.get(infos[0])
    if restart:
        room_for_four = ObjectCache(place.store, directory, 4 * 100_032)
    for info in infos[4:]:
        await room_for_four.get(info)
    assert sizes(directory) == [100_032] * 4
    kept = [await only_copied(place.store, room_for_four, info) for info in infos]
    assert [data is not None for data in kept] == [True, False, False, True, True, True]


async def test_a_smaller_bound_holds_from_the_next_object_on(place: Place, cache: ObjectCache, tmp_path: Path) -> None:
    for n in range(5):
        await cache.get(await place.store.put(place.key(f"{n}"), bytes(10_000)))
    smaller = ObjectCache(place.store, tmp_path / "cache", 25_000)
    await smaller.get(await place.store.put(place.key("small"), b"x"))
    assert sum(sizes(tmp_path / "cache")) <= 25_000


@pytest.mark.parametrize("damage", [b"", b"short", b"X" * 39, b"X" * 1_000])
async def test_a_damaged_copy_is_dropped_and_read_again(
    place: Place, cache: ObjectCache, tmp_path: Path, damage: bytes
) -> None:
    info = await place.store.put(place.key("x"), b"content")
    await cache.get(info)
    (copy,) = (tmp_path / "cache").iterdir()
    assert copy.stat().st_size == 39
    copy.write_bytes(damage)
    assert await cache.get(info) == b"content"
    assert await only_copied(place.store, cache, info) == b"content"


async def test_an_object_larger_than_the_cache_is_not_kept_and_drives_nothing_out(
    place: Place, cache: ObjectCache, tmp_path: Path
) -> None:
    small = await place.store.put(place.key("small"), b"small")
    await cache.get(small)
    large = await place.store.put(place.key("large"), bytes(2 * MiB))
    assert await cache.get(large) == bytes(2 * MiB)
    assert await only_copied(place.store, cache, large) is None
    assert await only_copied(place.store, cache, small) == b"small"


async def test_a_cache_of_no_size_keeps_nothing(place: Place, tmp_path: Path) -> None:
    cache = ObjectCache(place.store, tmp_path / "cache", 0)
    info = await place.store.put(place.key("x"), b"content")
    assert await cache.get(info) == b"content"
    assert not (tmp_path / "cache").exists()
    assert await only_copied(place.store, cache, info) is None


async def test_a_store_on_this_machine_needs_no_copies(local_store: Store, tmp_path: Path) -> None:
    cache = ObjectCache(local_store, tmp_path / "cache", MiB)
    info = await local_store.put("x", b"content")
    await cache.remember(info, b"content")
    assert await cache.get(info) == b"content"
    with pytest.raises(Transient, match="changed"):
        await cache.get(replace(info, etag="another"))
    assert not (tmp_path / "cache").exists()


async def test_a_cache_that_cannot_be_written_costs_no_answer_and_one_warning(place: Place, tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"a file where the directory should be")
    cache = ObjectCache(place.store, tmp_path / "cache", MiB)
    info = await place.store.put(place.key("x"), b"content")
    with capture_logs() as lines:
        for _ in range(3):
            assert await cache.get(info) == b"content"
    assert [line["event"] for line in lines] == ["cache failed"]
    (tmp_path / "cache").unlink()
    assert await cache.get(info) == b"content"
    assert await only_copied(place.store, cache, info) == b"content"


async def test_a_cache_may_be_emptied_at_any_time(place: Place, cache: ObjectCache, tmp_path: Path) -> None:
    info = await place.store.put(place.key("x"), b"content")
    assert await cache.get(info) == b"content"
    shutil.rmtree(tmp_path / "cache")
    for _ in range(2):
        assert await cache.get(info) == b"content"
    assert await only_copied(place.store, cache, info) == b"content"


async def test_many_reads_at_once_agree(place: Place, tmp_path: Path) -> None:
    cache = ObjectCache(place.store, tmp_path / "cache", 25_000)
    infos = [await place.store.put(place.key(f"{n}"), b"%d" % n * 5_000) for n in range(10)]
    for _ in range(3):
        read = await asyncio.gather(*(cache.get(info) for info in infos + infos))
        assert read == [b"%d" % n * 5_000 for n in range(10)] * 2
    assert sum(sizes(tmp_path / "cache")) <= 25_000

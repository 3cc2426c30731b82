"""What only the local adapter has to prove: real files, real crashes, real disks."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bikeflow.errors import NotFound, Permanent, Transient
from bikeflow.settings.sections import StorageSettings
from bikeflow.store import Store, open_store
from bikeflow.store.local import LocalStore
from tests.store.conftest import Place
from tests.support.rounds import rounds

NAMES = st.text(alphabet="ab-. /+0=Zżé\u0301\uffee🚲", min_size=1, max_size=4).filter(
    lambda name: "/" not in name and not name.startswith(".")
)
KEYS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


def whole_tree(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


async def names(store: Store, after: str = "") -> list[str]:
    return [info.key async for page in store.pages("", after=after) for info in page]


async def test_objects_are_plain_files_under_their_keys_that_a_glob_reads(local_store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source.parquet"
    duckdb.sql("SELECT 7 AS bikes").write_parquet(str(source))
    for hour in (7, 8):
        key = f"bike-data/enhanced/all/dt=2025-05-31/all_enhanced_20250531_{hour:02}5959.parquet"
        await local_store.put(key, source.read_bytes())
        assert local_store.local_path(key) == tmp_path / "lake" / key
        assert (tmp_path / "lake" / key).read_bytes() == source.read_bytes()
    glob = tmp_path / "lake/bike-data/enhanced/all/**/*.parquet"
    counted = duckdb.sql(
        f"SELECT dt::VARCHAR, sum(bikes) FROM read_parquet('{glob}', hive_partitioning = true) GROUP BY 1"
    )
    assert counted.fetchall() == [("2025-05-31", 14)]


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/etc/passwd",
        "a//b",
        "a/",
        "../x",
        "a/../x",
        "./a",
        "a/./b",
        ".hidden",
        "a/.hidden/b",
        "a\0b",
        "a\udc80",
    ],
)
async def test_keys_that_are_no_plain_file_names_are_refused(local_store: Store, tmp_path: Path, key: str) -> None:
    for operation in (local_store.get(key), local_store.put(key, b"x"), local_store.delete(key), local_store.head(key)):
        with pytest.raises(Permanent, match="can't hold the key") as refused:
            await operation
        assert not isinstance(refused.value, NotFound)
    assert whole_tree(tmp_path) == {"lake"}
    assert [page async for page in local_store.pages(key)] == []


async def test_an_object_cannot_stand_where_others_need_a_directory(local_store: Store, tmp_path: Path) -> None:
    await local_store.put("a", b"x")
    await local_store.put("d/e/f", b"x")
    for key in ("a/b", "a/b/c", "d", "d/e"):
        with pytest.raises(Permanent):
            await local_store.put(key, b"y")
    for key in ("a/b", "d"):
        await local_store.delete(key)
    assert whole_tree(tmp_path / "lake") == {"a", "d", "d/e", "d/e/f"}


async def test_what_is_no_object_is_not_listed(local_store: Store, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    await local_store.put("d/x", b"x")
    (lake / "d/.being-written.part").write_bytes(b"half")
    (lake / ".hidden").mkdir()
    (lake / ".hidden/x").write_bytes(b"x")
    (lake / "empty").mkdir()
    (lake / "dangling").symlink_to(lake / "nowhere")
    (lake / os.fsdecode(b"latin-\xe9.txt")).write_bytes(b"x")
    os.mkfifo(lake / "fifo")
    assert await names(local_store) == ["d/x"]


async def test_a_lake_may_lie_behind_symbolic_links(tmp_path: Path) -> None:
    for name in ("elsewhere", "other-disk", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "data/lake").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/raw").symlink_to(tmp_path / "other-disk")
    async with open_store(StorageSettings(), tmp_path / "data") as store:
        await store.put("raw/dt=1/x", b"x")
        await store.put("enhanced/y", b"y")
        assert await names(store) == ["enhanced/y", "raw/dt=1/x"]
        assert (tmp_path / "other-disk/dt=1/x").read_bytes() == b"x"
        await store.delete("raw/dt=1/x")
        assert (tmp_path / "elsewhere/raw").is_symlink()


async def test_a_lake_that_went_away_is_not_taken_for_an_empty_one(local_store: Store, tmp_path: Path) -> None:
    await local_store.put("x", b"x")
    (tmp_path / "lake").rename(tmp_path / "unmounted")
    with pytest.raises(Transient, match="list"):
        await names(local_store)


async def test_a_listing_lives_with_files_and_directories_that_vanish_meanwhile(
    local_store: Store, tmp_path: Path
) -> None:
    for n in range(1_200):
        (tmp_path / "lake" / f"{n:04}").write_bytes(b"")
    (tmp_path / "lake/9999").mkdir()
    pages = local_store.pages("")
    first = await anext(pages)
    shutil.rmtree(tmp_path / "lake/9999")
    for n in range(1_100, 1_200):
        (tmp_path / "lake" / f"{n:04}").unlink()
    assert len(first) == 1_000
    assert [len(page) async for page in pages] == [100]


async def sizes(store: Store, after: str = "") -> dict[str, int]:
    return {info.key: info.size async for page in store.pages("", after=after) for info in page}


async def test_a_file_that_takes_the_place_of_another_is_listed_at_once(local_store: Store, tmp_path: Path) -> None:
    for key in ("d/1", "d/2", "d/3"):
        await local_store.put(key, b"1")
        settle(tmp_path / "lake" / key)
    assert await sizes(local_store, "d/1") == {"d/2": 1, "d/3": 1}
    await local_store.put("d/3", b"22")
    await local_store.put("d/4", b"1")
    assert await sizes(local_store, "d/1") == {"d/2": 1, "d/3": 2, "d/4": 1}
    assert await sizes(local_store, "d/3") == {"d/4": 1}
    assert await sizes(local_store, "d/2") == {"d/3": 2, "d/4": 1}
    await local_store.delete("d/3")
    assert await sizes(local_store, "d/2") == {"d/4": 1}


async def test_a_file_that_is_still_being_copied_is_looked_at_again(local_store: Store, tmp_path: Path) -> None:
    (tmp_path / "lake/d").mkdir()
    with (tmp_path / "lake/d/2").open("wb", buffering=0) as file:
        for length in range(1, 4):
            file.write(b"x")
            settle(tmp_path / "lake/d")
            assert await sizes(local_store, "d/1") == {"d/2": length}


async def test_what_is_written_into_an_old_file_is_seen_by_the_next_full_listing(
    local_store: Store, tmp_path: Path
) -> None:
    await local_store.put("d/2", b"1")
    settle(tmp_path / "lake/d/2")
    assert await sizes(local_store, "d/1") == {"d/2": 1}
    (tmp_path / "lake/d/2").write_bytes(b"22")
    assert await sizes(local_store, "d/1") == {"d/2": 1}
    assert await sizes(local_store) == {"d/2": 2}


async def test_a_directory_that_has_just_changed_is_read_again(local_store: Store, tmp_path: Path) -> None:
    """Its time of change is told in ticks: what comes within the same one does not show in it."""
    directory = tmp_path / "lake/d"
    await local_store.put("d/2", b"1")
    within_this_tick = time.time_ns() + 3_600_000_000_000
    for number in range(3, 6):
        assert await sizes(local_store, "d/1") == dict.fromkeys([f"d/{n}" for n in range(2, number)], 1)
        await local_store.put(f"d/{number}", b"1")
        os.utime(directory, ns=(within_this_tick, within_this_tick))


def settle(path: Path) -> None:
    """As if it had last changed a while ago."""
    long_ago = time.time_ns() - 3_600_000_000_000
    os.utime(path, ns=(long_ago, long_ago))


async def test_directories_go_with_their_last_object(local_store: Store, tmp_path: Path) -> None:
    await local_store.put("a/b/c/x", b"x")
    await local_store.put("a/y", b"y")
    await local_store.delete("a/b/c/x")
    assert whole_tree(tmp_path / "lake") == {"a", "a/y"}


async def test_puts_and_deletes_in_one_directory_do_not_get_in_each_others_way(local_store: Store) -> None:
    async def put_and_delete(key: str) -> None:
        for n in range(60):
            await local_store.put(key, b"%d" % n)
            await local_store.delete(key)

    await asyncio.gather(*(put_and_delete(f"a/b/{n}") for n in range(6)))
    assert await names(local_store) == []


async def test_leftovers_of_a_crash_go_when_their_directory_is_next_written_to(tmp_path: Path) -> None:
    directory = tmp_path / "lake/raw/dt=1"
    directory.mkdir(parents=True)
    old, of_another = directory / ".0123-4.part", directory / ".4567-8.part"
    old.write_bytes(b"half")
    os.utime(old, (time.time() - 5, time.time() - 5))
    async with open_store(StorageSettings(), tmp_path) as store:
        of_another.write_bytes(b"in another process's hands just now")
        os.utime(of_another, (time.time() + 5, time.time() + 5))
        assert await names(store) == []
        await store.put("raw/dt=1/x", b"x")
    assert {path.name for path in directory.iterdir()} == {of_another.name, "x"}


def test_a_killed_writer_leaves_no_half_written_object(tmp_path: Path) -> None:
    writer = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from bikeflow.settings.sections import StorageSettings
        from bikeflow.store import open_store

        async def main():
            async with open_store(StorageSettings(), Path(sys.argv[1])) as store:
                for n in range(1_000_000):
                    await store.put(f"{n % 3}", bytes([n % 256]) * 3_000_000)
                    print(n, flush=True)

        asyncio.run(main())
    """)
    for delay in (0.0, 0.004, 0.009):
        command = [sys.executable, "-c", writer, str(tmp_path)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(Path.cwd())}
        ) as process:
            assert process.stdout
            for _ in range(5):
                assert process.stdout.readline()
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
    for n in range(3):
        data = (tmp_path / "lake" / str(n)).read_bytes()
        assert data == data[:1] * 3_000_000


async def test_someone_who_reads_the_file_never_sees_a_part_of_it(local_store: Store, tmp_path: Path) -> None:
    bodies = [bytes([65 + n]) * (1_000_000 + n) for n in range(2)]
    await local_store.put("x", bodies[0])
    done = threading.Event()

    def read_all_the_time() -> int:
        reads = 0
        while not done.is_set():
            assert (tmp_path / "lake/x").read_bytes() in bodies
            reads += 1
        return reads

    reader = asyncio.create_task(asyncio.to_thread(read_all_the_time))
    for n in range(100):
        await local_store.put("x", bodies[n % 2])
    done.set()
    assert await reader > 10


async def test_too_many_open_files_pass(local_store: Store) -> None:
    await local_store.put("x", b"x")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(Transient, match="Too many open files"):
            await local_store.get("x")
        with pytest.raises(Transient, match="Too many open files"):
            await local_store.put("y", b"y")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert await names(local_store) == ["x"]


async def test_a_full_disk_is_transient_and_keeps_what_was_there(tmp_path: Path) -> None:
    with small_disk(tmp_path / "data"):
        async with open_store(StorageSettings(), tmp_path / "data") as store:
            await store.put("x", b"old")
            with pytest.raises(Transient, match="No space left on device"):
                await store.put("x", bytes(1_000_000))
            assert (await store.get("x")).data == b"old"
            assert whole_tree(tmp_path / "data/lake") == {"x"}


@contextmanager
def small_disk(directory: Path) -> Iterator[None]:
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(directory)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs /sys, where nobody may create files")
async def test_a_directory_that_cannot_be_written_to_is_permanent() -> None:
    with pytest.raises(Permanent, match="cannot write /sys/kernel/x: "):
        await LocalStore(Path("/sys/kernel")).put("x", b"x")


async def test_a_file_in_the_lakes_place_is_permanent(tmp_path: Path) -> None:
    (tmp_path / "lake").write_bytes(b"")
    with pytest.raises(Permanent, match="open the lake"):
        async with open_store(StorageSettings(), tmp_path):
            pass


@settings(max_examples=rounds(20, 60))
@given(keys=st.sets(KEYS, max_size=14), after=st.one_of(KEYS, st.just("")), prefix=st.text("ab/.-", max_size=3))
def test_any_tree_is_listed_in_the_order_of_its_keys(keys: set[str], after: str, prefix: str) -> None:
    keys = {key for key in keys if not any(other.startswith(f"{key}/") for other in keys)}
    with tempfile.TemporaryDirectory() as directory:
        for key in keys:
            (Path(directory) / key).parent.mkdir(parents=True, exist_ok=True)
            (Path(directory) / key).touch()
        place = Place(LocalStore(Path(directory)), "")
        listed = asyncio.run(place.names(prefix, after))
    expected = [key for key in keys if key.startswith(prefix) and key.encode() > after.encode()]
    assert listed == sorted(expected, key=str.encode)

"""What the spool has accepted is on the disk, whole, until it is removed; whatever else is there is set aside."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from bikeflow.core.errors import Permanent
from bikeflow.ingest.spool import NotSpooled, Spool, SpoolFull

T0 = dt.datetime(2026, 3, 1, 23, 59, 58, tzinfo=dt.UTC)
ROOM = 10_000


def second(number: int) -> dt.datetime:
    return T0 + dt.timedelta(seconds=number)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_entries_come_back_oldest_first_after_a_restart(tmp_path: Path) -> None:
    spool = await Spool.open(tmp_path / "spool", ROOM)
    for number in (2, 0, 1):
        await spool.add(second(number), f"trace{number}", f"dane {number} ł".encode())
    again = await Spool.open(tmp_path / "spool", ROOM)
    assert again.entries == spool.entries
    assert [(entry.time, entry.trace_id) for entry in again.entries] == [
        (second(number), f"trace{number}") for number in range(3)
    ]
    assert [await again.read(entry) for entry in again.entries] == [f"dane {n} ł".encode() for n in range(3)]
    assert (again.depth, again.size_bytes) == (3, 3 * len("dane 0 ł".encode()))


async def test_a_removed_entry_is_gone_for_good(tmp_path: Path) -> None:
    spool = await Spool.open(tmp_path, ROOM)
    entry = await spool.add(T0, "abc", b"x")
    await spool.remove(entry)
    assert spool.depth == spool.size_bytes == 0
    assert spool.free_second(T0) == T0
    assert names(tmp_path) == []


async def test_a_moved_entry_keeps_all_but_its_time(tmp_path: Path) -> None:
    spool = await Spool.open(tmp_path, ROOM)
    moved = await spool.move(await spool.add(T0, "abc", b"x"), second(1))
    assert (moved.time, moved.trace_id, await spool.read(moved)) == (second(1), "abc", b"x")
    assert (await Spool.open(tmp_path, ROOM)).entries == spool.entries == [moved]


async def test_a_full_spool_refuses_what_is_new_and_keeps_what_it_has(tmp_path: Path) -> None:
    spool = await Spool.open(tmp_path, 10)
    await spool.add(second(0), "a", b"12345")
    await spool.add(second(1), "b", b"12345")
    with pytest.raises(NotSpooled, match=r"full \(2 snapshots wait"):
        await spool.add(second(2), "c", b"1")
    assert [entry.trace_id for entry in spool.entries] == ["a", "b"]
    await spool.remove(spool.entries[0])
    await spool.add(second(2), "c", b"1")


async def test_one_snapshot_always_finds_room(tmp_path: Path) -> None:
    spool = await Spool.open(tmp_path, 10)
    await spool.add(T0, "a", b"more than ten bytes")
    assert spool.depth == 1


async def test_an_unwritable_spool_says_so_and_leaves_nothing_behind(tmp_path: Path) -> None:
    spool = await Spool.open(tmp_path / "spool", ROOM)
    (tmp_path / "spool").rmdir()
    (tmp_path / "spool").write_text("a file where the directory was")
    with pytest.raises(NotSpooled, match="cannot write to the spool"):
        await spool.add(T0, "a", b"x")
    assert spool.depth == 0


async def test_a_spool_directory_that_vanished_is_made_again(tmp_path: Path) -> None:
    spool = await Spool.open(tmp_path / "spool", ROOM)
    (tmp_path / "spool").rmdir()
    entry = await spool.add(T0, "a", b"x")
    assert await spool.read(entry) == b"x"


async def test_a_path_that_is_no_directory_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("")
    with pytest.raises(Permanent, match="cannot use the spool"):
        await Spool.open(tmp_path / "spool", ROOM)


async def test_what_a_crash_left_of_a_write_goes_without_a_word(tmp_path: Path) -> None:
    spool = await Spool.open(tmp_path, ROOM)
    good = await spool.add(T0, "good", b"whole")
    (tmp_path / f".{good.name}.tmp").write_bytes(b"who")
    assert (await Spool.open(tmp_path, ROOM)).entries == [good]
    assert names(tmp_path) == [good.name]


async def test_damaged_entries_and_strangers_are_set_aside_at_the_start(tmp_path: Path) -> None:
    spool = await Spool.open(tmp_path, ROOM)
    good = await spool.add(T0, "good", b"whole")
    (tmp_path / good.name.replace("good", "empty")).write_bytes(b"")
    (tmp_path / good.name.replace("good", "twin")).write_bytes(b"whole")
    (tmp_path / good.name.replace("2026-03-01", "2026-02-31")).write_bytes(b"whole")
    (tmp_path / "notes.txt").write_bytes(b"?")
    again = await Spool.open(tmp_path, ROOM)
    assert again.entries == [good]
    assert len(names(tmp_path / "damaged")) == 4
    assert names(tmp_path) == [good.name, "damaged"]
    assert (await Spool.open(tmp_path, ROOM)).entries == [good]


@pytest.mark.parametrize("content", [b"who", b"whose", b""])
async def test_a_damaged_entry_is_noticed_when_it_is_read_and_blocks_nothing(tmp_path: Path, content: bytes) -> None:
    spool = await Spool.open(tmp_path, ROOM)
    bad = await spool.add(second(0), "bad", b"whole")
    good = await spool.add(second(1), "good", b"whole")
    (tmp_path / bad.name).write_bytes(content)
    assert await spool.read(bad) is None
    assert spool.entries == [good]
    assert (tmp_path / "damaged" / bad.name).read_bytes() == content


async def test_an_entry_whose_file_vanished_blocks_nothing(tmp_path: Path) -> None:
    spool = await Spool.open(tmp_path, ROOM)
    entry = await spool.add(T0, "gone", b"x")
    (tmp_path / entry.name).unlink()
    assert await spool.read(entry) is None
    assert spool.depth == 0


async def test_the_file_is_complete_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def fsync(_handle: int) -> None:
        seen.append(names(tmp_path))

    monkeypatch.setattr("bikeflow.runtime.files.os.fsync", fsync)
    spool = await Spool.open(tmp_path, ROOM)
    entry = await spool.add(T0, "abc", b"x")
    # first the content reaches the disk under a temporary name, then the directory with the final one
    assert seen == [[f".{entry.name}.part"], [entry.name]]


# --- a disk that takes nothing ----------------------------------------------------------------------------------------


async def sick(tmp_path: Path, memory_bytes: int = 100) -> tuple[Spool, Path]:
    """A spool whose directory is taken by a file."""
    directory = tmp_path / "spool"
    spool = await Spool.open(directory, 10**6, memory_bytes)
    directory.rmdir()
    directory.write_text("in the way")
    return spool, directory


async def held(spool: Spool, number: int, data: bytes) -> dt.datetime:
    """Add a snapshot as the delivery does where nothing else takes it."""
    time = spool.free_second(T0 + dt.timedelta(seconds=number))
    with pytest.raises(NotSpooled) as refusal:
        await spool.add(time, "0abc", data)
    spool.hold(time, "0abc", data, refusal.value)
    return time


async def test_what_the_disk_does_not_take_waits_in_memory_in_its_turn(tmp_path: Path) -> None:
    spool, directory = await sick(tmp_path)
    for number in (2, 1):
        await held(spool, number, b"%d" % number)
    assert [await spool.read(entry) for entry in spool.entries] == [b"1", b"2"]
    assert (spool.in_memory, spool.depth, spool.size_bytes) == (2, 2, 2)
    assert spool.fault is not None and "2 snapshots wait in memory alone" in spool.fault.reason
    await spool.settle()
    assert spool.in_memory == 2
    directory.unlink()
    await spool.settle()
    assert (spool.in_memory, spool.depth, str(spool.fault)) == (0, 2, "None")
    again = await Spool.open(directory, 10**6)
    assert [await again.read(entry) for entry in again.entries] == [b"1", b"2"]


async def test_the_memory_is_bounded(tmp_path: Path) -> None:
    spool, _ = await sick(tmp_path)
    await held(spool, 0, bytes(60))
    with pytest.raises(SpoolFull, match="1 snapshots wait in memory"):
        await held(spool, 1, bytes(60))
    assert spool.in_memory == 1


async def test_what_waits_in_memory_can_be_moved_handed_over_and_removed(tmp_path: Path) -> None:
    spool, _ = await sick(tmp_path)
    await held(spool, 0, b"one")
    await held(spool, 1, b"two")
    moved = await spool.move(spool.entries[0], T0 + dt.timedelta(seconds=9))
    other = Spool(spool.directory, 10**6)
    other.take_over(spool)
    assert [await other.read(entry) for entry in other.entries] == [b"two", b"one"]
    assert (spool.in_memory, other.in_memory) == (0, 2) and other.fault is not None
    await other.remove(moved)
    await other.remove(other.entries[0])
    assert (other.depth, other.in_memory, str(other.fault)) == (0, 0, "None")

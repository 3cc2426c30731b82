"""The record of polls is in the lake within minutes, in one object a day, and a lost disk costs no more than those."""

from __future__ import annotations

import datetime as dt
import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bikeflow.polls import Poll
from bikeflow.polls.log import FILE_NAME
from bikeflow.polls.poll import from_parquet
from tests.polls.conftest import LAYOUT, NOON, Polls
from tests.polls.test_recorder import FIRST, SECOND, chained
from tests.support.feedserver import document

MIDNIGHT = 12 * 3600
KEY = f"{LAYOUT.prefix}polls/dt=2026-03-01/polls_20260301.parquet"


async def objects(polls: Polls) -> dict[str, list[Poll]]:
    """The rows in the lake, by key."""
    infos = [info async for page in polls.store.pages(LAYOUT.polls) for info in page]
    return {info.key: from_parquet("wrm", (await polls.store.get(info.key)).data) for info in infos}


async def in_lake(polls: Polls) -> list[Poll]:
    """All rows in the lake, in the order of their times."""
    return [row for _, rows in sorted((await objects(polls)).items()) for row in rows]


def lose_disk(polls: Polls) -> None:
    """Only the lake is left."""
    for path in polls.data_dir.glob(f"{FILE_NAME}*"):
        path.unlink()


async def test_a_day_is_one_object_that_is_replaced_whole(polls: Polls) -> None:
    polls.server.answers(document(FIRST))
    await polls.start()
    await polls.poll(0, 60)
    await polls.archive.upload()
    assert await objects(polls) == {KEY: polls.rows()}
    await polls.poll(120)
    await polls.archive.upload()
    assert await objects(polls) == {KEY: polls.rows()}
    assert len(polls.rows()) == 3
    table = pq.read_table(io.BytesIO((await polls.store.get(KEY)).data))
    assert table["outcome"].to_pylist() == ["stored", "unchanged", "unchanged"]


async def test_a_day_that_is_over_is_closed_and_copied(polls: Polls) -> None:
    polls.server.answers(document(FIRST))
    await polls.start()
    await polls.poll(MIDNIGHT - 60, MIDNIGHT, MIDNIGHT + 60)
    await polls.archive.upload()
    assert polls.archive.files == {}, "a poll of the day may still be under way"
    before = polls.rows()
    await polls.poll(MIDNIGHT + 601)
    await polls.archive.upload()
    ((day, path),) = polls.archive.files.items()
    assert (day, from_parquet("wrm", path.read_bytes())) == (NOON.date(), before[:1])
    assert [row.day for row in polls.rows()] == [NOON.date() + dt.timedelta(days=1)] * len(polls.rows())
    assert chained(await in_lake(polls))
    await polls.start()
    assert await polls.archive.sync()
    assert polls.archive.files == {day: path}


async def test_copies_that_vanish_are_fetched_again(polls: Polls) -> None:
    polls.server.answers(document(FIRST))
    await polls.start()
    await polls.poll(0, MIDNIGHT + 601)
    await polls.archive.upload()
    ((day, path),) = polls.archive.files.items()
    path.unlink()
    await polls.archive.upload()
    assert (day, path.exists()) == (NOON.date(), True)


async def test_what_no_store_took_is_there_after_a_restart(polls: Polls) -> None:
    polls.server.answers(document(FIRST))
    await polls.start()
    await polls.poll(0, 60)
    await polls.archive.upload()
    await polls.poll(120)
    await polls.start()
    await polls.archive.upload()
    assert [row.due_at for row in await in_lake(polls)] == [NOON + dt.timedelta(minutes=number) for number in range(3)]


async def test_a_poll_does_not_come_before_its_raw_file(polls: Polls) -> None:
    polls.server.answers(document(FIRST), document(SECOND))
    await polls.start()
    await polls.poll(0)
    polls.clock.now = NOON + dt.timedelta(minutes=1)
    await polls.fetcher.fetch_once()
    await polls.archive.upload()
    assert len(await in_lake(polls)) == 1
    await polls.delivery.drain()
    await polls.archive.upload()
    assert await in_lake(polls) == polls.rows()


@pytest.mark.parametrize("uploads_first", [True, False])
async def test_a_lost_disk_is_told_as_what_it_is(polls: Polls, uploads_first: bool) -> None:
    """What the lake has stays; what it has not is told as unrecorded, whenever the store answers again."""
    polls.server.answers(document(FIRST))
    await polls.start()
    await polls.poll(0, 60)
    await polls.archive.upload()
    await polls.poll(120, 180)
    lose_disk(polls)
    await polls.start()
    if uploads_first:
        await polls.archive.upload()
    await polls.poll(600, 660)
    await polls.archive.upload()
    await polls.archive.upload()
    rows = await in_lake(polls)
    assert chained(rows)
    assert [((row.due_at - NOON).total_seconds(), row.polls, row.outcome, row.reason) for row in rows] == [
        (0, 1, "stored", None),
        (60, 1, "unchanged", None),
        (120, 8, "unrecorded", "record_lost"),
        (600, 1, "unchanged", None),
        (660, 1, "unchanged", None),
    ]


async def test_a_damaged_object_is_set_aside(polls: Polls) -> None:
    polls.server.answers(document(FIRST))
    await polls.start()
    await polls.poll(0)
    await polls.archive.upload()
    await polls.store.put(KEY, b"PAR1 nonsense PAR1")
    await polls.poll(60)
    await polls.archive.upload()
    assert from_parquet("wrm", (await polls.store.get(KEY)).data) == polls.rows()
    assert (await polls.store.get(f"{KEY}.damaged")).data == b"PAR1 nonsense PAR1"


async def test_two_pollers_of_one_lake_leave_the_polls_of_both(polls: Polls, tmp_path: Path) -> None:
    polls.server.answers(document(FIRST))
    await polls.start()
    await polls.poll(0)
    await polls.archive.upload()
    first, polls.data_dir = polls.archive, tmp_path / "other"
    polls.data_dir.mkdir()
    await polls.start()
    await polls.poll(30)
    await polls.archive.upload()
    await first.upload()
    assert len(await in_lake(polls)) == 2

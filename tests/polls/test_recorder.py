"""Every poll is a row on the disk when it ends, and so is every poll that did not happen."""

from __future__ import annotations

import datetime as dt
import itertools
import sqlite3

import pytest

from bikeflow.polls.log import FILE_NAME
from bikeflow.polls.poll import Poll
from tests.polls.conftest import LAYOUT, NOON, Polls
from tests.support.feedserver import Reply, document
from tests.support.lines import raw_file, station

FIRST = raw_file(station())
SECOND = raw_file(station(bikes="6"))


def chained(rows: list[Poll]) -> bool:
    """Whether each row names the one before, and no poll that was due is missing between two."""
    return rows[0].previous_due_at is None and all(
        row.previous_due_at == before.last_due_at
        and (row.due_at - before.last_due_at).total_seconds() <= 1.1 * row.interval_seconds
        for before, row in itertools.pairwise(rows)
    )


async def test_each_poll_tells_how_it_ended_and_which_raw_file_has_what_it_saw(polls: Polls) -> None:
    await polls.start()
    polls.server.answers(
        document(FIRST, etag='"1"'), Reply(status=304), document(FIRST), document(SECOND), Reply(status=503),
        Reply(b"<html>", headers={"Content-Type": "text/html"}), document(SECOND),
    )  # fmt: skip
    await polls.poll(0, 60, 120, 180, 240, 300, 360)
    key = LAYOUT.raw_key
    assert [(row.outcome, row.reason, row.status, row.s3_source_key) for row in polls.rows()] == [
        ("stored", None, 200, key(NOON)),
        ("not_modified", None, 304, key(NOON)),
        ("unchanged", None, 200, key(NOON)),
        ("stored", None, 200, key(NOON + dt.timedelta(minutes=3))),
        ("failed", "http_status", 503, None),
        ("not_a_feed", None, 200, None),
        ("unchanged", None, 200, key(NOON + dt.timedelta(minutes=3))),
    ]
    first, *_ = polls.rows()
    assert (first.due_at, first.started_at, first.bytes, first.attempts) == (NOON, NOON, len(FIRST.encode()), 1)
    assert first.finished_at is not None
    assert first.finished_at >= NOON
    assert chained(polls.rows())


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(b"x" * 1000, cut=10), "body"),
        (Reply(b"x", headers={"Content-Encoding": "br"}), "body"),
        (Reply(status=404), "http_status"),
        (Reply(status=302, headers={"Location": "/again"}), "redirect"),
    ],
)
async def test_a_failed_poll_says_why_in_a_word(polls: Polls, reply: Reply, reason: str) -> None:
    await polls.start()
    polls.server.answers(reply)
    await polls.poll(0)
    assert polls.told() == [(0, 1, "failed", reason)]
    assert polls.rows()[0].error


async def test_polls_that_nobody_made_are_one_row_for_each_day(polls: Polls) -> None:
    polls.server.answers(document(FIRST))
    await polls.start()
    await polls.poll(0, 60)
    await polls.start()
    await polls.poll(100)
    assert polls.told()[2:] == [(100, 1, "unchanged", None)], "none was due between"
    await polls.start()
    days, second = 30 * 86_400, 12 * 3600
    await polls.poll(days)
    rows = polls.rows()
    assert chained(rows)
    missed = [row for row in rows if row.outcome == "missed"]
    assert [row.day for row in missed] == [NOON.date() + dt.timedelta(days=number) for number in range(31)]
    assert {row.reason for row in missed} == {"not_running"}
    assert [missed[0].polls, missed[1].polls, missed[-1].polls] == [second // 60 - 2, 1440, 720]
    assert sum(row.polls for row in missed) == (days - 100) // 60


async def test_polls_that_a_slow_one_has_used_up_are_skipped(polls: Polls) -> None:
    await polls.start()
    polls.server.answers(document(FIRST))
    polls.clock.now = NOON
    await polls.fetcher.fetch_once()
    recorder = polls.fetcher.polls
    assert recorder is not None
    outcome = await polls.fetcher.fetch_once()
    slow = NOON + dt.timedelta(seconds=60)
    await recorder.record(outcome, "", slow, slow, slow + dt.timedelta(seconds=130))
    await polls.poll(240)
    assert polls.told()[-2:] == [(120, 2, "skipped", "slow"), (240, 1, "unchanged", None)]


async def test_a_clock_that_jumps_is_told_as_what_it_is(polls: Polls) -> None:
    """Forwards polls are missing, or the machine slept; backwards there is nothing to tell."""
    await polls.start()
    polls.server.answers(document(FIRST))
    await polls.poll(0, 3600, 61, 121)
    assert polls.told() == [
        (0, 1, "stored", None),
        (60, 59, "missed", "clock"),
        (61, 1, "unchanged", None),
        (121, 1, "unchanged", None),
        (3600, 1, "unchanged", None),
    ]


async def test_a_kill_between_a_snapshot_and_its_record_leaves_both(polls: Polls) -> None:
    """The spool has the snapshot: the next process records the poll that has brought it."""
    polls.server.answers(document(FIRST), document(SECOND))
    await polls.start()
    await polls.poll(0)
    recorder, polls.fetcher.polls = polls.fetcher.polls, None
    polls.clock.now = NOON + dt.timedelta(seconds=61)
    await polls.fetcher.fetch_once()
    assert recorder is not None
    await polls.start()
    await polls.poll(200)
    assert polls.told() == [
        (0, 1, "stored", None),
        (60, 1, "stored", "interrupted"),
        (120, 2, "missed", "not_running"),
        (200, 1, "unchanged", None),
    ]
    interrupted = polls.rows()[1]
    assert interrupted.s3_source_key == LAYOUT.raw_key(NOON + dt.timedelta(seconds=61))
    assert chained(polls.rows())


async def test_what_the_disk_does_not_take_is_written_when_it_does(polls: Polls) -> None:
    polls.server.answers(document(FIRST))
    await polls.start()
    await polls.poll(0)
    with sqlite3.connect(polls.data_dir / FILE_NAME) as other:
        pages = other.execute("PRAGMA page_count").fetchone()[0]
    polls.log._database._connection.execute(f"PRAGMA max_page_count = {pages}")
    seconds = [60 * number for number in range(1, 400)]
    await polls.poll(*seconds)
    assert len(polls.rows()) < 400
    polls.log._database._connection.execute("PRAGMA max_page_count = 1000000")
    await polls.poll(24_000)
    assert [row[0] for row in polls.told()] == [0, *seconds, 24_000]
    assert chained(polls.rows())


async def test_a_snapshot_that_gets_another_key_is_recorded_under_it(polls: Polls) -> None:
    polls.server.answers(document(FIRST), document(SECOND))
    await polls.start()
    await polls.store.put(LAYOUT.raw_key(NOON), b"another's")
    await polls.poll(0, 60)
    assert [row.s3_source_key for row in polls.rows()] == [
        LAYOUT.raw_key(NOON + dt.timedelta(seconds=1)),
        LAYOUT.raw_key(NOON + dt.timedelta(seconds=60)),
    ]

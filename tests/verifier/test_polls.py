"""The record of polls: verify sees what is missing in it, doubled, invented, or names a raw file that is not there."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace

import pytest

from bikeflow.polls.poll import Poll, from_parquet, to_parquet
from bikeflow.verifier import Report
from bikeflow.verifier.polls import PollAudit
from tests.polls.conftest import LAYOUT, NOON, Polls, polls
from tests.polls.test_archive import KEY
from tests.polls.test_recorder import FIRST, SECOND
from tests.support.feedserver import Reply, document

__all__ = ["polls"]
DAYS = 86_400
Damage = Callable[[list[Poll]], object]


async def audited(polls: Polls, day: dt.date | None = None) -> Report:
    """What the audit finds, on one day or on all."""
    report = Report()
    audit = PollAudit(polls.store, LAYOUT, report)
    await audit.read(lambda found: day is None or found == day)
    infos = [info async for page in polls.store.pages(LAYOUT.raw) for info in page]
    files = [file for info in infos if (file := LAYOUT.raw_file(info))]
    audit.compare({file.key for file in files if day is None or file.partition.day == day})
    return report


async def several_days(polls: Polls) -> None:
    """Polls with all kinds of endings, a restart after two days, and an unrecorded stretch."""
    polls.server.answers(document(FIRST), document(SECOND), Reply(status=500), document(SECOND))
    await polls.start()
    await polls.poll(0, 60, 120, 180)
    await polls.start()
    await polls.poll(2 * DAYS, 2 * DAYS + 60)
    await polls.archive.upload()
    for path in polls.data_dir.glob("polls.sqlite*"):
        path.unlink()
    await polls.start()
    await polls.poll(2 * DAYS + 600)
    await polls.archive.upload()


async def test_a_whole_record_is_proved_and_counted(polls: Polls) -> None:
    await several_days(polls)
    report = await audited(polls)
    assert (report.findings, report.polls, report.unpolled_files) == ([], 2 * 1440 + 11, 0)
    first_day = await audited(polls, NOON.date())
    assert (first_day.findings, first_day.polls) == ([], 720)
    last_day = await audited(polls, NOON.date() + dt.timedelta(days=2))
    assert (last_day.findings, last_day.polls) == ([], 731)


async def test_an_archive_of_others_has_raw_files_without_polls(polls: Polls) -> None:
    await polls.store.put(LAYOUT.raw_key(NOON - dt.timedelta(days=3)), FIRST.encode())
    assert (await audited(polls)).polls == 0
    await several_days(polls)
    report = await audited(polls)
    assert (report.findings, report.unpolled_files) == ([], 1)


def without_a_trace(rows: list[Poll]) -> None:
    """Remove a row, and let the next one name the one before."""
    del rows[2]
    rows[2] = replace(rows[2], previous_due_at=rows[1].due_at)


DAMAGES: dict[str, tuple[Damage, str]] = {
    "a row is gone": (lambda rows: rows.pop(1), "polls_missing"),
    "a row of polls that nobody made is gone": (lambda rows: rows.pop(), "polls_missing"),
    "a row is there twice": (lambda rows: rows.append(rows[1]), "polls_doubled"),
    "a row stands for fewer polls": (
        lambda rows: rows.append(replace(rows.pop(), last_due_at=NOON + dt.timedelta(hours=1))),
        "polls_wrong",
    ),
    "fewer polls, told consistently": (
        lambda rows: rows.append(
            replace(last := rows.pop(), polls=last.polls - 9, last_due_at=last.last_due_at - dt.timedelta(minutes=9))
        ),
        "polls_missing",
    ),
    "a raw key that does not exist": (
        lambda rows: rows.insert(0, replace(rows.pop(0), s3_source_key=LAYOUT.raw_key(NOON - dt.timedelta(hours=1)))),
        "polls_without_raw",
    ),
    "a row is gone, and the next one names the one before": (without_a_trace, "polls_missing"),
}


@pytest.mark.parametrize("name", DAMAGES)
async def test_damage_is_found(polls: Polls, name: str) -> None:
    damage, kind = DAMAGES[name]
    await several_days(polls)
    rows = from_parquet("wrm", (await polls.store.get(KEY)).data)
    damage(rows)
    await polls.store.put(KEY, to_parquet(rows))
    assert kind in {finding.kind for finding in (await audited(polls)).findings}


async def test_a_damaged_object_and_one_that_is_gone_are_found(polls: Polls) -> None:
    await several_days(polls)
    second = LAYOUT.polls_key(NOON.date() + dt.timedelta(days=1))
    await polls.store.put(second, b"PAR1 nonsense PAR1")
    assert {finding.kind for finding in (await audited(polls)).findings} == {"polls_unreadable", "polls_missing"}
    await polls.store.delete(second)
    assert {finding.kind for finding in (await audited(polls)).findings} == {"polls_missing"}
    await polls.store.delete(KEY)
    assert (await audited(polls)).findings == [], "old days may be deleted"


async def test_a_raw_file_that_is_gone_is_found(polls: Polls) -> None:
    await several_days(polls)
    await polls.store.delete(LAYOUT.raw_key(NOON))
    (finding,) = (await audited(polls)).findings
    assert (finding.kind, finding.key) == ("polls_without_raw", LAYOUT.raw_key(NOON))

"""A real service records every poll: through kills, a store that is down, a full disk and a reload."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bikeflow.polls import Poll
from bikeflow.polls.poll import from_parquet
from bikeflow.settings import Settings
from bikeflow.settings.sections import StorageSettings
from tests.polls.test_recorder import chained
from tests.service.test_reload import Operator, values_for
from tests.support.audits import verified
from tests.support.chaos_proxy import proxying, reset
from tests.support.feedserver import Reply, document, serve
from tests.support.lines import raw_file, station
from tests.support.oracle import bucket_lake, local_lake, serving
from tests.support.s3server import S3Server
from tests.support.service import Service, running

QUICK = {"retry.initial_seconds": 0.05, "retry.max_seconds": 0.2, "processing.seal_after_minutes": 43_200}


def recorded(lake: Mapping[str, bytes]) -> list[Poll]:
    """The polls in the lake, in the order of their times."""
    found = [poll for key, data in lake.items() if "/polls/dt=" in key for poll in from_parquet("wrm", data)]
    return sorted(found, key=lambda poll: poll.due_at)


def fetched(service: Service) -> Iterator[str]:
    """How each poll ended, by the log."""
    for line in service.log().splitlines():
        if "event=fetched " in line:
            yield line.partition("outcome=")[2].split()[0]


async def test_killed_services_leave_a_record_without_a_hole(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    async with serving() as feed:
        for number in range(4):
            async with running(data_dir, feed.url, settings=QUICK) as service:
                await service.told("fetched", 2 + number)
                await service.stop(signal.SIGKILL)
        async with running(data_dir, feed.url, settings=QUICK) as service:
            await service.told("refreshed", 1)
            assert await service.stop() == 0
        log = (tmp_path / "data.log").read_text()
        promised, told = feed.promised(log), log.count("event=fetched ")
    polls = recorded(local_lake(data_dir))
    assert chained(polls)
    assert promised <= {poll.s3_source_key for poll in polls}
    made = [poll for poll in polls if poll.outcome != "missed"]
    assert told <= len(made) <= told + 4, "a poll may be killed before it is logged"
    report = await verified(Settings(data_dir=data_dir), sample=None)
    assert (report.findings, report.unpolled_files) == ([], 0)
    shown = service.query("SELECT count(*) FROM main.feed_polls WHERE outcome <> 'missed'")
    assert len(made) - 3 <= shown <= len(made), "the last ones came after the last publication"


async def test_each_ending_of_a_poll_is_published(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    first, second = (raw_file(station(bikes=bikes)) for bikes in ("5", "6"))
    async with serve() as feed:
        feed.answers(
            document(first, etag='"1"'), Reply(status=304), Reply(status=404), Reply(b"<html>"), document(second)
        )
        async with running(data_dir, feed.url, settings=QUICK) as service:
            await service.told("fetched", 6)
            assert await service.stop() == 0
            assert service.query("SELECT count(*) FROM main.feed_polls") >= 5
    endings = [poll.outcome for poll in recorded(local_lake(data_dir))]
    assert endings[:5] == ["stored", "not_modified", "failed", "not_a_feed", "stored"]
    assert set(endings[5:]) <= {"unchanged", "skipped"}
    assert (await verified(Settings(data_dir=data_dir), sample=None)).findings == []


async def test_polls_wait_for_a_store_that_is_down_and_arrive(tmp_path: Path, s3_server: S3Server) -> None:
    storage = s3_server.settings()
    if not s3_server.endpoint_url.startswith("http:"):
        pytest.skip("the proxy speaks http")
    async with proxying(s3_server) as proxy, serving() as feed:
        through = storage.model_copy(update={"endpoint_url": proxy.server.endpoint_url})
        data_dir = tmp_path / "data"
        async with running(data_dir, feed.url, storage=through, settings=QUICK) as service:
            await service.told("refreshed", 1)
            proxy.breaks(reset)
            down = service.log().count("event=fetched ")
            await service.told("fetched", down + 5)
            await service.stop(signal.SIGKILL)
        async with running(data_dir, feed.url, storage=through, settings=QUICK) as service:
            await service.told("fetched", 2)
            proxy.heals()
            spool = data_dir / "spool" / "wrm"
            await service.until(lambda: not list(spool.glob("*.txt")), "the spool to be empty")
            assert await service.stop() == 0
            promised = feed.promised((tmp_path / "data.log").read_text())
    polls = recorded(bucket_lake(s3_server.client(), storage.bucket))
    assert chained(polls)
    assert promised <= {poll.s3_source_key for poll in polls}
    settings = Settings(data_dir=data_dir, storage=StorageSettings.model_validate(storage.model_dump()))
    assert (await verified(settings, sample=None)).findings == []


async def test_a_reload_leaves_no_hole_and_the_new_interval(tmp_path: Path) -> None:
    data_dir, config = tmp_path / "data", tmp_path / "config.toml"
    async with serving() as feed:
        values = {**values_for(data_dir, feed.url), **QUICK}
        async with running(data_dir, feed.url, settings=values, config=config) as service:
            await service.told("fetched", 2)
            await Operator(service, config, values).reload(feed__interval_seconds=2)
            await service.told("fetched", len(list(fetched(service))) + 2)
            assert await service.stop() == 0
            told = list(fetched(service))
    polls = recorded(local_lake(data_dir))
    assert chained(polls)
    assert {poll.interval_seconds for poll in polls} == {1, 2}
    assert len([poll for poll in polls if poll.outcome not in ("missed", "skipped")]) == len(told)
    assert (await verified(Settings(data_dir=data_dir), sample=None)).findings == []

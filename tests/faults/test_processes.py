"""Real processes, ended, halted and doubled at the worst moments: at their writes, renames and commits."""

from __future__ import annotations

import asyncio
import datetime as dt
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from bikeflow.core.model import UTC
from tests.soak.kills import SETTINGS, Soak, soak
from tests.support.oracle import PREFIX, Oracle, bucket_lake, database_rows, serving
from tests.support.rounds import rounds
from tests.support.s3server import S3Server
from tests.support.service import Service, running

NOWHERE = "http://127.0.0.1:9/feed.txt"


@pytest.mark.slow
async def test_a_service_that_is_killed_at_its_writes_loses_and_doubles_nothing(tmp_path: Path) -> None:
    tally = await soak(tmp_path, kills=rounds(3, 8), seed=8)
    assert sum(tally.kills.values()) == rounds(3, 8)
    assert tally.verdict.expected > 0


@pytest.mark.slow
async def test_a_killed_service_loses_and_doubles_nothing_in_a_bucket_either(
    tmp_path: Path, s3_server: S3Server
) -> None:
    tally = await soak(tmp_path, kills=rounds(3, 8), seed=9, server=s3_server)
    assert tally.verdict.expected > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "places",
    [
        ("spool", "raw", "ledger", "mirror"),
        ("processed", "enhanced", "working database", "published database"),
    ],
)
async def test_a_stop_in_the_midst_of_a_write_is_a_clean_one(tmp_path: Path, places: tuple[str, ...]) -> None:
    async with serving() as oracle:
        run = Soak(tmp_path, oracle, seed=1)
        for place in places:
            while place not in run.tally.kills:
                assert await run.life(signal.SIGTERM, place) == 0, place
                assert "shutdown_deadline_passed" not in run.tally.log
        await run.settle()


@pytest.mark.slow
async def test_a_process_that_is_halted_in_the_midst_of_writes_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    async with serving() as oracle:
        run = Soak(tmp_path, oracle, seed=2)
        async with running(tmp_path / "data", oracle.url, settings=SETTINGS) as service:
            await service.logged("event=refreshed")
            for place in ("spool", "raw", "enhanced", "ledger", "published database"):
                await run.strike(service, signal.SIGSTOP, place)
                await asyncio.sleep(1.2)  # longer than the feed's interval
                service.process.send_signal(signal.SIGCONT)
            assert await service.stop() == 0
        await run.settle()


async def test_two_instances_on_one_bucket_come_to_the_same_lake_with_every_row_once(
    tmp_path: Path, s3_server: S3Server
) -> None:
    """One of them fetches; both watch, process and seal, each from a directory of its own."""
    storage, client = s3_server.settings(), s3_server.client()
    async with (
        serving() as oracle,
        running(tmp_path / "one", oracle.url, storage=storage, settings=SETTINGS) as one,
        running(tmp_path / "two", NOWHERE, storage=storage, settings=SETTINGS) as two,
    ):
        for number in range(4):
            put_in_a_finished_day(oracle, client, storage.bucket, number)
            await asyncio.sleep(0.5)
        await one.until(lambda: len(oracle.served) >= 8, "eight snapshots")
        oracle.frozen = True
        for service in (one, two):
            await service.until(lambda: shows_all(service, oracle), "all snapshots in the database")  # noqa: B023
        lake = bucket_lake(client, storage.bucket)
        for service in (one, two):
            assert await service.stop() == 0
            oracle.audit(lake, service.database, one.log(), storage.prefix).assert_exactly_once()
        assert without_polls(bucket_lake(client, storage.bucket)) == without_polls(lake)


def without_polls(lake: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """The lake but for the record of polls, which grows until the service has stopped."""
    return {key: data for key, data in lake.items() if "/polls/" not in key}


def put_in_a_finished_day(oracle: Oracle, client: object, bucket: str, number: int) -> None:
    at = dt.datetime.combine(dt.datetime.now(UTC).date(), dt.time(6 * number), UTC) - dt.timedelta(days=2)
    key = f"{PREFIX}raw/dt={at:%Y-%m-%d}/wrm_stations_{at:%Y-%m-%d_%H-%M-%S}.txt"
    client.put_object(Bucket=bucket, Key=key, Body=oracle.put_file(key))  # type: ignore[attr-defined]


def shows_all(service: Service, oracle: Oracle) -> bool:
    rows = database_rows(service.database) if service.database.exists() else []
    return {number for _, _, number in rows} == set(range(len(oracle.served)))

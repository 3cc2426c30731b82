"""A real service before a real S3 server, with a proxy between them that breaks requests as the world does."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from bikeflow.core.model import UTC
from bikeflow.settings.sections import StorageSettings
from tests.soak.storms import storms
from tests.support import chaos_proxy
from tests.support.chaos_proxy import ChaosProxy, Fault, answering, proxying
from tests.support.oracle import PREFIX, Oracle, bucket_lake, database_rows, serving
from tests.support.s3server import S3Server
from tests.support.service import Service, running
from tests.support.watch import Watch

SETTINGS: Mapping[str, object] = {
    # A tenth of the default ones, so that polls and retries stand to one another as they do there; but who waits for
    # the store, and is not woken, waits for the default time.
    "watcher.poll_seconds": 0.5,
    "retry.initial_seconds": 0.05,
    "storage.connect_timeout_seconds": 0.5,
    "storage.read_timeout_seconds": 1.5,
    "watcher.reconcile_seconds": 86_400,
    "processing.seal_after_minutes": 43_200,
}
POLL = f"list {PREFIX}raw/"
RECOVERY_POLLS = 40
"""Two at most on a machine at leisure; a busy one takes its time for the work itself, while the polls go on. A wait
that nobody ended would take 60."""
LASTING_SECONDS = 1.1
"""Longer than the feed's interval and two polls."""
ANSWERS: Mapping[str, Fault] = {
    "500": answering(500, "InternalError"),
    "502 of a gateway": answering(502),
    "503 SlowDown": answering(503, "SlowDown", Retry_After="1"),
    "429": answering(429, "TooManyRequests", Retry_After="1"),
    "403 of a revoked key": answering(403, "InvalidAccessKeyId"),
    "403 of a skewed clock": answering(403, "RequestTimeTooSkewed"),
    "404 for everything": answering(404),
    "a page with status 200": answering(200),
}
CONNECTIONS: Mapping[str, Fault] = {
    "reset": chaos_proxy.reset,
    "reset after the effect": chaos_proxy.reset_after_effect,
    "half-closed": chaos_proxy.half_close,
    "truncated": chaos_proxy.truncate,
    "hanging": chaos_proxy.hang,
    "hanging after the effect": chaos_proxy.hang_after_effect,
}
pytestmark = pytest.mark.slow


class ProxyWatch(Watch):
    """A service at work, and the proxy before its store."""

    def __init__(self, service: Service, client: aiohttp.ClientSession, proxy: ChaosProxy) -> None:
        super().__init__(service, client)
        self.proxy = proxy

    async def polls_until_recovered(self) -> int:
        """Let the fault end, and wait until all is green and delivered; returns how many polls that took."""
        self.proxy.heals()
        await self.recovers()
        return self.proxy.passed[POLL]

    async def survives(self, fault: Fault, *parts: str) -> int:
        """Let the fault befall all requests for a while; returns how many polls the recovery took."""
        self.proxy.breaks(fault)
        await self.breaks(*parts)
        await asyncio.sleep(LASTING_SECONDS)
        assert await self.faults()
        assert self.waiting(), "a snapshot was fetched meanwhile, and the store can't have it yet"
        return await self.polls_until_recovered()


@dataclass(frozen=True)
class Place:
    """A bucket as somebody else sees it, who needs no proxy."""

    storage: StorageSettings
    client: Any

    def contents(self) -> dict[str, bytes]:
        """All objects by key."""
        return bucket_lake(self.client, self.storage.bucket)

    def raw_keys(self) -> set[str]:
        """The keys of all raw files."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.storage.bucket, Prefix=f"{PREFIX}raw/"
        )
        return {entry["Key"] for page in pages for entry in page.get("Contents", ())}

    def put(self, oracle: Oracle, at: dt.datetime) -> str:
        """Put a raw file there; returns its key."""
        key = f"{PREFIX}raw/dt={at:%Y-%m-%d}/wrm_stations_{at:%Y-%m-%d_%H-%M-%S}.txt"
        self.client.put_object(Bucket=self.storage.bucket, Key=key, Body=oracle.put_file(key))
        return key


@asynccontextmanager
async def watched(
    directory: Path, server: S3Server, oracle: Oracle, place: Place, **settings: object
) -> AsyncIterator[ProxyWatch]:
    """A service that works over a proxy; in the end everything that was served must be there exactly once."""
    async with proxying(server) as proxy:
        storage = place.storage.model_copy(update={"endpoint_url": proxy.server.endpoint_url})
        chosen = {**SETTINGS, **settings}
        async with running(directory / "data", oracle.url, storage=storage, settings=chosen) as service:
            async with aiohttp.ClientSession(await service.url()) as client:
                watch = ProxyWatch(service, client, proxy)
                await watch.recovers()
                yield watch
                proxy.heals()
                await watch.recovers()
                oracle.frozen = True
                await service.until(lambda: shown(service) == place.raw_keys(), "all raw files to be published")
            assert await service.stop() == 0
    assert "Traceback" not in service.log(), service.log()
    oracle.audit(place.contents(), service.database, service.log()).assert_exactly_once()


@pytest.fixture
def place(s3_server: S3Server) -> Place:
    """A fresh bucket."""
    storage = s3_server.settings()
    if storage.prefix != PREFIX or not s3_server.endpoint_url.startswith("http:"):
        pytest.skip("the proxy speaks http, and its tests need buckets of their own")
    return Place(storage, s3_server.client())


def shown(service: Service) -> set[str]:
    """The raw files in the published database."""
    return {key for key, _, _ in database_rows(service.database)}


@pytest.mark.parametrize("faults", [ANSWERS, CONNECTIONS], ids=["answers", "connections"])
async def test_health_tells_the_truth_and_two_polls_after_the_fault_all_is_well(
    tmp_path: Path, s3_server: S3Server, place: Place, faults: Mapping[str, Fault]
) -> None:
    async with serving() as oracle, watched(tmp_path, s3_server, oracle, place) as watch:
        for name, fault in faults.items():
            polls = await watch.survives(fault, "watching")
            assert polls <= RECOVERY_POLLS, (name, polls)


async def test_a_fault_that_only_some_requests_meet_is_told_and_survived(
    tmp_path: Path, s3_server: S3Server, place: Place
) -> None:
    """What is written fails while what is read works; of Parquet files that can't be read nothing is noticed."""
    part: Mapping[str, tuple[str, Callable[[chaos_proxy.Request], bool]]] = {
        "raw files can't be written": ("storing", chaos_proxy.below("/raw/", "put")),
        "Parquet files can't be written": ("processing", chaos_proxy.below(".parquet", "put")),
    }
    polls = {}
    async with serving() as oracle, watched(tmp_path, s3_server, oracle, place) as watch:
        for name, (expected, concerned) in part.items():
            watch.proxy.breaks(answering(503, "SlowDown"), concerned)
            await watch.breaks(expected)
            polls[name] = await watch.polls_until_recovered()
        # What a processor writes goes to the database from its memory, and never by way of the store.
        watch.proxy.breaks(answering(503, "SlowDown"), chaos_proxy.below(".parquet", "get"))
        until = len(shown(watch.service)) + 2
        await watch.service.until(lambda: len(shown(watch.service)) >= until, "two snapshots")
        assert not await watch.faults()
    assert max(polls.values()) <= RECOVERY_POLLS, polls


async def test_a_storm_of_random_faults_loses_and_doubles_nothing(tmp_path: Path, s3_server: S3Server) -> None:
    """`make soak` has an hour of it."""
    tally = await storms(tmp_path, minutes=0.1, seed=3, server=s3_server)
    assert tally.storms and tally.verdict.expected > 0


async def test_a_slow_store_is_no_broken_one(tmp_path: Path, s3_server: S3Server, place: Place) -> None:
    async with serving() as oracle, watched(tmp_path, s3_server, oracle, place) as watch:
        for fault in (chaos_proxy.delay, chaos_proxy.trickle):
            watch.proxy.breaks(fault)
            until = len(shown(watch.service)) + 2
            await watch.service.until(lambda: len(shown(watch.service)) >= until, "two snapshots")  # noqa: B023
            assert not await watch.faults()


async def test_a_raw_file_that_is_listed_but_can_not_be_read_yet_is_read_when_it_can(
    tmp_path: Path, s3_server: S3Server, place: Place
) -> None:
    """The 404 between LIST and GET, and contents that arrive damaged."""
    today = dt.datetime.combine(dt.datetime.now(UTC).date(), dt.time(), UTC)
    async with serving() as oracle, watched(tmp_path, s3_server, oracle, place) as watch:
        faults = [answering(404, "NoSuchKey"), chaos_proxy.flip, chaos_proxy.truncate]
        days = [f"{today - dt.timedelta(days=number):dt=%Y-%m-%d}" for number in range(1, len(faults) + 1)]
        by_day = dict(zip(days, faults, strict=True))

        async def fault(request: chaos_proxy.Request, forward: chaos_proxy.Forward) -> web.StreamResponse:
            return await by_day[request.key.split("/")[-2]](request, forward)

        def concerned(request: chaos_proxy.Request) -> bool:
            return (
                "/raw/" in request.key and request.operation in {"get", "head"} and request.key.split("/")[-2] in days
            )

        watch.proxy.breaks(fault, concerned)
        keys = {place.put(oracle, today - dt.timedelta(days=number + 1)) for number in range(len(faults))}
        await watch.service.until(lambda: watch.proxy.hit["get"] >= len(keys), "the files to be asked for")
        await asyncio.sleep(LASTING_SECONDS)
        assert not keys & shown(watch.service)
        watch.proxy.heals()
        await watch.service.until(lambda: keys <= shown(watch.service), "the files to be published")
        assert watch.proxy.passed[POLL] <= RECOVERY_POLLS


async def test_a_full_spool_is_told_counted_and_never_silent(tmp_path: Path, s3_server: S3Server, place: Place) -> None:
    small = {"feed.spool_max_bytes": 1_000_000}
    async with (
        serving(padding=300_000) as oracle,
        watched(tmp_path, s3_server, oracle, place, **small) as watch,
    ):
        watch.proxy.breaks(chaos_proxy.reset)
        await watch.breaks("storing", fetching="the spool")
        assert "is full" in (await watch.reasons())["fetching"]
        assert await watch.metric('bikeflow_fetches_total{outcome="lost",system="wrm"}') >= 1
        assert await watch.metric('bikeflow_spool_snapshots{system="wrm"}') == 3
        assert "level=error event=fetched outcome=lost" in watch.service.log()
        assert await watch.polls_until_recovered() <= RECOVERY_POLLS

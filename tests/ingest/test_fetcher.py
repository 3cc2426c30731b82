"""The fetcher against a real HTTP server and a real store: each new document becomes one raw file, whatever happens."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import gzip
import json
import secrets
import socket
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from bikeflow.core.errors import NotAFeed, Permanent, Transient
from bikeflow.core.model import DocumentsDropped, FetchFinished, FetchState, ObjectInfo, SnapshotStored, StoredObject
from bikeflow.core.scope import Scope
from bikeflow.feeds.wrm import WrmFormat, text
from bikeflow.ingest import Delivery, Fetcher, clock
from bikeflow.ingest import delivery as delivering
from bikeflow.ingest import fetcher as fetching
from bikeflow.ingest.dead_letters import MAX_TEXT_BYTES, Filed, file_usable
from bikeflow.ingest.fetcher import Turn
from bikeflow.ingest.spool import Spool
from bikeflow.ingest.upstream import Connections, Upstream
from bikeflow.ledger import Ledger, SystemIndex
from bikeflow.settings.sections import FeedSettings, RetrySettings, StorageSettings
from bikeflow.store import Store, open_store
from tests.support.feedserver import FeedServer, Reply, document, gzipped, serve, sha256
from tests.support.lines import raw_file, station
from tests.support.service import PATIENCE_SECONDS
from tests.support.wrm import wrm, wrm_layout

LAYOUT = wrm_layout("bike-data/gen_info/")
RETRY = RetrySettings(attempts=3, initial_seconds=0.01, max_seconds=0.05)
NOON = dt.datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=dt.UTC)
FIRST = raw_file(station(), station(15002, name="Dworzec Główny"))
SECOND = raw_file(station(bikes="6"), station(15002, name="Dworzec Główny"))
CURLY = raw_file(station(name="Główny „Rynek” &amp; 1"))
THIRD = raw_file(station(bikes="7"), station(15002, name="Dworzec Główny"))


@dataclass
class Clock:
    """A clock that a test can set; it stands still otherwise."""

    now: dt.datetime = NOON

    def __call__(self) -> dt.datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += dt.timedelta(seconds=seconds)


class Outage:
    """A store that fails while `error` is set, and hands everything to the real one otherwise."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.error: Exception | None = None
        self.calls: list[str] = []

    def _enter(self, call: str) -> None:
        self.calls.append(call)
        if self.error is not None:
            raise self.error

    async def pages(self, prefix: str, *, after: str = "") -> AsyncIterator[list[ObjectInfo]]:
        self._enter("pages")
        async for page in self.inner.pages(prefix, after=after):
            yield page

    async def get(self, key: str, *, last_bytes: int | None = None) -> StoredObject:
        self._enter("get")
        return await self.inner.get(key, last_bytes=last_bytes)

    async def read_local(self, keys: Sequence[str]) -> dict[str, StoredObject]:
        return await self.inner.read_local(keys)

    async def put(self, key: str, data: bytes) -> ObjectInfo:
        self._enter("put")
        return await self.inner.put(key, data)

    async def put_new(self, key: str, data: bytes) -> ObjectInfo | None:
        self._enter("put")
        return await self.inner.put_new(key, data)

    async def delete(self, key: str) -> None:
        self._enter("delete")
        await self.inner.delete(key)

    async def head(self, key: str) -> ObjectInfo:
        self._enter("head")
        return await self.inner.head(key)

    def describe(self) -> str:
        return self.inner.describe()

    def local_path(self, key: str) -> Path | None:
        return self.inner.local_path(key)


AT_ONCE = Turn()


@dataclass
class World:
    """All that a fetcher lives in; `restart` begins a new process on the same disk."""

    server: FeedServer
    store: Outage
    data_dir: Path
    stack: AsyncExitStack
    memory: SystemIndex
    clock: Clock = field(default_factory=Clock)
    events: list[SnapshotStored] = field(default_factory=list)
    dropped: list[DocumentsDropped] = field(default_factory=list)
    settings: FeedSettings = field(
        default_factory=lambda: FeedSettings(clock_seconds=0)
    )  # its clock stands still, unlike the server's
    retry: RetrySettings = RETRY

    async def restart(self, turn: Turn = AT_ONCE, **changes: object) -> Fetcher:
        self.settings = FeedSettings.model_validate({**self.settings.model_dump(), "url": self.server.url, **changes})
        self.spool = await Spool.open(
            self.data_dir / "spool", self.settings.spool_max_bytes, self.settings.spool_memory_bytes
        )
        self.delivery = Delivery(self.store, LAYOUT, self.spool, self.retry, self.events.append)
        upstream = Upstream(
            self.settings,
            self.retry,
            await self.stack.enter_async_context(Connections(self.settings.connections_per_host)),
        )
        return Fetcher(
            wrm(self.settings),
            upstream,
            self.delivery,
            self.memory,
            clock=self.clock,
            on_fetched=self.note,
            turn=turn,
        )

    def note(self, event: FetchFinished | DocumentsDropped) -> None:
        if isinstance(event, DocumentsDropped):
            self.dropped.append(event)

    def forget(self) -> None:
        """Go on with a ledger that remembers nothing."""
        self.memory = self.stack.enter_context(Ledger(self.data_dir / "lost", [LAYOUT], 60)).systems[LAYOUT.system_id]

    async def lake(self, prefix: str = LAYOUT.raw) -> dict[str, str]:
        found = [info async for page in self.store.inner.pages(prefix) for info in page]
        return {info.key.removeprefix(prefix): (await self.store.inner.get(info.key)).data.decode() for info in found}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serve())
        store = await stack.enter_async_context(open_store(StorageSettings(), tmp_path))
        ledger = stack.enter_context(Ledger(tmp_path, [LAYOUT], 60))
        yield World(server, Outage(store), tmp_path, stack, ledger.systems[LAYOUT.system_id])


def outcomes(log: Sequence[Mapping[str, object]]) -> list[object]:
    return [event["outcome"] for event in log if event["event"] == "fetched"]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


# --- what becomes a raw file -----------------------------------------------------------------------------------------


async def test_a_new_document_becomes_one_raw_file_and_one_event(world: World) -> None:
    fetcher = await world.restart()
    world.server.answers(document(FIRST))
    outcome = await fetcher.fetch_once()
    assert (outcome.outcome, outcome.attempts, outcome.bytes) == ("stored", 1, len(FIRST.encode()))
    assert world.spool.depth == 1, "what is fetched is on the disk before the store has it"
    assert await world.delivery.drain()
    assert await world.lake() == {"dt=2026-03-01/wrm_stations_2026-03-01_12-00-00.txt": FIRST}
    assert [(event.info.key, event.trace_id) for event in world.events] == [(outcome.key, outcome.trace_id)]
    assert (world.spool.depth, fetcher.journal.counts) == (0, {"stored": 1})
    assert world.memory.fetch_state() == FetchState(
        sha256(FIRST),
        outcome.key,
        NOON.replace(microsecond=0),
        {sha256(world.server.url): ("", "")},
    )


async def test_requests_are_honest_and_ask_for_what_can_be_unpacked(world: World) -> None:
    fetcher = await world.restart()
    world.server.answers(document(FIRST))
    await fetcher.fetch_once()
    (headers,) = world.server.requests
    assert headers["User-Agent"].startswith("bikeflow/")
    assert headers["Accept-Encoding"] == "gzip, deflate"
    assert not {"If-None-Match", "If-Modified-Since", "Cookie"} & set(headers)


async def test_the_same_document_again_is_a_duplicate_and_not_stored(world: World) -> None:
    fetcher = await world.restart()
    world.server.answers(document(FIRST), document(FIRST), document(SECOND))
    assert [(await fetcher.fetch_once()).outcome for _ in range(3)] == ["stored", "duplicate", "stored"]
    await world.delivery.drain()
    assert list((await world.lake()).values()) == [FIRST, SECOND]


async def test_a_document_that_is_not_modified_costs_no_body(world: World) -> None:
    fetcher = await world.restart()
    modified = "Sun, 01 Mar 2026 11:59:00 GMT"
    first = document(FIRST, etag='"v1"')
    world.server.answers(replace(first, headers={**first.headers, "Last-Modified": modified}), Reply(status=304))
    assert [(await fetcher.fetch_once()).outcome for _ in range(2)] == ["stored", "not_modified"]
    assert world.server.requests[1]["If-None-Match"] == '"v1"'
    assert world.server.requests[1]["If-Modified-Since"] == modified


async def test_the_first_snapshot_of_a_day_is_kept_though_nothing_has_changed(world: World) -> None:
    first, same = document(FIRST, etag='"1"'), Reply(status=304)
    world.server.answers(first, same, first, same, same, first)
    fetcher = await world.restart()
    assert [(await fetcher.fetch_once()).outcome for _ in range(2)] == ["stored", "not_modified"]
    world.clock.advance(86_400)
    assert [(await fetcher.fetch_once()).outcome for _ in range(2)] == ["stored", "not_modified"]
    assert "If-None-Match" not in world.server.requests[2], "a 304 would have brought no document"
    assert (await (await world.restart()).fetch_once()).outcome == "not_modified"
    world.clock.advance(86_400)
    assert (await (await world.restart()).fetch_once()).outcome == "stored"


async def test_a_duplicate_brings_the_newer_validators(world: World) -> None:
    fetcher = await world.restart()
    world.server.answers(document(FIRST, etag='"a"'), document(FIRST, etag='"b"'), Reply(status=304))
    assert [(await fetcher.fetch_once()).outcome for _ in range(3)] == ["stored", "duplicate", "not_modified"]
    assert world.server.requests[2]["If-None-Match"] == '"b"'


async def test_validators_are_for_their_own_url_only(world: World) -> None:
    world.server.answers(document(FIRST, etag='"v1"'))
    await (await world.restart()).fetch_once()
    fetcher = await world.restart()
    world.settings = world.settings.model_copy(update={"url": world.server.url + "?scheme=other"})
    world.server.url += "?scheme=other"
    fetcher = await world.restart()
    assert (await fetcher.fetch_once()).outcome == "duplicate"
    assert "If-None-Match" not in world.server.requests[1]


async def test_nothing_new_is_no_answer_to_an_unconditional_request(world: World) -> None:
    fetcher = await world.restart()
    world.server.answers(Reply(status=304))
    assert (await fetcher.fetch_once()).outcome == "failed"


@pytest.mark.parametrize(
    ("reply", "stored"),
    [
        (gzipped(FIRST.encode()), FIRST),
        (Reply(gzipped(FIRST.encode()[:50]).body + gzipped(FIRST.encode()[50:]).body + b"\0\0",
               headers={"Content-Encoding": "gzip"}), FIRST),
        (Reply(zlib.compress(FIRST.encode()), headers={"Content-Encoding": "deflate"}), FIRST),
        (Reply(zlib.compress(FIRST.encode())[2:-4], headers={"Content-Encoding": "deflate"}), FIRST),
        (Reply(FIRST.encode(), headers={"Content-Type": "text/html; charset=ISO-8859-1"}), FIRST),
        (Reply(FIRST.encode().decode("latin-1").encode(), headers={"Content-Type": "text/plain"}), FIRST),
        (Reply(FIRST.encode("cp1250"), headers={"Content-Type": "text/csv; charset=windows-1250"}), FIRST),
        (Reply(FIRST.encode("cp1250")), FIRST),
        (Reply(FIRST.encode("utf-8-sig")), FIRST),
        (Reply(FIRST.encode(), headers={"Content-Type": "nonsense;;charset=\"what"}), FIRST),
        (document(CURLY), CURLY),
    ],
    ids=["gzip", "gzip-members", "deflate", "bare-deflate", "utf8-as-latin1", "mojibake", "cp1250", "cp1250-undeclared",
         "bom", "odd-content-type", "curly-quotes"],
)  # fmt: skip
async def test_documents_are_stored_as_the_text_that_was_meant(world: World, reply: Reply, stored: str) -> None:
    fetcher = await world.restart()
    world.server.answers(reply)
    assert (await fetcher.fetch_once()).outcome == "stored"
    await world.delivery.drain()
    assert list((await world.lake()).values()) == [stored]


# --- what goes wrong on the way --------------------------------------------------------------------------------------


async def test_a_gzip_bomb_is_refused_without_unfolding_it(world: World) -> None:
    fetcher = await world.restart(max_bytes=1_000_000)
    bomb = gzipped(bytes(300_000_000))
    assert len(bomb.body) < 400_000
    world.server.answers(bomb)
    tracemalloc.start()
    outcome = await fetcher.fetch_once()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (outcome.outcome, outcome.attempts) == ("failed", 1)
    assert "sends more than 1000000 bytes (feed.max_bytes)" in outcome.error
    assert peak < 8_000_000


async def test_a_plain_body_is_bounded_too(world: World) -> None:
    fetcher = await world.restart(max_bytes=1_000)
    world.server.answers(document(FIRST + "x" * 2_000))
    assert "feed.max_bytes" in (await fetcher.fetch_once()).error


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(status=500), "answers 500"),
        (Reply(status=429), "answers 429"),
        (Reply(status=408), "answers 408"),
        (Reply(FIRST.encode(), cut=40), "broken or incomplete body"),
        (gzipped(FIRST.encode(), cut=60), "ends too early"),
        (Reply(b"not gzip", headers={"Content-Encoding": "gzip"}), "can't be unpacked"),
        (Reply(b"?", headers={"Content-Encoding": "br"}), "'br', which was not asked for"),
    ],
)
async def test_what_may_pass_is_tried_again(world: World, reply: Reply, error: str) -> None:
    fetcher = await world.restart()
    world.server.answers(reply)
    outcome = await fetcher.fetch_once()
    assert (outcome.outcome, outcome.attempts) == ("failed", 3)
    assert error in outcome.error
    world.server.answers(reply, document(FIRST))
    outcome = await fetcher.fetch_once()
    assert (outcome.outcome, outcome.attempts) == ("stored", 2)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(status=404), "answers 404 Not Found"),
        (Reply(status=403), "answers 403"),
        (Reply(status=302, headers={"Location": "/again"}), "redirects more than 5 times"),
        (Reply(status=302, headers={"Location": "ftp://127.0.0.1/x"}), "can't be fetched"),
        (Reply(status=204), "answers 204"),
    ],
)
async def test_what_will_not_pass_costs_one_try_a_tick(world: World, reply: Reply, error: str) -> None:
    fetcher = await world.restart()
    world.server.answers(reply)
    outcome = await fetcher.fetch_once()
    assert (outcome.outcome, outcome.attempts) == ("failed", 1)
    assert error in outcome.error
    assert len(world.server.requests) <= 6
    world.server.answers(document(FIRST))
    assert (await fetcher.fetch_once()).outcome == "stored"


async def test_redirects_are_followed(world: World) -> None:
    fetcher = await world.restart()
    world.server.answers(Reply(status=301, headers={"Location": "/moved"}), document(FIRST))
    assert (await fetcher.fetch_once()).outcome == "stored"


@pytest.mark.parametrize("reply", [Reply(FIRST.encode(), drip_seconds=0.02), Reply(b"", wait_seconds=60)])
async def test_a_slow_answer_is_bounded_in_total(world: World, reply: Reply) -> None:
    world.retry = RETRY.model_copy(update={"attempts": 1})
    fetcher = await world.restart(timeout_seconds=0.3)
    world.server.answers(reply)
    started = time.monotonic()
    outcome = await fetcher.fetch_once()
    assert "no complete answer within 0.3 s" in outcome.error
    assert time.monotonic() - started < 30


async def test_a_short_pause_that_the_server_asks_for_is_kept(world: World) -> None:
    fetcher = await world.restart()
    world.server.answers(Reply(status=503, headers={"Retry-After": "1"}), document(FIRST))
    started = time.monotonic()
    outcome = await fetcher.fetch_once()
    assert (outcome.outcome, outcome.attempts) == ("stored", 2)
    assert time.monotonic() - started >= 1


async def test_a_long_pause_that_the_server_asks_for_outlasts_the_tick(world: World) -> None:
    fetcher = await world.restart()
    later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=3)
    for retry_after in ("120", f"{later:%a, %d %b %Y %H:%M:%S} GMT"):
        fetcher = await world.restart()
        world.server.requests.clear()
        world.server.answers(Reply(status=429, headers={"Retry-After": retry_after}), document(FIRST))
        ended = [(await fetcher.fetch_once()).outcome for _ in range(3)]
        assert ended == ["failed", "skipped_open_circuit", "skipped_open_circuit"]
        assert len(world.server.requests) == 1


# --- a feed that is down ---------------------------------------------------------------------------------------------


class BreakerClock:
    """The clocks that the circuit breaker goes by; they stand still, so that no probe is due before its time."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.wall = self.monotonic = 1e6
        patch.setattr("purgatory.domain.model.time", SimpleNamespace(time=lambda: self.wall))
        patch.setattr("bikeflow.ingest.breaker.time", SimpleNamespace(monotonic=lambda: self.monotonic))

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


async def test_a_dead_upstream_costs_one_probe_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = BreakerClock(monkeypatch)
    fetcher = await world.restart(interval_seconds=1, breaker_failures=5, breaker_probe_seconds=2.5)
    world.server.answers(Reply(status=500))
    ended = [(await fetcher.fetch_once()).outcome for _ in range(10)]
    assert ended == ["failed", "failed"] + 8 * ["skipped_open_circuit"]
    assert len(world.server.requests) == 5
    clock.advance(1.6)  # the probe is due a tick early rather than a tick late
    ended = [(await fetcher.fetch_once()).outcome for _ in range(5)]
    assert ended == ["failed"] + 4 * ["skipped_open_circuit"]
    assert len(world.server.requests) == 6
    clock.advance(1.6)
    world.server.answers(document(FIRST))
    assert (await fetcher.fetch_once()).outcome == "stored"
    assert (await fetcher.fetch_once()).outcome == "duplicate"


async def test_with_equal_intervals_every_tick_probes_once(world: World) -> None:
    fetcher = await world.restart(interval_seconds=60, breaker_failures=1, breaker_probe_seconds=60)
    world.server.answers(Reply(status=500))
    assert [(await fetcher.fetch_once()).attempts for _ in range(4)] == [1, 1, 1, 1]


async def test_a_clock_set_back_does_not_keep_the_circuit_open(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = BreakerClock(monkeypatch)
    fetcher = await world.restart(interval_seconds=1, breaker_failures=1, breaker_probe_seconds=1.1)
    world.server.answers(Reply(status=500), document(FIRST))
    assert (await fetcher.fetch_once()).outcome == "failed"
    clock.wall -= 3_600
    assert (await fetcher.fetch_once()).outcome == "skipped_open_circuit"
    clock.advance(2.3)
    assert (await fetcher.fetch_once()).outcome == "stored"


async def test_a_dead_port_is_told_once_in_one_line_and_its_end_too(world: World) -> None:
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{placeholder.getsockname()[1]}/feed.txt?key=secret"
        alive, world.server.url = world.server.url, dead
        fetcher = await world.restart(breaker_failures=100)
        with capture_logs() as log:
            for _ in range(5):
                await fetcher.fetch_once()
    loud = [event for event in log if event["log_level"] != "debug"]
    assert [event["event"] for event in loud] == ["feed_unreachable", "fetched", "fetched"]
    assert "cannot connect to 127.0.0.1" in loud[0]["error"]
    assert "bikeflow demo" in loud[0]["hint"]
    assert str(log).count("bikeflow demo") == 1
    assert "secret" not in str(log)
    assert outcomes(log) == 5 * ["failed"]
    assert fetcher.journal.consecutive_failures == 5
    assert fetcher.journal.fault is not None
    world.server.url = alive
    world.server.answers(Reply(status=404), document(FIRST), Reply(status=404), document(SECOND))
    fetcher = await world.restart()
    with capture_logs() as log:
        for _ in range(4):
            await fetcher.fetch_once()
    assert [event["event"] for event in log if event["log_level"] != "debug"] == [
        "feed_unreachable", "feed_recovered", "fetched", "feed_unreachable", "feed_recovered", "fetched",
    ]  # fmt: skip
    assert log[2]["failures"] == 1
    assert "hint" not in next(event for event in log[3:] if event["event"] == "feed_unreachable")
    assert fetcher.journal.fault is None


# --- what is no feed document ----------------------------------------------------------------------------------------


async def test_a_page_with_status_200_goes_to_the_dead_letters(world: World) -> None:
    fetcher = await world.restart()
    page = "<!DOCTYPE html><title>Przerwa techniczna – wróć później</title>"
    world.server.answers(Reply(page.encode(), headers={"Content-Type": "text/html"}), document(FIRST))
    outcome = await fetcher.fetch_once()
    assert (outcome.outcome, outcome.attempts, outcome.bytes) == ("not_a_feed", 1, len(page.encode()))
    ((key, letter),) = (await world.lake("bike-data/gen_info/dlq/feed/")).items()
    assert key == "dt=2026-03-01/2026-03-01_12-00-00.json"
    told = json.loads(letter)
    assert gzip.decompress(base64.b64decode(told.pop("content"))) == page.encode()
    assert told == {
        "fetched_at": "2026-03-01T12:00:00Z",
        "url": world.server.url,
        "status": 200,
        "content_type": "text/html",
        "charset": None,
        "reason": "not a feed document: the answer is an HTML page",
        "size": len(page.encode()),
        "body": page,
        "sha256": sha256(page),
    }
    assert await world.lake() == {}
    assert (await fetcher.fetch_once()).outcome == "stored"


FEED_LETTERS = "bike-data/gen_info/dlq/feed/"


async def test_unusable_documents_are_kept_whole_whatever_their_number(world: World) -> None:
    fetcher = await world.restart()
    bodies = [b"<html>%d" % number + secrets.token_bytes(70_000) for number in range(120)]
    for number, body in enumerate(bodies):
        world.server.answers(Reply(body))
        await fetcher.fetch_once()
        if number % 2:  # a repetition costs nothing
            await fetcher.fetch_once()
        world.clock.advance(1)
    letters = [json.loads(letter) for letter in (await world.lake(FEED_LETTERS)).values()]
    assert [gzip.decompress(base64.b64decode(letter["content"])) for letter in letters] == bodies
    assert {letter["size"] for letter in letters} == set(map(len, bodies))
    assert max(len(letter["body"].encode(errors="ignore")) for letter in letters) <= 3 * MAX_TEXT_BYTES


async def test_what_is_kept_of_unusable_documents_is_bounded_by_bytes_and_days_over_restarts(world: World) -> None:
    big = [b"<html>%d" % number + secrets.token_bytes(100_000) for number in range(4)]
    for body in big:
        fetcher = await world.restart(unusable_max_bytes=450_000, unusable_days=3)
        world.server.answers(Reply(body))
        with capture_logs() as log:
            await fetcher.fetch_once()
        world.clock.advance(3_600)
    (told,) = [event for event in log if event["event"] == "unusable_documents_dropped"]
    assert (told["log_level"], told["count"]) == ("error", 1) and "feed.unusable_max_bytes" in told["error"]
    assert len(await world.lake(FEED_LETTERS)) == 3
    assert [event.count for event in world.dropped] == [1]
    world.clock.advance(4 * 86_400)
    with capture_logs() as log:
        await fetcher.fetch_once()
    assert len(await world.lake(FEED_LETTERS)) == 1, "those of days ago made room"
    assert [event["count"] for event in log if event["event"] == "unusable_documents_dropped"] == [3]
    assert [event.count for event in world.dropped] == [1, 3]


async def test_an_unusable_document_becomes_a_raw_file_once_the_format_understands_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetcher = await world.restart()
    renamed = FIRST.replace("#id", "#key").encode("cp1250", errors="replace")
    with monkeypatch.context() as older:  # a version of the format that does not know this header
        older.setattr(text, "check_document", not_understood)
        world.server.answers(Reply(renamed, headers={"Content-Type": "text/plain; charset=cp1250"}))
        assert (await fetcher.fetch_once()).outcome == "not_a_feed"
        assert await file_usable(world.store, LAYOUT, WrmFormat(wrm()), Scope()) == Filed(left=1)
    world.server.answers(document(SECOND))
    await fetcher.fetch_once()
    await world.delivery.drain()
    filed = await file_usable(world.store, LAYOUT, WrmFormat(wrm()), Scope())
    assert filed == Filed(frozenset({NOON.date()}), 1, 0)
    assert await world.lake() == {
        "dt=2026-03-01/wrm_stations_2026-03-01_12-00-00.txt": SECOND,
        "dt=2026-03-01/wrm_stations_2026-03-01_12-00-01.txt": FIRST.replace("#id", "#key"),
    }
    assert await world.lake(FEED_LETTERS) == {}
    assert await file_usable(world.store, LAYOUT, WrmFormat(wrm()), Scope()) == Filed()


def not_understood(_text: str) -> None:
    raise NotAFeed("not a feed document: another header")


async def test_a_document_that_takes_too_much_memory_costs_that_document(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetcher = await world.restart()
    world.server.answers(document(FIRST), document(SECOND))

    def out_of_memory(_text: str) -> None:
        raise MemoryError

    with monkeypatch.context() as poor:
        poor.setattr(text, "check_document", out_of_memory)
        outcome = await fetcher.fetch_once()
    assert outcome.outcome == "not_a_feed" and "memory" in outcome.error
    assert (await fetcher.fetch_once()).outcome == "stored"
    world.clock.advance(1)
    assert (await file_usable(world.store, LAYOUT, WrmFormat(wrm()), Scope())).documents == 1


async def test_a_server_that_says_not_modified_for_ever_is_asked_without_conditions_now_and_then(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetcher = await world.restart()
    world.server.answers(document(FIRST, etag='"1"'))
    assert (await fetcher.fetch_once()).outcome == "stored"
    world.server.answers(Reply(status=304))
    assert [(await fetcher.fetch_once()).outcome for _ in range(3)] == ["not_modified"] * 3
    assert all("If-None-Match" in request for request in world.server.requests[1:])
    monkeypatch.setattr(fetching, "WHOLE_SECONDS", 0.0)
    world.server.answers(document(SECOND, etag='"1"'))
    assert (await fetcher.fetch_once()).outcome == "stored"
    assert "If-None-Match" not in world.server.requests[-1]


@pytest.mark.parametrize("error", [Transient("timed out"), Permanent("403 AccessDenied")])
async def test_a_store_that_is_down_does_not_break_the_fetcher_over_a_dead_letter(
    world: World, error: Exception
) -> None:
    fetcher = await world.restart()
    world.store.error = error
    world.server.answers(Reply(b"<html>"), Reply(b"<html>"))
    assert (await fetcher.fetch_once()).outcome == "not_a_feed"
    world.store.error = None
    assert (await fetcher.fetch_once()).outcome == "not_a_feed"
    assert len(await world.lake("bike-data/gen_info/dlq/feed/")) == 1


# --- keys and clocks -------------------------------------------------------------------------------------------------


async def test_two_snapshots_of_one_second_have_keys_of_two(world: World) -> None:
    fetcher = await world.restart()
    world.server.answers(document(FIRST), document(SECOND), document(THIRD))
    keys = []
    for _ in range(3):
        keys.append((await fetcher.fetch_once()).key)
        await world.delivery.drain()
    assert keys == [LAYOUT.raw_key(NOON + dt.timedelta(seconds=number)) for number in range(3)]
    assert list((await world.lake()).values()) == [FIRST, SECOND, THIRD]


async def test_a_clock_that_was_set_back_overwrites_nothing(world: World) -> None:
    fetcher = await world.restart()
    world.server.answers(document(FIRST), document(SECOND), document(THIRD))
    await fetcher.fetch_once()
    world.clock.advance(7_200)
    await fetcher.fetch_once()
    await world.delivery.drain()
    world.clock.now = NOON
    await fetcher.fetch_once()
    await world.delivery.drain()
    assert await world.lake() == {
        "dt=2026-03-01/wrm_stations_2026-03-01_12-00-00.txt": FIRST,
        "dt=2026-03-01/wrm_stations_2026-03-01_12-00-01.txt": THIRD,
        "dt=2026-03-01/wrm_stations_2026-03-01_14-00-00.txt": SECOND,
    }
    assert [event.info.key for event in world.events] == [
        LAYOUT.raw_key(NOON + dt.timedelta(seconds=seconds)) for seconds in (0, 7_200, 1)
    ]


async def test_a_free_second_is_found_by_one_list_however_many_are_taken(world: World) -> None:
    fetcher = await world.restart()
    first = dt.datetime(2026, 3, 1, 23, 40, tzinfo=dt.UTC)
    for number in range(1_500):  # beyond midnight, and beyond one page
        await world.store.inner.put(LAYOUT.raw_key(first + dt.timedelta(seconds=number)), b"%d" % number)
    world.clock.now = first
    texts = [raw_file(station(bikes=str(number))) for number in range(3)]
    calls = []
    for text_ in texts:
        world.server.answers(document(text_))
        assert (await fetcher.fetch_once()).outcome == "stored"
        world.store.calls.clear()
        with capture_logs() as log:
            assert await world.delivery.drain()
        calls.append(list(world.store.calls))
        world.clock.advance(10)
    assert calls == [["head", "get", "pages", "head", "put"], *[["head", "get", "head", "put"]] * 2]
    found = await world.lake()
    keys = [LAYOUT.raw_key(first + dt.timedelta(seconds=1_500 + n)).removeprefix(LAYOUT.raw) for n in range(3)]
    assert [found[key] for key in keys] == texts
    assert world.delivery.shifted is not None and "25 min after their time" in world.delivery.shifted.reason
    assert "snapshot_misfiled" not in [event["event"] for event in log], "it is told once"
    world.clock.advance(7_200)
    world.server.answers(document(FIRST))
    await fetcher.fetch_once()
    await world.delivery.drain()
    assert str(world.delivery.shifted) == "None"


async def test_a_stop_does_not_wait_for_a_long_backlog_which_stays_on_disk(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetcher = await world.restart()
    world.store.error = Transient("down")
    for number in range(3):
        world.server.answers(document(raw_file(station(bikes=str(number)))))
        await fetcher.fetch_once()
        world.clock.advance(60)
    world.store.error = None
    monkeypatch.setattr(delivering, "FINISH_SECONDS", -1.0)
    world.delivery.finish()
    assert not await world.delivery.drain() and world.spool.depth == 3
    await world.restart()
    assert await world.delivery.drain() and len(await world.lake()) == 3


@pytest.mark.parametrize(("days", "words"), [(40, "40 days behind"), (-40, "40 days ahead of"), (0, "")])
async def test_a_clock_that_differs_from_the_servers_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch, days: int, words: str
) -> None:
    monkeypatch.setattr(clock, "BASELINE_SECONDS", 0.0)
    fetcher = await world.restart(clock_seconds=300)
    date = format_datetime(NOON + dt.timedelta(days, seconds=-200), usegmt=True)
    world.server.answers(Reply(FIRST.encode(), headers={"Date": date, "Age": "200"}))
    with capture_logs() as log:
        for _ in range(3):
            await fetcher.fetch_once()
    told = [event for event in log if event["event"] == "clock_differs"]
    assert len(told) == bool(days)
    fault = fetcher.clock_watch.fault
    assert (fault.reason if fault else "").startswith(f"this machine's clock is {words}" if words else "")
    assert (fault is None) == (not days)
    world.server.answers(Reply(FIRST.encode(), headers={"Date": format_datetime(NOON, usegmt=True)}))
    for _ in range(2):
        await fetcher.fetch_once()
    assert str(fetcher.clock_watch.fault) == "None"


async def test_midnight_separates_the_partitions(world: World) -> None:
    fetcher = await world.restart()
    world.clock.now = dt.datetime(2026, 3, 1, 23, 59, 59, tzinfo=dt.UTC)
    world.server.answers(document(FIRST), document(SECOND))
    await fetcher.fetch_once()
    await fetcher.fetch_once()
    await world.delivery.drain()
    assert list(await world.lake()) == [
        "dt=2026-03-01/wrm_stations_2026-03-01_23-59-59.txt", "dt=2026-03-02/wrm_stations_2026-03-02_00-00-00.txt"
    ]  # fmt: skip


# --- restarts --------------------------------------------------------------------------------------------------------


async def test_a_restart_remembers_the_last_snapshot(world: World) -> None:
    world.server.answers(document(FIRST, etag='"v1"'), Reply(status=304), document(FIRST), document(SECOND))
    for expected in ("stored", "not_modified", "duplicate", "stored"):
        fetcher = await world.restart()
        assert (await fetcher.fetch_once()).outcome == expected
        await world.delivery.drain()
    assert world.server.requests[1]["If-None-Match"] == '"v1"'
    assert list((await world.lake()).values()) == [FIRST, SECOND]


async def test_what_a_killed_process_left_in_the_spool_is_delivered_and_known(world: World) -> None:
    world.server.answers(document(FIRST))
    outcome = await (await world.restart()).fetch_once()
    world.forget()  # killed after the spool was written and before the memory was
    fetcher = await world.restart()
    assert (await fetcher.fetch_once()).outcome == "duplicate"
    task = asyncio.create_task(world.delivery.run(asyncio.Event()))
    await until(lambda: len(world.events) == 1)
    world.delivery.finish()
    await task
    assert (world.events[0].trace_id, world.events[0].info.key) == (outcome.trace_id, outcome.key)
    assert await world.lake() == {"dt=2026-03-01/wrm_stations_2026-03-01_12-00-00.txt": FIRST}


async def test_a_snapshot_stored_just_before_a_kill_is_not_stored_twice(world: World) -> None:
    world.server.answers(document(FIRST))
    outcome = await (await world.restart()).fetch_once()
    await world.store.inner.put(outcome.key, FIRST.encode())  # killed before the spool entry was removed
    await world.restart()
    assert await world.delivery.drain()
    assert "put" not in world.store.calls
    assert await world.lake() == {"dt=2026-03-01/wrm_stations_2026-03-01_12-00-00.txt": FIRST}
    assert world.spool.depth == 0


@pytest.mark.parametrize(("days_ago", "outcome"), [(0, "duplicate"), (1, "stored"), (500, "stored")])
async def test_a_first_start_reads_the_newest_raw_file_of_today(world: World, days_ago: int, outcome: str) -> None:
    newest = NOON - dt.timedelta(days=days_ago, minutes=1)
    await world.store.inner.put(LAYOUT.raw_key(newest - dt.timedelta(days=800)), THIRD.encode())
    await world.store.inner.put(LAYOUT.raw_key(newest - dt.timedelta(seconds=1)), SECOND.encode())
    await world.store.inner.put(LAYOUT.raw_key(newest), FIRST.encode())
    await world.store.inner.put(f"{LAYOUT.raw}dt={NOON:%Y-%m-%d}/zzz-foreign.txt", SECOND.encode())
    fetcher = await world.restart()
    world.server.answers(document(FIRST), document(SECOND))
    assert [(await fetcher.fetch_once()).outcome for _ in range(2)] == [outcome, "stored"]
    assert world.store.calls.count("pages") == 1


async def test_an_archive_that_cannot_be_read_at_the_start_holds_up_nothing(world: World) -> None:
    fetcher = await world.restart()
    world.store.error = Transient("connection refused")
    world.server.answers(document(FIRST))
    assert (await fetcher.fetch_once()).outcome == "stored"
    world.store.error = None
    assert await world.delivery.drain()
    assert list((await world.lake()).values()) == [FIRST]


# --- a store that is down --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Transient("connection refused"), Permanent("403 AccessDenied")])
async def test_while_the_store_is_down_snapshots_wait_and_later_arrive_in_order(world: World, error: Exception) -> None:
    fetcher = await world.restart()
    texts = [raw_file(station(bikes=str(number))) for number in range(6)]
    world.store.error = error
    with capture_logs() as log:
        for text in texts:
            world.server.answers(document(text))
            assert (await fetcher.fetch_once()).outcome == "stored"
            world.clock.advance(60)
            assert not await world.delivery.drain()
        assert (world.spool.depth, world.spool.size_bytes) == (6, sum(map(len, texts)))
        assert world.delivery.fault is not None
        world.store.error = None
        assert await world.delivery.drain()
    assert list((await world.lake()).values()) == texts
    assert [event.info.key for event in world.events] == sorted(f"{LAYOUT.raw}{key}" for key in await world.lake())
    told = [event["event"] for event in log if event["log_level"] != "debug" and event["event"] != "fetched"]
    assert told == ["store_unreachable", "store_recovered"]
    assert world.delivery.fault is None


async def test_a_local_store_whose_place_is_taken_by_a_file_comes_back(world: World) -> None:
    lake = world.data_dir / "lake"
    for path in sorted(lake.rglob("*"), reverse=True):
        path.rmdir()
    lake.rmdir()
    lake.write_text("in the way")
    fetcher = await world.restart()
    world.server.answers(document(FIRST))
    assert (await fetcher.fetch_once()).outcome == "stored"
    assert not await world.delivery.drain()
    lake.unlink()
    lake.mkdir()
    assert await world.delivery.drain()
    assert list((await world.lake()).values()) == [FIRST]


async def test_a_full_spool_costs_the_new_snapshot_and_says_so(world: World) -> None:
    big = [raw_file(*(station(number, name=str(part) * 1_000) for number in range(400))) for part in range(3)]
    fetcher = await world.restart(spool_max_bytes=1_000_000)
    world.store.error = Transient("down")
    with capture_logs() as log:
        for text in big:
            world.server.answers(document(text))
            await fetcher.fetch_once()
    assert fetcher.journal.counts == {"stored": 2, "lost": 1}
    (loss,) = [event for event in log if event["log_level"] == "error"]
    assert (loss["event"], loss["outcome"]) == ("fetched", "lost")
    assert "full (2 snapshots wait" in loss["error"]
    assert fetcher.journal.consecutive_failures == 0
    world.store.error = None
    await world.delivery.drain()
    assert (await fetcher.fetch_once()).outcome == "stored", "what was lost is no duplicate"
    await world.delivery.drain()
    assert list((await world.lake()).values()) == big


async def test_a_damaged_spool_entry_does_not_block_the_others(world: World) -> None:
    fetcher = await world.restart()
    world.server.answers(document(FIRST), document(SECOND))
    await fetcher.fetch_once()
    await fetcher.fetch_once()
    (world.spool.directory / world.spool.entries[0].name).write_text("something else")
    assert await world.delivery.drain()
    assert list((await world.lake()).values()) == [SECOND]


# --- the role --------------------------------------------------------------------------------------------------------


async def test_the_role_fetches_at_every_tick_and_delivers_beside_it(world: World) -> None:
    fetcher = await world.restart(interval_seconds=1)
    world.server.answers(document(FIRST), Reply(status=500), document(SECOND), document(THIRD))
    world.clock.now = dt.datetime.now(dt.UTC)
    stop = asyncio.Event()
    with capture_logs() as log:
        task = asyncio.create_task(fetcher.run(stop))
        await until(lambda: len(world.events) == 3)
        stop.set()
        await task
    assert list((await world.lake()).values()) == [FIRST, SECOND, THIRD]
    assert outcomes(log) == ["stored", "stored", "stored"]


async def test_ticks_stay_on_their_grid_and_missed_ones_are_left_out(world: World) -> None:
    fetcher = await world.restart(interval_seconds=1)
    world.server.answers(document(FIRST), replace(document(SECOND), wait_seconds=1.3), document(THIRD))
    times: list[float] = []
    ask = fetcher.fetch_once

    async def timed(*given: Any) -> object:
        times.append(time.monotonic())
        return await ask(*given)

    fetcher.fetch_once = timed  # type: ignore[method-assign, assignment]
    stop = asyncio.Event()
    task = asyncio.create_task(fetcher.run(stop))
    await until(lambda: len(times) == 7)
    stop.set()
    await task
    # A busy machine may make a tick late, but none comes early or twice, and they do not drift off the grid: of the
    # five after the slow answer the promptest is on it, where each would be 0.3 s off if the interval began anew.
    late = [divmod(moment - times[0] + 0.01, 1) for moment in times]
    slots = [slot for slot, _ in late]
    assert slots[0] == 0 and slots[1] >= 1 and slots[2] >= 3
    assert slots == sorted(set(slots))
    assert min(seconds for _, seconds in late[2:]) < 0.2


async def test_the_first_fetch_is_made_at_once_and_the_ticks_follow_at_their_offset(world: World) -> None:
    fetcher = await world.restart(interval_seconds=2, turn=Turn(ticks_seconds=1))
    world.server.answers(document(FIRST))
    times: list[float] = []
    ask = fetcher.fetch_once

    async def timed(*given: Any) -> object:
        times.append(time.monotonic())
        return await ask(*given)

    fetcher.fetch_once = timed  # type: ignore[method-assign, assignment]
    stop = asyncio.Event()
    task = asyncio.create_task(fetcher.run(stop))
    await until(lambda: len(times) == 4)
    stop.set()
    await task
    # However late a busy machine makes them: none comes early, and the promptest lies on the grid of odd seconds.
    late = [divmod(moment - times[0] - 1 + 0.01, 2) for moment in times[1:]]
    slots = [slot for slot, _ in late]
    assert slots[0] >= 0 and slots == sorted(set(slots))
    assert min(seconds for _, seconds in late) < 0.5


async def test_a_store_that_hangs_does_not_delay_the_fetches(world: World) -> None:
    fetcher = await world.restart(interval_seconds=1)
    held = asyncio.Event()
    put = world.store.inner.put_new

    class Hanging(Outage):
        async def put_new(self, key: str, data: bytes) -> ObjectInfo | None:
            await held.wait()
            return await put(key, data)

    world.delivery.store = Hanging(world.store.inner)
    world.server.answers(document(FIRST), document(SECOND), document(THIRD))
    stop = asyncio.Event()
    task = asyncio.create_task(fetcher.run(stop))
    await until(lambda: fetcher.journal.counts.get("stored", 0) >= 3)
    assert world.spool.depth == 3
    held.set()
    stop.set()
    await task
    assert world.spool.depth == 0
    assert len(await world.lake()) == 3


async def test_the_role_tries_the_store_again_until_it_is_back(world: World) -> None:
    fetcher = await world.restart()
    world.store.error = Transient("down")
    world.server.answers(document(FIRST))
    stop = asyncio.Event()
    task = asyncio.create_task(fetcher.run(stop))
    await until(lambda: world.delivery.fault is not None)
    world.store.error = None
    await until(lambda: len(world.events) == 1)
    stop.set()
    await task


@pytest.mark.parametrize(
    "reply", [Reply(status=500), Reply(status=503, headers={"Retry-After": "300"}), document(FIRST)]
)
async def test_a_stop_ends_the_role_at_once(world: World, reply: Reply) -> None:
    world.retry = RetrySettings(attempts=50, initial_seconds=300, max_seconds=300)
    fetcher = await world.restart()
    world.store.error = Transient("down")
    world.server.answers(reply)
    stop = asyncio.Event()
    task = asyncio.create_task(fetcher.run(stop))
    await world.server.asked.wait()
    await asyncio.sleep(0.1)
    started = time.monotonic()
    stop.set()
    await task
    assert time.monotonic() - started < 60
    assert not [item for item in asyncio.all_tasks() if item.get_name() in ("delivery", "polling")]


async def test_a_stop_waits_for_an_answer_that_is_on_its_way(world: World) -> None:
    fetcher = await world.restart(interval_seconds=1)
    world.server.answers(document(FIRST), replace(document(SECOND), wait_seconds=0.5))
    stop = asyncio.Event()
    task = asyncio.create_task(fetcher.run(stop))
    await until(lambda: len(world.server.requests) == 2)
    stop.set()
    world.delivery._work.set()  # the delivery looks at the spool just now, and must not end before the answer is there
    await task
    assert list((await world.lake()).values()) == [FIRST, SECOND]


async def test_a_stop_does_not_wait_long_for_a_server_that_hangs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bikeflow.ingest.fetcher.GRACE_SECONDS", 0.2)
    fetcher = await world.restart()
    world.server.answers(replace(document(FIRST), wait_seconds=120))
    stop = asyncio.Event()
    task = asyncio.create_task(fetcher.run(stop))
    await world.server.asked.wait()
    stop.set()
    async with asyncio.timeout(60):
        await task


async def test_a_bug_ends_the_role_loudly(world: World) -> None:
    fetcher = await world.restart()
    world.server.answers(document(FIRST))

    def broken(_event: SnapshotStored) -> None:
        raise ZeroDivisionError

    world.delivery._on_stored = broken
    with pytest.RaisesGroup(ZeroDivisionError):
        await fetcher.run(asyncio.Event())

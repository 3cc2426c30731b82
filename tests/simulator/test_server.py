"""The simulated feed over real HTTP: stable within a tick, conditional requests, gzip."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
from dataclasses import dataclass
from itertools import pairwise

import aiohttp
import pytest

from bikeflow.simulator import City, serve_feed

START = dt.datetime(2026, 6, 3, 8, 0, 0, 250_000, tzinfo=dt.UTC)
CITY = City(7, stations=20, free_bikes=10)


@dataclass
class Hands:
    """A clock whose hands are moved by the test."""

    now: dt.datetime = START

    def __call__(self) -> dt.datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += dt.timedelta(seconds=seconds)


async def test_the_document_of_the_current_tick_is_served_as_utf8_text() -> None:
    async with (
        serve_feed(CITY.snapshot, clock=Hands()) as url,
        aiohttp.ClientSession() as session,
        session.get(url) as response,
    ):
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert response.headers["Last-Modified"] == "Wed, 03 Jun 2026 08:00:00 GMT"
        assert (await response.read()).decode() == CITY.snapshot(START.replace(microsecond=0))


async def test_a_faster_poller_gets_the_same_document_until_the_next_tick() -> None:
    hands = Hands()
    async with serve_feed(CITY.snapshot, clock=hands) as url, aiohttp.ClientSession() as session:

        async def poll() -> tuple[str, str]:
            async with session.get(url) as response:
                return await response.text(), response.headers["ETag"]

        first = await poll()
        hands.move(0.7)
        assert await poll() == first
        hands.move(0.1)
        text, etag = await poll()
        assert text != first[0]
        assert etag != first[1]


async def test_some_ticks_serve_the_document_of_the_tick_before_once_more() -> None:
    hands = Hands()
    async with serve_feed(CITY.snapshot, clock=hands, repeats=0.2) as url, aiohttp.ClientSession() as session:
        texts = []
        for _ in range(100):
            async with session.get(url) as response:
                texts.append(await response.text())
            hands.move(1)
    repeated = sum(later == earlier for earlier, later in pairwise(texts))
    assert 8 <= repeated <= 35
    assert len(set(texts)) == len(texts) - repeated


@pytest.mark.parametrize("condition", ["If-None-Match", "If-Modified-Since"])
async def test_who_has_the_document_gets_304_until_it_changes(condition: str) -> None:
    validator = {"If-None-Match": "ETag", "If-Modified-Since": "Last-Modified"}[condition]
    hands = Hands()
    async with serve_feed(CITY.snapshot, clock=hands) as url, aiohttp.ClientSession() as session:
        async with session.get(url) as response:
            known = {condition: response.headers[validator]}
        async with session.get(url, headers=known) as response:
            assert response.status == 304
            assert await response.read() == b""
            assert response.headers[validator] == known[condition]
        hands.move(1)
        async with session.get(url, headers=known) as response:
            assert response.status == 200
            assert await response.read()


async def test_an_etag_counts_for_more_than_a_date() -> None:
    async with serve_feed(CITY.snapshot, clock=Hands()) as url, aiohttp.ClientSession() as session:
        headers = {"If-None-Match": '"another"', "If-Modified-Since": "Wed, 03 Jun 2026 09:00:00 GMT"}
        async with session.get(url, headers=headers) as response:
            assert response.status == 200


@pytest.mark.parametrize(("accepted", "coding"), [("gzip, deflate", "gzip"), ("identity", None)])
async def test_the_answer_is_gzipped_when_asked_for(accepted: str, coding: str | None) -> None:
    async with (
        serve_feed(CITY.snapshot, clock=Hands()) as url,
        aiohttp.ClientSession(auto_decompress=True) as session,
        session.get(url, headers={"Accept-Encoding": accepted}) as response,
    ):
        assert response.headers.get("Content-Encoding") == coding
        assert await response.text() == CITY.snapshot(START.replace(microsecond=0))


async def test_any_document_can_be_served() -> None:
    def numbered(at: dt.datetime) -> str:
        return f"snapshot {at.second}\n"

    hands = Hands()
    async with serve_feed(numbered, clock=hands) as url, aiohttp.ClientSession() as session:
        for number in range(3):
            async with session.get(url) as response:
                assert await response.text() == f"snapshot {number}\n"
            hands.move(1)


async def test_the_wall_clock_is_the_default_clock() -> None:
    def moment(at: dt.datetime) -> str:
        return at.isoformat()

    async with serve_feed(moment) as url, aiohttp.ClientSession() as session, session.get(url) as response:
        told = dt.datetime.fromisoformat(await response.text())
    assert told.microsecond == 0
    assert abs(dt.datetime.now(dt.UTC) - told) < dt.timedelta(seconds=10)


async def test_the_port_is_free_again_when_the_context_ends_even_with_a_client_still_connected() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with aiohttp.ClientSession() as session:
        async with asyncio.timeout(60), serve_feed(CITY.snapshot, port=port) as url:
            assert f":{port}/" in url
            async with session.get(url) as response:
                await response.read()
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(url)

"""Where a feed may send us: never to what only this machine can reach, never to plain HTTP, never with credentials."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from yarl import URL

from bikeflow.core.errors import Permanent, Transient
from bikeflow.ingest import destinations
from bikeflow.ingest.destinations import check_redirect, is_public
from bikeflow.ingest.download import download
from bikeflow.ingest.upstream import Connections
from bikeflow.settings.sections import FeedSettings
from tests.support import feedserver
from tests.support.feedserver import FeedServer, Reply


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True), ("2001:4860:4860::8888", True), ("::ffff:8.8.8.8", True), ("64:ff9b::808:808", True),
        ("127.0.0.1", False), ("127.9.9.9", False), ("0.0.0.0", False), ("10.1.2.3", False), ("172.16.0.1", False),
        ("192.168.1.1", False), ("169.254.169.254", False), ("100.64.0.1", False), ("::1", False), ("::", False),
        ("fe80::1", False), ("fe80::1%eth0", False), ("fd00::1", False), ("::ffff:127.0.0.1", False),
        ("::ffff:169.254.169.254", False), ("64:ff9b::7f00:1", False), ("2002:7f00:1::", False), ("224.0.0.1", False),
        ("255.255.255.255", False),
    ],
)  # fmt: skip
def test_what_the_internet_reaches_is_public_and_nothing_else(address: str, public: bool) -> None:
    assert is_public(address) == public


@pytest.mark.parametrize(
    ("before", "after", "error"),
    [
        ("https://feed.example/a?key=secret", "http://feed.example/a", "plain HTTP"),
        ("https://feed.example/a?key=secret", "file:///etc/passwd", "address that can't be fetched"),
    ],
)
def test_a_redirect_that_gives_something_away_is_refused_without_quoting_it(
    before: str, after: str, error: str
) -> None:
    with pytest.raises(Permanent, match=error) as told:
        check_redirect(URL(before), URL(after))
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("http://feed.example/a", "https://feed.example/a"),
        ("http://feed.example/a", "http://other.example/a"),
        ("https://feed.example/a", "https://other.example/a?key=1"),
    ],
)
def test_any_other_is_followed(before: str, after: str) -> None:
    check_redirect(URL(before), URL(after))


@asynccontextmanager
async def session_for(settings: FeedSettings) -> AsyncIterator[aiohttp.ClientSession]:
    async with Connections(settings.connections_per_host) as connections:
        yield await connections.session(settings.url)


class Away:
    """Two servers on this machine, of which the first counts as one of the internet's."""

    def __init__(self, public: FeedServer, private: FeedServer) -> None:
        self.public, self.private = public, private
        self.settings = FeedSettings(url=public.url, timeout_seconds=20)

    async def fetch(self, url: str | None = None) -> bytes | None:
        """What the feed, or another document that it names, gives."""
        async with session_for(self.settings) as session:
            return (await download(session, self.settings, url or self.settings.url, None)).body


@pytest.fixture
async def away(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Away]:
    async with feedserver.serve() as public, feedserver.serve() as private:
        monkeypatch.setattr(destinations, "is_public", lambda address: address == "127.0.0.1")
        private.url = private.url.replace("127.0.0.1", "localhost")
        yield Away(public, private)


@pytest.mark.parametrize(
    "host", ["127.0.0.2", "2130706434", "0x7f.2", "[::1]", "[::ffff:127.0.0.2]", "169.254.169.254"]
)
async def test_the_feed_cannot_send_us_to_a_private_address(away: Away, host: str) -> None:
    target = f"http://{host}:9/latest/meta-data/?token=secret"
    away.public.answers(Reply(status=302, headers={"Location": target}))
    with pytest.raises((Permanent, Transient), match=r"address|not public") as told:
        await away.fetch()
    assert "secret" not in str(told.value)
    with pytest.raises((Permanent, Transient), match=r"address|not public"):  # nor by naming it in a document
        await away.fetch(target)


async def test_nor_to_a_name_of_one(away: Away, monkeypatch: pytest.MonkeyPatch) -> None:
    away.private.answers(Reply(body=b"private"))

    def is_none(address: str) -> bool:
        return ipaddress.ip_address(address) is None

    monkeypatch.setattr(destinations, "is_public", is_none)
    settings = away.settings.model_copy(update={"url": "http://feed.example/"})
    async with session_for(settings) as session:
        with pytest.raises((Permanent, Transient), match="not public"):
            await download(session, settings, away.private.url, None)
    assert away.private.requests == []


async def test_credentials_in_a_redirect_are_not_sent(away: Away) -> None:
    target = away.public.url.replace("http://", "http://me:secret@")
    away.public.answers(Reply(status=302, headers={"Location": target}), Reply(body=b"logged in"))
    with pytest.raises(Permanent, match="user name or password") as told:
        await away.fetch()
    assert "secret" not in str(told.value) and len(away.public.requests) == 1
    with pytest.raises(Permanent, match="user name or password"):
        await away.fetch(target)


async def test_a_feed_that_is_configured_as_private_may_lead_to_others(away: Away) -> None:
    away.private.answers(Reply(body=b"private"))
    settings = away.settings.model_copy(update={"url": away.private.url})
    async with session_for(settings) as session:
        assert (await download(session, settings, settings.url, None)).body == b"private"
        assert (await download(session, settings, away.private.url, None)).body == b"private"
        other = away.private.url.replace("localhost", "127.0.0.1")
        assert (await download(session, settings, other, None)).body == b"private"


async def test_all_redirects_share_one_time_limit(away: Away) -> None:
    away.public.answers(Reply(status=302, headers={"Location": "/again"}, wait_seconds=0.4))
    settings = away.settings.model_copy(update={"timeout_seconds": 1.0})
    async with session_for(settings) as session, asyncio.timeout(60):
        with pytest.raises(Transient, match="no complete answer within 1 s"):
            await download(session, settings, settings.url, None)


async def test_a_host_that_takes_no_connections_is_not_one_that_answers_slowly(
    away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bikeflow.ingest.download.CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as stack:
        for _ in range(4):  # the first ones wait to be accepted, and there is no room for more
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        settings = FeedSettings(url=f"http://127.0.0.1:{full.getsockname()[1]}/", timeout_seconds=60)
        async with session_for(settings) as session:
            with pytest.raises(Transient, match=r"took no connection within 0\.2 s"):
                await download(session, settings, settings.url, None)

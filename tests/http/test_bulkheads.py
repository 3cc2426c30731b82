"""What clients can't do to the pipeline, nor to each other: hold all connections, or let it look up all the time."""

from __future__ import annotations

import asyncio
import gzip
import threading
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from bikeflow.core.events import Events
from bikeflow.http import connections
from bikeflow.http.answers import MAX_WAITING, Busy, Lookups
from bikeflow.http.site import open_site
from tests.http.conftest import Scene, settings_for
from tests.support.lines import raw_file, station


async def spoken(url: str | None, *lines: bytes) -> bytes:
    """All that comes back for these bytes, until the other side closes."""
    address = urlsplit(url or "")
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(b"\r\n".join(lines) + b"\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return answer


@pytest.mark.parametrize("line", [b"\x16\x03\x01 nonsense", b"GET / HTTP/9.9", b"GET /" + b"x" * 20_000 + b" HTTP/1.1"])
async def test_what_is_no_http_is_answered_in_our_own_name(tmp_path: Path, line: bytes) -> None:
    async with open_site(settings_for(tmp_path), Events()) as site:
        head, _, body = (await spoken(site.url, line)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 400 ") and b"\r\nServer: bikeflow" in head
    assert b"X-Content-Type-Options: nosniff" in head
    assert body == b'{"error": "Bad Request"}'
    assert b"aiohttp" not in head.lower() and b"python" not in head.lower()


async def test_who_only_holds_connections_makes_room_for_who_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)
    async with open_site(settings_for(tmp_path), Events()) as site:
        address = urlsplit(site.url or "")
        idle = [await asyncio.open_connection(address.hostname, address.port) for _ in range(3)]
        async with aiohttp.ClientSession() as session, session.get(f"{site.url}healthz") as response:
            assert response.status == 200
        assert await asyncio.wait_for(idle[0][0].read(), 60) == b""  # the oldest was closed
        for _, writer in idle:
            writer.close()


async def test_where_all_connections_are_busy_the_next_one_is_told_so(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 1)
    under_way, go_on = threading.Event(), threading.Event()

    def look_up() -> dict[str, object]:
        under_way.set()
        return {"went_on": go_on.wait(60)}

    monkeypatch.setattr(scene.site._routes, "_looked_up", look_up)
    asking = asyncio.create_task(spoken(scene.site.url, b"GET /api/v1/status HTTP/1.0"))
    try:
        assert await asyncio.to_thread(under_way.wait, 60)
        answer = await spoken(scene.site.url, b"GET /healthz HTTP/1.0")
    finally:
        go_on.set()
    assert answer.startswith(b"HTTP/1.1 503 ") and b"Retry-After: 1" in answer and b"Server: bikeflow" in answer
    assert b" 200 OK" in await asking


async def test_equal_requests_share_one_lookup_and_too_many_different_ones_are_refused() -> None:
    lookups, gate, made = Lookups(), threading.Event(), []

    def work() -> int:
        gate.wait(60)
        made.append(1)
        return len(made)

    try:
        same = [asyncio.create_task(lookups.get("same", work)) for _ in range(100)]
        others = [asyncio.create_task(lookups.get(number, work)) for number in range(MAX_WAITING - 1)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await lookups.get("one more", work)
        same[0].cancel()  # the others still get theirs
        gate.set()
        assert await asyncio.gather(*same[1:]) == [1] * 99
        await asyncio.gather(*others)
        assert await lookups.get("same", work) == MAX_WAITING + 1
    finally:
        lookups.close()


async def test_an_answer_is_made_once_for_each_publication_and_packed_for_whom_it_suits(scene: Scene) -> None:
    await scene.arrives(raw_file(station(1)))
    for path in ("/", "/map", "/api/v1/stations", "/api/v1/map"):
        plain = await scene.client.ask(path, **{"Accept-Encoding": "identity"})
        address = urlsplit(scene.site.url or "")
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(f"GET {path} HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n".encode())
        head, _, body = (await asyncio.wait_for(reader.read(), 60)).partition(b"\r\n\r\n")
        writer.close()
        assert b"Content-Encoding: gzip" in head and b"Vary: Accept-Encoding" in head
        assert gzip.decompress(body).decode() == plain.text and "Content-Encoding" not in plain.headers
    database = scene.site._routes._database
    assert database.stations() is database.stations() and database.map() is database.map()

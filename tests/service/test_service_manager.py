"""What a service manager hears of the service from its start to its end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bikeflow.simulator import NO_ODDITIES, City, serve_feed
from tests.support.service import PATIENCE_SECONDS, Service, running


class Manager:
    """The receiving end of $NOTIFY_SOCKET."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self.messages: list[str] = []

    def heard(self, text: str) -> bool:
        """Whether any message so far, and those that wait, begins so."""
        while True:
            try:
                self.messages.append(self._server.recv(65_536).decode())
            except BlockingIOError:
                return any(message.startswith(text) for message in self.messages)


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        server.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", server.getsockname())
        monkeypatch.setenv("WATCHDOG_USEC", "600000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        yield Manager(server)


async def rows_are_published(service: Service) -> None:
    await service.sees("SELECT count(*) > 0 FROM wrm_analytics.wrm_stations_latest", True)


async def test_it_is_ready_once_the_roles_run_then_says_how_it_is_and_at_last_that_it_stops(
    tmp_path: Path, manager: Manager
) -> None:
    city = City(1, stations=10, free_bikes=3, oddities=NO_ODDITIES)
    settings = {"daemon.shutdown_seconds": 7}
    async with serve_feed(city.snapshot) as url, running(tmp_path / "data", url, settings=settings) as service:
        await service.until(lambda: manager.heard("READY=1"), "READY=1")
        assert "event=started" in service.log()
        await rows_are_published(service)
        await service.until(lambda: manager.heard("STATUS=All works: the last fetch was "), "a status that all works")
        manager.messages.clear()
        await service.until(lambda: manager.heard("WATCHDOG=1"), "the watchdog to be fed")
        assert await service.stop() == 0
        assert manager.heard("STOPPING=1")
        after = manager.messages[manager.messages.index("STOPPING=1") :]
        assert "EXTEND_TIMEOUT_USEC=22000000" in after
        assert "READY=1" not in manager.messages


async def test_a_service_that_can_not_start_is_never_ready(tmp_path: Path, manager: Manager) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ledger.sqlite").mkdir()
    async with running(tmp_path / "data", "http://127.0.0.1:9/feed.txt") as service:
        assert await asyncio.wait_for(service.process.wait(), PATIENCE_SECONDS) != 0
        assert not manager.heard("READY=1")

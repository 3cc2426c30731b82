"""A storm of clients on the pages of a real service delays no poll, and leaves no descriptor short."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import duckdb
import pytest

from tests.faults.test_disk_faults import ends_well, shows_all_but_lost
from tests.support.oracle import Oracle, local_lake, serving
from tests.support.rounds import rounds
from tests.support.service import Service, running, starved_seconds

DESCRIPTORS = 1024
"""The usual limit of a process."""
PATHS = (
    "/", "/map", "/healthz", "/readyz", "/metrics",
    *(f"/api/v1/{name}" for name in ("status", "stations", "bikes", "map", "runs", "runs?limit=1")),
)  # fmt: skip


@pytest.fixture(autouse=True)
def room_for_clients() -> Iterator[None]:
    """The clients are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@asynccontextmanager
async def limited(tmp_path: Path) -> AsyncIterator[tuple[Service, Oracle, str]]:
    """A service that has published, with the usual number of descriptors."""
    async with serving() as oracle, running(tmp_path / "data", oracle.url) as service:
        resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
        await service.logged("event=refreshed")
        yield service, oracle, await service.url()


async def test_more_idle_connections_than_descriptors_cost_nothing(tmp_path: Path) -> None:
    async with limited(tmp_path) as (service, oracle, url):
        address = urlsplit(url)
        idle = []
        for _ in range(1_100):
            client = socket.socket()
            client.setblocking(False)
            idle.append(client)
            with suppress(OSError):  # refused, once there are enough
                await asyncio.wait_for(
                    asyncio.get_running_loop().sock_connect(client, (address.hostname, address.port)), 5
                )
        began = len(oracle.served)
        await service.until(lambda: len(oracle.served) >= began + 5, "five more polls")
        assert descriptors(service) < DESCRIPTORS / 2
        async with aiohttp.ClientSession() as session:
            for path in PATHS:
                async with session.get(f"{url}{path}") as response:
                    assert response.status == 200, path
        for client in idle:
            client.close()
        oracle.frozen = True
        await service.until(lambda: shows_all_but_lost(service, oracle), "all to be published")
        await ends_well(service, oracle, local_lake(tmp_path / "data"))
        assert "Too many open files" not in service.log()


def descriptors(service: Service) -> int:
    """How many the service has open."""
    return len(list(Path(f"/proc/{service.process.pid}/fd").iterdir()))


@pytest.mark.slow
async def test_two_hundred_clients_on_every_path_delay_no_poll(tmp_path: Path) -> None:
    """The limits are those of the promise; a machine that starves the service of its processor has them widened."""
    seconds = rounds(8, 60)
    async with limited(tmp_path) as (service, oracle, url):
        storm, starved = Storm(url), starved_seconds(service.process.pid)
        polls = len(oracle.served)
        async with asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(storm.client(number))
            watch = group.create_task(freshness(service, oracle, storm))
            await asyncio.sleep(seconds)
            storm.over.set()
        late = storm.late_seconds + starved_seconds(service.process.pid) - starved
        assert watch.result() <= 2 + late, storm.statuses
        assert len(oracle.served) - polls >= seconds - 2 - late
        began, ended = storm.began, time.time()
        assert storm.statuses[200] > 0 and set(storm.statuses) <= {200, 503}
        assert storm.unready == []
        oracle.frozen = True
        await service.until(lambda: shows_all_but_lost(service, oracle), "all to be published")
        await ends_well(service, oracle, local_lake(tmp_path / "data"))
        assert longest_pause(service.database, began, ended) <= 2 + late  # a second's interval, and one late by another
        assert '"lost"' not in service.log() and "outcome=failed" not in service.log()


class Storm:
    """What the clients do and see; `late_seconds` is for how long this process itself was kept from running."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.began = time.time()
        self.over = asyncio.Event()
        self.statuses: dict[int, int] = {}
        self.unready: list[object] = []
        self.late_seconds = 0.0

    async def client(self, number: int) -> None:
        """Ask for one path after the other, as quickly as the answers come."""
        async with aiohttp.ClientSession() as session:
            while not self.over.is_set():
                path = PATHS[number % len(PATHS)]
                number += 1
                async with session.get(f"{self._url}{path}") as response:
                    body = await response.read()
                    self.statuses[response.status] = self.statuses.get(response.status, 0) + 1
                    if path == "/readyz" and response.status != 200:
                        self.unready.append(json.loads(body))


async def freshness(service: Service, oracle: Oracle, storm: Storm) -> float:
    """The longest time from the serving of a snapshot to its being seen in the published database, in seconds."""
    worst = 0.0
    while not storm.over.is_set():
        number = len(oracle.served) - 1
        began = time.monotonic()
        while not await asyncio.to_thread(shows, service.database, number):
            asked = time.monotonic()
            await asyncio.sleep(0.05)
            storm.late_seconds = max(storm.late_seconds, time.monotonic() - asked - 0.05)
        worst = max(worst, time.monotonic() - began)
        await asyncio.sleep(0.2)
    return worst


def shows(database: Path, number: int) -> bool:
    """Whether the published database has this snapshot of the oracle's."""
    with duckdb.connect(database, read_only=True) as connection:
        row = connection.execute("SELECT count(*) FROM wrm_analytics.pipeline_files").fetchone()
    return row is not None and row[0] > number


def longest_pause(database: Path, began: float, ended: float) -> float:
    """The longest time between one poll's beginning and the next one's, of those between two times, in seconds."""
    sql = """
    SELECT max(pause), count(*)
    FROM (
        SELECT epoch(started_at) AS begun, begun - lag(begun) OVER (ORDER BY started_at) AS pause
        FROM feed_polls
        WHERE started_at IS NOT NULL
    )
    WHERE begun BETWEEN $1 AND $2
    """
    with duckdb.connect(database, read_only=True) as connection:
        ((longest, polls),) = connection.execute(sql, [began, ended]).fetchall()
    assert polls > 1
    return float(longest)

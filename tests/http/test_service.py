"""The surfaces of the service as an operator meets them: a real process whose surroundings fail and come back."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

from bikeflow.http.client import ADDRESS_FILE
from bikeflow.simulator import NO_ODDITIES, City, serve_feed
from tests.http.conftest import Client, client_of
from tests.support import feedserver
from tests.support.exchange import a_file_in_place_of
from tests.support.lines import raw_file, station
from tests.support.service import PATIENCE_SECONDS, Service, running

CITY = City(1, stations=10, free_bikes=3, oddities=NO_ODDITIES)
QUICK = {"retry.attempts": 1, "retry.max_seconds": 0.5, "feed.breaker_probe_seconds": 0.5}


async def becomes(client: Client, **reasons: str) -> None:
    """Wait until these parts don't work, for reasons with these words (none: until all parts do)."""
    for _ in range(int(PATIENCE_SECONDS / 0.05)):
        unready = await client.unready()
        if bool(unready) == bool(reasons) and all(words in unready.get(part, "") for part, words in reasons.items()):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"waited for {reasons or 'readiness'}: {unready}")


async def status(data_dir: Path, *options: str) -> tuple[int, str]:
    """What `bikeflow status` says, and its exit code."""
    command = [sys.executable, "-m", "bikeflow", "status", "--data-dir", str(data_dir), *options]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=data_dir.parent)
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    return process.returncode or 0, output.decode()


async def test_a_feed_that_dies_turns_readiness_red_with_the_reason_and_green_again(tmp_path: Path) -> None:
    async with feedserver.serve() as feed, running(tmp_path / "data", feed.url, settings=QUICK) as service:
        good = feedserver.document(raw_file(*(station(number) for number in range(30))))
        feed.answers(good)
        async with client_of(await service.url()) as client:
            await becomes(client)
            feed.answers(feedserver.Reply(status=503))
            await becomes(client, fetching="503")
            answer = await client.ask("/readyz")
            assert (answer.status, answer.json["parts"]["processing"]) == (503, {"works": True})
            since = answer.json["parts"]["fetching"]["since"]
            code, text = await status(service.data_dir)
            assert code == 1 and text.startswith("Not working for ") and f"FAILS since {since}" in text
            feed.answers(good)
            await becomes(client)
            assert (await client.ask("/healthz")).status == 200
        assert await service.stop() == 0


async def test_a_store_that_dies_turns_readiness_red_with_the_reason_and_green_again(tmp_path: Path) -> None:
    lake = tmp_path / "data" / "lake"
    async with serve_feed(CITY.snapshot) as url, running(tmp_path / "data", url, settings=QUICK) as service:
        async with client_of(await service.url()) as client:
            await becomes(client)
            with a_file_in_place_of(lake):
                await becomes(client, storing=str(lake), watching=str(lake))
                await until_spooled(client, at_least=2)
            await becomes(client)
            await until_spooled(client, at_most=0)
        assert await service.stop() == 0


async def until_spooled(client: Client, at_least: int = 0, at_most: int = sys.maxsize) -> None:
    for _ in range(int(PATIENCE_SECONDS / 0.05)):
        document = (await client.ask("/api/v1/status")).json
        if at_least <= document["spool"]["snapshots"] <= at_most:
            assert ("snapshots for the store" in document["sentence"]) == (at_least > 0)
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"waited for the spool to hold {at_least} to {at_most} snapshots: {document['spool']}")


async def test_status_asks_the_service_while_there_is_one_and_the_ledger_else(tmp_path: Path) -> None:
    async with serve_feed(CITY.snapshot) as url, running(tmp_path / "data", url) as service:
        async with client_of(await service.url()) as client:
            await becomes(client)
        await service.logged(" newest_snapshot=2")
        code, text = await status(service.data_dir, "--json")
        document = json.loads(text)
        assert (code, document["state"], document["service"]["process_id"]) == (0, "working", service.process.pid)
        code, text = await status(service.data_dir)
        assert code == 0 and text.startswith("All works: the newest snapshot is ")
        await service.stop(signal.SIGKILL)
    assert (tmp_path / "data" / ADDRESS_FILE).exists()
    code, text = await status(tmp_path / "data")
    assert code == 0 and text.startswith("The service is not running; the last snapshot is ")
    assert {"lake", "today", "latest_runs", "failing_partitions"} <= json.loads(
        (await status(tmp_path / "data", "--json"))[1]
    ).keys()


async def test_without_http_status_still_knows_that_the_service_runs(tmp_path: Path) -> None:
    quiet = {"http.listen": ""}
    async with serve_feed(CITY.snapshot) as url, running(tmp_path / "data", url, settings=quiet) as service:
        await service.logged("event=refreshed")
        code, text = await status(service.data_dir)
        assert code == 0 and text.startswith(f"Process {service.process.pid} is at work, but answers no HTTP;")
        assert "http_started" not in service.log()
        assert await service.stop() == 0


async def test_an_address_that_cannot_be_used_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    settings = {"http.listen": "192.0.2.1:1"}
    async with running(tmp_path / "data", "http://127.0.0.1:9/", settings=settings) as service:
        assert await asyncio.wait_for(service.process.wait(), PATIENCE_SECONDS) == 1
    assert _lines(service) == [
        "error: cannot serve HTTP on 192.0.2.1:1: Cannot assign requested address; set http.listen to another address, "
        'to port 0 for any free one, or to "" for none'
    ]


def _lines(service: Service) -> list[str]:
    return service.log().splitlines()

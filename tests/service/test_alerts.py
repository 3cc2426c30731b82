"""Alerts of a real service to a real webhook, through Apprise."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from email.utils import format_datetime
from pathlib import Path

import aiohttp
import pytest

from bikeflow.simulator import NO_ODDITIES, City
from tests.service.test_reload import bikeflow, no_tick_was_missed
from tests.support import feedserver, oracle, webhook
from tests.support.service import running
from tests.support.watch import Watch

CITY = City(1, stations=10, free_bikes=3, oddities=NO_ODDITIES)
QUICK = {"alerts.grace_seconds": 1, "retry.attempts": 1, "feed.breaker_failures": 1_000}


async def test_an_incident_is_told_once_even_over_a_restart_and_so_is_its_end(tmp_path: Path) -> None:
    async with webhook.listening() as hook, feedserver.serve() as feed:
        channels = {"BIKEFLOW_ALERTS__URLS": f"{hook.url()} json://127.0.0.1:9/nobody-is-here"}
        feed.answers(feedserver.Reply(status=503))
        async with running(tmp_path / "data", feed.url, settings=QUICK, variables=channels) as service:
            sent = await service.logged("event=alert_sent alert=feed_silent kind=problem targets=1")
            assert sent and 'target="2 (json)"' in await service.logged("event=alert_refused")
            assert await service.stop() == 0
            assert "nobody-is-here" not in service.log()
        async with running(tmp_path / "data", feed.url, settings=QUICK, variables=channels) as service:
            await service.logged("event=feed_unreachable")
            feed.answers(feedserver.document(CITY.snapshot(dt.datetime.now(dt.UTC))))
            await service.logged("event=alert_sent alert=feed_silent kind=recovery")
            assert await service.stop() == 0
        assert hook.titles() == ["no snapshots come in", "snapshots come in again"]
        problem, recovery = hook.messages
        assert "answers 503" in problem["message"] and "UTC" in problem["message"] and problem["type"] == "failure"
        assert recovery["type"] == "success"
        assert json.loads((tmp_path / "data" / "alerts.json").read_text()) == {}


async def test_a_wrong_clock_is_told(tmp_path: Path) -> None:
    date = format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(40), usegmt=True)
    reply = feedserver.document(CITY.snapshot(dt.datetime.now(dt.UTC)))
    async with webhook.listening() as hook, feedserver.serve() as feed:
        feed.answers(replace(reply, headers={**reply.headers, "Date": date}))
        channels = {"BIKEFLOW_ALERTS__URLS": hook.url()}
        async with (
            running(tmp_path / "data", feed.url, settings=QUICK, variables=channels) as service,
            aiohttp.ClientSession(await service.url()) as client,
        ):
            await Watch(service, client).breaks(clock="this machine's clock is 40 days behind")
            await service.logged("event=alert_sent alert=clock_wrong kind=problem")
            assert "event=clock_differs" in service.log()
            assert await service.stop() == 0
        assert "snapshots get wrong times" in hook.titles()


async def test_a_channel_that_hangs_delays_nothing(tmp_path: Path) -> None:
    full = QUICK | {"alerts.disk_free_bytes": 2**62, "alerts.timeout_seconds": 60}
    async with webhook.listening() as hook, oracle.serving() as feed:
        hook.hangs = True
        channels = {"BIKEFLOW_ALERTS__URLS": hook.url()}
        async with running(tmp_path / "data", feed.url, settings=full, variables=channels) as service:
            await service.until(lambda: hook.asked == 1, "a message under way")
            await service.told("refreshed", service.log().count("event=refreshed ") + 4)
            assert await service.stop() == 0
            no_tick_was_missed(service)
            assert "shutdown_deadline_passed" not in service.log() and "Traceback" not in service.log()


async def test_the_test_command_tells_of_each_channel_and_shows_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with webhook.listening() as hook:
        urls = [hook.url("secret-path"), "nowhere://secret-host/x", "json://user:secret-word@127.0.0.1:9/secret-path"]
        monkeypatch.setenv("BIKEFLOW_ALERTS__URLS", "\n".join(urls))
        code, out, err = await bikeflow("alerts", "test", cwd=tmp_path)
        assert (code, err) == (1, "") and "secret" not in out
        first, second, third = out.splitlines()
        assert first == "1 (json): sent" and second == "2 (nowhere): Apprise does not know such a URL"
        assert third.startswith("3 (json): ") and "127.0.0.1" in third
        assert hook.titles() == ["this is a test"]
        monkeypatch.setenv("BIKEFLOW_ALERTS__URLS", urls[0])
        hook.status = 403
        code, out, _ = await bikeflow("alerts", "test", "--json", cwd=tmp_path)
        assert code == 1 and "403" in json.loads(out)["1 (json)"]
    monkeypatch.delenv("BIKEFLOW_ALERTS__URLS")
    code, _, err = await bikeflow("alerts", "test", cwd=tmp_path)
    assert code == 1 and "BIKEFLOW_ALERTS__URLS" in err and "alert_urls" in err
    monkeypatch.setenv("BIKEFLOW_ALERTS__URLS", "secret-word")
    code, _, err = await bikeflow("alerts", "test", cwd=tmp_path)
    assert code == 2 and "secret-word" not in err and "one a line" in err

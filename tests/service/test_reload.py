"""SIGHUP: good settings are taken over with nothing lost, bad ones change nothing and are explained."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bikeflow.core.errors import InUse
from bikeflow.core.model import UTC
from bikeflow.http.client import ADDRESS_FILE
from bikeflow.runtime.lock import exclusive
from tests.http.conftest import client_of
from tests.support import feedserver, oracle
from tests.support.exchange import a_file_in_place_of
from tests.support.oracle import PREFIX, Oracle
from tests.support.s3server import S3Server
from tests.support.service import Service, configure, running
from tests.support.wrm import wrm_layout

ROWS = "SELECT count(*) FROM wrm_analytics.wrm_stations_enhanced_data"
LAYOUT = wrm_layout(PREFIX)


class Operator:
    """Somebody who edits the configuration file and sends SIGHUP."""

    def __init__(self, service: Service, config: Path, values: dict[str, object]) -> None:
        self.service = service
        self.config = config
        self.values = values
        self.applied = 0
        self.refused = 0

    async def reload(self, text: str | bytes | None = None, **values: object) -> str:
        """Change settings (a double underscore stands for the dot) and wait until they are taken over."""
        self.values |= {name.replace("__", "."): value for name, value in values.items()}
        configure(self.config, self.values)
        self.applied += 1
        return await self._signal("reloaded", self.applied)

    async def is_refused(self, write: Callable[[Path], object]) -> str:
        """Spoil the file, and wait for the refusal."""
        write(self.config)
        self.refused += 1
        return await self._signal("reload_refused", self.refused)

    async def _signal(self, event: str, count: int) -> str:
        self.service.process.send_signal(signal.SIGHUP)
        return (await self.service.told(event, count))[-1]


def values_for(data_dir: Path, url: str) -> dict[str, object]:
    return {
        "data_dir": data_dir, "feed.url": url, "feed.interval_seconds": 1, "watcher.poll_seconds": 0.5,
        "http.listen": "127.0.0.1:0",
    }  # fmt: skip


def no_tick_was_missed(service: Service, log: str | None = None) -> None:
    """From the first fetch to the last there are as many as there were ticks, of a second each.

    One may come late, and as many may be missing as a busy machine has taken from the service, which has been stopped.
    """
    log = service.log() if log is None else log
    stamps = re.findall(r"timestamp=(\S+) .*\bevent=fetched\b.*\bduration_seconds=([\d.]+)", log)
    began = [dt.datetime.fromisoformat(at) - dt.timedelta(seconds=float(seconds)) for at, seconds in stamps]
    ticks = (began[-1] - began[0]).total_seconds()
    assert len(began) - 1 > ticks - 0.8 - service.starved_seconds, [f"{at:%M:%S.%f}" for at in began]


async def settled(service: Service, feed: Oracle, elsewhere: int = 0) -> None:
    """Let the feed stand still until all that was fetched, but for what lies elsewhere, is published."""
    feed.frozen = True
    before = service.log().count("outcome=duplicate")
    await service.until(lambda: service.log().count("outcome=duplicate") > before, "a duplicate")
    wanted = (len(feed.promised(service.log()) | feed.put.keys()) - elsewhere) * oracle.STATIONS
    await service.until(lambda: service.query(ROWS) == wanted, f"{wanted} rows in the database")


def bad_configurations(tmp_path: Path, busy_port: int) -> Iterator[tuple[Callable[[Path], object], str]]:
    """What an operator can get wrong, with a word that the refusal has to hold."""

    def text(content: str | bytes) -> Callable[[Path], object]:
        data = content if isinstance(content, bytes) else content.encode()
        return lambda config: config.write_bytes(data)

    numbers = (
        "feed.interval_seconds", "feed.timeout_seconds", "feed.max_bytes", "feed.spool_max_bytes",
        "feed.breaker_failures", "feed.breaker_probe_seconds", "storage.connect_timeout_seconds",
        "storage.read_timeout_seconds", "storage.max_connections", "watcher.poll_seconds", "watcher.reconcile_seconds",
        "processing.workers", "processing.queue_size", "processing.segment_minutes", "retry.attempts",
        "retry.initial_seconds", "retry.max_seconds", "warehouse.threads", "daemon.shutdown_seconds",
    )  # fmt: skip
    for key in numbers:
        for value in ("-1", "0", "true", '"soon"'):
            yield text(f"{key} = {value}\n"), key
    for key in ("rules.lat_min", "rules.lon_max", "rules.stale_seconds"):
        yield text(f"{key} = nan\n"), key
    for line, word in (
        ("feed.url = 'ftp://example.org/'", "feed.url"), ("feed.url = 'http://me:secret@example.org/'", "feed.url"),
        ("feed.urls = 'http://example.org/'", "feed.url"), ("fed.url = 'http://example.org/'", "fed"),
        ("workers = 2", "processing.workers"), ("feed = 3", "feed is a section"), ("[feed\n", "not valid TOML"),
        ("data_dir = ''", "data_dir"), ("storage.backend = 'tape'", "storage.backend"),
        ("storage.backend = 's3'", "bucket"), ("storage.access_key_id = 'x'", "is a secret"),
        ("log.level = 'loud'", "log.level"), ("log.format = 'xml'", "log.format"),
        ("http.listen = '8080'", "http.listen"),
        ("http.listen = '127.0.0.1:99999'", "65535"), ("http.listen = '192.0.2.1:1'", "cannot serve HTTP"),
        (f"http.listen = '127.0.0.1:{busy_port}'", "Address already in use"),
        ("rules.lat_min = 52", "service area"), ("warehouse.memory_limit = 'much'", "memory_limit"),
        (f"data_dir = '{tmp_path}/file/data'", "Not a directory"), (f"data_dir = '{tmp_path}/locked'", "works on"),
        (f"warehouse.path = '{tmp_path}/file/a.duckdb'", "can't be made"),
        ("warehouse.path = 'wrm_analytics.duckdb'", "hides its schema"), ("processing.engine = 'spark'", "engine"),
    ):  # fmt: skip
        yield text(f"{line}\n"), word
    yield text(b'feed.url = "\xff"\n'), "not UTF-8"
    yield lambda config: config.unlink(), "no such file"


async def test_a_hundred_bad_configurations_change_nothing_and_each_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config, data_dir = tmp_path / "config.toml", tmp_path / "data"
    busy = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    bad = list(bad_configurations(tmp_path, busy.sockets[0].getsockname()[1]))
    assert len(bad) >= 100
    async with oracle.serving() as feed, running(data_dir, feed.url, config=config) as service, busy:
        operator = Operator(service, config, values_for(data_dir, feed.url))
        url = await service.url()
        await service.logged("event=refreshed")
        with exclusive(tmp_path / "locked"):
            for write, word in bad:
                line = await operator.is_refused(write)
                assert word in line, line
        assert service.process.returncode is None and await service.url() == url
        assert len(await service.told("reload_refused", len(bad))) == len(bad)
        assert "event=http_started" in service.log() and "event=reloaded" not in service.log()
        await settled(service, feed)
        assert await service.stop() == 0
        no_tick_was_missed(service)
        feed.audit(oracle.local_lake(data_dir), service.database, service.log()).assert_exactly_once()
        assert "Traceback" not in service.log()


async def put_by_others(data_dir: Path, feed: Oracle, first: int, count: int) -> None:
    """Somebody else puts raw files of past days in the lake: work for the processors."""
    for number in range(first, first + count):
        at = dt.datetime.combine(dt.datetime.now(UTC).date(), dt.time(), UTC) - dt.timedelta(minutes=97 * (number + 1))
        key = LAYOUT.raw_key(at)
        file = data_dir / "lake" / key
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f".{file.name}")
        part.write_bytes(feed.put_file(key))
        await asyncio.to_thread(part.rename, file)


async def test_good_settings_of_each_kind_are_taken_over_under_load_and_nothing_is_lost(tmp_path: Path) -> None:
    config, data_dir = tmp_path / "config.toml", tmp_path / "data"
    kinds: list[Mapping[str, Any]] = [
        {"processing__workers": 1, "processing__queue_size": 3, "rules__lat_max": 51.2},
        {"watcher__poll_seconds": 0.3, "watcher__reconcile_seconds": 5, "warehouse__threads": 1},
        {"log__level": "debug"},
        {"http__listen": "localhost:0", "alerts__grace_seconds": 10},
        {"processing__write_seconds": 3600},
        {"feed__timeout_seconds": 5, "retry__attempts": 2, "processing__segment_minutes": 30},
        {"processing__write_seconds": 2},
        {"log__level": "info", "storage__cache_max_bytes": 0, "processing__segment_minutes": 60},
    ]
    async with oracle.serving() as feed, running(data_dir, feed.url, config=config) as service:
        operator = Operator(service, config, values_for(data_dir, feed.url))
        await service.told("fetched", 1)
        for number, kind in enumerate(kinds):
            await put_by_others(data_dir, feed, number * 10, 10)
            line = await operator.reload(**kind)
            assert all(f"{key.replace('__', '.')}: " in line for key in kind), line
        assert "changed=nothing" in await operator.reload()
        await put_by_others(data_dir, feed, len(kinds) * 10, 3)
        line = await operator.reload(feed__url=f"{feed.url}?key=hidden")
        assert "feed.url: changed" in line and "hidden" not in service.log()
        await service.told("fetched", service.log().count("event=fetched") + 2)
        assert "event=reload_refused" not in service.log()
        await settled(service, feed)
        assert await service.stop() == 0
        feed.audit(oracle.local_lake(data_dir), service.database, service.log()).assert_exactly_once()
        no_tick_was_missed(service, service.log().partition('event=reloaded changed="feed.url')[0])
        assert service.log().count("event=http_started") == 2
        for word in ("Traceback", "level=error", "role_cut_short"):
            assert word not in service.log(), service.log()


def give_credentials(directory: Path, server: S3Server) -> None:
    """As systemd does: one file a secret, readable by its owner only."""
    secrets = {"s3_access_key_id": server.access_key_id, "s3_secret_access_key": server.secret_access_key}
    for name, value in secrets.items():
        (directory / name).write_text(value)
        (directory / name).chmod(0o400)


def everything_promised_lies_in_one(log: str, *lakes: Mapping[str, bytes]) -> None:
    """No snapshot was lost on the way from one lake to the other, and none lies in both."""
    raw = [{key for key in lake if key.startswith(f"{PREFIX}raw/")} for lake in lakes]
    assert Oracle().promised(log) <= set().union(*raw) and all(raw)
    assert sum(map(len, raw)) == len(set().union(*raw))


async def test_another_store_and_another_data_dir_are_taken_over_without_a_restart(
    tmp_path: Path, s3_server: S3Server
) -> None:
    config, first, second, secrets = (tmp_path / name for name in ("config.toml", "first", "second", "secrets"))
    secrets.mkdir()
    storage, variables = s3_server.settings(), {"CREDENTIALS_DIRECTORY": str(secrets)}
    async with (
        oracle.serving() as feed,
        running(first, feed.url, config=config, variables=variables) as service,
    ):
        operator = Operator(service, config, values_for(first, feed.url))
        await service.told("fetched", 2)
        give_credentials(secrets, s3_server)
        line = await operator.reload(
            storage__backend="s3", storage__bucket=storage.bucket, storage__endpoint_url=storage.endpoint_url,
            storage__region=storage.region, http__listen="localhost:0",
        )  # fmt: skip
        assert "storage.secret_access_key: changed" in line and "storage.backend: local -> s3" in line
        await service.told("fetched", service.log().count("event=fetched") + 2)
        await operator.reload(data_dir=second)
        service.data_dir = second
        with pytest.raises(InUse), exclusive(second):
            pass
        with exclusive(first):
            assert not (first / ADDRESS_FILE).exists() and (second / ADDRESS_FILE).exists()
        await service.told("fetched", service.log().count("event=fetched") + 2)
        left = [key for key in oracle.local_lake(first) if key.startswith(f"{PREFIX}raw/")]
        await settled(service, feed, elsewhere=len(left))
        assert await service.stop() == 0
        no_tick_was_missed(service)
        # What the old lake got last may not have been processed there: whoever goes on with it does.
        assert (await bikeflow("backfill", "--data-dir", str(first), cwd=first))[0] == 0
        local, bucket = oracle.local_lake(first), oracle.bucket_lake(s3_server.client(), storage.bucket)
        everything_promised_lies_in_one(service.log(), local, bucket)
        feed.audit(local, None).assert_exactly_once()
        feed.audit(bucket, service.database).assert_exactly_once()
        assert s3_server.secret_access_key not in service.log() and "Traceback" not in service.log()


async def test_what_waits_for_a_store_that_is_away_comes_to_the_new_one(tmp_path: Path) -> None:
    config, first, second = (tmp_path / name for name in ("config.toml", "first", "second"))
    away = {
        "storage.backend": "s3", "storage.bucket": "away", "storage.endpoint_url": "http://127.0.0.1:9",
        "retry.attempts": 2, "retry.initial_seconds": 0.1, "retry.max_seconds": 0.3,
    }  # fmt: skip
    keys = {"S3_ACCESS_KEY_ID": "a", "S3_SECRET_ACCESS_KEY": "b"}
    async with (
        oracle.serving() as feed,
        running(first, feed.url, config=config, settings=away, variables=keys) as service,
    ):
        operator = Operator(service, config, values_for(first, feed.url) | away)
        await service.logged("event=store_unreachable")
        await service.told("fetched", 3)
        assert list((first / "spool/wrm").glob("*.txt"))
        other = operator.values | {"storage.prefix": "other/"}
        assert "127.0.0.1:9" in await operator.is_refused(partial(configure, values=other))
        await service.told("fetched", service.log().count("event=fetched") + 1)
        await operator.reload(data_dir=second, storage__backend="local")
        assert not list((first / "spool/wrm").glob("*.txt"))
        service.data_dir = second
        await settled(service, feed)
        assert await service.stop() == 0
        no_tick_was_missed(service)
    assert not list((second / "spool/wrm").glob("*.txt"))
    feed.audit(oracle.local_lake(second), second / "analytics.duckdb", service.log()).assert_exactly_once()


async def test_settings_that_cannot_be_put_to_work_leave_the_old_ones_at_work(
    tmp_path: Path, s3_server: S3Server
) -> None:
    config, data_dir, secrets = tmp_path / "config.toml", tmp_path / "data", tmp_path / "secrets"
    secrets.mkdir()
    give_credentials(secrets, s3_server)
    (tmp_path / "spoiled").mkdir()
    (tmp_path / "spoiled" / "spool").touch()
    s3: dict[str, object] = {
        "storage.backend": "s3",
        "storage.endpoint_url": s3_server.endpoint_url,
        "storage.bucket": "no-such-bucket",
    }
    spoiled: list[tuple[dict[str, object], str]] = [
        # found when all else has been opened already, and the pages are at another port
        ({"data_dir": tmp_path / "spoiled", "http.listen": "localhost:0"}, "cannot use the spool"),
        (s3, "no-such-bucket"),
        (s3 | {"storage.endpoint_url": "http://127.0.0.1:9"}, "127.0.0.1:9"),
    ]
    variables = {"CREDENTIALS_DIRECTORY": str(secrets)}
    async with (
        oracle.serving() as feed,
        running(data_dir, feed.url, config=config, variables=variables) as service,
    ):
        operator = Operator(service, config, values_for(data_dir, feed.url))
        await service.told("fetched", 1)
        for changes, reason in spoiled:
            line = await operator.is_refused(partial(configure, values=operator.values | changes))
            assert reason in line, line
            async with client_of((data_dir / ADDRESS_FILE).read_text().strip()) as client:
                assert (await client.ask("/api/v1/status")).status == 200
        await settled(service, feed)
        assert await service.stop() == 0
        no_tick_was_missed(service)
        feed.audit(oracle.local_lake(data_dir), service.database, service.log()).assert_exactly_once()
        assert "Traceback" not in service.log()


async def bikeflow(*arguments: str, cwd: Path) -> tuple[int, str, str]:
    """The command line: exit code, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bikeflow", *arguments, cwd=cwd, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_the_reload_command_tells_what_has_changed_or_why_it_was_refused(tmp_path: Path) -> None:
    config, data_dir = tmp_path / "config.toml", tmp_path / "data"

    async def reload(*arguments: str) -> tuple[int, str, str]:
        return await bikeflow("reload", "--config", str(config), *arguments, cwd=tmp_path)

    async with oracle.serving() as feed, running(data_dir, feed.url, config=config) as service:
        values = values_for(data_dir, feed.url)
        url = await service.url()
        await service.logged("event=started")
        assert await reload() == (0, "nothing has changed\n", "")
        configure(config, values | {"processing.workers": 1})
        assert await reload() == (0, "processing.workers: 2 -> 1\n", "")
        configure(config, values | {"processing.workers": 0})
        code, out, err = await reload()
        assert (code, out) == (2, "") and "processing.workers" in err
        configure(config, values | {"http.listen": "192.0.2.1:1"})
        code, out, err = await reload("--json")
        refusal = json.loads(out)
        assert code == 1 and refusal["applied"] is False and "cannot serve HTTP" in refusal["reason"]
        assert err.startswith("error: the service goes on with its old settings: cannot serve HTTP on 192.0.2.1:1")
        async with client_of(url) as client:
            metrics = (await client.ask("/metrics")).text.splitlines()
            assert "bikeflow_config_last_reload_successful 0.0" in metrics
            configure(config, values | {"data_dir": tmp_path / "moved", "processing.workers": 1})
            code, _, err = await reload()
            assert code == 1 and "--pid" in err
            code, out, err = await reload("--pid", str(service.process.pid))
            assert (code, err) == (0, "") and out.startswith("data_dir: ")
            metrics = (await client.ask("/metrics")).text.splitlines()
            assert "bikeflow_config_last_reload_successful 1.0" in metrics
        assert await service.stop() == 0
    code, _, err = await reload()
    assert code == 1 and err.startswith(f"error: no bikeflow runs on {tmp_path / 'moved'}")


async def test_the_same_port_on_another_host_is_taken_over_from_ourselves(tmp_path: Path) -> None:
    config, data_dir = tmp_path / "config.toml", tmp_path / "data"
    async with oracle.serving() as feed, running(data_dir, feed.url, config=config) as service:
        port = (await service.url()).rpartition(":")[2]
        operator = Operator(service, config, values_for(data_dir, feed.url))
        await service.logged("event=started")
        await operator.reload(http__listen=f"127.0.0.1:{port}")
        await operator.reload(http__listen=f"0.0.0.0:{port}")
        async with client_of(f"http://127.0.0.1:{port}") as client:
            assert (await client.ask("/healthz")).status == 200
        assert "http_port_busy" not in service.log()
        assert await service.stop() == 0


async def test_a_stop_or_a_kill_in_the_midst_of_a_reload_loses_nothing(tmp_path: Path) -> None:
    config, data_dir = tmp_path / "config.toml", tmp_path / "data"
    async with oracle.serving() as feed:
        for number, delay_seconds in enumerate((0.05, 0.2)):
            await put_by_others(data_dir, feed, number * 5, 5)
            async with running(data_dir, feed.url, config=config) as service:
                await service.told("fetched", 2)
                configure(config, values_for(data_dir, feed.url) | {"processing.workers": 1 + number})
                service.process.send_signal(signal.SIGHUP)
                service.process.send_signal(signal.SIGHUP)
                await asyncio.sleep(delay_seconds)
                if number % 2:
                    await service.stop(signal.SIGKILL)
                else:
                    assert await service.stop() == 0, service.log()
                assert "Traceback" not in service.log()
        feed.frozen = True
        async with running(data_dir, feed.url, config=config) as service:
            await service.logged("event=refreshed")
            log = (tmp_path / "data.log").read_text()
            wanted = (len(feed.promised(log) | feed.put.keys())) * oracle.STATIONS
            await service.until(lambda: (service.query(ROWS) or 0) >= wanted, f"{wanted} rows")
            assert await service.stop() == 0
        log = (tmp_path / "data.log").read_text()
        feed.audit(oracle.local_lake(data_dir), data_dir / "analytics.duckdb", log).assert_exactly_once()


async def test_a_feed_that_hangs_holds_up_a_reload_for_no_longer_than_its_timeout(tmp_path: Path) -> None:
    config, data_dir = tmp_path / "config.toml", tmp_path / "data"
    slow = {"feed.timeout_seconds": 0.5, "feed.interval_seconds": 60, "retry.initial_seconds": 30}
    async with feedserver.serve() as feed, running(data_dir, feed.url, config=config, settings=slow) as service:
        feed.answers(feedserver.Reply(wait_seconds=600))
        await service.until(feed.asked.is_set, "a request under way")
        operator = Operator(service, config, values_for(data_dir, feed.url) | slow)
        line = await operator.reload(processing__workers=3)
        assert "processing.workers: 2 -> 3" in line
        async with client_of(await service.url()) as client:
            assert "fetching" in await client.unready()
        assert await service.stop() == 0


async def test_another_name_for_the_same_directory_doubles_nothing(tmp_path: Path) -> None:
    config, data_dir, alias = tmp_path / "config.toml", tmp_path / "data", tmp_path / "alias"
    alias.symlink_to(data_dir)
    impatient = {"retry.attempts": 1, "retry.max_seconds": 0.5}
    async with oracle.serving() as feed, running(data_dir, feed.url, config=config, settings=impatient) as service:
        operator = Operator(service, config, values_for(data_dir, feed.url) | impatient)
        await service.told("refreshed", 1)
        raw = data_dir / "lake" / PREFIX / "raw"
        with a_file_in_place_of(raw):
            await service.logged("event=store_unreachable")
            await operator.reload(data_dir=alias)
        await settled(service, feed)
        assert await service.stop() == 0
        feed.audit(oracle.local_lake(data_dir), service.database, service.log()).assert_exactly_once()

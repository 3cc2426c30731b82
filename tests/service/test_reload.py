"""SIGHUP: good settings are taken over with nothing lost, bad ones change nothing and are explained."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bikeflow.layout import Layout
from bikeflow.lock import exclusive
from bikeflow.model import UTC
from tests.support import oracle
from tests.support.oracle import PREFIX, Oracle
from tests.support.service import Service, configure, running

ROWS = "SELECT count(*) FROM wrm_analytics.wrm_stations_enhanced_data"
LAYOUT = Layout(PREFIX)
pytestmark = pytest.mark.timeout(120)


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


def no_tick_was_missed(log: str, interval_seconds: float = 1) -> None:
    """Every tick of the grid, from the first to the last fetch, has its fetch."""
    stamps = re.findall(r"timestamp=(\S+) .*\bevent=fetched\b.*\bduration_seconds=([\d.]+)", log)
    began = [dt.datetime.fromisoformat(at) - dt.timedelta(seconds=float(seconds)) for at, seconds in stamps]
    ticks = [round((at - began[0]).total_seconds() / interval_seconds) for at in began]
    assert ticks == list(range(len(ticks))), ticks


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
        fetched = service.log().count("event=fetched")
        await service.told("fetched", fetched + 2)
        assert await service.stop() == 0
        no_tick_was_missed(service.log())
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
        {"processing__workers": 1, "processing__queue_size": 3},
        {"rules__lat_max": 51.2, "rules__stale_seconds": 3_600},
        {"watcher__poll_seconds": 0.3, "watcher__reconcile_seconds": 5},
        {"log__level": "debug"},
        {"feed__timeout_seconds": 5, "retry__attempts": 2},
        {"http__listen": "localhost:0"},
        {"warehouse__threads": 1, "warehouse__debounce_seconds": 0},
        {"processing__segment_minutes": 30},
        {"storage__cache_max_bytes": 0, "daemon__shutdown_seconds": 19},
        {"log__level": "info", "processing__segment_minutes": 60, "processing__workers": 3},
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
        await service.until(lambda: "event=reload_refused" not in service.log(), "no refusal")
        wanted = len(feed.put) * oracle.STATIONS
        await service.until(lambda: (service.query(ROWS) or 0) >= wanted, "all rows in the database")
        assert await service.stop() == 0
        feed.audit(oracle.local_lake(data_dir), service.database, service.log()).assert_exactly_once()
        no_tick_was_missed(service.log().partition('event=reloaded changed="feed.url')[0])
        assert service.log().count("event=http_started") == 2
        for word in ("Traceback", "level=error", "role_cut_short"):
            assert word not in service.log(), service.log()

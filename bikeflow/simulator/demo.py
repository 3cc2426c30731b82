"""The demo: a simulated city, a day of its history, then the service live on an accelerated feed; no network."""

from __future__ import annotations

import datetime as dt
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

from bikeflow.core.errors import ConfigError
from bikeflow.core.layout import Layout
from bikeflow.core.model import UTC
from bikeflow.runtime.concurrency import bounded_map
from bikeflow.settings import Settings
from bikeflow.settings.sections import FeedSettings, HttpSettings
from bikeflow.simulator import City
from bikeflow.store import open_store

SEED = 20260601
HISTORY = dt.timedelta(days=1)
CADENCE = dt.timedelta(minutes=5)
_MARK = ".bikeflow-demo"


def demo_settings(data_dir: Path, feed_url: str, interval_seconds: float) -> Settings:
    """The settings of the demo: all defaults, but for its own directory and feed, and a port that is free."""
    return Settings(
        data_dir=data_dir,
        feed=FeedSettings(url=feed_url, interval_seconds=interval_seconds),
        http=HttpSettings(listen=_free_address()),
    )


def _free_address() -> str:
    """The usual address, or one with another port where that is taken."""
    host, port = HttpSettings().address or ("127.0.0.1", 0)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            probe.bind((host, 0))
        return f"{host}:{probe.getsockname()[1]}"


def clear(data_dir: Path) -> None:
    """Make an empty directory for the demo; one that holds anything but an earlier demo is refused."""
    if data_dir.exists() and any(data_dir.iterdir()):
        if not (data_dir / _MARK).exists():
            raise ConfigError(f"{data_dir} is not empty and holds no earlier demo; name another one with --data-dir")
        shutil.rmtree(data_dir)
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / _MARK).touch()


async def write_history(
    settings: Settings, city: City, until: dt.datetime, tell: Callable[[int, int], None]
) -> dt.datetime:
    """Put a day of raw files in the lake, as if they had been fetched; returns the time of the last one."""
    last = until.astimezone(UTC).replace(microsecond=0)
    count = int(HISTORY / CADENCE)
    times = [last - CADENCE * number for number in reversed(range(count))]
    layout, done = Layout(settings.storage.prefix), 0
    async with open_store(settings.storage, settings.data_dir) as store:

        async def write(at: dt.datetime) -> None:
            nonlocal done
            await store.put(layout.raw_key(at), city.snapshot(at).encode())
            done += 1
            tell(done, count)

        await bounded_map(write, times, 4)
    return last

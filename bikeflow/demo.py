"""The demo: a simulated city, a day of its history, then the service live on an accelerated feed; no network."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bikeflow.concurrency import bounded_map
from bikeflow.errors import ConfigError
from bikeflow.layout import Layout
from bikeflow.lock import DEMO_MARK, exclusive
from bikeflow.lock import FILE_NAME as LOCK
from bikeflow.log import get_logger
from bikeflow.model import UTC
from bikeflow.reload_report import ReloadReport, write_report
from bikeflow.settings import Settings
from bikeflow.settings.sections import FeedSettings, HttpSettings
from bikeflow.simulator import City
from bikeflow.store import open_store
from bikeflow.warehouse.files import remove

SEED = 20260601
HISTORY = dt.timedelta(days=1)
CADENCE = dt.timedelta(minutes=5)
REPEATS = 0.02
"""The share of the live feed's documents that are served once more."""
NO_RELOAD = "this is a demo, which has no configuration to reload"
_KEPT = {LOCK, DEMO_MARK}
"""What stays when an earlier demo is deleted: the lock that is held, and the mark, should this be interrupted."""
log = get_logger()


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


@contextlib.contextmanager
def demo_directory(data_dir: Path) -> Iterator[None]:
    """Hold an empty directory for the demo; what an earlier demo left there is deleted, anything else is refused.

    Raises ConfigError, or InUse while another process works there.
    """
    _refuse_others(data_dir)  # before the lock: a directory that is refused stays as it is
    with exclusive(data_dir):
        _refuse_others(data_dir)
        other = next(data_dir.glob(f"*/**/{LOCK}"), None)
        if other is not None:
            raise ConfigError(f"{data_dir} holds another data_dir of bikeflow's, {other.parent}; move that first")
        for path in data_dir.iterdir():
            if path.name not in _KEPT:
                remove(path)
        (data_dir / DEMO_MARK).write_text("The next `bikeflow demo` deletes all that lies here.\n", encoding="utf-8")
        yield


def _refuse_others(data_dir: Path) -> None:
    if (data_dir / DEMO_MARK).exists() or not data_dir.is_dir():
        return
    if any(path.name != LOCK for path in data_dir.iterdir()):
        raise ConfigError(f"{data_dir} is not empty and holds no earlier demo; name another directory with --data-dir")


@contextlib.contextmanager
def refusing_reloads(data_dir: Path) -> Iterator[None]:
    """SIGHUP does not end the demo: a reload is refused, and its report says why.

    A terminal sends SIGHUP, too, when it is closed: then the demo ends.
    """
    loop, had_terminal = asyncio.get_running_loop(), _has_terminal()

    def refuse() -> None:
        if had_terminal and not _has_terminal():
            os.kill(os.getpid(), signal.SIGTERM)
            return
        began, at = time.monotonic(), dt.datetime.now(UTC).isoformat(timespec="seconds")
        log.warning("reload_refused", reason=NO_RELOAD)
        with contextlib.suppress(OSError):
            write_report(data_dir, ReloadReport(os.getpid(), began, at, reason=NO_RELOAD))

    loop.add_signal_handler(signal.SIGHUP, refuse)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _has_terminal() -> bool:
    """Whether the process has a controlling terminal, which is taken from it when that is closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


async def write_history(
    settings: Settings, city: City, until: dt.datetime, tell: Callable[[int, int], None]
) -> dt.datetime:
    """Put a day of raw files in the lake, as if they had been fetched; returns the time of the last one."""
    last = until.astimezone(UTC).replace(microsecond=0)
    while not city.is_whole(last):  # it is what the demo shows first
        last -= dt.timedelta(seconds=1)
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

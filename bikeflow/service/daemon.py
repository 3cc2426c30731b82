"""The service: opens everything once, runs the roles side by side, reloads its settings, and stops in order.

One deadline stands around all of the stop. A reload is all or nothing: settings that do not validate, or that can't be
put to work, change nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence

from bikeflow import __version__
from bikeflow.core.events import Events
from bikeflow.health.alerts.role import open_alerts
from bikeflow.health.sd_notify import Notifier
from bikeflow.health.supervision import supervised
from bikeflow.http.site import open_site
from bikeflow.runtime.descriptors import raise_limit
from bikeflow.runtime.lock import exclusive, refuse_demo
from bikeflow.runtime.log import get_logger
from bikeflow.service.holding import holding
from bikeflow.service.reload import Reload
from bikeflow.service.roles import Roles
from bikeflow.settings import LoadedSettings, Settings
from bikeflow.settings.changes import some
from bikeflow.settings.sections import DaemonSettings
from bikeflow.settings.systems import System, public_url

log = get_logger()


async def serve(
    settings: Settings, load: Callable[[], LoadedSettings] | None = None, *, holds_lock: bool = False
) -> None:
    """Run until SIGTERM or SIGINT; what a role raises unexpectedly ends the process loudly.

    SIGHUP reloads what `load` gives; it raises ConfigError where that is wrong. Without it SIGHUP is the caller's.
    `holds_lock` says that the caller holds `data_dir` already, as a demo does.
    """
    # A core dump would hold all secrets.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    raise_limit()
    started = time.monotonic()
    # The watchdog's signal is SIGABRT: what every thread was at goes to the log.
    faulthandler.enable()
    signals, events, notifier = Signals(settings.daemon), Events(), Notifier.from_environment()
    with contextlib.ExitStack() as lock, signals.handled(reloading=load is not None):
        if not holds_lock:
            lock.enter_context(exclusive(settings.data_dir))
            refuse_demo(settings.data_dir)
        # The site first, and closed last: a long start and a long stop can be watched.
        async with (
            open_site(settings, events) as site,
            supervised(notifier, site.health.status_line) as supervisor,
            open_alerts(site.health, events) as alerts,
            holding() as lock_watch,
        ):
            roles = await Roles.start(settings, events)
            reload = Reload(roles, site, events, lock)
            site.health.attach(roles.pipeline.vitals)
            supervisor.watch(roles.pipeline.pulses, roles.settings)
            _tell_start(roles)
            supervisor.ready()
            try:
                while not await signals.stop_or_reload(reload.roles.work, alerts.work, lock_watch):
                    if load is not None:
                        notifier.reloading()
                        await reload.attempt(load)
                        signals.settings = reload.roles.settings.daemon
                        supervisor.watch(reload.roles.pipeline.pulses, reload.roles.settings)
                        supervisor.ready()
                supervisor.stopping(signals.settings.shutdown_seconds)
                await alerts.close()
                site.health.stopping()
                queue = reload.roles.pipeline.shared.queue
                log.info("stopping", waiting_jobs=queue.waiting, jobs_in_flight=queue.in_flight)
                await reload.roles.finish()
            finally:
                await reload.roles.abort()
    log.info("stopped", uptime_seconds=round(time.monotonic() - started, 1))


def _tell_start(roles: Roles) -> None:
    settings, pipeline = roles.settings, roles.pipeline
    log.info(
        "started",
        version=__version__,
        **_feeds(settings.all_systems),
        store=pipeline.shared.store.describe(),
        database=str(pipeline.database_path),
    )


def _feeds(systems: Sequence[System]) -> dict[str, object]:
    """The one feed, or how many there are."""
    if len(systems) > 1:
        return {"systems": len(systems), "feeds": some([system.id for system in systems])}
    feed = systems[0].feed
    return {"feed": public_url(feed.url), "interval_seconds": feed.interval_seconds}


class Signals:
    """What the process was asked for; handlers only take note and start the deadline, the service acts."""

    def __init__(self, settings: DaemonSettings) -> None:
        self.settings = settings
        self._stop = False
        self._asked = asyncio.Event()

    @contextlib.contextmanager
    def handled(self, *, reloading: bool) -> Iterator[None]:
        """The first SIGTERM or SIGINT asks to stop; the second ends the process at once, as if nobody had caught it.

        A stop that has not come to its end within `daemon.shutdown_seconds` of the signal ends the process, too.
        """
        loop = asyncio.get_running_loop()
        deadlines: list[asyncio.TimerHandle] = []

        def stop(number: signal.Signals) -> None:
            log.info("signal_received", signal=number.name)
            self._stop = True
            self._asked.set()
            seconds = self.settings.shutdown_seconds
            deadlines.append(loop.call_later(seconds, _give_up, seconds))
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

        numbers = [signal.SIGTERM, signal.SIGINT]
        for number in numbers:
            loop.add_signal_handler(number, stop, number)
        if reloading:
            loop.add_signal_handler(signal.SIGHUP, self._asked.set)
            numbers.append(signal.SIGHUP)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)
            for deadline in deadlines:
                deadline.cancel()

    async def stop_or_reload(self, *work: asyncio.Task[None]) -> bool:
        """Wait for the next request: True to stop, False to reload; raises what has ended any of `work` before."""
        asked = asyncio.create_task(self._asked.wait())
        try:
            await asyncio.wait([asked, *work], return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
        for task in work:
            if task.done():
                await task
        self._asked.clear()
        return self._stop


def _give_up(shutdown_seconds: float) -> None:
    """Threads can't be cancelled; nothing is lost, the next start takes up what was in hand."""
    log.error("shutdown_deadline_passed", shutdown_seconds=shutdown_seconds)
    os._exit(1)

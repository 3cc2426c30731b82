"""The service: opens everything once, runs the roles side by side, and stops in order.

Producers stop first, the queue drains, the processors end, the database is refreshed once more, clients close; one
deadline stands around all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator

from bikeflow import __version__
from bikeflow.events import Events
from bikeflow.fetcher.download import public_url
from bikeflow.lock import exclusive
from bikeflow.log import get_logger
from bikeflow.pipeline import Pipeline, open_pipeline
from bikeflow.settings import Settings
from bikeflow.surfaces.surfaces import Surfaces, open_surfaces

log = get_logger()


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; what a role raises unexpectedly ends the process loudly."""
    started = time.monotonic()
    stop, events = asyncio.Event(), Events()
    with exclusive(settings.data_dir), _stopping_on_signals(stop):
        # The surfaces first, and closed last: a long start and a long stop can be watched.
        async with open_surfaces(settings, events) as surfaces, open_pipeline(settings, events) as pipeline:
            surfaces.attach(pipeline.vitals)
            log.info(
                "started",
                version=__version__,
                feed=public_url(settings.feed.url),
                interval_seconds=settings.feed.interval_seconds,
                store=pipeline.store.describe(),
                database=str(pipeline.database_path),
            )
            await _run_roles(pipeline, surfaces, stop, settings.daemon.shutdown_seconds)
    log.info("stopped", uptime_seconds=round(time.monotonic() - started, 1))


async def _run_roles(pipeline: Pipeline, surfaces: Surfaces, stop: asyncio.Event, shutdown_seconds: float) -> None:
    last_refresh, last_export = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as roles:
        producers = [
            roles.create_task(pipeline.fetcher.run(stop), name="fetcher"),
            roles.create_task(pipeline.watcher.run(stop), name="watcher"),
        ]
        processors = [
            roles.create_task(processor.run(), name=f"processor-{number}")
            for number, processor in enumerate(pipeline.processors, start=1)
        ]
        refresher = roles.create_task(pipeline.refresher.run(last_refresh), name="refresher")
        exporters = [
            roles.create_task(exporter.run(last_export), name=f"exporter-{number}")
            for number, exporter in enumerate(pipeline.exporters, start=1)
        ]
        await stop.wait()
        surfaces.stopping()
        log.info("stopping", waiting_jobs=pipeline.queue.waiting, jobs_in_flight=pipeline.queue.in_flight)
        try:
            async with asyncio.timeout(shutdown_seconds):
                await asyncio.wait(producers)
                await pipeline.queue.close()
                _, busy = await asyncio.wait(processors, timeout=shutdown_seconds / 2)
                if busy:
                    # A long backlog is no work in hand: the ledger keeps it for the next start.
                    await pipeline.queue.drop_waiting()
                    await asyncio.wait(busy)
                last_refresh.set()
                await asyncio.wait([refresher])
                last_export.set()
                if exporters:
                    await asyncio.wait(exporters)
        except TimeoutError:
            # Threads can't be cancelled; nothing is lost, the next start takes up what was in hand.
            log.error("shutdown_deadline_passed", shutdown_seconds=shutdown_seconds)
            os._exit(1)


@contextlib.contextmanager
def _stopping_on_signals(stop: asyncio.Event) -> Iterator[None]:
    """The first SIGTERM or SIGINT asks to stop; the second ends the process at once, as if nobody had caught it."""
    loop = asyncio.get_running_loop()

    def ask(number: signal.Signals) -> None:
        log.info("signal_received", signal=number.name)
        stop.set()
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)

    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, ask, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)

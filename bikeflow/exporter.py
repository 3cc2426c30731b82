"""The exporter role: takes what was published to one more place, at a pace of its own, and never in anybody's way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from bikeflow.errors import BikeflowError
from bikeflow.log import get_logger
from bikeflow.model import ExportFinished, ExportTarget
from bikeflow.retry import retrying, tick, woken_or
from bikeflow.settings.sections import RetrySettings

log = get_logger()


class Target(Protocol):
    """A place that publications are taken to."""

    async def export(self) -> dict[str, object]:
        """Bring it up to date with what is published; returns what is to be logged. Raises Transient, Permanent.

        `skipped_rows` in it counts the rows that it lacks because it can't hold them.
        """
        ...


class Exporter:
    """Keeps one target current, with at least `min_seconds` between two exports."""

    def __init__(
        self,
        name: ExportTarget,
        target: Target,
        retry: RetrySettings,
        min_seconds: float,
        on_finished: Callable[[ExportFinished], None],
    ) -> None:
        self._name: ExportTarget = name
        self._target = target
        self._retry = retry
        self._min_seconds = min_seconds
        self._on_finished = on_finished
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Something was published."""
        self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Export after each wake, until stopped; what is pending then is exported first.

        One that fails is tried again until it works: the target keeps what it has.
        """
        while await woken_or(self._woken, stop):
            self._woken.clear()
            seconds = self._min_seconds
            try:
                await retrying(self._retry, stop)(self.export_once)
            except BikeflowError as error:
                log.error("export_failed", target=self._name, error=str(error))
                self._woken.set()
                seconds = max(seconds, self._retry.max_seconds)
                if stop.is_set():
                    return
            await tick(stop, seconds)

    async def export_once(self) -> None:
        """Bring the target up to date; raises Transient, Permanent."""
        started = time.monotonic()
        try:
            told = await self._target.export()
        except BikeflowError as error:
            self._on_finished(ExportFinished(self._name, "failed", time.monotonic() - started, str(error)))
            raise
        seconds = time.monotonic() - started
        skipped = int(str(told.get("skipped_rows", 0)))
        self._on_finished(ExportFinished(self._name, "done", seconds, skipped_rows=skipped))
        log.info("exported", target=self._name, **told, duration_seconds=round(seconds, 3))

"""A reload of the settings while the service runs: checked whole, tried out where they can fail, then put to work.

What follows from new settings is what a stop and a start with them would do, without the gap: the roles are wound down,
a new pipeline is opened, and takes over. Where any of it fails, the old settings stay in force.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack, aclosing

import duckdb

from bikeflow.core.errors import BikeflowError, ConfigError
from bikeflow.core.events import Events
from bikeflow.core.model import UTC, SettingsReloaded
from bikeflow.feeds import layout_of
from bikeflow.http.site import Site
from bikeflow.runtime import log as logging
from bikeflow.runtime.lock import exclusive, refuse_demo
from bikeflow.runtime.log import get_logger
from bikeflow.runtime.retry import retrying
from bikeflow.service.reload_report import ReloadReport, write_report
from bikeflow.service.roles import Roles, same_lake
from bikeflow.settings import LoadedSettings, Settings
from bikeflow.settings.changes import changes, concerns_pipeline
from bikeflow.settings.sections import RetrySettings
from bikeflow.store import open_store
from bikeflow.warehouse import published_path

_PROBE = RetrySettings(attempts=2)
_REFUSALS = (BikeflowError, OSError, sqlite3.Error, duckdb.Error)
"""What new settings can fail with; anything else is a bug, and ends the process."""
log = get_logger()


class Reload:
    """Reloads a running service; `roles` are those at work, `lock` holds the `data_dir` that they work on."""

    def __init__(self, roles: Roles, site: Site, events: Events, lock: ExitStack) -> None:
        self.roles = roles
        self._site = site
        self._events = events
        self._lock = lock

    async def attempt(self, load: Callable[[], LoadedSettings]) -> None:
        """Put what `load` gives to work, or change nothing; one log line, and the report, tell which and why."""
        began, old, changed, reason = time.monotonic(), self.roles.settings, dict[str, str](), ""
        try:
            loaded = await asyncio.to_thread(load)
            changed = changes(old, loaded.settings)
            await self._apply(loaded.settings, changed)
        except _REFUSALS as error:
            reason = "; ".join(str(error).splitlines()) or type(error).__name__
            log.error("reload_refused", reason=reason, hint="the old settings stay in force")
        else:
            seconds = round(time.monotonic() - began, 3)
            log.info("reloaded", changed=_listed(changed), duration_seconds=seconds)
        now = dt.datetime.now(UTC)
        self._events.emit(SettingsReloaded(now, applied=not reason))
        report = ReloadReport(os.getpid(), began, now.isoformat(timespec="seconds"), changed, reason)
        for data_dir in {old.data_dir, self.roles.settings.data_dir}:
            try:
                write_report(data_dir, report)
            except OSError as error:
                log.warning("reload_report_lost", data_dir=str(data_dir), error=error.strerror)

    async def _apply(self, new: Settings, changed: dict[str, str]) -> None:
        old = self.roles.settings
        with ExitStack() as held:
            if new.data_dir.resolve() != old.data_dir.resolve():
                held.enter_context(exclusive(new.data_dir))
                refuse_demo(new.data_dir)
            await _try_out(old, new)
            async with AsyncExitStack() as undo:
                await self._site.listen(new.http)
                undo.push_async_callback(self._site.listen, old.http)
                if concerns_pipeline(changed):
                    await self._relieve(new)
                undo.pop_all()
            if new.data_dir.resolve() != old.data_dir.resolve():
                self._lock.close()
                self._lock.push(held.pop_all())
        self.roles.settings = new
        self._site.adopt(new, same_lake=same_lake(old, new))
        if new.log != old.log:
            logging.configure(new.log)

    async def _relieve(self, new: Settings) -> None:
        """Replace the roles at work; where the new ones can't start, start the old ones again."""
        old = self.roles
        await old.wind_down()
        try:
            self.roles = await Roles.start(new, self._events, old)
        except Exception:
            self.roles = await Roles.start(old.settings, self._events, old)
            raise
        finally:
            self._site.health.attach(self.roles.pipeline.vitals)


async def _try_out(old: Settings, new: Settings) -> None:
    """Find out what would fail before anything is touched; raises it."""
    path = published_path(new.warehouse, new.data_dir)
    if path != published_path(old.warehouse, old.data_dir):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"warehouse.path = {path}: can't be made: {error.strerror}") from error
    if new.storage != old.storage or not same_lake(old, new):
        async with open_store(new.storage, new.data_dir.absolute()) as store:

            async def look() -> None:
                async with aclosing(store.pages(layout_of(new.all_systems[0]).raw)) as pages:  # type: ignore[type-var]
                    async for _ in pages:
                        break

            await retrying(_PROBE)(look)


def _listed(changed: dict[str, str]) -> str:
    return ", ".join(f"{key}: {words}" for key, words in changed.items()) or "nothing"

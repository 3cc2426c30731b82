"""The role that brings the record of polls to the lake: system after system, each every five minutes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from bikeflow.core.errors import Permanent, Transient
from bikeflow.polls.archive import PollArchive
from bikeflow.runtime.concurrency import bounded_map
from bikeflow.runtime.log import get_logger
from bikeflow.runtime.retry import tick

ROUND_SECONDS = 300.0
"""How often the record of each system is brought to the lake: one PUT each ..."""
REST_SECONDS = 1.0
"""... but no more than one in so many seconds: a thousand systems take a quarter of an hour."""
_AT_ONCE = 8
_log = get_logger()


class PollUploader:
    """Uploads what each of the archives has; `on_change` is told when there are new copies of closed days."""

    def __init__(self, archives: Sequence[PollArchive], on_change: Callable[[], None] = lambda: None) -> None:
        self._archives = archives
        self._on_change = on_change
        self._failing: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Upload until stopped, then what is left; what the store does not take waits for the next round."""
        await self.sync()
        pause = max(ROUND_SECONDS / len(self._archives), REST_SECONDS)
        while not stop.is_set():
            for archive in self._archives:
                await self._attempt(archive, archive.upload)
                if await tick(stop, pause):
                    break
        await self.flush()

    async def sync(self) -> None:
        """Copy closed days of all systems to this machine."""
        await bounded_map(lambda archive: self._attempt(archive, archive.sync), self._archives, _AT_ONCE)

    async def flush(self) -> None:
        """Upload what all systems have; where the store does not answer, none after the first that it refuses."""
        refused = False

        async def upload(archive: PollArchive) -> None:
            nonlocal refused
            if not refused:
                refused = not await self._attempt(archive, archive.upload)

        await bounded_map(upload, self._archives, _AT_ONCE)

    async def _attempt(self, archive: PollArchive, work: Callable[[], Awaitable[bool]]) -> bool:
        """Try it; a failure is logged once, however often it repeats. Gives whether it worked."""
        try:
            if await work():
                self._on_change()
        except (Transient, Permanent) as error:
            if archive.system_id not in self._failing:
                _log.warning("polls_not_uploaded", system=archive.system_id, error=str(error))
            self._failing.add(archive.system_id)
            return False
        if archive.system_id in self._failing:
            _log.info("polls_uploaded_again", system=archive.system_id)
        self._failing.discard(archive.system_id)
        return True

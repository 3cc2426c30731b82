"""The service looks after its lock on `data_dir`: the file can be deleted or replaced while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bikeflow.core.errors import InUse
from bikeflow.runtime.lock import renew
from bikeflow.runtime.log import get_logger
from bikeflow.runtime.retry import tick

LOOK_SECONDS = 1.0
log = get_logger()


@asynccontextmanager
async def holding() -> AsyncIterator[asyncio.Task[None]]:
    """Look after the lock while the context lasts; the task ends with `InUse` where another process has taken it."""
    closing = asyncio.Event()
    looking = asyncio.create_task(_look(closing), name="lock")
    try:
        yield looking
    finally:
        closing.set()
        await asyncio.wait([looking])


async def _look(closing: asyncio.Event) -> None:
    while not await tick(closing, LOOK_SECONDS):
        try:
            renewed = await asyncio.to_thread(renew)
        except InUse as error:
            log.error("lock_lost", error=str(error), hint="its lock file was deleted or replaced; this process ends")
            raise
        for data_dir in renewed:
            log.error("lock_renewed", data_dir=str(data_dir), hint="its lock file was deleted or replaced while in use")

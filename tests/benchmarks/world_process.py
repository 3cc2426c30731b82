"""The made-up world as a process of its own, as benchmarks start and end it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any


class WorldProcess:
    """Serves its systems until it is stopped."""

    def __init__(self, process: asyncio.subprocess.Process, tables: list[dict[str, Any]]) -> None:
        self.pid = process.pid
        self.tables = tables
        """The `[[systems]]` that ask it."""
        self._process = process

    async def stop(self) -> dict[str, Any]:
        """End it; gives what it has served (`served`: of each system, when each state was first served whole)."""
        self._process.terminate()
        return dict(json.loads(await _line(self._process)))


@contextlib.asynccontextmanager
async def world(systems: int, variables: Mapping[str, str] | None = None) -> AsyncIterator[WorldProcess]:
    """While a world of so many systems serves, with these environment variables beside ours."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.benchmarks.world_server", str(systems),
        stdout=asyncio.subprocess.PIPE, limit=2**30, env={**os.environ, **(variables or {})},
    )  # fmt: skip
    try:
        tables = json.loads(await _line(process))
        for table in tables:
            del table["main"]
        yield WorldProcess(process, tables)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _line(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    return await process.stdout.readline()

"""A service that is told to stop while it still loads has nothing to finish."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.support.service import running


@pytest.mark.parametrize("loaded", ["/pydantic_core/", "_duckdb"])
async def test_a_stop_during_the_start_ends_with_exit_code_0(tmp_path: Path, loaded: str) -> None:
    async with running(tmp_path / "data", "http://127.0.0.1:9/feed.txt") as service:
        memory = Path(f"/proc/{service.process.pid}/maps")
        while loaded not in await asyncio.to_thread(memory.read_text):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        early = not service.log()
        assert await service.stop(signal.SIGTERM) == 0
        assert early or "event=stopped" in service.log()
        assert "Traceback" not in service.log()

"""The event loop's lag: what blocks it is seen."""

from __future__ import annotations

import asyncio
import time

from bikeflow.runtime.lag import SAMPLE_SECONDS, sampled


async def test_a_blocked_loop_is_seen_and_a_free_one_is_not() -> None:
    seen: list[float] = []
    with sampled(seen.append):
        await asyncio.sleep(0.05)
        time.sleep(SAMPLE_SECONDS + 0.1)  # noqa: ASYNC251 - the very thing that must not happen
        await asyncio.sleep(0.05)
    assert max(seen) > 0.05
    count = len(seen)
    await asyncio.sleep(2 * SAMPLE_SECONDS)
    assert len(seen) == count

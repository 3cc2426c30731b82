from __future__ import annotations

import asyncio

import pytest

from bikeflow.runtime.concurrency import bounded_map


async def test_results_come_in_the_order_of_the_items_and_no_more_run_than_may() -> None:
    running: list[int] = []
    most = 0

    async def work(item: int) -> int:
        nonlocal most
        running.append(item)
        most = max(most, len(running))
        await asyncio.sleep(0.01 / (item + 1))
        running.remove(item)
        return item * item

    assert await bounded_map(work, range(10), 3) == [item * item for item in range(10)]
    assert most == 3
    assert await bounded_map(work, [], 3) == []


async def test_the_first_error_ends_the_others_and_leaves_the_caller_as_it_was() -> None:
    ended: list[int] = []

    async def work(item: int) -> None:
        try:
            await asyncio.sleep(0.01 if item == 2 else 60)
        finally:
            ended.append(item)
        raise ValueError(item)

    caller = asyncio.current_task()
    assert caller is not None
    with pytest.raises(ValueError, match="2"):
        await bounded_map(work, range(4), 3)
    assert {0, 1, 2} <= set(ended)
    # Python 3.11 would take a caller that is marked so for cancelled when its next timeout expires.
    assert caller.cancelling() == 0


async def test_who_is_cancelled_takes_the_work_along() -> None:
    ended = asyncio.Event()

    async def work(_item: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    caller = asyncio.create_task(bounded_map(work, [1], 1))
    await asyncio.sleep(0.01)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended.is_set()

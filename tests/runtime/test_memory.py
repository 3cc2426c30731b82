"""Amounts of memory, and segments that wait for each other until there is enough of it."""

from __future__ import annotations

import asyncio

import pytest

from bikeflow.runtime.memory import available_bytes, memory_bytes
from bikeflow.segments.engines.base import MemoryBudget


@pytest.mark.parametrize(
    ("text", "expected"),
    [("512MB", 512_000_000), ("2GiB", 2 * 2**30), ("1.5 KB", 1500), ("1TiB", 2**40)],
)
def test_an_amount_in_words_is_a_number_of_bytes(text: str, expected: int) -> None:
    assert memory_bytes(text) == expected


def test_by_default_it_is_half_of_what_there_is() -> None:
    assert memory_bytes("auto") == available_bytes() // 2 > 2**20


async def test_what_does_not_fit_in_waits_and_what_is_too_large_goes_alone() -> None:
    budget, at_once, most = MemoryBudget(100), 0, 0
    together: list[int] = []

    async def work(wanted: int) -> None:
        nonlocal at_once, most
        async with budget.room(wanted):
            at_once += wanted
            most = max(most, at_once)
            together.append(at_once)
            await asyncio.sleep(0.001)
            at_once -= wanted

    await asyncio.gather(*(work(wanted) for wanted in (40, 40, 40, 1000, 10, 60)))
    assert len(together) == 6
    assert most == 1000 and set(together) & {80, 90, 100}
    assert all(total <= 100 or total == 1000 for total in together)


async def test_work_that_fails_or_is_cancelled_gives_back_its_memory() -> None:
    budget = MemoryBudget(10)
    with pytest.raises(ZeroDivisionError):
        async with budget.room(10):
            raise ZeroDivisionError

    async def hold() -> None:
        async with budget.room(10):
            await asyncio.Event().wait()

    holding, waiting = asyncio.create_task(hold()), asyncio.create_task(hold())
    await asyncio.sleep(0.01)
    holding.cancel()
    waiting.cancel()
    await asyncio.gather(holding, waiting, return_exceptions=True)
    async with asyncio.timeout(60), budget.room(10):
        pass

"""Small helpers for structured concurrency."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def bounded_map(function: Callable[[Item], Awaitable[Result]], items: Iterable[Item], limit: int) -> list[Result]:
    """Apply `function` to all items, at most `limit` at a time; results in the order of the items.

    The first error ends the others and is raised as it is.
    """
    slots = asyncio.Semaphore(limit)

    async def one(item: Item) -> Result:
        async with slots:
            return await function(item)

    # No TaskGroup: where one of its tasks fails, Python 3.11 leaves the caller marked as being cancelled, and then the
    # caller's next asyncio.timeout to expire ends it for good.
    tasks = [asyncio.create_task(one(item)) for item in items]
    if not tasks:
        return []
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        errors = [task.exception() for task in tasks if task.done() and not task.cancelled()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for error in errors:
        if error is not None:
            raise error
    return [task.result() for task in tasks]

"""How late the event loop comes back: what says whether something has blocked it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SAMPLE_SECONDS = 0.1
"""What blocks the loop for longer than this and 50 ms is seen for sure, and what is shorter mostly."""


@contextmanager
def sampled(observe: Callable[[float], None]) -> Iterator[None]:
    """Tell `observe` of the seconds that each sample came later than asked, as long as the context lasts.

    A bare timer: a task that sleeps would take ten times as much, all day long.
    """
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def sample(asked: float) -> None:
        nonlocal timer
        observe(max(loop.time() - asked, 0.0))
        timer = following()

    def following() -> asyncio.TimerHandle:
        due = loop.time() + SAMPLE_SECONDS
        return loop.call_at(due, sample, due)

    timer = following()
    try:
        yield
    finally:
        timer.cancel()

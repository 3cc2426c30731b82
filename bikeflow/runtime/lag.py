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

    def start() -> None:
        nonlocal timer
        due = loop.time() + SAMPLE_SECONDS
        timer = loop.call_at(due, sample, due)

    def sample(asked: float) -> None:
        observe(max(loop.time() - asked, 0.0))
        start()

    start()
    try:
        yield
    finally:
        timer.cancel()

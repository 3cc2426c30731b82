"""A station whose bikes come and leave by chance, step by step (Gillespie 1977); it knows nothing of the forecast."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

Rate = Callable[[float, int], float]
"""Events an hour, by the time in hours and the number of bikes; it changes with the time at whole hours only."""


def changes(
    chance: random.Random, bikes: int, begin: float, end: float, come: Rate, leave: Rate
) -> Iterator[tuple[float, int]]:
    """The times (in hours) at which the number of bikes changes, and the number from then on."""
    time = begin
    while time < end:
        hour_ends = float(int(time) + 1)
        coming, leaving = come(time, bikes), leave(time, bikes) if bikes else 0.0
        pace = coming + leaving
        time = time + chance.expovariate(pace) if pace else hour_ends
        if time >= hour_ends:
            time = hour_ends  # what has not happened by then, may happen at the new rates
        elif time < end:
            bikes += 1 if chance.random() * pace < coming else -1
            yield time, bikes


def bikes_at(steps: list[tuple[float, int]], time: float, before: int) -> int:
    """The number of bikes at a time."""
    return next((bikes for at, bikes in reversed(steps) if at <= time), before)

"""What repeats itself in the log: an hour of outage is a few lines with a count."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from structlog.typing import EventDict, WrappedLogger

IN_FULL = 3
QUIET_SECONDS = 600.0
_LIMITED = frozenset({"warning", "error"})
_ANSWERS = frozenset({"reload_refused"})
"""Told each time: somebody has asked."""
_OF_THE_MOMENT = frozenset({"timestamp", "level", "trace_id", "trace_ids", "run_id", "exception"})
_MAX_KEYS = 500


@dataclass(slots=True)
class _Seen:
    count: int
    at: float


class Repetition:
    """A processor that lets the first few of like warnings and errors pass, then the 4th, 8th, ... with `repeated`.

    Like ones differ in numbers at most, in times, keys and the like. After a while without one the count starts again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: OrderedDict[tuple[object, ...], _Seen] = OrderedDict()

    def __call__(self, _logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Pass the event on, or drop it."""
        if method not in _LIMITED or event.get("event") in _ANSWERS:
            return event
        seen = self._count((method, *_gist(event)))
        if seen <= IN_FULL:
            return event
        if seen.bit_count() > 1:
            raise structlog.DropEvent
        return {**event, "repeated": seen}

    def _count(self, key: tuple[object, ...]) -> int:
        now = self._clock()
        seen = self._seen.pop(key, None)
        if seen is None or now - seen.at > QUIET_SECONDS:
            seen = _Seen(0, now)
        seen.count, seen.at = seen.count + 1, now
        self._seen[key] = seen
        if len(self._seen) > _MAX_KEYS:
            self._seen.popitem(last=False)
        return seen.count


def _gist(event: EventDict) -> list[tuple[str, str]]:
    """What makes an event like another one."""
    return [
        (name, re.sub(r"[0-9]+", "0", str(value)))
        for name, value in sorted(event.items())
        if name not in _OF_THE_MOMENT and not isinstance(value, int | float)
    ]

"""Trying again, in one policy for every role: exponential backoff with full jitter that a stop ends at once.

Adapters only say whether an error is `Transient`; roles apply `retrying` to what they do.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import math
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, cast

import structlog
from tenacity import AsyncRetrying, Future, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_random_exponential

from bikeflow.core.errors import Transient
from bikeflow.core.model import UTC

if TYPE_CHECKING:
    from bikeflow.settings.sections import RetrySettings

LONGEST_REQUESTED_WAIT_SECONDS = 3_600.0

OnRetry = Callable[[BaseException, int, float], None]
"""Told of each retry before the wait: the error, the number of the failed attempt, the wait in seconds."""


def log_retry(error: BaseException, attempt: int, wait_seconds: float) -> None:
    """One log line for a retry."""
    structlog.get_logger().warning("retrying", error=str(error), attempt=attempt, wait_seconds=round(wait_seconds, 3))


def retrying(
    settings: RetrySettings, stop: asyncio.Event | None = None, *, on_retry: OnRetry = log_retry
) -> AsyncRetrying:
    """The retry policy for one operation: `await retrying(settings, stop)(store.get, key)`.

    It takes a coroutine function or a `functools.partial` of one; a lambda's coroutine would never be awaited.

    Tries `Transient` errors again, `settings.attempts` times in all; waits a random time below an exponentially growing
    bound, but at least what the other side asked for (an hour at most). What fails last is raised as it is. Once `stop`
    is set nothing is tried again, not even in the middle of a wait.
    """
    stopped = stop or asyncio.Event()
    backoff = wait_random_exponential(multiplier=settings.initial_seconds, max=settings.max_seconds)

    def seconds_to_wait(state: RetryCallState) -> float:
        requested = getattr(_error(state), "retry_after_seconds", None) or 0.0
        return max(backoff(state), min(requested, LONGEST_REQUESTED_WAIT_SECONDS))

    async def wait_before_retry(state: RetryCallState) -> None:
        error, seconds = _error(state), state.upcoming_sleep
        on_retry(error, state.attempt_number, seconds)
        if await tick(stopped, seconds):
            raise error

    return AsyncRetrying(
        retry=retry_if_exception_type(Transient),
        stop=lambda state: state.attempt_number >= settings.attempts or stopped.is_set(),
        wait=seconds_to_wait,
        # The wait happens in this hook and not in tenacity's sleep: after a sleep tenacity always makes one more
        # attempt, and a stop during the wait must not start work again.
        before_sleep=wait_before_retry,
        sleep=_no_sleep,
        reraise=True,
    )


async def tick(stop: asyncio.Event, seconds: float) -> bool:
    """Wait that long, or until `stop` is set; True when it is."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
    return stop.is_set()


async def tick_or(early: asyncio.Event, stop: asyncio.Event, seconds: float) -> bool:
    """Like `tick`, but the wait also ends once `early` is set."""
    await _either(early, stop, seconds)
    return stop.is_set()


async def woken_or(woken: asyncio.Event, stop: asyncio.Event) -> bool:
    """Wait for either; True when there is something to do, False when there is not and `stop` is set."""
    await _either(woken, stop, None)
    return woken.is_set()


async def _either(one: asyncio.Event, other: asyncio.Event, seconds: float | None) -> None:
    waits = [asyncio.create_task(event.wait()) for event in (one, other)]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def retry_after_seconds(header: str | None, now: dt.datetime) -> float | None:
    """The wait that a `Retry-After` header asks for, given in seconds or as an HTTP date (RFC 9110, 10.2.3).

    None where there is no header or it makes no sense.
    """
    text = (header or "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        # An HTTP date is always in GMT, whatever zone it fails to name.
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()
    return max(seconds, 0.0) if math.isfinite(seconds) else None


async def _no_sleep(_seconds: float) -> None:
    """The wait is already over."""


def _error(state: RetryCallState) -> BaseException:
    """What made the attempt fail; tenacity asks for the wait of failed attempts only."""
    return cast("BaseException", cast("Future", state.outcome).exception())

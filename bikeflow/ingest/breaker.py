"""A circuit breaker for the upstream: when it is dead or wants rest, it gets no storm of requests."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import OPENED, OpenedState

from bikeflow.core.errors import Permanent, Transient
from bikeflow.settings.sections import FeedSettings


class CircuitOpen(Permanent):
    """No request was made: the upstream was found dead and no probe is due, or it has asked for a pause."""


class Breaker:
    """Opens after `breaker_failures` requests in a row have failed, and then lets one probe through at a time.

    It also keeps the pause that an error's `retry_after_seconds` asks for.
    """

    def __init__(self, settings: FeedSettings) -> None:
        self._settings = settings
        self._circuits = self._closed()
        self._asked_at = 0.0
        self._resting_until = 0.0
        self.is_open = False

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[None]:
        """Stands around one request; raises `CircuitOpen` instead of letting it start."""
        if time.monotonic() < self._resting_until:
            raise CircuitOpen("the upstream has asked for a pause, which is not over yet")
        # purgatory goes by the wall clock: set back by an hour, it would hold back all probes for that hour.
        if self.is_open and time.monotonic() - self._asked_at > 2 * self._settings.breaker_probe_seconds:
            self._circuits = self._closed()
        circuit = await self._circuits.get_breaker("feed")
        try:
            async with circuit:
                self._asked_at = time.monotonic()
                yield
        except Transient as error:
            self._resting_until = time.monotonic() + (error.retry_after_seconds or 0.0)
            raise
        except OpenedState as opened:
            raise CircuitOpen("the upstream was down, and its next probe is not due yet") from opened
        finally:
            self.is_open = circuit.context.state == OPENED

    def _closed(self) -> AsyncCircuitBreakerFactory:
        # Requests start at ticks only. A probe that is due between two ticks goes out at the earlier one: with equal
        # intervals each tick would otherwise come just too early for it, and every second snapshot would be lost.
        wait_seconds = max(self._settings.breaker_probe_seconds - self._settings.interval_seconds, 0)
        return AsyncCircuitBreakerFactory(self._settings.breaker_failures, wait_seconds)

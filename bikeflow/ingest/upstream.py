"""The feed's server as the fetcher sees it: a request that is tried again within its tick, behind a circuit breaker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from tenacity import RetryCallState
from tenacity.stop import stop_before_delay

from bikeflow.ingest.breaker import Breaker
from bikeflow.runtime.retry import OnRetry, retrying
from bikeflow.settings.sections import FeedSettings, RetrySettings

if TYPE_CHECKING:
    import aiohttp

    from bikeflow.feeds.base import Answer

MAX_BREAKERS = 32


class Connections:
    """The connections to the servers of feeds, opened as they are needed; at most `per_host` at a time to each host.

    As a context it closes them.
    """

    def __init__(self, per_host: int) -> None:
        self._per_host = per_host
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """What requests are made with."""
        from bikeflow.ingest.download import new_session  # noqa: PLC0415 - a backfill does without aiohttp

        self._session = self._session or new_session(self._per_host)
        return self._session

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()


class Upstream:
    """Asks for documents over `connections`, which others may share; `attempts` counts the requests that were made."""

    def __init__(self, settings: FeedSettings, retry: RetrySettings, connections: Connections) -> None:
        self._settings = settings
        self._retry = retry
        self._connections = connections
        self._breakers: dict[str, Breaker] = {}
        self.attempts = 0

    async def ask(
        self,
        url: str,
        validators: tuple[str, str] | None,
        stop: asyncio.Event | None,
        on_retry: OnRetry,
        *,
        retry: bool = True,
    ) -> Answer:
        """The answer of the first request that succeeds; see `download` for `validators`.

        Without `retry` there is only one. No request starts after the tick's time is over, nor once the document's
        breaker has opened. Raises `CircuitOpen` where none may be made at all, else what the last one raised.
        """
        from bikeflow.ingest.download import download  # noqa: PLC0415 - a backfill does without aiohttp

        breaker = self._breaker(url)

        async def request() -> Answer:
            async with breaker.guard():
                self.attempts += 1
                return await download(self._connections.session, self._settings, url, validators)

        usual = retrying(self._retry, stop, on_retry=on_retry)
        too_late = stop_before_delay(self._settings.interval_seconds)

        def give_up(state: RetryCallState) -> bool:
            return not retry or breaker.is_open or too_late(state) or usual.stop(state)

        return await usual.copy(stop=give_up)(request)

    def _breaker(self, url: str) -> Breaker:
        """The document's own: one that fails does not keep others from being asked for."""
        if len(self._breakers) > MAX_BREAKERS:  # addresses that change all the time
            self._breakers.clear()
        return self._breakers.setdefault(url, Breaker(self._settings))

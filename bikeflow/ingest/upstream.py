"""The feed's server as the fetcher sees it: a request that is tried again within its tick, behind a circuit breaker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

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

    Feeds whose own address is public share those that lead to public addresses only. As a context it closes them.
    """

    def __init__(self, per_host: int) -> None:
        self._per_host = per_host
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._private: dict[str, bool] = {}

    async def session(self, configured: str) -> aiohttp.ClientSession:
        """What the requests of a feed are made with, of which this is the configured URL."""
        from bikeflow.ingest.download import new_session  # noqa: PLC0415 - a backfill does without aiohttp

        anywhere = await self._is_private(urlsplit(configured).hostname or "")
        if anywhere not in self._sessions:
            self._sessions[anywhere] = new_session(self._per_host, anywhere=anywhere)
        return self._sessions[anywhere]

    async def _is_private(self, host: str) -> bool:
        from bikeflow.ingest.destinations import has_private_address  # noqa: PLC0415 - as above

        if host not in self._private:
            try:
                self._private[host] = await has_private_address(host)
            except OSError:
                return False  # the request will say so
        return self._private[host]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for session in self._sessions.values():
            await session.close()


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
                session = await self._connections.session(self._settings.url)
                return await download(session, self._settings, url, validators)

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

"""The feed's server as the fetcher sees it: a request that is tried again within its tick, behind a circuit breaker."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from tenacity import RetryCallState
from tenacity.stop import stop_before_delay

from bikeflow.ingest.breaker import Breaker
from bikeflow.runtime.retry import OnRetry, retrying
from bikeflow.settings.sections import FeedSettings, RetrySettings

if TYPE_CHECKING:
    from bikeflow.feeds.base import Answer
    from bikeflow.ingest.download import Downloader


class Upstream:
    """Asks for documents; `attempts` counts the requests that were made."""

    def __init__(self, settings: FeedSettings, retry: RetrySettings) -> None:
        self._settings = settings
        self._retry = retry
        self._closing = AsyncExitStack()
        self._downloader: Downloader | None = None
        self._breaker = Breaker(settings)
        self.attempts = 0

    async def close(self) -> None:
        """Close the connections."""
        await self._closing.aclose()

    async def ask(
        self, url: str, validators: tuple[str, str] | None, stop: asyncio.Event | None, on_retry: OnRetry
    ) -> Answer:
        """The answer of the first request that succeeds; see `Downloader.get` for `validators`.

        No request starts after the tick's time is over, nor once the breaker has opened. Raises `CircuitOpen` where
        none may be made at all, else what the last one raised (see `Downloader.get`).
        """
        downloader = await self._opened()

        async def request() -> Answer:
            async with self._breaker.guard():
                self.attempts += 1
                return await downloader.get(url, validators)

        usual = retrying(self._retry, stop, on_retry=on_retry)
        too_late = stop_before_delay(self._settings.interval_seconds)

        def give_up(state: RetryCallState) -> bool:
            return self._breaker.is_open or too_late(state) or usual.stop(state)

        return await usual.copy(stop=give_up)(request)

    async def _opened(self) -> Downloader:
        if self._downloader is None:
            from bikeflow.ingest.download import open_downloader  # noqa: PLC0415 - a backfill does without aiohttp

            self._downloader = await self._closing.enter_async_context(open_downloader(self._settings))
        return self._downloader

"""The HTTP site of one service, from before its pipeline opens until after it has closed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from bikeflow.core.errors import Permanent
from bikeflow.core.events import Events
from bikeflow.health.health import Health
from bikeflow.http.metrics import Metrics
from bikeflow.http.routes import Routes
from bikeflow.http.server import announce, serving
from bikeflow.runtime.lag import sampled
from bikeflow.settings import Settings
from bikeflow.settings.sections import HttpSettings
from bikeflow.warehouse import published_path


class Site:
    """The pages, metrics and API of one service; until `health.attach` they say that it is starting."""

    def __init__(self, settings: Settings) -> None:
        self.health = Health(settings, published_path(settings.warehouse, settings.data_dir))
        self.metrics = Metrics(self.health)
        self._routes = Routes(self.health, self.metrics)
        self._http = settings.http
        self._server = AsyncExitStack()
        self.url: str | None = None
        """Where the dashboard is, or None where nothing is served."""

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """Serve HTTP where it is configured, and sample the loop's lag, as long as the context lasts."""
        try:
            await self._open(self._http, anywhere=True)
            with sampled(self.metrics.loop_lag_seconds.observe):
                yield
        finally:
            announce(None, self._data_dir)
            await self._server.aclose()
            self._routes.close()

    async def listen(self, http: HttpSettings) -> None:
        """Serve where these settings say, if that is elsewhere; raises `Permanent`, and then serves where it did."""
        if http == self._http:
            return
        former, server = self._http, self._server
        try:
            await self._open(http, anywhere=False)
        except Permanent:
            if http.address is None or self.url is None or http.address[1] != urlsplit(self.url).port:
                raise
            # It may be ourselves who have the port: another host, or all of them, is a usual change.
            await server.aclose()
            try:
                await self._open(http, anywhere=False)
            except Permanent:
                await self._open(former, anywhere=True)
                raise
        else:
            await server.aclose()

    def adopt(self, settings: Settings, *, same_lake: bool) -> None:
        """Tell of a pipeline with these settings from now on; what was seen of another lake counts no more."""
        if settings.data_dir != self._data_dir:
            announce(None, self._data_dir)
            announce(self.url, settings.data_dir)
        self.health.adopt(settings, published_path(settings.warehouse, settings.data_dir), same_lake=same_lake)
        self._routes.adopt()
        self.metrics.adopt([system.id for system in settings.all_systems])

    async def _open(self, http: HttpSettings, *, anywhere: bool) -> None:
        server = AsyncExitStack()
        self.url = await server.enter_async_context(serving(http, self._routes.application(), anywhere=anywhere))
        self._http, self._server = http, server
        announce(self.url, self._data_dir)

    @property
    def _data_dir(self) -> Path:
        return self.health.settings.data_dir


@asynccontextmanager
async def open_site(settings: Settings, events: Events) -> AsyncIterator[Site]:
    """The site, listening and serving until the context is left; raises `Permanent` where the port is taken."""
    site = Site(settings)
    with events.heard_by(site.health.seen.observe), events.heard_by(site.metrics.observe):
        async with site.served():
            yield site

"""The surfaces of one service, from before its pipeline opens until after it has closed."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

from bikeflow.errors import Permanent
from bikeflow.events import Events
from bikeflow.model import UTC, Event, Fault, Vitals
from bikeflow.settings import Settings
from bikeflow.settings.sections import HttpSettings
from bikeflow.surfaces.freshness import freshness
from bikeflow.surfaces.lag import sampled
from bikeflow.surfaces.metrics import Metrics
from bikeflow.surfaces.observations import Observations
from bikeflow.surfaces.published import PublishedDatabase
from bikeflow.surfaces.readiness import Limits, Verdict, assess, state_of
from bikeflow.surfaces.routes import Routes
from bikeflow.surfaces.sentence import sentence, status_line, stopping_line
from bikeflow.surfaces.server import announce, serving
from bikeflow.surfaces.states import States
from bikeflow.surfaces.status import Document, live_document
from bikeflow.warehouse import published_path


class Surfaces:
    """What others see of the service; it starts blind, `attach` shows it the pipeline."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limits = Limits.of(settings)
        self._seen = Observations()
        self._stopping: Fault | None = None
        self._vitals: Callable[[], Vitals] | None = None
        self._database = PublishedDatabase(published_path(settings.warehouse, settings.data_dir))
        self.metrics = Metrics(States(lambda: self._settings, self._seen, self._ask, self.verdict))
        self._routes = Routes(settings, self.metrics, self.verdict, self._live, self._fresh, self._database)
        self._http = settings.http
        self._server = AsyncExitStack()
        self.url: str | None = None
        """Where the dashboard is, or None where nothing is served."""

    def attach(self, vitals: Callable[[], Vitals]) -> None:
        """The pipeline is open; `vitals` tells how its roles are doing."""
        self._vitals = vitals

    def stopping(self) -> None:
        """From now on nothing is ready: the service is about to end."""
        self._stopping = Fault(dt.datetime.now(UTC), "the service is stopping")

    def observe(self, event: Event) -> None:
        """A role tells that something has happened."""
        self._seen.observe(event)
        self.metrics.observe(event)

    @property
    def started_at(self) -> dt.datetime:
        """When the service has started."""
        return self._seen.started_at

    def vitals(self) -> Vitals | None:
        """How the roles are doing now, or None as long as there are none."""
        return self._ask()

    def verdict(self) -> Verdict:
        """What works now, part by part."""
        verdict = assess(self._seen, self._ask(), self._limits, self._database.path, dt.datetime.now(UTC))
        return verdict if self._stopping is None else dict.fromkeys(verdict, self._stopping)

    def sentence(self) -> str:
        """How things stand now, in one sentence for people."""
        verdict = self.verdict()
        state, published = state_of(self._seen, verdict), self._seen.published
        stale = published is not None and bool(self._fresh(published.newest_snapshot)["stale"])
        return sentence(state, verdict, self._ask(), self._seen, dt.datetime.now(UTC), stale=stale)

    def status_line(self) -> str:
        """The same for `systemctl status`: with the last fetch, the rejected lines and the storage."""
        if self._stopping is not None:
            return stopping_line(self._ask())
        verdict = self.verdict()
        return status_line(state_of(self._seen, verdict), verdict, self._ask(), self._seen, dt.datetime.now(UTC))

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """Serve HTTP where it is configured, and sample the loop's lag, as long as the context lasts."""
        try:
            await self._open(self._http, anywhere=True)
            announce(self.url, self._settings.data_dir)
            with sampled(self.metrics.loop_lag_seconds.observe):
                yield
        finally:
            announce(None, self._settings.data_dir)
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
            finally:
                announce(self.url, self._settings.data_dir)
        else:
            announce(self.url, self._settings.data_dir)
            await server.aclose()

    def adopt(self, settings: Settings, *, same_lake: bool) -> None:
        """Tell of a pipeline with these settings from now on; what was seen of another lake counts no more."""
        if settings.data_dir != self._settings.data_dir:
            announce(None, self._settings.data_dir)
            announce(self.url, settings.data_dir)
        self._settings, self._limits = settings, Limits.of(settings)
        self._database = PublishedDatabase(published_path(settings.warehouse, settings.data_dir))
        self._routes.adopt(settings, self._database)
        self._seen.exports.clear()  # there may be other places now; each is told of with its next export
        if not same_lake:
            self._seen.forget_lake()

    async def _open(self, http: HttpSettings, *, anywhere: bool) -> None:
        server = AsyncExitStack()
        self.url = await server.enter_async_context(serving(http, self._routes.application(), anywhere=anywhere))
        self._http, self._server = http, server

    def _ask(self) -> Vitals | None:
        return None if self._vitals is None else self._vitals()

    def _fresh(self, snapshot: dt.datetime | None) -> Document:
        return freshness(snapshot, self._settings, self._seen, dt.datetime.now(UTC))

    def _live(self) -> Document:
        return live_document(self._settings, self._seen, self._ask(), self.verdict(), dt.datetime.now(UTC))


@asynccontextmanager
async def open_surfaces(settings: Settings, events: Events) -> AsyncIterator[Surfaces]:
    """The surfaces, listening and serving until the context is left; raises `Permanent` where the port is taken."""
    surfaces = Surfaces(settings)
    with events.heard_by(surfaces.observe):
        async with surfaces.served():
            yield surfaces

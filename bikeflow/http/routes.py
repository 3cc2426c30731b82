"""What is answered to which path; all of it GET, all of it for anyone's eyes."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from bikeflow.core.errors import Transient
from bikeflow.core.model import UTC
from bikeflow.feeds import layout_of
from bikeflow.health.health import Health
from bikeflow.health.readiness import verdict_document
from bikeflow.http.answers import RETRY_SECONDS, Busy, Lookups, Ready
from bikeflow.http.metrics import Metrics
from bikeflow.http.pages import Page, map_page, page
from bikeflow.http.published import Costly, PublishedDatabase, instance
from bikeflow.http.status import Document, latest_runs, ledger_document, live_document, systems_now
from bikeflow.ledger import Ledger

MAX_RUNS = 1_000
_RUNS = 50
_UNAVAILABLE = 503


class Routes:
    """The handlers; `health` has the settings of the pipeline that they answer for, too."""

    def __init__(self, health: Health, metrics: Metrics) -> None:
        self._health = health
        self._metrics = metrics
        self._lookups = Lookups()
        self._ready: dict[str, Ready] = {}
        self._place: tuple[Path, Path] | None = None
        self.adopt()
        self._scraping = ThreadPoolExecutor(1, thread_name_prefix="metrics")

    def adopt(self) -> None:
        """Forget what was read: the database and the ledger may be others from now on."""
        place = self._health.database, self._health.settings.data_dir
        if place != self._place:
            self._place, self._connection = place, instance(*place)
        self._database = PublishedDatabase(place[0], self._connection, self._health.fresh)
        self._totals = Costly(self._lake)

    def application(self) -> web.Application:
        """The application that answers."""
        app = web.Application()
        app.add_routes([
            web.get("/", self.dashboard),
            web.get("/map", self.map),
            web.get("/healthz", self.health),
            web.get("/readyz", self.readiness),
            web.get("/metrics", self.scrape),
            web.get("/api/v1/status", self.status),
            web.get("/api/v1/systems", self.systems),
            web.get("/api/v1/stations", self._published(PublishedDatabase.stations, "application/geo+json")),
            web.get("/api/v1/bikes", self._published(PublishedDatabase.bikes, "application/geo+json")),
            web.get("/api/v1/forecast", self._published(PublishedDatabase.forecast, "application/json")),
            web.get("/api/v1/map", self._published(PublishedDatabase.map, "application/json")),
            web.get("/api/v1/runs", self.runs),
        ])  # fmt: skip
        return app

    def close(self) -> None:
        """Let go of the thread; a query under way is waited for."""
        self._lookups.close()
        self._scraping.shutdown(cancel_futures=True)

    async def dashboard(self, request: web.Request) -> web.Response:
        """The dashboard."""
        return _page(page("dashboard"), request)

    async def map(self, request: web.Request) -> web.Response:
        """The map."""
        answer = _page(map_page(self._health.settings.map), request)
        if self._health.settings.map.tile_url:
            # servers of tiles want to know who asks
            answer.headers["Referrer-Policy"] = "strict-origin-when-cross-origin"
        return answer

    async def health(self, _request: web.Request) -> web.Response:
        """The event loop is alive, or there would be no answer."""
        return _json({"alive": True})

    async def readiness(self, _request: web.Request) -> web.Response:
        """200 while all parts really work, else 503; which one does not, why and since when."""
        verdict = self._health.verdict()
        ready = not any(verdict.values())
        return _json({"ready": ready, "parts": verdict_document(verdict)}, status=200 if ready else _UNAVAILABLE)

    async def scrape(self, request: web.Request) -> web.Response:
        """The metrics, as Prometheus text or OpenMetrics."""
        self._metrics.take_states()
        accept, loop = request.headers.get("Accept", ""), asyncio.get_running_loop()
        # Of a thousand systems it is six megabytes, and takes a second.
        body, content_type = await loop.run_in_executor(self._scraping, self._metrics.page, accept)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def status(self, _request: web.Request) -> web.Response:
        """All of it in one document; what can't be looked up now is null."""
        try:
            return _json({**live_document(self._health), **await self._lookups.get("status", self._looked_up)})
        except Busy as error:
            return _busy(error)

    async def systems(self, _request: web.Request) -> web.Response:
        """How each system is doing, the worst first."""
        data_dir = str(self._health.settings.data_dir.absolute())
        return _json({"data_dir": data_dir, "systems": systems_now(self._health)})

    async def runs(self, request: web.Request) -> web.Response:
        """The newest runs, newest first; `?limit=` says how many."""
        text = request.query.get("limit", str(_RUNS))
        limit = int(text) if re.fullmatch("[0-9]{1,9}", text) else 0
        if not 1 <= limit <= MAX_RUNS:
            return _json({"error": f"limit must be a number from 1 to {MAX_RUNS}"}, status=400)
        try:
            return _json({"runs": await self._lookups.get(("runs", limit), lambda: self._latest_runs(limit))})
        except Busy as error:
            return _busy(error)
        except (sqlite3.Error, Transient) as error:
            return _json({"error": f"the ledger can't be read: {error}"}, status=_UNAVAILABLE)

    def _published(self, read: Callable[[PublishedDatabase], bytes], content_type: str) -> Handler:
        """A handler that answers with what `read` gives of the database that is published now."""

        def ready() -> Ready:
            body, known = read(self._database), self._ready.get(read.__name__)
            if known is None or known.body is not body:
                self._ready[read.__name__] = known = Ready(body, content_type)
                known.packed  # noqa: B018 - here, and not in the event loop
            return known

        async def handle(request: web.Request) -> web.Response:
            try:
                return (await self._lookups.get(read.__name__, ready)).to(request)
            except Busy as error:
                return _busy(error)
            except Transient as error:
                return _json({"error": str(error)}, status=_UNAVAILABLE)

        return handle

    def _looked_up(self) -> Document:
        found: Document = dict.fromkeys(("last_snapshot", "lake", "today", "failing_partitions", "latest_runs", "city"))
        with suppress(sqlite3.Error, Transient), self._ledger() as ledger:
            found |= ledger_document(ledger, self._totals.get(), dt.datetime.now(UTC).date())
        with suppress(Transient):
            found["city"] = self._database.city()
        return found

    def _latest_runs(self, limit: int) -> list[Document]:
        with self._ledger() as ledger:
            return latest_runs(ledger, limit)

    def _lake(self) -> Mapping[str, int]:
        with self._ledger() as ledger:
            return ledger.totals()

    def _ledger(self) -> Ledger:
        settings = self._health.settings
        layouts = [layout_of(system) for system in settings.all_systems]
        return Ledger(settings.data_dir, layouts, settings.processing.segment_minutes, read_only=True)


@cache
def _ready_page(found: Page) -> Ready:
    return Ready(found.html.encode(), "text/html; charset=utf-8")


def _page(found: Page, request: web.Request) -> web.Response:
    return _ready_page(found).to(request, **{"Content-Security-Policy": found.policy})


def _busy(error: Busy) -> web.Response:
    answer = _json({"error": str(error)}, status=_UNAVAILABLE)
    answer.headers["Retry-After"] = str(RETRY_SECONDS)
    return answer


def _json(document: object, *, status: int = 200) -> web.Response:
    return web.json_response(
        document, status=status, dumps=lambda value: json.dumps(value, ensure_ascii=False, allow_nan=False)
    )

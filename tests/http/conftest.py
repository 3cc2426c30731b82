from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bikeflow.core.events import Events
from bikeflow.core.layout import Layout
from bikeflow.core.model import UTC, PartitionJob
from bikeflow.http.site import Site, open_site
from bikeflow.service.pipeline import Pipeline, open_pipeline
from bikeflow.settings import Settings
from bikeflow.settings.sections import FeedSettings, HttpSettings, RetrySettings
from bikeflow.store import Store
from tests.support.pipelines import wrm_lane
from tests.support.wrm import wrm_day

NOON = dt.datetime(2025, 6, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Answer:
    """What a client got."""

    status: int
    headers: dict[str, str]
    text: str
    json: Any


class Client:
    """A client that knows where the service is."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self.url = url.rstrip("/")

    async def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """One request."""
        async with self._session.request(method, f"{self.url}{path}", headers=headers) as response:
            text = await response.text()
            json = await response.json(content_type=None) if "json" in response.content_type and text else None
            return Answer(response.status, dict(response.headers), text, json)

    async def unready(self) -> dict[str, str]:
        """The parts that don't work, with the reasons."""
        parts = (await self.ask("/readyz")).json["parts"]
        return {name: part["reason"] for name, part in parts.items() if not part["works"]}


@dataclass
class Scene:
    """The surfaces over a pipeline of which the test itself plays the roles' loops."""

    site: Site
    pipeline: Pipeline
    client: Client

    @property
    def store(self) -> Store:
        """The lake's store."""
        return self.pipeline.shared.store

    @property
    def layout(self) -> Layout:
        """Where the system `wrm` has its objects."""
        return wrm_lane(self.pipeline).layout

    async def arrives(self, text: str, at: dt.datetime = NOON) -> None:
        """A raw file is put in the lake, processed and published."""
        await self.store.put(self.layout.raw_key(at), text.encode())
        await self.pipeline.reconcile()
        await self.pipeline.shared.processor.process(PartitionJob(wrm_day(at.date())))
        await self.pipeline.shared.refresher.refresh_once()


def settings_for(data_dir: Path, feed_url: str = "http://127.0.0.1:9/feed.txt") -> Settings:
    data_dir.mkdir(parents=True, exist_ok=True)
    return Settings(
        data_dir=data_dir,
        feed=FeedSettings(url=feed_url),
        http=HttpSettings(listen="127.0.0.1:0"),
        retry=RetrySettings(attempts=1, initial_seconds=0.01, max_seconds=0.02),
    )


@asynccontextmanager
async def client_of(url: str | None) -> AsyncIterator[Client]:
    assert url is not None
    async with aiohttp.ClientSession() as session:
        yield Client(session, url)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    settings, events = settings_for(tmp_path), Events()
    async with open_site(settings, events) as site, open_pipeline(settings, events) as pipeline:
        site.health.attach(pipeline.vitals)
        async with client_of(site.url) as client:
            yield Scene(site, pipeline, client)

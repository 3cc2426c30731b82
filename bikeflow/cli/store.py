"""The object store as commands open it that only look: nothing is created."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from bikeflow.cli import options
from bikeflow.errors import ConfigError

if TYPE_CHECKING:
    from bikeflow.settings import Settings
    from bikeflow.store import Store


@asynccontextmanager
async def existing_store(settings: Settings) -> AsyncIterator[Store]:
    """The configured store; raises ConfigError where it is a local lake that does not exist."""
    from bikeflow.store import open_store

    lake = settings.data_dir / "lake"
    if settings.storage.backend == "local" and not lake.is_dir():
        raise ConfigError(f"there is no lake at {lake} yet; {options.start_hint(settings.data_dir)}")
    async with open_store(settings.storage, settings.data_dir) as store:
        yield store

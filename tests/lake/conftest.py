from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bikeflow.settings.sections import StorageSettings
from tests.support.road import Road, open_road
from tests.support.s3server import S3Server


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest) -> StorageSettings:
    """A fresh, empty place in either backend."""
    if request.param == "local":
        return StorageSettings()
    server: S3Server = request.getfixturevalue("s3_server")
    return server.settings()


@pytest.fixture
async def road(storage: StorageSettings, tmp_path: Path) -> AsyncIterator[Road]:
    """The processing road over either backend."""
    async with open_road(storage, tmp_path) as opened:
        yield opened
